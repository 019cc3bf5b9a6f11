//! Equality with the reference implementation of the method, on numbers that it wrote.

mod common;

use std::collections::BTreeMap;

use common::{key, run};
use darwin_gate::bounds::Boundaries;
use darwin_gate::score::Pairs;
use darwin_gate::{Block, Decision, Metric, MetricPolicy, Mode, Policy, Ratio, Reason, Score};
use serde::Deserialize;

const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct File<T> {
    cases: Vec<T>,
}

#[derive(Deserialize)]
struct BoundsCase {
    looks: Vec<u32>,
    alpha: f64,
    z: Vec<f64>,
}

#[test]
fn boundaries_equal_the_reference() {
    let file: File<BoundsCase> = serde_json::from_str(include_str!("golden/bounds.json")).unwrap();
    for BoundsCase { looks, alpha, z } in file.cases {
        let ours = Boundaries::new(&looks, alpha);
        assert_eq!(ours.as_slice().len(), z.len());
        for (got, want) in ours.as_slice().iter().zip(&z) {
            assert!(
                (got - want).abs() < TOLERANCE,
                "{looks:?} alpha {alpha}: {:?} != {z:?}",
                ours.as_slice()
            );
        }
    }
}

#[derive(Deserialize)]
struct ScoreCase {
    name: String,
    d: Vec<f64>,
    t: Vec<f64>,
    z: Vec<f64>,
    crit: f64,
    centre: f64,
    low: f64,
    high: f64,
}

#[test]
fn scores_centres_and_intervals_equal_the_reference() {
    let file: File<ScoreCase> = serde_json::from_str(include_str!("golden/scores.json")).unwrap();
    let mut intervals = 0;
    for case in file.cases {
        let pairs = Pairs::new(&case.d);
        for (t, want) in case.t.iter().zip(&case.z) {
            let got = pairs.z(*t);
            assert!((got - want).abs() < TOLERANCE, "{} at {t}: {got} != {want}", case.name);
        }
        let centre = pairs.centre();
        // Where Z is flat at zero the reference takes any root, ours the middle one.
        let both_roots = [centre, case.centre].iter().all(|t| pairs.z(*t).abs() < TOLERANCE);
        assert!(
            both_roots || (centre - case.centre).abs() < TOLERANCE,
            "{}: {centre} != {}",
            case.name,
            case.centre
        );
        // The reference never looks outside the data; where its end is that edge, ours reaches as far or further.
        let (min, max) = case.d.iter().fold((f64::MAX, f64::MIN), |(a, b), d| (a.min(*d), b.max(*d)));
        let Some((low, high)) = pairs.interval(case.crit) else {
            assert!(
                case.crit * (1.0 + 1e-8) >= (case.d.len() as f64).sqrt(),
                "{} has an interval",
                case.name
            );
            continue;
        };
        intervals += 1;
        let same = |got: f64, want: f64, at_edge: bool, further: bool| {
            (got - want).abs() < TOLERANCE || (at_edge && further)
        };
        assert!(same(low, case.low, case.low <= min, low <= case.low), "{}: {low} {}", case.name, case.low);
        assert!(
            same(high, case.high, case.high >= max, high >= case.high),
            "{}: {high} {}",
            case.name,
            case.high
        );
    }
    assert!(intervals > 25, "only {intervals} intervals were compared");
}

#[derive(Deserialize)]
struct AdaptiveCase {
    name: String,
    d: Vec<f64>,
    t: Vec<f64>,
    z: Vec<f64>,
}

#[test]
fn adaptive_scores_equal_an_independent_writing() {
    let file: File<AdaptiveCase> = serde_json::from_str(include_str!("golden/adaptive.json")).unwrap();
    for case in file.cases {
        let pairs = Pairs::scored(&case.d, Score::Adaptive);
        for (t, want) in case.t.iter().zip(&case.z) {
            let got = pairs.z(*t);
            assert!((got - want).abs() < TOLERANCE, "{} at {t}: {got} != {want}", case.name);
        }
    }
}

#[derive(Deserialize)]
struct VerdictCase {
    looks: Vec<u32>,
    alpha: f64,
    mode: Mode,
    min_gain: f64,
    metrics: Vec<MetricCase>,
    verdict: String,
    pairs: u32,
}

#[derive(Deserialize)]
struct MetricCase {
    metric: Metric,
    margin: f64,
    floor: f64,
    d: Vec<f64>,
}

/// Margins, floors, gains, modes, one to three metrics, five kinds of noise: the same verdict at the same look.
#[test]
fn the_decision_table_equals_the_reference() {
    let file: File<VerdictCase> = serde_json::from_str(include_str!("golden/verdicts.json")).unwrap();
    for (number, case) in file.cases.into_iter().enumerate() {
        let rule = |m: &MetricCase| MetricPolicy {
            margin: Ratio::new(m.margin).unwrap(),
            floor: Ratio::new(m.floor).unwrap(),
            gated: true,
        };
        let metrics: BTreeMap<_, _> = case.metrics.iter().map(|m| (m.metric.clone(), rule(m))).collect();
        let max_pairs = *case.looks.last().unwrap();
        let policy = Policy {
            mode: case.mode,
            alpha: case.alpha,
            max_pairs,
            looks: case.looks,
            metrics,
            min_gain: Ratio::new(case.min_gain).unwrap(),
            ..common::reference_policy()
        };
        let blocks: Vec<Block> = (0..max_pairs)
            .map(|round| {
                let series =
                    case.metrics.iter().map(|m| (key("b", m.metric.clone()), 1e3, m.d[round as usize]));
                common::block(round, &series.collect::<Vec<_>>())
            })
            .collect();
        let verdict = run(policy, &blocks);
        let said = match (verdict.decision, &verdict.reason) {
            (Decision::Approve, _) => "APPROVE",
            (Decision::Reject, _) => "REJECT",
            (Decision::Inconclusive, Reason::NoChangeProven) => "NO_CHANGE",
            (Decision::Inconclusive, _) => "INCONCLUSIVE",
        };
        assert_eq!((said, verdict.pairs), (case.verdict.as_str(), case.pairs), "case {number}");
    }
}
