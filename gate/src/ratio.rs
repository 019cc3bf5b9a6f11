//! A relative change: 0.01 is +1%, -0.2 is -20%. Always finite, never below -1.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A relative change: 0.01 is +1%. Finite and at least -1 (nothing shrinks by more than all of it).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Ratio(f64);

/// Why a number or a text is not a relative change.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RatioError {
    /// Not finite, or below -1.
    #[error("{0} is not a relative change: it must be a finite number of at least -1 (0.01 is 1%)")]
    OutOfRange(f64),
    /// Not a percentage.
    #[error("`{0}` is not a percentage: write it like \"1%\" or \"0.5%\"")]
    NotPercent(String),
}

impl Ratio {
    /// No change.
    pub const ZERO: Self = Self(0.0);
    /// The largest change that is shown: beyond it a report says "a million million times" and no more.
    pub const MAX: Self = Self(1e12);

    /// A relative change, 0.01 for 1%.
    pub fn new(value: f64) -> Result<Self, RatioError> {
        if value.is_finite() && value >= -1.0 { Ok(Self(value)) } else { Err(RatioError::OutOfRange(value)) }
    }

    /// A relative change from whole percents: `from_percent(5)` is +5%.
    pub const fn from_percent(percent: u8) -> Self {
        Self(percent as f64 / 100.0)
    }

    /// The change that a log ratio stands for, `exp(x) - 1`, held at [`Ratio::MAX`]; not-a-number gives zero.
    pub fn from_log(log_ratio: f64) -> Self {
        if log_ratio.is_nan() { Self::ZERO } else { Self(log_ratio.exp_m1().min(Self::MAX.0)) }
    }

    /// The plain number, 0.01 for 1%.
    pub fn get(self) -> f64 {
        self.0
    }

    /// In percent, 1.0 for 1%.
    pub fn as_percent(self) -> f64 {
        self.0 * 100.0
    }

    /// The log ratio of this change, `ln(1 + r)`; minus infinity at -1.
    pub fn ln_1p(self) -> f64 {
        self.0.ln_1p()
    }
}

impl TryFrom<f64> for Ratio {
    type Error = RatioError;
    fn try_from(value: f64) -> Result<Self, RatioError> {
        Self::new(value)
    }
}

impl From<Ratio> for f64 {
    fn from(ratio: Ratio) -> Self {
        ratio.0
    }
}

/// Percent, as short as it can be: `1%`, `0.5%`, `-19.8%`.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One rounding at nine decimals hides binary noise such as 0.07 * 100.
        let percent = (self.0 * 1e11).round() / 1e9;
        write!(f, "{percent}%")
    }
}

/// A percentage such as `1%` or `-0.5 %`.
impl FromStr for Ratio {
    type Err = RatioError;

    fn from_str(text: &str) -> Result<Self, RatioError> {
        let not_percent = || RatioError::NotPercent(text.to_owned());
        let number = text.trim().strip_suffix('%').ok_or_else(not_percent)?;
        let percent: f64 = number.trim().parse().map_err(|_| not_percent())?;
        Self::new(percent / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_percent() {
        for (text, shown) in [("1%", "1%"), ("0.5 %", "0.5%"), ("7%", "7%"), ("-20%", "-20%"), ("0%", "0%")] {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), shown);
        }
        for bad in ["1", "%", "a%", "nan%", "inf%", "-101%", ""] {
            assert!(bad.parse::<Ratio>().is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn stays_finite() {
        assert_eq!(Ratio::from_log(2000.0), Ratio::MAX);
        assert!((Ratio::from_log(-2000.0).get() + 1.0).abs() < 1e-15);
        assert_eq!(Ratio::from_log(f64::NAN), Ratio::ZERO);
        assert!(serde_json::from_str::<Ratio>("-1.5").is_err());
        assert!(Ratio::new(f64::INFINITY).is_err());
    }
}
