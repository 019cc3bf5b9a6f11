//! Who else runs here: processes and threads, as `/proc` shows them.

use darwin_shared::cpu::CpuSet;

use super::check::{Check, Found, Look, When, listed, named, or_unknown};
use crate::host::TaskStat;

/// The most processes and threads that one reading looks at; beyond it the reading says so.
const TASKS_MAX: usize = 20_000;
/// The flag of a kernel thread (`PF_KTHREAD` in the kernel's `sched.h`).
const KERNEL_THREAD: u64 = 0x0020_0000;

pub(super) const CHECKS: &[Check] = &[
    Check::passing(
        "tasks",
        When::Seldom,
        "a task that may run on a bench's core will, and pinning the bench does not stop it",
        |look| or_unknown(tasks(look)),
    ),
    Check::settled(
        "irqbalance",
        When::Seldom,
        "it moves interrupts onto cores that were kept free of them",
        |look| or_unknown(irqbalance(look)),
    ),
];

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its name, of which the kernel keeps 15 bytes.
    pub(super) name: String,
}

/// A thread, as its `stat` tells.
#[derive(Debug, PartialEq, Eq)]
struct Thread {
    name: String,
    runs: bool,
    of_kernel: bool,
    cpu: u32,
}

impl Thread {
    /// Fields as in proc(5): 3 is the state, 9 the flags, 39 the CPU that it ran on last.
    fn parse(stat: &str) -> Option<Self> {
        let stat = TaskStat::parse(stat)?;
        Some(Self {
            name: stat.name.to_owned(),
            runs: stat.field(3)? == "R",
            of_kernel: stat.field(9)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
            cpu: stat.field(39)?.parse().ok()?,
        })
    }
}

fn pids(look: &Look<'_>) -> Result<Vec<u32>, Found> {
    let names = look.host.list("/proc").map_err(Found::unknown)?;
    let pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).take(TASKS_MAX).collect();
    // Every Linux has kernel threads; where none is seen, others' processes are not either.
    if look.host.read("/proc/2/comm").is_ok_and(|name| name == "kthreadd") {
        Ok(pids)
    } else {
        Err(Found::unknown(
            "/proc shows no kernel threads: it is a container's, and hides what else runs here",
        ))
    }
}

/// All processes that can be seen; those that end meanwhile are left out.
pub(super) fn processes(look: &Look<'_>) -> Result<Vec<Process>, Found> {
    let name = |pid| look.host.read(format!("/proc/{pid}/comm")).ok();
    Ok(pids(look)?.into_iter().filter_map(|pid| Some(Process { pid, name: name(pid)? })).collect())
}

fn tasks(look: &Look<'_>) -> Result<Found, Found> {
    let (mut running, mut allowed, mut seen) = (Vec::new(), 0usize, 0usize);
    let own = std::process::id();
    'all: for pid in pids(look)?.into_iter().filter(|pid| *pid != own) {
        for thread in look.host.list(format!("/proc/{pid}/task")).unwrap_or_default() {
            if seen >= TASKS_MAX {
                break 'all;
            }
            let stat = look.host.read(format!("/proc/{pid}/task/{thread}/stat"));
            let Some(task) = stat.ok().and_then(|stat| Thread::parse(&stat)) else { continue };
            if task.of_kernel {
                break;
            }
            seen += 1;
            if task.runs && look.scope.cpus.contains(task.cpu) && !look.ours.contains(task.cpu) {
                running.push(format!("{} ({thread}) on CPU {}", task.name, task.cpu));
            }
        }
        allowed += usize::from(may_run_on(look, pid, &look.scope.cpus));
    }
    if seen == 0 {
        return Err(Found::unknown("/proc shows no thread of any process"));
    }
    let remedy = format!(
        "move it off {}: `taskset -pc {} PID`, or a cpuset for all but the benches",
        named(&look.scope.cpus),
        look.scope.housekeeping
    );
    if !running.is_empty() {
        return Ok(look.spoilt(format!("running: {}", listed(&running)), remedy));
    }
    let cpus = named(&look.scope.cpus);
    Ok(match allowed {
        0 => Found::ok(format!("none of {seen} threads may run on {cpus}")),
        _ => look.untuned(format!("{allowed} processes may run on {cpus}; none does now"), remedy),
    })
}

/// Whether a process may run on one of these CPUs; the kernel's own threads are not counted.
fn may_run_on(look: &Look<'_>, pid: u32, cpus: &CpuSet) -> bool {
    let Ok(status) = look.host.read(format!("/proc/{pid}/status")) else { return false };
    // Kernel threads have no memory of their own.
    let is_process = status.lines().any(|line| line.starts_with("VmSize:"));
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let allowed: Option<CpuSet> = list.and_then(|list| list.trim().parse().ok());
    is_process && allowed.is_some_and(|allowed| !allowed.is_disjoint(cpus))
}

fn irqbalance(look: &Look<'_>) -> Result<Found, Found> {
    let all = processes(look)?;
    let Some(process) = all.iter().find(|process| process.name == "irqbalance") else {
        return Ok(Found::ok("it does not run"));
    };
    // Unless it is told otherwise it keeps off isolated CPUs and those without a tick by itself.
    let environment = look.host.read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
    let value = |name: &str| {
        environment.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let listed = value("IRQBALANCE_BANNED_CPULIST").and_then(|list| list.parse::<CpuSet>().ok());
    let masked = value("IRQBALANCE_BANNED_CPUS").and_then(|text| super::check::mask(&text));
    let banned = match listed.or(masked) {
        Some(banned) => banned,
        None => crate::host::topology::isolated(look.host).unwrap_or_default(),
    };
    let open = look.scope.cpus.difference(&banned);
    if open.is_empty() {
        return Ok(Found::ok(format!("it runs and keeps off {}", named(&look.scope.cpus))));
    }
    Ok(look.untuned(
        format!("it runs and may use {}", named(&open)),
        format!("set IRQBALANCE_BANNED_CPULIST={} in its environment file, or stop it", look.scope.cpus),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_read_whatever_its_name_is() {
        let rest = "R 1 2 2 0 -1 2097152 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 9 0 0 0 0 0 0 0 0 0 0 0 0 0 3 0";
        let thread = Thread::parse(&format!("77 (a ) (b) {rest}")).unwrap();
        assert_eq!(thread, Thread { name: "a ) (b".to_owned(), runs: true, of_kernel: true, cpu: 3 });
        assert_eq!(Thread::parse("77 (x) R 1"), None);
        assert_eq!(Thread::parse(""), None);
    }
}
