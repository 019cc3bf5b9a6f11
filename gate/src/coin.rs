//! The coin: which variant goes first in a round, as a pure function of the job's seed and the round.
//!
//! The coin is what makes the verdict valid whatever the noise is, so a stored seed must replay it anywhere:
//! the key of a `ChaCha8` stream is the seed in little endian (8 bytes), then the 13 bytes `darwin coin/1`, then
//! zeros up to 32; stream number 0; round `r` reads the 32-bit word at position `r`, and its lowest bit says
//! `ChallengerFirst`. Any round can be asked for on its own.
//!
//! Where the two processes of a pair take turns in slices, each slice has a coin of its own, [`slice_order`]: the same
//! stream with the bytes `darwin slice/1`, stream number `round`, the word at position `bench * 2^16 + slice`.

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
/// The same for the slices of a pair.
const SLICE_DOMAIN: &[u8; 14] = b"darwin slice/1";
/// Slices of one bench in one pair whose coins are apart from those of the next bench.
const SLICES_OF_A_BENCH: u128 = 1 << 16;

/// The order of the variants in `round` of the job with this `seed`.
pub fn order(seed: u64, round: u32) -> Order {
    toss(seed, DOMAIN, 0, u128::from(round))
}

/// The order of the variants in one slice of the pair of `round`: `bench` counts the benches of a process, `slice` the
/// slices of that bench, the pilot being 0.
pub fn slice_order(seed: u64, round: u32, bench: u32, slice: u16) -> Order {
    let position = u128::from(bench) * SLICES_OF_A_BENCH + u128::from(slice);
    toss(seed, SLICE_DOMAIN, u64::from(round), position)
}

/// The lowest bit of one word of the stream whose key is the seed and the domain.
fn toss(seed: u64, domain: &[u8], stream_number: u64, position: u128) -> Order {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..8 + domain.len()].copy_from_slice(domain);
    let mut stream = ChaCha8Rng::from_seed(key);
    stream.set_stream(stream_number);
    stream.set_word_pos(position);
    if stream.next_u32() & 1 == 0 { Order::BaselineFirst } else { Order::ChallengerFirst }
}

/// Which of `builds` relinked builds both variants run in `round`, in strict mode: each in turn, so that every build
/// meets every phase of the box. 0 if there is one build, or none.
pub fn build(builds: u32, round: u32) -> u32 {
    round.checked_rem(builds).unwrap_or(0)
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
    fn builds_take_turns() {
        let turns: Vec<u32> = (0..9).map(|round| build(4, round)).collect();
        assert_eq!(turns, [0, 1, 2, 3, 0, 1, 2, 3, 0]);
        assert_eq!((build(1, 7), build(0, 7)), (0, 0));
    }

    #[test]
    fn slices_replay_for_ever_and_are_fair() {
        let first = |round, bench, slice| slice_order(42, round, bench, slice) == Order::ChallengerFirst;
        let text: String = (0..40).map(|slice| if first(3, 1, slice) { 'C' } else { 'B' }).collect();
        insta::assert_snapshot!(text);
        let coins: Vec<bool> = (0..100)
            .flat_map(|round| {
                (0..10).flat_map(move |bench| (0..40).map(move |slice| first(round, bench, slice)))
            })
            .collect();
        let heads = coins.iter().filter(|coin| **coin).count();
        assert!((19_600..=20_400).contains(&heads), "{heads} of 40000");
        let apart = |a: (u32, u32), b: (u32, u32)| {
            (0..64).any(|slice| first(a.0, a.1, slice) != first(b.0, b.1, slice))
        };
        assert!(apart((0, 0), (0, 1)) && apart((0, 0), (1, 0)) && apart((1, 0), (0, 1)));
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
