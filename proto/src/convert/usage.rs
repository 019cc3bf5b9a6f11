//! What invocations used.

use darwin_shared::usage::{Count, Counters, Quantity, Uncounted, Usage};
use darwin_shared::used::Used;

use super::{ConvertError, arm};
use crate::v1;

impl From<v1::Usage> for Usage {
    fn from(usage: v1::Usage) -> Self {
        Self {
            user_ns: usage.user_ns,
            system_ns: usage.system_ns,
            peak_rss_bytes: usage.peak_rss_bytes,
            voluntary_switches: usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches,
            minor_faults: usage.minor_faults,
            major_faults: usage.major_faults,
            stolen_ns: count(usage.stolen_ns),
            cgroup_peak_bytes: count(usage.cgroup_peak_bytes),
            counters: usage.counters.map(Counters::from).unwrap_or_default(),
        }
    }
}

impl From<Usage> for v1::Usage {
    fn from(usage: Usage) -> Self {
        Self {
            user_ns: usage.user_ns,
            system_ns: usage.system_ns,
            peak_rss_bytes: usage.peak_rss_bytes,
            voluntary_switches: usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches,
            minor_faults: usage.minor_faults,
            major_faults: usage.major_faults,
            stolen_ns: Some(usage.stolen_ns.into()),
            cgroup_peak_bytes: Some(usage.cgroup_peak_bytes.into()),
            counters: Some(usage.counters.into()),
        }
    }
}

impl From<v1::Counters> for Counters {
    fn from(counters: v1::Counters) -> Self {
        let v1::Counters { instructions, cycles, cache_references, cache_misses, branch_misses } = counters;
        Self {
            instructions: count(instructions),
            cycles: count(cycles),
            cache_references: count(cache_references),
            cache_misses: count(cache_misses),
            branch_misses: count(branch_misses),
        }
    }
}

impl From<Counters> for v1::Counters {
    fn from(counters: Counters) -> Self {
        let Counters { instructions, cycles, cache_references, cache_misses, branch_misses } = counters;
        Self {
            instructions: Some(instructions.into()),
            cycles: Some(cycles.into()),
            cache_references: Some(cache_references.into()),
            cache_misses: Some(cache_misses.into()),
            branch_misses: Some(branch_misses.into()),
        }
    }
}

/// What a peer counted. One that says nothing, or a reason that this version does not know, has not told.
fn count(told: Option<v1::Count>) -> Count {
    match told.and_then(|told| told.is) {
        Some(v1::count::Is::Known(number)) => Count::Known(number),
        Some(v1::count::Is::Unknown(word)) => {
            Count::Unknown(Uncounted::of_word(&word).unwrap_or(Uncounted::NotTold))
        }
        None => Count::default(),
    }
}

impl From<Count> for v1::Count {
    fn from(count: Count) -> Self {
        let is = match count {
            Count::Known(number) => v1::count::Is::Known(number),
            Count::Unknown(why) => v1::count::Is::Unknown(why.word().to_owned()),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::Used> for Used {
    type Error = ConvertError;

    fn try_from(used: v1::Used) -> Result<Self, ConvertError> {
        let v1::Used { arm: side, invocations, medians } = used;
        let known = medians.into_iter().filter_map(|told| {
            let quantity = Quantity::of_word(&told.quantity)?;
            Some((quantity, count(told.median)))
        });
        Ok(Self { arm: arm("arm", side)?, invocations, medians: known.collect() })
    }
}

impl From<Used> for v1::Used {
    fn from(used: Used) -> Self {
        let Used { arm, invocations, medians } = used;
        let told = |(quantity, median): (Quantity, Count)| v1::UsedQuantity {
            quantity: quantity.word().to_owned(),
            median: Some(median.into()),
        };
        Self { arm: v1::Arm::from(arm).into(), invocations, medians: medians.into_iter().map(told).collect() }
    }
}
