//! Seeded streams of random numbers: every trial has its own, so that any trial can be run on its own and the
//! number of threads changes nothing.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream is for. Two purposes never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The noise of a session.
    Noise,
    /// What differs between the variants, and the seed of the coin.
    Variants,
    /// Draws that a peer's rule makes (bootstraps).
    Peers,
    /// Which rounds of a recording a trial has.
    Rounds,
    /// Which trials make up a family.
    Family,
    /// Shapes of scores for the exact error of the boundaries.
    Shape,
}

/// The stream of one trial: a `ChaCha8` keyed by the seed of the whole run, on a stream number made of the purpose,
/// the cell (a model, or a workload of a recording) and the trial.
pub fn stream(seed: u64, purpose: Purpose, cell: u8, trial: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose as u64) << 48 | u64::from(cell) << 32 | u64::from(trial));
    rng
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::RngCore;

    use super::*;

    #[test]
    fn streams_are_apart_and_replay() {
        let mut first = BTreeSet::new();
        for purpose in [Purpose::Noise, Purpose::Variants, Purpose::Peers, Purpose::Rounds] {
            for cell in 0..3 {
                for trial in 0..3 {
                    let number = stream(1, purpose, cell, trial).next_u64();
                    assert_eq!(number, stream(1, purpose, cell, trial).next_u64());
                    assert!(first.insert(number));
                }
            }
        }
        assert_ne!(stream(1, Purpose::Noise, 0, 0).next_u64(), stream(2, Purpose::Noise, 0, 0).next_u64());
    }
}
