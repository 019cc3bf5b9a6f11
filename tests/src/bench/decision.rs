//! What a decision costs inside the gate: boundaries that are new, one look over many series, ten thousand benches.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use darwin_gate::bounds::Boundaries;
use darwin_gate::policy::default_looks;
use darwin_gate::{
    Block, Builds, Evidence, Gate, LatencyStat, Metric, Observation, Policy, SeriesKey, Unit, order,
};

use super::report::{Aim, Line};

const SEED: u64 = 7;
/// An alpha that nothing asked for before, so that no boundary of it is kept.
const NEW_ALPHA: f64 = 0.0123;

/// A log ratio without any generator: spread over ±2%, another for every series and round.
fn noise(series: usize, round: u32) -> f64 {
    let mixed = (series as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ u64::from(round + 1).wrapping_mul(0xD1B5_4A32_D192_ED03);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / f64::from(1 << 24) * 0.04
        - 0.02
}

fn block(round: u32, keys: &[SeriesKey]) -> Block {
    let side = |challenger: bool| -> BTreeMap<SeriesKey, Observation> {
        let value = |at: usize| 1_000.0 * if challenger { noise(at, round).exp() } else { 1.0 };
        let seen = |at| Observation {
            value: value(at),
            samples: 5_000,
            evidence: Evidence::A,
            unit: Unit::Nanoseconds,
        };
        keys.iter().enumerate().map(|(at, key)| (key.clone(), seen(at))).collect()
    };
    Block {
        round,
        order: order(SEED, round),
        baseline: side(false),
        challenger: side(true),
        builds: Builds::default(),
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = black_box(work());
    (done, start.elapsed())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Boundaries for an alpha that is new, by the number of looks.
fn boundaries() -> Vec<Line> {
    let line = |max_pairs| {
        let looks = default_looks(max_pairs);
        let (_, took) = timed(|| Boundaries::new(&looks, NEW_ALPHA));
        let what = format!("boundaries of {} looks for an alpha that is new", looks.len());
        Line::new(what, milliseconds(took), "ms", Aim::AtMost(50.0))
    };
    [40, 160, 10_080].map(line).into()
}

/// The slowest look of a job over so many series.
fn slowest_look(benches: usize, stats: &[LatencyStat], max_pairs: u32) -> Result<Duration> {
    let bench = |at: usize| format!("bench {at:05}");
    let keys: Vec<SeriesKey> = (0..benches)
        .flat_map(|at| stats.iter().map(move |stat| SeriesKey::new(bench(at), Metric::Latency(*stat))))
        .collect();
    let policy = Policy::default().with_max_pairs(max_pairs);
    let mut slowest = None;
    // The first job works the boundaries out, which are kept for all that follow.
    for _ in 0..2 {
        let mut gate = Gate::new(policy.clone(), Some(SEED))?;
        let mut looks = Vec::new();
        for round in 0..max_pairs {
            let block = block(round, &keys);
            let (step, took) = timed(|| gate.push(&block));
            step?;
            if gate.verdict().is_some() {
                break;
            }
            if policy.looks.contains(&(round + 1)) {
                looks.push(took);
            }
        }
        slowest = looks.into_iter().max();
    }
    slowest.context("no look was taken")
}

/// What a decision costs.
pub fn decision() -> Result<Vec<Line>> {
    let mut lines = boundaries();
    let stats = [LatencyStat::P50, LatencyStat::P99, LatencyStat::P90];
    let look = milliseconds(slowest_look(12, &stats, 160)?);
    lines.push(Line::new("the slowest look over 36 series and 160 pairs", look, "ms", Aim::AtMost(1.0)));
    let many = slowest_look(10_000, &stats[..1], 40)?;
    let what = "the slowest look over 10,000 series and 40 pairs";
    lines.push(Line::new(what, milliseconds(many), "ms", Aim::None));
    Ok(lines)
}
