//! Readers of what bench tools write: bytes in, series out.
//!
//! A reader is a pure function. It opens no file and reads no clock, so the same bytes always give the same series.
//! It never guesses: what is not whole, not unique or not a possible measurement is refused with the place and with
//! what would be right. A new format is a module here, an arm in [`read`], and a rule in `detect`.

mod criterion;
mod darwin_samples;
mod detect;
mod error;
mod hyperfine;
mod input;
mod json;
mod names;
mod process;
mod pytest_benchmark;

use std::fmt;
use std::str::FromStr;

use darwin_gate::{Better, Evidence, Unit};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use criterion::criterion_wants;
pub use darwin_samples::{SCHEMA, write_error_line, write_samples};
pub use detect::detect;
pub use error::{ReadError, ReadErrorKind};
pub use input::{Content, Input, MAX_INPUT_BYTES, MAX_SERIES, TreeFile};
pub use names::MAX_NAME_CHARS;
pub(crate) use names::{Param, with_params};
pub use process::{PROCESS_BENCH, measured_process, peak_memory, used_series};

use crate::sample::{Grouping, Measured, MetricKind, Order, Per, Series, Values};

/// The format of a bench's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Told from the content; the result says which it was.
    #[default]
    Auto,
    /// `pytest --benchmark-json`.
    PytestBenchmark,
    /// `hyperfine --export-json`, of hyperfine 1 and 2.
    Hyperfine,
    /// The folder `target/criterion`.
    Criterion,
    /// Darwin's own lines of JSON, [`SCHEMA`].
    DarwinSamples,
    /// No file: the agent's own measurement of the invocation, wall clock and peak memory.
    Process,
}

impl Format {
    /// Every format, `auto` first.
    pub const ALL: [Self; 6] = [
        Self::Auto,
        Self::PytestBenchmark,
        Self::Hyperfine,
        Self::Criterion,
        Self::DarwinSamples,
        Self::Process,
    ];

    /// The name, as written in `darwin.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::PytestBenchmark => "pytest-benchmark",
            Self::Hyperfine => "hyperfine",
            Self::Criterion => "criterion",
            Self::DarwinSamples => "darwin-samples",
            Self::Process => "process",
        }
    }

    /// Whether the command must be told a file to write, by `{output}`.
    ///
    /// Criterion writes a folder of its own choosing, and a timed process writes nothing.
    pub const fn reads_a_file(self) -> bool {
        match self {
            Self::Auto | Self::PytestBenchmark | Self::Hyperfine | Self::DarwinSamples => true,
            Self::Criterion | Self::Process => false,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is no format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{}` is not a format: it is one of {}", names::excerpt(text, 40), Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat {
    /// The word as written.
    pub text: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| UnknownFormat { text: text.to_owned() })
    }
}

/// Reads a bench's result.
///
/// Under [`Format::Auto`] exactly one format must fit; [`Measured::format`] says which it was. A result without a
/// series is an error, never an empty success.
pub fn read(format: Format, input: Input<'_>) -> Result<Measured, ReadError> {
    input.check_size()?;
    match input.content {
        Content::Tree(files) => match format {
            Format::Auto | Format::Criterion => criterion::read(input.name, files),
            Format::PytestBenchmark | Format::Hyperfine | Format::DarwinSamples | Format::Process => {
                let why = "it is a folder; give the file that the bench's tool wrote".to_owned();
                Err(ReadErrorKind::WrongFormat { expected: format, why }.in_file(input.name))
            }
        },
        Content::File(bytes) => read_file(format, bytes).map_err(|kind| kind.in_file(input.name)),
    }
}

fn read_file(format: Format, bytes: &[u8]) -> Result<Measured, ReadErrorKind> {
    let wrong = |why: &str| ReadErrorKind::WrongFormat { expected: format, why: why.to_owned() };
    match format {
        Format::Auto => {
            let text = input::text_of(bytes)?;
            read_text(detected(text)?, text)
        }
        Format::PytestBenchmark | Format::Hyperfine | Format::DarwinSamples => {
            read_text(format, input::text_of(bytes)?)
        }
        Format::Criterion => Err(wrong("it is one file; give the folder target/criterion")),
        Format::Process => Err(wrong("`process` reads no file: Darwin itself times the command")),
    }
}

fn read_text(format: Format, text: &str) -> Result<Measured, ReadErrorKind> {
    match format {
        Format::PytestBenchmark => pytest_benchmark::read(text),
        Format::Hyperfine => hyperfine::read(text),
        Format::DarwinSamples => darwin_samples::read(text),
        Format::Auto | Format::Criterion | Format::Process => {
            Err(ReadErrorKind::ForeignFormat { looks_like: detect::looks_like(text) })
        }
    }
}

/// The one format that fits.
fn detected(text: &str) -> Result<Format, ReadErrorKind> {
    let candidates = detect::candidates(text);
    match candidates.as_slice() {
        [one] => Ok(*one),
        [] => Err(detect::foreign(text)),
        _ => Err(ReadErrorKind::Ambiguous { candidates }),
    }
}

/// Seconds in nanoseconds; what lies within a float's own error of a whole number is that number.
fn whole_ns(seconds: f64) -> f64 {
    let exact = seconds * 1e9;
    let whole = exact.round();
    if (exact - whole).abs() <= whole.abs() * 1e-12 { whole } else { exact }
}

/// A clock that stood still while the bench ran is too coarse for it.
fn warn_of_zeros(name: &str, values: &[f64], warnings: &mut Vec<String>) {
    let zeros = values.iter().filter(|value| **value == 0.0).count();
    if zeros > 0 {
        warnings.push(format!(
            "`{name}`: {zeros} of {} values are 0; the clock is too coarse, time more calls at once",
            values.len()
        ));
    }
}

/// The latencies that one process measured, in the order of time; what is no measurement is refused.
fn latency_of_one_process(
    format: Format,
    name: String,
    per: Per,
    evidence: Evidence,
    values: Vec<f64>,
) -> Result<Series, ReadErrorKind> {
    let series = Series {
        name,
        metric: MetricKind::Latency,
        unit: Unit::Nanoseconds,
        better: Better::Smaller,
        per,
        evidence,
        order: Order::Time,
        grouping: Grouping::OneProcess,
        values: Values::Samples(values),
    };
    series.checked().map_err(|error| ReadErrorKind::of_series(format, error))
}
