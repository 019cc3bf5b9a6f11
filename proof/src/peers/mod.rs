//! The rules of other tools, re-implemented from what they publish, on the same slots as the gate.
//!
//! Each rule runs on its own plan (all of one variant and then all of the other, one process, a history), and each is
//! fed what it compares: means. They are the published rules, not the programs: what a program does around its rule
//! (warm-up, choice of iteration counts) is not here.

mod bootstrap;
mod history;
mod ranks;
mod single;
mod students;

use rand_chacha::ChaCha8Rng;

use crate::variants::{Effect, Potential};

/// What a rule says of the challenger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It is slower.
    Slower,
    /// It is faster.
    Faster,
    /// Nothing: no difference, or none shown.
    Nothing,
}

impl Call {
    /// By the sign of a difference, if it counts.
    fn of(counts: bool, difference: f64) -> Self {
        if counts && difference > 0.0 {
            Self::Slower
        } else if counts && difference < 0.0 {
            Self::Faster
        } else {
            Self::Nothing
        }
    }
}

/// Which variant a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The baseline.
    Baseline,
    /// The challenger.
    Challenger,
}

/// A session as a peer's plan sees it: any slot can be run with any variant.
pub trait Slots {
    /// The mean of an invocation.
    fn mean(&self, side: Side, slot: usize) -> f64;
    /// The means of the baseline's and the challenger's invocations of the first pairs, in drawn order.
    fn pairs(&self, count: usize) -> (Vec<f64>, Vec<f64>);
    /// `count` batch means of an invocation; none if they were not kept.
    fn batches(&self, side: Side, slot: usize, count: usize) -> Option<Vec<f64>>;
    /// The variance of the latencies of an invocation, and their number; none if it was not kept.
    fn variance(&self, side: Side, slot: usize) -> Option<(f64, f64)>;
}

/// Means of consecutive slots.
fn means(slots: &dyn Slots, side: Side, first: usize, count: usize) -> Vec<f64> {
    (first..first + count).map(|slot| slots.mean(side, slot)).collect()
}

/// Batch means of consecutive slots, in one row; none if they were not kept.
fn pooled_batches(
    slots: &dyn Slots,
    side: Side,
    first: usize,
    count: usize,
    each: usize,
) -> Option<Vec<f64>> {
    let rows = (first..first + count).map(|slot| slots.batches(side, slot, each));
    Some(rows.collect::<Option<Vec<_>>>()?.concat())
}

/// A peer's rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The name in tables: the tool, the plan, the level.
    pub name: &'static str,
    /// Process invocations that its plan takes.
    pub invocations: u32,
    /// What it says; none if the data lacks what it needs.
    pub call: fn(&dyn Slots, &mut ChaCha8Rng) -> Option<Call>,
}

/// Every rule, in the order of the tables.
pub const RULES: [Rule; 18] = [
    Rule { name: "benchstat, sequential, n=10", invocations: 20, call: ranks::benchstat_sequential },
    Rule { name: "benchstat, interleaved, n=10", invocations: 20, call: ranks::benchstat_interleaved_10 },
    Rule { name: "benchstat, interleaved, n=20", invocations: 40, call: ranks::benchstat_interleaved_20 },
    Rule { name: "hyperfine, Welch script, n=10", invocations: 20, call: students::hyperfine },
    Rule { name: "pyperf, t test, 20×3 pooled", invocations: 40, call: students::pyperf },
    Rule { name: "JMH, 5×5, 99.9% intervals", invocations: 10, call: students::jmh },
    Rule { name: "criterion, saved baseline", invocations: 2, call: bootstrap::criterion },
    Rule { name: "google/benchmark, U test, 10 reps", invocations: 2, call: ranks::google_benchmark },
    Rule { name: "pytest-benchmark, mean:5%", invocations: 2, call: single::pytest_benchmark },
    Rule { name: "threshold 10% (CodSpeed's default)", invocations: 2, call: single::codspeed },
    Rule { name: "tango, z ≥ 2.6 and > 1%", invocations: 2, call: single::tango },
    Rule { name: "pooled iterations, p < .01", invocations: 2, call: single::pooled },
    Rule { name: "pooled iterations, p < .01 and > 5%", invocations: 2, call: single::pooled_with_floor },
    Rule { name: "Bencher, t .99, history 30", invocations: 31, call: history::bencher },
    Rule { name: "conbench, z > 5, history 30", invocations: 31, call: history::conbench },
    Rule { name: "rustc-perf, IQR, history 30", invocations: 31, call: history::rustc_perf },
    Rule { name: "Pinpoint, U and KS at .01, n=20", invocations: 40, call: ranks::pinpoint },
    Rule { name: "asv, p < .002 and factor 1.1", invocations: 20, call: ranks::asv },
];

