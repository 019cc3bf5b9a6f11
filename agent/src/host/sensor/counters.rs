//! What the kernel counts since the start of the box, as far as two readings of it say more than one.

use std::collections::BTreeMap;

use darwin_agent_core::interrupts::InterruptTable;
use darwin_shared::cpu::CpuSet;

use super::firmware::smi_counts;
use super::log::KernelLog;
use crate::host::fs::HostFs;
use crate::host::stat::{Throttled, throttle_count, uptime_s};

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
    /// The kernel's log, with what it complained of since the reading before.
    pub(super) log: Result<KernelLog, String>,
    /// How often the firmware took each of the leased cores.
    pub(super) smis: Result<BTreeMap<u32, u64>, String>,
}

impl Counters {
    /// Reads them for these CPUs; `before` is the reading before this one.
    pub(super) fn read(host: &HostFs, cpus: &CpuSet, before: Option<&Self>) -> Self {
        Self {
            uptime_s: uptime_s(host).map_err(|error| error.to_string()),
            interrupts: interrupts(host, cpus),
            vmstat: vmstat(host),
            throttled: throttled(host, cpus),
            corrected: corrected(host),
            log: KernelLog::read(host, before.and_then(|before| before.log.as_ref().ok())),
            smis: smi_counts(host, cpus),
        }
    }
}

fn interrupts(host: &HostFs, cpus: &CpuSet) -> Result<BTreeMap<String, u64>, String> {
    let text = host.read_head("/proc/interrupts", INTERRUPTS_MAX_BYTES).map_err(|error| error.to_string())?;
    let table = InterruptTable::of(&text, |cpu| cpus.contains(cpu));
    let table = table.ok_or("/proc/interrupts does not begin with a line of CPUs")?;
    // Some lines (`ERR`, `MIS`) have one sum for all CPUs.
    let count = |line| table.counts(line).flatten().sum();
    Ok(table.lines().map(|line| (line.name.to_owned(), count(line))).collect())
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
        for kind in [Throttled::Core, Throttled::Package] {
            let count = throttle_count(host, cpu, kind).map_err(|error| error.to_string())?;
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
