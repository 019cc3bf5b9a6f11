//! Percentages and sizes that a person writes in a file or on a command line.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// No margin, floor or noise that a person means is above this; more is a typo (`500%` for `5.00%`).
pub const MAX_PERCENT: f64 = 1_000.0;

/// Why a percentage or a size that a person wrote was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Nothing, or only blanks.
    #[error("it is empty: write {example}")]
    Empty {
        /// What would be right.
        example: &'static str,
    },
    /// A percentage without its sign.
    #[error("`{text}` has no `%`: write `{suggestion}`")]
    NoPercentSign {
        /// What was written.
        text: String,
        /// The same number, as it was most likely meant.
        suggestion: String,
    },
    /// Not a number at all.
    #[error("`{text}` is not a number with a unit: write {example}")]
    NotANumber {
        /// What was written.
        text: String,
        /// What would be right.
        example: &'static str,
    },
    /// A number out of the range in which it has a meaning.
    #[error("`{text}` is out of range: it must be from {least} to {most}")]
    OutOfRange {
        /// What was written.
        text: String,
        /// The least that is taken.
        least: &'static str,
        /// The most that is taken.
        most: &'static str,
    },
    /// A size without its unit, or with one that could mean two things.
    #[error("`{text}` does not say which unit: write `{binary}` or `{decimal}`")]
    AmbiguousSize {
        /// What was written.
        text: String,
        /// The reading with powers of 1024.
        binary: String,
        /// The reading with powers of 1000 (or bytes).
        decimal: String,
    },
    /// A size with a unit that there is not.
    #[error("`{unit}` is not a unit of size: use B, KiB, MiB, GiB, TiB, kB, MB, GB or TB")]
    UnknownSizeUnit {
        /// The unit as it was written.
        unit: String,
    },
}

const PERCENT_EXAMPLE: &str = "a percentage such as `1%` or `0.5%`";
const SIZE_EXAMPLE: &str = "a size such as `512MiB` or `2GiB`";

/// A share that a person writes with a percent sign: a margin, a floor, an assumed noise. Never negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent {
    fraction: f64,
}

impl Percent {
    /// From a fraction: `0.01` is one percent. `None` unless it is from 0 to [`MAX_PERCENT`] percent.
    pub fn from_fraction(fraction: f64) -> Option<Self> {
        (0.0..=MAX_PERCENT / 100.0).contains(&fraction).then_some(Self { fraction })
    }

    /// As a fraction: one percent is `0.01`.
    pub const fn fraction(self) -> f64 {
        self.fraction
    }
}

impl FromStr for Percent {
    type Err = UnitError;

    /// Reads `1%` and `0.5 %`. A bare number is refused, for `0.01` may mean one percent or a hundredth of one.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(UnitError::Empty { example: PERCENT_EXAMPLE });
        }
        let Some(digits) = trimmed.strip_suffix('%') else {
            return Err(without_sign(trimmed));
        };
        let percent = plain_number(digits.trim_end())
            .ok_or_else(|| UnitError::NotANumber { text: trimmed.to_owned(), example: PERCENT_EXAMPLE })?;
        // Dividing keeps `1%` the same float as the literal 0.01; multiplying by 0.01 would not for all.
        Self::from_fraction(percent / 100.0).ok_or_else(|| UnitError::OutOfRange {
            text: trimmed.to_owned(),
            least: "0%",
            most: "1000%",
        })
    }
}

fn without_sign(trimmed: &str) -> UnitError {
    let Some(number) = plain_number(trimmed).filter(|number| *number >= 0.0) else {
        return UnitError::NotANumber { text: trimmed.to_owned(), example: PERCENT_EXAMPLE };
    };
    // Below one it was most likely meant as a fraction; `0.5` could be either, and both are then offered.
    let suggestion = if number > 0.0 && number < 0.2 {
        format!("{}%", trimmed_number(number * 100.0))
    } else if number > 0.0 && number < 1.0 {
        format!("{trimmed}%` or `{}%", trimmed_number(number * 100.0))
    } else {
        format!("{trimmed}%")
    };
    UnitError::NoPercentSign { text: trimmed.to_owned(), suggestion }
}

fn trimmed_number(number: f64) -> String {
    let digits = format!("{number:.6}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A decimal number as people write one: no `inf`, `NaN`, exponent or leading plus, which `f64` would take.
fn plain_number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let plain = !unsigned.is_empty() && unsigned.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse::<f64>().ok().filter(|number| plain && number.is_finite())
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", trimmed_number(self.fraction * 100.0))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written::like(PERCENT_EXAMPLE))
    }
}

/// A number of bytes that a person writes with a unit: a memory limit, a disk budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize {
    bytes: u64,
}

impl ByteSize {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }
}

/// Units of size as they may be written, without regard to case, and their number of bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

impl FromStr for ByteSize {
    type Err = UnitError;

