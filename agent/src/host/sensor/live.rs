//! What goes on beside the benches now.

use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::ReadingStatus;

use super::check::{Check, Found, Look, When, listed, named, or_unknown};
use crate::host::stat::CpuTimes;

/// Foreign work on housekeeping CPUs, or on CPUs beside a leased cache, that is warned of.
const NEIGHBOURS_WARN_SHARE: f64 = 0.25;
/// Shares of time in which some task waited (`some avg10`, in percent) that are warned of.
const PRESSURE_WARN_PERCENT: f64 = 1.0;
/// Memory that waits to be written to disk that is warned of.
const WRITEBACK_WARN_BYTES: u64 = 64 << 20;
/// Disk requests under way that are warned of.
const INFLIGHT_WARN: u64 = 8;

pub(super) const CHECKS: &[Check] = &[
    Check::passing(
        "competition",
        When::Always,
        "other work on these CPUs is measured as if it were the bench's",
        competition,
    ),
    Check::passing(
        "runnable",
        When::Always,
        "tasks that want to run compete with the bench for cores, caches and memory",
        runnable,
    ),
    Check::passing(
        "smt",
        When::Always,
        "an SMT sibling at work takes half of the core's issue width, and no counter shows it",
        siblings,
    ),
    Check::passing("steal", When::Always, "the hypervisor ran someone else in the bench's time", steal),
    Check::passing(
        "cache_neighbours",
        When::Seldom,
        "work on CPUs that share the last-level cache takes the bench's lines and bandwidth",
        cache_neighbours,
    ),
    Check::passing(
        "housekeeping",
        When::Seldom,
        "what finds no time on the housekeeping CPUs is pushed to others, and the agent is late",
        |look| or_unknown(housekeeping(look)),
    ),
    Check::passing(
        "pressure",
        When::Seldom,
        "tasks that wait for CPU, disk or memory show a box that is short of it",
        |look| or_unknown(pressure(look)),
    ),
    Check::passing(
        "disk_activity",
        When::Seldom,
        "disk requests and the kernel's writing back come as interrupts and bursts of work",
        |look| or_unknown(disk_activity(look)),
    ),
];

fn over(share: f64, warn: f64, fail: Option<f64>) -> ReadingStatus {
    match fail {
        Some(fail) if share > fail => ReadingStatus::Fail,
        _ if share > warn => ReadingStatus::Warn,
        _ => ReadingStatus::Ok,
    }
}

fn share(part: u64, times: CpuTimes) -> f64 {
    part as f64 / times.total_ticks().max(1) as f64
}

fn percent(cpus: &CpuSet, share: f64, what: &str) -> String {
    format!("{}: {:.1} % {what}", named(cpus), share * 100.0)
}

/// The share of time that these CPUs were busy.
fn busy(look: &Look<'_>, cpus: &CpuSet) -> Result<f64, Found> {
    let times = look.span(cpus)?;
    Ok(share(times.busy_ticks, times))
}

/// Foreign work on CPUs that no bench of ours has used meanwhile.
fn competition(look: &Look<'_>) -> Found {
    let cpus = look.scope.cpus.difference(look.ours);
    if cpus.is_empty() {
        return Found::not_yet(
            "benches ran on all leased CPUs since the last reading: what else did is not told apart",
        );
    }
    let remedy = format!(
        "stop or move what runs on {}; `ps -eLo psr,pcpu,pid,args --sort=-pcpu` names it, with its CPU in front",
        named(&cpus)
    );
    let judge = |share| {
        let status = over(share, look.limits.busy_warn_share, look.limits.busy_fail_share);
        Found::graded(status, percent(&cpus, share, "busy"), remedy)
    };
    or_unknown(busy(look, &cpus).map(judge))
}

/// More tasks that want to run than CPUs: even a quiet core will be asked to help.
fn runnable(look: &Look<'_>) -> Found {
    match look.now {
        // The reader itself is one of them.
        Ok(now) => {
            let (others, cpus) = (now.runnable.saturating_sub(1), now.cpus());
            let status = if others > cpus as u64 { ReadingStatus::Warn } else { ReadingStatus::Ok };
            let remedy = "wait until they are done, or stop some; `top` shows them";
            Found::graded(status, format!("{others} tasks want to run; CPUs: {cpus}"), remedy)
        }
        Err(error) => Found::unknown(error),
    }
}

