//! What no bar asks for: rare slow processes, rebuilt binaries, and looking without boundaries.
//!
//! All on sessions with a sd of 0.5% from invocation to invocation, so that only what is named differs.

use darwin_gate::score::Pairs;
use darwin_gate::{Builds, Mode, Order, Policy, Ratio, build, order};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::jury::{Bench, JuryError, MEAN, Margins, P50, P99, block, policy, verdict};
use crate::stream::{Purpose, stream};
use crate::synthetic::Kept;
use crate::tally::{Share, Tally};
use crate::variants::{Round, Values};

/// The most pairs of a job.
const MAX_PAIRS: u32 = 40;
/// The sd of a build's own bias.
const BUILD_SD: f64 = 0.007;
/// The stream of these draws.
const CELL: u8 = 200;

/// One row: what the gate was set to, and its verdicts for several true changes.
#[derive(Debug, Clone)]
pub struct Row {
    /// How the gate was set.
    pub setting: String,
    /// One for each true change.
    pub tallies: Vec<Tally>,
}

/// Everything here.
#[derive(Debug, Clone)]
pub struct Extras {
    /// Rare slow processes, for [`SLOW_PROCESSES`].
    pub slow_processes: Vec<Row>,
    /// Rebuilt binaries, for [`REBUILT_CHANGES`].
    pub rebuilt: Vec<Row>,
    /// How one looks, and how often identical builds then differ, either way.
    pub peeking: Vec<(String, Share)>,
}

/// How much slower one process of the challenger in ten is.
pub const SLOW_PROCESSES: [f64; 4] = [0.0, 0.1, 0.2, 0.4];
/// The true changes of rebuilt binaries.
pub const REBUILT_CHANGES: [f64; 4] = [0.0, 0.02, 0.03, 0.05];

/// Runs all of it on kept trials.
pub fn run(kept: &[Kept], seed: u64) -> Result<Extras, JuryError> {
    Ok(Extras {
        slow_processes: slow_processes(kept, seed)?,
        rebuilt: rebuilt(kept, seed)?,
        peeking: peeking(kept, seed),
    })
}

fn slow_processes(kept: &[Kept], seed: u64) -> Result<Vec<Row>, JuryError> {
    let mut rows = Vec::new();
    for (spread, noise) in [(0.02, "sd 2% between processes"), (0.0, "sd 0.5%")] {
        for guard in [true, false] {
            let policy = Policy {
                guard_slow_processes: guard,
                ..policy(Margins::SYNTHETIC, MAX_PAIRS, Mode::Faster)?
            };
            let tallies = SLOW_PROCESSES
                .iter()
                .map(|slower| {
                    tally(kept, seed, &policy, |rng, factors| {
                        let mut process = || {
                            let z: f64 = StandardNormal.sample(rng);
                            (spread * z).exp()
                        };
                        for factor in &mut *factors {
                            *factor = (process(), process());
                        }
                        for factor in factors {
                            factor.1 *= if rng.random::<f64>() < 0.1 { 1.0 + slower } else { 1.0 };
                        }
                    })
                })
                .collect::<Result<_, JuryError>>()?;
            rows.push(Row {
                setting: format!("{noise}, guard {}", if guard { "on" } else { "off" }),
                tallies,
            });
        }
    }
    Ok(rows)
}

fn rebuilt(kept: &[Kept], seed: u64) -> Result<Vec<Row>, JuryError> {
    let mut settings = Vec::new();
    for floor in [0.0, 0.01, 0.015, 0.02] {
        let margins = Margins { p50: 0.03, mean: 0.03, p99: 0.06 };
        let mut policy = policy(margins, MAX_PAIRS, Mode::Faster)?;
        for metric in policy.metrics.values_mut() {
            metric.floor = Ratio::new(floor)?;
        }
        settings.push((format!("one build a side, floor {:.1}%", 100.0 * floor), policy));
    }
    for builds in [4, 8] {
        let policy = Policy { builds, ..policy(Margins::SYNTHETIC, MAX_PAIRS, Mode::Faster)? };
        settings.push((format!("strict, {builds} builds a side"), policy));
    }
    let mut rows = Vec::new();
    for (setting, policy) in settings {
        let tallies = REBUILT_CHANGES
            .iter()
            .map(|change| {
                tally(kept, seed, &policy, |rng, factors| {
                    let builds = policy.builds;
                    let mut bias = || {
                        let z: f64 = StandardNormal.sample(rng);
                        (BUILD_SD * z).exp()
                    };
                    let biases: Vec<(f64, f64)> = (0..builds).map(|_| (bias(), bias())).collect();
                    for (round, factor) in (0..).zip(factors) {
                        let (baseline, challenger) = biases[build(builds, round) as usize];
                        *factor = (baseline, challenger * (1.0 + change));
                    }
                })
            })
            .collect::<Result<_, JuryError>>()?;
        rows.push(Row { setting, tallies });
    }
    Ok(rows)
}

