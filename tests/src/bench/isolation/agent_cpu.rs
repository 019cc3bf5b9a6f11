//! What the agent uses during a round, and where: on its housekeeping cores, and nowhere else.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use darwin_shared::cpu::CpuSet;

use super::super::report::{Aim, Line};
use super::super::round::launchers;
use super::fleet::{Fleet, Way, is_refused};
use super::program::Program;
use crate::World;
use crate::proc_fs::{Thread, threads, with_command};

/// How much longer than it is watched the round takes, on a core of its own.
const MORE: Duration = Duration::from_secs(8);
/// What is left out before, where the agent starts and reads.
const EDGE: Duration = Duration::from_secs(2);
/// Between two looks at where the agent's threads are.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const SUITE: &str = "round";

/// A suite of `darwin.toml` with one long round.
pub(super) fn suite(program: &Program, way: Way, folder: &Path, watched: Duration) -> String {
    let run = program.argv(&folder.join("round.times"), Program::works_in(watched + MORE));
    way.to_toml(SUITE, &run, "process", "5m")
}

/// The CPU time of the agent and its launchers while a bench computes, in all and on the core that is leased out.
pub(super) fn measure(
    world: &World,
    fleet: &Fleet<'_>,
    program: &Program,
    way: Way,
    watched: Duration,
) -> Result<Vec<Line>> {
    let suite = way.suite(SUITE);
    let child = world.spawn_in(&fleet.folder, &Fleet::arguments(&suite, "1"))?;
    let bench = program.command_line(&world.folder().join("round.times"));
    let seen = watch(world, fleet.agent(way).pid(), &bench, watched);
    let done = crate::finish(child)?;
    if is_refused(&suite, &done)? {
        return Ok(Vec::new());
    }
    let report = done.json()?;
    let leased: CpuSet = report["cpus"].as_str().context("a report without its cores")?.parse()?;
    let (watched, seen) = seen?;
    Ok(lines(&used(&seen, &leased), watched))
}

/// Looks at the threads of the agent and its launchers while the bench runs.
fn watch(world: &World, agent: u32, bench: &str, time: Duration) -> Result<(Duration, Vec<Vec<Thread>>)> {
    world.wait_until("the bench runs", || Ok(!with_command(bench).is_empty()))?;
    std::thread::sleep(EDGE);
    let mut pids = launchers(agent);
    pids.push(agent);
    let begin = Instant::now();
    let mut seen = vec![threads(&pids)?];
    while begin.elapsed() < time {
        std::thread::sleep(LOOK_EVERY);
        seen.push(threads(&pids)?);
    }
    let watched = begin.elapsed();
    ensure!(!with_command(bench).is_empty(), "the bench ended while its agent was watched");
    Ok((watched, seen))
}

/// What the agent's threads used.
#[derive(Debug, PartialEq, Eq)]
struct Used {
    /// CPU time of all.
    all: Duration,
    /// CPU time of those that may run on a leased core, or were seen there.
    on_leased: Duration,
    /// How many these are.
    threads_on_leased: usize,
}

/// `seen` is every look, in order. A thread that was not there before is counted from nothing.
fn used(seen: &[Vec<Thread>], leased: &CpuSet) -> Used {
    let before: BTreeMap<u32, Duration> =
        seen.first().into_iter().flatten().map(|thread| (thread.id, thread.cpu_time)).collect();
    let mut most: BTreeMap<u32, (Duration, bool)> = BTreeMap::new();
    for thread in seen.iter().flatten() {
        let (cpu_time, there) = most.entry(thread.id).or_default();
        *cpu_time = thread.cpu_time.max(*cpu_time);
        *there |= !thread.cpus_allowed.is_disjoint(leased) || leased.contains(thread.last_cpu);
    }
    let mut used = Used { all: Duration::ZERO, on_leased: Duration::ZERO, threads_on_leased: 0 };
    for (id, (cpu_time, there)) in most {
        let own = cpu_time.saturating_sub(before.get(&id).copied().unwrap_or_default());
        used.all += own;
        if there {
            used.on_leased += own;
            used.threads_on_leased += 1;
        }
    }
    used
}

fn lines(used: &Used, watched: Duration) -> Vec<Line> {
    let share = |time: Duration| 100.0 * time.as_secs_f64() / watched.as_secs_f64();
    let unit = "% of a core";
    vec![
        Line::new("agent's CPU during a round beside busy loops", share(used.all), unit, Aim::AtMost(0.5)),
        Line::new("of that on the leased core", share(used.on_leased), unit, Aim::AtMost(0.0)),
        Line::new(
            "agent's threads that may run on the leased core",
            used.threads_on_leased as f64,
            "threads",
            Aim::AtMost(0.0),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(id: u32, ms: u64, allowed: &str, last_cpu: u32) -> Thread {
        let cpus_allowed = allowed.parse().unwrap();
        Thread { id, cpu_time: Duration::from_millis(ms), cpus_allowed, last_cpu }
    }

    #[test]
    fn a_thread_on_a_leased_core_is_found() {
        let leased: CpuSet = "2-3".parse().unwrap();
        let quiet = [vec![thread(1, 100, "0-1", 0)], vec![thread(1, 103, "0-1", 1)]];
        let none = Used { all: Duration::from_millis(3), on_leased: Duration::ZERO, threads_on_leased: 0 };
        assert_eq!(used(&quiet, &leased), none);
        // One that may run there, and a new one that was seen there though it may not any more.
        let loud = [
            vec![thread(1, 100, "0-3", 0)],
            vec![thread(1, 104, "0-3", 0), thread(2, 5, "0", 3)],
            vec![thread(1, 106, "0-3", 0)],
        ];
        let both = Duration::from_millis(11);
        assert_eq!(used(&loud, &leased), Used { all: both, on_leased: both, threads_on_leased: 2 });
    }
}
