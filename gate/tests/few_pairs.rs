//! The few-pairs rule on saved files.

mod common;

use std::collections::BTreeMap;

use common::{P50, P99, block, key, run};
use darwin_gate::{
    Block, Decision, Evidence, FindingClass, Method, Metric, MetricPolicy, Mode, Policy, Ratio, Reason,
};

/// The medians of a saved pair of result files, in nanoseconds; and samples per bench.
const SAVED: [(&str, f64, f64, u64); 4] = [
    ("test_fill_book", 21_162.0, 10_575.0, 393),
    ("test_add_level[10]", 711.0, 581.0, 200),
    ("test_add_level[100]", 651.0, 631.0, 200),
    ("test_best", 153.83, 153.03, 1_261),
];

fn saved(value: impl Fn(f64, f64) -> (f64, f64)) -> Block {
    let mut block = block(0, &[]);
    for (bench, baseline, challenger, samples) in SAVED {
        let (a, b) = value(baseline, challenger);
        for metric in [P50, P99] {
            for (side, value) in [(&mut block.baseline, a), (&mut block.challenger, b)] {
                let seen = darwin_gate::Observation { samples, ..common::seen(value) };
                side.insert(key(bench, metric.clone()), seen);
            }
        }
    }
    block
}

fn one_pair() -> Policy {
    Policy::default().with_max_pairs(1)
}

#[test]
fn a_big_change_is_judged_with_its_assumption() {
    let verdict = run(one_pair(), &[saved(|a, b| (a, b))]);
    assert_eq!((verdict.decision, verdict.method), (Decision::Approve, Method::FewPairs));
    assert_eq!(verdict.reason, Reason::FasterProven { faster: 2, of: 4 });
    assert!((verdict.findings[6].baseline - 21_162.0).abs() < f64::EPSILON);
    assert!(
        matches!(&verdict.findings[7].class, FindingClass::NotGated { why } if why.contains("2000 samples"))
    );
    insta::assert_snapshot!(verdict.assumption.unwrap());
    let back = run(one_pair(), &[saved(|a, b| (b, a))]);
    assert_eq!((back.decision, back.reason), (Decision::Reject, Reason::SlowerProven { slower: 2, of: 4 }));
}

#[test]
fn a_small_change_is_not() {
    for factor in [1.0, 1.01, 0.99, 1.05, 0.95] {
        let verdict = run(one_pair(), &[saved(|a, _| (a, a * factor))]);
        assert_eq!(verdict.decision, Decision::Inconclusive, "factor {factor}");
        assert_eq!(verdict.reason, Reason::NotEnoughPairs { pairs: 1, max: 1 });
        assert!(verdict.settle_with.unwrap().contains("darwin compare"));
    }
}

#[test]
fn a_gain_with_a_loss_elsewhere_is_not_approved() {
    let mut block = saved(|a, b| (a, b));
    let worse = key("test_best", P50);
    block.challenger.insert(worse.clone(), common::seen(153.83 * 1.08));
    let verdict = run(one_pair(), &[block]);
    assert_eq!(verdict.decision, Decision::Inconclusive);
    assert_eq!(verdict.reason, Reason::FasterNotSafe { faster: 2, unproven: worse, unproven_count: 1 });
}

#[test]
fn no_slower_needs_a_proof_here_too() {
    let policy = Policy { mode: Mode::NoSlower, ..one_pair() };
    assert_eq!(run(policy.clone(), &[saved(|a, _| (a, a))]).decision, Decision::Inconclusive);
    assert_eq!(run(policy, &[saved(|a, _| (a, a * 0.5))]).decision, Decision::Approve);
}

#[test]
fn pairs_that_refute_the_assumption_are_not_believed() {
    // 30% faster on average, but three pairs that differ by far more than 5% noise allows.
    let d = [-0.75, -0.02, -0.3];
    let blocks: Vec<Block> = (0..).zip(d).map(|(r, d)| block(r, &[(key("b", P50), 10.0, d)])).collect();
    let verdict = run(Policy::default().with_max_pairs(3), &blocks);
    assert_eq!(verdict.decision, Decision::Inconclusive);
    let steady: Vec<Block> = (0..3).map(|r| block(r, &[(key("b", P50), 10.0, -0.357)])).collect();
    assert_eq!(run(Policy::default().with_max_pairs(3), &steady).decision, Decision::Approve);
}

#[test]
fn exact_counters_are_compared_exactly() {
    let margin = Ratio::from_percent(1);
    let policy = Policy {
        primary: Some(Metric::Instructions),
        metrics: BTreeMap::from([(
            Metric::Instructions,
            MetricPolicy { margin, floor: Ratio::ZERO, gated: true },
        )]),
        ..one_pair()
    };
    let verdict = |factor: f64| {
        let mut block = block(0, &[(key("b", Metric::Instructions), 1e6, factor.ln())]);
        for side in [&mut block.baseline, &mut block.challenger] {
            for s in side.values_mut() {
                (s.evidence, s.unit) = (Evidence::D, darwin_gate::Unit::Count);
            }
        }
        run(policy.clone(), &[block])
    };
    assert_eq!(verdict(1.02).decision, Decision::Reject);
    assert_eq!(verdict(0.999).decision, Decision::Approve);
    assert_eq!(verdict(1.0).reason, Reason::NoChangeProven);
    assert_eq!(verdict(1.005).reason, Reason::NoChangeProven);
}
