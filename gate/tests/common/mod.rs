//! Blocks for tests: values from log ratios, and a seeded source of normal noise.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "test code, and every test binary uses its own part of it"
)]

use std::collections::BTreeMap;

use darwin_gate::{
    Block, Builds, EndOfData, Evidence, Gate, LatencyStat, Metric, Observation, Policy, Score, SeriesKey,
    Step, Unit, Verdict, order,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

pub(crate) const P50: Metric = Metric::Latency(LatencyStat::P50);
pub(crate) const P99: Metric = Metric::Latency(LatencyStat::P99);
pub(crate) const MEAN: Metric = Metric::Latency(LatencyStat::Mean);
pub(crate) const SEED: u64 = 7;

pub(crate) fn key(bench: &str, metric: Metric) -> SeriesKey {
    SeriesKey::new(bench, metric)
}

/// One value with samples enough for a p99.
pub(crate) fn seen(value: f64) -> Observation {
    Observation { value, samples: 5_000, evidence: Evidence::A, unit: Unit::Nanoseconds }
}

/// A block with the given baseline value and log ratio per series.
pub(crate) fn block(round: u32, series: &[(SeriesKey, f64, f64)]) -> Block {
    let side = |value: fn(f64, f64) -> f64| -> BTreeMap<SeriesKey, Observation> {
        series.iter().map(|(key, base, d)| (key.clone(), seen(value(*base, *d)))).collect()
    };
    Block {
        round,
        order: order(SEED, round),
        baseline: side(|base, _| base),
        challenger: side(|base, d| base * d.exp()),
        builds: Builds::default(),
    }
}

/// The rule as the reference implementation has it: nothing but the series shares alpha.
pub(crate) fn reference_policy() -> Policy {
    Policy { score: Score::Clipped, guard_slow_processes: false, ..Policy::default() }
}

/// Blocks of one bench's p50 with these log ratios.
pub(crate) fn p50_blocks(log_ratios: &[f64]) -> Vec<Block> {
    (0..).zip(log_ratios).map(|(round, d)| block(round, &[(key("b", P50), 1_000.0, *d)])).collect()
}

/// Pushes blocks until a verdict stands; ends the data if none does.
pub(crate) fn run(policy: Policy, blocks: &[Block]) -> Verdict {
    let mut gate = Gate::new(policy, Some(SEED)).unwrap();
    for block in blocks {
        match gate.push(block).unwrap() {
            Step::Continue | Step::Look(_) => {}
            Step::Decided(verdict) => return *verdict,
        }
    }
    gate.finish(EndOfData::MaxPairs)
}

/// The smallest count that a binomial of `trials` at `chance` exceeds with a probability below `doubt`.
pub(crate) fn binomial_bound(trials: u32, chance: f64, doubt: f64) -> u32 {
    let (n, mut log_term, mut below) = (f64::from(trials), f64::from(trials) * (1.0 - chance).ln(), 0.0);
    for count in 0..trials {
        below += log_term.exp();
        if 1.0 - below < doubt {
            return count;
        }
        let k = f64::from(count);
        log_term += ((n - k) / (k + 1.0) * chance / (1.0 - chance)).ln();
    }
    trials
}

/// Standard normal numbers from a seed (Box and Muller).
pub(crate) struct Noise(ChaCha8Rng);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in (0, 1].
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// `count` normal numbers.
    pub(crate) fn normals(&mut self, count: usize, centre: f64, sd: f64) -> Vec<f64> {
        (0..count).map(|_| centre + sd * self.normal()).collect()
    }
}
