//! The guard for rare slow processes: is the worst tenth of the challenger's invocations worse than the baseline's?
//!
//! A robust centre is blind to "one process in ten is 20% slower". The guard compares the logs of the means of the
//! worst tenth of each side's invocations, `T = ln mean(worst tenth of B) - ln mean(worst tenth of A)`, after taking
//! the margin off the challenger. The coin makes every swap of labels inside a pair equally likely if the challenger
//! is the baseline times the margin, so `p = (1 + #{T* >= T}) / (1 + swaps)` is exact whatever the noise is (Phipson
//! & Smyth 2010). Labels are swapped in all series of a round at once, for one coin was tossed for the round: the
//! largest studentised `T` over the series is one single test (Westfall & Young 1993, single-step max-T).
//!
//! The swaps are drawn from the job's seed, so the answer replays: the key of a `ChaCha8` stream is the seed in little
//! endian (8 bytes), then the 13 bytes `darwin swap/1`, then zeros; stream 0 draws the swaps, stream 1 those that
//! the scale of each series comes from.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Separates this use of the seed from any other.
const DOMAIN: &[u8; 13] = b"darwin swap/1";
/// Swaps for each `1 / alpha`: the answer then hangs on ten swaps, not on one.
const SWAPS_PER_ALPHA: f64 = 10.0;
/// The most swaps: a tenth of a second for a hundred series.
const SWAPS_MAX: u32 = 50_000;
/// Swaps that the scale of a series comes from: 5% accurate, and only the power hangs on it.
const SCALE_SWAPS: u32 = 256;
/// Statistics closer than this are the same: swaps that change nothing must count as ties.
const SAME: f64 = 1e-9;
/// One invocation in so many is the worst part.
const WORST_PART: usize = 10;

/// Whether `alpha` is large enough for the guard to fire at all with the swaps that it may draw.
pub(crate) fn can_fire(alpha: f64) -> bool {
    alpha * f64::from(SWAPS_MAX + 1) >= 1.0
}

/// One series of the guard: logs of its values per round, oriented so that larger is worse.
#[derive(Debug, Clone)]
pub(crate) struct Guarded {
    rounds: usize,
    /// Values of the worst tenth.
    worst: usize,
    /// All values, worst first.
    ranked: Vec<Ranked>,
    /// The larger value of each round is the challenger's.
    challenger_larger: Vec<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Ranked {
    /// The value over the largest one.
    share: f64,
    round: usize,
    /// It is its round's larger value.
    larger: bool,
}

impl Guarded {
    /// `baseline` and `challenger` hold one finite log value per round; `margin` is the log effect that is tolerated.
    pub(crate) fn new(baseline: &[f64], challenger: &[f64], margin: f64) -> Self {
        let pairs: Vec<(f64, f64)> = baseline.iter().zip(challenger).map(|(a, b)| (*a, b - margin)).collect();
        let top = pairs.iter().fold(f64::NEG_INFINITY, |top, (a, b)| top.max(*a).max(*b));
        let mut ranked: Vec<Ranked> = Vec::with_capacity(2 * pairs.len());
        for (round, (a, b)) in pairs.iter().enumerate() {
            let share = |value: f64| (value - top).exp();
            ranked.push(Ranked { share: share(a.max(*b)), round, larger: true });
            ranked.push(Ranked { share: share(a.min(*b)), round, larger: false });
        }
        ranked.sort_by(|x, y| y.share.total_cmp(&x.share));
        let challenger_larger = pairs.iter().map(|(a, b)| b > a).collect();
        Self { rounds: pairs.len(), worst: pairs.len().div_ceil(WORST_PART), ranked, challenger_larger }
    }

