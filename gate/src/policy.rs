//! How strict the gate is: what is gated, by which margin, at which looks, with which error.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::anytime::Stopping;
use crate::calibration::KnownNoise;
use crate::metric::{LatencyStat, Metric, SeriesKey};
use crate::ratio::Ratio;
use crate::score::Score;

/// What the gate approves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Only what is proven faster on a primary series and proven not slower on every gated one.
    #[default]
    Faster,
    /// Whatever is proven not slower than the margin on every gated series.
    NoSlower,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faster => "faster",
            Self::NoSlower => "no-slower",
        })
    }
}

/// How one metric is gated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricPolicy {
    /// The largest worsening that is accepted.
    pub margin: Ratio,
    /// The systematic floor (luck of the link layout) that a REJECT must clear; below the margin.
    #[serde(default)]
    pub floor: Ratio,
    /// Whether the metric takes part in the decision; false reports it only.
    #[serde(default = "yes")]
    pub gated: bool,
}

fn yes() -> bool {
    true
}

/// How the gate decides. A verdict is a function of this, the blocks and how the data ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// What is approved.
    pub mode: Mode,
    /// The chance of a wrong REJECT, and of a wrong APPROVE, over all findings of the job; in 0..0.5.
    pub alpha: f64,
    /// The most pairs that are measured. Below [`FIRST_LOOK_PAIRS`] the few-pairs rule decides.
    pub max_pairs: u32,
    /// After how many pairs the gate may decide: ascending, the last is `max_pairs`; empty with few pairs.
    pub looks: Vec<u32>,
    /// Metrics that the user named. What is not here follows [`Policy::for_metric`]'s defaults.
    pub metrics: BTreeMap<Metric, MetricPolicy>,
    /// The metric that must be proven faster on at least one bench in mode [`Mode::Faster`]. None: `latency.p50`, and
    /// `latency.mean` of a bench that has no median, such as one with a single sample per invocation.
    pub primary: Option<Metric>,
    /// The least gain wanted on a primary series.
    pub min_gain: Ratio,
    /// For few pairs: the standard deviation of one process' log statistic that is taken for granted.
    pub assumed_noise: Ratio,
    /// What calibrations say of the noise of the gated series; with few pairs it takes the place of `assumed_noise`, and the
    /// verdict says what it cannot resolve. At most [`MAX_KNOWN_NOISE`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known_noise: Vec<KnownNoise>,
    /// How pairs are scored, and with it how alpha is shared: [`Score::Adaptive`] also counts series of one bench that
    /// agree as fewer tests. Policies written before it existed score as they did.
    #[serde(default)]
    pub score: Score,
    /// Whether rare slow processes are looked for at the end; one more test that shares alpha on the side of REJECT.
    /// Not with few pairs, and not in strict mode. Policies written before it existed go without.
    #[serde(default = "no")]
    pub guard_slow_processes: bool,
    /// Strict mode: how many relinked builds of each variant must be compared, 4 to 64. Then the builds, not the
    /// pairs, are the unit of evidence, so that the luck of a link layout is no finding. 1: not strict.
    #[serde(default = "one")]
    pub builds: u32,
    /// When it may be decided: with [`Stopping::Anytime`] a look spends no alpha, and `max_pairs` plans no end but is what
    /// bounds the gate's memory. Not in strict mode. Policies written before it existed plan theirs.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub stopping: Stopping,
}

/// What records leave out, so that those of usual policies stay as they were.
fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn no() -> bool {
    false
}

fn one() -> u32 {
    1
}

/// The fewest builds a side in strict mode: Student's t of fewer has no power at any usual alpha.
pub const MIN_BUILDS: u32 = 4;
/// The most builds a side in strict mode: more relinks than anybody stages.
pub const MAX_BUILDS: u32 = 64;

/// The most series of which a policy may know the noise: each is looked for by name.
pub const MAX_KNOWN_NOISE: usize = 1000;

