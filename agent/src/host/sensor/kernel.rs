//! The kernel's knobs: scheduling, timers, watchdogs, tracing, clocks, mitigations.

use darwin_shared::cpu::CpuSet;

use super::check::{Check, Found, Look, When, listed, named, or_unknown};

/// The first CPU's flags are within this.
const FIRST_CPU_BYTES: u64 = 8 << 10;
/// Seconds between two rounds of the kernel's own statistics that are long enough.
const STAT_INTERVAL_MIN_S: i64 = 10;

pub(super) const CHECKS: &[Check] = &[
    Check::settled(
        "rt_limit",
        When::Seldom,
        "what runs real-time (SCHED_FIFO) without a pause is stopped for the rest of each period: 50 ms a second",
        |look| or_unknown(rt_limit(look)),
    ),
    Check::settled(
        "rt_group",
        When::Seldom,
        "a kernel with real-time group budgets refuses SCHED_FIFO in a group that has none",
        |look| or_unknown(rt_group(look)),
    ),
    Check::settled(
        "autogroup",
        When::Seldom,
        "with it a nice value counts only within one session, and does nothing against others",
        |look| or_unknown(zero(look, "/proc/sys/kernel/sched_autogroup_enabled", "on", "off")),
    ),
    Check::settled(
        "watchdog",
        When::Seldom,
        "the NMI watchdog interrupts what cannot be interrupted otherwise, and takes a hardware counter",
        |look| or_unknown(watchdog(look)),
    ),
    Check::settled(
        "timers",
        When::Seldom,
        "the kernel's own statistics wake every CPU once in each interval",
        |look| or_unknown(timers(look)),
    ),
    Check::settled(
        "aslr",
        When::Seldom,
        "many processes with random layouts average luck out; one fixed layout is one draw of it",
        |look| or_unknown(aslr(look)),
    ),
    Check::settled("tracing", When::Seldom, "a tracer works in the time of what it traces", |look| {
        or_unknown(tracing(look))
    }),
    Check::settled("clock", When::Seldom, "a slow or unsteady clock is measured with every bench", |look| {
        or_unknown(clock(look))
    }),
    Check::settled(
        "mitigations",
        When::Seldom,
        "mitigations make system calls dearer: boxes that differ in them are not the same box",
        |look| or_unknown(mitigations(look)),
    ),
    Check::settled(
        "preemption",
        When::Seldom,
        "how the kernel preempts itself changes the longest delays",
        |look| or_unknown(preemption(look)),
    ),
];

/// A switch that should be off.
fn zero(look: &Look<'_>, path: &str, on: &str, off: &str) -> Result<Found, Found> {
    Ok(match look.number(path)? {
        0 => Found::ok(off),
        1 => look.untuned(on, format!("write 0 to {path}")),
        other => super::check::odd(path.as_ref(), &other.to_string(), "0 or 1"),
    })
}

fn rt_limit(look: &Look<'_>) -> Result<Found, Found> {
    let runtime_us = look.number("/proc/sys/kernel/sched_rt_runtime_us")?;
    let period_us = look.number("/proc/sys/kernel/sched_rt_period_us")?;
    if runtime_us < 0 || runtime_us >= period_us {
        return Ok(Found::ok("none"));
    }
    let value = format!("{runtime_us} us of {period_us} us");
    let remedy = "for jobs with `scheduler = \"fifo\"` on isolated cores alone: write -1 to /proc/sys/kernel/sched_rt_runtime_us";
    Ok(look.untuned(value, remedy))
}

fn rt_group(look: &Look<'_>) -> Result<Found, Found> {
    let own = look.text("/proc/self/cgroup")?;
    let line = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|controller| controller == "cpu").then_some(path)
    });
    let Some(path) = line else {
        return Ok(Found::ok("no cgroup v1 with real-time budgets"));
    };
    for mount in ["cpu", "cpu,cpuacct"] {
        let file = format!("/sys/fs/cgroup/{mount}{}/cpu.rt_runtime_us", path.trim_end_matches('/'));
        let Ok(budget_us) = look.number(&file) else { continue };
        return Ok(if budget_us == 0 {
            look.untuned(
                format!("{path} has no real-time budget: SCHED_FIFO is refused"),
                format!("write 950000 to {file}, after the same in each group above it"),
            )
        } else {
            Found::ok(format!("{budget_us} us for {path}"))
        });
    }
    Ok(Found::ok("no real-time budgets in this kernel"))
}

fn watchdog(look: &Look<'_>) -> Result<Found, Found> {
    let nmi = look.number("/proc/sys/kernel/nmi_watchdog")?;
    let soft = look.number("/proc/sys/kernel/soft_watchdog").unwrap_or(0);
    let watched: CpuSet = look.cpus("/proc/sys/kernel/watchdog_cpumask").unwrap_or_default();
    let watched = watched.intersection(&look.scope.cpus);
    if nmi != 0 {
        return Ok(look.untuned("NMI watchdog on", "write 0 to /proc/sys/kernel/nmi_watchdog"));
    }
    if soft != 0 && !watched.is_empty() {
        let remedy = format!("write {} to /proc/sys/kernel/watchdog_cpumask", look.scope.housekeeping);
        return Ok(look.untuned(format!("NMI watchdog off, soft one on {}", named(&watched)), remedy));
    }
    Ok(Found::ok(format!("none on {}", named(&look.scope.cpus))))
}

