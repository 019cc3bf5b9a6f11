//! Rules on Student's t.

use darwin_gate::stats::{mean, sample_sd};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Call, Side, Slots, means, pooled_batches};

/// A difference, its standard error and the degrees of freedom.
struct Difference {
    mean: f64,
    error: f64,
    degrees: f64,
}

impl Difference {
    /// With a variance of its own for each sample (Welch 1947, degrees by Satterthwaite).
    fn welch(a: &[f64], b: &[f64]) -> Option<Self> {
        let share = |v: &[f64]| Some(sample_sd(v)?.powi(2) / v.len() as f64);
        let (va, vb) = (share(a)?, share(b)?);
        let degrees = (va + vb).powi(2) / (va * va / (a.len() - 1) as f64 + vb * vb / (b.len() - 1) as f64);
        Some(Self { mean: mean(b)? - mean(a)?, error: (va + vb).sqrt(), degrees })
    }

    /// With one variance for both samples (Student 1908).
    fn pooled(a: &[f64], b: &[f64]) -> Option<Self> {
        let squares = |v: &[f64]| Some(sample_sd(v)?.powi(2) * (v.len() - 1) as f64);
        let degrees = (a.len() + b.len() - 2) as f64;
        let variance = (squares(a)? + squares(b)?) / degrees;
        let error = (variance * (1.0 / a.len() as f64 + 1.0 / b.len() as f64)).sqrt();
        Some(Self { mean: mean(b)? - mean(a)?, error, degrees })
    }

    /// The two-sided p value.
    fn p(&self) -> Option<f64> {
        let t = StudentsT::new(0.0, 1.0, self.degrees).ok()?;
        Some(2.0 * t.sf((self.mean / self.error).abs()))
    }

    fn call(&self, level: f64) -> Option<Call> {
        Some(Call::of(self.p()? < level, self.mean))
    }
}

/// The upper `tail` quantile of Student's t.
pub(super) fn t_quantile(tail: f64, degrees: f64) -> Option<f64> {
    Some(-StudentsT::new(0.0, 1.0, degrees).ok()?.inverse_cdf(tail))
}

/// hyperfine: Welch's t test at .05 on ten runs of one command and then ten of the other.
///
/// Source: sharkdp/hyperfine, `scripts/welch_ttest.py`, 2024.
pub(super) fn hyperfine(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    Difference::welch(&means(slots, Side::Baseline, 0, 10), &means(slots, Side::Challenger, 10, 10))?
        .call(0.05)
}

/// pyperf: Student's t at .05 on 20 processes of 3 values each, all 60 counted as independent.
///
/// Source: psf/pyperf, `pyperf/_utils.py` (`is_significant`) and `pyperf/_compare.py`, 2024.
pub(super) fn pyperf(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let baseline = pooled_batches(slots, Side::Baseline, 0, 20, 3)?;
    let challenger = pooled_batches(slots, Side::Challenger, 20, 20, 3)?;
    Difference::pooled(&baseline, &challenger)?.call(0.05)
}

/// JMH: 99.9% intervals of the mean that do not overlap; 5 forks of 5 iterations, pooled.
///
/// Source: openjdk/jmh, `jmh-core` `AbstractStatistics.getMeanErrorAt` and how its users read `Score ± Error`, 2024.
pub(super) fn jmh(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let baseline = pooled_batches(slots, Side::Baseline, 0, 5, 5)?;
    let challenger = pooled_batches(slots, Side::Challenger, 5, 5, 5)?;
    let half = |v: &[f64]| {
        let n = v.len() as f64;
        Some(t_quantile(0.0005, n - 1.0)? * sample_sd(v)? / n.sqrt())
    };
    let difference = mean(&challenger)? - mean(&baseline)?;
    let apart = difference.abs() > half(&baseline)? + half(&challenger)?;
    Some(Call::of(apart, difference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_equal_scipy() {
        // A published example of Welch's test; numbers by scipy.stats.ttest_ind.
        let a = [19.8, 20.4, 19.6, 17.8, 18.5, 18.9, 18.3, 18.9, 19.5, 22.0];
        let b = [28.2, 26.6, 20.1, 23.3, 25.2, 22.1, 17.7, 27.6, 20.6, 13.7];
        let welch = Difference::welch(&a, &b).unwrap();
        assert!((welch.mean / welch.error - 2.074_014_626_7).abs() < 1e-9);
        assert!((welch.degrees - 10.209_185_368_7).abs() < 1e-9);
        assert!((welch.p().unwrap() - 0.064_279_997_725).abs() < 1e-9);
        let pooled = Difference::pooled(&a, &b).unwrap();
        assert!((pooled.p().unwrap() - 0.052_700_108_779).abs() < 1e-9);
        assert_eq!(pooled.call(0.05), Some(Call::Nothing));
        assert_eq!(pooled.call(0.06), Some(Call::Slower));
    }

    #[test]
    fn quantiles_equal_the_tables() {
        assert!((t_quantile(0.01, 29.0).unwrap() - 2.462_021_360).abs() < 1e-6);
        assert!((t_quantile(0.0005, 24.0).unwrap() - 3.745_398_619).abs() < 1e-6);
    }
}
