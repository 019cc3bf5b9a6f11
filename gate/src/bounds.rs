//! The boundaries of the looks: how large a score must be at each look so that, over all looks, the chance
//! of a false crossing stays at alpha.
//!
//! One-sided alpha is spent as `alpha * (n_k / n_max)^p` (the power family of Kim and `DeMets`, in the manner of
//! Lan and `DeMets`), `p = 2` by the first rule and `p = 2.5` by plans since. The constants come by recursion on the score scale: `f_1` is the density of `N(0, n_1)`,
//! `c_k` solves `integral_{c_k}^inf f_k = A_k - A_{k-1}`, what is below `c_k` goes on and is convolved with
//! `N(0, n_{k+1} - n_k)`; the boundary is `z_k = c_k / sqrt(n_k)`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use statrs::distribution::{ContinuousCDF, Normal};

/// Points of the grid that a density is kept on.
const GRID_POINTS: usize = 1201;
/// The grid reaches this many standard deviations to each side.
const GRID_SPAN: f64 = 7.0;
/// Beyond this many standard deviations a normal density is below 1e-22 of its peak.
const KERNEL_SPAN: f64 = 10.0;
/// Kept sets of boundaries: a fleet uses a handful of policies, each with a few numbers of series.
const CACHE_ENTRIES: usize = 512;

/// The boundaries `z_k` of a plan of looks, one per look.
#[derive(Debug, Clone, PartialEq)]
pub struct Boundaries {
    z: Arc<[f64]>,
}

impl Boundaries {
    /// The boundaries of `looks` (ascending pair counts) with one-sided `alpha` spent as the square of the share.
    pub fn new(looks: &[u32], alpha: f64) -> Self {
        Self::with_spending(looks, &spending(looks, alpha))
    }

    /// The boundaries of `looks` when `spent[k]` of the error is used up after look `k`.
    pub fn with_spending(looks: &[u32], spent: &[f64]) -> Self {
        let key: Key = (looks.to_vec(), spent.iter().map(|a| a.to_bits()).collect());
        cached(key, || recursion(looks, spent))
    }

    /// The boundaries that a plan uses: `alpha` spent late, and at most 1.1 times of it for coarse scores.
    pub fn of_plan(looks: &[u32], alpha: f64) -> Self {
        Self::for_coarse_scores(looks, &late_spending(looks, alpha), PLANNED_EXCESS)
    }

    /// The boundaries when the last of `looks` was not planned and spends what the others left of the error, which
    /// coarse scores keep too.
    pub fn with_unplanned_last(looks: &[u32], spent: &[f64]) -> Self {
        Self::for_coarse_scores(looks, spent, 1.0)
    }

    /// The recursion takes the sum of the scores for continuous. With few pairs it is not: a number of pairs may hit a
    /// bad step of the coin's lattice. So the last boundary is at least large enough that the coarsest scores there
    /// are, the plain signs of all pairs or of every second one, cross with at most `excess` times the error.
    fn for_coarse_scores(looks: &[u32], spent: &[f64], excess: f64) -> Self {
        let mut key: Key = (looks.to_vec(), spent.iter().map(|a| a.to_bits()).collect());
        key.1.push(excess.to_bits());
        cached(key, || {
            let mut z = Self::with_spending(looks, spent).z.to_vec();
            let coarse = looks.last().is_some_and(|pairs| *pairs <= COARSE_PAIRS_MAX);
            if let (Some(alpha), true, Some((last, earlier))) = (spent.last(), coarse, z.split_last_mut()) {
                for every in [1, 2] {
                    *last = last.max(sign_floor(looks, earlier, excess * alpha, every));
                }
            }
            z
        })
    }

    /// The boundary of look `index`; infinite (never crossed) if there is no such look.
    pub fn at(&self, index: usize) -> f64 {
        self.z.get(index).copied().unwrap_or(f64::INFINITY)
    }

    /// All boundaries, in the order of the looks.
    pub fn as_slice(&self) -> &[f64] {
        &self.z
    }
}

/// The exponent of [`late_spending`].
const LATE: f64 = 2.5;
/// How much more than its error a plan's coarsest scores may cross: the bar of the proof.
const PLANNED_EXCESS: f64 = 1.1;
/// Above so many pairs a step of the lattice is too small to matter.
const COARSE_PAIRS_MAX: u32 = 256;

