//! Equality with the reference implementation of the method, on numbers that it wrote.

use darwin_gate::bounds::Boundaries;
use darwin_gate::score::Pairs;
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
