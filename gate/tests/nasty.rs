//! Nasty inputs, made by hand, each with its stated result.
#![expect(clippy::unwrap_used, reason = "test code")]

mod common;

use std::collections::BTreeMap;

use common::{P50, P99, SEED, block, key, p50_blocks, run, seen};
use darwin_gate::{
    Absent, Block, BlockError, Decision, EndOfData, FindingClass, Gate, Method, Observation, Policy, Ratio,
    Reason, Step, Verdict,
};

/// Whatever came in, what goes out can be written, read and written again, and holds no infinity.
fn is_sound(verdict: &Verdict) {
    let json = serde_json::to_string(verdict).unwrap();
    let back: Verdict = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
    for finding in &verdict.findings {
        assert!(finding.baseline.is_finite() && finding.challenger.is_finite(), "{finding:?}");
    }
}

fn judged(blocks: &[Block]) -> Verdict {
    let verdict = run(Policy::default(), blocks);
    is_sound(&verdict);
    verdict
}

/// Blocks of one bench's p50 with both values given.
fn values(pairs: &[(f64, f64)]) -> Vec<Block> {
    (0..)
        .zip(pairs)
        .map(|(round, (baseline, challenger))| {
            let mut b = block(round, &[(key("b", P50), *baseline, 0.0)]);
            b.challenger.insert(key("b", P50), seen(*challenger));
            b
        })
        .collect()
}

#[test]
fn all_equal_is_no_change() {
    let verdict = judged(&p50_blocks(&[0.0; 40]));
    assert_eq!((verdict.reason, verdict.pairs), (Reason::NoChangeProven, 14));
    assert!(verdict.findings[0].delta.get().abs() < 1e-12);
    let verdict = judged(&p50_blocks(&[0.05; 40]));
    assert_eq!((verdict.decision, verdict.pairs), (Decision::Reject, 14));
    let (low, high) = verdict.findings[0].interval.unwrap();
    assert!((low.get() - 0.05f64.exp_m1()).abs() < 1e-9 && (high.get() - low.get()).abs() < 1e-9);
}

#[test]
fn what_is_no_positive_number_is_refused_and_named() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -3.0] {
        for at in [0, 5, 13] {
            let mut gate = Gate::new(Policy::default(), Some(SEED)).unwrap();
            let blocks = p50_blocks(&[0.001; 14]);
            for good in &blocks[..at] {
                gate.push(good).unwrap();
            }
            let mut bad = blocks[at].clone();
            bad.baseline.insert(key("b", P50), Observation { value, ..seen(1.0) });
            let before = gate.progress();
            let refused = gate.push(&bad).unwrap_err();
            assert!(
                matches!(&refused, BlockError::BadValue { round, .. } if *round as usize == at),
                "{refused}"
            );
            assert!(refused.to_string().contains("latency.p50 of b"), "{refused}");
            assert_eq!(gate.progress(), before);
            // The gate goes on as if it had never been asked.
            assert!(gate.push(&blocks[at]).is_ok());
        }
    }
}

#[test]
fn one_pair_is_judged_under_an_assumption_or_not_at_all() {
    let one = |d: f64| {
        let verdict = run(Policy::default().with_max_pairs(1), &p50_blocks(&[d]));
        is_sound(&verdict);
        assert_eq!((verdict.method, verdict.assumption.is_some()), (Method::FewPairs, true));
        verdict.decision
    };
    assert_eq!((one(0.5), one(-0.5)), (Decision::Reject, Decision::Approve));
    assert_eq!(
        (one(0.02), one(0.0), one(-0.02)),
        (Decision::Inconclusive, Decision::Inconclusive, Decision::Inconclusive)
    );
    // One pair of a job that promised forty.
    let mut gate = Gate::new(Policy::default(), Some(SEED)).unwrap();
    gate.push(&p50_blocks(&[0.001])[0]).unwrap();
    let ended = gate.finish(EndOfData::TimeBudget);
    assert_eq!(ended.reason, Reason::NotEnoughPairs { pairs: 1, max: 40 });
}

#[test]
fn opposite_signs_prove_nothing() {
    let pairs: Vec<(f64, f64)> =
        (0..40).map(|i| if i % 2 == 0 { (100.0, 120.0) } else { (120.0, 100.0) }).collect();
    let verdict = judged(&values(&pairs));
    assert_eq!((verdict.decision, verdict.pairs), (Decision::Inconclusive, 40));
    assert!(matches!(verdict.reason, Reason::TooNoisy { .. }), "{}", verdict.reason);
    let finding = &verdict.findings[0];
    let (low, high) = finding.interval.unwrap();
    assert!(low < Ratio::ZERO && high > Ratio::ZERO && finding.delta.get().abs() < 1e-9);
}

#[test]
fn the_last_pair_need_not_be_a_look() {
    // A policy read from somewhere that plans no look at its end is refused with what would be right.
    let refused = Gate::new(Policy { max_pairs: 33, ..Policy::default() }, None).unwrap_err().to_string();
    assert!(refused.contains("max_pairs = 33"), "{refused}");
    // The usual way makes it one.
    let policy = Policy::default().with_max_pairs(33);
    assert_eq!(policy.looks, [10, 14, 20, 28, 33]);
    let noise: Vec<f64> = (0..33).map(|i| 0.2 * f64::from(i * 37 % 33) / 33.0 - 0.1).collect();
    let verdict = run(policy, &p50_blocks(&noise));
    assert_eq!((verdict.pairs, verdict.looks_taken), (33, 5));
}

