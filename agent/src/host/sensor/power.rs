//! How fast the cores run, and what changes that: frequency, idle states, heat, power.

use darwin_agent_core::probe::memory::ProbeMemory;
use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::ReadingStatus;

use super::check::{Check, Found, Look, When, listed, named, or_unknown};
use crate::host::fs::ReadError;
use crate::host::stat::uptime_s;
use crate::probe::{MEMORY_FILE, MEMORY_MAX_BYTES};

/// Waking up from a state that takes no longer than this is not felt beside a system call.
const WAKE_UP_MAX_US: i64 = 2;
/// This close to its own limit a sensor warns, in thousandths of a degree Celsius.
const HEAT_MARGIN_MILLICELSIUS: i64 = 10_000;
/// States of idleness that are looked at for each CPU.
const STATES_MAX: usize = 16;
/// For so long a probe says how fast a core is: later it may have become hot, or got a neighbour.
const SPEED_HOLDS_S: f64 = 600.0;
/// Where a speed comes from.
const HOW_TO_PROBE: &str = "attempts of several rounds make one, and so does `darwin job probe`";

pub(super) const CHECKS: &[Check] = &[
    Check::settled(
        "governor",
        When::Always,
        "a governor that follows the load makes the first iterations slow",
        governor,
    ),
    Check::settled(
        "frequency_range",
        When::Seldom,
        "a core that may slow down does, and takes its time to come back",
        |look| or_unknown(frequency_range(look)),
    ),
    Check::settled(
        "turbo",
        When::Always,
        "boosted clocks depend on heat and on what the other cores do",
        turbo,
    ),
    Check::settled(
        "idle_states",
        When::Seldom,
        "waking up from a deep sleep takes tens of microseconds",
        |look| or_unknown(idle_states(look)),
    ),
    Check::passing(
        "throttling",
        When::Seldom,
        "a core that was too hot or drew too much ran slower for a while",
        |look| or_unknown(throttling(look)),
    ),
    Check::passing("temperature", When::Seldom, "a hot box boosts less, and soon throttles", |look| {
        or_unknown(temperature(look))
    }),
    Check::settled(
        "power",
        When::Seldom,
        "a cap on power, or a battery, clips the clocks under load",
        |look| or_unknown(power(look)),
    ),
    Check::passing(
        "effective_speed",
        When::Seldom,
        "settings say how fast a core should be; how fast it is shows in the work that a CPU second buys",
        |look| or_unknown(effective_speed(look)),
    ),
];

fn file(cpu: u32, name: &str) -> String {
    format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/{name}")
}

fn governor(look: &Look<'_>) -> Found {
    let mut slow = CpuSet::new();
    let mut names: Vec<String> = Vec::new();
    for cpu in look.cores().iter() {
        match look.text(file(cpu, "scaling_governor")) {
            Ok(governor) => {
                if governor != "performance" {
                    // The CPU came out of a CpuSet, so it is within range.
                    let _ = slow.insert(cpu);
                }
                if !names.contains(&governor) {
                    names.push(governor);
                }
            }
            Err(unknown) => return unknown,
        }
    }
    let status = if slow.is_empty() { ReadingStatus::Ok } else { look.limits.slow_governor };
    Found::graded(status, names.join(", "), format!("cpupower -c {slow} frequency-set -g performance"))
}

