//! The exact error of the boundaries: how often a coin alone carries the score across one of them.
//!
//! Given the sizes `u_k` of the scores, the coin makes every pattern of signs equally likely. With sizes on a lattice
//! the distribution of their sum is exact by dynamic programming: what crosses at a look leaves, the rest goes on.

use darwin_gate::bounds::{Boundaries, late_spending};
use darwin_gate::policy::default_looks;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::stream::{Purpose, stream};

/// Steps of the lattice: a size of 1 is this many.
const UNIT: i64 = 200;
/// Vectors of sizes drawn for a random shape.
const DRAWS: u32 = 100;

/// A shape of the sizes of scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All clipped.
    Equal,
    /// Uniform in 0..1.
    Uniform,
    /// Every other score is next to nothing.
    HalfZero,
    /// Normal scores with the one clip of heavy tails.
    ClippedNormal,
    /// Normal scores with the two clips of light tails.
    TwoClips,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Equal, Self::Uniform, Self::HalfZero, Self::ClippedNormal, Self::TwoClips];

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equal => "all equal",
            Self::Uniform => "uniform",
            Self::HalfZero => "half zero",
            Self::ClippedNormal => "clipped normal",
            Self::TwoClips => "two clips",
        }
    }

    /// Sizes on the lattice, each at least one step.
    fn sizes(self, count: u32, seed: u64, draw: u32) -> Vec<i64> {
        let mut rng = stream(seed, Purpose::Shape, self as u8, draw);
        let normal = |rng: &mut ChaCha8Rng| -> f64 { StandardNormal.sample(rng) };
        // A normal score in robust standard deviations is clipped at 0.5 of them, or at 0.3 and at 2.5.
        let sizes: Vec<f64> = match self {
            Self::Equal => vec![1.0; count as usize],
            Self::Uniform => (0..count).map(|_| rng.random()).collect(),
            Self::HalfZero => (0..count).map(|k| if k % 2 == 1 { 1.0 } else { 0.02 }).collect(),
            Self::ClippedNormal => (0..count).map(|_| normal(&mut rng).abs() / 0.5).collect(),
            Self::TwoClips => {
                let scores: Vec<f64> = (0..count).map(|_| normal(&mut rng).abs()).collect();
                let clipped = |clip: f64| {
                    let sizes: Vec<f64> = scores.iter().map(|z| (z / clip).min(1.0)).collect();
                    let length = sizes.iter().map(|u| u * u).sum::<f64>().sqrt();
                    sizes.into_iter().map(move |u| u / length)
                };
                let mixed: Vec<f64> =
                    clipped(0.3).zip(clipped(2.5)).map(|(sharp, wide)| sharp + 0.6 * wide).collect();
                let largest = mixed.iter().copied().fold(0.0, f64::max);
                mixed.into_iter().map(|size| size / largest).collect()
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and 1")]
        let on_lattice = |size: f64| ((size.min(1.0) * UNIT as f64).round() as i64).max(1);
        sizes.into_iter().map(on_lattice).collect()
    }
}

/// A plan of looks and an alpha that the gate uses.
#[derive(Debug, Clone)]
pub struct Boundary {
    /// Pairs at each look.
    pub looks: Vec<u32>,
    /// One-sided.
    pub alpha: f64,
    /// The boundary of each look.
    pub bounds: Boundaries,
    /// What it is for.
    pub use_of: String,
}

/// The boundaries in use: whole jobs of 10 to 160 pairs and jobs of 40 that end early, with alpha for one test and
/// split over several.
pub fn in_use() -> Vec<Boundary> {
    let mut boundaries = Vec::new();
    for tests in [1u32, 2, 3, 4, 12, 36, 37] {
        let alpha = 0.01 / f64::from(tests);
        for max_pairs in [10, 12, 20, 30, 40, 60, 80, 160] {
            let looks = default_looks(max_pairs);
            let bounds = Boundaries::of_plan(&looks, alpha);
            let use_of = format!("{max_pairs} pairs, alpha 1%/{tests}");
            boundaries.push(Boundary { looks, alpha, bounds, use_of });
        }
        for ended_at in [11, 17, 25, 39] {
            let planned = default_looks(40);
            let taken = planned.iter().filter(|look| **look < ended_at).count();
            let mut looks = planned[..taken].to_vec();
            let mut spent = late_spending(&planned, alpha)[..taken].to_vec();
            looks.push(ended_at);
            spent.push(alpha);
            let bounds = Boundaries::with_unplanned_last(&looks, &spent);
            let use_of = format!("40 pairs that end after {ended_at}, alpha 1%/{tests}");
            boundaries.push(Boundary { looks, alpha, bounds, use_of });
        }
    }
    boundaries
}

/// The error of a boundary over its nominal alpha, for one shape. Noise draws the sizes, so the error under it is the
/// mean over vectors of sizes; single vectors have more or less, and the largest is told too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excess {
    /// Which shape.
    pub shape: Shape,
    /// The mean.
    pub mean: f64,
    /// The largest.
    pub largest: f64,
}