/// The verdicts over all kept trials; `vary` sets the factors of baseline and challenger in every round.
fn tally(
    kept: &[Kept],
    seed: u64,
    policy: &Policy,
    vary: impl Fn(&mut ChaCha8Rng, &mut [(f64, f64)]) + Sync,
) -> Result<Tally, JuryError> {
    let bench = Bench::new("bench", &[P50, MEAN, P99]);
    let verdicts = (0u32..)
        .zip(kept)
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|(trial, kept)| {
            let mut rng = stream(seed, Purpose::Variants, CELL, trial);
            let coin = rng.next_u64();
            let mut factors = vec![(1.0, 1.0); MAX_PAIRS as usize];
            vary(&mut rng, &mut factors);
            let blocks = (0..).zip(&factors).filter_map(|(number, factors)| {
                let builds = match policy.builds {
                    1 => Builds::default(),
                    builds => Builds::both(build(builds, number)),
                };
                let block = block(number, &[(&bench, round(kept, coin, number, *factors))])?;
                Some(darwin_gate::Block { builds, ..block })
            });
            verdict(policy, coin, blocks)
        })
        .collect::<Result<Vec<_>, JuryError>>()?;
    let mut sum = Tally::default();
    for verdict in verdicts {
        sum.note(&verdict, &[]);
    }
    Ok(sum)
}

fn round(kept: &Kept, coin: u64, number: u32, factors: (f64, f64)) -> Round {
    let first = 2 * number as usize;
    let order = order(coin, number);
    let (baseline, challenger) = match order {
        Order::BaselineFirst => (first, first + 1),
        Order::ChallengerFirst => (first + 1, first),
    };
    let scaled = |slot, factor: f64| {
        let Values { p50, mean, p99 } = kept.baseline(slot);
        Values { p50: p50 * factor, mean: mean * factor, p99: p99 * factor }
    };
    Round { order, baseline: scaled(baseline, factors.0), challenger: scaled(challenger, factors.1) }
}

/// How often identical builds differ on p50 if the score is held against the bound of a single look, 1% a side.
fn peeking(kept: &[Kept], seed: u64) -> Vec<(String, Share)> {
    const SINGLE_LOOK: f64 = 2.326;
    let score = Policy::default().score;
    let plans: [(&str, Vec<usize>); 4] = [
        ("one look, at 40 pairs", vec![40]),
        ("looks at 10, 14, 20, 28 and 40 pairs", vec![10, 14, 20, 28, 40]),
        ("a look after every pair from the 10th", (10..=40).collect()),
        ("the gate's looks, at the gate's boundaries", vec![10, 14, 20, 28, 40]),
    ];
    let looks = darwin_gate::policy::default_looks(MAX_PAIRS);
    let bounds = darwin_gate::bounds::Boundaries::of_plan(&looks, 0.01);
    let mut shares = Vec::new();
    for (index, (name, looks)) in plans.iter().enumerate() {
        let mut share = Share::default();
        for (trial, kept) in (0u32..).zip(kept) {
            let coin = stream(seed, Purpose::Variants, CELL, trial).next_u64();
            let effects: Vec<f64> = (0..MAX_PAIRS)
                .map(|number| round(kept, coin, number, (1.0, 1.0)))
                .map(|round| (round.challenger.p50 / round.baseline.p50).ln())
                .collect();
            let differs = looks.iter().enumerate().any(|(look, pairs)| {
                let bound = if index + 1 == plans.len() { bounds.at(look) } else { SINGLE_LOOK };
                Pairs::scored(&effects[..*pairs], score).z(0.0).abs() >= bound
            });
            share.note(differs);
        }
        shares.push(((*name).to_owned(), share));
    }
    shares
}
