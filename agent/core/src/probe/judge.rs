//! Whether a CPU is as quiet as a box of its tier should be.
//!
//! The limits are those of the host study's table of thresholds: they hold until somebody measures better ones on boxes of
//! the tier. What is absent is not judged.

use darwin_gate::Unit;
use darwin_shared::fleet::Tier;
use darwin_shared::probe::{CapacitySummary, Cause, GapSummary, ProbeLevel, Signature, Usual, share};
use darwin_shared::units::format_value;

use super::capacity::why_slow;

/// The tick of a kernel that shows none, in ticks a second.
const USUAL_HZ: f64 = 250.0;
/// Ticks and what comes with them may be so many times the tick.
const OVER_TICK: f64 = 1.2;
/// From this share on, the hypervisor takes too much.
const STEAL_MOST: f64 = 0.02;
/// A baseline of less than this is none to hold ratios against: one gap more would be a multiple.
const USUAL_LEAST_STOLEN: f64 = 1e-5;
/// The same for rates, in gaps a second.
const USUAL_LEAST_RATE: f64 = 1.0;
/// The same for the 99th percentile, in nanoseconds.
const USUAL_LEAST_P99_NS: f64 = 1_000.0;

/// A value from which on a box is not ok, and one from which on it is not fit.
struct Limits {
    warn: f64,
    fail: f64,
}

impl Limits {
    fn level(&self, value: f64) -> ProbeLevel {
        if value > self.fail {
            ProbeLevel::Fail
        } else if value > self.warn {
            ProbeLevel::Warn
        } else {
            ProbeLevel::Ok
        }
    }
}

/// What the findings of one CPU come to.
#[derive(Debug, Default)]
struct Findings {
    level: Option<ProbeLevel>,
    reasons: Vec<String>,
}

impl Findings {
    fn add(&mut self, level: ProbeLevel, reason: impl FnOnce() -> String) {
        self.level = self.level.max(Some(level));
        if level > ProbeLevel::Ok {
            self.reasons.push(reason());
        }
    }
}

/// Judges one CPU by the limits of its tier, and says why it is not ok.
pub fn judge(
    tier: Tier,
    gaps: &GapSummary,
    capacity: Option<&CapacitySummary>,
    usual: Option<&Usual>,
) -> (ProbeLevel, Vec<String>) {
    let mut findings = Findings::default();
    match tier {
        Tier::BareMetalIsolated => isolated(&mut findings, gaps),
        Tier::Shielded => shielded(&mut findings, gaps),
        Tier::Dev => as_usual(&mut findings, gaps, usual),
    }
    if let Some(capacity) = capacity
        && let Some(ratio) = capacity.of_best()
    {
        findings.add(capacity_level(tier, ratio), || {
            format!("work takes {ratio:.2}x of its best time here: {}", why_slow(capacity))
        });
    }
    (findings.level.unwrap_or(ProbeLevel::Ok), findings.reasons)
}

/// What a time of so many times the best comes to.
pub fn capacity_level(tier: Tier, of_best: f64) -> ProbeLevel {
    let limits = match tier {
        Tier::BareMetalIsolated => Limits { warn: 1.01, fail: 1.05 },
        Tier::Shielded => Limits { warn: 1.03, fail: 1.15 },
        Tier::Dev => Limits { warn: 1.15, fail: 1.3 },
    };
    limits.level(of_best)
}

fn time(ns: u64) -> String {
    format_value(ns as f64, Unit::Nanoseconds)
}

fn longest(findings: &mut Findings, gaps: &GapSummary, limits: &Limits) {
    findings.add(limits.level(gaps.max_ns as f64), || {
        let (longest, most) = (time(gaps.max_ns), format_value(limits.warn, Unit::Nanoseconds));
        format!("the longest gap is {longest}; at most {most} would be fine")
    });
}

fn stolen(findings: &mut Findings, gaps: &GapSummary, limits: &Limits) {
    findings.add(limits.level(gaps.stolen_share), || {
        format!(
            "{} of the time is taken; at most {} would be fine",
            share(gaps.stolen_share),
            share(limits.warn)
        )
    });
}

/// No tick, no interrupts, nobody else.
fn isolated(findings: &mut Findings, gaps: &GapSummary) {
    let limits = Limits { warn: 2.0, fail: 10.0 };
    findings.add(limits.level(gaps.rate_over_1us_per_s), || {
        format!("{:.1} gaps a second of more than 1 us; at most 2 would be fine", gaps.rate_over_1us_per_s)
    });
    longest(findings, gaps, &Limits { warn: 10_000.0, fail: 50_000.0 });
    // The longest share that counts as one long gap in a minute.
    stolen(findings, gaps, &Limits { warn: 1e-5, fail: f64::INFINITY });
    let of =
        |cause: Cause| gaps.causes.iter().find(|share| share.cause == cause).map_or(0, |share| share.count);
    findings.add(if of(Cause::Nmi) > 0 { ProbeLevel::Fail } else { ProbeLevel::Ok }, || {
        format!(
            "interrupts that cannot be masked, {} of them: a watchdog, or hardware in trouble",
            of(Cause::Nmi)
        )
    });
    // Counts are held against counts, so this is a suspicion and no proof.
    let unexplained = of(Cause::Unexplained);
    findings.add(if unexplained > 0 { ProbeLevel::Warn } else { ProbeLevel::Ok }, || {
        format!("{unexplained} gaps that no counter of the kernel explains: firmware (SMI) or a hypervisor")
    });
}

