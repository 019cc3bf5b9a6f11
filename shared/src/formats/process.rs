//! No file at all: the wall clock and the peak memory of a whole invocation, as the agent took them.

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_gate::{Better, Evidence, Observation, Policy, SeriesKey, Unit};

use super::Format;
use crate::sample::{Grouping, Measured, MetricKind, Order, Per, Series, Values};
use crate::usage::{Quantity, Usage};

/// The name under which the whole invocation is a bench of its own.
pub const PROCESS_BENCH: &str = "process";

/// The invocation as a result: its latency from exec to exit, and its peak memory where the kernel told it.
pub fn measured_process(wall: Duration, usage: &Usage) -> Measured {
    let wall_ns = wall.as_nanos() as f64;
    let latency = single(MetricKind::Latency, Unit::Nanoseconds, wall_ns);
    Measured {
        format: Format::Process,
        tool: None,
        tool_version: None,
        host: BTreeMap::new(),
        series: std::iter::once(latency).chain(peak_memory(usage)).collect(),
        warnings: Vec::new(),
    }
}

/// The invocation's peak memory as a series, to go with what its benches measured; none if the kernel told none.
pub fn peak_memory(usage: &Usage) -> Option<Series> {
    let bytes = usage.peak_rss_bytes as f64;
    (usage.peak_rss_bytes > 0).then(|| single(MetricKind::MemoryPeak, Unit::Bytes, bytes))
}

/// What the invocation used, as series of the bench [`PROCESS_BENCH`]: the metrics that the policy names, as far as they
/// were counted. Peak memory is not among them, since [`peak_memory`] is always told; nor is a zero, which has no ratio.
pub fn used_series(usage: &Usage, policy: &Policy) -> BTreeMap<SeriesKey, Observation> {
    let named = Quantity::ALL.into_iter().filter(|quantity| *quantity != Quantity::PeakMemory);
    named
        .filter_map(|quantity| {
            let metric = quantity.metric()?;
            let is_named = policy.metrics.contains_key(&metric) || policy.primary.as_ref() == Some(&metric);
            let number = usage.of(quantity).known().filter(|number| is_named && *number > 0)?;
            // Counters too have noise, such as from interrupts and addresses: not class D, which has none.
            let seen = Observation {
                value: number as f64,
                samples: 1,
                evidence: Evidence::A,
                unit: quantity.unit(),
            };
            Some((SeriesKey::new(PROCESS_BENCH, metric), seen))
        })
        .collect()
}

fn single(metric: MetricKind, unit: Unit, value: f64) -> Series {
    Series {
        name: PROCESS_BENCH.to_owned(),
        metric,
        unit,
        better: Better::Smaller,
        per: Per::Op,
        evidence: Evidence::A,
        order: Order::Time,
        grouping: Grouping::OneProcess,
        values: Values::Samples(vec![value]),
    }
}

#[cfg(test)]
mod tests {
    use darwin_gate::{Metric, MetricPolicy, Ratio};

    use super::*;
    use crate::usage::{Count, Counters, Uncounted};

    #[test]
    fn only_what_is_named_and_counted_becomes_a_series() {
        let counters = Counters { instructions: Count::Known(7), ..Counters::unknown(Uncounted::NoCounter) };
        let usage = Usage { user_ns: 2, system_ns: 3, peak_rss_bytes: 9, counters, ..Usage::default() };
        assert_eq!(used_series(&usage, &Policy::default()), BTreeMap::new());
        let rule = MetricPolicy { margin: Ratio::from_percent(2), floor: Ratio::ZERO, gated: true };
        let named = [Metric::Instructions, Metric::Cycles, Metric::PageFaults, Metric::MemoryPeak];
        let metrics = named.map(|metric| (metric, rule)).into();
        let policy = Policy { metrics, primary: Some(Metric::CpuTime), ..Policy::default() };
        let told: Vec<_> = used_series(&usage, &policy)
            .into_iter()
            .map(|(key, seen)| (key.metric, format!("{}", seen.value), seen.unit))
            .collect();
        let wanted = [
            (Metric::CpuTime, "5".to_owned(), Unit::Nanoseconds),
            (Metric::Instructions, "7".to_owned(), Unit::Count),
        ];
        assert_eq!(told, wanted);
    }
}
