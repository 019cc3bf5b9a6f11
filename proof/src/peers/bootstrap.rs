//! The rule of criterion.rs, which resamples.

use darwin_gate::stats::{mean, sample_sd};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::history::interpolated;
use super::{Call, Side, Slots};

/// Resamples. criterion draws 100,000; that moves the verdict of a case on the edge only.
const RESAMPLES: usize = 1_000;
/// A change below this is noise.
const NOISE: f64 = 0.01;
/// The level of the t test.
const LEVEL: f64 = 0.05;

/// criterion against a saved baseline: a bootstrapped t test at .05 on 100 batch means of one process of each build,
/// and the 95% bootstrap interval of the change of the mean beyond 1%.
///
/// Source: criterion-rs/criterion.rs, `src/analysis/compare.rs` and `src/report.rs` (`compare_to_threshold`), 2024.
pub(super) fn criterion(slots: &dyn Slots, rng: &mut ChaCha8Rng) -> Option<Call> {
    let baseline = slots.batches(Side::Baseline, 0, 100)?;
    let challenger = slots.batches(Side::Challenger, 1, 100)?;
    compare(&baseline, &challenger, rng)
}

fn compare(baseline: &[f64], challenger: &[f64], rng: &mut ChaCha8Rng) -> Option<Call> {
    let observed = t(baseline, challenger)?;
    let pool: Vec<f64> = baseline.iter().chain(challenger).copied().collect();
    let mut resampled = (baseline.to_vec(), challenger.to_vec());
    let mut below = 0;
    for _ in 0..RESAMPLES {
        draw(&pool, &mut resampled.0, rng);
        draw(&pool, &mut resampled.1, rng);
        below += usize::from(t(&resampled.0, &resampled.1)? < observed);
    }
    let p = 2.0 * below.min(RESAMPLES - below) as f64 / RESAMPLES as f64;
    if p >= LEVEL {
        return Some(Call::Nothing);
    }
    let mut changes = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        draw(baseline, &mut resampled.0, rng);
        draw(challenger, &mut resampled.1, rng);
        changes.push(mean(&resampled.1)? / mean(&resampled.0)? - 1.0);
    }
    changes.sort_by(f64::total_cmp);
    let (low, high) = (interpolated(&changes, 0.025), interpolated(&changes, 0.975));
    Some(if low > NOISE {
        Call::Slower
    } else if high < -NOISE {
        Call::Faster
    } else {
        Call::Nothing
    })
}

fn draw(from: &[f64], into: &mut [f64], rng: &mut ChaCha8Rng) {
    for value in into {
        *value = from[rng.random_range(0..from.len())];
    }
}

/// The t of Welch.
fn t(a: &[f64], b: &[f64]) -> Option<f64> {
    let share = |v: &[f64]| Some(sample_sd(v)?.powi(2) / v.len() as f64);
    let error = (share(a)? + share(b)?).sqrt();
    Some((mean(b)? - mean(a)?) / error.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Purpose, stream};

    #[test]
    fn a_clear_change_is_named_and_a_tiny_one_is_not() {
        let rng = &mut stream(1, Purpose::Peers, 0, 0);
        let row = |centre: f64| -> Vec<f64> { (0..100).map(|i| centre + f64::from(i % 7) / 100.0).collect() };
        assert_eq!(compare(&row(1.0), &row(1.1), rng), Some(Call::Slower));
        assert_eq!(compare(&row(1.1), &row(1.0), rng), Some(Call::Faster));
        assert_eq!(compare(&row(1.0), &row(1.005), rng), Some(Call::Nothing));
        assert_eq!(compare(&row(1.0), &row(1.0), rng), Some(Call::Nothing));
    }
}
