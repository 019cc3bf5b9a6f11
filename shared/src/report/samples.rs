//! Reports for the tests: one for each way in which a job ends, and one with names that mean harm.

use std::time::Duration;

use darwin_gate::{
    Better, Decision, Evidence, Finding, FindingClass, LatencyStat, Method, Metric, Mode, Ratio, Reason,
    SeriesKey, Unit, Verdict,
};

use super::{Header, Report};
use crate::formats::PROCESS_BENCH;
use crate::spec::Arm;
use crate::state::{Failure, FailureCause, MeasuredSeries, Outcome, Stage};
use crate::usage::{Count, Counters, Uncounted, Usage};
use crate::used::{UseTally, Used};
use crate::void::VoidRounds;

const ISOLATION: &str = "cpuset: CPUs 6 of node 0; SCHED_FIFO 10; in /darwin/ny4-07/0; 1 thread read back";

pub(super) fn header() -> Header {
    Header {
        suite: Some("hotpath".into()),
        project: Some("matching-engine".into()),
        pool: Some("xeon-6".into()),
        agent: Some("ny4-07".into()),
        tier: Some("shielded".into()),
        isolation: Some(ISOLATION.into()),
        cpus: Some("6".into()),
        rounds: Some(14),
        plan: Some("sliced pairs: 30 slices of 5ms or more".into()),
        probes: Some(
            "box: before 291 gaps/s, p99 9.20us, 0.1% stolen, capacity 1.00x of best; after 294 gaps/s, p99 9.60us, 0.1% \
             stolen, capacity 1.01x of best"
                .into(),
        ),
        voids: VoidRounds::default(),
        elapsed: Some(Duration::from_millis(130_400)),
        baseline: Some("main@1a2b3c4".into()),
        challenger: Some("faster-book@5d6e7f8".into()),
        baseline_image: None,
        challenger_image: None,
        used: vec![used(Arm::Baseline, 0), used(Arm::Challenger, 12)],
        job: Some("01J9ZQ4T7M2N8X3V5B6C7D8E9F".into()),
        url: None,
    }
}

/// So many percent more memory than the baseline.
fn used(arm: Arm, more: u64) -> Used {
    let mut tally = UseTally::default();
    let usage = Usage {
        user_ns: 41_200_000,
        system_ns: 3_100_000 + more,
        peak_rss_bytes: (212 << 20) / 100 * (100 + more),
        voluntary_switches: 3,
        involuntary_switches: more,
        minor_faults: 14_203,
        major_faults: 0,
        stolen_ns: Count::Known(1_200_000 * more),
        cgroup_peak_bytes: Count::Unknown(Uncounted::NoCgroup),
        counters: Counters::unknown(Uncounted::NoCounter),
    };
    tally.add(arm, &usage);
    tally.sum_up().remove(0)
}

pub(super) const P50: Metric = Metric::Latency(LatencyStat::P50);
const P99: Metric = Metric::Latency(LatencyStat::P99);

pub(super) fn finding(
    bench: &str,
    metric: Metric,
    baseline: f64,
    change: f64,
    half: f64,
    class: FindingClass,
) -> Finding {
    let ratio = |value: f64| Ratio::new(value).unwrap();
    let unit = match metric {
        Metric::Latency(_) | Metric::CpuTime => Unit::Nanoseconds,
        Metric::Throughput => Unit::PerSecond,
        Metric::MemoryPeak => Unit::Bytes,
        Metric::PageFaults
        | Metric::Instructions
        | Metric::Cycles
        | Metric::CacheMisses
        | Metric::BranchMisses
        | Metric::Custom { .. }
        | Metric::WorstTenth(_) => Unit::Count,
    };
    Finding {
        better: if metric == Metric::Throughput { Better::Bigger } else { Better::Smaller },
        gated: !matches!(class, FindingClass::NotGated { .. }),
        primary: metric == P50,
        series: SeriesKey::new(bench, metric),
        unit,
        baseline,
        challenger: baseline * (1.0 + change),
        delta: ratio(change),
        interval: (half > 0.0).then(|| (ratio(change - half), ratio(change + half))),
        pairs: 14,
        class,
        margin: Ratio::from_percent(1),
        floor: Ratio::ZERO,
        samples_per_invocation: 3000,
        evidence: Evidence::A,
    }
}

fn verdict(decision: Decision, reason: Reason, findings: Vec<Finding>) -> Verdict {
    Verdict {
        decision,
        reason,
        findings,
        alpha: 0.01,
        interval_confidence: 0.98,
        mode: Mode::Faster,
        pairs: 14,
        looks_taken: 2,
        looks: vec![10, 14, 20, 28, 40],
        seed: Some(u64::MAX),
        assumption: None,
        settle_with: None,
        notes: Vec::new(),
        method: Method::ClippedSignFlip,
    }
}

fn not_gated(why: &str) -> FindingClass {
    FindingClass::NotGated { why: why.into() }
}

fn judged(verdict: Verdict) -> Report {
    Report::new(header(), Outcome::Judged(Box::new(verdict)))
}

fn approved() -> Report {
    let mib = 1024.0 * 1024.0;
    judged(verdict(
        Decision::Approve,
        Reason::FasterProven { faster: 2, of: 4 },
        vec![
            finding("test_match[1000]", P99, 50_100.0, -0.198, 0.0115, FindingClass::Faster),
            finding("test_match[1000]", P50, 31_000.0, -0.003, 0.006, FindingClass::Same),
            finding("test_match[1000]", Metric::Throughput, 10_000.0, 0.5, 0.02, FindingClass::Faster),
            finding(PROCESS_BENCH, Metric::MemoryPeak, 212.0 * mib, 0.005, 0.004, FindingClass::Same),
        ],
    ))
}

