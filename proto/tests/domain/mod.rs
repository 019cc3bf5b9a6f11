//! Strategies: anything that the domain can say.

mod probe;
mod spec;

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_gate::mser::WarmUp;
use darwin_gate::{
    Better, Decision, Evidence, Finding, FindingClass, LatencyStat, Method, Metric, MetricPolicy, Mode,
    Observation, Policy, Ratio, Reason, SeriesKey, Unit, Verdict,
};
use darwin_proto::convert::ConvertError;
use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
use darwin_shared::fleet::{
    AgentFacts, IsolationLevel, Reading, ReadingStatus, SensorReport, SensorStatus, Tier,
};
use darwin_shared::formats::Format;
use darwin_shared::ids::{AttemptId, Digest, Epoch, JobId, PoolName, ProjectName, SuiteName};
use darwin_shared::round::{Invocation, Pairing, RoundResult};
use darwin_shared::spec::{
    Arm, Budget, Command, CoreRequest, Exclusive, Isolation, JobSpec, Layout, MAX_BUDGET, MAX_PROBE,
    MAX_ROUNDS, MAX_TIMEOUT, MIN_PROBE, PairPlan, Scheduler, Source, Step, Steps, Variant, Work,
};
use darwin_shared::state::{Failure, FailureCause, MeasuredSeries, Outcome, RefusalCause, Stage};
use darwin_shared::usage::{Count, Counters, Quantity, Uncounted, Usage};
use darwin_shared::used::Used;
use darwin_shared::void::{VoidCause, VoidCount, VoidRounds};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;

pub(crate) use spec::job_spec;

/// Through the message, its bytes and the message again.
pub(crate) fn over_the_wire<D, M>(message: &M) -> Result<D, ConvertError>
where
    M: Message + Default,
    D: TryFrom<M, Error = ConvertError>,
{
    let bytes = message.encode_to_vec();
    D::try_from(M::decode(bytes.as_slice()).expect("what was encoded can be decoded"))
}

const NAME: &str = "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,30}(/[a-z0-9]{1,10})?";
const LINE: &str = "[^\\p{Cc}]{0,60}";
const WORDS: &str = "(?s).{0,200}";

fn duration(least: Duration, most: Duration) -> impl Strategy<Value = Duration> {
    (least.as_secs()..=most.as_secs(), 0u32..1_000_000_000)
        .prop_map(move |(seconds, nanos)| Duration::new(seconds, nanos).clamp(least, most))
}

fn texts(name: &'static str) -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(name, "[^\\p{Cc}]{0,30}", 0..4)
}

pub(crate) fn epoch() -> impl Strategy<Value = Epoch> {
    (any::<u32>(), any::<u64>()).prop_map(|(generation, counter)| Epoch { generation, counter })
}