/// A synthetic session under an effect.
#[derive(Debug)]
pub struct Synthetic<'a> {
    potential: &'a Potential<'a>,
    effect: Effect,
}

impl<'a> Synthetic<'a> {
    /// The session, with this effect on the challenger.
    pub fn new(potential: &'a Potential<'a>, effect: Effect) -> Self {
        Self { potential, effect }
    }

    /// The factor on a mean of latencies of a side in a slot, exact for the mean over the whole slot.
    fn factor(&self, side: Side, slot: usize) -> f64 {
        match side {
            Side::Baseline => 1.0,
            Side::Challenger => {
                let seen = &self.potential.session().slots[slot];
                self.potential.factor(slot, self.effect) * (1.0 + self.effect.tail * seen.tail / seen.mean)
            }
        }
    }
}

impl Slots for Synthetic<'_> {
    fn mean(&self, side: Side, slot: usize) -> f64 {
        self.potential.session().slots[slot].mean * self.factor(side, slot)
    }

    fn pairs(&self, count: usize) -> (Vec<f64>, Vec<f64>) {
        let rounds = self.potential.rounds(self.effect).take(count);
        rounds.map(|round| (round.baseline.mean, round.challenger.mean)).unzip()
    }

    fn batches(&self, side: Side, slot: usize, count: usize) -> Option<Vec<f64>> {
        let kept = self.potential.session().batches(slot, count)?;
        let factor = self.factor(side, slot);
        let each = kept.len() / count;
        let mean = |batch: &[f32]| batch.iter().map(|v| f64::from(*v)).sum::<f64>() / each as f64 * factor;
        Some(kept.chunks_exact(each).map(mean).collect())
    }

    fn variance(&self, side: Side, slot: usize) -> Option<(f64, f64)> {
        let factor = match side {
            Side::Baseline => 1.0,
            Side::Challenger => self.potential.factor(slot, self.effect),
        };
        let variance = self.potential.session().slots[slot].variance * factor * factor;
        Some((variance, crate::noise::ITERATIONS as f64))
    }
}

/// A trial on a recording: of every round, the mean of either side.
#[derive(Debug)]
pub struct Recorded {
    baseline: Vec<f64>,
    challenger: Vec<f64>,
}

impl Recorded {
    /// The rounds of a trial.
    pub fn new(rounds: impl Iterator<Item = crate::variants::Round>) -> Self {
        let (baseline, challenger) = rounds.map(|r| (r.baseline.mean, r.challenger.mean)).unzip();
        Self { baseline, challenger }
    }
}

impl Slots for Recorded {
    fn mean(&self, side: Side, slot: usize) -> f64 {
        match side {
            Side::Baseline => self.baseline[slot],
            Side::Challenger => self.challenger[slot],
        }
    }

    fn pairs(&self, count: usize) -> (Vec<f64>, Vec<f64>) {
        (self.baseline[..count].to_vec(), self.challenger[..count].to_vec())
    }

    fn batches(&self, _: Side, _: usize, _: usize) -> Option<Vec<f64>> {
        None
    }

    fn variance(&self, _: Side, _: usize) -> Option<(f64, f64)> {
        None
    }
}
