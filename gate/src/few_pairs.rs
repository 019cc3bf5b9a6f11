//! The rule below ten pairs, such as two saved files: normal theory under an assumed noise.
//!
//! No test on the invocation level is possible with so few pairs, so the rule is open about what it takes for
//! granted: that one process' log statistic varies from process to process with a standard deviation of at most
//! `assumed_noise`. The log ratio of a pair then has `sqrt(2)` times that, and the mean of `n` pairs that over
//! `sqrt(n)`. Where a calibration of the box knows how much pairs of the same code differ in a series, that takes the place
//! of the assumption. If the pairs themselves vary more, the assumption is refuted: then their own standard deviation
//! counts, with Student's t instead of the normal. Exact counters (class D) have no assumed noise.
//!
//! Alpha is split as in the main rule. REJECT, and APPROVE in mode no-slower, ask the same proofs. APPROVE for a
//! gain cannot ask that every series be *proven* within a margin of 1%, for one pair can prove that of none: here
//! no series may be *estimated* worse than its margin, and the verdict says how large a slowdown that leaves open.

use std::collections::{BTreeMap, BTreeSet};

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::block::Evidence;
use crate::calibration::KnownNoise;
use crate::decide::{Levels, Tested, Yardstick, test};
use crate::ledger::{Roster, Series};
use crate::metric::SeriesKey;
use crate::policy::{MetricPolicy, Mode, Policy};
use crate::ratio::Ratio;
use crate::stats::{mean, sample_sd};

/// What settles what few pairs cannot.
pub(crate) const SETTLE_WITH: &str = "darwin compare --suite SUITE --baseline REF --challenger REF \
     (10 rounds or more, interleaved on one box), or 10 or more result files a side, paired in the order given";

/// The rule for one job: its noise and its critical values, worked out once for all series.
pub(crate) struct FewPairs<'a> {
    policy: &'a Policy,
    /// While the assumed noise holds.
    normal: Levels,
    /// When the pairs refute it, by how many pairs a series has.
    student: BTreeMap<usize, Levels>,
}

impl<'a> FewPairs<'a> {
    pub(crate) fn new(policy: &'a Policy, roster: &Roster, pairs: u32) -> Self {
        let levels = |degrees: Option<f64>| {
            let level = |tests: u32| critical_value(policy.alpha / f64::from(tests.max(1)), degrees);
            Levels { reject: level(roster.series()), gain: level(roster.primaries), full: level(1) }
        };
        // A series may have fewer pairs than the job, if it was absent in a round.
        let student = (2..=pairs).map(|n| (n as usize, levels(Some(f64::from(n - 1))))).collect();
        Self { policy, normal: levels(None), student }
    }

    /// The yardstick and the critical values of a series; none without a pair.
    pub(crate) fn measure(&self, key: &SeriesKey, series: &Series) -> Option<(Yardstick, Levels)> {
        let centre = mean(&series.effects)?;
        let pairs = series.effects.len();
        let assumed = match series.evidence {
            Evidence::A | Evidence::B | Evidence::C => pair_noise(self.policy, key),
            Evidence::D => 0.0,
        };
        let observed = sample_sd(&series.effects).unwrap_or(0.0);
        let (sd, levels) = match self.student.get(&pairs) {
            Some(student) if observed > assumed => (observed, *student),
            _ => (assumed, self.normal),
        };
        Some((Yardstick::Normal { mean: centre, standard_error: sd / (pairs as f64).sqrt() }, levels))
    }

    /// Tests one gated series.
    pub(crate) fn test(&self, yard: &(Yardstick, Levels), metric: MetricPolicy, primary: bool) -> Tested {
        let (yardstick, levels) = yard;
        let tested = test(yardstick, *levels, metric, primary, self.policy.min_gain);
        let within = yardstick.centre() <= metric.margin.ln_1p();
        match self.policy.mode {
            Mode::Faster => Tested { acceptable: within || tested.not_worse, ..tested },
            Mode::NoSlower => tested,
        }
    }
}

