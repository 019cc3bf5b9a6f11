//! From the pairs to the verdict: tests every series, asks the decision table, writes the findings and the notes.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::{Levels, Tested, Yardstick, decide, faster_but_unsafe, test};
use crate::few_pairs::{FewPairs, SETTLE_WITH, assumption};
use crate::gate::Leading;
use crate::ledger::{Ledger, Roster, Rule, Series, gate_or_why};
use crate::metric::{Better, SeriesKey};
use crate::plan::{TOO_MANY_PAIRS, pairs_needed, robust_sd};
use crate::policy::{MetricPolicy, Mode, Policy};
use crate::ratio::Ratio;
use crate::score::Pairs;
use crate::stats::median;
use crate::verdict::{Decision, Finding, FindingClass, Method, Reason, Verdict};

/// Nobody runs more rounds than this, nor does a suite's budget take more.
const SENSIBLE_PAIRS: u32 = 1000;
/// Names listed in one note before it says "and so many more": a note is a line, not a page.
const NAMES_PER_NOTE: usize = 5;

/// Everything that one look found; the findings are written only when it becomes a verdict.
pub(crate) struct Judgement {
    pub(crate) outcome: Option<(Decision, Reason)>,
    /// Whether this was a last look outside the plan.
    pub(crate) ended_early: bool,
    method: Method,
    measured: BTreeMap<SeriesKey, Measured>,
    roster: Roster,
}

struct Measured {
    yardstick: Yardstick,
    levels: Levels,
    /// What a gated series' tests say.
    tested: Option<Tested>,
}

/// Judges at a look whose critical value for an alpha is `boundary(alpha)`.
pub(crate) fn judge(
    policy: &Policy,
    ledger: &Ledger,
    roster: &Roster,
    boundary: impl Fn(f64) -> f64,
) -> Judgement {
    let share = |tests: u32| boundary(policy.alpha / f64::from(tests.max(1)));
    let levels = Levels { reject: share(roster.tests()), gain: share(roster.primaries), full: share(1) };
    let mut measured = BTreeMap::new();
    for (key, series) in ledger.series.iter().filter(|(_, s)| !s.effects.is_empty()) {
        let yardstick = Yardstick::Score(Pairs::new(&series.effects));
        let tested = gated(key, series, ledger, roster).map(|metric| {
            test(&yardstick, levels, metric, ledger.rule(policy, key).primary, policy.min_gain)
        });
        measured.insert(key.clone(), Measured { yardstick, levels, tested });
    }
    Judgement::new(Method::ClippedSignFlip, policy, ledger, roster, measured)
}

/// Judges by the few-pairs rule.
pub(crate) fn judge_few(policy: &Policy, ledger: &Ledger, roster: &Roster) -> Judgement {
    let few = FewPairs::new(policy, roster, ledger.blocks);
    let mut measured = BTreeMap::new();
    for (key, series) in &ledger.series {
        let Some(yard) = few.measure(series) else {
            continue;
        };
        let tested = gated(key, series, ledger, roster)
            .map(|metric| few.test(&yard, metric, ledger.rule(policy, key).primary));
        let (yardstick, levels) = yard;
        measured.insert(key.clone(), Measured { yardstick, levels, tested });
    }
    Judgement::new(Method::FewPairs, policy, ledger, roster, measured)
}

/// How a series takes part in the decision; none if it does not, or was absent in some round.
fn gated(key: &SeriesKey, series: &Series, ledger: &Ledger, roster: &Roster) -> Option<MetricPolicy> {
    let complete = series.presence.gap(ledger.blocks).is_none();
    roster.gated.get(key).copied().filter(|_| complete)
}

/// The primary series whose pairs lie furthest from no change.
pub(crate) fn leading(policy: &Policy, ledger: &Ledger, boundary: f64) -> Option<Leading> {
    let mut best: Option<(f64, &SeriesKey, Pairs)> = None;
    for (key, series) in &ledger.series {
        if series.effects.is_empty() || !ledger.rule(policy, key).primary {
            continue;
        }
        let pairs = Pairs::new(&series.effects);
        let distance = pairs.z(0.0).abs();
        if best.as_ref().is_none_or(|(furthest, ..)| distance > *furthest) {
            best = Some((distance, key, pairs));
        }
    }
    let (_, key, pairs) = best?;
    let better = key.metric.better();
    let interval = pairs.interval(boundary).map(|interval| natural_interval(better, interval));
    Some(Leading { series: key.clone(), delta: natural(better, pairs.centre()), interval })
}

