//! What the gate does with blocks, good and bad, one behaviour a test.

mod common;

use std::collections::BTreeMap;

use common::{MEAN, Noise, P50, P99, SEED, block, key, p50_blocks, run, seen};
use darwin_gate::{
    Absent, Better, Block, BlockError, Decision, EndOfData, Evidence, FindingClass, Gate, Leading,
    LookReport, Method, Metric, MetricPolicy, Mode, Observation, Policy, Ratio, Reason, Step, Unit,
};

fn named(metric: Metric, margin_percent: u8) -> BTreeMap<Metric, MetricPolicy> {
    let margin = Ratio::from_percent(margin_percent);
    BTreeMap::from([(metric, MetricPolicy { margin, floor: Ratio::ZERO, gated: true })])
}

#[test]
fn clear_changes_are_judged_at_an_early_look() {
    let slower = run(Policy::default(), &p50_blocks(&Noise::new(1).normals(40, 0.05, 0.01)));
    assert_eq!(slower.decision, Decision::Reject);
    assert_eq!(slower.reason, Reason::SlowerProven { slower: 1, of: 1 });
    assert_eq!((slower.pairs, slower.looks_taken, slower.method), (14, 2, Method::AdaptiveSignFlip));
    let finding = &slower.findings[0];
    assert_eq!(finding.class, FindingClass::Slower);
    let (low, high) = finding.interval.unwrap();
    assert!(low < finding.delta && finding.delta < high && low > Ratio::ZERO);
    assert!((finding.challenger / finding.baseline - 1.0 - finding.delta.get()).abs() < 1e-12);

    let faster = run(Policy::default(), &p50_blocks(&Noise::new(2).normals(40, -0.05, 0.01)));
    assert_eq!(faster.decision, Decision::Approve);
    assert_eq!(faster.reason, Reason::FasterProven { faster: 1, of: 1 });
    assert_eq!(faster.assumption, None);
}

#[test]
fn no_change_is_proven_and_named() {
    let quiet = p50_blocks(&Noise::new(3).normals(40, 0.0, 0.002));
    let verdict = run(Policy::default(), &quiet);
    assert_eq!((verdict.decision, &verdict.reason), (Decision::Inconclusive, &Reason::NoChangeProven));
    assert_eq!(verdict.findings[0].class, FindingClass::Same);
    let no_slower = run(Policy { mode: Mode::NoSlower, ..Policy::default() }, &quiet);
    assert_eq!(
        (no_slower.decision, no_slower.reason),
        (Decision::Approve, Reason::NotSlowerProven { series: 1 })
    );
}

#[test]
fn noise_is_called_noise_with_the_pairs_that_it_needs() {
    let mut noise = Noise::new(4);
    let blocks: Vec<Block> = (0..40)
        .map(|round| {
            let (baseline, challenger) = (0.03 * noise.normal(), 0.03 * noise.normal());
            block(round, &[(key("b", P50), 1e3 * baseline.exp(), challenger - baseline)])
        })
        .collect();
    let verdict = run(Policy::default(), &blocks);
    assert_eq!(verdict.decision, Decision::Inconclusive);
    let Reason::TooNoisy { needs, pairs: 40, .. } = verdict.reason else { panic!("{}", verdict.reason) };
    assert!((200..800).contains(&needs), "{needs}");
    assert!(verdict.settle_with.unwrap().contains(&needs.to_string()));
}

#[test]
fn a_worse_tail_spoils_a_better_median() {
    let mut noise = Noise::new(5);
    let blocks: Vec<Block> = (0..40)
        .map(|round| {
            let (fast, slow) = (-0.05 + 0.01 * noise.normal(), 0.12 + 0.02 * noise.normal());
            block(round, &[(key("b", P50), 100.0, fast), (key("b", P99), 900.0, slow)])
        })
        .collect();
    let verdict = run(Policy::default(), &blocks);
    assert_eq!(verdict.decision, Decision::Reject);
    let classes: Vec<_> = verdict.findings.iter().map(|f| &f.class).collect();
    assert_eq!(classes, [&FindingClass::Faster, &FindingClass::Slower]);
}