fn frequency_range(look: &Look<'_>) -> Result<Found, Found> {
    let (mut free, mut ranges) = (CpuSet::new(), Vec::new());
    for cpu in look.cores().iter() {
        let (least, most) =
            (look.number(file(cpu, "scaling_min_freq"))?, look.number(file(cpu, "scaling_max_freq"))?);
        if least != most {
            // As above.
            let _ = free.insert(cpu);
        }
        let range = if least == most {
            format!("{} MHz", most / 1000)
        } else {
            format!("{} to {} MHz", least / 1000, most / 1000)
        };
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    let ranges = listed(&ranges);
    if free.is_empty() {
        return Ok(Found::ok(ranges));
    }
    let remedy =
        format!("cpupower -c {free} frequency-set -d FREQUENCY -u FREQUENCY, with the same one twice");
    Ok(look.untuned(format!("{}: {ranges}", named(&free)), remedy))
}

fn turbo(look: &Look<'_>) -> Found {
    let intel = look.text("/sys/devices/system/cpu/intel_pstate/no_turbo");
    let on = match (intel.as_deref(), look.text("/sys/devices/system/cpu/cpufreq/boost")) {
        (Ok("0"), _) => true,
        (Ok("1"), _) => false,
        (Ok(text), _) => {
            return super::check::odd(
                "/sys/devices/system/cpu/intel_pstate/no_turbo".as_ref(),
                text,
                "0 or 1",
            );
        }
        (Err(_), Ok(text)) if text == "0" || text == "1" => text == "1",
        (Err(_), Ok(text)) => {
            return super::check::odd("/sys/devices/system/cpu/cpufreq/boost".as_ref(), &text, "0 or 1");
        }
        (Err(_), Err(unknown)) => return unknown,
    };
    if !on {
        return Found::ok("off");
    }
    let remedy = "write 1 to /sys/devices/system/cpu/intel_pstate/no_turbo, or 0 to /sys/devices/system/cpu/cpufreq/boost";
    look.untuned("on", remedy)
}

/// The longest that a CPU may take to wake up, in microseconds, with the name of that state.
fn deepest(look: &Look<'_>, cpu: u32) -> Result<(i64, String), Found> {
    let folder = format!("/sys/devices/system/cpu/cpu{cpu}/cpuidle");
    let states = look.host.list(&folder).map_err(Found::unknown)?;
    // What a latency limit for this CPU forbids is not entered.
    let limit = match look.text(format!("/sys/devices/system/cpu/cpu{cpu}/power/pm_qos_resume_latency_us")) {
        Ok(text) if text == "n/a" => Some(0),
        Ok(text) => text.parse::<i64>().ok().filter(|limit| *limit > 0),
        Err(_) => None,
    };
    let mut worst = (0, "no idle state".to_owned());
    for state in states.iter().filter(|state| state.starts_with("state")).take(STATES_MAX) {
        let latency_us = look.number(format!("{folder}/{state}/latency"))?;
        let disabled = look.number(format!("{folder}/{state}/disable"))? != 0;
        if !disabled && limit.is_none_or(|limit| latency_us <= limit) && latency_us >= worst.0 {
            worst =
                (latency_us, look.text(format!("{folder}/{state}/name")).unwrap_or_else(|_| state.clone()));
        }
    }
    Ok(worst)
}

fn idle_states(look: &Look<'_>) -> Result<Found, Found> {
    let mut deep = CpuSet::new();
    let mut worst = (0, String::new());
    for cpu in look.cores().iter() {
        let (latency_us, name) = deepest(look, cpu)?;
        if latency_us > WAKE_UP_MAX_US {
            // As above.
            let _ = deep.insert(cpu);
        }
        if latency_us >= worst.0 {
            worst = (latency_us, name);
        }
    }
    let (latency_us, name) = worst;
    if deep.is_empty() {
        return Ok(Found::ok(format!("{name}, {latency_us} us at most")));
    }
    let remedy = format!(
        "hold /dev/cpu_dma_latency open with {WAKE_UP_MAX_US} while benches run, or `cpupower -c {deep} idle-set -D {WAKE_UP_MAX_US}`"
    );
    Ok(look.untuned(format!("{}: {name}, {latency_us} us to wake up", named(&deep)), remedy))
}

fn throttling(look: &Look<'_>) -> Result<Found, Found> {
    let (now, before, seconds) = look.counted()?;
    let (now, before) =
        (now.throttled.as_ref().map_err(Found::unknown)?, before.throttled.as_ref().map_err(Found::unknown)?);
    let times = now.saturating_sub(*before);
    if times == 0 {
        return Ok(Found::ok(format!("not in {seconds:.1} s")));
    }
    let value = format!("{times} times in {seconds:.1} s");
    Ok(look.spoilt(value, "mend the cooling or the power supply, or lower the clocks"))
}

/// The hottest sensor beside its own limit: name, heat and limit, in thousandths of a degree.
fn hottest(look: &Look<'_>) -> Result<Vec<(String, i64, Option<i64>)>, Found> {
    let mut seen = Vec::new();
    for chip in look.host.list("/sys/class/hwmon").map_err(Found::unknown)? {
        let folder = format!("/sys/class/hwmon/{chip}");
        let name = look.text(format!("{folder}/name")).unwrap_or_else(|_| chip.clone());
        for file in look.host.list(&folder).unwrap_or_default() {
            let Some(sensor) = file.strip_suffix("_input").filter(|sensor| sensor.starts_with("temp")) else {
                continue;
            };
            // A sensor that is not connected has no reading.
            let Ok(heat) = look.number(format!("{folder}/{file}")) else { continue };
            let limit =
                |kind: &str| look.number(format!("{folder}/{sensor}_{kind}")).ok().filter(|limit| *limit > 0);
            seen.push((format!("{name} {sensor}"), heat, limit("max").or_else(|| limit("crit"))));
        }
    }
    if seen.is_empty() {
        return Err(Found::unknown("no chip below /sys/class/hwmon tells a temperature"));
    }
    Ok(seen)
}

fn temperature(look: &Look<'_>) -> Result<Found, Found> {
    let seen = hottest(look)?;
    let told = |(name, heat, limit): &(String, i64, Option<i64>)| match limit {
        Some(limit) => format!("{name}: {} C of {} C", heat / 1000, limit / 1000),
        None => format!("{name}: {} C", heat / 1000),
    };
    let is_hot = |(_, heat, limit): &&(String, i64, Option<i64>)| {
        limit.is_some_and(|limit| heat.saturating_add(HEAT_MARGIN_MILLICELSIUS) >= limit)
    };
    let hot: Vec<String> = seen.iter().filter(is_hot).map(told).collect();
    if !hot.is_empty() {
        return Ok(look.untuned(listed(&hot), "let the box cool down; look at its fans and filters"));
    }
    let warmest = seen.iter().max_by_key(|(_, heat, _)| *heat);
    Ok(Found::ok(warmest.map(told).unwrap_or_default()))
}

fn power(look: &Look<'_>) -> Result<Found, Found> {
    let supplies = look.host.list("/sys/class/power_supply").unwrap_or_default();
    for supply in &supplies {
        let folder = format!("/sys/class/power_supply/{supply}");
        let is_mains = look.text(format!("{folder}/type")).is_ok_and(|kind| kind == "Mains");
        if is_mains && look.text(format!("{folder}/online")).is_ok_and(|online| online == "0") {
            return Ok(
                look.spoilt(format!("{supply} gives no power: the box runs on its battery"), "plug it in")
            );
        }
    }
    let caps = look.host.list("/sys/class/powercap").map_err(Found::unknown)?;
    let (mut told, mut capped) = (Vec::new(), Vec::new());
    // Of `intel-rapl:0`, not of the domains within it.
    for zone in caps.iter().filter(|zone| zone.matches(':').count() == 1) {
        let folder = format!("/sys/class/powercap/{zone}");
        let (Ok(limit), Ok(most)) = (
            look.number(format!("{folder}/constraint_0_power_limit_uw")),
            look.number(format!("{folder}/constraint_0_max_power_uw")),
        ) else {
            continue;
        };
        told.push(format!("{zone}: {} W of {} W", limit / 1_000_000, most / 1_000_000));
        if most > 0 && limit < most {
            capped.push(zone.clone());
        }
    }
    if told.is_empty() {
        return Err(Found::unknown("nothing below /sys/class/powercap tells a limit"));
    }
    let told = listed(&told);
    if capped.is_empty() {
        return Ok(Found::ok(told));
    }
    let remedy = format!("raise constraint_0_power_limit_uw of {}, or the firmware's limit", listed(&capped));
    Ok(look.untuned(told, remedy))
}

/// The slowest of the leased CPUs, as the agent's last probes of them saw it. Where none is known that is no reason to wait:
/// only an attempt makes one.
fn effective_speed(look: &Look<'_>) -> Result<Found, Found> {
    let file = look.scope.disk.join(MEMORY_FILE);
    let text = match look.host.read_head(&file, MEMORY_MAX_BYTES) {
        Ok(text) => text,
        Err(ReadError::Absent { .. }) => return Err(Found::not_yet(format!("no probe yet: {HOW_TO_PROBE}"))),
        Err(error @ (ReadError::Io { .. } | ReadError::Odd { .. })) => return Err(Found::unknown(error)),
    };
    // The next probe writes it anew.
    let torn = |error: serde_json::Error| {
        Found::not_yet(format!("{} does not tell what probes saw: {error}", file.display()))
    };
    let memory: ProbeMemory = serde_json::from_str(&text).map_err(torn)?;
    let boot_id = look.text("/proc/sys/kernel/random/boot_id")?;
    let now_s = uptime_s(look.host).map_err(Found::unknown)?;
    let slowest = memory
        .speeds(&boot_id)
        .filter(|(cpu, speed)| look.scope.cpus.contains(*cpu) && now_s - speed.uptime_s <= SPEED_HOLDS_S)
        .min_by(|(_, one), (_, other)| one.share_of_best.total_cmp(&other.share_of_best));
    let Some((cpu, speed)) = slowest else {
        let minutes = SPEED_HOLDS_S / 60.0;
        return Err(Found::not_yet(format!("no probe in the last {minutes:.0} min: {HOW_TO_PROBE}")));
    };
    let share = speed.share_of_best;
    let status = if share < look.limits.speed_fail_share {
        ReadingStatus::Fail
    } else if share < look.limits.speed_warn_share {
        ReadingStatus::Warn
    } else {
        ReadingStatus::Ok
    };
    let ago_s = now_s - speed.uptime_s;
    let value = format!("CPU {cpu}: {:.1} % of its best, {ago_s:.0} s ago", share * 100.0);
    let remedy =
        "let the box cool down, fix the frequency, keep the SMT sibling idle; `darwin job probe` looks again";
    Ok(Found::graded(status, value, remedy))
}