/// The change of the value itself from an effect that is positive when worse.
fn natural(better: Better, effect: f64) -> Ratio {
    Ratio::from_log(match better {
        Better::Smaller => effect,
        Better::Bigger => -effect,
    })
}

fn natural_interval(better: Better, (low, high): (f64, f64)) -> (Ratio, Ratio) {
    match better {
        Better::Smaller => (natural(better, low), natural(better, high)),
        Better::Bigger => (natural(better, high), natural(better, low)),
    }
}

impl Judgement {
    fn new(
        method: Method,
        policy: &Policy,
        ledger: &Ledger,
        roster: &Roster,
        measured: BTreeMap<SeriesKey, Measured>,
    ) -> Self {
        let tests: Vec<(&SeriesKey, Tested)> =
            measured.iter().filter_map(|(key, m)| Some((key, m.tested?))).collect();
        let outcome = decide(policy.mode, &tests, ledger.missing(policy, roster));
        Self { outcome, ended_early: false, method, measured, roster: roster.clone() }
    }

    /// Writes the verdict; what nothing decided is INCONCLUSIVE.
    pub(crate) fn into_verdict(
        self,
        policy: &Policy,
        ledger: &Ledger,
        seed: Option<u64>,
        looks_taken: u32,
    ) -> Verdict {
        let open = self.outcome.is_none().then(|| self.open_reason(policy, ledger));
        let settle_with = open.as_ref().map(|reason| settle_with(reason, self.method, seed));
        let inconclusive = open.map(|reason| (Decision::Inconclusive, reason));
        let findings = self.findings(policy, ledger);
        let notes = self.notes(policy, ledger, seed, looks_taken, &findings);
        let (decision, reason) =
            self.outcome.or(inconclusive).unwrap_or((Decision::Inconclusive, Reason::NothingComparable));
        // Where something is absent that must be there, nothing is assumed and no more pairs would help.
        let absent = ledger.missing(policy, &self.roster).is_some() && decision != Decision::Reject;
        let few = self.method == Method::FewPairs && !absent;
        Verdict {
            decision,
            reason,
            findings,
            alpha: policy.alpha,
            interval_confidence: 1.0 - 2.0 * policy.alpha,
            mode: policy.mode,
            pairs: ledger.blocks,
            looks_taken,
            looks: policy.looks.clone(),
            seed,
            assumption: few.then(|| assumption(policy, &self.roster, ledger.blocks)),
            settle_with: settle_with.or_else(|| few.then(|| SETTLE_WITH.to_owned())),
            notes,
            method: self.method,
        }
    }

    /// Why nothing is decided at the end of the data.
    fn open_reason(&self, policy: &Policy, ledger: &Ledger) -> Reason {
        let tests: Vec<(&SeriesKey, Tested)> =
            self.measured.iter().filter_map(|(key, m)| Some((key, m.tested?))).collect();
        let pairs = ledger.blocks;
        let not_enough = Reason::NotEnoughPairs { pairs, max: policy.max_pairs.max(pairs) };
        if let Some(reason) = faster_but_unsafe(&tests) {
            return reason;
        }
        if self.method == Method::FewPairs {
            return not_enough;
        }
        let needs = |key: &SeriesKey| {
            let (series, metric) = (ledger.series.get(key)?, self.roster.gated.get(key)?);
            let sd = robust_sd(&series.effects);
            let needs = pairs_needed(sd, metric.margin.ln_1p(), policy.alpha, self.roster.tests());
            Some((needs, key.clone()))
        };
        let noisiest = tests.iter().filter(|(_, t)| !t.not_worse).filter_map(|(key, _)| needs(key)).max();
        match noisiest {
            Some((needs, series)) if needs > policy.max_pairs && needs < TOO_MANY_PAIRS => {
                Reason::TooNoisy { series, pairs, needs }
            }
            _ => not_enough,
        }
    }

    fn findings(&self, policy: &Policy, ledger: &Ledger) -> Vec<Finding> {
        self.measured
            .iter()
            .filter_map(|(key, m)| Some(Self::finding(policy, ledger, key, m, ledger.series.get(key)?)))
            .collect()
    }

