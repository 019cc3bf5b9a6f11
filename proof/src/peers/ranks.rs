//! Rules on ranks: the Mann-Whitney U test, and the Kolmogorov-Smirnov test.
#![expect(
    clippy::unnecessary_wraps,
    reason = "all rules have one signature, and some need what is not always there"
)]

use std::sync::LazyLock;

use darwin_gate::stats::median;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal};

use super::{Call, Side, Slots, means};

/// The largest U that is significant, for samples of one size and a level.
struct Critical {
    u: Option<f64>,
}

impl Critical {
    /// The largest `u` with `2 P(U <= u) < p` for two samples of `n`, exactly (Mann and Whitney 1947).
    fn new(n: usize, p: f64) -> Self {
        let below = u_distribution(n, n);
        let significant = below.iter().take_while(|chance| 2.0 * **chance < p).count();
        Self { u: significant.checked_sub(1).map(|u| u as f64) }
    }

    fn is_met(&self, smaller_u: f64) -> bool {
        self.u.is_some_and(|critical| smaller_u <= critical)
    }
}

static N10_P05: LazyLock<Critical> = LazyLock::new(|| Critical::new(10, 0.05));
static N20_P05: LazyLock<Critical> = LazyLock::new(|| Critical::new(20, 0.05));
static N10_P002: LazyLock<Critical> = LazyLock::new(|| Critical::new(10, 0.002));

/// `P(U <= u)` for every `u`, without ties, for samples of `n` and `m`.
fn u_distribution(n: usize, m: usize) -> Vec<f64> {
    // Ways to place j challengers among i values so far with a U of u: a value of the baseline adds the challengers
    // before it.
    let mut ways = vec![vec![0.0f64; n * m + 1]; m + 1];
    for row in &mut ways {
        row[0] = 1.0;
    }
    for _ in 0..n {
        let mut fewer = vec![0.0; n * m + 1];
        for (challengers, row) in ways.iter_mut().enumerate() {
            // The value is the baseline's, above all challengers so far; or the last challenger stands above it.
            row.rotate_right(challengers);
            row[..challengers].fill(0.0);
            for (way, below) in row.iter_mut().zip(&fewer) {
                *way += below;
            }
            fewer.clone_from(row);
        }
    }
    let total: f64 = ways[m].iter().sum();
    let mut sum = 0.0;
    ways[m]
        .iter()
        .map(|count| {
            sum += count / total;
            sum
        })
        .collect()
}

/// How many pairs of values have the challenger above, a tie counting a half.
fn u_statistic(baseline: &[f64], challenger: &[f64]) -> f64 {
    let against = |b: &f64| -> f64 {
        baseline
            .iter()
            .map(|a| {
                if b > a {
                    1.0
                } else if b < a {
                    0.0
                } else {
                    0.5
                }
            })
            .sum()
    };
    challenger.iter().map(against).sum()
}

fn smaller_u(u: f64, n: usize, m: usize) -> f64 {
    u.min((n * m) as f64 - u)
}

fn median_difference(baseline: &[f64], challenger: &[f64]) -> f64 {
    median(challenger).unwrap_or(0.0) - median(baseline).unwrap_or(0.0)
}

fn u_test(baseline: &[f64], challenger: &[f64], critical: &Critical) -> Call {
    let u = u_statistic(baseline, challenger);
    let significant = critical.is_met(smaller_u(u, baseline.len(), challenger.len()));
    Call::of(significant, median_difference(baseline, challenger))
}

/// benchstat: exact U test at .05 on the means of `-count` runs, here all of one build and then all of the other.
///
/// Source: golang/perf, package `benchmath` (`AssumeNothing`) and `cmd/benchstat`, 2024.
pub(super) fn benchstat_sequential(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    Some(u_test(&means(slots, Side::Baseline, 0, 10), &means(slots, Side::Challenger, 10, 10), &N10_P05))
}

/// benchstat with 10 runs of each build in turns, as its documentation advises.
///
/// Source: golang/perf, `cmd/benchstat`, its documentation's "Tips", 2024.
pub(super) fn benchstat_interleaved_10(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let (baseline, challenger) = slots.pairs(10);
    Some(u_test(&baseline, &challenger, &N10_P05))
}

/// benchstat with 20 runs of each build in turns.
pub(super) fn benchstat_interleaved_20(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let (baseline, challenger) = slots.pairs(20);
    Some(u_test(&baseline, &challenger, &N20_P05))
}

/// google/benchmark: U test at .05 on the repetitions of one process of each build.
///
/// Source: google/benchmark, `tools/gbench/report.py` (`calc_utest`), 2024.
pub(super) fn google_benchmark(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let baseline = slots.batches(Side::Baseline, 0, 10)?;
    let challenger = slots.batches(Side::Challenger, 40, 10)?;
    Some(u_test(&baseline, &challenger, &N10_P05))
}

