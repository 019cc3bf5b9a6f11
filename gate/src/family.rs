//! How many tests the gated series are worth, where their pairs agree.
//!
//! REJECT is a union of tests. Bonferroni's share, alpha over the number of series, wastes what series have in common:
//! the median and the mean of one bench rise and fall together, and two tests that always agree are one. Hunter (1976)
//! and Worsley (1982): for any tree over the tests, `P(any) <= sum P(i) - sum over edges P(i and j)`. At a boundary `z`
//! each test has the same tail, so the family is worth `M = n - sum over edges P(Z_j > z | Z_i > z)` tests.
//!
//! One coin turns all series of a round over together, so given all magnitudes the scores of two series have a known
//! correlation: the sum of the products of their unit scores, which no swap of labels changes. The conditional chance
//! is then that of a bivariate normal. Trees span the series of one bench; benches count as independent, which only
//! costs power.

use statrs::distribution::{Continuous, ContinuousCDF, Normal};

/// Correlations below this gain nothing that is worth its price.
const LEAST_CORRELATION: f64 = 0.3;
/// A series is joined to the closest of so many before it: bounds the work for benches with many metrics.
const NEIGHBOURS: usize = 8;
/// Points of the integral over the tail, and how far it reaches in standard deviations.
const POINTS: u32 = 48;
const REACH: f64 = 5.0;
/// Steps to a doubling on the grid of worths: boundaries are worked out for a few numbers of tests, not for any.
const GRID_PER_DOUBLING: f64 = 16.0;

/// The correlations along the tree of one bench: `scores[i]` are the unit scores of its `i`-th series, by round.
pub(crate) fn tree(scores: &[Vec<f64>]) -> Vec<f64> {
    let correlation = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let closest = |i: usize| {
        let earlier = &scores[i.saturating_sub(NEIGHBOURS)..i];
        earlier.iter().map(|other| correlation(other, &scores[i])).fold(f64::NEG_INFINITY, f64::max)
    };
    (1..scores.len()).map(closest).filter(|r| *r > LEAST_CORRELATION).collect()
}

/// What `tests` tests with these correlations along their trees are worth at the boundary `z`; at least 1.
pub(crate) fn worth(tests: f64, correlations: &[f64], z: f64) -> f64 {
    let shared: f64 = correlations.iter().map(|r| both(*r, z)).sum();
    (tests - shared).max(1.0)
}

/// The next larger number on a grid of sixteen to a doubling: a little strict, and few enough to be kept.
pub(crate) fn on_grid(worth: f64) -> f64 {
    ((worth.log2() * GRID_PER_DOUBLING - 1e-9).ceil() / GRID_PER_DOUBLING).exp2().max(1.0)
}

/// `P(Z_2 > z | Z_1 > z)` for standard normals with correlation `r`, by the midpoint rule over the tail of `Z_1`; what
/// lies beyond its reach counts as nothing, so that it errs on the strict side.
fn both(r: f64, z: f64) -> f64 {
    let normal = Normal::standard();
    if !z.is_finite() {
        return 0.0;
    }
    if r >= 1.0 - 1e-9 {
        return 1.0;
    }
    let step = REACH / f64::from(POINTS);
    let spread = (1.0 - r * r).sqrt();
    let at = |point: u32| {
        let x = z + step * (f64::from(point) + 0.5);
        normal.pdf(x) * normal.sf((z - r * x) / spread)
    };
    ((0..POINTS).map(at).sum::<f64>() * step / normal.sf(z)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditional_chances_match_the_tables() {
        // Independent: the tail itself. P(Z1 > 0, Z2 > 0) = 1/4 + asin(r) / (2 pi), so at r = 0.5 the chance is 2/3.
        assert!((both(0.0, 2.0) - 0.022_750).abs() < 1e-4);
        assert!((both(0.5, 0.0) - 2.0 / 3.0).abs() < 2e-3);
        assert!((both(1.0, 2.5) - 1.0).abs() < 1e-12);
        // Between 0.9 and 1 most of the tail is shared.
        assert!((0.4..0.7).contains(&both(0.9, 2.7)), "{}", both(0.9, 2.7));
        assert!(both(0.5, f64::INFINITY).abs() < 1e-12);
    }

    #[test]
    fn what_agrees_is_worth_one() {
        let one = vec![0.5, -0.5, 0.5, 0.5];
        let other = vec![0.5, 0.5, -0.5, 0.5];
        assert_eq!(tree(&[one.clone(), one.clone(), one.clone()]).len(), 2);
        assert!((worth(3.0, &tree(&[one.clone(), one.clone(), one.clone()]), 2.7) - 1.0).abs() < 1e-9);
        assert_eq!(tree(&[one.clone(), other]), [0.0; 0]);
        assert!((worth(3.0, &[], 2.7) - 3.0).abs() < 1e-12);
        assert_eq!(tree(&[]), [0.0; 0]);
    }

    #[test]
    fn the_grid_only_rounds_up() {
        for worth in [1.0, 1.01, 2.0, 2.9, 36.0, 10_000.0] {
            let rounded = on_grid(worth);
            assert!(worth <= rounded + 1e-9 && rounded < worth * 1.045, "{worth} {rounded}");
        }
        assert!((on_grid(2.0) - 2.0).abs() < 1e-12 && (on_grid(1.0) - 1.0).abs() < 1e-12);
    }
}