/// The smallest boundary of the last look that keeps the error at `alpha` when every `every`-th pair scores its sign
/// and the others nothing: a random walk with the earlier looks as absorbing boundaries, counted exactly.
fn sign_floor(looks: &[u32], earlier: &[f64], alpha: f64, every: u32) -> f64 {
    let steps = looks.last().map_or(0, |pairs| pairs / every) as usize;
    // The walk's sum is `at - steps`.
    let mut chance = vec![0.0; 2 * steps + 1];
    chance[steps] = 1.0;
    let boundary_of =
        |pairs: u32| looks.iter().zip(earlier).find(|(look, _)| **look == pairs).map(|(_, z)| *z);
    let norm = |pairs: u32| f64::from(pairs / every).sqrt();
    let mut crossed = 0.0;
    for pairs in 1..=looks.last().copied().unwrap_or(0) {
        if pairs % every == 0 {
            let mut next = vec![0.0; chance.len()];
            for (at, p) in chance.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                next[at + 1] += p / 2.0;
                next[at - 1] += p / 2.0;
            }
            chance = next;
        }
        if let Some(z) = boundary_of(pairs) {
            for (at, p) in chance.iter_mut().enumerate().skip(steps) {
                if (at - steps) as f64 / norm(pairs) >= z {
                    crossed += std::mem::take(p);
                }
            }
        }
    }
    // From the far end inward, until one more sum would cost too much: the boundary lies just above that sum.
    for (at, p) in chance.iter().enumerate().skip(steps).rev() {
        crossed += p;
        if crossed > alpha {
            return ((at - steps) as f64 + ABOVE_A_SUM) / (steps as f64).sqrt();
        }
    }
    0.0
}

/// How far above a sum of signs a boundary lies: enough to clear the sums of nearly equal scores too.
const ABOVE_A_SUM: f64 = 0.1;

/// Looks, and the bits of what is spent; what is not made by the recursion alone has one number more.
type Key = (Vec<u32>, Vec<u64>);

/// Boundaries are worked out once in a process: the same key always gives the same numbers.
fn cached(key: Key, work_out: impl FnOnce() -> Vec<f64>) -> Boundaries {
    static CACHE: LazyLock<Mutex<BTreeMap<Key, Arc<[f64]>>>> = LazyLock::new(Mutex::default);
    // A poisoned cache still holds only whole entries: they are inserted in one step.
    if let Some(z) = CACHE.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Boundaries { z: Arc::clone(z) };
    }
    let z: Arc<[f64]> = work_out().into();
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= CACHE_ENTRIES {
        cache.clear();
    }
    cache.insert(key, Arc::clone(&z));
    Boundaries { z }
}

/// How much of `alpha` is used up after each look: `alpha * (n / n_max)^2`.
pub fn spending(looks: &[u32], alpha: f64) -> Vec<f64> {
    shares(looks).map(|share| alpha * share.powi(2)).collect()
}

/// `alpha * (n / n_max)^2.5`: keeps more for the last look than [`spending`]. On real contended work it finds 1 point more
/// of what is small, and lets what is large run for up to two pairs longer.
pub fn late_spending(looks: &[u32], alpha: f64) -> Vec<f64> {
    shares(looks).map(|share| alpha * share.powf(LATE)).collect()
}

/// Each look's share of the last one's pairs.
fn shares(looks: &[u32]) -> impl Iterator<Item = f64> {
    let last = looks.last().copied().map_or(1.0, f64::from);
    looks.iter().map(move |n| f64::from(*n) / last)
}

/// A sub-density of the score sum on an even grid.
struct Density {
    first: f64,
    step: f64,
    values: Vec<f64>,
}

fn recursion(looks: &[u32], spent: &[f64]) -> Vec<f64> {
    let mut z = Vec::with_capacity(looks.len());
    let mut survivors: Option<Density> = None;
    let (mut pairs_before, mut spent_before) = (0.0, 0.0);
    for (look, spent_now) in looks.iter().zip(spent) {
        let pairs = f64::from(*look);
        let reach = GRID_SPAN * pairs.sqrt();
        let grid = Grid { first: -reach, step: 2.0 * reach / (GRID_POINTS - 1) as f64 };
        let sd = (pairs - pairs_before).sqrt();
        let values = match &survivors {
            None => (0..GRID_POINTS).map(|i| normal_density(grid.at(i), sd)).collect(),
            Some(before) => convolve(before, &grid, sd),
        };
        let mut density = Density { first: grid.first, step: grid.step, values };
        let (bound, keep) = crossing(&density, &grid, spent_now - spent_before, pairs);
        z.push(bound / pairs.sqrt());
        density.values.truncate(keep);
        survivors = Some(density);
        (pairs_before, spent_before) = (pairs, *spent_now);
    }
    z
}

struct Grid {
    first: f64,
    step: f64,
}

impl Grid {
    fn at(&self, index: usize) -> f64 {
        self.first + self.step * index as f64
    }
}

fn normal_density(x: f64, sd: f64) -> f64 {
    let u = x / sd;
    (-0.5 * u * u).exp() / (sd * std::f64::consts::TAU.sqrt())
}

/// The density after adding `N(0, sd^2)`: a sum over the old grid for every point of the new one.
///
/// Along an even grid the normal density is a product of two geometric sequences, so one exponential at the
/// peak and multiplications from there to both sides replace an exponential for every pair of points.
fn convolve(before: &Density, grid: &Grid, sd: f64) -> Vec<f64> {
    let h = before.step / sd;
    let curve = (-h * h).exp();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive number of points"
    )]
    let reach = (KERNEL_SPAN / h).ceil() as usize;
    let scale = before.step / (sd * std::f64::consts::TAU.sqrt());
    let count = before.values.len();
    let sum_at = |x: f64| {
        let offset = ((x - before.first) / before.step).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the grid")]
        let peak = offset.clamp(0.0, count.saturating_sub(1) as f64) as usize;
        let u = (before.first + before.step * peak as f64 - x) / sd;
        let top = (-0.5 * u * u).exp();
        let kernel = |toward: f64| Kernel { top, ratio: (-toward * u * h - 0.5 * h * h).exp(), curve };
        let right = kernel(1.0).sum(before.values.iter().skip(peak + 1).take(reach));
        let left = kernel(-1.0).sum(before.values.iter().take(peak).rev().take(reach));
        before.values.get(peak).map_or(0.0, |value| scale * (top * value + right + left))
    };
    (0..GRID_POINTS).map(|i| sum_at(grid.at(i))).collect()
}