#[test]
fn bigger_is_better_for_throughput() {
    let blocks: Vec<Block> = (0..40)
        .zip(Noise::new(6).normals(40, 0.2, 0.01))
        .map(|(round, d)| {
            let mut block = block(round, &[(key("b", Metric::Throughput), 1e4, d)]);
            for side in [&mut block.baseline, &mut block.challenger] {
                for seen in side.values_mut() {
                    seen.unit = Unit::PerSecond;
                }
            }
            block
        })
        .collect();
    let policy = Policy { primary: Some(Metric::Throughput), ..Policy::default() };
    let verdict = run(policy, &blocks);
    assert_eq!(verdict.decision, Decision::Approve);
    let finding = &verdict.findings[0];
    assert_eq!((finding.better, finding.class.clone()), (Better::Bigger, FindingClass::Faster));
    let (low, high) = finding.interval.unwrap();
    assert!(low < finding.delta && finding.delta < high);
    assert!((finding.delta.get() - 0.2214).abs() < 0.02, "{}", finding.delta);
    assert!(finding.challenger > finding.baseline);
    // Without naming it, throughput alone is nothing to judge by.
    let unnamed = run(Policy::default(), &blocks);
    assert_eq!(unnamed.reason, Reason::NothingComparable);
    assert!(
        matches!(&unnamed.findings[0].class, FindingClass::NotGated { why } if why.contains("does not name"))
    );
}

#[test]
fn blocks_come_once_and_in_order() {
    let blocks = p50_blocks(&[0.0; 40]);
    let mut gate = Gate::new(Policy::default(), Some(SEED)).unwrap();
    assert_eq!(gate.push(&blocks[1]), Err(BlockError::Gap { round: 1, expected: 0 }));
    assert_eq!(gate.push(&blocks[0]), Ok(Step::Continue));
    let before = gate.progress();
    assert_eq!(gate.push(&blocks[0]), Err(BlockError::Duplicate { round: 0, expected: 1 }));
    assert_eq!(gate.push(&blocks[2]), Err(BlockError::Gap { round: 2, expected: 1 }));
    assert_eq!(gate.progress(), before);
    for block in &blocks[1..13] {
        assert!(!matches!(gate.push(block).unwrap(), Step::Decided(_)));
    }
    // Pairs without any noise: proven at the second look.
    assert!(matches!(gate.push(&blocks[13]).unwrap(), Step::Decided(_)));
    assert_eq!(gate.push(&blocks[14]), Err(BlockError::AlreadyDecided { round: 14, pairs: 14 }));
    assert_eq!(gate.push(&blocks[13]), Err(BlockError::Duplicate { round: 13, expected: 14 }));
    assert_eq!(gate.finish(EndOfData::Cancelled), *gate.verdict().unwrap());
}

#[test]
fn values_without_a_ratio_are_refused_and_change_nothing() {
    let good = p50_blocks(&[0.0]).remove(0);
    let mut texts = Vec::new();
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut bad = good.clone();
        bad.challenger.insert(key("b", P50), Observation { value, ..seen(1.0) });
        let mut gate = Gate::new(Policy::default(), None).unwrap();
        texts.push(gate.push(bad).unwrap_err().to_string());
        assert_eq!(gate.push(&good), Ok(Step::Continue));
    }
    let mut empty = good.clone();
    empty.baseline.insert(key("b", P50), Observation { samples: 0, ..seen(1.0) });
    texts.push(Gate::new(Policy::default(), None).unwrap().push(empty).unwrap_err().to_string());
    let mut other_unit = good.clone();
    other_unit.challenger.insert(key("b", P50), Observation { unit: Unit::Bytes, ..seen(1.0) });
    texts.push(Gate::new(Policy::default(), None).unwrap().push(other_unit).unwrap_err().to_string());
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_bench_that_vanishes_is_never_green() {
    let two = |round, both: bool| {
        let mut series = vec![(key("a", P50), 10.0, -0.2)];
        if both {
            series.push((key("z", P50), 10.0, -0.2));
        }
        block(round, &series)
    };
    // Gone in a later round on both sides.
    let blocks: Vec<Block> = (0..40).map(|round| two(round, round < 12)).collect();
    let verdict = run(Policy::default(), &blocks);
    assert_eq!(verdict.decision, Decision::Inconclusive);
    let gone = |absent, round| Reason::BenchMissing { bench: "z".to_owned(), absent, round, count: 1 };
    assert_eq!(verdict.reason, gone(Absent::Both, 12));
    // Never there in the challenger.
    let mut blocks: Vec<Block> = (0..40).map(|round| two(round, true)).collect();
    for b in &mut blocks {
        b.challenger.remove(&key("z", P50));
    }
    assert_eq!(run(Policy::default(), &blocks).reason, gone(Absent::Challenger, 0));
    // New in the challenger: a note, and the rest is judged.
    let mut blocks: Vec<Block> = (0..40).map(|round| two(round, true)).collect();
    for b in &mut blocks {
        b.baseline.remove(&key("z", P50));
    }
    let verdict = run(Policy::default(), &blocks);
    assert_eq!(verdict.decision, Decision::Approve);
    assert_eq!(verdict.notes, ["new in the challenger, nothing to compare with: z"]);
    // A slowdown is still a slowdown.
    let blocks: Vec<Block> = (0..40)
        .map(|round| {
            let mut b = block(round, &[(key("a", P50), 10.0, 0.2), (key("z", P50), 10.0, 0.0)]);
            b.challenger.remove(&key("z", P50));
            b
        })
        .collect();
    let mut gate = Gate::new(Policy { looks: vec![14, 40], ..Policy::default() }, None).unwrap();
    let steps: Vec<Step> = blocks[..14].iter().map(|b| gate.push(b).unwrap()).collect();
    assert!(matches!(steps.last(), Some(Step::Decided(v)) if v.decision == Decision::Reject));
}