    /// `T` when `to_challenger(round)` says whether the round's larger value is the challenger's.
    fn statistic(&self, to_challenger: impl Fn(usize) -> bool) -> f64 {
        let (mut challenger, mut baseline) = ((0.0, 0), (0.0, 0));
        for value in &self.ranked {
            let side =
                if to_challenger(value.round) == value.larger { &mut challenger } else { &mut baseline };
            if side.1 < self.worst {
                side.0 += value.share;
                side.1 += 1;
            }
            if challenger.1 == self.worst && baseline.1 == self.worst {
                break;
            }
        }
        // A side far below the other may underflow to nothing: that is as far away as a number can be.
        let t = (challenger.0 / baseline.0).ln();
        if t.is_nan() { 0.0 } else { t.clamp(-f64::MAX.ln(), f64::MAX.ln()) }
    }

    fn observed(&self) -> f64 {
        self.statistic(|round| self.challenger_larger.get(round).copied().unwrap_or(false))
    }

    /// The standard deviation of `T` over swaps; the same for every labelling of these pairs.
    fn scale(&self, key: [u8; 32]) -> f64 {
        let mut swaps = Swaps::new(key, 1, self.rounds);
        let squares: f64 = (0..SCALE_SWAPS)
            .map(|_| {
                swaps.draw();
                self.statistic(|round| swaps.bit(round)).powi(2)
            })
            .sum();
        (squares / f64::from(SCALE_SWAPS)).sqrt()
    }
}

/// The log of the mean of the worst tenth of these, given as logs where larger is worse. None without values.
pub(crate) fn worst_tenth(logs: &[f64]) -> Option<f64> {
    let mut sorted = logs.to_vec();
    sorted.sort_by(|x, y| y.total_cmp(x));
    let top = *sorted.first()?;
    let worst = &sorted[..sorted.len().div_ceil(WORST_PART)];
    Some(top + (worst.iter().map(|v| (v - top).exp()).sum::<f64>() / worst.len() as f64).ln())
}

/// The series on which the guard fires at one-sided `alpha`, by their place in `series`; all have the same rounds.
pub(crate) fn fires(series: &[Guarded], alpha: f64, seed: u64) -> Vec<usize> {
    let rounds = series.iter().map(|s| s.rounds).max().unwrap_or(0);
    if rounds == 0 || !can_fire(alpha) {
        return Vec::new();
    }
    let key = key(seed);
    let scales: Vec<f64> = series.iter().map(|s| s.scale(key)).collect();
    let in_scale = |t: f64, scale: f64| if scale > 0.0 { t / scale } else { 0.0 };
    let observed: Vec<f64> =
        series.iter().zip(&scales).map(|(s, scale)| in_scale(s.observed(), *scale)).collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "held between 1 and the limit"
    )]
    let count = (SWAPS_PER_ALPHA / alpha).ceil().clamp(1.0, f64::from(SWAPS_MAX)) as u32;
    // p <= alpha as long as at most so many swaps are as large.
    let allowed = (alpha * f64::from(count + 1)).floor() - 1.0;
    let mut as_large = vec![0_u32; series.len()];
    let mut swaps = Swaps::new(key, 0, rounds);
    for _ in 0..count {
        swaps.draw();
        let swapped = series.iter().zip(&scales).map(|(s, scale)| {
            // A swap of the round turns every series over, whichever of its values is the larger one.
            let larger = |round: usize| s.challenger_larger.get(round).copied().unwrap_or(false);
            in_scale(s.statistic(|round| swaps.bit(round) != larger(round)), *scale)
        });
        let largest = swapped.fold(f64::NEG_INFINITY, f64::max);
        for (count, t) in as_large.iter_mut().zip(&observed) {
            *count += u32::from(largest >= t - SAME);
        }
        if as_large.iter().all(|count| f64::from(*count) > allowed) {
            return Vec::new();
        }
    }
    (0..series.len())
        .filter(|at| as_large.get(*at).is_some_and(|count| f64::from(*count) <= allowed))
        .collect()
}

fn key(seed: u64) -> [u8; 32] {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..8 + DOMAIN.len()].copy_from_slice(DOMAIN);
    key
}

/// A fair bit for every round, drawn anew for every swap.
struct Swaps {
    stream: ChaCha8Rng,
    words: Vec<u64>,
}