fn attempt_id() -> impl Strategy<Value = AttemptId> {
    (0u64..1 << 48, any::<u128>(), any::<u32>())
        .prop_map(|(ms, random, number)| AttemptId { job: JobId::from_parts(ms, random >> 48), number })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn metric() -> impl Strategy<Value = Metric> {
    prop_oneof![
        select(LatencyStat::ALL.to_vec()).prop_map(Metric::Latency),
        Just(Metric::Throughput),
        Just(Metric::MemoryPeak),
        Just(Metric::Instructions),
        Just(Metric::CpuTime),
        Just(Metric::BranchMisses),
        ("[a-z.]{1,20}", select(vec![Better::Smaller, Better::Bigger]))
            .prop_map(|(name, better)| Metric::custom(name, better).unwrap()),
    ]
}

fn unit() -> impl Strategy<Value = Unit> {
    select(vec![Unit::Nanoseconds, Unit::Bytes, Unit::PerSecond, Unit::Count, Unit::Ratio])
}

pub(crate) fn series_key() -> impl Strategy<Value = SeriesKey> {
    ("[^\\p{Cc}]{1,60}", metric()).prop_map(|(bench, metric)| SeriesKey { bench, metric })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    select(vec![Evidence::A, Evidence::B, Evidence::C, Evidence::D])
}

pub(crate) fn observation() -> impl Strategy<Value = Observation> {
    (prop_oneof![f64::MIN_POSITIVE..1e18, Just(f64::MAX)], 1u64.., evidence(), unit())
        .prop_map(|(value, samples, evidence, unit)| Observation { value, samples, evidence, unit })
}

pub(crate) fn usage() -> impl Strategy<Value = Usage> {
    (any::<[u64; 7]>(), [(); 7].map(|()| count())).prop_map(|(times, counts)| {
        let [
            user_ns,
            system_ns,
            peak_rss_bytes,
            voluntary_switches,
            involuntary_switches,
            minor_faults,
            major_faults,
        ] = times;
        let [
            stolen_ns,
            cgroup_peak_bytes,
            instructions,
            cycles,
            cache_references,
            cache_misses,
            branch_misses,
        ] = counts;
        let counters = Counters { instructions, cycles, cache_references, cache_misses, branch_misses };
        Usage {
            user_ns,
            system_ns,
            peak_rss_bytes,
            voluntary_switches,
            involuntary_switches,
            minor_faults,
            major_faults,
            stolen_ns,
            cgroup_peak_bytes,
            counters,
        }
    })
}

fn count() -> impl Strategy<Value = Count> {
    prop_oneof![any::<u64>().prop_map(Count::Known), select(Uncounted::ALL.to_vec()).prop_map(Count::Unknown)]
}

pub(crate) fn used() -> impl Strategy<Value = Used> {
    let medians = prop::collection::btree_map(select(Quantity::ALL.to_vec()), count(), 0..6);
    (select(vec![Arm::Baseline, Arm::Challenger]), any::<u32>(), medians)
        .prop_map(|(arm, invocations, medians)| Used { arm, invocations, medians })
}

fn invocation(arm: Arm) -> impl Strategy<Value = Invocation> {
    let observations = prop::collection::btree_map(series_key(), observation(), 0..6);
    let image = option::of("sha256:[0-9a-f]{64}");
    let build = option::of(0_u32..64);
    (observations, any::<u64>(), usage(), option::of(digest()), image, build).prop_map(
        move |(observations, wall_ns, usage, samples, image, build)| Invocation {
            arm,
            observations,
            wall: Duration::from_nanos(wall_ns),
            usage,
            samples,
            image,
            build,
        },
    )
}

pub(crate) fn round_result() -> impl Strategy<Value = RoundResult> {
    let orders = prop_oneof![
        invocation(Arm::Baseline).prop_map(|one| vec![one]),
        (invocation(Arm::Baseline), invocation(Arm::Challenger)).prop_map(|(a, b)| vec![a, b]),
        (invocation(Arm::Challenger), invocation(Arm::Baseline)).prop_map(|(a, b)| vec![a, b]),
    ];
    (
        attempt_id(),
        epoch(),
        any::<u32>(),
        orders,
        option::of(pairing()),
        prop::collection::vec(warm_up(), 0..3),
        voids(),
        probe::round_probes(),
    )
        .prop_map(|(attempt, epoch, round, invocations, pairing, warm_ups, voids, probes)| RoundResult {
            attempt,
            epoch,
            round,
            invocations,
            pairing,
            warm_ups,
            voids,
            probes,
        })
}

fn warm_up() -> impl Strategy<Value = WarmUp> {
    (series_key(), any::<u64>(), any::<bool>()).prop_map(|(series, of, steady)| WarmUp {
        bench: series.bench,
        cut: of / 2,
        of,
        steady,
    })
}

fn pairing() -> impl Strategy<Value = Pairing> {
    prop_oneof![
        (any::<u32>(), any::<u64>())
            .prop_map(|(slices, ns)| Pairing::Sliced { slices, slice: Duration::from_nanos(ns) }),
        WORDS.prop_map(|why| Pairing::Plain { why }),
    ]
}

fn ratio(most: f64) -> impl Strategy<Value = Ratio> {
    (0.0..most).prop_map(|value| Ratio::new(value).unwrap())
}

pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let rule = (ratio(0.5), 0.0..0.9f64, any::<bool>()).prop_map(|(margin, share, gated)| MetricPolicy {
        margin,
        floor: if margin == Ratio::ZERO { Ratio::ZERO } else { Ratio::new(margin.get() * share).unwrap() },
        gated,
    });
    let metrics = prop::collection::btree_map(metric(), rule, 0..4);
    let modes = select(vec![Mode::Faster, Mode::NoSlower]);
    (modes, 1e-6..0.499, 1..=MAX_ROUNDS, metrics, metric(), ratio(0.9), ratio(0.9)).prop_map(
        |(mode, alpha, max_pairs, mut metrics, primary, min_gain, noise)| {
            for (metric, rule) in &mut metrics {
                rule.gated |= metric.same_quantity(&primary);
            }
            let assumed_noise = Ratio::new(noise.get() + 0.01).unwrap();
            let policy = Policy {
                mode,
                alpha,
                metrics,
                primary: Some(primary),
                min_gain,
                assumed_noise,
                ..Policy::default()
            };
            policy.with_max_pairs(max_pairs)
        },
    )
}