/// Fewer pairs than this cannot carry the sign-flip test at any usual alpha.
pub const FIRST_LOOK_PAIRS: u32 = 10;
/// The most pairs of a job: a week of one-minute pairs, and it bounds what the gate keeps in memory.
pub const MAX_PAIRS_LIMIT: u32 = 10_080;
/// The most looks of a policy: each costs a numerical integration.
pub const MAX_LOOKS: usize = 64;

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Faster,
            alpha: 0.01,
            max_pairs: 40,
            looks: default_looks(40),
            metrics: BTreeMap::new(),
            primary: None,
            min_gain: Ratio::ZERO,
            assumed_noise: Ratio::from_percent(5),
            known_noise: Vec::new(),
            score: Score::Adaptive,
            guard_slow_processes: true,
            builds: 1,
            stopping: Stopping::Planned,
        }
    }
}

/// The usual looks up to `max_pairs`: 10, 14, 20, 28, 40, 56, 80, 112, 160, and on by doubling.
///
/// `max_pairs` itself is always the last look; below [`FIRST_LOOK_PAIRS`] there is none.
pub fn default_looks(max_pairs: u32) -> Vec<u32> {
    if max_pairs < FIRST_LOOK_PAIRS {
        return Vec::new();
    }
    let mut looks = Vec::new();
    let (mut tens, mut fourteens) = (FIRST_LOOK_PAIRS, 14);
    while tens < max_pairs {
        looks.push(tens);
        if fourteens < max_pairs {
            looks.push(fourteens);
        }
        (tens, fourteens) = (tens.saturating_mul(2), fourteens.saturating_mul(2));
    }
    looks.push(max_pairs);
    looks
}

/// Why a policy cannot be used. Each message says which value is wrong and what would be right.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// Alpha is not a usable error level.
    #[error("alpha = {0}: must be above 0 and below 0.5, such as 0.01")]
    Alpha(f64),
    /// The number of pairs is zero or beyond all sense.
    #[error("max_pairs = {0}: must be 1 to {MAX_PAIRS_LIMIT}")]
    MaxPairs(u32),
    /// The looks are not a plan.
    #[error(
        "looks = {looks:?}: must ascend from at least {FIRST_LOOK_PAIRS} to max_pairs = {max_pairs}, at most \
         {MAX_LOOKS} of them; with fewer than {FIRST_LOOK_PAIRS} pairs there are none"
    )]
    Looks {
        /// What was given.
        looks: Vec<u32>,
        /// What the last one should be.
        max_pairs: u32,
    },
    /// A margin is negative.
    #[error("margin of {metric} = {margin}: must be 0% or more")]
    Margin {
        /// Of which metric.
        metric: Metric,
        /// What was given.
        margin: Ratio,
    },
    /// A floor is negative or not below the margin.
    #[error("floor of {metric} = {floor}: must be 0% or more, and below the margin of {margin}")]
    Floor {
        /// Of which metric.
        metric: Metric,
        /// What was given.
        floor: Ratio,
        /// The margin it must stay below.
        margin: Ratio,
    },
    /// The primary metric is switched off.
    #[error("the primary metric {0} is set to gated = false: gate it, or choose another primary")]
    PrimaryNotGated(Metric),
    /// The least gain is negative, or more than everything.
    #[error("min_gain = {0}: must be 0% or more and below 100%")]
    MinGain(Ratio),
    /// The assumed noise is not usable.
    #[error("assumed_noise = {0}: must be above 0% and at most 100%")]
    AssumedNoise(Ratio),
    /// More known noise than a policy may carry.
    #[error("known_noise has {0} series: at most {MAX_KNOWN_NOISE} are taken")]
    KnownNoise(usize),
    /// Strict mode with too few or too many builds.
    #[error(
        "builds = {0}: must be {MIN_BUILDS} to {MAX_BUILDS} relinked builds a side, or 1 for no strict mode"
    )]
    Builds(u32),
    /// Strict mode without a round for every build.
    #[error(
        "max_pairs = {max_pairs}: strict mode with {builds} builds needs at least {needed}, so that each build \
             runs and a look is taken"
    )]
    BuildsWithoutPairs {
        /// The builds a side.
        builds: u32,
        /// The pairs that were given.
        max_pairs: u32,
        /// The fewest that would do.
        needed: u32,
    },
    /// Strict mode without a planned end.
    #[error(
        "builds = {0}: strict mode judges by planned looks, so it needs a largest number of rounds; without a \
         planned end builds must be 1"
    )]
    BuildsWithoutEnd(u32),
}