impl Swaps {
    fn new(key: [u8; 32], stream_number: u64, rounds: usize) -> Self {
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(stream_number);
        Self { stream, words: vec![0; rounds.div_ceil(64)] }
    }

    fn draw(&mut self) {
        for word in &mut self.words {
            *word = self.stream.next_u64();
        }
    }

    fn bit(&self, round: usize) -> bool {
        self.words.get(round / 64).is_some_and(|word| (word >> (round % 64)) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_worst_tenth_by_hand() {
        // 20 values: the worst two are 4 and 2, their mean 3.
        let logs: Vec<f64> = (0..20).map(|i| [4.0f64, 2.0, 1.0][usize::min(i, 2)].ln()).collect();
        assert!((worst_tenth(&logs).unwrap() - 3.0f64.ln()).abs() < 1e-12);
        assert_eq!(worst_tenth(&[]), None);
        // Beside a side of ones, T = ln 3; with a margin of ln 1.5 it is ln 2.
        let same = vec![0.0; 20];
        assert!((Guarded::new(&same, &logs, 0.0).observed() - 3.0f64.ln()).abs() < 1e-12);
        assert!((Guarded::new(&same, &logs, 1.5f64.ln()).observed() - 2.0f64.ln()).abs() < 1e-12);
        assert!((Guarded::new(&logs, &same, 0.0).observed() + 3.0f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn fires_on_what_only_one_side_has() {
        // Ten of 40 processes of the challenger are 30% slower: by chance all on one side once in 1024.
        let small = |k: u32| 0.001 * f64::from(k * 7 % 40);
        let quiet: Vec<f64> = (0..40).map(small).collect();
        let slow: Vec<f64> = (0..40).map(|k| small(k) + if k % 4 == 0 { 0.26 } else { 0.0 }).collect();
        let one = |a: &[f64], b: &[f64]| vec![Guarded::new(a, b, 0.01)];
        assert_eq!(fires(&one(&quiet, &slow), 0.01, 1), [0]);
        assert_eq!(fires(&one(&slow, &quiet), 0.01, 1), [0; 0]);
        assert_eq!(fires(&one(&quiet, &quiet), 0.01, 1), [0; 0]);
        assert_eq!(fires(&one(&quiet, &slow), 1e-6, 1), [0; 0], "too small an alpha for its swaps");
        // Among others it is the one that is named, and margins above it keep it quiet.
        let three = [one(&quiet, &quiet), one(&quiet, &slow), one(&quiet, &quiet)].concat();
        assert_eq!(fires(&three, 0.005, 9), [1]);
        assert_eq!(fires(&[Guarded::new(&quiet, &slow, 0.3)], 0.01, 1), [0; 0]);
    }

    #[test]
    fn without_evidence_it_is_silent() {
        assert_eq!(fires(&[], 0.01, 1), [0; 0]);
        assert_eq!(fires(&[Guarded::new(&[], &[], 0.0)], 0.4, 1), [0; 0]);
        assert_eq!(fires(&[Guarded::new(&[1.0; 40], &[1.0; 40], 0.0)], 0.4, 1), [0; 0]);
        let far = Guarded::new(&[-700.0; 12], &[700.0; 12], 0.0);
        assert_eq!(fires(&[far], 0.01, 1), [0]);
    }

    proptest! {
        #[test]
        fn the_scale_is_blind_to_labels(values in prop::collection::vec((-1.0f64..1.0, -1.0f64..1.0, any::<bool>()), 1..60)) {
            let plain: (Vec<f64>, Vec<f64>) = values.iter().map(|(a, b, _)| (*a, *b)).unzip();
            let swapped: (Vec<f64>, Vec<f64>) =
                values.iter().map(|(a, b, swap)| if *swap { (*b, *a) } else { (*a, *b) }).unzip();
            let scale = |(a, b): &(Vec<f64>, Vec<f64>)| Guarded::new(a, b, 0.0).scale(key(3));
            prop_assert!((scale(&plain) - scale(&swapped)).abs() < 1e-12);
        }
    }
}
