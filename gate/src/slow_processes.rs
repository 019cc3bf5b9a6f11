//! The guard for rare slow processes as part of a verdict: which series it looks at, and what it says.

use crate::guard::{Guarded, fires, worst_tenth};
use crate::ledger::{Ledger, Roster, Series};
use crate::metric::{Better, Metric, SeriesKey};
use crate::policy::{MetricPolicy, Policy};
use crate::ratio::Ratio;
use crate::verdict::{Finding, FindingClass};

/// The findings of the guard at the last look: one for each primary series whose worst tenth is proven worse.
///
/// It has its part of alpha, spent here at once.
pub(crate) fn slow_processes(policy: &Policy, ledger: &Ledger, roster: &Roster, seed: u64) -> Vec<Finding> {
    if !roster.guard {
        return Vec::new();
    }
    let (mut watched, mut guarded) = (Vec::new(), Vec::new());
    for key in roster.gated.keys() {
        let metric = policy.for_worst_tenth(&key.metric);
        let complete = |series: &&Series| series.presence.gap(ledger.blocks).is_none();
        let Some(series) = ledger.series.get(key).filter(complete) else { continue };
        if metric.gated && ledger.rule(policy, key).primary {
            let (baseline, challenger) = series.worse_upward(key.metric.better());
            guarded.push(Guarded::new(&baseline, &challenger, metric.margin.ln_1p()));
            watched.push((key, metric, series));
        }
    }
    let fired = fires(&guarded, roster.guard_alpha(policy), seed);
    fired
        .into_iter()
        .filter_map(|at| watched.get(at).map(|(key, metric, s)| finding(key, *metric, s)))
        .collect()
}

fn finding(key: &SeriesKey, metric: MetricPolicy, series: &Series) -> Finding {
    let better = key.metric.better();
    let (baseline, challenger) = series.worse_upward(better);
    let (baseline, challenger) =
        (worst_tenth(&baseline).unwrap_or_default(), worst_tenth(&challenger).unwrap_or_default());
    let turn = match better {
        Better::Smaller => 1.0,
        Better::Bigger => -1.0,
    };
    // The mean of values near the edge of the numbers may round beyond it; a report knows no infinity.
    let value = |log: f64| (turn * log).exp().clamp(f64::MIN_POSITIVE, f64::MAX);
    Finding {
        series: SeriesKey::new(key.bench.as_str(), Metric::WorstTenth(Box::new(key.metric.clone()))),
        unit: series.unit,
        better,
        baseline: value(baseline),
        challenger: value(challenger),
        delta: Ratio::from_log(turn * (challenger - baseline)),
        interval: None,
        pairs: series.pairs(),
        class: FindingClass::Slower,
        margin: metric.margin,
        floor: metric.floor,
        gated: true,
        primary: false,
        samples_per_invocation: series.min_samples,
        evidence: series.evidence,
    }
}
