//! Equality with the reference implementation of the method, and of the gate with itself.

use darwin_gate::bounds::Boundaries;
use darwin_gate::mser::warm_up;
use darwin_gate::score::Pairs;
use darwin_gate::{Block, Mode};
use serde::Deserialize;

use crate::jury::{Bench, JuryError, MEAN, Margins, P50, P99, block, policy, verdict};
use crate::noise::{Model, Session};
use crate::stream::{Purpose, stream};
use crate::variants::{Effect, Potential};

/// The files that the gate's own tests use.
const BOUNDS: &str = include_str!("../../gate/tests/golden/bounds.json");
const SCORES: &str = include_str!("../../gate/tests/golden/scores.json");
const CUTS: &str = include_str!("../../gate/tests/golden/mser.json");

/// What the comparison can fail at.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// A golden file, or a verdict, is not what it should be.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The gate could not be asked.
    #[error(transparent)]
    Jury(#[from] JuryError),
}

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

#[derive(Deserialize)]
struct ScoreCase {
    d: Vec<f64>,
    t: Vec<f64>,
    z: Vec<f64>,
}

#[derive(Deserialize)]
struct CutCase {
    values: Vec<f64>,
    cut: usize,
}

/// How far the product is from the reference, and from itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviations {
    /// The largest difference of a boundary.
    pub boundary: f64,
    /// Boundaries compared.
    pub boundaries: usize,
    /// The largest difference of a score.
    pub score: f64,
    /// Scores compared.
    pub scores: usize,
    /// Warm-up cuts that differ.
    pub cuts_that_differ: usize,
    /// Warm-up cuts compared.
    pub cuts: usize,
    /// Verdicts that were not the same, byte for byte, when their blocks were replayed from JSON.
    pub replays_that_differ: usize,
    /// Verdicts replayed.
    pub replays: usize,
}

/// Compares with the golden files and replays some verdicts.
pub fn compare(seed: u64, replays: u32) -> Result<Deviations, GoldenError> {
    let (mut boundary, mut boundaries, mut score, mut scores) = (0.0f64, 0, 0.0f64, 0);
    for case in serde_json::from_str::<File<BoundsCase>>(BOUNDS)?.cases {
        let ours = Boundaries::new(&case.looks, case.alpha);
        for (index, want) in case.z.iter().enumerate() {
            boundary = boundary.max((ours.at(index) - want).abs());
            boundaries += 1;
        }
    }
    for case in serde_json::from_str::<File<ScoreCase>>(SCORES)?.cases {
        let pairs = Pairs::new(&case.d);
        for (t, want) in case.t.iter().zip(&case.z) {
            score = score.max((pairs.z(*t) - want).abs());
            scores += 1;
        }
    }
    let cuts = serde_json::from_str::<File<CutCase>>(CUTS)?.cases;
    let cuts_that_differ = cuts.iter().filter(|case| warm_up(&case.values) != case.cut).count();
    let mut replays_that_differ = 0;
    for trial in 0..replays {
        replays_that_differ += usize::from(!replays_alike(seed, trial)?);
    }
    let cuts = cuts.len();
    let replays = replays as usize;
    Ok(Deviations {
        boundary,
        boundaries,
        score,
        scores,
        cuts_that_differ,
        cuts,
        replays_that_differ,
        replays,
    })
}

/// Whether the blocks of a trial, written as JSON and read again, give the same verdict, byte for byte.
fn replays_alike(seed: u64, trial: u32) -> Result<bool, GoldenError> {
    let model = Model::BARRED[trial as usize % Model::BARRED.len()];
    let rng = |purpose| stream(seed, purpose, model as u8, trial);
    let session = Session::draw(model, &mut rng(Purpose::Noise));
    let potential = Potential::draw(model, &session, &mut rng(Purpose::Variants));
    let change = f64::from(trial % 5) / 100.0;
    let bench = Bench::new("bench", &[P50, MEAN, P99]);
    let policy = policy(Margins::SYNTHETIC, 40, Mode::Faster)?;
    let blocks: Vec<Block> = (0..)
        .zip(potential.rounds(Effect::uniform(change)))
        .filter_map(|(number, round)| block(number, &[(&bench, round)]))
        .collect();
    let first = verdict(&policy, potential.coin(), blocks.iter().cloned())?;
    let reread: Vec<Block> = serde_json::from_str(&serde_json::to_string(&blocks)?)?;
    let policy = serde_json::from_str(&serde_json::to_string(&policy)?)?;
    let second = verdict(&policy, potential.coin(), reread.into_iter())?;
    Ok(serde_json::to_string(&first)? == serde_json::to_string(&second)?)
}
