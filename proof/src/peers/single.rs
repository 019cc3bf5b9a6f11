//! Rules on one process of each build.
#![expect(
    clippy::unnecessary_wraps,
    reason = "all rules have one signature, and some need what is not always there"
)]

use darwin_gate::stats::{mean, sample_sd};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal};

use super::{Call, Side, Slots};

fn beyond(baseline: f64, challenger: f64, threshold: f64) -> Call {
    let change = challenger / baseline - 1.0;
    Call::of(change.abs() > threshold, change)
}

/// pytest-benchmark: the mean of one run against that of a saved run, beyond 5%.
///
/// Source: ionelmc/pytest-benchmark, `--benchmark-compare-fail=mean:5%` in its documentation, 2024.
pub(super) fn pytest_benchmark(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    Some(beyond(slots.mean(Side::Baseline, 0), slots.mean(Side::Challenger, 40), 0.05))
}

/// A threshold of 10% on one run, the default of `CodSpeed` and of many scripts.
///
/// Source: `CodSpeed`'s documentation, "regression threshold", 2024.
pub(super) fn codspeed(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    Some(beyond(slots.mean(Side::Baseline, 0), slots.mean(Side::Challenger, 40), 0.10))
}

/// tango: the z of the paired differences of batches at least 2.6, and more than 1%.
///
/// Both builds run in one process there, in turns; here they are neighbouring processes.
/// Source: bazhenov/tango, `tango-bench/src/lib.rs` and `cli.rs`, 2024.
pub(super) fn tango(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let baseline = slots.batches(Side::Baseline, 0, 100)?;
    let challenger = slots.batches(Side::Challenger, 1, 100)?;
    let differences: Vec<f64> = challenger.iter().zip(&baseline).map(|(b, a)| b - a).collect();
    let centre = mean(&differences)?;
    let z = centre / (sample_sd(&differences)? / (differences.len() as f64).sqrt());
    Some(Call::of(z.abs() >= 2.6 && (centre / mean(&baseline)?).abs() > 0.01, centre))
}

/// The z test on all iterations of one process of each build, p below .01.
///
/// Source: what many scripts do; `tests/framework/ab_test.py` of firecracker-microvm/firecracker (2024) pools so, by
/// permutation.
pub(super) fn pooled(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    pooled_beyond(slots, 0.0)
}

/// The same, and beyond 5%.
pub(super) fn pooled_with_floor(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    pooled_beyond(slots, 0.05)
}

fn pooled_beyond(slots: &dyn Slots, threshold: f64) -> Option<Call> {
    let (baseline, challenger) = (slots.mean(Side::Baseline, 0), slots.mean(Side::Challenger, 1));
    let (variance_a, count_a) = slots.variance(Side::Baseline, 0)?;
    let (variance_b, count_b) = slots.variance(Side::Challenger, 1)?;
    let z = (challenger - baseline) / (variance_a / count_a + variance_b / count_b).sqrt();
    let significant = 2.0 * Normal::standard().sf(z.abs()) < 0.01;
    let call = beyond(baseline, challenger, threshold);
    Some(if significant { call } else { Call::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_have_two_sides() {
        assert_eq!(beyond(100.0, 105.1, 0.05), Call::Slower);
        assert_eq!(beyond(100.0, 105.0, 0.06), Call::Nothing);
        assert_eq!(beyond(100.0, 94.0, 0.05), Call::Faster);
    }
}
