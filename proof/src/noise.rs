//! Synthetic noise: eleven ways in which machines and processes spoil a measurement.
//!
//! A session is a row of [`SLOTS`] process invocations, one after the other, each with [`ITERATIONS`] latencies. It
//! knows nothing of variants: every model only scales, so what a variant changes is multiplied on later. That lets
//! one session serve for every effect, and for every peer's plan.
//!
//! A latency is `exp(b) * (L + P)`: `L` is lognormal with a sd of 0.15, `P` with a chance of 2% a Pareto tail
//! `0.5 * U^(-1/2.5)`, and `b` is the level of the slot, which is where the models differ. Unless a model says
//! otherwise, `b` is normal with a sd of 0.5%.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Process invocations in a session: 40 pairs.
pub const SLOTS: usize = 80;
/// Latencies in an invocation.
pub const ITERATIONS: usize = 2_000;

/// The sd of the logarithm of a single latency.
const ITERATION_SD: f32 = 0.15;
/// The sd of a slot's level where a model does not say otherwise.
const SLOT_SD: f64 = 0.005;
/// The chance that a latency has a tail added.
const TAIL_CHANCE: f64 = 0.02;
/// The same in a slot of a burst.
const BURST_TAIL_CHANCE: f64 = 0.06;
/// Keeps a tail finite.
const SMALLEST_UNIFORM: f32 = 1e-6;

/// A model of noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// None between invocations.
    Iid,
    /// Every process has a bias of its own: normal, sd 2%.
    ProcBias,
    /// Three processes in ten are 6% slower.
    Bimodal,
    /// The box slows down, or speeds up, by 2 to 6% over the session.
    Drift,
    /// The level wanders: autoregressive, rho 0.95, sd 2%.
    Ar1,
    /// The level jumps between -3% and +3%, every 25 invocations on average.
    Steps,
    /// In runs of invocations the tail is three times as likely.
    Bursts,
    /// The latencies inside a process wander: autoregressive, rho 0.99, sd 6%.
    IterCorr,
    /// The level has a Student t(2) distribution, scaled by 1%: no variance at all.
    Heavy,
    /// The challenger has an extra sd of 1.5% from invocation to invocation.
    Unequal,
    /// Every build has a bias of its own (link layout): normal, sd 0.7%. No number of reruns removes it.
    BuildBias,
}

impl Model {
    /// The models of the bars.
    pub const BARRED: [Self; 10] = [
        Self::Iid,
        Self::ProcBias,
        Self::Bimodal,
        Self::Drift,
        Self::Ar1,
        Self::Steps,
        Self::Bursts,
        Self::IterCorr,
        Self::Heavy,
        Self::Unequal,
    ];

    /// The models of the bars, and rebuilt binaries, which are in the table for comparison.
    pub const ALL: [Self; 11] = [
        Self::Iid,
        Self::ProcBias,
        Self::Bimodal,
        Self::Drift,
        Self::Ar1,
        Self::Steps,
        Self::Bursts,
        Self::IterCorr,
        Self::Heavy,
        Self::Unequal,
        Self::BuildBias,
    ];

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iid => "iid",
            Self::ProcBias => "procbias",
            Self::Bimodal => "bimodal",
            Self::Drift => "drift",
            Self::Ar1 => "ar1",
            Self::Steps => "steps",
            Self::Bursts => "bursts",
            Self::IterCorr => "itercorr",
            Self::Heavy => "heavy",
            Self::Unequal => "unequal",
            Self::BuildBias => "rebuilt",
        }
    }

    /// The factor on the challenger's latencies in every slot, beside its effect.
    pub fn challenger_factors(self, rng: &mut ChaCha8Rng) -> [f64; SLOTS] {
        let mut factors = [1.0; SLOTS];
        match self {
            Self::Unequal => factors.fill_with(|| (0.015 * normal(rng)).exp()),
            // Both builds have a bias, so their difference has sqrt(2) times its sd.
            Self::BuildBias => factors = [(0.007 * std::f64::consts::SQRT_2 * normal(rng)).exp(); SLOTS],
            Self::Iid
            | Self::ProcBias
            | Self::Bimodal
            | Self::Drift
            | Self::Ar1
            | Self::Steps
            | Self::Bursts
            | Self::IterCorr
            | Self::Heavy => {}
        }
        factors
    }
}

