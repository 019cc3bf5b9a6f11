//! What an agent tells of an attempt while it has it.

use serde::{Deserialize, Serialize};

use crate::ids::{AttemptId, Epoch};
use crate::state::{Failure, RefusalCause, Stage};
use crate::void::VoidRounds;

/// How an attempt ended on the agent's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// All rounds that were wanted are measured.
    Completed {
        /// How many are in the spool.
        rounds: u32,
    },
    /// The box did not come to rest: its rounds were void too often.
    Disturbed {
        /// How many are in the spool.
        rounds: u32,
        /// The void measurements of the round that was given up.
        voids: VoidRounds,
    },
    /// The candidate failed.
    Failed(Failure),
    /// The box failed, in words: another attempt may do better.
    Box(String),
    /// Cancelled.
    Cancelled,
}

/// What happened to an attempt on its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEvent {
    /// The agent has written it down.
    Accepted,
    /// The agent declines.
    Refused(RefusalCause),
    /// This stage begins.
    Staging(Stage),
    /// Staged, waiting for cores.
    Ready,
    /// Rounds begin, or one of them was void.
    Running {
        /// CPUs that the benches run on, as a list like `1,3-4`.
        cpus: String,
        /// The isolation that took effect, in a word: `isolated`, `cpuset`, `fifo`, `affinity`, `none`.
        isolation: String,
        /// What was read back of the benches and done for them, in a line; empty from an agent that does not tell.
        placement: String,
        /// The void measurements of the round in progress, so far.
        voids: VoidRounds,
    },
    /// It is over on the agent's side.
    Ended(AttemptEnd),
}

/// An event with the attempt that it is about and the fence under which it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptUpdate {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its fence.
    pub epoch: Epoch,
    /// What happened.
    pub event: AttemptEvent,
}