/// What the verdict takes for granted, in words.
pub(crate) fn assumption(policy: &Policy, roster: &Roster, pairs: u32) -> String {
    let level = critical_value(policy.alpha / f64::from(roster.series().max(1)), None);
    let gated = || roster.gated.keys();
    let noise = gated().map(|key| pair_noise(policy, key)).reduce(f64::max).unwrap_or(pair_sd(policy));
    let resolved = Ratio::from_log(level * noise / f64::from(pairs.max(1)).sqrt()).as_percent();
    let leaves_open = match policy.mode {
        Mode::Faster => ", and an APPROVE does not exclude a slowdown of that size in a single series",
        Mode::NoSlower => "",
    };
    let word = if pairs == 1 { "pair" } else { "pairs" };
    let known: Vec<&KnownNoise> = gated().filter_map(|key| policy.known_noise_of(key)).collect();
    let assumed =
        format!("process-to-process noise of at most {} (standard deviation)", policy.assumed_noise);
    let noise = match (calibrated(&known), known.len() < roster.gated.len()) {
        (None, _) => assumed,
        (Some(calibrated), false) => calibrated,
        (Some(calibrated), true) => format!("{calibrated}, and for the other series {assumed}"),
    };
    format!(
        "assumes {noise}: {pairs} {word} of invocations cannot measure it, so a change below about {resolved:.0}% is not \
         told from noise{leaves_open}"
    )
}

/// `the noise that box ny4-07 was calibrated with (0.8% to 2.1% between pairs of the same code)`.
fn calibrated(known: &[&KnownNoise]) -> Option<String> {
    let percent = |sd: f64| sd * 100.0;
    let sds = || known.iter().filter_map(|known| known.pair_sd());
    let (least, most) = (sds().reduce(f64::min)?, sds().reduce(f64::max)?);
    let boxes: BTreeSet<&str> = known.iter().map(|known| known.agent.as_str()).collect();
    let boxes: Vec<&str> = boxes.into_iter().collect();
    Some(format!(
        "the noise that box {} was calibrated with ({:.1}% to {:.1}% between pairs of the same code)",
        boxes.join(" and box "),
        percent(least),
        percent(most)
    ))
}

/// The standard deviation of a series' log ratio of a pair: as the box was calibrated, else assumed.
fn pair_noise(policy: &Policy, key: &SeriesKey) -> f64 {
    policy.known_noise_of(key).and_then(KnownNoise::pair_sd).unwrap_or(pair_sd(policy))
}

/// The assumed standard deviation of a pair's log ratio: two processes, each with the assumed noise.
fn pair_sd(policy: &Policy) -> f64 {
    policy.assumed_noise.get() * std::f64::consts::SQRT_2
}

/// The upper `tail` quantile of the normal, or of Student's t with the degrees of freedom.
pub(crate) fn critical_value(tail: f64, degrees: Option<f64>) -> f64 {
    let normal = -Normal::standard().inverse_cdf(tail);
    match degrees.map(|n| StudentsT::new(0.0, 1.0, n)) {
        // A t quantile is never below the normal one; numerical failure far out counts as "never".
        Some(Ok(t)) => {
            Some(-t.inverse_cdf(tail)).filter(|v| v.is_finite()).unwrap_or(f64::INFINITY).max(normal)
        }
        Some(Err(_)) => f64::INFINITY,
        None => normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_values_match_the_tables() {
        for (tail, degrees, want) in [
            (0.01, None, 2.326_348),
            (0.0025, None, 2.807_034),
            (0.01, Some(1.0), 31.820_516),
            (0.01, Some(4.0), 3.746_947),
            (0.005, Some(8.0), 3.355_387),
            (1e-6, Some(1.0), 318_309.886),
        ] {
            let got = critical_value(tail, degrees);
            assert!((got / want - 1.0).abs() < 1e-6, "{tail} {degrees:?}: {got}");
        }
    }
}
