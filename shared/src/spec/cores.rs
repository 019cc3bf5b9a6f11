//! Which cores a bench gets, and how it is kept apart there.

use serde::{Deserialize, Serialize};

/// How badly a job needs cores that nothing else uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Without isolation that took effect nothing is measured.
    Required,
    /// The best that the box has.
    #[default]
    Preferred,
    /// Affinity alone.
    None,
}

/// What no other job may share while this one measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exclusive {
    /// Its cores with their SMT siblings.
    #[default]
    Core,
    /// The last-level cache.
    Llc,
    /// The NUMA node.
    Node,
    /// The whole box.
    Host,
}

/// The scheduling class of a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// The ordinary one.
    #[default]
    Other,
    /// `SCHED_FIFO`.
    Fifo,
}

/// Where the kernel puts a process's stack, heap and libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Elsewhere in every process, so that the luck of one place averages out over rounds.
    #[default]
    Randomized,
    /// At the same addresses in every process, so that one run is like the next.
    Fixed,
}

impl Layout {
    /// All of them, in order.
    pub const ALL: [Self; 2] = [Self::Randomized, Self::Fixed];

    /// The word for it in `darwin.toml` and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Randomized => "randomized",
            Self::Fixed => "fixed",
        }
    }
}

/// The cores that a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreRequest {
    /// Whole physical cores.
    pub count: u32,
    /// How badly they must be isolated.
    pub isolation: Isolation,
    /// What must not be shared.
    pub exclusive: Exclusive,
    /// The scheduling class.
    pub scheduler: Scheduler,
}

impl Default for CoreRequest {
    fn default() -> Self {
        Self {
            count: 1,
            isolation: Isolation::default(),
            exclusive: Exclusive::default(),
            scheduler: Scheduler::default(),
        }
    }
}
