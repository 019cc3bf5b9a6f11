//! What the core is told.

use std::time::Duration;

use darwin_shared::attempt::{AttemptEnd, AttemptUpdate};
use darwin_shared::fleet::{AgentFacts, SensorReport};
use darwin_shared::ids::{AgentId, AttemptId, Epoch, JobId};
use darwin_shared::round::RoundResult;
use darwin_shared::spec::JobSpec;

/// The time, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// On the coordinator's monotonic clock, from an origin that stays while it runs. All decisions use this.
    pub mono: Duration,
    /// Milliseconds since 1970: for people only, nothing is decided by it.
    pub unix_ms: u64,
}

/// Names whoever waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(pub u64);

/// Names one connection of an agent; a new connection has a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A job to take. The spec was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// The id that the job gets, drawn outside.
    pub job: JobId,
    /// Chosen by the client: a repeated call makes no second job. Empty: no such protection is wanted.
    pub request_id: String,
    /// What is to be run.
    pub spec: JobSpec,
    /// Who submits.
    pub submitter: String,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client submits a job.
    Submit {
        /// Who waits for the answer.
        caller: Caller,
        /// The job.
        submission: Box<Submission>,
    },
    /// Somebody wants a job ended.
    Cancel {
        /// Who waits for the answer.
        caller: Caller,
        /// The job.
        job: JobId,
        /// Who, for the record.
        by: String,
    },
    /// An operator drains an agent or lets it take work again.
    SetDrained {
        /// Who waits for the answer.
        caller: Caller,
        /// The agent.
        agent: AgentId,
        /// Whether it is to be drained.
        drained: bool,
    },
    /// An agent connected and said what it has.
    LinkUp {
        /// The connection.
        link: LinkId,
        /// What it said.
        hello: Box<Hello>,
    },
    /// A connection is gone.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// An agent said something.
    FromAgent {
        /// On which connection.
        link: LinkId,
        /// What.
        message: FromAgent,
    },
    /// The time that [`crate::Core::next_timer`] named has come.
    Timer,
}

/// An agent's first words on a connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// Who it is.
    pub agent: AgentId,
    /// What it says of itself.
    pub facts: AgentFacts,
    /// Its sensor's report.
    pub sensor: SensorReport,
    /// Every attempt in its spool.
    pub attempts: Vec<HeldAttempt>,
    /// What it could take on.
    pub offer: Offer,
}

/// An attempt in an agent's spool.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// Its fence.
    pub epoch: Epoch,
    /// Rounds in the spool.
    pub rounds: u32,
    /// Whether its processes still run.
    pub live: bool,
    /// How it ended, if it has.
    pub end: Option<AttemptEnd>,
}

/// What an agent could take on: the whole of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offer {
    /// Attempts beyond those that it holds.
    pub credits: u32,
    /// Free whole cores.
    pub free_cores: u32,
}

impl Offer {
    /// What one attempt on so many cores takes of an offer.
    pub(crate) fn taken_by(spec: &JobSpec) -> Self {
        Self { credits: 1, free_cores: spec.cores.count }
    }

    /// What is left without `taken`.
    pub(crate) fn less(self, taken: Self) -> Self {
        Self {
            credits: self.credits.saturating_sub(taken.credits),
            free_cores: self.free_cores.saturating_sub(taken.free_cores),
        }
    }

    /// Both together.
    pub(crate) fn and(self, more: Self) -> Self {
        Self {
            credits: self.credits.saturating_add(more.credits),
            free_cores: self.free_cores.saturating_add(more.free_cores),
        }
    }
}

/// What an agent says after its hello.
#[derive(Debug, Clone, PartialEq)]
pub enum FromAgent {
    /// What it could take on.
    Offer(Offer),
    /// These attempts are alive, with the invocations started so far as proof of progress.
    Renew(Vec<(AttemptId, Epoch, u64)>),
    /// How an attempt is doing.
    Update(AttemptUpdate),
    /// What a round measured.
    Round(Box<RoundResult>),
    /// The sensor was read anew.
    Sensor(SensorReport),
}