fn class() -> impl Strategy<Value = FindingClass> {
    prop_oneof![
        select(vec![FindingClass::Faster, FindingClass::Slower, FindingClass::Same, FindingClass::Unclear]),
        WORDS.prop_map(|why| FindingClass::NotGated { why }),
    ]
}

fn finding() -> impl Strategy<Value = Finding> {
    let numbers = (0.0..1e15f64, 0.0..1e15f64, ratio(9.0), option::of((ratio(1.0), ratio(2.0))), ratio(0.5));
    let rest = (any::<u32>(), class(), any::<bool>(), any::<bool>(), any::<u64>(), evidence());
    (series_key(), unit(), numbers, rest).prop_map(
        |(
            series,
            unit,
            (baseline, challenger, delta, interval, margin),
            (pairs, class, gated, primary, samples, evidence),
        )| {
            Finding {
                better: series.metric.better(),
                series,
                unit,
                baseline,
                challenger,
                delta,
                interval,
                pairs,
                class,
                margin,
                floor: Ratio::ZERO,
                gated,
                primary,
                samples_per_invocation: samples,
                evidence,
            }
        },
    )
}

fn reason() -> impl Strategy<Value = (Decision, Reason)> {
    prop_oneof![
        (any::<u32>(), any::<u32>())
            .prop_map(|(faster, of)| (Decision::Approve, Reason::FasterProven { faster, of })),
        (any::<u32>(), any::<u32>())
            .prop_map(|(slower, of)| (Decision::Reject, Reason::SlowerProven { slower, of })),
        Just((Decision::Inconclusive, Reason::NoChangeProven)),
        (series_key(), any::<u32>(), any::<u32>()).prop_map(|(series, pairs, needs)| (
            Decision::Inconclusive,
            Reason::TooNoisy { series, pairs, needs }
        )),
    ]
}

pub(crate) fn verdict() -> impl Strategy<Value = Verdict> {
    let findings = prop::collection::vec(finding(), 0..4);
    let words = (option::of(WORDS), option::of(WORDS), prop::collection::vec(WORDS, 0..3));
    let methods = select(vec![Method::ClippedSignFlip, Method::FewPairs]);
    (reason(), findings, 1e-6..0.499f64, any::<u32>(), option::of(any::<u64>()), words, methods).prop_map(
        |((decision, reason), findings, alpha, pairs, seed, (assumption, settle_with, notes), method)| {
            Verdict {
                decision,
                reason,
                findings,
                alpha,
                interval_confidence: 1.0 - 2.0 * alpha,
                mode: Mode::Faster,
                pairs,
                looks_taken: 2,
                looks: vec![10, 14, 20],
                seed,
                assumption,
                settle_with,
                notes,
                method,
            }
        },
    )
}

fn arm() -> impl Strategy<Value = Arm> {
    select(vec![Arm::Baseline, Arm::Challenger])
}

fn stage() -> impl Strategy<Value = Stage> {
    select(vec![Stage::Fetch, Stage::Setup, Stage::Check, Stage::Run, Stage::Read])
}

fn failure() -> impl Strategy<Value = Failure> {
    let cause = prop_oneof![
        any::<i32>().prop_map(FailureCause::ExitCode),
        any::<i32>().prop_map(FailureCause::Signal),
        duration(Duration::ZERO, Duration::from_secs(1_000_000)).prop_map(FailureCause::TimedOut),
        any::<u64>().prop_map(|limit_bytes| FailureCause::OutputTooLarge { limit_bytes }),
        WORDS.prop_map(FailureCause::NotStarted),
        WORDS.prop_map(FailureCause::Unreadable),
        WORDS.prop_map(FailureCause::BadArtifact),
        WORDS.prop_map(FailureCause::NotSliced),
    ];
    (stage(), arm(), LINE, cause, WORDS).prop_map(|(stage, arm, variant, cause, log_tail)| Failure {
        stage,
        arm,
        variant,
        cause,
        log_tail,
    })
}

pub(crate) fn refusal() -> impl Strategy<Value = RefusalCause> {
    prop_oneof![
        Just(RefusalCause::Busy),
        Just(RefusalCause::StaleEpoch),
        WORDS.prop_map(RefusalCause::Policy),
        WORDS.prop_map(RefusalCause::Unsupported),
        WORDS.prop_map(RefusalCause::Unhealthy),
    ]
}

pub(crate) fn measured_series() -> impl Strategy<Value = MeasuredSeries> {
    (series_key(), unit(), any::<[f64; 3]>(), any::<u32>(), any::<u64>()).prop_map(
        |(series, unit, values, invocations, samples)| {
            let mut values = values.map(|value| if value.is_finite() { value } else { 1.0 });
            values.sort_by(f64::total_cmp);
            let [least, center, most] = values;
            MeasuredSeries { series, unit, center, least, most, invocations, samples }
        },
    )
}

