//! Series of counts: what a process uses is often the same number every time.
#![expect(clippy::unwrap_used, reason = "test code")]

mod common;

use std::collections::BTreeMap;

use common::{SEED, key, run};
use darwin_gate::{
    Block, Builds, Decision, Evidence, FindingClass, Metric, MetricPolicy, Mode, Observation, Policy, Ratio,
    Reason, Unit, Verdict, order,
};

/// Gates one count, of which at most 0.5% more is accepted.
fn policy(metric: Metric) -> Policy {
    let margin = Ratio::new(0.005).unwrap();
    let rule = MetricPolicy { margin, floor: Ratio::ZERO, gated: true };
    Policy {
        mode: Mode::NoSlower,
        primary: Some(metric.clone()),
        metrics: BTreeMap::from([(metric, rule)]),
        ..Policy::default()
    }
}

/// Rounds of one count on both sides.
fn rounds(metric: &Metric, unit: Unit, count: u32, pair: impl Fn(u32) -> (f64, f64)) -> Vec<Block> {
    let side = |value| {
        let seen = Observation { value, samples: 1, evidence: Evidence::A, unit };
        BTreeMap::from([(key("process", metric.clone()), seen)])
    };
    (0..count)
        .map(|round| {
            let (baseline, challenger) = pair(round);
            Block {
                round,
                order: order(SEED, round),
                baseline: side(baseline),
                challenger: side(challenger),
                builds: Builds::default(),
            }
        })
        .collect()
}

fn judged(metric: &Metric, unit: Unit, pair: impl Fn(u32) -> (f64, f64)) -> Verdict {
    let verdict = run(policy(metric.clone()), &rounds(metric, unit, 40, pair));
    let json = serde_json::to_string(&verdict).unwrap();
    assert!(!json.contains("null,null") && !json.contains("NaN"), "{json}");
    for finding in &verdict.findings {
        assert!(finding.delta.get().is_finite(), "{finding:?}");
    }
    verdict
}

#[test]
fn a_count_that_never_changes_is_not_slower_and_one_percent_more_is() {
    for (metric, unit, value) in [
        (Metric::Instructions, Unit::Count, 1_234_567_890.0),
        (Metric::MemoryPeak, Unit::Bytes, 222_298_112.0),
        (Metric::CpuTime, Unit::Nanoseconds, 40_000_000.0),
        (Metric::BranchMisses, Unit::Count, 3.0),
    ] {
        let same = judged(&metric, unit, |_| (value, value));
        assert_eq!(same.decision, Decision::Approve, "{metric}: {}", same.reason);
        assert_eq!(same.findings[0].class, FindingClass::Same, "{metric}");
        assert!(same.findings[0].delta.get().abs() < 1e-12, "{metric}");

        let more = judged(&metric, unit, |_| (value, value * 1.01));
        assert_eq!(more.decision, Decision::Reject, "{metric}: {}", more.reason);
        let finding = &more.findings[0];
        let (low, high) = finding.interval.unwrap();
        assert!((finding.delta.get() - 0.01).abs() < 1e-9, "{metric}: {finding:?}");
        assert!(low.get() > 0.009 && high.get() < 0.011, "{metric}: {finding:?}");

        let less = judged(&metric, unit, |_| (value, value * 0.99));
        assert_eq!(less.decision, Decision::Approve, "{metric}: {}", less.reason);
    }
}

#[test]
fn a_constant_with_one_odd_round_stays_the_same() {
    for at in [0, 7, 39] {
        let step = |round| (1e9, if round == at { 1.01e9 } else { 1e9 });
        let verdict = judged(&Metric::Instructions, Unit::Count, step);
        assert_eq!(verdict.decision, Decision::Approve, "round {at}: {}", verdict.reason);
        assert!(verdict.findings[0].delta.get().abs() < 1e-6, "{:?}", verdict.findings[0]);
    }
    // The step comes, and stays on both sides: the box changed, not the code.
    let both = |round| if round < 20 { (1e9, 1e9) } else { (1.01e9, 1.01e9) };
    assert_eq!(judged(&Metric::Instructions, Unit::Count, both).decision, Decision::Approve);
}

#[test]
fn thirty_percent_more_memory_is_rejected_where_memory_is_gated_and_reported_where_not() {
    let noisy = |round: u32| {
        let noise = f64::from(round * 37 % 11) * 4096.0;
        (64e6 + noise, 83.2e6 + noise)
    };
    let blocks = rounds(&Metric::MemoryPeak, Unit::Bytes, 40, noisy);
    assert_eq!(judged(&Metric::MemoryPeak, Unit::Bytes, noisy).decision, Decision::Reject);
    let by_default = run(Policy::default(), &blocks);
    assert_ne!(by_default.decision, Decision::Reject, "{}", by_default.reason);
    assert!(matches!(by_default.findings[0].class, FindingClass::NotGated { .. }));
}

#[test]
fn a_counter_that_one_round_lacks_proves_nothing() {
    let metric = Metric::Instructions;
    let mut blocks = rounds(&metric, Unit::Count, 40, |_| (1e9, 0.9e9));
    blocks[3].baseline.clear();
    blocks[3].challenger.clear();
    let verdict = run(policy(metric.clone()), &blocks);
    assert_eq!(verdict.decision, Decision::Inconclusive, "{}", verdict.reason);
    let none: Vec<Block> = blocks
        .iter()
        .map(|block| Block { baseline: BTreeMap::new(), challenger: BTreeMap::new(), ..block.clone() })
        .collect();
    let verdict = run(policy(metric.clone()), &none);
    assert!(matches!(verdict.reason, Reason::MetricMissing { .. }), "{}", verdict.reason);
}
