//! Strict mode: Student's t over the means of relinked builds.
//!
//! No number of rounds removes the luck of one link layout (Mytkowicz et al., ASPLOS 2009), so with `k` relinked
//! builds a side the build is the unit of evidence: round `r` runs build [`crate::coin::build`] of both sides, the
//! pairs of a build give one number, `mean_j`, and `t = (mean over builds - null) / (sd over builds / sqrt(k))` with
//! `k - 1` degrees of freedom (Kalibera & Jones, ISMM 2013: replicate at the highest level that is random).
//! A build's number is the centre of its pairs ([`Pairs::centre`]), for one stall must not speak for a build.
//!
//! The looks keep their boundaries: `t_k` is the quantile of Student's t with the tail of the normal boundary `z_k`.
//! The builds are the same at every look, so that the looks agree more than those of independent pairs, and the
//! error over all of them is below what is spent.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::decide::Yardstick;
use crate::few_pairs::critical_value;
use crate::score::Pairs;
use crate::stats::{mean, sample_sd};

/// The yardstick of a series whose pair `i` was measured with build `builds[i]`; none unless all `asked` are there.
pub(crate) fn yardstick(effects: &[f64], builds: &[u32], asked: u32) -> Option<Yardstick> {
    let centres: Vec<f64> = (0..asked)
        .map(|build| {
            let own = effects.iter().zip(builds).filter(|(_, of)| **of == build).map(|(effect, _)| *effect);
            let own: Vec<f64> = own.collect();
            (!own.is_empty()).then(|| Pairs::new(&own).centre())
        })
        .collect::<Option<_>>()?;
    let standard_error = sample_sd(&centres)? / (centres.len() as f64).sqrt();
    Some(Yardstick::Normal { mean: mean(&centres)?, standard_error })
}

/// The critical value of `t` with `builds - 1` degrees of freedom that has the tail of the normal boundary `z`.
pub(crate) fn level(z: f64, builds: u32) -> f64 {
    critical_value(Normal::standard().sf(z), Some(f64::from(builds.saturating_sub(1).max(1))))
}

/// What a verdict of strict mode takes for granted, in words.
pub(crate) fn assumption(builds: u32) -> String {
    format!(
        "assumes that the luck of the link layout varies from build to build like normal noise: {builds} builds a \
         side cannot tell"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Four builds with centres 1, 2, 3, 6: mean 3, sd sqrt(14 / 3), standard error half of it.
        let effects = [1.0, 2.0, 3.0, 6.0, 1.0, 2.0, 3.0, 6.0];
        let builds = [0, 1, 2, 3, 0, 1, 2, 3];
        let Some(Yardstick::Normal { mean, standard_error }) = yardstick(&effects, &builds, 4) else {
            panic!("no yardstick");
        };
        assert!((mean - 3.0).abs() < 1e-9 && (standard_error - (14.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-9);
        assert!(yardstick(&effects, &builds, 5).is_none());
        assert!(yardstick(&[], &[], 4).is_none());
    }

    #[test]
    fn levels_match_the_tables() {
        // 1% of the normal is 2.326348; of t with 3 degrees 4.540703, with 7 degrees 2.997952.
        for (builds, want) in [(4, 4.540_703), (8, 2.997_952)] {
            let got = level(2.326_347_874, builds);
            assert!((got - want).abs() < 1e-5, "{builds}: {got}");
        }
        assert!(level(f64::INFINITY, 4).is_infinite());
    }
}
