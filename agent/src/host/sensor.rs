//! Is the box fit to measure? One reading per check, each with what was read, why it matters and what mends it.
//!
//! What a box does not have is `unknown`, never `fail`. Shares of time need two readings of `/proc/stat`: the caller
//! keeps the earlier one and passes it in; nothing here waits.

use std::path::PathBuf;

use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::{Reading, ReadingStatus, SensorReport};

use super::fs::{HostFs, ReadError};
use super::stat::{CpuTimes, StatError, StatSample};
use super::topology;

/// Where the first check turns from fine to felt to spoilt. Shares are of CPU time, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorLimits {
    /// Foreign work on the leased CPUs that is warned of.
    pub busy_warn_share: f64,
    /// Foreign work on the leased CPUs that spoils a run; none means that it never does.
    pub busy_fail_share: Option<f64>,
    /// Stolen time that is warned of.
    pub steal_warn_share: f64,
    /// Stolen time that spoils a run; none means that it never does.
    pub steal_fail_share: Option<f64>,
    /// Memory that must be available, in bytes.
    pub memory_min_bytes: u64,
    /// Disk space that must be free for spool and artifacts, in bytes.
    pub disk_min_bytes: u64,
    /// What a virtual machine, leased CPUs that are not isolated, or clocks that may wander count as.
    pub not_bare_metal: ReadingStatus,
}

impl SensorLimits {
    /// For boxes whose numbers must stand.
    pub const fn bare_metal() -> Self {
        Self {
            busy_warn_share: 0.002,
            busy_fail_share: Some(0.01),
            steal_warn_share: 0.001,
            steal_fail_share: Some(0.01),
            memory_min_bytes: 1 << 30,
            disk_min_bytes: 1 << 30,
            not_bare_metal: ReadingStatus::Warn,
        }
    }

    /// For laptops and virtual machines, where all of this is usual and only a starved box stops a run.
    pub const fn dev() -> Self {
        Self {
            busy_warn_share: 0.25,
            busy_fail_share: None,
            steal_warn_share: 0.05,
            steal_fail_share: None,
            memory_min_bytes: 256 << 20,
            disk_min_bytes: 256 << 20,
            not_bare_metal: ReadingStatus::Ok,
        }
    }
}

/// What the checks look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// The CPUs that benches may be given.
    cpus: CpuSet,
    /// Their SMT siblings, which must stay idle.
    siblings_idle: CpuSet,
    /// The folder of spool and artifacts.
    disk: PathBuf,
    /// Where fine ends.
    limits: SensorLimits,
    /// What never changes while the box is up, and may be felt on other CPUs when it is read.
    virtual_machine: Reading,
}

impl Sensor {
    /// A sensor for these leasable CPUs, with the SMT siblings that must stay idle, and for the disk of this folder.
    pub fn new(
        host: &HostFs,
        cpus: CpuSet,
        siblings_idle: CpuSet,
        disk: PathBuf,
        limits: SensorLimits,
    ) -> Self {
        let virtual_machine = limits.virtual_machine(host);
        Self { cpus, siblings_idle, disk, limits, virtual_machine }
    }

    /// Reads every check. `earlier` is the sample that the last call gave; without it, shares of time are unknown.
    /// `ours` are the CPUs that benches of our own used since then: they were busy on purpose.
    pub fn read(
        &self,
        host: &HostFs,
        earlier: Option<&StatSample>,
        ours: &CpuSet,
    ) -> (SensorReport, Option<StatSample>) {
        let now = StatSample::read(host);
        let span = |cpus: &CpuSet| Span::between(&now, earlier, cpus);
        let others = self.cpus.difference(ours);
        let readings = vec![
            self.competition(&others, span(&others)),
            runnable(&now),
            self.siblings(host, span(&self.siblings_idle)),
            self.steal(span(&self.cpus)),
            self.isolation(host),
            self.governor(host),
            self.turbo(host),
            self.memory(host),
            self.disk(host),
            self.virtual_machine.clone(),
        ];
        (SensorReport::of(readings), now.ok())
    }

    /// Foreign work on CPUs that no bench of ours has used meanwhile.
    fn competition(&self, cpus: &CpuSet, span: Span) -> Reading {
        if cpus.is_empty() {
            let why =
                "benches ran on all leased CPUs since the last reading: what else did is not told apart";
            return unknown("competition", &why);
        }
        let why = "other work on these CPUs is measured as if it were the bench's";
        let judge = |times: CpuTimes| {
            let share = share(times.busy_ticks, times);
            (over(share, self.limits.busy_warn_share, self.limits.busy_fail_share), share)
        };
        let remedy = format!(
            "stop or move what runs on {}; `ps -eLo psr,pcpu,pid,args --sort=-pcpu` names it, with its CPU in front",
            named(cpus)
        );
        span.reading("competition", cpus, "busy", why, remedy, judge)
    }