#[test]
fn what_the_policy_asks_for_must_be_there() {
    let blocks = p50_blocks(&[-0.2; 40]);
    let policy = Policy { metrics: named(Metric::MemoryPeak, 5), ..Policy::default() };
    assert_eq!(run(policy.clone(), &blocks).reason, Reason::MetricMissing { metric: Metric::MemoryPeak });
    let mut one_sided = blocks;
    let memory = key("b", Metric::MemoryPeak);
    let peak = Observation { unit: Unit::Bytes, samples: 1, ..seen(1e6) };
    for b in &mut one_sided {
        b.baseline.insert(memory.clone(), peak);
    }
    let reason = run(policy, &one_sided).reason;
    assert_eq!(reason, Reason::SeriesMissing { series: memory, absent: Absent::Challenger, round: 0 });
    // Unasked, it is no concern of the gate's.
    assert_eq!(run(Policy::default(), &one_sided).decision, Decision::Approve);
}

#[test]
fn a_tail_needs_samples_and_the_right_evidence() {
    let why = |samples, evidence, policy: &Policy| {
        let blocks: Vec<Block> = (0..14)
            .map(|round| {
                let mut b = block(round, &[(key("b", P50), 10.0, -0.2), (key("b", P99), 90.0, 0.3)]);
                for side in [&mut b.baseline, &mut b.challenger] {
                    for s in side.values_mut() {
                        (s.samples, s.evidence) = (samples, evidence);
                    }
                }
                b
            })
            .collect();
        let mut findings = run(policy.clone(), &blocks).findings;
        match findings.remove(1).class {
            FindingClass::NotGated { why } => why,
            class => class.to_string(),
        }
    };
    let default = Policy::default();
    let asked = Policy { metrics: named(P99, 5), ..Policy::default() };
    assert_eq!(why(1_999, Evidence::A, &default), "p99 needs 2000 samples per invocation, and one had 1999");
    assert_eq!(why(2_000, Evidence::A, &default), "slower");
    assert_eq!(
        why(2_000, Evidence::B, &default),
        "it is a p99 of batch means; name latency.p99 in the policy to gate on it"
    );
    assert_eq!(why(2_000, Evidence::B, &asked), "slower");
    assert_eq!(why(10, Evidence::A, &asked), "p99 needs 2000 samples per invocation, and one had 10");
}