pub(crate) fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        verdict().prop_map(|verdict| Outcome::Judged(Box::new(verdict))),
        prop::collection::vec(measured_series(), 0..4).prop_map(Outcome::Measured),
        failure().prop_map(Outcome::Failed),
        LINE.prop_map(|by| Outcome::Cancelled { by }),
        Just(Outcome::Expired),
        WORDS.prop_map(|why| Outcome::Parked { why }),
    ]
}

fn voids() -> impl Strategy<Value = VoidRounds> {
    let cause = prop_oneof![
        any::<u32>().prop_map(|share_ppm| VoidCause::Stolen { share_ppm }),
        any::<u32>().prop_map(|share_ppm| VoidCause::Foreign { share_ppm }),
        any::<u64>().prop_map(|times| VoidCause::Throttled { times }),
        any::<u64>().prop_map(|interrupts| VoidCause::Interrupts { interrupts }),
        any::<u32>().prop_map(|cpu| VoidCause::Migrated { cpu }),
        any::<u64>().prop_map(|pages| VoidCause::Swapped { pages }),
        any::<u64>().prop_map(|faults| VoidCause::Faulted { faults }),
        any::<u64>().prop_map(|switches| VoidCause::Switched { switches }),
        any::<u64>().prop_map(|longest_ns| VoidCause::Gaps { longest_ns }),
        any::<u32>().prop_map(|lost_ppm| VoidCause::Capacity { lost_ppm }),
        WORDS.prop_map(|why| VoidCause::slices(&why)),
    ];
    let count = (cause, 1..1000u32).prop_map(|(worst, rounds)| VoidCount { worst, rounds });
    prop::collection::vec(count, 0..5).prop_map(VoidRounds::of)
}

fn attempt_event() -> impl Strategy<Value = AttemptEvent> {
    let end = prop_oneof![
        any::<u32>().prop_map(|rounds| AttemptEnd::Completed { rounds }),
        (any::<u32>(), voids()).prop_map(|(rounds, voids)| AttemptEnd::Disturbed { rounds, voids }),
        failure().prop_map(AttemptEnd::Failed),
        WORDS.prop_map(AttemptEnd::Box),
        Just(AttemptEnd::Cancelled),
    ];
    prop_oneof![
        Just(AttemptEvent::Accepted),
        refusal().prop_map(AttemptEvent::Refused),
        stage().prop_map(AttemptEvent::Staging),
        Just(AttemptEvent::Ready),
        (select(IsolationLevel::ALL), voids()).prop_map(|(level, voids)| AttemptEvent::Running {
            cpus: "1,3-4".to_owned(),
            isolation: level.to_string(),
            placement: "CPUs 1; ordinary class".to_owned(),
            voids,
        }),
        end.prop_map(AttemptEvent::Ended),
    ]
}

pub(crate) fn attempt_update() -> impl Strategy<Value = AttemptUpdate> {
    (attempt_id(), epoch(), attempt_event()).prop_map(|(attempt, epoch, event)| AttemptUpdate {
        attempt,
        epoch,
        event,
    })
}

pub(crate) fn agent_facts() -> impl Strategy<Value = AgentFacts> {
    (
        NAME,
        texts("[a-z]{1,20}"),
        prop::array::uniform6(LINE),
        any::<u32>(),
        select(IsolationLevel::ALL),
        select(Tier::ALL),
    )
        .prop_map(
            |(
                pool,
                labels,
                [version, hostname, kernel, cpu_model, incarnation, boot_id],
                lease_cores,
                isolation,
                tier,
            )| AgentFacts {
                pool: PoolName::new(pool).unwrap(),
                labels,
                version,
                hostname,
                lease_cpus: "2-3,8".to_owned(),
                lease_cores,
                housekeeping_cpus: "0".to_owned(),
                kernel,
                cpu_model,
                isolation,
                incarnation,
                boot_id,
                tier,
                docker: Some("27.1".to_owned()),
            },
        )
}

pub(crate) fn sensor_report() -> impl Strategy<Value = SensorReport> {
    let reading = (LINE, select(ReadingStatus::ALL), LINE, WORDS, WORDS)
        .prop_map(|(name, status, value, why, remedy)| Reading { name, status, value, why, remedy });
    let refuses = WORDS.prop_map(|why| Some(why).filter(|why| !why.is_empty()));
    (select(SensorStatus::ALL), prop::collection::vec(reading, 0..5), refuses)
        .prop_map(|(status, readings, refuses)| SensorReport { status, readings, refuses })
}