    fn siblings(&self, host: &HostFs, span: Span) -> Reading {
        let why = "an SMT sibling at work takes half of the core's issue width, and no counter shows it";
        if self.siblings_idle.is_empty() {
            let active = host.read("/sys/devices/system/cpu/smt/active");
            return match active.as_deref() {
                Ok("1") => ok("smt", "on, no leased core has an online sibling".into(), why),
                Ok(_) => ok("smt", "off".into(), why),
                Err(error) => unknown("smt", error),
            };
        }
        let judge = |times: CpuTimes| {
            let share = share(times.busy_ticks, times);
            (over(share, self.limits.busy_warn_share, self.limits.busy_fail_share), share)
        };
        let siblings = named(&self.siblings_idle);
        let remedy =
            format!("keep {siblings} free of work, or write `off` to /sys/devices/system/cpu/smt/control");
        span.reading("smt", &self.siblings_idle, "busy", why, remedy, judge)
    }

    fn steal(&self, span: Span) -> Reading {
        let why = "the hypervisor ran someone else in the bench's time";
        let judge = |times: CpuTimes| {
            let share = share(times.steal_ticks, times);
            (over(share, self.limits.steal_warn_share, self.limits.steal_fail_share), share)
        };
        let remedy = "use bare metal, or a machine with dedicated CPUs";
        span.reading("steal", &self.cpus, "stolen", why, remedy.into(), judge)
    }

    fn isolation(&self, host: &HostFs) -> Reading {
        let why = "what the scheduler may put on a bench's CPU, it will";
        let told = host.read("/sys/devices/system/cpu/isolated").and_then(|_| topology::isolated(host));
        let isolated = match told {
            Ok(isolated) => isolated,
            Err(error) => return unknown("isolation", &error),
        };
        let open = self.cpus.difference(&isolated);
        if open.is_empty() {
            return ok("isolation", format!("{}: isolated", named(&self.cpus)), why);
        }
        let remedy = format!("start the kernel with isolcpus={open} nohz_full={open} rcu_nocbs={open}");
        self.limits.tolerate("isolation", format!("{}: not isolated", named(&open)), why, remedy)
    }

    fn governor(&self, host: &HostFs) -> Reading {
        let why = "a governor that follows the load makes the first iterations slow";
        let mut slow = CpuSet::new();
        let mut names: Vec<String> = Vec::new();
        for cpu in self.cpus.union(&self.siblings_idle).iter() {
            match host.read(format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")) {
                Ok(governor) => {
                    if governor != "performance" {
                        // The CPU came out of a CpuSet, so it is within range.
                        let _ = slow.insert(cpu);
                    }
                    if !names.contains(&governor) {
                        names.push(governor);
                    }
                }
                Err(error) => return unknown("governor", &error),
            }
        }
        let status = if slow.is_empty() { ReadingStatus::Ok } else { ReadingStatus::Warn };
        let remedy = if slow.is_empty() {
            String::new()
        } else {
            format!("cpupower -c {slow} frequency-set -g performance")
        };
        reading("governor", status, names.join(", "), why, remedy)
    }

    fn turbo(&self, host: &HostFs) -> Reading {
        let why = "boosted clocks depend on heat and on what the other cores do";
        let on = match host.read("/sys/devices/system/cpu/intel_pstate/no_turbo") {
            Ok(text) => Ok(text == "0"),
            Err(_) => host.read("/sys/devices/system/cpu/cpufreq/boost").map(|text| text == "1"),
        };
        match on {
            Ok(false) => ok("turbo", "off".into(), why),
            Ok(true) => {
                let remedy = "write 1 to /sys/devices/system/cpu/intel_pstate/no_turbo, or 0 to /sys/devices/system/cpu/cpufreq/boost";
                self.limits.tolerate("turbo", "on".into(), why, remedy.into())
            }
            Err(error) => unknown("turbo", &error),
        }
    }

    fn memory(&self, host: &HostFs) -> Reading {
        let why = "a box short of memory reclaims and swaps in the middle of a run";
        let text = match host.read("/proc/meminfo") {
            Ok(text) => text,
            Err(error) => return unknown("memory", &error),
        };
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let Some(kib) = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        else {
            return unknown("memory", &"/proc/meminfo has no MemAvailable in kB");
        };
        at_least("memory", kib.saturating_mul(1024), self.limits.memory_min_bytes, "available", why)
    }

    fn disk(&self, host: &HostFs) -> Reading {
        // An agent that never ran has no folder yet; it will lie where the nearest one above it lies.
        let there = self.disk.ancestors().find(|folder| host.exists(folder)).unwrap_or(&self.disk);
        match host.free_bytes(there) {
            Ok(free) => {
                let why = "results are written here before they travel";
                at_least(
                    "disk",
                    free,
                    self.limits.disk_min_bytes,
                    &format!("free for {}", self.disk.display()),
                    why,
                )
            }
            Err(error) => unknown("disk", &error),
        }
    }
}

impl SensorLimits {
    fn virtual_machine(&self, host: &HostFs) -> Reading {
        let why = "a virtual machine has neighbours that it cannot see";
        match hypervisor(host) {
            Ok(None) => ok("virtual_machine", "no".into(), why),
            Ok(Some(kind)) => {
                let remedy = "use bare metal, or give this box a pool of its own";
                self.tolerate("virtual_machine", format!("yes, {kind}"), why, remedy.into())
            }
            Err(error) => unknown("virtual_machine", &error),
        }
    }

