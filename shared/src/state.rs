//! The states of jobs, attempts and agents, and how each may end.
//!
//! ```text
//! Job      Queued -> Active(attempt) -> Finished(Judged | Measured | Failed | Cancelled | Expired | Parked)
//!             ^----------- the attempt was lost for an infrastructure cause, at most `attempts` times
//! Attempt  Granted -> Accepted -> Staging -> Ready -> Running(round) -> Reporting -> Closed
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use darwin_gate::{SeriesKey, Unit, Verdict};
use serde::{Deserialize, Serialize};

use crate::fleet::Tier;
use crate::ids::{AgentId, Epoch};
use crate::probe::BoxWatch;
use crate::round::Pairing;
use crate::spec::Arm;
use crate::used::Used;
use crate::void::VoidRounds;

/// A step of an attempt that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Fetching and unpacking the artifact.
    Fetch,
    /// The suite's `setup`.
    Setup,
    /// The suite's `check`.
    Check,
    /// The suite's `run`: an invocation of the benches.
    Run,
    /// Reading what the benches wrote.
    Read,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fetch => "fetch",
            Self::Setup => "setup",
            Self::Check => "check",
            Self::Run => "run",
            Self::Read => "read",
        })
    }
}

/// How a stage's process came to fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// It ended with a code other than 0.
    ExitCode(i32),
    /// A signal ended it.
    Signal(i32),
    /// It took longer than it may; its whole tree was ended.
    TimedOut(Duration),
    /// It wrote more than it may.
    OutputTooLarge {
        /// The most that it may write, in bytes.
        limit_bytes: u64,
    },
    /// It could not be started.
    NotStarted(String),
    /// What it wrote could not be read.
    Unreadable(String),
    /// The artifact could not be unpacked, though it was whole.
    BadArtifact(String),
    /// It cannot take turns with the other side, or does not keep to the slice protocol.
    NotSliced(String),
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A shell tells so that a signal ended what it ran.
            Self::ExitCode(code @ 129..=192) => {
                write!(f, "ended with exit code {code} (128 + signal {})", code - 128)
            }
            Self::ExitCode(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::TimedOut(limit) => {
                write!(f, "took longer than {}", humantime::format_duration(*limit))
            }
            Self::OutputTooLarge { limit_bytes } => {
                write!(f, "wrote more than {} MiB", limit_bytes >> 20)
            }
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
            Self::Unreadable(why) => write!(f, "wrote a result that cannot be read: {why}"),
            Self::BadArtifact(why) => write!(f, "has files that cannot be had: {why}"),
            Self::NotSliced(why) => write!(f, "cannot be measured in slices: {why}"),
        }
    }
}

/// A candidate's own failure: final, never retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where it failed.
    pub stage: Stage,
    /// Which variant, unless both share the artifact.
    pub arm: Arm,
    /// The variant's label.
    pub variant: String,
    /// How.
    pub cause: FailureCause,
    /// The last lines of what the process wrote.
    pub log_tail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the {} ({}) {}", self.stage, self.arm, self.variant, self.cause)
    }
}

/// Why an attempt ended through no fault of the candidate: it earns another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// The agent fell silent and its lease ended.
    AgentSilent,
    /// The agent started anew and no longer knows the attempt.
    AgentRestarted,
    /// The agent declined the grant.
    Refused(RefusalCause),
    /// Something on the box failed that is not the candidate's.
    Box(String),
    /// The agent is being drained and could not wait.
    Drained,
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentSilent => f.write_str("the agent fell silent and its lease ended"),
            Self::AgentRestarted => f.write_str("the agent started anew in the middle of it"),
            Self::Refused(cause) => write!(f, "the agent declined: {cause}"),
            Self::Box(why) => write!(f, "the box failed: {why}"),
            Self::Drained => f.write_str("the agent was drained"),
        }
    }
}

/// Why an agent declines a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCause {
    /// The cores are in use.
    Busy,
    /// The box's own policy forbids it.
    Policy(String),
    /// The box cannot do it.
    Unsupported(String),
    /// The sensor is not ok.
    Unhealthy(String),
    /// The grant's epoch is older than one that the agent has seen.
    StaleEpoch,
}

impl fmt::Display for RefusalCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("its cores are in use"),
            Self::Policy(why) => write!(f, "its policy forbids it: {why}"),
            Self::Unsupported(why) => write!(f, "it cannot do that: {why}"),
            Self::Unhealthy(why) => write!(f, "its sensor is not ok: {why}"),
            Self::StaleEpoch => f.write_str("the grant is older than one that it has seen"),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// All rounds that were wanted are in.
    Completed,
    /// The candidate failed.
    Failed(Failure),
    /// Lost for an infrastructure cause.
    Lost(LossCause),
    /// Cancelled while it ran.
    Cancelled,
}

