//! How much work a CPU second buys: two kernels of a fixed number of operations, and what their times come to.

use darwin_shared::probe::{CapacitySummary, KernelTimes};

/// Rounds of a kernel's loop: about a millisecond on a core of 3 GHz.
pub const KERNEL_ROUNDS: u32 = 400_000;
/// What both kernels begin with.
pub const KERNEL_SEED: u64 = 0x9E37_79B9_7F4A_7C15;
/// What the kernels give for [`KERNEL_SEED`] and [`KERNEL_ROUNDS`]; another value means that not all of it was done.
pub const WIDTH_RESULT: u64 = 0x4E29_53C5_8F59_04E5;
/// The same of the latency-bound one.
pub const LATENCY_RESULT: u64 = 0xAA1E_35A9_A7AB_2095;
/// Of two kernels that got slower, this much more of one than of the other tells a neighbour from the frequency.
const APART: f64 = 1.03;

/// Bound by how many instructions a core issues at once: eight chains that need nothing of each other.
///
/// Each chain rotates and mixes, so that nothing can be computed ahead, and all differ, so that no vector takes them
/// together.
#[expect(clippy::many_single_char_names, reason = "eight chains that differ in their operations only")]
pub fn width_kernel(seed: u64, rounds: u32) -> u64 {
    let mut a = seed;
    let mut b = seed.rotate_left(8) ^ 1;
    let mut c = seed.rotate_left(16) ^ 2;
    let mut d = seed.rotate_left(24) ^ 3;
    let mut e = seed.rotate_left(32) ^ 4;
    let mut f = seed.rotate_left(40) ^ 5;
    let mut g = seed.rotate_left(48) ^ 6;
    let mut h = seed.rotate_left(56) ^ 7;
    for round in 0..u64::from(rounds) {
        a = a.rotate_left(5).wrapping_add(round);
        b = b.rotate_right(7) ^ round;
        c = c.wrapping_add(round) ^ 0x55;
        d = d.rotate_left(11).wrapping_sub(round);
        e = (e ^ round).wrapping_add(0x33);
        f = f.rotate_right(13).wrapping_add(3);
        g = g.wrapping_sub(round).rotate_left(17);
        h = (h ^ 0x77).wrapping_sub(round);
    }
    [b, c, d, e, f, g, h].into_iter().fold(a, |sum, chain| sum.rotate_left(1) ^ chain)
}

/// Bound by how long one operation takes: a chain in which each needs the one before it (xorshift, Marsaglia 2003).
pub fn latency_kernel(seed: u64, rounds: u32) -> u64 {
    let mut x = seed;
    for _ in 0..rounds {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}

/// What the times of a kernel come to; none of no times.
pub fn times(all_ns: &[u64]) -> Option<KernelTimes> {
    let mut sorted = all_ns.to_vec();
    sorted.sort_unstable();
    // Nearest rank.
    let at =
        |part: usize, of: usize| sorted.get((sorted.len() * part).div_ceil(of).saturating_sub(1)).copied();
    Some(KernelTimes {
        median_ns: at(1, 2)?,
        p90_ns: at(9, 10)?,
        min_ns: *sorted.first()?,
        runs: u32::try_from(sorted.len()).unwrap_or(u32::MAX),
    })
}

/// The best medians that a CPU ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Best {
    /// Of the issue-width-bound kernel, in nanoseconds.
    pub width_ns: u64,
    /// Of the latency-bound one.
    pub latency_ns: u64,
}

/// Both kernels' times against the best of this CPU, if it has one.
pub fn capacity(width: KernelTimes, latency: KernelTimes, best: Option<Best>) -> CapacitySummary {
    // The time of now may be the new best: then it is 1.
    let ratio = |median: u64, best: u64| (best > 0).then(|| (median as f64 / best as f64).max(1.0));
    CapacitySummary {
        width_of_best: best.and_then(|best| ratio(width.median_ns, best.width_ns)),
        latency_of_best: best.and_then(|best| ratio(latency.median_ns, best.latency_ns)),
        width,
        latency,
    }
}

/// What made a CPU slow, by which of the kernels suffered more.
pub fn why_slow(capacity: &CapacitySummary) -> &'static str {
    match (capacity.width_of_best, capacity.latency_of_best) {
        (Some(width), Some(latency)) if width > latency * APART => {
            "an SMT neighbour, or somebody else on the host's core"
        }
        (Some(_), Some(_)) => "a lower frequency",
        (None, _) | (_, None) => "not known by what",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kernels_do_all_of_their_work() {
        let (width, latency) =
            (width_kernel(KERNEL_SEED, KERNEL_ROUNDS), latency_kernel(KERNEL_SEED, KERNEL_ROUNDS));
        assert_eq!((width, latency), (WIDTH_RESULT, LATENCY_RESULT), "{width:#x} {latency:#x}");
    }

    #[test]
    fn small_numbers_are_what_a_hand_computes() {
        // 1 ^ 1<<13 = 0x2001; ^ >>7 = 0x2041; ^ <<17 = 0x4082_2041.
        assert_eq!(latency_kernel(1, 1), 0x4082_2041);
        assert_eq!(latency_kernel(1, 0), 1);
        let start = [0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(width_kernel(0, 0), start.into_iter().fold(0u64, |sum, x| sum.rotate_left(1) ^ x));
        assert_ne!(width_kernel(0, 1), width_kernel(0, 2));
    }

    #[test]
    fn the_ratio_tells_a_neighbour_from_the_frequency() {
        let at = |median_ns| KernelTimes { median_ns, p90_ns: median_ns, min_ns: median_ns, runs: 50 };
        let best = Some(Best { width_ns: 1_000, latency_ns: 1_000 });
        let neighbour = capacity(at(1_500), at(1_060), best);
        assert!(why_slow(&neighbour).contains("neighbour"));
        assert!((neighbour.of_best().unwrap() - 1.5).abs() < 1e-12);
        assert!(why_slow(&capacity(at(1_200), at(1_200), best)).contains("frequency"));
        let first = capacity(at(1_200), at(1_200), None);
        assert_eq!((first.of_best(), why_slow(&first)), (None, "not known by what"));
        assert_eq!(capacity(at(900), at(900), best).of_best(), Some(1.0));
    }

    proptest! {
        #[test]
        fn times_are_ordered(all in prop::collection::vec(1u64..1_000_000, 0..80)) {
            let Some(times) = times(&all) else {
                prop_assert!(all.is_empty());
                return Ok(());
            };
            prop_assert!(times.min_ns <= times.median_ns && times.median_ns <= times.p90_ns);
            prop_assert_eq!(times.min_ns, *all.iter().min().unwrap());
            prop_assert!(all.iter().filter(|t| **t <= times.median_ns).count() * 2 >= all.len());
        }
    }
}
