//! What the agent itself uses while a bench runs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::report::{Aim, Line};
use crate::World;
use crate::proc_fs::{cpu_time, with_command};

/// How long the watched bench runs: two lease renewals fall into it.
const BENCH: Duration = Duration::from_secs(15);
/// Left out at both ends, where the agent starts and reads.
const EDGE: Duration = Duration::from_secs(2);

/// The agent's share of a core while a bench runs.
pub fn agent_cpu_in_a_round() -> Result<Vec<Line>> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let agent = world.agent("bench", &[])?;
    let spin =
        format!("end=$(( $(date +%s) + {} )); while [ $(date +%s) -lt $end ]; do :; done", BENCH.as_secs());
    let child = world.spawn_in(world.folder(), &["measure", "--quiet", "--shell", &spin])?;
    world.wait_until("the bench runs", || Ok(!with_command("while [ $(date +%s)").is_empty()))?;
    std::thread::sleep(EDGE);
    let launchers = launchers(agent.pid());
    let used = || -> Result<Duration> {
        let mut total = cpu_time(agent.pid())?;
        for pid in &launchers {
            total += cpu_time(*pid)?;
        }
        Ok(total)
    };
    let (begin, before) = (Instant::now(), used()?);
    std::thread::sleep(BENCH.saturating_sub(2 * EDGE));
    let share = used()?.saturating_sub(before).as_secs_f64() / begin.elapsed().as_secs_f64();
    let done = crate::finish(child)?;
    ensure!(done.code == 0, "the bench failed: {}{}", done.stdout, done.stderr);
    Ok(vec![Line::new(
        "agent's CPU with its launchers during a round",
        share * 100.0,
        "% of a core",
        Aim::AtMost(0.5),
    )])
}

/// The agent's own helper processes, not the benches under them.
pub(super) fn launchers(agent: u32) -> Vec<u32> {
    crate::proc_fs::all()
        .into_iter()
        .filter(|seen| u32::try_from(seen.parent).is_ok_and(|parent| parent == agent))
        .filter_map(|seen| u32::try_from(seen.pid).ok())
        .collect()
}