fn timers(look: &Look<'_>) -> Result<Found, Found> {
    let interval_s = look.number("/proc/sys/vm/stat_interval")?;
    let value = match look.number("/proc/sys/kernel/timer_migration") {
        Ok(0) => format!("statistics every {interval_s} s; timers stay where they were set"),
        Ok(_) => format!("statistics every {interval_s} s; timers move to busy CPUs"),
        Err(_) => format!("statistics every {interval_s} s"),
    };
    if interval_s >= STAT_INTERVAL_MIN_S {
        return Ok(Found::ok(value));
    }
    Ok(look.untuned(value, format!("write {STAT_INTERVAL_MIN_S} or more to /proc/sys/vm/stat_interval")))
}

fn aslr(look: &Look<'_>) -> Result<Found, Found> {
    const PATH: &str = "/proc/sys/kernel/randomize_va_space";
    Ok(match look.number(PATH)? {
        2 => Found::ok("on"),
        0 => look.untuned("off for the whole box", format!("write 2 to {PATH}")),
        1 => look.untuned("on, but not for the heap", format!("write 2 to {PATH}")),
        other => super::check::odd(PATH.as_ref(), &other.to_string(), "0, 1 or 2"),
    })
}

fn tracing(look: &Look<'_>) -> Result<Found, Found> {
    let folder = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .find(|folder| look.host.exists(format!("{folder}/current_tracer")));
    let folder = folder.unwrap_or("/sys/kernel/tracing");
    let tracer = look.text(format!("{folder}/current_tracer"))?;
    let events = look.host.read(format!("{folder}/set_event")).unwrap_or_default();
    let events = events.lines().count();
    if tracer != "nop" || events > 0 {
        return Ok(look.untuned(
            format!("tracer {tracer}, {events} events"),
            format!("write nop to {folder}/current_tracer, and nothing to {folder}/set_event"),
        ));
    }
    Ok(Found::ok("off"))
}

fn clock(look: &Look<'_>) -> Result<Found, Found> {
    let source = look.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    let cpuinfo = look.host.read_head("/proc/cpuinfo", FIRST_CPU_BYTES).unwrap_or_default();
    let flags: Vec<&str> = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags")?.split_once(':'))
        .map(|(_, flags)| flags.split_whitespace().collect())
        .unwrap_or_default();
    let missing: Vec<String> = ["constant_tsc", "nonstop_tsc"]
        .into_iter()
        .filter(|flag| !flags.contains(flag))
        .map(str::to_owned)
        .collect();
    let remedy =
        "boot with tsc=reliable if the kernel's log says that the TSC is sound; else use another box";
    Ok(match source.as_str() {
        "tsc" if missing.is_empty() => Found::ok("tsc"),
        // The kernel trusts it, and what it trusts it by is told elsewhere in a virtual machine.
        "tsc" => look.untuned(format!("tsc without {}", listed(&missing)), remedy),
        // ARM and RISC-V have one counter, which is sound.
        "arch_sys_counter" | "riscv_clocksource" | "timebase" => Found::ok(source),
        "kvm-clock" | "hyperv_clocksource_tsc_page" | "xen" => look.untuned(
            format!("{source}: the hypervisor's"),
            "boot with clocksource=tsc, if the host's TSC is steady",
        ),
        _ => look.spoilt(format!("{source}: slow to read"), remedy),
    })
}

fn mitigations(look: &Look<'_>) -> Result<Found, Found> {
    const FOLDER: &str = "/sys/devices/system/cpu/vulnerabilities";
    let names = look.host.list(FOLDER).map_err(Found::unknown)?;
    let (mut mitigated, mut open) = (0usize, Vec::new());
    for name in &names {
        let text = look.text(format!("{FOLDER}/{name}"))?;
        mitigated += usize::from(text.starts_with("Mitigation"));
        if text.starts_with("Vulnerable") {
            open.push(name.clone());
        }
    }
    let open = if open.is_empty() { String::new() } else { format!("; open: {}", listed(&open)) };
    // Neither is wrong: it is part of the fingerprint.
    Ok(Found::ok(format!("{mitigated} of {} in force{open}", names.len())))
}

fn preemption(look: &Look<'_>) -> Result<Found, Found> {
    // The mode in force stands in brackets: `none voluntary (full) lazy`.
    if let Ok(text) = look.text("/sys/kernel/debug/sched/preempt")
        && let Some((_, rest)) = text.split_once('(')
        && let Some((mode, _)) = rest.split_once(')')
    {
        return Ok(Found::ok(mode));
    }
    let version = look.text("/proc/version")?;
    let word = ["PREEMPT_RT", "PREEMPT_DYNAMIC", "PREEMPT_LAZY", "PREEMPT"]
        .into_iter()
        .find(|word| version.split_whitespace().any(|found| found == *word));
    Ok(Found::ok(word.map_or("none, or voluntary", |word| word)))
}
