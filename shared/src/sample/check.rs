//! The promises of a series: possible values, and no word in it that contradicts another.

use darwin_gate::{Better, Evidence, Metric};
use thiserror::Error;

use crate::formats::MAX_NAME_CHARS;

use super::{MetricKind, Per, Series, Summary, Values};
use crate::text::visible;

/// Why a series was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SampleError {
    /// No value in it.
    #[error("`{name}` has no values: a bench that measured nothing cannot be compared")]
    NoValues {
        /// The series.
        name: String,
    },
    /// A value that cannot have been measured.
    #[error("{place}: the value {value} cannot have been measured; values are finite and not negative")]
    BadValue {
        /// The series and the place in it.
        place: String,
        /// The value.
        value: String,
    },
    /// Two statements that cannot both be true.
    #[error("`{name}`: {what}")]
    Contradiction {
        /// The series.
        name: String,
        /// The statements, and what would be right.
        what: String,
    },
}

impl Series {
    /// The series, if it holds what every series promises.
    pub fn checked(self) -> Result<Self, SampleError> {
        self.check_name()?;
        self.check_metric()?;
        match &self.values {
            Values::Samples(values) => self.check_samples(values)?,
            Values::Histogram(pairs) => self.check_histogram(pairs)?,
            Values::Summary(summary) => self.check_summary(*summary)?,
        }
        Ok(self)
    }

    fn contradiction(&self, what: impl Into<String>) -> SampleError {
        SampleError::Contradiction { name: self.name.clone(), what: what.into() }
    }

    fn check_name(&self) -> Result<(), SampleError> {
        let chars = self.name.chars().count();
        if chars > MAX_NAME_CHARS || self.name.trim().is_empty() || visible(&self.name) != self.name {
            let name = visible(&self.name.chars().take(40).collect::<String>());
            let what =
                format!("a name has 1 to {MAX_NAME_CHARS} characters, none of which a terminal would obey");
            return Err(SampleError::Contradiction { name, what });
        }
        Ok(())
    }

    fn check_metric(&self) -> Result<(), SampleError> {
        if let Some(unit) = self.metric.unit().filter(|unit| *unit != self.unit) {
            return Err(self.contradiction(format!(
                "{} is measured in {unit}, not in {}; name another metric `custom.NAME`",
                self.metric, self.unit
            )));
        }
        if let Some(better) = self.metric.better().filter(|better| *better != self.better) {
            let word = match better {
                Better::Smaller => "smaller",
                Better::Bigger => "bigger",
            };
            return Err(self.contradiction(format!("for {} {word} is better", self.metric)));
        }
        if let MetricKind::Custom(name) = &self.metric
            && let Err(error) = Metric::custom(name.as_str(), self.better)
        {
            return Err(self.contradiction(error.to_string()));
        }
        Ok(())
    }

    fn check_samples(&self, values: &[f64]) -> Result<(), SampleError> {
        if values.is_empty() {
            return Err(SampleError::NoValues { name: self.name.clone() });
        }
        if let Some(at) = values.iter().position(|value| !is_possible(*value)) {
            return Err(self.bad_value(&format!("value {} of {}", at + 1, values.len()), values[at]));
        }
        self.check_per(values.len())
    }

    fn check_per(&self, values: usize) -> Result<(), SampleError> {
        match &self.per {
            Per::Op => return Ok(()),
            Per::Batch { iterations } if *iterations < 2 => {
                return Err(self.contradiction("a batch has at least 2 iterations; of one, say `op`"));
            }
            Per::Batches { iterations } if iterations.len() != values => {
                return Err(self.contradiction(format!(
                    "{values} values with {} numbers of iterations: there must be one for each",
                    iterations.len()
                )));
            }
            Per::Batches { iterations } if iterations.contains(&0) => {
                return Err(self.contradiction("a batch of 0 iterations has no mean"));
            }
            Per::Batch { .. } | Per::Batches { .. } => {}
        }
        if self.evidence == Evidence::A {
            return Err(
                self.contradiction("means of batches are evidence B, not A: no single operation was timed")
            );
        }
        Ok(())
    }

    fn check_histogram(&self, pairs: &[(f64, u64)]) -> Result<(), SampleError> {
        if pairs.is_empty() {
            return Err(SampleError::NoValues { name: self.name.clone() });
        }
        if matches!(self.per, Per::Batches { .. }) {
            return Err(self.contradiction("a histogram has one number of iterations for all of its values"));
        }
        let mut total: u64 = 0;
        for (at, (value, count)) in pairs.iter().enumerate() {
            let place = || format!("pair {} of {}", at + 1, pairs.len());
            if !is_possible(*value) {
                return Err(self.bad_value(&place(), *value));
            }
            if at > 0 && *value <= pairs[at - 1].0 {
                return Err(self.contradiction(format!(
                    "{} of the histogram is not above the one before it: values ascend, each once",
                    place()
                )));
            }
            total = total.checked_add(*count).filter(|_| *count > 0).ok_or_else(|| {
                self.contradiction(format!("{} of the histogram has the impossible count {count}", place()))
            })?;
        }
        self.check_per(pairs.len())
    }

    fn check_summary(&self, summary: Summary) -> Result<(), SampleError> {
        let named = summary.named();
        if named.iter().all(|(_, value)| value.is_none()) {
            return Err(SampleError::NoValues { name: self.name.clone() });
        }
        for (name, value) in named {
            if let Some(value) = value.filter(|value| !is_possible(*value)) {
                return Err(self.bad_value(&format!("the summary's {name}"), value));
            }
        }
        if summary.count == Some(0) {
            return Err(self.contradiction("a summary of 0 samples says nothing"));
        }
        if matches!(self.evidence, Evidence::A | Evidence::B) {
            return Err(
                self.contradiction("a summary without samples is evidence C (or D, for an exact counter)")
            );
        }
        if matches!(self.per, Per::Batches { .. }) {
            return Err(self.contradiction("a summary has one number of iterations, not a list"));
        }
        Ok(())
    }

    fn bad_value(&self, place: &str, value: f64) -> SampleError {
        SampleError::BadValue {
            place: format!("`{}`, {place}", self.name),
            value: format!("{value} ({})", self.unit),
        }
    }
}

impl Summary {
    /// Every statistic with its name.
    pub(super) fn named(&self) -> [(&'static str, Option<f64>); 7] {
        [
            ("min", self.min),
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p99_9),
            ("mean", self.mean),
            ("max", self.max),
        ]
    }
}

/// Whether a clock or a counter can give this. Zero it can: a coarse clock does.
fn is_possible(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}
