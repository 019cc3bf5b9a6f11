//! The archive: what was measured, invocation by invocation; big, append-only, and asked by bench and metric over time.

use std::sync::Arc;

use darwin_coordinator_core::action::ArchiveRound;
use darwin_gate::audit::Audit;
use darwin_gate::{Calibration, SeriesKey, Verdict};
use darwin_shared::fleet::Tier;
use darwin_shared::ids::{AgentId, AttemptId};
use darwin_shared::probe::RoundProbe;
use darwin_shared::round::Pairing;
use darwin_shared::spec::{Arm, JobSpec};
use thiserror::Error;

/// The most points that one question gives.
pub(super) const POINTS_MAX: u32 = 10_000;
/// The most calibrations that one question gives: they fit one message.
pub(super) const CALIBRATIONS_MAX: u32 = 5_000;

/// Probes that are kept of each box and kind; older ones go.
pub(super) const PROBES_KEPT: u32 = 1_000;
/// The most probes that one question gives.
pub(super) const PROBES_MAX: u32 = 1_000;

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
    /// The word for what the agent's numbers were good for.
    pub tier: String,
    /// When, in milliseconds since 1970.
    pub recorded_unix_ms: u64,
}

/// A judged comparison of something with itself.
#[derive(Debug, Clone)]
pub struct AaJob {
    /// The attempt that was judged; its rounds went into the archive before.
    pub attempt: AttemptId,
    /// The job's spec.
    pub spec: Arc<JobSpec>,
    /// Who measured.
    pub agent: AgentId,
    /// What the agent's numbers were good for.
    pub tier: Tier,
    /// How its pairs were run; none from an agent that knows one way only.
    pub pairing: Option<Pairing>,
    /// What the agent's box is, in words.
    pub fingerprint: String,
    /// What the gate said.
    pub verdict: Box<Verdict>,
    /// When, in milliseconds since 1970.
    pub finished_unix_ms: u64,
}

impl AaJob {
    /// The word for how its pairs were run; where nobody said it, one process after the other.
    pub(super) fn pairing_word(&self) -> &'static str {
        self.pairing.as_ref().map_or(Pairing::PLAIN, Pairing::word)
    }
}

/// Which calibrations are wanted; what is empty is any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CalibrationQuery {
    /// The project.
    pub project: String,
    /// The suite.
    pub suite: String,
    /// The agent.
    pub agent: String,
    /// At most so many, at most 5,000; gated series come first.
    pub limit: u32,
}

/// How noisy one series is on one box of one tier, in pairs that were run one way.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibratedSeries {
    /// The agent that measured.
    pub agent: String,
    /// The word for what its numbers were good for.
    pub tier: String,
    /// The word for how the pairs were run.
    pub pairing: String,
    /// The project.
    pub project: String,
    /// The suite.
    pub suite: String,
    /// The series.
    pub series: SeriesKey,
    /// Whether the suite's policy gates it.
    pub gated: bool,
    /// The job that measured.
    pub job: String,
    /// What its pairs say.
    pub calibration: Calibration,
}

/// What pairs of the same code say.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrations {
    /// By project, suite, agent, tier, pairing, bench and metric.
    pub series: Vec<CalibratedSeries>,
    /// How often the gate was wrong about them, of all projects together.
    pub audit: Audit,
}

/// Which probes are wanted; what is empty is any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbeQuery {
    /// The agent.
    pub agent: String,
    /// The pool.
    pub pool: String,
    /// The job.
    pub job: String,
    /// Whether to leave out those that were made around the rounds of other jobs.
    pub jobs_only: bool,
    /// The newest so many, at most 1,000.
    pub limit: u32,
}

/// A probe with where and when it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchivedProbe {
    /// The agent on whose box.
    pub agent: String,
    /// The agent's pool.
    pub pool: String,
    /// The job that made it.
    pub job: String,
    /// The attempt's number.
    pub attempt: u32,
    /// The round, counted from 0.
    pub round: u32,
    /// When it came in, in milliseconds since 1970.
    pub recorded_unix_ms: u64,
    /// What it saw.
    pub probe: RoundProbe,
}

/// What was measured.
pub trait Archive: Send {
    /// Puts rounds in. The same round may come more than once and counts once.
    fn put(&mut self, rounds: &[ArchiveRound]) -> Result<(), ArchiveError>;

    /// Puts an A/A verdict in, whose rounds are there, and if the job was a calibration what its pairs say, in place of what
    /// was known of such pairs of that suite on that box in that tier. The same job may come more than once and counts
    /// once.
    fn put_aa(&mut self, job: &AaJob) -> Result<(), ArchiveError>;

    /// How noisy the boxes are, and how often the gate was wrong.
    fn calibrations(&mut self, query: &CalibrationQuery) -> Result<Calibrations, ArchiveError>;

    /// The newest probes, the newest first. They come in with their rounds; of each box the newest thousand of a kind stay.
    fn probes(&mut self, query: &ProbeQuery) -> Result<Vec<ArchivedProbe>, ArchiveError>;

    /// A line over time, oldest first.
    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<HistoryPoint>, ArchiveError>;
}
