//! When a bench may be `SCHED_FIFO`.
//!
//! A real-time task that never blocks is taken off its CPU for a twentieth of every second unless the kernel is told
//! otherwise: a hole of 50 ms. On an isolated core kernels without real-time groups leave it alone, and what is over
//! within the budget of one period never meets the hole.

use std::time::Duration;

use thiserror::Error;

/// Below this a run fits into what the kernel gives real-time tasks of each second (0.95 s unless changed), with room
/// for what else has used of it.
pub(super) const SHORT_RUN: Duration = Duration::from_millis(900);

/// What decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FifoFacts {
    /// Whether nothing else is scheduled on the cores.
    pub isolated: bool,
    /// The longest that a run may take.
    pub run_max: Duration,
    /// `sched_rt_runtime_us`: what real-time tasks get of a period; below zero for no bound, none if not known.
    pub runtime_us: Option<i64>,
    /// What the agent's cgroup has of it, where groups have a budget (v1's `cpu.rt_runtime_us`).
    pub group_budget_us: Option<i64>,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FifoRefusal {
    /// The group has nothing.
    #[error(
        "the agent's cgroup has no real-time budget: write one to its `cpu.rt_runtime_us`, or start the agent outside of \
         a cpu cgroup"
    )]
    NoBudget,
    /// It would meet the hole.
    #[error(
        "the kernel stops real-time tasks for a part of every second (`sched_rt_runtime_us`), and the cores are not \
         isolated: isolate them, give `run` a `timeout` below 900ms, or switch the bound off (-1)"
    )]
    Hole,
}

/// Whether a bench may be `SCHED_FIFO`, or why not.
pub fn may_use_fifo(facts: FifoFacts) -> Result<(), FifoRefusal> {
    let FifoFacts { isolated, run_max, runtime_us, group_budget_us } = facts;
    if group_budget_us == Some(0) {
        return Err(FifoRefusal::NoBudget);
    }
    if isolated || run_max < SHORT_RUN || runtime_us.is_some_and(|runtime| runtime < 0) {
        return Ok(());
    }
    Err(FifoRefusal::Hole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_it_makes_no_holes() {
        let long = FifoFacts {
            isolated: false,
            run_max: Duration::from_mins(1),
            runtime_us: Some(950_000),
            group_budget_us: Some(950_000),
        };
        assert_eq!(may_use_fifo(long), Err(FifoRefusal::Hole));
        assert_eq!(may_use_fifo(FifoFacts { runtime_us: None, ..long }), Err(FifoRefusal::Hole));
        for fine in [
            FifoFacts { isolated: true, ..long },
            FifoFacts { run_max: Duration::from_millis(899), ..long },
            FifoFacts { runtime_us: Some(-1), group_budget_us: None, ..long },
        ] {
            assert_eq!(may_use_fifo(fine), Ok(()));
            let nothing = FifoFacts { group_budget_us: Some(0), ..fine };
            assert_eq!(may_use_fifo(nothing), Err(FifoRefusal::NoBudget));
        }
    }
}
