//! What pairs of the same code say of a box and a bench: how noisy they are, and whether anything but noise is in them.
//!
//! An A/A job measures one variant on both sides, in orders drawn by the coin. Its pairs have no effect, so their spread
//! is the noise that every later comparison there has to see through.

use serde::{Deserialize, Serialize};

use crate::coin::Order;
use crate::metric::{Better, SeriesKey};
use crate::plan::robust_sd;
use crate::resolution::NoiseSource;
use crate::stats::{mean, sample_sd};

/// The pairs of an A/A job unless something else is asked for: the spread is then known within a fifth.
pub const CALIBRATION_PAIRS: u32 = 60;
/// Fewer pairs than this say nothing about a spread.
pub const CALIBRATION_PAIRS_MIN: u32 = 10;
/// A calibration older than this says little about today.
pub const CALIBRATION_IS_OLD_AFTER_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// One pair of the same code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AaPair {
    /// `ln(challenger / baseline)`, negated where bigger is better: positive is worse.
    pub log_effect: f64,
    /// Which side ran first.
    pub order: Order,
}

impl AaPair {
    /// The pair of two values of one series; none if they have no ratio.
    pub fn of(better: Better, baseline: f64, challenger: f64, order: Order) -> Option<Self> {
        let log_ratio = (challenger / baseline).ln();
        let log_effect = match better {
            Better::Smaller => log_ratio,
            Better::Bigger => -log_ratio,
        };
        (baseline > 0.0 && challenger > 0.0 && log_effect.is_finite()).then_some(Self { log_effect, order })
    }
}

/// The noise of one metric of one bench of one suite on one box. All spreads are standard deviations of a pair's log ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Pairs behind it.
    pub pairs: u32,
    /// `1.4826 * MAD` of the pairs' log ratios: what the gate's clipped score has to see through.
    pub robust_sd: f64,
    /// The plain standard deviation, which single odd pairs make larger.
    pub sd: f64,
    /// The fourth moment over the squared second: 3 for normal noise, more for heavy tails. None without any spread.
    pub kurtosis: Option<f64>,
    /// The mean log ratio of the process that ran second to the one that ran first, positive is worse. The coin evens it
    /// out in a verdict; far from zero it says that a process disturbs its successor.
    pub order_effect: f64,
    /// The correlation of a pair with the one before it: near zero unless something slow goes on. None without any spread.
    pub lag_1: Option<f64>,
    /// When it was measured, in milliseconds since 1970.
    pub measured_unix_ms: u64,
    /// What the box was then, in words; another text means another box.
    pub fingerprint: String,
}

impl Calibration {
    /// The calibration by these pairs, in the order of time; none below [`CALIBRATION_PAIRS_MIN`].
    pub fn of(pairs: &[AaPair], measured_unix_ms: u64, fingerprint: &str) -> Option<Self> {
        let count = u32::try_from(pairs.len()).ok().filter(|count| *count >= CALIBRATION_PAIRS_MIN)?;
        let effects: Vec<f64> = pairs.iter().map(|pair| pair.log_effect).collect();
        let centre = mean(&effects)?;
        let moment = |power: i32| mean(&effects.iter().map(|d| (d - centre).powi(power)).collect::<Vec<_>>());
        let variance = moment(2)?;
        let of_second: Vec<f64> = pairs
            .iter()
            .map(|pair| match pair.order {
                Order::BaselineFirst => pair.log_effect,
                Order::ChallengerFirst => -pair.log_effect,
            })
            .collect();
        let with_next: f64 = effects.windows(2).map(|w| (w[0] - centre) * (w[1] - centre)).sum();
        let spread = variance > 0.0;
        Some(Self {
            pairs: count,
            robust_sd: robust_sd(&effects),
            sd: sample_sd(&effects)?,
            kurtosis: moment(4)
                .map(|fourth| fourth / (variance * variance))
                .filter(|k| spread && k.is_finite()),
            order_effect: mean(&of_second)?,
            lag_1: Some(with_next / (variance * effects.len() as f64)).filter(|r| spread && r.is_finite()),
            measured_unix_ms,
            fingerprint: fingerprint.to_owned(),
        })
    }

    /// Whether it says little about the box of today: it is older than a week, or the box is not what it was.
    pub fn is_stale(&self, now_unix_ms: u64, fingerprint: &str) -> bool {
        now_unix_ms.saturating_sub(self.measured_unix_ms) > CALIBRATION_IS_OLD_AFTER_MS
            || self.fingerprint != fingerprint
    }
}

