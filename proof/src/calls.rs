//! What rules call the challenger, counted.

use std::collections::BTreeMap;

use darwin_gate::Decision;
use rand_chacha::ChaCha8Rng;

use crate::peers::{Call, RULES, Slots};
use crate::tally::Share;

/// How often a rule called the challenger slower or faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// Slower.
    pub slower: u32,
    /// Faster.
    pub faster: u32,
    /// Trials.
    pub of: u32,
}

impl Calls {
    /// Counts a call.
    pub fn note(&mut self, call: Call) {
        self.slower += u32::from(call == Call::Slower);
        self.faster += u32::from(call == Call::Faster);
        self.of += 1;
    }

    /// Adds more trials.
    pub fn add(&mut self, other: Self) {
        self.slower += other.slower;
        self.faster += other.faster;
        self.of += other.of;
    }

    /// The share of either call.
    pub fn either(self) -> Share {
        Share { count: self.slower + self.faster, of: self.of }
    }

    /// The share of `slower`.
    pub fn slower(self) -> Share {
        Share { count: self.slower, of: self.of }
    }
}

/// What the gate says, in the words of the peers.
pub fn call_of(decision: Decision) -> Call {
    match decision {
        Decision::Approve => Call::Faster,
        Decision::Reject => Call::Slower,
        Decision::Inconclusive => Call::Nothing,
    }
}

/// Asks every rule of [`RULES`] about a trial; `sums` has one entry of each, or none before the first trial.
pub fn ask_peers(sums: &mut Vec<Calls>, slots: &dyn Slots, rng: &mut ChaCha8Rng) {
    sums.resize(RULES.len(), Calls::default());
    for (sum, rule) in sums.iter_mut().zip(&RULES) {
        if let Some(call) = (rule.call)(slots, rng) {
            sum.note(call);
        }
    }
}

/// Adds the calls of other trials, case by case and rule by rule.
pub fn add_peers<K: Ord>(sums: &mut BTreeMap<K, Vec<Calls>>, other: BTreeMap<K, Vec<Calls>>) {
    for (case, calls) in other {
        let sums = sums.entry(case).or_default();
        sums.resize(calls.len(), Calls::default());
        for (sum, more) in sums.iter_mut().zip(calls) {
            sum.add(more);
        }
    }
}

/// Adds the calls of other trials, case by case.
pub fn add_own<K: Ord>(sums: &mut BTreeMap<K, Calls>, other: BTreeMap<K, Calls>) {
    for (case, calls) in other {
        sums.entry(case).or_default().add(calls);
    }
}