    /// What no box whose numbers must stand should have. A box of which that is not asked is told, and that is all.
    fn tolerate(&self, name: &str, value: String, why: &str, remedy: String) -> Reading {
        match self.not_bare_metal {
            ReadingStatus::Ok => ok(name, format!("{value}; tier dev asks for no better"), why),
            status @ (ReadingStatus::Warn | ReadingStatus::Fail | ReadingStatus::Unknown) => {
                reading(name, status, value, why, remedy)
            }
        }
    }
}

/// `CPU 1` or `CPUs 1-3`.
fn named(cpus: &CpuSet) -> String {
    let noun = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    format!("{noun} {cpus}")
}

fn at_least(name: &str, bytes: u64, min_bytes: u64, what: &str, why: &str) -> Reading {
    let value = format!("{} MiB {what}", bytes >> 20);
    if bytes >= min_bytes {
        return ok(name, value, why);
    }
    reading(
        name,
        ReadingStatus::Fail,
        value,
        why,
        format!("free some {name}: at least {} MiB must be {what}", min_bytes >> 20),
    )
}

fn over(share: f64, warn: f64, fail: Option<f64>) -> ReadingStatus {
    match fail {
        Some(fail) if share > fail => ReadingStatus::Fail,
        _ if share > warn => ReadingStatus::Warn,
        _ => ReadingStatus::Ok,
    }
}

/// What a set of CPUs did between two samples, or why that is not known.
struct Span(Result<CpuTimes, String>);

impl Span {
    fn between(now: &Result<StatSample, StatError>, earlier: Option<&StatSample>, cpus: &CpuSet) -> Self {
        let now = match now {
            Ok(now) => now,
            Err(error) => return Self(Err(error.to_string())),
        };
        let Some(earlier) = earlier else {
            return Self(Err("it takes two readings, and this is the first".into()));
        };
        let times = now.since(earlier, cpus);
        if times.total_ticks() == 0 {
            return Self(Err("too little time has passed since the last reading".into()));
        }
        Self(Ok(times))
    }

    fn reading(
        self,
        name: &str,
        cpus: &CpuSet,
        what: &str,
        why: &str,
        remedy: String,
        judge: impl FnOnce(CpuTimes) -> (ReadingStatus, f64),
    ) -> Reading {
        let times = match self.0 {
            Ok(times) => times,
            Err(error) => return unknown(name, &error),
        };
        let (status, share) = judge(times);
        let remedy = if status == ReadingStatus::Ok { String::new() } else { remedy };
        reading(name, status, format!("{}: {:.1} % {what}", named(cpus), share * 100.0), why, remedy)
    }
}

/// More tasks that want to run than CPUs: even a quiet core will be asked to help.
fn runnable(now: &Result<StatSample, StatError>) -> Reading {
    match now {
        // The reader itself is one of them.
        Ok(now) => {
            let (others, cpus) = (now.runnable.saturating_sub(1), now.cpus());
            let why = "tasks that want to run compete with the bench for cores, caches and memory";
            let value = format!("{others} tasks want to run; CPUs: {cpus}");
            if others > cpus as u64 {
                let remedy = "wait until they are done, or stop some; `top` shows them";
                return reading("runnable", ReadingStatus::Warn, value, why, remedy.into());
            }
            ok("runnable", value, why)
        }
        Err(error) => unknown("runnable", error),
    }
}

/// The hypervisor's name where there is one.
fn hypervisor(host: &HostFs) -> Result<Option<String>, ReadError> {
    /// The first CPU's flags are within this; the whole file grows with the number of CPUs and is slow to make.
    const FIRST_CPU_BYTES: u64 = 8 << 10;
    if let Ok(kind) = host.read("/sys/hypervisor/type") {
        return Ok(Some(kind));
    }
    let text = host.read_head("/proc/cpuinfo", FIRST_CPU_BYTES)?;
    let flags = text.lines().find(|line| line.starts_with("flags"));
    let virtual_machine =
        flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    let vendor = host
        .read("/sys/class/dmi/id/sys_vendor")
        .unwrap_or_else(|_| "of a kind that it does not tell".into());
    Ok(virtual_machine.then_some(vendor))
}

fn share(part: u64, times: CpuTimes) -> f64 {
    part as f64 / times.total_ticks().max(1) as f64
}

fn reading(name: &str, status: ReadingStatus, value: String, why: &str, remedy: String) -> Reading {
    Reading { name: name.into(), status, value, why: why.into(), remedy }
}

fn ok(name: &str, value: String, why: &str) -> Reading {
    reading(name, ReadingStatus::Ok, value, why, String::new())
}

fn unknown(name: &str, why: &dyn ToString) -> Reading {
    reading(name, ReadingStatus::Unknown, String::new(), &why.to_string(), String::new())
}

#[cfg(test)]
#[path = "sensor_tests.rs"]
mod tests;