/// What is kept of one invocation. Latencies are in units of their median without noise.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The arithmetic mean.
    pub mean: f64,
    /// The median, nearest rank.
    pub p50: f64,
    /// The 99th percentile, nearest rank.
    pub p99: f64,
    /// The variance of the latencies.
    pub variance: f64,
    /// The sum of the latencies above the 95th percentile, over the number of all latencies.
    pub tail: f64,
    /// Means of 15 batches of 133 latencies.
    pub batches: [f32; FEW_BATCHES],
}

/// Batch means that are kept of every slot.
pub const FEW_BATCHES: usize = 15;
/// Batch means that are kept of the slots in [`MANY_BATCHES_SLOTS`].
pub const MANY_BATCHES: usize = 100;
/// The slots of the peers that look at single processes.
pub const MANY_BATCHES_SLOTS: [usize; 3] = [0, 1, 40];

/// One session.
#[derive(Debug, Clone)]
pub struct Session {
    /// One for each invocation, in the order of time.
    pub slots: Vec<Slot>,
    /// Means of 100 batches of 20 latencies, of the slots in [`MANY_BATCHES_SLOTS`].
    pub many_batches: [Vec<f32>; 3],
}

impl Session {
    /// Draws a session.
    pub fn draw(model: Model, rng: &mut ChaCha8Rng) -> Self {
        let levels = levels(model, rng);
        let mut latencies = vec![0.0f32; ITERATIONS];
        let mut scratch = vec![0u32; ITERATIONS];
        let mut many_batches = [const { Vec::new() }; 3];
        let mut slots = Vec::with_capacity(SLOTS);
        for (index, (level, tail_chance)) in levels.into_iter().enumerate() {
            fill(model, level, tail_chance, rng, &mut latencies);
            slots.push(summary(&latencies, &mut scratch));
            if let Some(kept) = MANY_BATCHES_SLOTS.iter().position(|slot| *slot == index) {
                many_batches[kept] = batch_means(&latencies, ITERATIONS / MANY_BATCHES).collect();
            }
        }
        Self { slots, many_batches }
    }

