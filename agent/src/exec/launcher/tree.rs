//! Kills everything that descends from the launcher.
//!
//! The launcher is a subreaper: every descendant hangs below one of its children, and an orphan becomes its child. So
//! "no children" means that nothing is left, and nothing that daemonizes, changes its session or forks on can hide.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use darwin_shared::usage::Usage;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::cgroup;
use super::super::sys::{self, Death, Reap, Waited};
use crate::host::TaskStat;
use crate::measure::together;

/// The longest that killing a tree is tried; what lives on is stuck in the kernel.
const KILL_BOUND: Duration = Duration::from_secs(10);
/// Between two rounds of killing; only where there is something left to kill.
const KILL_PAUSE: Duration = Duration::from_millis(2);

/// What was left of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Remains {
    /// Processes that ended by our SIGKILL.
    pub(super) killed: u32,
    /// Processes that did not end.
    pub(super) survivors: u32,
    /// Whether the cgroup was killed as a whole, and must be replaced.
    pub(super) cgroup_spent: bool,
    /// What those that ended had used.
    pub(super) usage: Usage,
}

/// Kills until nothing is left. `seen` gets every process that is reaped.
pub(super) fn kill_all(leaf: Option<&Path>, mut seen: impl FnMut(&Reap)) -> io::Result<Remains> {
    let until = Instant::now() + KILL_BOUND;
    let mut remains = Remains::default();
    loop {
        loop {
            match sys::reap_one()? {
                Waited::NoChildren => return Ok(remains),
                Waited::AllLive => break,
                Waited::Ended(reap) => {
                    remains.killed += u32::from(reap.death == Death::Signal(libc::SIGKILL));
                    remains.usage = together(remains.usage, reap.usage.into());
                    seen(&reap);
                }
            }
        }
        let left = descendants()?;
        if Instant::now() > until {
            remains.survivors = u32::try_from(left.len()).unwrap_or(u32::MAX);
            return Ok(remains);
        }
        if let Some(leaf) = leaf {
            // One write for all at once, against trees that grow as fast as they are killed; older kernels lack it.
            remains.cgroup_spent |= cgroup::write(leaf, "cgroup.kill", "1").is_ok();
        }
        for pid in left {
            // It may have ended meanwhile; being our descendant it is not reaped by anyone else.
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(KILL_PAUSE);
    }
}

/// Every process below this one, children first.
fn descendants() -> io::Result<Vec<Pid>> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let parent = TaskStat::parse(&stat).and_then(|stat| stat.field(4)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = Vec::new();
    let mut next = vec![Pid::this().as_raw()];
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        all.extend(below.iter().copied().map(Pid::from_raw));
        next.extend(below);
    }
    Ok(all)
}
