//! No file at all: the wall clock and the peak memory of a whole invocation, as the agent took them.

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_gate::{Better, Evidence, Unit};

use super::Format;
use crate::sample::{Grouping, Measured, MetricKind, Order, Per, Series, Values};
use crate::usage::Usage;

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