/// How far a live attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The ledger has it; the agent has not answered yet.
    Granted,
    /// The agent has written it down.
    Accepted,
    /// Fetching, setting up, checking.
    Staging,
    /// Staged, waiting for cores.
    Ready,
    /// In this round, counted from 0.
    Running {
        /// The round in progress.
        round: u32,
    },
    /// The rounds are done; the last results are on their way.
    Reporting,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => f.write_str("granted"),
            Self::Accepted => f.write_str("accepted"),
            Self::Staging => f.write_str("staging"),
            Self::Ready => f.write_str("ready"),
            Self::Running { round } => write!(f, "round {}", round + 1),
            Self::Reporting => f.write_str("reporting"),
        }
    }
}

/// One try at a job, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// 1 for the first.
    pub number: u32,
    /// The fence under which it was granted.
    pub epoch: Epoch,
    /// Who has it.
    pub agent: AgentId,
    /// How it ended; none while it lives.
    pub outcome: Option<AttemptOutcome>,
    /// How its pairs were run, once it ended; none if it had none.
    #[serde(default)]
    pub pairing: Option<Pairing>,
    /// What its agent's numbers were good for when it was granted; none if it was granted before that was written down.
    #[serde(default)]
    pub tier: Option<Tier>,
    /// The ids of the images that its benches ran in, once it ended; empty for processes.
    #[serde(default)]
    pub images: BTreeMap<Arm, String>,
    /// Its void rounds, once it ended.
    #[serde(default)]
    pub voids: VoidRounds,
    /// What the processes of each side used, once it ended; empty if none was measured.
    #[serde(default)]
    pub used: Vec<Used>,
    /// What probes saw of its box, once it ended.
    #[serde(default)]
    pub probes: BoxWatch,
    /// The isolation that took effect, what was read back of its benches and done for them, once it ended.
    #[serde(default)]
    pub placement: String,
}

/// One measured series of a variant, summed up over its invocations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredSeries {
    /// The bench and metric.
    pub series: SeriesKey,
    /// The unit of `center`, `least` and `most`.
    pub unit: Unit,
    /// The median of the invocations' values.
    pub center: f64,
    /// The smallest of them.
    pub least: f64,
    /// The largest of them.
    pub most: f64,
    /// How many invocations.
    pub invocations: u32,
    /// Samples in all of them together.
    pub samples: u64,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The gate has spoken.
    Judged(Box<Verdict>),
    /// One variant was measured.
    Measured(Vec<MeasuredSeries>),
    /// The candidate failed: nothing was judged.
    Failed(Failure),
    /// Somebody ended it.
    Cancelled {
        /// Who.
        by: String,
    },
    /// It waited longer than it may.
    Expired,
    /// Infrastructure failed too often, or no agent allows it; a person must look.
    Parked {
        /// Why.
        why: String,
    },
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for an agent.
    Queued,
    /// An attempt is under way: the last of the job's attempts.
    Active,
    /// Over.
    Finished(Outcome),
}

impl JobState {
    /// Every name that [`JobState::name`] gives.
    pub const NAMES: [&'static str; 10] = [
        "queued",
        "active",
        "approve",
        "reject",
        "inconclusive",
        "measured",
        "failed",
        "cancelled",
        "expired",
        "parked",
    ];

    /// The state's name, for lists and filters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Active => "active",
            Self::Finished(outcome) => match outcome {
                Outcome::Judged(verdict) => match verdict.decision {
                    darwin_gate::Decision::Approve => "approve",
                    darwin_gate::Decision::Reject => "reject",
                    darwin_gate::Decision::Inconclusive => "inconclusive",
                },
                Outcome::Measured(_) => "measured",
                Outcome::Failed(_) => "failed",
                Outcome::Cancelled { .. } => "cancelled",
                Outcome::Expired => "expired",
                Outcome::Parked { .. } => "parked",
            },
        }
    }

    /// Whether nothing will happen to the job any more.
    pub const fn is_finished(&self) -> bool {
        matches!(self, Self::Finished(_))
    }
}

/// Where an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Takes work.
    Ready,
    /// All its cores are in use.
    Busy,
    /// Finishes what it has and takes nothing new.
    Draining,
    /// Drained: has nothing and takes nothing.
    Drained,
    /// Its sensor is down.
    Unhealthy,
    /// Its link is lost.
    Away,
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Unhealthy => "unhealthy",
            Self::Away => "away",
        })
    }
}