pub(super) fn rejected_verdict() -> Verdict {
    let long = format!("test_replace_{}[venue=sim,depth=1000]", "order_".repeat(12));
    let mut verdict = verdict(
        Decision::Reject,
        Reason::SlowerProven { slower: 1, of: 4 },
        vec![
            finding("test_match[1000]", P50, 31_000.0, 0.001, 0.004, FindingClass::Same),
            finding("test_cancel", P50, 812.0, -0.052, 0.012, FindingClass::Faster),
            finding(&long, P99, 1_250_000.0, 0.213, 0.03, FindingClass::Slower),
            finding("test_cancel", P99, 1_900.0, 0.011, 0.0, FindingClass::Unclear),
            finding(
                "test_cancel",
                Metric::Latency(LatencyStat::Max),
                99_000.0,
                0.8,
                0.0,
                not_gated("the policy does not name it"),
            ),
        ],
    );
    verdict.notes.push("test_match[1000]: the baseline has one slow process in 14".into());
    verdict
}

pub(super) fn rejected() -> Report {
    judged(rejected_verdict())
}

fn inconclusive() -> Report {
    let settle = "darwin compare --suite SUITE --baseline REF --challenger REF";
    let verdict = Verdict {
        method: Method::FewPairs,
        pairs: 1,
        looks: Vec::new(),
        looks_taken: 0,
        seed: None,
        assumption: Some("assumes process-to-process noise of at most 5%".into()),
        settle_with: Some(settle.into()),
        ..verdict(
            Decision::Inconclusive,
            Reason::NotEnoughPairs { pairs: 1, max: 1 },
            vec![finding("test_match[1000]", P50, 31_000.0, 0.01, 0.17, FindingClass::Unclear)],
        )
    };
    let header = Header {
        baseline: Some("baseline.json".into()),
        challenger: Some("challenger.json".into()),
        ..Header::default()
    };
    Report::new(header, Outcome::Judged(Box::new(verdict)))
}

fn failed() -> Report {
    let failure = Failure {
        stage: Stage::Check,
        arm: Arm::Challenger,
        variant: "broken@9f8e7d6".into(),
        cause: FailureCause::ExitCode(1),
        log_tail:
            "tests/unit/test_book.py \u{1b}[31mF\u{1b}[0m\n\n::error::not a command\n>       assert 2 == 1\n"
                .into(),
    };
    Report::new(Header { rounds: None, ..header() }, Outcome::Failed(failure))
}

fn measured() -> Report {
    let series = |bench: &str, metric, unit, center: f64| MeasuredSeries {
        series: SeriesKey::new(bench, metric),
        unit,
        center,
        least: center * 0.9,
        most: center * 1.2,
        invocations: 5,
        samples: 15_000,
    };
    let all = vec![
        series("test_match[1000]", P50, Unit::Nanoseconds, 31_000.0),
        series("test_match[1000]", Metric::Throughput, Unit::PerSecond, 12_500.0),
        series(PROCESS_BENCH, Metric::MemoryPeak, Unit::Bytes, 64.0 * 1024.0 * 1024.0),
    ];
    Report::new(Header { challenger: None, ..header() }, Outcome::Measured(all))
}

/// Names that mean harm to a terminal, a table, a page, a document and a workflow's log.
pub(super) fn nasty() -> Report {
    let names = [
        "a|b",
        "<img src=x onerror=alert(1)>",
        "\u{1b}[2J\u{202e}evil",
        "x\n::error::injected\n",
        "@everyone [x](http://example.com) `code` ]]> & \" '",
        "стакан 🚀 \u{0}",
    ];
    let findings =
        names.iter().map(|name| finding(name, P50, 100.0, 0.2, 0.01, FindingClass::Slower)).collect();
    let mut verdict = verdict(Decision::Reject, Reason::SlowerProven { slower: 6, of: 6 }, findings);
    verdict.notes.push("\u{1b}]0;title\u{7} <b>".into());
    let header = Header {
        suite: Some("a|b\n::warning::x".into()),
        baseline: Some("<script>@main".into()),
        ..header()
    };
    Report::new(header, Outcome::Judged(Box::new(verdict)))
}

/// A report with so many slower benches.
pub(super) fn huge(benches: usize) -> Report {
    let findings = (0..benches)
        .map(|n| finding(&format!("test_bench[{n}]"), P50, 100.0, 0.2, 0.01, FindingClass::Slower))
        .collect();
    let mut verdict = verdict(Decision::Reject, Reason::SlowerProven { slower: 5_000, of: 5_000 }, findings);
    verdict.notes.push("a note that must not be cut".into());
    judged(verdict)
}

/// One for each way in which a job ends.
pub(super) fn all() -> Vec<(&'static str, Report)> {
    let ended = |outcome| Report::new(Header { rounds: None, ..header() }, outcome);
    vec![
        ("approve", approved()),
        ("reject", rejected()),
        ("inconclusive", inconclusive()),
        ("failed", failed()),
        ("measured", measured()),
        ("cancelled", ended(Outcome::Cancelled { by: "ada".into() })),
        ("expired", ended(Outcome::Expired)),
        (
            "parked",
            ended(Outcome::Parked {
                why: "infrastructure failed too often; the last attempt: the agent fell silent and its lease ended"
                    .into(),
            }),
        ),
        ("nasty", nasty()),
    ]
}