/// The tick is there, and little else.
fn shielded(findings: &mut Findings, gaps: &GapSummary) {
    let tick = gaps.signatures.iter().find_map(|signature| match signature {
        Signature::Tick { hz } => Some(f64::from(*hz)),
        Signature::RealTimeHole | Signature::Second | Signature::TenSeconds | Signature::FiveMinutes => None,
    });
    let most = OVER_TICK * tick.unwrap_or(USUAL_HZ);
    let limits = Limits { warn: most, fail: f64::INFINITY };
    findings.add(limits.level(gaps.rate_per_s), || {
        format!("{:.0} gaps a second; at most {most:.0} would be fine", gaps.rate_per_s)
    });
    // At the limit itself it is too much already.
    longest(findings, gaps, &Limits { warn: 100_000.0, fail: 999_999.0 });
    stolen(findings, gaps, &Limits { warn: 0.001, fail: 0.004_999 });
    let switches = gaps.involuntary_switches;
    findings.add(if switches > 0 { ProbeLevel::Fail } else { ProbeLevel::Ok }, || {
        format!("somebody else ran on the core, {switches} times")
    });
}

/// No worse than this box usually is.
fn as_usual(findings: &mut Findings, gaps: &GapSummary, usual: Option<&Usual>) {
    let steal = gaps.steal_share.unwrap_or(0.0);
    findings.add(if steal > STEAL_MOST { ProbeLevel::Fail } else { ProbeLevel::Ok }, || {
        format!("the hypervisor says to have taken {}", share(steal))
    });
    let Some(usual) = usual else { return };
    let half = Limits { warn: 1.5, fail: 3.0 };
    let rate = gaps.rate_per_s / usual.rate_per_s.max(USUAL_LEAST_RATE);
    findings.add(half.level(rate), || {
        format!("{:.0} gaps a second, {rate:.1}x of what is usual here", gaps.rate_per_s)
    });
    let taken = gaps.stolen_share / usual.stolen_share.max(USUAL_LEAST_STOLEN);
    findings.add(half.level(taken), || {
        format!("{} of the time is taken, {taken:.1}x of what is usual here", share(gaps.stolen_share))
    });
    let p99 = gaps.p99_ns as f64 / usual.p99_ns.max(USUAL_LEAST_P99_NS);
    findings.add(Limits { warn: 2.0, fail: 3.0 }.level(p99), || {
        format!("the 99th percentile of gaps is {}, {p99:.1}x of what is usual here", time(gaps.p99_ns))
    });
}

#[cfg(test)]
pub(super) mod tests {
    use std::fmt::Write as _;

    use darwin_shared::probe::{CauseShare, CpuProbe};
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn gaps(rate: f64, p99_ns: u64, max_ns: u64, stolen_share: f64) -> GapSummary {
        GapSummary {
            observed_ns: 2_000_000_000,
            threshold_ns: 1_000,
            count: 1,
            count_over_1us: 1,
            rate_per_s: rate,
            rate_over_1us_per_s: rate,
            p50_ns: p99_ns / 10,
            p90_ns: p99_ns / 2,
            p99_ns,
            p99_9_ns: p99_ns,
            max_ns,
            stolen_share,
            top: Vec::new(),
            signatures: vec![Signature::Tick { hz: 250 }],
            involuntary_switches: 0,
            steal_share: Some(0.0),
            causes: Vec::new(),
        }
    }

    pub(in super::super) fn probe_of(cpu: u32, gaps: GapSummary) -> CpuProbe {
        CpuProbe { cpu, gaps, capacity: None, usual: None, level: ProbeLevel::Ok, reasons: Vec::new() }
    }

    fn level(tier: Tier, gaps: &GapSummary) -> ProbeLevel {
        judge(tier, gaps, None, None).0
    }

