//! When a bench may be `SCHED_FIFO`.
//!
//! A real-time task that never blocks is taken off its CPU for a twentieth of every second unless the kernel is told
//! otherwise: a hole of 50 ms. On an isolated core kernels without real-time groups leave it alone, and what is over
//! within the budget of one period never meets the hole, if it is followed by a rest: short runs one after the other are as
//! good as a long one.

use std::time::Duration;

use thiserror::Error;

/// Below this a run fits into what the kernel gives real-time tasks of each second (0.95 s unless changed), with room
/// for what else has used of it.
pub(super) const SHORT_RUN: Duration = Duration::from_millis(900);

/// What runs that must not meet the hole leave of their core to others, as a part of how long they take. Of runs below
/// [`SHORT_RUN`] that is a tenth of any second, twice what the kernel takes.
const RUNS_PER_REST: u32 = 9;

/// How a bench may be `SCHED_FIFO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FifoUse {
    /// As it likes.
    Freely,
    /// With a rest after each run, [`rest_after`].
    WithRests,
}

/// How long the core is left to others after a run that was so long.
pub fn rest_after(run: Duration) -> Duration {
    run / RUNS_PER_REST
}

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

/// How a bench may be `SCHED_FIFO`, or why not at all.
pub fn may_use_fifo(facts: FifoFacts) -> Result<FifoUse, FifoRefusal> {
    let FifoFacts { isolated, run_max, runtime_us, group_budget_us } = facts;
    if group_budget_us == Some(0) {
        return Err(FifoRefusal::NoBudget);
    }
    if isolated || runtime_us.is_some_and(|runtime| runtime < 0) {
        return Ok(FifoUse::Freely);
    }
    if run_max < SHORT_RUN { Ok(FifoUse::WithRests) } else { Err(FifoRefusal::Hole) }
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
        for (fine, how) in [
            (FifoFacts { isolated: true, ..long }, FifoUse::Freely),
            (FifoFacts { run_max: Duration::from_millis(899), ..long }, FifoUse::WithRests),
            (FifoFacts { runtime_us: Some(-1), group_budget_us: None, ..long }, FifoUse::Freely),
        ] {
            assert_eq!(may_use_fifo(fine), Ok(how));
            let nothing = FifoFacts { group_budget_us: Some(0), ..fine };
            assert_eq!(may_use_fifo(nothing), Err(FifoRefusal::NoBudget));
        }
    }

    #[test]
    fn whatever_runs_follow_one_another_others_have_a_tenth_of_any_second() {
        let second = Duration::from_secs(1);
        for run_ms in [1, 13, 100, 450, 800, 899] {
            let run = Duration::from_millis(run_ms);
            let turn = run + rest_after(run);
            // The worst second begins with a run: whole turns, then what is left of it, a run as far as it goes.
            let turns = second.as_nanos() / turn.as_nanos();
            let left = second.saturating_sub(turn * u32::try_from(turns).unwrap());
            let busy = run * u32::try_from(turns).unwrap() + left.min(run);
            assert!(busy <= second.mul_f64(0.92), "{run_ms} ms: {busy:?}");
        }
    }
}
