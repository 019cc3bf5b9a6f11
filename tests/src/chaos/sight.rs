//! One look at the box: which processes belong to the agent under test, for which attempt, on which cores.
//!
//! Launchers are known by the agent's scratch folder, which they hold open; benches by the folder in their environment;
//! what runs in containers by a mark in its command line.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use darwin_shared::cpu::CpuSet;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Where the bytes of those who wait for cores begin in the file of core locks.
const WAITING: i64 = 1 << 20;
/// A process that was not ours for so long has been what it is to be: what it is changes by `exec` right after its start.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// What launchers call themselves.
const LAUNCHER: &str = "darwin-launcher";
/// What guards of containers call themselves.
const GUARD: &str = "darwin-guard";
/// What the loop of a probe has as its first argument.
const PROBE: &str = "__probe-loop";

/// What belongs to the agent under test.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    /// Its scratch folder.
    pub(crate) scratch: PathBuf,
    /// The file in which it locks its cores.
    pub(crate) locks: PathBuf,
    /// What stands in the command line of everything in its containers.
    pub(crate) mark: String,
}

/// What a process is to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    Launcher,
    /// It waits for the agent's death, to end its containers; until then the cores stay locked.
    Guard,
    /// A probe of the attempt's cores; for which attempt it does not say.
    Probe,
    /// It sets up, checks or measures for this attempt.
    Bench(String),
}

impl Role {
    /// Whether such a process may run on leased cores; the others belong to the agent.
    pub(crate) const fn is_on_cores(&self) -> bool {
        match self {
            Self::Launcher | Self::Guard => false,
            Self::Probe | Self::Bench(_) => true,
        }
    }
}

/// A process of the agent.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// In the kernel's ticks since the box started.
    pub(crate) start: u64,
    pub(crate) role: Role,
    pub(crate) cpus: CpuSet,
    /// The id of its container.
    pub(crate) container: Option<String>,
    pub(crate) command: String,
}

impl Seen {
    /// Whether it still is there, and no zombie.
    pub(crate) fn lives(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.start == self.start)
    }

    /// Whether it runs on some of these CPUs, and on no others.
    pub(crate) fn is_on(&self, cpus: &CpuSet) -> bool {
        self.role.is_on_cores() && !self.cpus.is_empty() && self.cpus.is_subset(cpus)
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pid, start, role, cpus, command, .. } = self;
        write!(f, "process {pid} ({role:?}, since tick {start}, on CPUs {cpus}): {command}")
    }
}

/// The fields of `/proc/PID/stat` that count here; none of a zombie.
pub(crate) struct Stat {
    pub(crate) parent: i32,
    pub(crate) start: u64,
    comm: String,
}

impl Stat {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, rest) = text.rsplit_once(')')?;
        let (_, comm) = head.split_once('(')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        let parent = fields.next()?.parse().ok()?;
        Some(Self { parent, start: fields.nth(17)?.parse().ok()?, comm: comm.to_owned() })
    }
}

enum Known {
    Foreign { start: u64, first: Instant },
    Ours(Seen),
}

/// Looks again and again, and remembers what it has seen.
pub(crate) struct Scanner {
    ours: Ours,
    known: HashMap<i32, Known>,
}

impl Scanner {
    pub(crate) fn new(ours: Ours) -> Self {
        Self { ours, known: HashMap::new() }
    }

    /// All processes of the agent that are there now, but the agent itself.
    pub(crate) fn scan(&mut self) -> Result<Vec<Seen>> {
        let mut all = Vec::new();
        let mut there = BTreeSet::new();
        for entry in std::fs::read_dir("/proc").context("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Some(stat) = Stat::of(pid) else { continue };
            there.insert(pid);
            let first = match self.known.get(&pid) {
                Some(Known::Ours(seen)) if seen.start == stat.start => {
                    all.push(Seen { parent: stat.parent, ..seen.clone() });
                    continue;
                }
                Some(Known::Foreign { start, first }) if *start == stat.start => {
                    if first.elapsed() > SETTLED_AFTER {
                        continue;
                    }
                    *first
                }
                Some(_) | None => Instant::now(),
            };
            let known = match identify(&self.ours, pid, &stat) {
                Some(seen) => {
                    all.push(seen.clone());
                    Known::Ours(seen)
                }
                None => Known::Foreign { start: stat.start, first },
            };
            self.known.insert(pid, known);
        }
        self.known.retain(|pid, _| there.contains(pid));
        Ok(all)
    }
}

fn identify(ours: &Ours, pid: i32, stat: &Stat) -> Option<Seen> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let command = std::fs::read(dir.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let scratch = ours.scratch.to_str()?;
    let role = if stat.comm == LAUNCHER {
        holds(&dir, &ours.scratch).then_some(Role::Launcher)?
    } else if stat.comm == GUARD {
        holds(&dir, &ours.locks).then_some(Role::Guard)?
    } else if command.contains(PROBE) {
        command.contains(scratch).then_some(Role::Probe)?
    } else {
        let environ = std::fs::read(dir.join("environ")).ok()?;
        let environ = String::from_utf8_lossy(&environ);
        let attempt = environ.split('\0').find_map(|pair| pair.strip_prefix("DARWIN_ATTEMPT="))?;
        (environ.contains(scratch) || command.contains(&ours.mark))
            .then(|| Role::Bench(attempt.to_owned()))?
    };
    let status = std::fs::read_to_string(dir.join("status")).ok()?;
    let cpus =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().parse().ok()?;
    let container = container_of(&dir);
    Some(Seen { pid, parent: stat.parent, start: stat.start, role, cpus, container, command })
}

/// The container that a process is in, by its cgroup.
fn container_of(dir: &Path) -> Option<String> {
    let cgroups = std::fs::read_to_string(dir.join("cgroup")).ok()?;
    let last = cgroups.lines().filter_map(|line| line.rsplit_once('/')).map(|(_, name)| name);
    let ids = last.map(|name| name.trim_start_matches("docker-").trim_end_matches(".scope"));
    ids.into_iter()
        .find(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::to_owned)
}

/// Whether the process with this folder has a file open.
fn holds(dir: &Path, file: &Path) -> bool {
    let mut open = std::fs::read_dir(dir.join("fd")).into_iter().flatten().flatten();
    open.any(|opened| std::fs::read_link(opened.path()).is_ok_and(|to| to == file))
}

/// The processes that have a file open, for people.
pub(crate) fn holders(file: &Path) -> String {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let named = processes.filter(|dir| holds(dir, file)).map(|dir| {
        let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        format!("{} {}", dir.display(), String::from_utf8_lossy(&command).replace('\0', " "))
    });
    named.collect::<Vec<_>>().join("; ")
}

/// Whether the file of core locks tells of a life whose containers may run on a core: also if that life, and who would have
/// ended them, is dead.
pub(crate) fn is_marked(file: &Path) -> bool {
    std::fs::read(file).unwrap_or_default().iter().any(|byte| *byte != 0)
}

/// Whether anybody has cores locked in this file, as the kernel says in one answer.
pub(crate) fn is_locked(file: &Path) -> Result<bool> {
    let Ok(file) = File::options().read(true).write(true).open(file) else { return Ok(false) };
    let mut lock = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK)?,
        l_whence: i16::try_from(libc::SEEK_SET)?,
        l_start: 0,
        l_len: WAITING,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).context("the file of core locks")?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}
