//! Whether a box is worse than before: more than twice as bad, and worse than its tier should be.

use darwin_gate::Unit;
use darwin_shared::fleet::Tier;
use darwin_shared::probe::{BoxProbe, CapacitySummary, CpuProbe, ProbeLevel, share};
use darwin_shared::units::format_value;
use darwin_shared::void::VoidCause;

use super::judge::capacity_level;

/// Worse than so many times before is another box.
const TIMES: f64 = 2.0;
/// Fewer gaps than this, on both sides together, say nothing about their number.
const GAPS_LEAST: u64 = 20;
/// A share of less than this, though twice another, disturbs nothing.
const STOLEN_LEAST: f64 = 1e-4;

/// How a box got worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worse {
    /// In words, CPU by CPU.
    pub words: String,
    /// What it makes of the round between.
    pub cause: VoidCause,
}

/// How `after` is worse than `before`; none if it is not. CPUs that only one of them has are not compared.
///
/// A dev box is held against itself already; there only what was judged worse than before counts.
pub fn worse(before: &BoxProbe, after: &BoxProbe) -> Option<Worse> {
    let mut words = Vec::new();
    let mut longest_ns = None;
    let mut lost_ppm = None;
    for now in after.cpus.iter().filter(|cpu| cpu.level > ProbeLevel::Ok) {
        let Some(was) = before.cpus.iter().find(|cpu| cpu.cpu == now.cpu) else { continue };
        if let Some(how) = more_gaps(was, now) {
            longest_ns = longest_ns.max(Some(now.gaps.max_ns));
            words.push(format!("CPU {}: {how}", now.cpu));
        }
        if let Some((how, lost)) = less_capacity(after.tier, was, now) {
            lost_ppm = lost_ppm.max(Some(lost));
            words.push(format!("CPU {}: {how}", now.cpu));
        }
    }
    let cause = match (longest_ns, lost_ppm) {
        (Some(longest_ns), _) => VoidCause::Gaps { longest_ns },
        (None, Some(lost_ppm)) => VoidCause::Capacity { lost_ppm },
        (None, None) => return None,
    };
    Some(Worse { words: words.join(", "), cause })
}

fn more_gaps(was: &CpuProbe, now: &CpuProbe) -> Option<String> {
    let (was, now) = (&was.gaps, &now.gaps);
    let times = |now: f64, was: f64| if was > 0.0 { now / was } else { f64::INFINITY };
    let told = |times: f64| {
        if times.is_finite() { format!("{times:.1}x of before") } else { "none before".to_owned() }
    };
    let stolen = times(now.stolen_share, was.stolen_share);
    if now.stolen_share >= STOLEN_LEAST && stolen > TIMES {
        return Some(format!("{} of the time is taken, {}", share(now.stolen_share), told(stolen)));
    }
    let rate = times(now.rate_per_s, was.rate_per_s);
    if now.count + was.count >= GAPS_LEAST && rate > TIMES {
        return Some(format!("{:.0} gaps a second, {}", now.rate_per_s, told(rate)));
    }
    let p99 = times(now.p99_ns as f64, was.p99_ns as f64);
    if now.count.min(was.count) >= GAPS_LEAST && p99 > TIMES {
        let length = format_value(now.p99_ns as f64, Unit::Nanoseconds);
        return Some(format!("the 99th percentile of gaps is {length}, {}", told(p99)));
    }
    None
}

/// Twice the time for the same work never happens: here it is the tier's limit that must be passed in between.
fn less_capacity(tier: Tier, was: &CpuProbe, now: &CpuProbe) -> Option<(String, u32)> {
    let (was, now) = (was.capacity?, now.capacity?);
    let grew = slower(&was, &now);
    if capacity_level(tier, grew) < ProbeLevel::Fail {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a million")]
    let lost_ppm = ((1.0 - 1.0 / grew) * 1e6) as u32;
    Some((format!("work takes {grew:.2}x of the time that it took before"), lost_ppm))
}

fn slower(was: &CapacitySummary, now: &CapacitySummary) -> f64 {
    let ratio = |was: u64, now: u64| if was == 0 { 1.0 } else { now as f64 / was as f64 };
    ratio(was.width.median_ns, now.width.median_ns).max(ratio(was.latency.median_ns, now.latency.median_ns))
}

#[cfg(test)]
mod tests {
    use darwin_shared::probe::KernelTimes;

    use super::super::capacity::capacity;
    use super::super::judge::tests::{gaps, probe_of};
    use super::*;

    fn boxed(tier: Tier, rate: f64, stolen: f64, median_ns: u64, level: ProbeLevel) -> BoxProbe {
        let mut cpu = probe_of(1, gaps(rate, 90_000, 400_000, stolen));
        let times = KernelTimes { median_ns, p90_ns: median_ns, min_ns: median_ns, runs: 50 };
        cpu.capacity = Some(capacity(times, times, None));
        cpu.gaps.count = 200;
        cpu.level = level;
        BoxProbe { tier, boot_id: String::new(), length_ns: 1, fifo: false, tsc: true, cpus: vec![cpu] }
    }

    #[test]
    fn more_than_twice_is_worse_unless_it_is_ok() {
        let shielded = |rate, stolen, level| boxed(Tier::Shielded, rate, stolen, 1_000, level);
        let before = shielded(290.0, 0.000_8, ProbeLevel::Ok);
        assert_eq!(worse(&before, &shielded(300.0, 0.001_5, ProbeLevel::Warn)), None);
        assert_eq!(worse(&before, &shielded(900.0, 0.01, ProbeLevel::Ok)), None, "fine for its tier");
        let dirty = worse(&before, &shielded(300.0, 0.02, ProbeLevel::Fail)).unwrap();
        assert_eq!(dirty.words, "CPU 1: 2% of the time is taken, 25.0x of before".replace("2%", "2.0%"));
        assert_eq!(dirty.cause, VoidCause::Gaps { longest_ns: 400_000 });
        assert!(worse(&before, &shielded(900.0, 0.000_8, ProbeLevel::Warn)).is_some());
        let silent = shielded(0.0, 0.0, ProbeLevel::Ok);
        assert!(
            worse(&silent, &shielded(300.0, 0.02, ProbeLevel::Fail)).unwrap().words.contains("none before")
        );
        let elsewhere = BoxProbe { cpus: Vec::new(), ..before };
        assert_eq!(worse(&elsewhere, &shielded(300.0, 0.02, ProbeLevel::Fail)), None);
    }

    #[test]
    fn lost_capacity_is_worse_past_the_limit_of_the_class() {
        let at = |median| boxed(Tier::Shielded, 290.0, 0.000_8, median, ProbeLevel::Warn);
        assert_eq!(worse(&at(1_000), &at(1_100)), None);
        let slow = worse(&at(1_000), &at(1_600)).unwrap();
        assert_eq!(slow.words, "CPU 1: work takes 1.60x of the time that it took before");
        assert_eq!(slow.cause, VoidCause::Capacity { lost_ppm: 375_000 });
    }
}
