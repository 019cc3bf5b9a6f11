//! Strategies: what probes may have seen.

use darwin_shared::fleet::Tier;
use darwin_shared::probe::{
    BoxProbe, CapacitySummary, Cause, CauseShare, CpuProbe, Gap, GapSummary, KernelTimes, ProbeLevel,
    ProbeMoment, RoundProbe, Signature, Usual,
};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::WORDS;

fn share() -> impl Strategy<Value = f64> {
    0.0f64..1.0
}

fn gaps() -> impl Strategy<Value = GapSummary> {
    let top = prop::collection::vec(
        (any::<u64>(), any::<u64>()).prop_map(|(start_ns, length_ns)| Gap { start_ns, length_ns }),
        0..3,
    );
    let signatures = prop::collection::vec(
        prop_oneof![any::<u32>().prop_map(|hz| Signature::Tick { hz }), Just(Signature::RealTimeHole)],
        0..3,
    );
    let causes = (select(Cause::ALL.to_vec()), any::<u64>(), share())
        .prop_map(|(cause, count, share)| CauseShare { cause, count, share });
    let causes = prop::collection::vec(causes, 0..4);
    (any::<[u64; 10]>(), [share(), share(), share()], option::of(share()), top, signatures, causes).prop_map(
        |(numbers, shares, steal_share, top, signatures, causes)| {
            let [
                observed_ns,
                threshold_ns,
                count,
                count_over_1us,
                p50_ns,
                p90_ns,
                p99_ns,
                p99_9_ns,
                max_ns,
                switches,
            ] = numbers;
            GapSummary {
                observed_ns,
                threshold_ns,
                count,
                count_over_1us,
                rate_per_s: shares[0] * 1e6,
                rate_over_1us_per_s: shares[1] * 1e6,
                p50_ns,
                p90_ns,
                p99_ns,
                p99_9_ns,
                max_ns,
                stolen_share: shares[2],
                top,
                signatures,
                involuntary_switches: switches,
                steal_share,
                causes,
            }
        },
    )
}

fn capacity() -> impl Strategy<Value = CapacitySummary> {
    let times = || {
        (any::<[u64; 3]>(), any::<u32>()).prop_map(|([median_ns, p90_ns, min_ns], runs)| KernelTimes {
            median_ns,
            p90_ns,
            min_ns,
            runs,
        })
    };
    (times(), times(), option::of(share()), option::of(share())).prop_map(
        |(width, latency, width_of_best, latency_of_best)| CapacitySummary {
            width,
            latency,
            width_of_best,
            latency_of_best,
        },
    )
}

fn cpu() -> impl Strategy<Value = CpuProbe> {
    let usual =
        (any::<u32>(), share(), share(), share()).prop_map(|(probes, rate_per_s, p99_ns, stolen_share)| {
            Usual { probes, rate_per_s, p99_ns, stolen_share }
        });
    let reasons = prop::collection::vec(WORDS, 0..2);
    (
        any::<u32>(),
        gaps(),
        option::of(capacity()),
        option::of(usual),
        select(ProbeLevel::ALL.to_vec()),
        reasons,
    )
        .prop_map(|(cpu, gaps, capacity, usual, level, reasons)| CpuProbe {
            cpu,
            gaps,
            capacity,
            usual,
            level,
            reasons,
        })
}

pub(super) fn round_probes() -> impl Strategy<Value = Vec<RoundProbe>> {
    let cpus = prop::collection::vec(cpu(), 0..2);
    let probe =
        (select(Tier::ALL.to_vec()), "[0-9a-f-]{0,36}", any::<u64>(), any::<bool>(), any::<bool>(), cpus)
            .prop_map(|(tier, boot_id, length_ns, fifo, tsc, cpus)| BoxProbe {
                tier,
                boot_id,
                length_ns,
                fifo,
                tsc,
                cpus,
            });
    let told = (select(ProbeMoment::ALL.to_vec()), probe, WORDS)
        .prop_map(|(moment, probe, worse)| RoundProbe { moment, probe, worse });
    prop::collection::vec(told, 0..2)
}
