//! The archive: what was measured, invocation by invocation; big, append-only, and asked by bench and metric over time.

use darwin_coordinator_core::action::ArchiveRound;
use darwin_shared::spec::Arm;
use thiserror::Error;

/// The most points that one question gives.
pub(super) const POINTS_MAX: u32 = 10_000;

/// Why the archive cannot be read or written. Verdicts do not depend on it.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The engine failed.
    #[error("the archive failed: {0}")]
    Engine(#[from] rusqlite::Error),
    /// A row that this darwin cannot read.
    #[error("the archive has a row that cannot be read: {0}")]
    Garbled(String),
    /// Its writer is gone.
    #[error("the archive's writer has stopped; its last error is in the log")]
    Stopped,
}

/// Which line of history is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The project.
    pub project: String,
    /// The suite.
    pub suite: String,
    /// The bench; any if empty.
    pub bench: String,
    /// The metric; any if empty.
    pub metric: String,
    /// The newest so many points, at most 10,000.
    pub limit: u32,
}

/// One invocation's statistic.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPoint {
    /// The job.
    pub job: String,
    /// The attempt's number.
    pub attempt: u32,
    /// The round, counted from 0.
    pub round: u32,
    /// Which side.
    pub arm: Arm,
    /// The variant's label.
    pub variant: String,
    /// The bench.
    pub bench: String,
    /// The metric.
    pub metric: String,
    /// The value, in `unit`.
    pub value: f64,
    /// The unit's name.
    pub unit: String,
    /// Samples that it is made of.
    pub samples: u64,
    /// Who measured.
    pub agent: String,
    /// When, in milliseconds since 1970.
    pub recorded_unix_ms: u64,
}

/// What was measured.
pub trait Archive: Send {
    /// Puts rounds in. The same round may come more than once and counts once.
    fn put(&mut self, rounds: &[ArchiveRound]) -> Result<(), ArchiveError>;

    /// A line over time, oldest first.
    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<HistoryPoint>, ArchiveError>;
}
