//! Rules on a history of runs: one new value against what came before.

use darwin_gate::stats::{mean, sample_sd};
use rand_chacha::ChaCha8Rng;

use super::students::t_quantile;
use super::{Call, Side, Slots, means};

/// Runs of the baseline before the challenger's.
const HISTORY: usize = 30;

/// Bencher: a t prediction interval of the history at .99 to each side.
///
/// Source: bencherdev/bencher, its documentation "Thresholds & Alerts", t-test, 2024.
pub(super) fn bencher(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let history = means(slots, Side::Baseline, 0, HISTORY);
    let n = history.len() as f64;
    let half = t_quantile(0.01, n - 1.0)? * sample_sd(&history)? * (1.0 + 1.0 / n).sqrt();
    let change = slots.mean(Side::Challenger, HISTORY) - mean(&history)?;
    Some(Call::of(change.abs() > half, change))
}

/// conbench: more than five standard deviations from the mean of the history.
///
/// Source: conbench/conbench, its documentation of the lookback z-score, 2024.
pub(super) fn conbench(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let history = means(slots, Side::Baseline, 0, HISTORY);
    let change = slots.mean(Side::Challenger, HISTORY) - mean(&history)?;
    Some(Call::of(change.abs() > 5.0 * sample_sd(&history)?, change))
}

/// rustc-perf: a change from the last run of at least the third quartile plus three interquartile ranges of the
/// changes between neighbouring runs of the history.
///
/// Source: rust-lang/rustc-perf, `site/src/comparison.rs` and `docs/comparison-analysis.md`, 2024.
pub(super) fn rustc_perf(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let history = means(slots, Side::Baseline, 0, HISTORY);
    let mut changes: Vec<f64> = history.windows(2).map(|w| (w[1] / w[0] - 1.0).abs()).collect();
    changes.sort_by(f64::total_cmp);
    let (q1, q3) = (interpolated(&changes, 0.25), interpolated(&changes, 0.75));
    let change = slots.mean(Side::Challenger, HISTORY) / history.last()? - 1.0;
    Some(Call::of(change.abs() >= q3 + 3.0 * (q3 - q1), change))
}

/// The quantile between neighbouring ranks, as these tools take it; zero of nothing.
pub(super) fn interpolated(sorted: &[f64], q: f64) -> f64 {
    let at = q * sorted.len().saturating_sub(1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position in the slice")]
    let below = at.floor() as usize;
    let low = sorted.get(below).copied().unwrap_or(0.0);
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    low + (high - low) * (at - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_by_hand() {
        assert!((interpolated(&[1.0, 2.0, 3.0, 4.0], 0.25) - 1.75).abs() < 1e-12);
        assert!((interpolated(&[1.0, 2.0, 3.0, 4.0], 1.0) - 4.0).abs() < 1e-12);
        assert!(interpolated(&[], 0.5).abs() < 1e-12);
    }
}