impl Policy {
    /// This policy with at most `max_pairs` pairs, and the usual looks up to there.
    #[must_use]
    pub fn with_max_pairs(mut self, max_pairs: u32) -> Self {
        self.max_pairs = max_pairs;
        self.looks = default_looks(max_pairs);
        self
    }

    /// What holds for a metric, and whether the user named it.
    ///
    /// Without a name: margin 1% for p50, 5% for p99 and p99.9, 2% else; gated are the primary metric,
    /// `latency.p50` and `latency.p99`. A custom metric is found by its name, whatever its direction. What is gated
    /// in place of a median that a bench does not have, only the series of that bench can tell.
    pub fn for_metric(&self, metric: &Metric) -> (MetricPolicy, bool) {
        if let Some((_, named)) = self.metrics.iter().find(|(named, _)| named.same_quantity(metric)) {
            return (*named, true);
        }
        let by_default = matches!(metric, Metric::Latency(LatencyStat::P50 | LatencyStat::P99));
        let gated = by_default || self.is_primary(metric);
        (MetricPolicy { margin: default_margin(metric), floor: Ratio::ZERO, gated }, false)
    }

    /// What the guard for rare slow processes tolerates in the worst tenth of a metric, and whether it looks there.
    ///
    /// Unless `worst-tenth.<metric>` is named: the metric's own margin, but at least 5%, because a worst tenth feels
    /// any more noise of the challenger, and only rare slow processes are meant.
    pub fn for_worst_tenth(&self, metric: &Metric) -> MetricPolicy {
        let worst = Metric::WorstTenth(Box::new(metric.clone()));
        let (own, named) = self.for_metric(&worst);
        if named {
            return own;
        }
        let (of, _) = self.for_metric(metric);
        let margin = if of.margin > WORST_TENTH_MARGIN { of.margin } else { WORST_TENTH_MARGIN };
        MetricPolicy { margin, floor: Ratio::ZERO, gated: true }
    }

    /// Whether this is the primary metric, where benches have it: the named one, else `latency.p50`.
    pub fn is_primary(&self, metric: &Metric) -> bool {
        self.primary_metric().same_quantity(metric)
    }

    /// The named primary metric, else `latency.p50`.
    pub fn primary_metric(&self) -> &Metric {
        self.primary.as_ref().unwrap_or(&Metric::Latency(LatencyStat::P50))
    }

    /// Whether this metric stands in for the primary one at a bench without a median: only if the user named none.
    pub(crate) fn stands_in(&self, metric: &Metric) -> bool {
        self.primary.is_none() && *metric == Metric::Latency(LatencyStat::Mean)
    }