/// The exact errors of a boundary for every shape.
pub fn errors(boundary: &Boundary, seed: u64) -> Vec<Excess> {
    let last = boundary.looks.last().copied().unwrap_or(0);
    Shape::ALL
        .into_iter()
        .map(|shape| {
            let draws = match shape {
                Shape::Equal | Shape::HalfZero => 1,
                Shape::Uniform | Shape::ClippedNormal | Shape::TwoClips => DRAWS,
            };
            let excesses: Vec<f64> = (0..draws)
                .into_par_iter()
                .map(|draw| {
                    let sizes = shape.sizes(last, seed, draw);
                    crossing_chance(&sizes, &boundary.looks, boundary.bounds.as_slice()) / boundary.alpha
                })
                .collect();
            let mean = excesses.iter().sum::<f64>() / f64::from(draws);
            Excess { shape, mean, largest: excesses.into_iter().fold(0.0, f64::max) }
        })
        .collect()
}

/// The chance that `sum u / sqrt(sum u^2)` reaches the boundary at one of the looks.
fn crossing_chance(sizes: &[i64], looks: &[u32], bounds: &[f64]) -> f64 {
    let reach: i64 = sizes.iter().sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a lattice of some thousand steps"
    )]
    let (width, middle) = ((2 * reach + 1) as usize, reach as usize);
    let mut chances = vec![0.0f64; width];
    let mut next = vec![0.0f64; width];
    chances[middle] = 1.0;
    let (mut crossed, mut squares, mut so_far) = (0.0, 0.0, 0usize);
    let mut looks = looks.iter().zip(bounds).peekable();
    for (k, size) in (1u32..).zip(sizes) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least one step")]
        let step = *size as usize;
        next[middle - so_far - step..=middle + so_far + step].fill(0.0);
        for at in middle - so_far..=middle + so_far {
            let half = chances[at] / 2.0;
            if half > 0.0 {
                next[at - step] += half;
                next[at + step] += half;
            }
        }
        std::mem::swap(&mut chances, &mut next);
        so_far += step;
        squares += (*size * *size) as f64;
        if let Some((_, bound)) = looks.next_if(|(look, _)| **look == k) {
            // A hair of slack, so that a sum that equals the bound counts as crossing.
            let level = bound * squares.sqrt() - 1e-9;
            let outside =
                chances.iter_mut().enumerate().skip(middle).filter(|(at, _)| (at - middle) as f64 >= level);
            for (_, chance) in outside {
                crossed += std::mem::take(chance);
            }
        }
    }
    crossed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Ten equal scores: Z >= 3 asks for all ten heads, 1 in 1024; Z >= 2.5 for nine, 11 in 1024.
        let sizes = vec![UNIT; 10];
        assert!((crossing_chance(&sizes, &[10], &[3.0]) - 1.0 / 1024.0).abs() < 1e-12);
        assert!((crossing_chance(&sizes, &[10], &[2.5]) - 11.0 / 1024.0).abs() < 1e-12);
        // Two looks: nine of the first nine, or else nine of ten.
        let both = crossing_chance(&sizes, &[9, 10], &[3.0, 2.5]);
        assert!((both - (1.0 / 512.0 + 9.0 / 1024.0)).abs() < 1e-12, "{both}");
    }
}
