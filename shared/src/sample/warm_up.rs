//! The warm-up of one pair: found in each side's samples, left out on both sides alike.
//!
//! What is cut: latencies of single calls (evidence A) that one process measured, in the order of time. Means of batches,
//! summaries and counters stay as they are, and so do runs of a process each (hyperfine), whose start is what is measured.
//!
//! Which formats: `darwin-samples` and `pytest-benchmark`. The latter has a warm-up of its own, but on `CPython` it is off
//! unless asked for, and its calibration is a handful of calls; where it is on there is nothing left to find, and the cut is
//! near zero. Criterion always warms up for seconds and its samples are batches but for the slowest benches, so nothing of
//! it is cut.
//!
//! How far: to the larger of the two sides' MSER-5 cuts, so that the same calls are compared. But never so far that a
//! gated quantile loses the samples that it needs: on steady data the cut is a matter of chance, and must not decide what
//! takes part. What is then still warming up shows as a bench that is not steady.

use std::collections::BTreeMap;

use darwin_gate::mser::{WarmUp, is_steady, warm_up};
use darwin_gate::{Evidence, LatencyStat, Metric, Policy};

use super::{Grouping, Measured, MetricKind, Order, Series, Values};
use crate::formats::Format;

/// Leaves out the warm-up of one pair, in place; tells of every bench of which something was cut or that is not steady.
///
/// A bench that only one side has, or that is not told in the order of time, stays as it is.
pub fn cut_warm_up(sides: &mut [Measured; 2], policy: &Policy) -> Vec<WarmUp> {
    let [first, second] = sides;
    if [&*first, &*second].iter().any(|side| side.format == Format::Criterion) {
        return Vec::new();
    }
    let mut others: BTreeMap<String, &mut Vec<f64>> = second.series.iter_mut().filter_map(calls).collect();
    let pairs = first.series.iter_mut().filter_map(calls);
    pairs
        .filter_map(|(bench, values)| {
            let other = others.remove(&bench)?;
            cut_pair(bench, [values, other], policy)
        })
        .collect()
}

/// The latencies of single calls, by bench, if the series has them in the order of time.
fn calls(series: &mut Series) -> Option<(String, &mut Vec<f64>)> {
    let Series { name, metric, evidence, order, grouping, values, .. } = series;
    let in_time = *order == Order::Time && *grouping != Grouping::ProcessEach;
    match values {
        Values::Samples(values) if in_time && *metric == MetricKind::Latency && *evidence == Evidence::A => {
            Some((name.clone(), values))
        }
        Values::Samples(_) | Values::Histogram(_) | Values::Summary(_) => None,
    }
}

fn cut_pair(bench: String, sides: [&mut Vec<f64>; 2], policy: &Policy) -> Option<WarmUp> {
    let located = sides.iter().map(|values| warm_up(values)).max().unwrap_or(0);
    let tolerance = policy.for_metric(&Metric::Latency(LatencyStat::P50)).0.margin.ln_1p();
    let steady = sides.iter().all(|values| is_steady(values, located, tolerance));
    let of = sides.iter().map(|values| values.len()).min().unwrap_or(0);
    let cut = located.min(of.saturating_sub(must_stay(of, policy)));
    for values in sides {
        values.drain(..cut);
    }
    (cut > 0 || !steady).then_some(WarmUp { bench, cut: cut as u64, of: of as u64, steady })
}

/// So many of `count` samples the gated quantiles that have enough of them need.
fn must_stay(count: usize, policy: &Policy) -> usize {
    let gated = |stat: &LatencyStat| policy.for_metric(&Metric::Latency(*stat)).0.gated;
    let needed = LatencyStat::ALL.into_iter().filter(gated).filter_map(LatencyStat::samples_to_gate);
    let needed = needed.filter_map(|needed| usize::try_from(needed).ok()).filter(|needed| *needed <= count);
    needed.max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Input, read};

    /// One bench of `count` calls of about 100 ns, the first `slow` of them three times that.
    fn measured(count: usize, slow: usize, more: &str) -> Measured {
        let values: Vec<String> = (0..count)
            .map(|at| {
                let value = 100 + at * 7 % 11;
                (if at < slow { 3 * value } else { value }).to_string()
            })
            .collect();
        let text = format!(
            "{{\"schema\":\"darwin-samples/1\",\"tool\":\"t\"}}\n{{\"name\":\"b\",\"metric\":\"latency\",\"unit\":\"ns\",{more}\"values\":[{}]}}\n",
            values.join(",")
        );
        read(Format::DarwinSamples, Input::file("f", text.as_bytes())).unwrap()
    }

    fn samples(side: &Measured) -> u64 {
        side.series[0].samples()
    }

    const IN_TIME: &str = "\"order\":\"time\",";

    #[test]
    fn both_sides_lose_the_larger_warm_up() {
        let mut sides = [measured(1000, 0, IN_TIME), measured(1000, 100, IN_TIME)];
        let told = cut_warm_up(&mut sides, &Policy::default());
        assert_eq!(told.len(), 1);
        let cut = told[0].cut;
        assert!((100..=110).contains(&cut) && told[0].of == 1000 && told[0].steady, "{told:?}");
        assert_eq!((samples(&sides[0]), samples(&sides[1])), (1000 - cut, 1000 - cut));
        let slowest = sides[1].series[0].quantile(1.0).unwrap();
        assert!(slowest < 200.0, "{slowest}");
    }

    #[test]
    fn a_gated_quantile_keeps_the_samples_that_it_needs() {
        let mut sides = [measured(2200, 1000, IN_TIME), measured(2200, 0, IN_TIME)];
        let told = cut_warm_up(&mut sides, &Policy::default());
        assert_eq!((told[0].cut, told[0].steady, samples(&sides[0])), (200, false, 2000));
    }

    #[test]
    fn what_is_no_course_of_calls_stays_as_it_is() {
        for more in [
            "",
            "\"order\":\"sorted\",",
            "\"order\":\"time\",\"grouping\":\"process_each\",",
            "\"order\":\"time\",\"per\":\"batch\",\"iterations\":10,",
        ] {
            let mut sides = [measured(1000, 100, more), measured(1000, 100, more)];
            assert_eq!(cut_warm_up(&mut sides, &Policy::default()), [], "{more}");
            assert_eq!(samples(&sides[0]), 1000, "{more}");
        }
        let mut sides = [measured(1000, 100, IN_TIME), measured(1000, 100, IN_TIME)];
        sides[1].series[0].name = "another".to_owned();
        assert_eq!(cut_warm_up(&mut sides, &Policy::default()), []);
    }
}