#[test]
fn ten_thousand_benches_share_one_percent() {
    // All slower by 10% without noise, yet with 10,000 tests even that takes 40 pairs: Z is at most sqrt(40) = 6.3,
    // and the first look that can carry 1e-6 is the one at 28.
    let names: Vec<String> = (0..10_000).map(|i| format!("bench {i:05}")).collect();
    let blocks = |d: f64| -> Vec<Block> {
        (0..40)
            .map(|round| block(round, &names.iter().map(|n| (key(n, P50), 100.0, d)).collect::<Vec<_>>()))
            .collect()
    };
    let verdict = run(Policy::default(), &blocks(0.1));
    assert_eq!(verdict.reason, Reason::SlowerProven { slower: 10_000, of: 10_000 });
    assert!(verdict.pairs >= 28, "{}", verdict.pairs);
    assert!(verdict.notes.iter().any(|n| n.starts_with("rare slow processes were not looked for")));
    assert_eq!(run(Policy::default(), &blocks(0.0)).reason, Reason::NoChangeProven);
}

#[test]
fn a_metric_that_appears_late_decides_nothing_and_is_named() {
    let blocks: Vec<Block> = (0..40)
        .map(|round| {
            let mut series = vec![(key("b", P50), 10.0, -0.2)];
            if round >= 6 {
                series.push((key("b", P99), 90.0, -0.2));
            }
            block(round, &series)
        })
        .collect();
    let verdict = judged(&blocks);
    assert_eq!(verdict.decision, Decision::Inconclusive);
    let late = key("b", P99);
    assert_eq!(verdict.reason, Reason::SeriesMissing { series: late, absent: Absent::Both, round: 0 });
    let class = &verdict.findings[1].class;
    assert!(
        matches!(class, FindingClass::NotGated { why } if why == "missing in both variants in round 1"),
        "{class:?}"
    );
    // After the first look alpha is split already.
    let blocks: Vec<Block> = (0..40)
        .zip([0.03, -0.03].into_iter().cycle())
        .map(|(round, d)| {
            let mut series = vec![(key("b", P50), 10.0, d)];
            if round >= 11 {
                series.push((key("b", P99), 90.0, 0.5));
            }
            block(round, &series)
        })
        .collect();
    let verdict = judged(&blocks);
    assert_eq!(verdict.decision, Decision::Inconclusive, "{}", verdict.reason);
}

#[test]
fn one_side_missing_is_never_green() {
    for (challenger, absent) in [(true, Absent::Challenger), (false, Absent::Baseline)] {
        let mut blocks = p50_blocks(&[-0.3; 40]);
        let lost = &mut blocks[9];
        if challenger { &mut lost.challenger } else { &mut lost.baseline }.clear();
        let verdict = judged(&blocks);
        let gone = Reason::BenchMissing { bench: "b".to_owned(), absent, round: 9, count: 1 };
        assert_eq!((verdict.decision, verdict.reason), (Decision::Inconclusive, gone));
    }
}

#[test]
fn the_edges_of_the_numbers_are_numbers() {
    let tiny = f64::from_bits(1);
    // Subnormal values, equal and a factor apart.
    assert_eq!(judged(&values(&[(tiny, tiny); 14])).reason, Reason::NoChangeProven);
    assert_eq!(judged(&values(&[(tiny, 3.0 * tiny); 14])).decision, Decision::Reject);
    // Ratios of 1e300 and of all that there is.
    for (baseline, challenger) in [(1e-150, 1e150), (tiny, f64::MAX), (f64::MIN_POSITIVE, 1.0)] {
        let worse = judged(&values(&[(baseline, challenger); 14]));
        assert_eq!(worse.decision, Decision::Reject);
        assert_eq!(worse.findings[0].delta, Ratio::MAX);
        let better = judged(&values(&[(challenger, baseline); 14]));
        assert_eq!(better.decision, Decision::Approve);
        assert!((better.findings[0].delta.get() + 1.0).abs() < 1e-12);
    }
    // One such pair among sane ones is one pair.
    let mut pairs = vec![(100.0, 100.0); 40];
    pairs[3] = (1e-150, 1e150);
    pairs[30] = (tiny, f64::MAX);
    assert_eq!(judged(&values(&pairs)).reason, Reason::NoChangeProven);
    let mut few = Gate::new(Policy::default().with_max_pairs(2), None).unwrap();
    for b in values(&[(1e-150, 1e150), (tiny, f64::MAX)]) {
        if let Step::Decided(verdict) = few.push(b).unwrap() {
            is_sound(&verdict);
        }
    }
}

#[test]
fn empty_rounds_are_no_evidence() {
    let blocks: Vec<Block> = (0..40)
        .map(|round| Block { baseline: BTreeMap::new(), challenger: BTreeMap::new(), ..block(round, &[]) })
        .collect();
    assert_eq!(judged(&blocks).reason, Reason::NothingComparable);
}
