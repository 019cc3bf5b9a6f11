//! What the kernel counts since the start of the box, as far as two readings of it say more than one.

use std::collections::BTreeMap;

use darwin_shared::cpu::CpuSet;

use crate::host::fs::HostFs;

/// `/proc/interrupts` grows with CPUs times interrupts; a box with 256 CPUs and some thousands stays within.
const INTERRUPTS_MAX_BYTES: u64 = 16 << 20;

/// One reading. What cannot be read says why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Counters {
    /// Seconds since the start of the box.
    pub(super) uptime_s: Result<f64, String>,
    /// Interrupts that the leased cores took, by their number or name.
    pub(super) interrupts: Result<BTreeMap<String, u64>, String>,
    /// The kernel's counters of memory, by name.
    pub(super) vmstat: Result<BTreeMap<String, u64>, String>,
    /// How often the leased cores or their packages were throttled.
    pub(super) throttled: Result<u64, String>,
    /// Memory errors that were corrected.
    pub(super) corrected: Result<u64, String>,
}

impl Counters {
    /// Reads them for these CPUs.
    pub(super) fn read(host: &HostFs, cpus: &CpuSet) -> Self {
        Self {
            uptime_s: uptime(host),
            interrupts: interrupts(host, cpus),
            vmstat: vmstat(host),
            throttled: throttled(host, cpus),
            corrected: corrected(host),
        }
    }
}

fn uptime(host: &HostFs) -> Result<f64, String> {
    let text = host.read("/proc/uptime").map_err(|error| error.to_string())?;
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    first.ok_or_else(|| format!("/proc/uptime says `{}`", text.chars().take(60).collect::<String>()))
}

fn interrupts(host: &HostFs, cpus: &CpuSet) -> Result<BTreeMap<String, u64>, String> {
    let text = host.read_head("/proc/interrupts", INTERRUPTS_MAX_BYTES).map_err(|error| error.to_string())?;
    let mut lines = text.lines();
    let head: Option<Vec<u32>> = lines
        .next()
        .map(|line| line.split_whitespace().map(|word| word.strip_prefix("CPU")?.parse().ok()).collect())
        .unwrap_or_default();
    let columns = head.ok_or("/proc/interrupts does not begin with a line of CPUs")?;
    let mut counts = BTreeMap::new();
    for line in lines {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let words = columns.iter().zip(rest.split_whitespace());
        let ours = words.filter(|(cpu, _)| cpus.contains(**cpu));
        // Some lines (`ERR`, `MIS`) have one sum for all CPUs.
        let count = ours.filter_map(|(_, word)| word.parse::<u64>().ok()).sum();
        counts.insert(name.trim().to_owned(), count);
    }
    Ok(counts)
}

fn vmstat(host: &HostFs) -> Result<BTreeMap<String, u64>, String> {
    let text = host.read("/proc/vmstat").map_err(|error| error.to_string())?;
    let pair = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(pair).collect())
}

fn throttled(host: &HostFs, cpus: &CpuSet) -> Result<u64, String> {
    let mut sum = 0u64;
    for cpu in cpus.iter() {
        for kind in ["core", "package"] {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/{kind}_throttle_count");
            let count: u64 = host.parse(path, "a count").map_err(|error| error.to_string())?;
            sum = sum.saturating_add(count);
        }
    }
    Ok(sum)
}

fn corrected(host: &HostFs) -> Result<u64, String> {
    let mut sum = 0u64;
    for controller in memory_controllers(host)? {
        let count: u64 =
            host.parse(format!("{controller}/ce_count"), "a count").map_err(|error| error.to_string())?;
        sum = sum.saturating_add(count);
    }
    Ok(sum)
}

/// The folders of the memory controllers that count errors, or why there is none.
pub(super) fn memory_controllers(host: &HostFs) -> Result<Vec<String>, String> {
    const FOLDER: &str = "/sys/devices/system/edac/mc";
    let names = host.list(FOLDER).map_err(|error| error.to_string())?;
    let is_controller = |name: &&String| {
        name.strip_prefix("mc").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let folders: Vec<String> =
        names.iter().filter(is_controller).map(|name| format!("{FOLDER}/{name}")).collect();
    if folders.is_empty() {
        return Err(format!("{FOLDER} names no memory controller"));
    }
    Ok(folders)
}