#[test]
fn the_end_of_the_data_says_what_it_says() {
    // Four pairs of five are slower: Z(0) = 14 / sqrt(24) = 2.86, too little for the looks up to 20 pairs, and
    // enough once all of alpha may be spent.
    let d: Vec<f64> = (0..24).map(|i| if i % 5 == 2 { -0.03 } else { 0.03 }).collect();
    let blocks = p50_blocks(&d);
    let mut gate = Gate::new(common::reference_policy(), Some(SEED)).unwrap();
    for block in &blocks {
        assert!(!matches!(gate.push(block).unwrap(), Step::Decided(_)));
    }
    let ended = gate.finish(EndOfData::TimeBudget);
    assert_eq!((ended.decision, ended.pairs, ended.looks_taken), (Decision::Reject, 24, 4));
    assert_eq!(ended.notes, ["the data ended early: look 4 was taken at 24 pairs with all of alpha"]);
    let cancelled = gate.finish(EndOfData::Cancelled);
    assert_eq!(
        (cancelled.decision, cancelled.reason),
        (Decision::Inconclusive, Reason::Cancelled { pairs: 24 })
    );
    let failed = gate.finish(EndOfData::ChallengerFailed { failed: 3, of: 27 });
    assert_eq!(failed.reason, Reason::ChallengerFailed { failed: 3, of: 27 });
    assert_eq!(gate.finish(EndOfData::ChallengerFailed { failed: 2, of: 26 }).reason, ended.reason);
    let disturbed = gate.finish(EndOfData::Disturbed { voided: 7, of: 31 });
    assert_eq!(disturbed.decision, Decision::Inconclusive);
    assert_eq!(gate.progress().decided, None);
}

#[test]
fn a_look_reports_what_stands_out() {
    let mut gate = Gate::new(Policy::default(), Some(SEED)).unwrap();
    let mut noise = Noise::new(12);
    let mut last = Step::Continue;
    for round in 0..14 {
        let (dull, bright) = (0.03 * noise.normal(), -0.02 + 0.03 * noise.normal());
        last = gate.push(block(round, &[(key("a", P50), 1.0, dull), (key("z", P50), 1.0, bright)])).unwrap();
    }
    let Step::Look(look) = last else { panic!("{last:?}") };
    assert_eq!((look.pairs, look.next_look), (14, Some(20)));
    let leading = look.leading.unwrap();
    assert_eq!(leading.series.bench, "z");
    let (low, high) = leading.interval.unwrap();
    assert!(low < leading.delta && leading.delta < high);
    assert_eq!(gate.progress().next_look, Some(20));
    // The line that is printed, and what it says where nothing is known yet.
    let line = |delta: f64, interval: Option<(f64, f64)>, next_look| {
        let ratio = |percent: f64| Ratio::new(percent / 100.0).unwrap();
        let interval = interval.map(|(low, high)| (ratio(low), ratio(high)));
        let leading = Some(Leading { series: key("match", P99), delta: ratio(delta), interval });
        LookReport { pairs: 14, max_pairs: 40, next_look, leading }.to_string()
    };
    insta::assert_snapshot!(
        [
            line(-18.94, Some((-22.0, -15.06)), Some(20)),
            line(0.04, Some((-0.04, 250.0)), None),
            line(1.0, None, Some(20)),
            LookReport { pairs: 14, max_pairs: 40, next_look: Some(20), leading: None }.to_string(),
        ]
        .join("\n")
    );
}

#[test]
fn nothing_at_all_is_inconclusive() {
    let gate = Gate::new(Policy::default(), None).unwrap();
    let verdict = gate.finish(EndOfData::MaxPairs);
    assert_eq!((verdict.decision, verdict.reason), (Decision::Inconclusive, Reason::NothingComparable));
    let mut gate = Gate::new(Policy::default().with_max_pairs(1), None).unwrap();
    let empty = Block { baseline: BTreeMap::new(), challenger: BTreeMap::new(), ..block(0, &[]) };
    let Step::Decided(verdict) = gate.push(empty).unwrap() else { panic!("undecided") };
    assert_eq!(verdict.reason, Reason::NothingComparable);
}

#[test]
fn extreme_values_stay_finite() {
    let blocks: Vec<Block> = (0..14)
        .map(|round| {
            let mut b = block(round, &[(key("b", P50), f64::MIN_POSITIVE, 0.0)]);
            b.challenger.insert(key("b", P50), seen(f64::MAX));
            b
        })
        .collect();
    let json = serde_json::to_string(&run(Policy::default(), &blocks)).unwrap();
    assert!(json.contains("REJECT") && !json.contains("null,\"challenger"), "{json}");
    let back: darwin_gate::Verdict = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
}