    #[test]
    fn an_isolated_core_is_nearly_never_left() {
        const TIER: Tier = Tier::BareMetalIsolated;
        assert_eq!(level(TIER, &gaps(1.0, 4_000, 8_000, 5e-6)), ProbeLevel::Ok);
        assert_eq!(level(TIER, &gaps(1.0, 4_000, 20_000, 5e-6)), ProbeLevel::Warn);
        assert_eq!(level(TIER, &gaps(8.0, 4_000, 8_000, 5e-6)), ProbeLevel::Warn);
        assert_eq!(level(TIER, &gaps(1.0, 4_000, 8_000, 5e-5)), ProbeLevel::Warn);
        assert_eq!(level(TIER, &gaps(250.0, 4_000, 8_000, 5e-6)), ProbeLevel::Fail);
        assert_eq!(level(TIER, &gaps(1.0, 4_000, 51_000, 5e-6)), ProbeLevel::Fail);
        let mut with = gaps(1.0, 4_000, 8_000, 5e-6);
        with.causes = vec![CauseShare { cause: Cause::Unexplained, count: 2, share: 1.0 }];
        assert_eq!(level(TIER, &with), ProbeLevel::Warn);
        with.causes = vec![CauseShare { cause: Cause::Nmi, count: 1, share: 1.0 }];
        assert_eq!(level(TIER, &with), ProbeLevel::Fail);
    }

    #[test]
    fn a_shielded_core_has_its_tick_and_nobody_else() {
        const TIER: Tier = Tier::Shielded;
        assert_eq!(level(TIER, &gaps(290.0, 9_000, 60_000, 0.000_9)), ProbeLevel::Ok);
        assert_eq!(level(TIER, &gaps(310.0, 9_000, 60_000, 0.000_9)), ProbeLevel::Warn);
        assert_eq!(level(TIER, &gaps(290.0, 9_000, 300_000, 0.003)), ProbeLevel::Warn);
        assert_eq!(level(TIER, &gaps(290.0, 9_000, 1_000_000, 0.000_9)), ProbeLevel::Fail);
        assert_eq!(level(TIER, &gaps(290.0, 9_000, 60_000, 0.005)), ProbeLevel::Fail);
        let switched = GapSummary { involuntary_switches: 1, ..gaps(290.0, 9_000, 60_000, 0.000_9) };
        assert_eq!(level(TIER, &switched), ProbeLevel::Fail);
    }

    #[test]
    fn a_dev_box_is_held_against_itself() {
        let usual = Usual { probes: 4, rate_per_s: 800.0, p99_ns: 90_000.0, stolen_share: 0.02 };
        let judged = |gaps: &GapSummary| judge(Tier::Dev, gaps, None, Some(&usual));
        assert_eq!(judged(&gaps(1_100.0, 170_000, 9_000_000, 0.029)), (ProbeLevel::Ok, Vec::new()));
        let (level, reasons) = judged(&gaps(1_300.0, 190_000, 9_000_000, 0.1));
        assert_eq!((level, reasons.len()), (ProbeLevel::Fail, 3));
        let stolen = GapSummary { steal_share: Some(0.03), ..gaps(800.0, 90_000, 4_000_000, 0.02) };
        assert_eq!(judge(Tier::Dev, &stolen, None, None).0, ProbeLevel::Fail);
        assert_eq!(level_without_past(), ProbeLevel::Ok);
    }

    fn level_without_past() -> ProbeLevel {
        level(Tier::Dev, &gaps(90_000.0, 10_000_000, 90_000_000, 0.9))
    }

    #[test]
    fn reasons_are_words() {
        let usual = Usual { probes: 4, rate_per_s: 400.0, p99_ns: 20_000.0, stolen_share: 0.002 };
        let mut noisy = gaps(810.0, 93_000, 4_200_000, 0.021);
        noisy.involuntary_switches = 7;
        noisy.causes = vec![
            CauseShare { cause: Cause::Unexplained, count: 300, share: 0.5 },
            CauseShare { cause: Cause::Nmi, count: 1, share: 0.1 },
        ];
        noisy.steal_share = Some(0.05);
        let times = |median_ns| darwin_shared::probe::KernelTimes {
            median_ns,
            p90_ns: median_ns,
            min_ns: median_ns,
            runs: 50,
        };
        let best = Some(crate::probe::capacity::Best { width_ns: 1_000, latency_ns: 1_000 });
        let slow = crate::probe::capacity::capacity(times(1_480), times(1_050), best);
        let mut told = String::new();
        for tier in Tier::ALL {
            let (level, reasons) = judge(*tier, &noisy, Some(&slow), Some(&usual));
            let _ = writeln!(told, "{tier}: {level}\n  {}", reasons.join("\n  "));
        }
        insta::assert_snapshot!(told);
    }

    proptest! {
        #[test]
        fn worse_is_never_better(
            rate in 0.0f64..1e5, p99 in 0u64..1_000_000, max in 0u64..10_000_000, stolen in 0.0f64..0.5, factor in 1.0f64..10.0,
        ) {
            let usual = Usual { probes: 3, rate_per_s: 500.0, p99_ns: 50_000.0, stolen_share: 0.01 };
            for tier in Tier::ALL {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
                let times = |ns: u64| (ns as f64 * factor) as u64;
                let worse = gaps(rate * factor, times(p99), times(max), stolen * factor);
                let better = gaps(rate, p99, max, stolen);
                let judged = |gaps: &GapSummary| judge(*tier, gaps, None, Some(&usual)).0;
                prop_assert!(judged(&worse) >= judged(&better));
            }
        }
    }
}
