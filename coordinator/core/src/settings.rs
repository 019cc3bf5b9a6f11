//! What an operator may set about scheduling.

use std::time::Duration;

/// The numbers that decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a lease lasts, counted by the agent from when it sent its renewal.
    pub lease: Duration,
    /// How much longer the coordinator waits before it takes a silent agent's attempt for lost. The agent stops
    /// by itself after `lease`, so within `grace` nothing of the attempt runs any more.
    pub grace: Duration,
    /// How often an agent renews.
    pub renew_every: Duration,
    /// The most jobs that may wait. A submission beyond it is refused: the queue lives in memory.
    pub queued_max: usize,
    /// How long a job may wait before it expires.
    pub wait_max: Duration,
    /// Attempts lost to a silent or restarted agent after which a job is parked: it may be what kills them.
    pub agents_lost_max: u32,
    /// Finished jobs kept in memory for lists and for repeated request ids; older ones are in the ledger.
    pub recent_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            grace: Duration::from_secs(5),
            renew_every: Duration::from_secs(4),
            queued_max: 100_000,
            wait_max: Duration::from_hours(7 * 24),
            agents_lost_max: 2,
            recent_max: 2_000,
        }
    }
}
