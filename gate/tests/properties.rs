//! What holds for any blocks.

mod common;

use common::{P50, P99, SEED, block, key, p50_blocks, run};
use darwin_gate::{Block, Decision, EndOfData, Gate, Policy, Step};
use proptest::prelude::*;

/// Log ratios of three benches over 1 to 45 rounds.
fn rounds() -> impl Strategy<Value = Vec<[f64; 3]>> {
    prop::collection::vec(prop::array::uniform3(-0.2f64..0.2), 1..45)
}

fn blocks(rounds: &[[f64; 3]], names: [&str; 3]) -> Vec<Block> {
    (0..)
        .zip(rounds)
        .map(|(round, d)| {
            block(
                round,
                &[
                    (key(names[0], P50), 100.0, d[0]),
                    (key(names[1], P50), 5e6, d[1]),
                    (key(names[1], P99), 9e6, d[2]),
                ],
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_is_identical(rounds in rounds()) {
        let blocks = blocks(&rounds, ["a", "b", "c"]);
        let json = |verdict| serde_json::to_string(&verdict).unwrap();
        let first = json(run(Policy::default(), &blocks));
        prop_assert_eq!(&first, &json(run(Policy::default(), &blocks)));
        // Through storage and back.
        let stored = serde_json::to_string(&blocks).unwrap();
        let read: Vec<Block> = serde_json::from_str(&stored).unwrap();
        let policy = serde_json::to_string(&Policy::default()).unwrap();
        let policy: Policy = serde_json::from_str(&policy).unwrap();
        prop_assert_eq!(&first, &json(run(policy, &read)));
        let old = json(run(common::reference_policy(), &blocks));
        prop_assert_eq!(&old, &json(run(common::reference_policy(), &read)));
        prop_assert!(!first.contains("NaN") && !first.contains("inf"));
    }

    #[test]
    fn names_and_their_order_do_not_matter(rounds in rounds()) {
        let one = run(Policy::default(), &blocks(&rounds, ["a", "b", "c"]));
        let other = run(Policy::default(), &blocks(&rounds, ["z", "b", "a"]));
        prop_assert_eq!((one.decision, one.pairs), (other.decision, other.pairs));
        for finding in &one.findings {
            let name = if finding.series.bench == "a" { "z" } else { "b" };
            let twin = other.findings.iter().find(|f| f.series == key(name, finding.series.metric.clone())).unwrap();
            prop_assert_eq!((finding.delta, finding.interval, &finding.class), (twin.delta, twin.interval, &twin.class));
        }
    }

    #[test]
    fn nothing_slower_in_every_pair_is_approved(worse in prop::collection::vec(1e-6f64..0.3, 1..45)) {
        prop_assert_ne!(run(Policy::default(), &p50_blocks(&worse)).decision, Decision::Approve);
    }

    #[test]
    fn nothing_faster_in_every_pair_is_rejected(better in prop::collection::vec(-0.3f64..-1e-6, 1..45)) {
        prop_assert_ne!(run(Policy::default(), &p50_blocks(&better)).decision, Decision::Reject);
    }

    #[test]
    fn a_finished_gate_can_go_on(rounds in rounds()) {
        // finish asks, it does not change: the same gate takes the next blocks as if nobody had asked.
        let blocks = blocks(&rounds, ["a", "b", "c"]);
        let mut gate = Gate::new(Policy::default(), Some(SEED)).unwrap();
        let mut decided = None;
        for block in &blocks {
            let _ = gate.finish(EndOfData::TimeBudget);
            if let Step::Decided(verdict) = gate.push(block).unwrap() {
                decided = Some(*verdict);
                break;
            }
        }
        let verdict = decided.unwrap_or_else(|| gate.finish(EndOfData::MaxPairs));
        prop_assert_eq!(verdict, run(Policy::default(), &blocks));
    }
}