    /// Checks every value.
    pub fn validate(&self) -> Result<(), PolicyError> {
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return Err(PolicyError::Alpha(self.alpha));
        }
        if self.max_pairs == 0 || self.max_pairs > MAX_PAIRS_LIMIT {
            return Err(PolicyError::MaxPairs(self.max_pairs));
        }
        self.validate_looks()?;
        for (metric, policy) in &self.metrics {
            let MetricPolicy { margin, floor, gated } = *policy;
            if margin < Ratio::ZERO {
                return Err(PolicyError::Margin { metric: metric.clone(), margin });
            }
            let both_zero = margin <= Ratio::ZERO && floor == Ratio::ZERO;
            if floor < Ratio::ZERO || (floor >= margin && !both_zero) {
                return Err(PolicyError::Floor { metric: metric.clone(), floor, margin });
            }
            if !gated && self.is_primary(metric) {
                return Err(PolicyError::PrimaryNotGated(metric.clone()));
            }
        }
        if self.min_gain < Ratio::ZERO || self.min_gain.get() >= 1.0 {
            return Err(PolicyError::MinGain(self.min_gain));
        }
        if self.assumed_noise <= Ratio::ZERO || self.assumed_noise.get() > 1.0 {
            return Err(PolicyError::AssumedNoise(self.assumed_noise));
        }
        if self.known_noise.len() > MAX_KNOWN_NOISE {
            return Err(PolicyError::KnownNoise(self.known_noise.len()));
        }
        self.validate_builds()
    }

    /// What a calibration says of the noise of this series.
    pub fn known_noise_of(&self, series: &SeriesKey) -> Option<&KnownNoise> {
        self.known_noise.iter().find(|known| known.series == *series)
    }

    /// Whether builds, not pairs, are the unit of evidence.
    pub fn is_strict(&self) -> bool {
        self.builds > 1
    }

    fn validate_builds(&self) -> Result<(), PolicyError> {
        let Self { builds, max_pairs, .. } = *self;
        if builds == 1 {
            return Ok(());
        }
        if !(MIN_BUILDS..=MAX_BUILDS).contains(&builds) {
            return Err(PolicyError::Builds(builds));
        }
        if self.stopping == Stopping::Anytime {
            return Err(PolicyError::BuildsWithoutEnd(builds));
        }
        let needed = builds.max(FIRST_LOOK_PAIRS);
        if max_pairs < needed {
            return Err(PolicyError::BuildsWithoutPairs { builds, max_pairs, needed });
        }
        Ok(())
    }

    fn validate_looks(&self) -> Result<(), PolicyError> {
        let ascending = self.looks.windows(2).all(|w| w[0] < w[1]);
        let ends_right = match (self.looks.first(), self.looks.last()) {
            (Some(first), Some(last)) => *first >= FIRST_LOOK_PAIRS && *last == self.max_pairs,
            _ => self.max_pairs < FIRST_LOOK_PAIRS,
        };
        if ascending && ends_right && self.looks.len() <= MAX_LOOKS {
            return Ok(());
        }
        Err(PolicyError::Looks { looks: self.looks.clone(), max_pairs: self.max_pairs })
    }
}

/// What is tolerated in a worst tenth.
const WORST_TENTH_MARGIN: Ratio = Ratio::from_percent(5);