fn siblings(look: &Look<'_>) -> Found {
    let siblings = &look.scope.siblings_idle;
    if siblings.is_empty() {
        return match look.text("/sys/devices/system/cpu/smt/active").as_deref() {
            Ok("1") => Found::ok("on, no leased core has an online sibling"),
            Ok(_) => Found::ok("off"),
            Err(unknown) => unknown.clone(),
        };
    }
    let remedy = format!(
        "keep {} free of work, or write `off` to /sys/devices/system/cpu/smt/control",
        named(siblings)
    );
    let judge = |share| {
        let status = over(share, look.limits.busy_warn_share, look.limits.busy_fail_share);
        Found::graded(status, percent(siblings, share, "busy"), remedy)
    };
    or_unknown(busy(look, siblings).map(judge))
}

fn steal(look: &Look<'_>) -> Found {
    let judge = |times: CpuTimes| {
        let share = share(times.steal_ticks, times);
        let status = over(share, look.limits.steal_warn_share, look.limits.steal_fail_share);
        let value = percent(&look.scope.cpus, share, "stolen");
        Found::graded(status, value, "use bare metal, or a machine with dedicated CPUs")
    };
    or_unknown(look.span(&look.scope.cpus).map(judge))
}

fn cache_neighbours(look: &Look<'_>) -> Found {
    let cpus = &look.scope.cache_neighbours;
    if cpus.is_empty() {
        return Found::ok("no CPU beside the leased ones shares their last-level cache, as far as is told");
    }
    let judge = |share| {
        let value = percent(cpus, share, "busy");
        if share <= NEIGHBOURS_WARN_SHARE {
            return Found::ok(value);
        }
        look.untuned(value, format!("move work off {}, or lease cores whose cache is theirs", named(cpus)))
    };
    or_unknown(busy(look, cpus).map(judge))
}

fn housekeeping(look: &Look<'_>) -> Result<Found, Found> {
    let cpus = &look.scope.housekeeping;
    let share = busy(look, cpus)?;
    let value = percent(cpus, share, "busy");
    if share <= NEIGHBOURS_WARN_SHARE {
        return Ok(Found::ok(value));
    }
    Ok(look
        .untuned(value, "stop what is not needed, or keep more cores for the box's own work (`lease_cpus`)"))
}

fn pressure(look: &Look<'_>) -> Result<Found, Found> {
    let (mut told, mut high) = (Vec::new(), false);
    for kind in ["cpu", "io", "memory"] {
        let path = format!("/proc/pressure/{kind}");
        let text = look.text(&path)?;
        let avg10 = text
            .lines()
            .find_map(|line| line.strip_prefix("some ")?.split_whitespace().next()?.strip_prefix("avg10="))
            .and_then(|word| word.parse::<f64>().ok());
        let avg10 = avg10
            .ok_or_else(|| super::check::odd(path.as_ref(), &text, "a line like `some avg10=0.00 ...`"))?;
        high |= avg10 > PRESSURE_WARN_PERCENT;
        told.push(format!("{kind} {avg10:.1} %"));
    }
    let told = told.join(", ");
    if high {
        return Ok(look.untuned(told, "wait until the box is quiet; `top` and `iotop` show what is at work"));
    }
    Ok(Found::ok(told))
}

fn disk_activity(look: &Look<'_>) -> Result<Found, Found> {
    let meminfo = look.text("/proc/meminfo")?;
    let waiting: u64 = ["Dirty:", "Writeback:"].iter().filter_map(|name| kib(&meminfo, name)).sum();
    let mut busy = Vec::new();
    let mut under_way = 0u64;
    for disk in look.host.list("/sys/block").unwrap_or_default() {
        let Ok(text) = look.host.read(format!("/sys/block/{disk}/inflight")) else { continue };
        let requests: u64 = text.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum();
        under_way += requests;
        if requests > 0 {
            busy.push(disk);
        }
    }
    let waiting_bytes = waiting.saturating_mul(1024);
    let at = if busy.is_empty() { String::new() } else { format!(" at {}", listed(&busy)) };
    let value = format!("{under_way} requests under way{at}; {} MiB to be written", waiting_bytes >> 20);
    if under_way > INFLIGHT_WARN || waiting_bytes > WRITEBACK_WARN_BYTES {
        return Ok(look.untuned(value, "wait, or run `sync`; keep a bench's files in memory (/dev/shm)"));
    }
    Ok(Found::ok(value))
}

/// A line of `/proc/meminfo`, in KiB.
pub(super) fn kib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
