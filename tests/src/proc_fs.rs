//! What the kernel says of processes: CPU time, memory, where they run, who their parents are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use darwin_shared::cpu::CpuSet;
use procfs::process::Process;

/// CPU time in nanoseconds' precision: the sum over a process' threads of what the scheduler counted.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let ns: u64 = text.split_whitespace().next().unwrap_or("0").parse()?;
        total += Duration::from_nanos(ns);
    }
    Ok(total)
}

/// A thread with where it is and may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its id, which no other thread of the box has.
    pub id: u32,
    /// What it has used, as the scheduler counted.
    pub cpu_time: Duration,
    /// The CPUs that it may run on.
    pub cpus_allowed: CpuSet,
    /// The one that it ran on last.
    pub last_cpu: u32,
}

/// The threads of these processes; those that end while they are looked at are left out.
pub fn threads(pids: &[u32]) -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let folder = task?.path();
            let read = |name: &str| std::fs::read_to_string(folder.join(name));
            let (Ok(schedstat), Ok(status), Ok(stat)) = (read("schedstat"), read("status"), read("stat"))
            else {
                continue;
            };
            let ns = schedstat.split_whitespace().next().unwrap_or("0").parse()?;
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            threads.push(Thread {
                id: folder
                    .file_name()
                    .and_then(|name| name.to_str())
                    .context("a thread without an id")?
                    .parse()?,
                cpu_time: Duration::from_nanos(ns),
                cpus_allowed: allowed.context("a thread without its CPUs")?.trim().parse()?,
                last_cpu: last_cpu(&stat).context("a thread without its last CPU")?,
            });
        }
    }
    Ok(threads)
}

/// Field 39 of `/proc/PID/stat` (proc(5)), counted from the one after the command's closing bracket, which is the third.
fn last_cpu(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(39 - 3)?.parse().ok()
}

/// The resident set of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(Process::new(i32::try_from(pid)?)?.stat()?.rss * procfs::page_size())
}

/// A process with what tests ask of it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its command line, with spaces between the arguments.
    pub command: String,
    /// The CPUs that it may run on, as a list.
    pub cpus_allowed: String,
    /// Its working folder.
    pub folder: PathBuf,
}

/// All processes that can be read now.
pub fn all() -> Vec<Seen> {
    let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
    processes
        .filter_map(|process| {
            let process = process.ok()?;
            let stat = process.stat().ok()?;
            let status = std::fs::read_to_string(format!("/proc/{}/status", stat.pid)).ok()?;
            let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            Some(Seen {
                pid: stat.pid,
                parent: stat.ppid,
                command: process.cmdline().ok()?.join(" "),
                cpus_allowed: cpus.trim().to_owned(),
                folder: process.cwd().ok()?,
            })
        })
        .collect()
}

/// The processes whose command line has this text, but not the caller's own.
pub fn with_command(text: &str) -> Vec<Seen> {
    let own = std::process::id();
    all()
        .into_iter()
        .filter(|seen| seen.command.contains(text) && u32::try_from(seen.pid).is_ok_and(|pid| pid != own))
        .collect()
}

/// The processes that work in this folder or below it: those that an agent with its state there runs.
pub fn working_below(folder: &Path) -> Vec<Seen> {
    all().into_iter().filter(|seen| seen.folder.starts_with(folder)).collect()
}
