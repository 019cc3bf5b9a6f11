//! The coin: which variant goes first in a round, as a pure function of the job's seed and the round.
//!
//! The coin is what makes the verdict valid whatever the noise is, so a stored seed must replay it anywhere:
//! the key of a `ChaCha8` stream is the seed in little endian (8 bytes), then the 13 bytes `darwin coin/1`, then
//! zeros up to 32; stream number 0; round `r` reads the 32-bit word at position `r`, and its lowest bit says
//! `ChallengerFirst`. Any round can be asked for on its own.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// Which variant's process runs first in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Baseline, then challenger.
    BaselineFirst,
    /// Challenger, then baseline.
    ChallengerFirst,
}

/// Separates this use of the seed from any other.
const DOMAIN: &[u8; 13] = b"darwin coin/1";

/// The order of the variants in `round` of the job with this `seed`.
pub fn order(seed: u64, round: u32) -> Order {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..8 + DOMAIN.len()].copy_from_slice(DOMAIN);
    let mut stream = ChaCha8Rng::from_seed(key);
    stream.set_word_pos(u128::from(round));
    if stream.next_u32() & 1 == 0 { Order::BaselineFirst } else { Order::ChallengerFirst }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, rounds: u32) -> Vec<bool> {
        (0..rounds).map(|round| order(seed, round) == Order::ChallengerFirst).collect()
    }

    #[test]
    fn replays_for_ever() {
        let text: String = draws(42, 40).into_iter().map(|c| if c { 'C' } else { 'B' }).collect();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn is_fair_and_without_memory() {
        // 40,000 tosses: four standard deviations are 400; the bounds below are fixed numbers on a fixed stream.
        let coins: Vec<bool> = (0..100).flat_map(|seed| draws(seed, 400)).collect();
        let heads = coins.iter().filter(|c| **c).count();
        assert!((19_600..=20_400).contains(&heads), "{heads} of 40000");
        let same = coins.windows(2).filter(|w| w[0] == w[1]).count();
        assert!((19_600..=20_400).contains(&same), "{same} repeats of 39999");
        assert_ne!(draws(1, 64), draws(2, 64));
    }
}
