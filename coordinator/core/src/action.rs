//! What the core wants done.

use std::sync::Arc;
use std::time::Duration;

use darwin_shared::fleet::Tier;
use darwin_shared::ids::{AgentId, AttemptId, Epoch, JobId, PoolName};
use darwin_shared::probe::RoundProbe;
use darwin_shared::round::Invocation;
use darwin_shared::spec::JobSpec;
use thiserror::Error;

use crate::event::{Caller, LinkId};
use crate::record::Write;

/// Something to be done, in this order. What follows a write is done once the write is durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Put a record into the ledger.
    Write(Write),
    /// Answer a caller.
    Reply {
        /// Who waits.
        caller: Caller,
        /// What it hears.
        answer: Result<Answer, Refusal>,
    },
    /// Say something to an agent.
    Send {
        /// On which connection.
        link: LinkId,
        /// What.
        message: ToAgent,
    },
    /// Close an agent's connection: a newer one took its place, or it broke the protocol.
    Close {
        /// Which.
        link: LinkId,
        /// Why, for the log and the agent.
        why: String,
    },
    /// Put a round into the archive. May come twice for the same round; it counts once.
    Archive(Box<ArchiveRound>),
    /// A job is not as it was: tell whoever watches it.
    JobChanged(JobId),
    /// A job has finished: tell whoever waits for any.
    JobFinished(JobId),
}

/// A round for the archive, with what a reader of history asks by.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveRound {
    /// The attempt that measured.
    pub attempt: AttemptId,
    /// The round, counted from 0.
    pub round: u32,
    /// The job's spec: project, suite, labels of the variants.
    pub spec: Arc<JobSpec>,
    /// Who measured.
    pub agent: AgentId,
    /// The agent's pool.
    pub pool: PoolName,
    /// What the agent's numbers are good for.
    pub tier: Tier,
    /// When it came in, in milliseconds since 1970.
    pub recorded_unix_ms: u64,
    /// What was measured.
    pub invocations: Vec<Invocation>,
    /// What probes saw of the box.
    pub probes: Vec<RoundProbe>,
}

/// What a caller hears when all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The job is on disk.
    Submitted {
        /// Its id.
        job: JobId,
        /// Whether an earlier call with the same request id made it.
        known: bool,
    },
    /// The job is being ended.
    Cancelling {
        /// Whether it was still waiting, so that it has ended.
        was_queued: bool,
    },
    /// The agent is drained, or takes work again.
    DrainSet,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Too many jobs wait.
    #[error("the queue is full: {0} jobs wait; try again when some are done, or cancel what is not needed")]
    QueueFull(usize),
    /// The same request id with another spec.
    #[error(
        "request id `{0}` was used for another spec; a repeated call must repeat the spec, a new one needs a new id"
    )]
    RequestIdReused(String),
    /// There is no such job.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// The job is over.
    #[error("job {job} has finished already: {state}")]
    Finished {
        /// Which.
        job: JobId,
        /// Its state by name.
        state: &'static str,
    },
    /// There is no such agent.
    #[error("there is no agent `{0}`; `darwin agent list` shows those that there are")]
    NoSuchAgent(AgentId),
}

/// What an agent is told.
#[derive(Debug, Clone, PartialEq)]
pub enum ToAgent {
    /// The link stands.
    Welcome {
        /// How long a lease lasts.
        lease: Duration,
        /// How often to renew.
        renew_every: Duration,
        /// Attempts to end and forget.
        stale: Vec<AttemptId>,
        /// Whether the agent is drained.
        drained: bool,
    },
    /// Take this attempt.
    Assign {
        /// Which.
        attempt: AttemptId,
        /// Its fence.
        epoch: Epoch,
        /// What is to be run.
        spec: Arc<JobSpec>,
    },
    /// Rounds are folded in.
    Ack {
        /// Of which attempt.
        attempt: AttemptId,
        /// Its fence.
        epoch: Epoch,
        /// 0 up to this number are in.
        rounds: u32,
        /// Whether to stop.
        stop: bool,
    },
    /// End this attempt now.
    Cancel {
        /// Which.
        attempt: AttemptId,
        /// Its fence.
        epoch: Epoch,
    },
    /// The attempt's end is durable; its spool may go.
    Release {
        /// Which.
        attempt: AttemptId,
    },
    /// Take nothing new, or take work again.
    SetDrain {
        /// Whether to drain.
        drained: bool,
    },
    /// Send rounds again.
    Replay {
        /// Of which attempt.
        attempt: AttemptId,
        /// From this one on.
        from_round: u32,
    },
}