#[test]
fn ten_thousand_benches_are_judged_in_one_gate() {
    let policy = Policy { alpha: 0.4, ..Policy::default().with_max_pairs(40) };
    let series: Vec<_> = (0..10_000).map(|i| (key(&format!("bench {i:05}"), P50), 100.0, 0.1)).collect();
    let mut gate = Gate::new(policy, Some(SEED)).unwrap();
    let mut steps = (0..40).map(|round| gate.push(block(round, &series)).unwrap());
    let verdict = steps.find_map(|s| if let Step::Decided(v) = s { Some(v) } else { None }).unwrap();
    assert_eq!(verdict.decision, Decision::Reject);
    assert_eq!(verdict.findings.len(), 10_000);
}

#[test]
fn every_gated_series_costs_a_reject_its_share_of_alpha() {
    // 19 of 24 pairs are slower, which the coin alone does with 0.33%: enough for one series, not for one of 13.
    let verdict = |companion: bool| {
        let mut gate = Gate::new(common::reference_policy(), Some(SEED)).unwrap();
        for round in 0..24 {
            let mut series = vec![(key("b", P50), 10.0, if round % 5 == 2 { -0.03 } else { 0.03 })];
            if companion {
                series.extend((0..12).map(|other| (key(&format!("c{other}"), P50), 10.0, 0.0)));
            }
            assert!(!matches!(gate.push(block(round, &series)).unwrap(), Step::Decided(_)));
        }
        gate.finish(EndOfData::MaxPairs).decision
    };
    assert_eq!((verdict(false), verdict(true)), (Decision::Reject, Decision::Inconclusive));
}

/// Blocks as a timed command gives them: one latency, which is its own mean, and one peak of memory.
fn commands(latency: f64) -> Vec<Block> {
    let series = [(key("process", MEAN), 2e7, latency), (key("process", Metric::MemoryPeak), 1e6, 0.0)];
    (0..14).map(|round| block(round, &series)).collect()
}

#[test]
fn the_mean_stands_in_where_there_is_no_median() {
    for (latency, decision) in [(-0.2, Decision::Approve), (0.2, Decision::Reject)] {
        let verdict = run(Policy::default(), &commands(latency));
        assert_eq!(verdict.decision, decision);
        let gated: Vec<(String, bool)> = verdict
            .findings
            .iter()
            .filter(|f| f.gated)
            .map(|f| (f.series.metric.to_string(), f.primary))
            .collect();
        assert_eq!(gated, [("latency.mean".to_owned(), true)]);
    }
    let few = run(Policy::default().with_max_pairs(1), &commands(-0.9)[..1]);
    assert_eq!(few.decision, Decision::Approve);
}

#[test]
fn the_mean_stands_in_for_nothing_that_is_there_or_was_named() {
    // This bench has a median; its better mean proves nothing.
    let series = [(key("b", P50), 1e3, 0.0), (key("b", MEAN), 1e3, -0.3)];
    let blocks: Vec<Block> = (0..14).map(|round| block(round, &series)).collect();
    let verdict = run(Policy::default(), &blocks);
    assert_eq!(verdict.reason, Reason::NoChangeProven);
    assert!(verdict.findings.iter().all(|f| f.gated == (f.series.metric == P50)));
    // Whoever names the median means it, and is told what there is instead.
    let verdict = run(Policy { primary: Some(P50), ..Policy::default() }, &commands(-0.2));
    assert_eq!(verdict.reason, Reason::NothingComparable);
    assert!(
        verdict.notes.iter().any(|note| note.contains("latency.mean, memory.peak")),
        "{:?}",
        verdict.notes
    );
    // A mean that the policy only reports is not gated in its place either.
    let mut metrics = named(MEAN, 2);
    for metric in metrics.values_mut() {
        metric.gated = false;
    }
    let verdict = run(Policy { metrics, ..Policy::default() }, &commands(-0.2));
    assert_eq!(verdict.reason, Reason::NothingComparable);
}

#[test]
fn a_named_margin_of_the_mean_holds_where_it_stands_in() {
    let blocks = commands(0.1);
    assert_eq!(run(Policy::default(), &blocks).decision, Decision::Reject);
    let verdict = run(Policy { metrics: named(MEAN, 20), ..Policy::default() }, &blocks);
    assert_eq!(verdict.decision, Decision::Inconclusive);
    assert!(verdict.findings[0].gated && verdict.findings[0].primary);
}