/// The noise of a series that a policy takes from a calibration, so that the verdict is still a function of policy and
/// blocks alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownNoise {
    /// Of which series.
    pub series: SeriesKey,
    /// [`Calibration::robust_sd`].
    pub robust_sd: f64,
    /// [`Calibration::sd`].
    pub sd: f64,
    /// Pairs behind it.
    pub pairs: u32,
    /// The box that was calibrated.
    pub agent: String,
}

impl KnownNoise {
    /// Where it is known from.
    pub fn source(&self) -> NoiseSource {
        NoiseSource::Calibration { agent: self.agent.clone(), pairs: self.pairs }
    }

    /// The spread of a pair that normal theory on few pairs may count with: the larger of the two, for it has no clip
    /// against odd pairs. None if there is no spread at all, for then nothing can be concluded from it.
    pub fn pair_sd(&self) -> Option<f64> {
        Some(self.robust_sd.max(self.sd)).filter(|sd| *sd > 0.0 && sd.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::coin::order;

    fn pairs(effects: &[f64]) -> Vec<AaPair> {
        (0..).zip(effects).map(|(round, d)| AaPair { log_effect: *d, order: order(7, round) }).collect()
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        d: Vec<f64>,
        /// 1 where the challenger ran second, else -1.
        order: Vec<i8>,
        robust_sd: f64,
        sd: f64,
        kurtosis: f64,
        order_effect: f64,
        lag_1: f64,
    }

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[test]
    fn statistics_equal_the_reference() {
        let golden: Golden = serde_json::from_str(include_str!("../tests/golden/calibration.json")).unwrap();
        assert!(golden.cases.len() >= 4);
        for case in golden.cases {
            let order = |sign: &i8| if *sign > 0 { Order::BaselineFirst } else { Order::ChallengerFirst };
            let pairs: Vec<AaPair> = case
                .d
                .iter()
                .zip(&case.order)
                .map(|(d, sign)| AaPair { log_effect: *d, order: order(sign) })
                .collect();
            let got = Calibration::of(&pairs, 0, "").unwrap();
            for (what, got, want) in [
                ("robust sd", got.robust_sd, case.robust_sd),
                ("sd", got.sd, case.sd),
                ("kurtosis", got.kurtosis.unwrap(), case.kurtosis),
                ("order effect", got.order_effect, case.order_effect),
                ("lag 1", got.lag_1.unwrap(), case.lag_1),
            ] {
                assert!((got - want).abs() < 1e-9, "{}, {what}: {got} != {want}", case.name);
            }
        }
    }

    #[test]
    fn few_pairs_and_no_spread_say_so() {
        assert_eq!(Calibration::of(&pairs(&[0.0; 9]), 0, ""), None);
        let flat = Calibration::of(&pairs(&[0.0; 10]), 5, "box").unwrap();
        assert_eq!((flat.kurtosis, flat.lag_1), (None, None));
        assert!(flat.robust_sd.abs() < f64::EPSILON && flat.order_effect.abs() < f64::EPSILON);
        let json = serde_json::to_string(&flat).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&json).unwrap(), flat);
    }

    #[test]
    fn a_slower_second_process_is_seen_whatever_side_it_is_on() {
        let second_is_slower: Vec<f64> =
            (0..40).map(|round| if order(7, round) == Order::BaselineFirst { 0.02 } else { -0.02 }).collect();
        let calibration = Calibration::of(&pairs(&second_is_slower), 0, "").unwrap();
        assert!((calibration.order_effect - 0.02).abs() < 1e-12);
    }

    #[test]
    fn age_and_another_box_make_it_stale() {
        let calibration = Calibration::of(&pairs(&[0.01; 10]), 1_000, "cpu a").unwrap();
        assert!(!calibration.is_stale(1_000 + CALIBRATION_IS_OLD_AFTER_MS, "cpu a"));
        assert!(calibration.is_stale(1_001 + CALIBRATION_IS_OLD_AFTER_MS, "cpu a"));
        assert!(calibration.is_stale(1_000, "cpu b"));
        // A clock that was set back makes nothing old.
        assert!(!calibration.is_stale(0, "cpu a"));
    }

    #[test]
    fn values_without_a_ratio_are_no_pair() {
        assert_eq!(AaPair::of(Better::Smaller, 0.0, 1.0, Order::BaselineFirst), None);
        assert_eq!(AaPair::of(Better::Smaller, 1.0, f64::NAN, Order::BaselineFirst), None);
        let pair = AaPair::of(Better::Bigger, 2.0, 1.0, Order::BaselineFirst).unwrap();
        assert!((pair.log_effect - 2.0f64.ln()).abs() < 1e-12, "less throughput is worse");
    }
}