    /// The kept batch means of a slot that `count` batches can be made of; none if there are none.
    pub fn batches(&self, slot: usize, count: usize) -> Option<&[f32]> {
        let many = MANY_BATCHES_SLOTS.iter().position(|kept| *kept == slot);
        match many {
            Some(kept) if MANY_BATCHES.is_multiple_of(count) && !FEW_BATCHES.is_multiple_of(count) => {
                Some(&self.many_batches[kept])
            }
            _ if FEW_BATCHES.is_multiple_of(count) => Some(&self.slots.get(slot)?.batches),
            _ => None,
        }
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn sign(rng: &mut ChaCha8Rng) -> f64 {
    if rng.random::<bool>() { 1.0 } else { -1.0 }
}

/// The level `b` and the chance of a tail of every slot.
fn levels(model: Model, rng: &mut ChaCha8Rng) -> [(f64, f64); SLOTS] {
    let mut levels = [(0.0, TAIL_CHANCE); SLOTS];
    let sd = match model {
        Model::Iid | Model::Heavy => 0.0,
        Model::ProcBias => 0.02,
        _ => SLOT_SD,
    };
    for (level, _) in &mut levels {
        *level = sd * normal(rng);
    }
    match model {
        Model::Bimodal => {
            for (level, _) in &mut levels {
                *level += if rng.random::<f64>() < 0.3 { 1.06f64.ln() } else { 0.0 };
            }
        }
        Model::Drift => {
            let total = rng.random_range(0.02..0.06) * sign(rng);
            for (time, (level, _)) in levels.iter_mut().enumerate() {
                *level += total * time as f64 / SLOTS as f64;
            }
        }
        Model::Ar1 => wander(&mut levels, rng),
        Model::Steps => {
            for ((level, _), side) in levels.iter_mut().zip(telegraph(rng, 25.0)) {
                *level += 0.03 * side;
            }
        }
        Model::Bursts => {
            for ((_, tail_chance), side) in levels.iter_mut().zip(telegraph(rng, 4.0)) {
                let burst = rng.random::<f64>() < 0.4 && side > 0.0;
                *tail_chance = if burst { BURST_TAIL_CHANCE } else { TAIL_CHANCE };
            }
        }
        Model::Heavy => heavy(&mut levels, rng),
        Model::Iid | Model::ProcBias | Model::IterCorr | Model::Unequal | Model::BuildBias => {}
    }
    levels
}

fn wander(levels: &mut [(f64, f64); SLOTS], rng: &mut ChaCha8Rng) {
    const RHO: f64 = 0.95;
    const SD: f64 = 0.02;
    let mut state = SD * normal(rng);
    for (time, (level, _)) in levels.iter_mut().enumerate() {
        if time > 0 {
            state = RHO * state + SD * (1.0 - RHO * RHO).sqrt() * normal(rng);
        }
        *level += state;
    }
}

fn heavy(levels: &mut [(f64, f64); SLOTS], rng: &mut ChaCha8Rng) {
    for (level, _) in levels {
        // Student's t with 2 degrees of freedom: a normal over the root of half a chi-squared with 2.
        let half_chi_squared: f64 = -rng.random::<f64>().max(f64::MIN_POSITIVE).ln();
        *level = 0.01 * normal(rng) / half_chi_squared.sqrt();
    }
}

/// A state of -1 or +1 that changes sides every `dwell` slots on average.
fn telegraph(rng: &mut ChaCha8Rng, dwell: f64) -> [f64; SLOTS] {
    let mut side = sign(rng);
    let mut sides = [0.0; SLOTS];
    for slot in &mut sides {
        if rng.random::<f64>() < 1.0 / dwell {
            side = -side;
        }
        *slot = side;
    }
    sides
}

/// Draws the latencies of one invocation.
fn fill(model: Model, level: f64, tail_chance: f64, rng: &mut ChaCha8Rng, latencies: &mut [f32]) {
    #[expect(clippy::cast_possible_truncation, reason = "latencies are kept in single precision")]
    let (factor, tail_chance) = (level.exp() as f32, tail_chance as f32);
    let mut inner = InnerLevel::new(model, rng);
    for latency in latencies {
        let z: f32 = StandardNormal.sample(rng);
        let mut value = (inner.next(rng) + ITERATION_SD * z).exp();
        let u = rng.random::<f32>().max(SMALLEST_UNIFORM);
        if u < tail_chance {
            value += 0.5 * (u / tail_chance).powf(-1.0 / 2.5);
        }
        *latency = value * factor;
    }
}

/// The level inside a process: zero, or a slow wander.
enum InnerLevel {
    Flat,
    Wandering { state: f32, first: bool },
}

impl InnerLevel {
    const RHO: f32 = 0.99;
    const SD: f32 = 0.06;

    fn new(model: Model, rng: &mut ChaCha8Rng) -> Self {
        if model != Model::IterCorr {
            return Self::Flat;
        }
        let z: f32 = StandardNormal.sample(rng);
        Self::Wandering { state: Self::SD * z, first: true }
    }

    fn next(&mut self, rng: &mut ChaCha8Rng) -> f32 {
        match self {
            Self::Flat => 0.0,
            Self::Wandering { state, first: first @ true } => {
                *first = false;
                *state
            }
            Self::Wandering { state, first: false } => {
                let z: f32 = StandardNormal.sample(rng);
                *state = Self::RHO * *state + Self::SD * (1.0 - Self::RHO * Self::RHO).sqrt() * z;
                *state
            }
        }
    }
}

/// The zero-based nearest rank of `q` among `count`.
fn rank(count: usize, q: f64) -> usize {
    let rank = darwin_gate::stats::rank(count as u64, q).unwrap_or(1);
    usize::try_from(rank - 1).unwrap_or(0)
}

fn summary(latencies: &[f32], scratch: &mut [u32]) -> Slot {
    let count = latencies.len();
    let mean = latencies.iter().map(|v| f64::from(*v)).sum::<f64>() / count as f64;
    let variance = latencies.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count as f64;
    // Positive floats sort as their bits do, and integers are selected faster.
    for (bits, latency) in scratch.iter_mut().zip(latencies) {
        *bits = latency.to_bits();
    }
    let from_95 = rank(count, 0.95) + 1;
    let (below, at, above) = scratch.select_nth_unstable(from_95);
    let value = |bits: u32| f64::from(f32::from_bits(bits));
    let tail = (value(*at) + above.iter().map(|bits| value(*bits)).sum::<f64>()) / count as f64;
    let p99 = *above.select_nth_unstable(rank(count, 0.99) - from_95 - 1).1;
    let p50 = *below.select_nth_unstable(rank(count, 0.5)).1;
    let mut batches = [0.0; FEW_BATCHES];
    for (batch, mean) in batches.iter_mut().zip(batch_means(latencies, count / FEW_BATCHES)) {
        *batch = mean;
    }
    Slot { mean, p50: value(p50), p99: value(p99), variance, tail, batches }
}

fn batch_means(latencies: &[f32], size: usize) -> impl Iterator<Item = f32> {
    latencies.chunks_exact(size).map(move |batch| batch.iter().sum::<f32>() / size as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Purpose, stream};

    fn sd_of_logs(sessions: &[Session], value: fn(&Slot) -> f64) -> f64 {
        let sd = |session: &Session| {
            let logs: Vec<f64> = session.slots.iter().map(|slot| value(slot).ln()).collect();
            darwin_gate::stats::sample_sd(&logs).unwrap()
        };
        sessions.iter().map(sd).sum::<f64>() / sessions.len() as f64
    }

    #[test]
    fn spreads_equal_the_reference() {
        // The mean sd of the logs of mean, p50 and p99 over a session, by the reference in numpy, 100 sessions.
        let reference = [
            (Model::Iid, [0.0046, 0.0043, 0.0402]),
            (Model::ProcBias, [0.0203, 0.0203, 0.0449]),
            (Model::Bimodal, [0.0272, 0.0272, 0.0478]),
            (Model::Ar1, [0.0168, 0.0167, 0.0435]),
            (Model::Steps, [0.0256, 0.0256, 0.0479]),
            (Model::Bursts, [0.0143, 0.0073, 0.0875]),
            (Model::IterCorr, [0.0193, 0.0195, 0.0410]),
            (Model::Unequal, [0.0068, 0.0065, 0.0404]),
        ];
        for (model, want) in reference {
            let draw = |trial| Session::draw(model, &mut stream(3, Purpose::Noise, model as u8, trial));
            let sessions: Vec<Session> = (0..40).map(draw).collect();
            let got =
                [|s: &Slot| s.mean, |s: &Slot| s.p50, |s: &Slot| s.p99].map(|v| sd_of_logs(&sessions, v));
            for (got, want) in got.into_iter().zip(want) {
                assert!((got / want - 1.0).abs() < 0.2, "{}: {got} {want}", model.name());
            }
        }
    }

    #[test]
    fn a_summary_is_exact() {
        let latencies: Vec<f32> = (1..=ITERATIONS).rev().map(|v| v as f32).collect();
        let slot = summary(&latencies, &mut vec![0; ITERATIONS]);
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-6 * want, "{got} {want}");
        near(slot.p50, 1_000.0);
        near(slot.p99, 1_980.0);
        near(slot.mean, 1_000.5);
        near(slot.tail * ITERATIONS as f64, f64::from((1_901..=2_000).sum::<i32>()));
        near(f64::from(slot.batches[0]), 1_934.0);
    }
}
