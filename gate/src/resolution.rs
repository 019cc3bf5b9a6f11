//! What a policy's pairs cannot resolve: told before a run where the box is calibrated, and in the verdict.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::anytime::Stopping;
use crate::metric::SeriesKey;
use crate::plan::{Question, TOO_MANY_PAIRS};
use crate::policy::Policy;
use crate::ratio::Ratio;

/// Where a noise is known from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum NoiseSource {
    /// Pairs of the same code on this box.
    Calibration {
        /// The box.
        agent: String,
        /// How many pairs.
        pairs: u32,
    },
    /// The pairs that were judged.
    ThesePairs,
}

/// A series whose margin is below the smallest effect that the policy's pairs can resolve.
#[derive(Debug, Clone, PartialEq)]
pub struct Unresolved {
    /// Which series.
    pub series: SeriesKey,
    /// Its margin.
    pub margin: Ratio,
    /// The pairs that the policy allows.
    pub max_pairs: u32,
    /// The pairs that would do, with 90% power.
    pub needs: u32,
    /// The robust standard deviation of the pairs' log ratios.
    pub robust_sd: f64,
    /// Where that is known from.
    pub source: NoiseSource,
}

impl Unresolved {
    /// Whether the policy's pairs fall short of a series' margin when `tests` gated series share alpha; none if they do
    /// not, or if no number of pairs would do.
    pub fn find(
        policy: &Policy,
        series: &SeriesKey,
        robust_sd: f64,
        tests: u32,
        source: NoiseSource,
    ) -> Option<Self> {
        let margin = policy.for_metric(&series.metric).0.margin;
        let max_pairs = policy.max_pairs;
        let needs = Question::usual(policy.alpha, tests).pairs_needed(robust_sd, margin.ln_1p());
        (needs > max_pairs && needs < TOO_MANY_PAIRS).then(|| Self {
            series: series.clone(),
            margin,
            max_pairs,
            needs,
            robust_sd,
            source,
        })
    }

    /// What a calibrated box cannot resolve, the worst first. The series whose noise the policy knows are those it gates.
    ///
    /// Of planned looks at pairs alone: how noisy relinked builds are, or evidence without a planned end, pairs do not tell.
    pub fn by_calibration(policy: &Policy) -> Vec<Self> {
        if policy.is_strict() || policy.stopping == Stopping::Anytime {
            return Vec::new();
        }
        let series = u32::try_from(policy.known_noise.len()).unwrap_or(u32::MAX);
        let tests = series.saturating_add(u32::from(policy.guard_slow_processes));
        let mut found: Vec<Self> = policy
            .known_noise
            .iter()
            .filter_map(|known| Self::find(policy, &known.series, known.robust_sd, tests, known.source()))
            .collect();
        found.sort_by(|a, b| b.needs.cmp(&a.needs).then_with(|| a.series.cmp(&b.series)));
        found
    }
}

impl fmt::Display for Unresolved {
    /// `cannot resolve 1% in 40 pairs; needs 206: latency.p50 of match (noise 3%, calibrated at ny4-07)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series, margin, max_pairs, needs, robust_sd, source } = self;
        let noise = robust_sd * 100.0;
        write!(
            f,
            "cannot resolve {margin} in {max_pairs} pairs; needs {needs}: {series} (noise {noise:.1}%, "
        )?;
        match source {
            NoiseSource::Calibration { agent, .. } => write!(f, "calibrated at {agent})"),
            NoiseSource::ThesePairs => f.write_str("by these pairs)"),
        }
    }
}

/// All of them in a line: the worst in full, the others counted. None if there are none.
pub fn in_a_line(unresolved: &[Unresolved]) -> Option<String> {
    let worst = unresolved.iter().max_by_key(|one| one.needs)?;
    match unresolved.len() - 1 {
        0 => Some(worst.to_string()),
        others => Some(format!("{worst}, and {others} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::KnownNoise;
    use crate::metric::{LatencyStat, Metric};

    fn known(bench: &str, stat: LatencyStat, robust_sd: f64) -> KnownNoise {
        let series = SeriesKey::new(bench, Metric::Latency(stat));
        KnownNoise { series, robust_sd, sd: robust_sd, pairs: 60, agent: "ny4-07".to_owned() }
    }

    #[test]
    fn what_is_too_noisy_for_its_margin_is_told_with_the_pairs_that_would_do() {
        let known_noise = vec![
            known("match", LatencyStat::P50, 0.03),
            known("match", LatencyStat::P99, 0.03),
            known("add", LatencyStat::P50, 0.02),
        ];
        let policy = Policy { known_noise, ..Policy::default() };
        let unresolved = Unresolved::by_calibration(&policy);
        // 3% of noise against a margin of 5% is no trouble.
        assert_eq!(unresolved.len(), 2);
        insta::assert_snapshot!(in_a_line(&unresolved).unwrap(), @"cannot resolve 1% in 40 pairs; needs 219: latency.p50 of match (noise 3.0%, calibrated at ny4-07), and 1 more");
        assert_eq!(in_a_line(&[]), None);
        let strict = Policy { builds: 4, ..policy.clone() };
        let soak = Policy { stopping: Stopping::Anytime, ..policy.clone() };
        let enough = policy.with_max_pairs(300);
        for other in [strict, soak, enough] {
            assert_eq!(Unresolved::by_calibration(&other), []);
        }
    }
}
