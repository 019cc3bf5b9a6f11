//! What an invocation used, as the kernel counted it.
//!
//! Conversions only: who waits for a process, and when, is the launcher's business.

mod counters;

pub use counters::{CountSource, Each, Event, Shown, meaning};

use std::time::Duration;

use darwin_shared::formats::PROCESS_BENCH;
use darwin_shared::round::Invocation;
use darwin_shared::usage::{Quantity, Usage};

/// The kernel counts resident memory in units of this many bytes (`man getrusage`, `ru_maxrss`).
const RSS_UNIT_BYTES: u64 = 1024;

/// The words of `struct rusage` that we use, with the kernel's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawUsage {
    /// `ru_utime`.
    pub user: Duration,
    /// `ru_stime`.
    pub system: Duration,
    /// `ru_maxrss`, in KiB.
    pub max_rss_kib: u64,
    /// `ru_nvcsw`.
    pub voluntary_switches: u64,
    /// `ru_nivcsw`.
    pub involuntary_switches: u64,
    /// `ru_minflt`.
    pub minor_faults: u64,
    /// `ru_majflt`.
    pub major_faults: u64,
}

impl From<RawUsage> for Usage {
    fn from(raw: RawUsage) -> Self {
        Self {
            user_ns: nanoseconds(raw.user),
            system_ns: nanoseconds(raw.system),
            peak_rss_bytes: raw.max_rss_kib.saturating_mul(RSS_UNIT_BYTES),
            voluntary_switches: raw.voluntary_switches,
            involuntary_switches: raw.involuntary_switches,
            minor_faults: raw.minor_faults,
            major_faults: raw.major_faults,
            ..Self::default()
        }
    }
}

/// A duration in whole nanoseconds; more than 584 years count as 584 years.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The use of two processes of one tree: times and counts add up, the peak is the larger one.
#[must_use]
pub fn together(a: Usage, b: Usage) -> Usage {
    Usage {
        user_ns: a.user_ns.saturating_add(b.user_ns),
        system_ns: a.system_ns.saturating_add(b.system_ns),
        peak_rss_bytes: a.peak_rss_bytes.max(b.peak_rss_bytes),
        voluntary_switches: a.voluntary_switches.saturating_add(b.voluntary_switches),
        involuntary_switches: a.involuntary_switches.saturating_add(b.involuntary_switches),
        minor_faults: a.minor_faults.saturating_add(b.minor_faults),
        major_faults: a.major_faults.saturating_add(b.major_faults),
        // Of the launch, not of one of its processes.
        stolen_ns: a.stolen_ns,
        cgroup_peak_bytes: a.cgroup_peak_bytes,
        counters: a.counters,
    }
}

/// Leaves out what could be counted on one side of a pair only: a series without a partner compares nothing.
pub fn keep_counted_on_both(invocations: &mut [Invocation]) {
    let [first, second] = invocations else { return };
    for quantity in Quantity::ALL {
        if first.usage.of(quantity).known().is_none() != second.usage.of(quantity).known().is_none() {
            for side in [&mut *first, &mut *second] {
                side.observations.retain(|key, _| {
                    key.bench != PROCESS_BENCH || Some(&key.metric) != quantity.metric().as_ref()
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use darwin_gate::{Evidence, Metric, Observation, SeriesKey, Unit};
    use darwin_shared::spec::Arm;
    use darwin_shared::usage::{Count, Counters, Uncounted};

    use super::*;

    #[test]
    fn units_are_converted() {
        let raw = RawUsage { user: Duration::from_micros(1_500_001), max_rss_kib: 3, ..RawUsage::default() };
        let usage = Usage::from(raw);
        assert_eq!((usage.user_ns, usage.peak_rss_bytes), (1_500_001_000, 3072));
    }

    #[test]
    fn a_tree_adds_times_and_takes_the_larger_peak() {
        let a = Usage { user_ns: 1, peak_rss_bytes: 10, minor_faults: u64::MAX, ..Usage::default() };
        let b = Usage { user_ns: 2, peak_rss_bytes: 7, minor_faults: 1, ..Usage::default() };
        let both = together(a, b);
        assert_eq!((both.user_ns, both.peak_rss_bytes, both.minor_faults), (3, 10, u64::MAX));
    }

    #[test]
    fn a_counter_of_one_side_alone_is_left_out_on_both() {
        let key = |metric| SeriesKey::new(PROCESS_BENCH, metric);
        let seen = Observation { value: 7.0, samples: 1, evidence: Evidence::A, unit: Unit::Count };
        let invocation = |arm, instructions| Invocation {
            arm,
            observations: [Metric::Instructions, Metric::CpuTime].map(|metric| (key(metric), seen)).into(),
            wall: Duration::ZERO,
            usage: Usage { counters: Counters { instructions, ..Counters::default() }, ..Usage::default() },
            samples: None,
            image: None,
            build: None,
        };
        let kept = |challenger| {
            let baseline = invocation(Arm::Baseline, Count::Known(7));
            let mut both = [baseline, invocation(Arm::Challenger, challenger)];
            keep_counted_on_both(&mut both);
            both.map(|side| side.observations.contains_key(&key(Metric::Instructions)))
        };
        assert_eq!(kept(Count::Known(8)), [true, true]);
        assert_eq!(kept(Count::Unknown(Uncounted::Shared)), [false, false]);
    }
}
