//! How many pairs an effect needs, and the smallest effect that a number of pairs resolves.
//!
//! `n = ((z_alpha + z_power) * 1.2 * s / D)^2`, `z_alpha` the normal quantile at `1 - alpha / tests`, `z_power` that of the
//! power (1.28 for 90%), `s` the robust standard deviation of the pairs' log ratios, `D` the effect as a log ratio; 1.2 is
//! the price of clipping and of the looks, found by simulation.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::stats::{MAD_TO_SD, mad};

/// The chance to see an effect that is there, unless something else is asked for.
pub const USUAL_POWER: f64 = 0.9;
/// What clipping and looking early cost.
const LOOKS_FACTOR: f64 = 1.2;
/// Stands for "more pairs than anybody would run".
pub const TOO_MANY_PAIRS: u32 = 1_000_000;

/// What a plan is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// The chance of a wrong verdict, above 0 and below 1/2.
    pub alpha: f64,
    /// How many gated series share it, at least 1.
    pub tests: u32,
    /// The chance to see an effect that is there, above 0 and below 1.
    pub power: f64,
}

impl Question {
    /// With 90% power.
    pub fn usual(alpha: f64, tests: u32) -> Self {
        Self { alpha, tests, power: USUAL_POWER }
    }

    /// The pairs needed to see a log effect in pairs of this robust standard deviation.
    ///
    /// Held at [`TOO_MANY_PAIRS`]; an effect of zero needs that many.
    pub fn pairs_needed(self, robust_sd: f64, log_effect: f64) -> u32 {
        let needed = (self.factor() * robust_sd / log_effect.abs()).powi(2).ceil();
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

    /// The smallest log effect that `pairs` pairs resolve; infinite without pairs.
    pub fn smallest_effect(self, robust_sd: f64, pairs: u32) -> f64 {
        self.factor() * robust_sd / f64::from(pairs).sqrt()
    }

    /// The chance to see a log effect in so many pairs, whatever `power` is: [`Question::pairs_needed`] solved for the power.
    pub fn chance(self, robust_sd: f64, log_effect: f64, pairs: u32) -> f64 {
        let normal = Normal::standard();
        let distance = log_effect.abs() * f64::from(pairs).sqrt() / (LOOKS_FACTOR * robust_sd);
        // Neither an effect nor noise: there is nothing to be seen.
        if distance.is_nan() { 0.0 } else { normal.cdf(distance - self.z_alpha()) }
    }

    fn z_alpha(self) -> f64 {
        -Normal::standard().inverse_cdf(self.alpha / f64::from(self.tests.max(1)))
    }

    fn factor(self) -> f64 {
        (self.z_alpha() + Normal::standard().inverse_cdf(self.power)) * LOOKS_FACTOR
    }
}

/// The robust standard deviation of log ratios: `1.4826 * MAD`. Zero without pairs.
pub fn robust_sd(log_ratios: &[f64]) -> f64 {
    MAD_TO_SD * mad(log_ratios).unwrap_or(0.0)
}

/// The pairs needed to see a log effect with 90% power when `alpha` is shared by `tests` series:
/// see [`Question::pairs_needed`].
pub fn pairs_needed(robust_sd: f64, log_effect: f64, alpha: f64, tests: u32) -> u32 {
    Question::usual(alpha, tests).pairs_needed(robust_sd, log_effect)
}

/// The smallest log effect that `pairs` pairs resolve with 90% power: see [`Question::smallest_effect`].
pub fn smallest_effect(robust_sd: f64, pairs: u32, alpha: f64, tests: u32) -> f64 {
    Question::usual(alpha, tests).smallest_effect(robust_sd, pairs)
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
    fn more_power_needs_more_pairs() {
        let with = |power| Question { alpha: 0.01, tests: 1, power }.pairs_needed(0.03, 0.01);
        // ((2.3263 + z) * 1.2 * 3)^2 with z = 0, 0.8416, 1.2816, 2.3263.
        assert_eq!([with(0.5), with(0.8), with(0.9), with(0.99)], [71, 131, 169, 281]);
    }

    #[test]
    fn the_chance_is_the_power_of_the_pairs_needed() {
        for power in [0.5, 0.8, 0.9, 0.99] {
            let question = Question { alpha: 0.01, tests: 3, power };
            let chance = |pairs| question.chance(0.03, 0.01, pairs);
            let needed = question.pairs_needed(0.03, 0.01);
            assert!(chance(needed - 1) < power && power <= chance(needed) && chance(needed) < power + 0.01);
        }
        let question = Question::usual(0.01, 1);
        assert!((question.chance(0.03, 0.0, 100) - 0.01).abs() < 1e-9, "no effect: the error");
        assert!((question.chance(0.0, 0.01, 1) - 1.0).abs() < 1e-12);
        assert!(question.chance(0.0, 0.0, 1).abs() < 1e-12);
    }

    #[test]
    fn extremes_are_held() {
        assert_eq!(pairs_needed(0.0, 0.01, 0.01, 1), 1);
        assert_eq!(pairs_needed(0.03, 0.0, 0.01, 1), TOO_MANY_PAIRS);
        assert_eq!(pairs_needed(0.0, 0.0, 0.01, 1), TOO_MANY_PAIRS);
    }
}
