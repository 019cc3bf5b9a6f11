//! Reads back from the kernel where a bench really runs.

use darwin_shared::cpu::CpuSet;
use nix::errno::Errno;
use nix::sched::sched_getaffinity;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::host::{HostFs, ReadError, TaskStat};

/// The kernel's number of `SCHED_FIFO` (`man sched`).
const SCHED_FIFO: u32 = 1;
/// What is in the path of every cgroup of ours.
const OURS: &str = "/darwin/";
/// Threads that are looked at: more than any bench has at its start.
const MAX_THREADS: usize = 4096;

/// Where a process and all its threads may run, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The CPUs that any of its threads may run on.
    pub cpus: CpuSet,
    /// Whether it may use fewer CPUs than asked for: its own doing, or a cpuset's.
    pub narrowed: bool,
    /// How many threads were looked at.
    pub threads: u32,
    /// The first thread's priority, if it is `SCHED_FIFO`.
    pub fifo_priority: Option<u8>,
    /// Whether it can never gain privileges.
    pub no_new_privs: bool,
    /// The cpuset that it is in, if that was made for it: one of ours, or a container's.
    pub cpuset: Option<String>,
    /// The cgroup (v2) of ours that it is in.
    pub cgroup: Option<String>,
    /// The memory nodes that any of its threads may use; none where the kernel does not say.
    pub nodes: Option<CpuSet>,
}

/// Why a placement does not hold, or is not known.
#[derive(Debug, Error)]
pub enum PlacementError {
    /// It has ended meanwhile: nothing to be said against it.
    #[error("process {pid} has ended already")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// A thread may run where it must not.
    #[error("thread {thread} of process {pid} may run on CPUs {allowed}; it must stay on {expected}")]
    Astray {
        /// The process.
        pid: u32,
        /// The thread.
        thread: String,
        /// Where it may run.
        allowed: CpuSet,
        /// Where it must stay.
        expected: CpuSet,
    },
    /// The kernel's files say less than they should.
    #[error("/proc/{pid} does not tell {what}, so that the placement cannot be confirmed")]
    Silent {
        /// The process.
        pid: u32,
        /// What is missing.
        what: &'static str,
    },
    /// They cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Checks every thread of a process against the CPUs that it was given.
pub fn verify_placement(host: &HostFs, pid: u32, expected: &CpuSet) -> Result<Placement, PlacementError> {
    let dir = format!("/proc/{pid}");
    let gone = |error| match error {
        ReadError::Absent { .. } => PlacementError::Gone { pid },
        ReadError::Io { .. } if !host.exists(format!("/proc/{pid}/task")) => PlacementError::Gone { pid },
        ReadError::Io { .. } | ReadError::Odd { .. } => PlacementError::Read(error),
    };
    let mut cpus = CpuSet::new();
    let mut nodes: Option<CpuSet> = None;
    let mut no_new_privs = true;
    let mut threads = 0;
    for thread in host.list(format!("{dir}/task")).map_err(gone)?.into_iter().take(MAX_THREADS) {
        let status = match host.read(format!("{dir}/task/{thread}/status")) {
            Ok(status) => status,
            // A thread may end while we look; the process as a whole is checked below.
            Err(ReadError::Absent { .. } | ReadError::Io { .. }) => continue,
            Err(error) => return Err(gone(error)),
        };
        let allowed: CpuSet = field(&status, "Cpus_allowed_list")
            .and_then(|list| list.parse().ok())
            .ok_or(PlacementError::Silent { pid, what: "Cpus_allowed_list" })?;
        if !allowed.is_subset(expected) {
            return Err(PlacementError::Astray { pid, thread, allowed, expected: expected.clone() });
        }
        cpus = cpus.union(&allowed);
        let allowed: Option<CpuSet> = field(&status, "Mems_allowed_list").and_then(|list| list.parse().ok());
        nodes = match (nodes, allowed) {
            (Some(known), Some(allowed)) => Some(known.union(&allowed)),
            (known, allowed) => known.or(allowed),
        };
        no_new_privs &= field(&status, "NoNewPrivs") == Some("1");
        threads += 1;
    }
    if threads == 0 {
        return Err(PlacementError::Gone { pid });
    }
    let stat = host.read(format!("{dir}/stat")).map_err(gone)?;
    let cgroups = host.read(format!("{dir}/cgroup")).unwrap_or_default();
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| path.contains(OURS));
    let cgroup = cgroup.map(str::to_owned);
    let cpuset = host.read(format!("{dir}/cpuset")).ok().filter(|path| is_of_ours(path));
    let (priority, policy) =
        priority_and_policy(&stat).ok_or(PlacementError::Silent { pid, what: "its scheduling policy" })?;
    Ok(Placement {
        narrowed: cpus != *expected,
        cpus,
        threads,
        fifo_priority: (policy == SCHED_FIFO).then_some(priority),
        no_new_privs,
        cpuset,
        cgroup,
        nodes,
    })
}