fn default_margin(metric: &Metric) -> Ratio {
    match metric {
        Metric::Latency(LatencyStat::P50) => Ratio::from_percent(1),
        Metric::Latency(LatencyStat::P99 | LatencyStat::P99_9) => Ratio::from_percent(5),
        Metric::Latency(LatencyStat::Min | LatencyStat::P90 | LatencyStat::Mean | LatencyStat::Max)
        | Metric::Throughput
        | Metric::MemoryPeak
        | Metric::CpuTime
        | Metric::PageFaults
        | Metric::Instructions
        | Metric::Cycles
        | Metric::CacheMisses
        | Metric::BranchMisses
        | Metric::Custom { .. } => Ratio::from_percent(2),
        Metric::WorstTenth(_) => WORST_TENTH_MARGIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_end_at_the_last_pair() {
        assert_eq!(default_looks(40), [10, 14, 20, 28, 40]);
        assert_eq!(default_looks(160), [10, 14, 20, 28, 40, 56, 80, 112, 160]);
        assert_eq!(default_looks(60), [10, 14, 20, 28, 40, 56, 60]);
        assert_eq!(default_looks(12), [10, 12]);
        assert_eq!(default_looks(10), [10]);
        assert_eq!(default_looks(9), Vec::<u32>::new());
        for max_pairs in [1, 9, 10, 11, 14, 15, 39, 160, 161, MAX_PAIRS_LIMIT] {
            Policy::default().with_max_pairs(max_pairs).validate().unwrap();
        }
    }

    #[test]
    fn defaults_gate_p50_and_p99() {
        let policy = Policy::default();
        let gated: Vec<String> = LatencyStat::ALL
            .into_iter()
            .map(Metric::Latency)
            .chain([Metric::Throughput, Metric::MemoryPeak, Metric::CpuTime, Metric::Instructions])
            .filter(|m| policy.for_metric(m).0.gated)
            .map(|m| m.to_string())
            .collect();
        assert_eq!(gated, ["latency.p50", "latency.p99"]);
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
    }

    #[test]
    fn a_policy_from_before_the_guard_and_strict_mode_judges_as_it_did() {
        let old = serde_json::from_str::<Policy>(r#"{"alpha":0.02}"#).unwrap();
        assert!(!old.guard_slow_processes && !old.is_strict() && old.score == Score::Clipped);
        assert_eq!(old.stopping, Stopping::Planned);
        // What most policies do is not written down, so that versions before it read them too.
        assert!(!serde_json::to_string(&Policy::default()).unwrap().contains("stopping"));
        let anytime = Policy { stopping: Stopping::Anytime, ..Policy::default() };
        let json = serde_json::to_string(&anytime).unwrap();
        assert!(json.contains(r#""stopping":"anytime""#), "{json}");
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), anytime);
        Policy { builds: 4, ..Policy::default() }.validate().unwrap();
    }

    #[test]
    fn a_worst_tenth_has_a_margin_of_its_own() {
        let p50 = Metric::Latency(LatencyStat::P50);
        assert_eq!(Policy::default().for_worst_tenth(&p50).margin, Ratio::from_percent(5));
        let named = |metric: Metric, percent| {
            let rule = MetricPolicy { margin: Ratio::from_percent(percent), floor: Ratio::ZERO, gated: true };
            let policy = Policy { metrics: BTreeMap::from([(metric, rule)]), ..Policy::default() };
            policy.for_worst_tenth(&p50).margin.as_percent()
        };
        assert!((named(p50.clone(), 8) - 8.0).abs() < 1e-9);
        assert!((named(p50.clone(), 2) - 5.0).abs() < 1e-9);
        assert!((named(Metric::WorstTenth(Box::new(p50.clone())), 2) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn bad_values_are_named() {
        let p50 = Metric::Latency(LatencyStat::P50);
        let with = |margin: f64, floor: f64, gated| Policy {
            metrics: BTreeMap::from([(
                p50.clone(),
                MetricPolicy {
                    margin: Ratio::new(margin).unwrap(),
                    floor: Ratio::new(floor).unwrap(),
                    gated,
                },
            )]),
            ..Policy::default()
        };
        let bad = [
            Policy { alpha: f64::NAN, ..Policy::default() },
            Policy { alpha: 0.5, ..Policy::default() },
            Policy { max_pairs: 0, looks: vec![], ..Policy::default() },
            Policy { looks: vec![10, 10, 40], ..Policy::default() },
            Policy { looks: vec![10, 20], ..Policy::default() },
            Policy { looks: vec![], ..Policy::default() },
            Policy { looks: vec![5, 40], ..Policy::default() },
            Policy { min_gain: Ratio::from_percent(100), ..Policy::default() },
            Policy { assumed_noise: Ratio::ZERO, ..Policy::default() },
            Policy { builds: 0, ..Policy::default() },
            Policy { builds: 3, ..Policy::default() },
            Policy { builds: 65, ..Policy::default() },
            Policy { builds: 4, ..Policy::default().with_max_pairs(9) },
            Policy { builds: 50, ..Policy::default() },
            Policy { builds: 4, stopping: Stopping::Anytime, ..Policy::default() },
            with(-0.01, 0.0, true),
            with(0.01, 0.02, true),
            with(0.01, 0.0, false),
        ];
        let texts: Vec<String> = bad.iter().map(|p| p.validate().unwrap_err().to_string()).collect();
        insta::assert_snapshot!(texts.join("\n"));
        with(0.0, 0.0, true).validate().unwrap();
    }
}
