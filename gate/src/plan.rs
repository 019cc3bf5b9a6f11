//! How many pairs an effect needs, and the smallest effect that a number of pairs resolves.
//!
//! `n = ((z + 1.28) * 1.2 * s / D)^2` for 90% power, `z` the normal quantile at `1 - alpha / tests`, `s` the
//! robust standard deviation of the pairs' log ratios, `D` the effect as a log ratio; 1.2 is the price of
//! clipping and of the looks, found by simulation.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::stats::{MAD_TO_SD, mad};

/// The normal quantile of 90% power.
const POWER_QUANTILE: f64 = 1.28;
/// What clipping and looking early cost.
const LOOKS_FACTOR: f64 = 1.2;
/// Stands for "more pairs than anybody would run".
pub const TOO_MANY_PAIRS: u32 = 1_000_000;

/// The robust standard deviation of log ratios: `1.4826 * MAD`. Zero without pairs.
pub fn robust_sd(log_ratios: &[f64]) -> f64 {
    MAD_TO_SD * mad(log_ratios).unwrap_or(0.0)
}

/// The pairs needed to see a log effect with 90% power when `alpha` is shared by `tests` series.
///
/// Held at [`TOO_MANY_PAIRS`]; an effect of zero needs that many.
pub fn pairs_needed(robust_sd: f64, log_effect: f64, alpha: f64, tests: u32) -> u32 {
    let needed = (factor(alpha, tests) * robust_sd / log_effect.abs()).powi(2).ceil();
    if needed.is_nan() {
        return TOO_MANY_PAIRS;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "held between 1 and the limit"
    )]
    let pairs = needed.clamp(1.0, f64::from(TOO_MANY_PAIRS)) as u32;
    pairs
}

/// The smallest log effect that `pairs` pairs resolve with 90% power; infinite without pairs.
pub fn smallest_effect(robust_sd: f64, pairs: u32, alpha: f64, tests: u32) -> f64 {
    factor(alpha, tests) * robust_sd / f64::from(pairs).sqrt()
}

fn factor(alpha: f64, tests: u32) -> f64 {
    let z = -Normal::standard().inverse_cdf(alpha / f64::from(tests.max(1)));
    (z + POWER_QUANTILE) * LOOKS_FACTOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_studied_sizes() {
        // D = s/2 and s/3 with one series; sd 3%, effect 1%, three series.
        assert_eq!(pairs_needed(1.0, 0.5, 0.01, 1), 75);
        assert_eq!(pairs_needed(1.0, 1.0 / 3.0, 0.01, 1), 169);
        assert_eq!(pairs_needed(0.03, 0.01, 0.01, 3), 207);
        assert!((smallest_effect(0.03, 207, 0.01, 3) - 0.01).abs() < 1e-4);
    }

    #[test]
    fn extremes_are_held() {
        assert_eq!(pairs_needed(0.0, 0.01, 0.01, 1), 1);
        assert_eq!(pairs_needed(0.03, 0.0, 0.01, 1), TOO_MANY_PAIRS);
        assert_eq!(pairs_needed(0.0, 0.0, 0.01, 1), TOO_MANY_PAIRS);
    }
}