    /// Reads `512MiB`, `1.5 GB`, `4096B`. A bare number and a bare `k`, `M`, `G` are refused: they could mean two things.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(UnitError::Empty { example: SIZE_EXAMPLE });
        }
        let split =
            trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(split);
        let unit = unit.trim();
        let number = plain_number(digits)
            .ok_or_else(|| UnitError::NotANumber { text: trimmed.to_owned(), example: SIZE_EXAMPLE })?;
        let lower = unit.to_ascii_lowercase();
        match (lower.as_str(), SIZE_UNITS.iter().find(|(name, _)| *name == lower)) {
            (_, Some((_, factor))) => scaled_size(trimmed, digits, number, *factor),
            ("", None) => Err(UnitError::AmbiguousSize {
                text: trimmed.to_owned(),
                binary: format!("{digits}MiB"),
                decimal: format!("{digits}B"),
            }),
            ("k" | "m" | "g" | "t", None) => {
                let letter = lower.to_ascii_uppercase();
                let decimal_letter = if letter == "K" { "k" } else { &letter };
                Err(UnitError::AmbiguousSize {
                    text: trimmed.to_owned(),
                    binary: format!("{digits}{letter}iB"),
                    decimal: format!("{digits}{decimal_letter}B"),
                })
            }
            (_, None) => Err(UnitError::UnknownSizeUnit { unit: unit.to_owned() }),
        }
    }
}

/// The largest size that is taken: stores and protocols keep sizes in signed 64-bit integers.
const MAX_SIZE_BYTES: u64 = (1 << 63) - 1;

fn scaled_size(text: &str, digits: &str, number: f64, factor: u64) -> Result<ByteSize, UnitError> {
    let out_of_range = || UnitError::OutOfRange { text: text.to_owned(), least: "1B", most: "8388607TiB" };
    // Whole numbers stay in integers, so that no size loses its last bytes to a float.
    if let Ok(whole) = digits.parse::<u64>() {
        let bytes = whole.checked_mul(factor).filter(|bytes| (1..=MAX_SIZE_BYTES).contains(bytes));
        return bytes.map(ByteSize::from_bytes).ok_or_else(out_of_range);
    }
    let bytes = (number * factor as f64).round();
    if (1.0..MAX_SIZE_BYTES as f64).contains(&bytes) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the line above keeps it in range, and it is rounded"
        )]
        return Ok(ByteSize::from_bytes(bytes as u64));
    }
    Err(out_of_range())
}

impl fmt::Display for ByteSize {
    /// Exact: the largest binary unit that divides it, so that what is written reads back the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXACT: &[(&str, u64)] =
            &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let fits = |size: &u64| self.bytes >= *size && self.bytes.is_multiple_of(*size);
        match EXACT.iter().find(|(_, size)| fits(size)) {
            Some((name, size)) => write!(f, "{}{name}", self.bytes / size),
            None => write!(f, "{}B", self.bytes),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written::like(SIZE_EXAMPLE))
    }
}

/// Takes text; a bare number is refused with the same hint as the same digits in quotes would be.
struct Written<T> {
    example: &'static str,
    kind: PhantomData<T>,
}

impl<T> Written<T> {
    const fn like(example: &'static str) -> Self {
        Self { example, kind: PhantomData }
    }
}

impl<T: FromStr<Err = UnitError>> de::Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.example)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_read_as_written() {
        let table = [("1%", 0.01), ("0.5 %", 0.005), (" 12.5% ", 0.125), ("0%", 0.0), ("1000%", 10.0)];
        for (text, fraction) in table {
            let percent: Percent = text.parse().unwrap();
            assert!((percent.fraction() - fraction).abs() < f64::EPSILON, "{text}: {percent:?}");
        }
    }

    #[test]
    fn refused_percentages_say_what_would_be_right() {
        let refused: Vec<String> =
            ["0.01", "0.5", "1", "", "x%", "-1%", "1e9%", "NaN%", "inf%", "2000%", "%", "five"]
                .iter()
                .map(|text| format!("{text:7} {}", text.parse::<Percent>().unwrap_err()))
                .collect();
        insta::assert_snapshot!(refused.join("\n"));
    }

    #[test]
    fn sizes_read_as_written() {
        let table = [
            ("4096B", 4_096),
            ("512MiB", 512 << 20),
            ("2 gib", 2 << 30),
            ("1.5GB", 1_500_000_000),
            ("0.5KiB", 512),
            ("9007199254740993B", 9_007_199_254_740_993),
        ];
        for (text, bytes) in table {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn refused_sizes_say_what_would_be_right() {
        let refused: Vec<String> =
            ["", "100", "2G", "1k", "-1MiB", "0B", "5 apples", "99999999TiB", "1.2.3MiB", "MiB"]
                .iter()
                .map(|text| format!("{text:12} {}", text.parse::<ByteSize>().unwrap_err()))
                .collect();
        insta::assert_snapshot!(refused.join("\n"));
    }

    #[test]
    fn a_bare_number_in_a_file_gets_the_hint_too() {
        let error = serde_json::from_str::<Percent>("0.01").unwrap_err();
        assert!(error.to_string().contains("write `1%`"), "{error}");
        let error = serde_json::from_str::<ByteSize>("100").unwrap_err();
        assert!(error.to_string().contains("100MiB"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn sizes_round_trip(bytes in 1_u64..=i64::MAX as u64) {
            let size = ByteSize::from_bytes(bytes);
            proptest::prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }

        #[test]
        fn text_never_panics(text in "\\PC{0,12}") {
            let _ = text.parse::<Percent>().map(|percent| percent.to_string());
            let _ = text.parse::<ByteSize>().map(|size| size.to_string());
        }
    }
}