/// asv continuous: U test at .002 and a ratio of the medians beyond 1.1, rounds interleaved.
///
/// Source: airspeed-velocity/asv, `asv/statistics.py` and `asv/commands/compare.py`, 2024.
pub(super) fn asv(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let (baseline, challenger) = slots.pairs(10);
    let ratio = median(&challenger)? / median(&baseline)?;
    Some(match u_test(&baseline, &challenger, &N10_P002) {
        call if (ratio - 1.0).abs() > 0.1 => call,
        _ => Call::Nothing,
    })
}

/// Pinpoint: the smaller p of the U test and the Kolmogorov-Smirnov test, at .01, one fixed look at 20 attempts.
///
/// The U test is the normal approximation, as there; KS is exact here, which is the milder of the two.
/// Source: Chromium catapult, `dashboard/dashboard/pinpoint/models/compare/`, 2024.
pub(super) fn pinpoint(slots: &dyn Slots, _: &mut ChaCha8Rng) -> Option<Call> {
    let baseline = means(slots, Side::Baseline, 0, 20);
    let challenger = means(slots, Side::Challenger, 20, 20);
    let p = u_p_value(&baseline, &challenger).min(ks_p_value(&baseline, &challenger));
    Some(Call::of(p <= 0.01, median_difference(&baseline, &challenger)))
}

/// The two-sided p of the U test by the normal approximation, with a continuity correction, without ties.
fn u_p_value(baseline: &[f64], challenger: &[f64]) -> f64 {
    let (n, m) = (baseline.len() as f64, challenger.len() as f64);
    let u = u_statistic(baseline, challenger);
    let larger = n * m - smaller_u(u, baseline.len(), challenger.len());
    let sd = (n * m * (n + m + 1.0) / 12.0).sqrt();
    let z = (larger - n * m / 2.0 - 0.5) / sd;
    (2.0 * Normal::standard().sf(z)).min(1.0)
}

/// The exact two-sided p of the Kolmogorov-Smirnov test for two samples of one size, by the reflection principle:
/// `2 sum_i (-1)^(i-1) C(2n, n - i k) / C(2n, n)` for `D = k / n`.
fn ks_p_value(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len();
    let below = |sample: &[f64], value: f64| sample.iter().filter(|v| **v <= value).count();
    let widest = a.iter().chain(b).map(|v| below(a, *v).abs_diff(below(b, *v))).max().unwrap_or(0);
    if widest == 0 {
        return 1.0;
    }
    // C(2n, n - s) / C(2n, n) as a running product.
    let share = |shift: usize| (0..shift).map(|i| (n - i) as f64 / (n + i + 1) as f64).product::<f64>();
    let terms = (1..=n / widest).map(|i| if i % 2 == 1 { share(i * widest) } else { -share(i * widest) });
    (2.0 * terms.sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_values_equal_the_tables() {
        // Two-sided tables of U: n = m = 5 and 10 at .05, 20 at .05 and .01; 10 at .002.
        for (n, p, want) in
            [(5, 0.05, 2.0), (10, 0.05, 23.0), (20, 0.05, 127.0), (20, 0.01, 105.0), (10, 0.002, 10.0)]
        {
            assert_eq!(Critical::new(n, p).u, Some(want), "n = {n}, p = {p}");
        }
        assert_eq!(Critical::new(3, 0.05).u, None);
    }

    #[test]
    fn u_by_hand() {
        assert!((u_statistic(&[1.0, 3.0], &[2.0, 3.0]) - 2.5).abs() < 1e-12);
        // Five below five but for one pair: P(U <= 1) = 2 / 252, two-sided 0.0159.
        assert!((2.0 * u_distribution(5, 5)[1] - 0.015_873_015_873).abs() < 1e-9);
    }

    fn row(shift: f64) -> Vec<f64> {
        (0..20).map(|i| f64::from(i) + shift).collect()
    }

    #[test]
    fn p_values_equal_scipy() {
        // scipy.stats.mannwhitneyu(method="asymptotic") and ks_2samp(method="exact").
        assert!((u_p_value(&row(0.0), &row(7.5)) - 0.001_014_098_685).abs() < 1e-9);
        for (k, want) in
            [(5, 0.571_336_004_9), (9, 0.033_541_659_4), (10, 0.012_298_612_6), (12, 0.001_115_801_5)]
        {
            let got = ks_p_value(&row(0.0), &row(f64::from(k) - 0.5));
            assert!((got - want).abs() < 1e-9, "{k}: {got}");
        }
        assert!((ks_p_value(&row(0.0), &row(0.0)) - 1.0).abs() < 1e-12);
    }
}
