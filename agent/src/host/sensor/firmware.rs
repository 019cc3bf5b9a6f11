//! What the firmware does behind the kernel's back.

use std::collections::BTreeMap;

use darwin_shared::cpu::CpuSet;

use super::check::{Check, Found, Look, When, or_unknown};
use super::identity::{FIRST_CPU_BYTES, is_virtual};
use crate::host::fs::HostFs;

/// The register in which Intel's CPUs count system management interrupts (SDM, volume 4), and the part of it that counts.
const SMI_COUNT: u64 = 0x34;
const SMI_COUNT_BITS: u64 = 0xffff_ffff;

pub(super) const CHECKS: &[Check] = &[Check::passing(
    "smi_count",
    When::Seldom,
    "firmware that takes over (an SMI) stops every core, and no counter of the kernel's shows it",
    |look| or_unknown(smi_count(look)),
)];

/// How often the firmware took each of these CPUs since the start of the box, or why that is not known.
pub(super) fn smi_counts(host: &HostFs, cpus: &CpuSet) -> Result<BTreeMap<u32, u64>, String> {
    let cpuinfo = host.read_head("/proc/cpuinfo", FIRST_CPU_BYTES).map_err(|error| error.to_string())?;
    let vendor = cpuinfo.lines().find(|line| line.starts_with("vendor_id"));
    if vendor.is_none_or(|line| !line.ends_with("GenuineIntel")) {
        return Err("only Intel's CPUs count it in a register (MSR 0x34)".to_owned());
    }
    if is_virtual(&cpuinfo) {
        return Err("a virtual machine does not see what its host's firmware does".to_owned());
    }
    let count = |cpu: u32| {
        let register = host.register(format!("/dev/cpu/{cpu}/msr"), SMI_COUNT);
        register.map(|count| (cpu, count & SMI_COUNT_BITS)).map_err(|error| error.to_string())
    };
    cpus.iter().map(count).collect()
}

fn smi_count(look: &Look<'_>) -> Result<Found, Found> {
    let (now, before, seconds) = look.counted()?;
    let (now, before) =
        (now.smis.as_ref().map_err(Found::unknown)?, before.smis.as_ref().map_err(Found::unknown)?);
    let grown =
        |(cpu, count): (&u32, &u64)| before.get(cpu).map_or(0, |before| count.saturating_sub(*before));
    // One stops all of them, and each counts it.
    let times = now.iter().map(grown).max().unwrap_or(0);
    if times == 0 {
        return Ok(Found::ok(format!("none in {seconds:.1} s")));
    }
    let remedy = "in the BIOS: its settings for low latency; off: legacy USB, power capping, what polls for errors. A newer BIOS \
                  may help";
    Ok(look.spoilt(format!("{times} in {seconds:.1} s"), remedy))
}
