//! What agent and loop say to each other: a plan in the loop's command line, readings in its result file.

use std::path::PathBuf;

use darwin_shared::probe::{GapSummary, KernelTimes};
use serde::{Deserialize, Serialize};

/// What the loop is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoopPlan {
    /// On these CPUs, all at once.
    pub(super) cpus: Vec<u32>,
    /// Watch for so long.
    pub(super) watch_ns: u64,
    /// From this length on it is a gap.
    pub(super) threshold_ns: u64,
    /// Time kernels for about so long, after that.
    pub(super) capacity_ns: u64,
    /// Whether others may need the core: a `SCHED_FIFO` loop then leaves it to them now and then.
    pub(super) shares_core: bool,
    /// Where the readings go.
    pub(super) output: PathBuf,
}

/// What the loop read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LoopReadings {
    /// Whether it read the time stamp counter; else the kernel's clock.
    pub(super) tsc: bool,
    /// CPU by CPU, in the plan's order.
    pub(super) cpus: Vec<CpuReading>,
}

/// What the loop read on one CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CpuReading {
    pub(super) cpu: u32,
    /// Whether it was under `SCHED_FIFO`.
    pub(super) fifo: bool,
    pub(super) gaps: GapSummary,
    /// Of the issue-width-bound kernel and of the latency-bound one.
    pub(super) kernels: Option<(KernelTimes, KernelTimes)>,
}
