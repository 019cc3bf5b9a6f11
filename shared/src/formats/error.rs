//! Why a result file was refused, told to the person who has to mend it: what, where, what would be right.

use thiserror::Error;

use super::Format;
use super::names::some_of;
use crate::sample::{MetricKind, SampleError};
use crate::text::visible;

/// What `auto` can recognise, for messages.
pub(super) const READS: &str =
    "pytest-benchmark JSON, hyperfine JSON, criterion's folder target/criterion, darwin-samples NDJSON";

/// A refused result file (or folder), and why.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{}: {kind}", visible(file))]
pub struct ReadError {
    /// The file, as the caller named it; inside a folder, the folder's name and the path in it.
    pub file: String,
    /// What is wrong with it.
    pub kind: ReadErrorKind,
}

/// What is wrong with a result file.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ReadErrorKind {
    /// Nothing in it.
    #[error(
        "the file is empty: the bench wrote no results; see that it ran to its end and writes to this path"
    )]
    Empty,
    /// Bytes that are no text.
    #[error("not UTF-8 text, at byte {at_byte}{}: the result must be plain text, as the bench's tool wrote it",
        looks_like.map(|what| format!(" (it looks like {what})")).unwrap_or_default())]
    NotUtf8 {
        /// Offset of the first byte that does not belong, from 0.
        at_byte: usize,
        /// The kind of file, where its first bytes tell.
        looks_like: Option<&'static str>,
    },
    /// A JSON text that stops in the middle.
    #[error(
        "the file ends too early, at line {line} column {column} ({message}): the bench was stopped while it \
         wrote, or the copy is not whole; run the bench again"
    )]
    Truncated {
        /// Line of the end, from 1.
        line: usize,
        /// Column of the end, from 1.
        column: usize,
        /// What was still open.
        message: String,
    },
    /// JSON that breaks JSON's own rules.
    #[error(
        "broken JSON at line {line} column {column}: {message}; the file must be as the bench's tool wrote it"
    )]
    BadJson {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
        /// The fault.
        message: String,
    },
    /// The output of something else.
    #[error("not a format that Darwin reads: looks like {looks_like}; it reads {READS}")]
    ForeignFormat {
        /// The nearest known description.
        looks_like: String,
    },
    /// More than one format fits.
    #[error("could be {}: name the one that it is as the format, instead of `auto`",
        some_of(candidates.iter(), " or "))]
    Ambiguous {
        /// All that fit.
        candidates: Vec<Format>,
    },
    /// Not what the suite or the caller said it would be.
    #[error("not {expected} output: {why}")]
    WrongFormat {
        /// The format that was named or detected.
        expected: Format,
        /// What does not fit, and what would.
        why: String,
    },
    /// A readable file with nothing to compare.
    #[error("nothing to compare in it: {why}")]
    NoSeries {
        /// Why there is nothing, and what would bring something.
        why: String,
    },
    /// Two benches of one name.
    #[error(
        "two benches named `{name}` for {metric}: names must be unique, or one would hide the other; rename one"
    )]
    DuplicateName {
        /// The name that occurs twice.
        name: String,
        /// What both claim to have measured.
        metric: MetricKind,
    },
    /// A name that cannot be one.
    #[error("{whose} {why}")]
    BadName {
        /// Which bench, by its place in the file.
        whose: String,
        /// What is wrong with the name, and what would be right.
        why: String,
    },
    /// A number that cannot have been measured.
    #[error("{place}: the value {value} cannot have been measured; values are finite and not negative")]
    BadValue {
        /// Where it stands.
        place: String,
        /// The value as it was written.
        value: String,
    },
    /// The bench itself failed, so that what it measured means nothing.
    #[error("`{name}` failed ({}): mend it first; a bench that fails is not compared", exits(exit_codes))]
    BenchFailed {
        /// The bench that failed.
        name: String,
        /// The exit code of each run; `None` where a signal ended it.
        exit_codes: Vec<Option<i32>>,
    },
    /// The bench's harness reported an error of its own.
    #[error("{} reported an error: {message}; nothing of this run is compared",
        name.as_deref().map_or_else(|| "the bench".to_owned(), |name| format!("`{name}`")))]
    BenchError {
        /// The bench that it is about, where the report says so.
        name: Option<String>,
        /// The report.
        message: String,
    },
    /// A version of the format from another time.
    #[error(
        "{format} output of version {found}: this Darwin reads {reads}; write one of those, or take a newer Darwin"
    )]
    UnsupportedVersion {
        /// Whose output it is.
        format: Format,
        /// The version in the file.
        found: String,
        /// The versions that are read.
        reads: &'static str,
    },
    /// More than fits the bounds that keep a reader's memory small.
    #[error("too large: {found} {what}, at most {most} are read; split the suite or measure fewer samples")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much is taken.
        most: usize,
    },
}

impl ReadErrorKind {
    /// A series that breaks its promises, as the refusal of the file that it came from.
    pub(super) fn of_series(format: Format, error: SampleError) -> Self {
        match error {
            SampleError::BadValue { place, value } => Self::BadValue { place, value },
            SampleError::NoValues { .. } => Self::NoSeries { why: error.to_string() },
            SampleError::Contradiction { .. } => {
                Self::WrongFormat { expected: format, why: error.to_string() }
            }
        }
    }

    /// The same error with the file that it is about.
    pub(super) fn in_file(self, file: &str) -> ReadError {
        ReadError { file: file.to_owned(), kind: self }
    }
}

/// `exit code 1 in 3 of 3 runs`, `ended by a signal in 1 of 10 runs`.
fn exits(exit_codes: &[Option<i32>]) -> String {
    let failed = exit_codes.iter().filter(|code| **code != Some(0));
    let how = match failed.clone().next() {
        Some(Some(code)) => format!("exit code {code}"),
        Some(None) => "ended by a signal".to_owned(),
        None => "no exit code".to_owned(),
    };
    format!("{how}; {} of {} runs failed", failed.count(), exit_codes.len())
}