/// A normal density walked along an even grid, from next to its peak outward.
struct Kernel {
    /// The weight at the peak.
    top: f64,
    /// From there to the first point.
    ratio: f64,
    /// By how much the ratio shrinks from point to point.
    curve: f64,
}

impl Kernel {
    fn sum<'a>(self, values: impl Iterator<Item = &'a f64>) -> f64 {
        let (mut weight, mut ratio, mut sum) = (self.top, self.ratio, 0.0);
        for value in values {
            weight *= ratio;
            ratio *= self.curve;
            sum += weight * value;
        }
        sum
    }
}

/// Where the tail above holds exactly `increment`, linear in the log of the tail; and how many points survive.
fn crossing(density: &Density, grid: &Grid, increment: f64, pairs: f64) -> (f64, usize) {
    let values = &density.values;
    let h = density.step;
    let mut tails = vec![0.0; values.len()];
    let mut sum = 0.0;
    for (tail, value) in tails.iter_mut().zip(values).rev() {
        sum += value;
        *tail = sum * h - value * h / 2.0;
    }
    let j = tails.partition_point(|tail| *tail > increment);
    let bound = match (j.checked_sub(1), tails.get(j)) {
        (Some(i), Some(tail)) => {
            let (y0, y1) = (tails[i].ln(), tail.max(1e-300).ln());
            grid.at(i) + (increment.ln() - y0) * h / (y1 - y0)
        }
        (None, _) => grid.first,
        // The error to spend is beyond the grid's end: the fixed-sample bound is safe, only a hair stricter.
        (Some(_), None) => -Normal::standard().inverse_cdf(increment) * pairs.sqrt(),
    };
    (bound, (0..values.len()).take_while(|i| grid.at(*i) < bound).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(looks: &[u32], alpha: f64) -> Vec<f64> {
        Boundaries::new(looks, alpha).as_slice().iter().map(|z| (z * 100.0).round() / 100.0).collect()
    }

    #[test]
    fn published_vectors() {
        let looks = [10, 14, 20, 28, 40];
        assert_eq!(rounded(&looks, 0.01), [3.23, 3.15, 2.93, 2.71, 2.45]);
        assert_eq!(rounded(&looks, 0.01 / 3.0), [3.53, 3.46, 3.27, 3.07, 2.84]);
        assert_eq!(rounded(&[10, 14, 20, 28, 40, 56, 80], 0.01), [3.60, 3.54, 3.35, 3.16, 2.93, 2.71, 2.45]);
        assert_eq!(rounded(&[40], 0.01), [2.33]);
    }

    #[test]
    fn an_unplanned_look_clears_the_signs_of_few_pairs() {
        // One look at 10 pairs: 10 of 10 have 1/1024, 9 or more 11/1024. At 1% only 10 of 10 may cross.
        let z = Boundaries::with_unplanned_last(&[10], &[0.01]).at(0);
        assert!(8.0 / 10.0f64.sqrt() < z && z < 10.0 / 10.0f64.sqrt(), "{z}");
        // Every second pair only: 5 of 5 have 1/32, so nothing may cross there.
        assert!(z > 5.0 / 5.0f64.sqrt(), "{z}");
        // With many pairs the steps are fine, and the plan's own boundary stands.
        let (looks, spent) = ([200, 300], [0.001, 0.01]);
        assert_eq!(
            Boundaries::with_unplanned_last(&looks, &spent),
            Boundaries::with_spending(&looks, &spent)
        );
    }

    #[test]
    fn any_alpha_gives_finite_ordered_bounds() {
        let looks = [10, 14, 20, 28, 40];
        let mut before = vec![0.0; 5];
        for alpha in [0.4999, 0.1, 0.01, 1e-4, 1e-7, 1e-12, 1e-40] {
            let z = Boundaries::new(&looks, alpha);
            assert!(z.as_slice().iter().all(|z| z.is_finite()), "alpha {alpha}: {z:?}");
            assert!(z.as_slice().iter().zip(&before).all(|(z, b)| z > b), "alpha {alpha}: {z:?}");
            before = z.as_slice().to_vec();
        }
        assert_eq!(Boundaries::new(&[], 0.01).as_slice(), [0.0; 0]);
        assert_eq!(Boundaries::with_unplanned_last(&[], &[]).as_slice(), [0.0; 0]);
        assert!(Boundaries::new(&looks, 0.01).at(5).is_infinite());
    }
}
