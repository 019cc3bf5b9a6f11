//! One attempt on this agent.
//!
//! ```text
//! Waiting -> Staging -> Ready <-> Taking -> Running <-> Looking
//!    |          |         |         |         |          |
//!    |          +---------|--> Stopping <-----+          |      processes are being ended
//!    +----------------+---+---------+---------+----------+-> Ended -> (released: gone)
//! ```

use std::time::Duration;

use darwin_shared::attempt::AttemptEnd;
use darwin_shared::ids::Epoch;

use super::words::Plan;
use crate::disturbance::Disturbances;

/// An attempt that has cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its slot: the number of the launcher, and the key of its cores at the allocator.
    pub slot: u32,
    /// When its first round began.
    pub since: Duration,
}

/// Where an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// For its turn to be staged.
    Waiting { plan: Plan },
    /// Fetching, setting up, checking.
    Staging { plan: Plan },
    /// Waits for cores.
    Ready { plan: Plan },
    /// Cores are set aside for it; whether nobody else on the box has them is being found out.
    Taking { plan: Plan, place: Place },
    /// A round is being measured.
    Running { plan: Plan, place: Place, stop: bool },
    /// Between two rounds: the gate looks.
    Looking { plan: Plan, place: Place, until: Duration },
    /// Its processes are being ended.
    Stopping { place: Option<Place>, then: Then },
    /// Over; the spool keeps it until the coordinator has it.
    Ended { end: AttemptEnd },
}

/// What follows once the processes of an attempt are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    /// Its end is reported.
    Report(AttemptEnd),
    /// Nobody wants to hear of it.
    Forget,
}

/// An attempt that this agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub epoch: Epoch,
    /// Rounds in the spool.
    pub rounds: u32,
    pub phase: Phase,
    /// Its void rounds.
    pub disturbances: Disturbances,
}

impl Phase {
    /// The cores that it holds.
    pub(super) const fn place(&self) -> Option<Place> {
        match self {
            Self::Taking { place, .. } | Self::Running { place, .. } | Self::Looking { place, .. } => {
                Some(*place)
            }
            Self::Stopping { place, .. } => *place,
            Self::Waiting { .. } | Self::Staging { .. } | Self::Ready { .. } | Self::Ended { .. } => None,
        }
    }

    /// Whether processes of it may run.
    pub(super) const fn has_processes(&self) -> bool {
        match self {
            Self::Staging { .. } | Self::Running { .. } | Self::Stopping { .. } => true,
            Self::Waiting { .. }
            | Self::Ready { .. }
            | Self::Taking { .. }
            | Self::Looking { .. }
            | Self::Ended { .. } => false,
        }
    }

    /// Whether it is not over.
    pub(super) const fn is_live(&self) -> bool {
        match self {
            Self::Waiting { .. }
            | Self::Staging { .. }
            | Self::Ready { .. }
            | Self::Taking { .. }
            | Self::Running { .. }
            | Self::Looking { .. }
            | Self::Stopping { .. } => true,
            Self::Ended { .. } => false,
        }
    }
}

/// What follows a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// All that was wanted is measured.
    Complete,
    /// The gate looks first.
    Look,
    /// Another round.
    Measure,
}

/// What follows when `rounds` are measured, `ran_for` after the first began.
pub(super) fn after_round(plan: &Plan, rounds: u32, ran_for: Duration, stop: bool, linked: bool) -> Next {
    if stop || rounds >= plan.rounds_max || ran_for >= plan.time {
        Next::Complete
    } else if linked && plan.looks.contains(&rounds) {
        Next::Look
    } else {
        Next::Measure
    }
}