/// Checks the first thread of a process only, by one system call: for those who need not know more.
pub fn glance_at_placement(pid: u32, expected: &CpuSet) -> Result<(), PlacementError> {
    let first = i32::try_from(pid).map_err(|_| PlacementError::Gone { pid })?;
    let mask = match sched_getaffinity(Pid::from_raw(first)) {
        Ok(mask) => mask,
        Err(Errno::ESRCH) => return Err(PlacementError::Gone { pid }),
        Err(_) => return Err(PlacementError::Silent { pid, what: "its affinity" }),
    };
    let mut allowed = CpuSet::new();
    for cpu in (0..nix::sched::CpuSet::count()).filter(|&cpu| mask.is_set(cpu).is_ok_and(|set| set)) {
        // The kernel's masks have fewer CPUs than ours can hold.
        let _ = u32::try_from(cpu).map(|cpu| allowed.insert(cpu));
    }
    if allowed.is_subset(expected) {
        return Ok(());
    }
    Err(PlacementError::Astray { pid, thread: pid.to_string(), allowed, expected: expected.clone() })
}

/// Whether a cpuset was made for what runs in it: it is one of ours, or bears the 64 digits of a container.
fn is_of_ours(path: &str) -> bool {
    const ID_DIGITS: usize = 64;
    let is_id = |part: &str| part.len() == ID_DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    path.contains(OURS) || path.trim_end().split(['/', '-', '.']).any(is_id)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The real-time priority (field 40) and the policy (field 41).
fn priority_and_policy(stat: &str) -> Option<(u8, u32)> {
    let stat = TaskStat::parse(stat)?;
    Some((stat.field(40)?.parse().ok()?, stat.field(41)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn recorded(threads: &[(&str, &str)], policy: u32) -> (tempfile::TempDir, HostFs) {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path().join("proc/7");
        let status = |cpus: &str| {
            format!("Name:\tx\nNoNewPrivs:\t1\nCpus_allowed_list:\t{cpus}\nMems_allowed_list:\t0\n")
        };
        for (thread, cpus) in threads {
            fs::create_dir_all(proc.join("task").join(thread)).unwrap();
            fs::write(proc.join("task").join(thread).join("status"), status(cpus)).unwrap();
        }
        fs::write(proc.join("status"), status("0")).unwrap();
        fs::write(proc.join("cpuset"), "/darwin/a/0\n").unwrap();
        fs::write(proc.join("cgroup"), "4:cpuset:/darwin/a/0\n0::/x/darwin/a/0\n").unwrap();
        let zeros = "0 ".repeat(36);
        fs::write(proc.join("stat"), format!("7 (a ) b) R {zeros}12 {policy} 0 0")).unwrap();
        let host = HostFs::new(dir.path());
        (dir, host)
    }

    #[test]
    fn every_thread_is_looked_at() {
        let (_dir, host) = recorded(&[("7", "2"), ("8", "3")], 1);
        let placement = verify_placement(&host, 7, &"2-3".parse().unwrap()).unwrap();
        assert_eq!((placement.threads, placement.narrowed, placement.fifo_priority), (2, false, Some(12)));
        assert!(placement.no_new_privs);
        assert_eq!(placement.nodes, Some("0".parse().unwrap()));
        assert_eq!(placement.cgroup.as_deref(), Some("/x/darwin/a/0"));
        assert_eq!(placement.cpuset.as_deref(), Some("/darwin/a/0"));
        let error = verify_placement(&host, 7, &"2".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "thread 8 of process 7 may run on CPUs 3; it must stay on 2");
    }

    #[test]
    fn cpusets_that_were_made_for_a_bench_are_known() {
        let id = "0123456789abcdef".repeat(4);
        for (path, ours) in [
            ("/darwin/a/0".to_owned(), true),
            (format!("/docker/{id}\n"), true),
            (format!("/system.slice/docker-{id}.scope"), true),
            ("/".to_owned(), false),
            ("/docker".to_owned(), false),
        ] {
            assert_eq!(is_of_ours(&path), ours, "{path}");
        }
    }

    #[test]
    fn fewer_cpus_than_asked_is_said() {
        let (_dir, host) = recorded(&[("7", "2")], 0);
        let placement = verify_placement(&host, 7, &"2-3".parse().unwrap()).unwrap();
        assert_eq!((placement.narrowed, placement.fifo_priority), (true, None));
    }

    #[test]
    fn a_process_that_has_ended_is_no_offence() {
        let (_dir, host) = recorded(&[("7", "2")], 0);
        assert!(matches!(
            verify_placement(&host, 9, &"2".parse().unwrap()),
            Err(PlacementError::Gone { pid: 9 })
        ));
    }
}
