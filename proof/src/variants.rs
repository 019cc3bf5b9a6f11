//! What the challenger changes, and the rounds that a job of a session would have measured.

use darwin_gate::{Order, order};
use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use crate::noise::{Model, SLOTS, Session};

/// What the challenger truly changes, as relative changes: 0.02 is +2%.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Effect {
    /// On every latency.
    pub uniform: f64,
    /// On the latencies above the 95th percentile, on top.
    pub tail: f64,
}

impl Effect {
    /// The same on every latency.
    pub const fn uniform(change: f64) -> Self {
        Self { uniform: change, tail: 0.0 }
    }
}

/// The statistics of one invocation that the gate compares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Values {
    /// The median.
    pub p50: f64,
    /// The mean.
    pub mean: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// One round: what both variants' processes measured, and which ran first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// Which variant ran first.
    pub order: Order,
    /// The baseline's.
    pub baseline: Values,
    /// The challenger's.
    pub challenger: Values,
}

/// A session whose slots both variants could have run in.
#[derive(Debug)]
pub struct Potential<'a> {
    session: &'a Session,
    factors: [f64; SLOTS],
    coin: u64,
}

impl<'a> Potential<'a> {
    /// Draws what differs between the variants beside the effect, and the seed of the coin.
    pub fn draw(model: Model, session: &'a Session, rng: &mut ChaCha8Rng) -> Self {
        let coin = rng.next_u64();
        Self { session, factors: model.challenger_factors(rng), coin }
    }

    /// The seed of the coin.
    pub fn coin(&self) -> u64 {
        self.coin
    }

    /// The session.
    pub fn session(&self) -> &'a Session {
        self.session
    }

    /// What the baseline measures in a slot.
    pub fn baseline(&self, slot: usize) -> Values {
        let slot = &self.session.slots[slot];
        Values { p50: slot.p50, mean: slot.mean, p99: slot.p99 }
    }

    /// What the challenger measures in a slot.
    pub fn challenger(&self, slot: usize, effect: Effect) -> Values {
        let seen = &self.session.slots[slot];
        let factor = self.factor(slot, effect);
        Values {
            p50: seen.p50 * factor,
            mean: (seen.mean + effect.tail * seen.tail) * factor,
            p99: seen.p99 * (1.0 + effect.tail) * factor,
        }
    }

    /// The factor on the challenger's latencies in a slot.
    pub fn factor(&self, slot: usize, effect: Effect) -> f64 {
        self.factors[slot] * (1.0 + effect.uniform)
    }

    /// The rounds of a job: two neighbouring slots each, in the order that the coin draws.
    pub fn rounds(&self, effect: Effect) -> impl Iterator<Item = Round> {
        (0u32..).zip(0..SLOTS / 2).map(move |(round, pair)| {
            let order = order(self.coin, round);
            let (baseline, challenger) = match order {
                Order::BaselineFirst => (2 * pair, 2 * pair + 1),
                Order::ChallengerFirst => (2 * pair + 1, 2 * pair),
            };
            Round {
                order,
                baseline: self.baseline(baseline),
                challenger: self.challenger(challenger, effect),
            }
        })
    }
}