    fn finding(
        policy: &Policy,
        ledger: &Ledger,
        key: &SeriesKey,
        measured: &Measured,
        series: &Series,
    ) -> Finding {
        let better = key.metric.better();
        let effect = measured.yardstick.centre();
        let interval = measured.yardstick.interval(measured.levels.full);
        let (baseline, challenger) = central_values(series, better, effect);
        let Rule { metric, primary, .. } = ledger.rule(policy, key);
        let class = measured.tested.map_or_else(
            || FindingClass::NotGated { why: Self::why_not(policy, ledger, key, series) },
            Tested::class,
        );
        Finding {
            series: key.clone(),
            unit: series.unit,
            better,
            baseline,
            challenger,
            delta: natural(better, effect),
            interval: interval.map(|interval| natural_interval(better, interval)),
            pairs: series.pairs(),
            class,
            margin: metric.margin,
            floor: metric.floor,
            gated: measured.tested.is_some(),
            primary,
            samples_per_invocation: series.min_samples,
            evidence: series.evidence,
        }
    }

    fn why_not(policy: &Policy, ledger: &Ledger, key: &SeriesKey, series: &Series) -> String {
        if let Some((round, absent)) = series.presence.gap(ledger.blocks) {
            return format!("missing in {absent} in round {}", round + 1);
        }
        let why = gate_or_why(ledger.rule(policy, key), key, series).err();
        why.unwrap_or_else(|| "it could not be gated at the first look".to_owned())
    }

    fn notes(
        &self,
        policy: &Policy,
        ledger: &Ledger,
        seed: Option<u64>,
        looks_taken: u32,
        findings: &[Finding],
    ) -> Vec<String> {
        let mut notes = Vec::new();
        let new = ledger.new_benches();
        if !new.is_empty() {
            notes.push(format!("new in the challenger, nothing to compare with: {}", some_names(&new)));
        }
        if seed.is_none() && self.method == Method::ClippedSignFlip {
            let drift = "no coin drew the order of these pairs: a drift between the variants would look like a change";
            notes.push(drift.to_owned());
        }
        if self.ended_early {
            let pairs = ledger.blocks;
            notes.push(format!(
                "the data ended early: look {looks_taken} was taken at {pairs} pairs with all of alpha"
            ));
        }
        let ungated: Vec<String> = findings
            .iter()
            .filter(|f| matches!(f.class, FindingClass::NotGated { .. }))
            .filter(|f| matches!(policy.for_metric(&f.series.metric), (metric, true) if metric.gated))
            .map(|f| f.series.to_string())
            .collect();
        if !ungated.is_empty() {
            let names: Vec<&str> = ungated.iter().map(String::as_str).collect();
            notes
                .push(format!("the policy gates these, but they could not be gated: {}", some_names(&names)));
        }
        if self.roster.gated.is_empty() {
            notes.extend(what_could_be_gated(findings));
        } else if policy.mode == Mode::Faster && self.roster.primaries == 0 {
            notes.push(format!(
                "no bench has the primary metric {}, so no gain can be proven",
                policy.primary_metric()
            ));
        }
        notes
    }
}

/// What would settle an open question.
fn settle_with(reason: &Reason, method: Method, seed: Option<u64>) -> String {
    match reason {
        // Without a coin these are files that somebody saved: there is no budget to raise.
        _ if seed.is_none() => SETTLE_WITH.to_owned(),
        Reason::TooNoisy { needs, .. } if *needs <= SENSIBLE_PAIRS => {
            format!("rounds = {{ max = {needs} }} in the suite's budget, a quieter box, or a wider margin")
        }
        Reason::TooNoisy { .. } => {
            "a quieter box, a bench that does more in an invocation, or a wider margin; rounds alone would not do"
                .to_owned()
        }
        _ if method == Method::FewPairs => SETTLE_WITH.to_owned(),
        _ => "more rounds: a larger `rounds.max` or `time` in the suite's budget".to_owned(),
    }
}

/// Which metrics the user could name, if there are any at all.
fn what_could_be_gated(findings: &[Finding]) -> Option<String> {
    let metrics: BTreeSet<String> = findings.iter().map(|f| f.series.metric.to_string()).collect();
    let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
    (!metrics.is_empty()).then(|| {
        format!("none of their metrics is gated by default; name one as `primary`: {}", some_names(&metrics))
    })
}

fn some_names(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_PER_NOTE).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_PER_NOTE) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The centre of the pairs minus and plus half the effect; with one pair the two values themselves.
fn central_values(series: &Series, better: Better, effect: f64) -> (f64, f64) {
    if series.effects.len() == 1 {
        return series.first_pair;
    }
    let middle = median(&series.log_middles).unwrap_or(0.0);
    let half = match better {
        Better::Smaller => effect / 2.0,
        Better::Bigger => -effect / 2.0,
    };
    // A product near the edge of the numbers may overflow; the first pair is finite by the block's check.
    let (baseline, challenger) = ((middle - half).exp(), (middle + half).exp());
    if baseline.is_finite() && challenger.is_finite() { (baseline, challenger) } else { series.first_pair }
}
