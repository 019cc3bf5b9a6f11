//! What the box is, and whom it belongs to.

use darwin_shared::ids::Digest;

use super::check::{Check, Found, Lasting, Look, When, listed, or_unknown, tolerated};
use super::tasks::processes;
use crate::host::fs::{HostFs, ReadError};

/// The first CPU's entry is within this; the whole file grows with the number of CPUs and is slow to make.
pub(super) const FIRST_CPU_BYTES: u64 = 8 << 10;
/// Letters of a fingerprint that are told: enough to tell boxes apart.
const FINGERPRINT_CHARS: usize = 16;
/// Names of processes (at most 15 letters, as the kernel keeps them) that load or measure a box.
const HARNESSES: &[&str] = &[
    "benchexec",
    "benchmarkoor",
    "fio",
    "hyperfine",
    "iperf3",
    "krun",
    "mprime",
    "perf",
    "pyperf",
    "runexec",
    "stress",
    "stress-ng",
    "sysbench",
    "turbostat",
    "y-cruncher",
];

pub(super) const CHECKS: &[Check] = &[
    Check::settled(
        "fingerprint",
        When::Once,
        "firmware, microcode, kernel and boot options move results by more than the changes under test",
        |look| or_unknown(fingerprint(look)),
    ),
    Check::settled(
        "virtual_machine",
        When::Once,
        "a virtual machine has neighbours that it cannot see",
        virtual_machine,
    ),
    Check::passing("harness", When::Seldom, "two benchmarks on one box measure each other", |look| {
        or_unknown(harness(look))
    }),
    Check {
        name: "production",
        when: When::Seldom,
        lasting: Lasting::Passing,
        why: "a bench must never share a box with live trading",
        read: |look| or_unknown(production(look)),
    },
];

/// What of the box results depend on, in words, each part with its file's text or `unknown`.
fn fingerprint(look: &Look<'_>) -> Result<Found, Found> {
    let version = look.text("/proc/version")?;
    let cpuinfo = look.host.read_head("/proc/cpuinfo", FIRST_CPU_BYTES).map_err(Found::unknown)?;
    let field = |name: &str| {
        let line = cpuinfo.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let optional = |path: &str| look.text(path).unwrap_or_else(|_| "unknown".to_owned());
    let microcode = field("microcode");
    let bios = optional("/sys/class/dmi/id/bios_version");
    let vulnerabilities = look.host.list("/sys/devices/system/cpu/vulnerabilities").unwrap_or_default();
    let mitigations = vulnerabilities.iter().map(|name| {
        format!("{name}={}", optional(&format!("/sys/devices/system/cpu/vulnerabilities/{name}")))
    });
    let parts = [
        version,
        optional("/proc/cmdline"),
        field("model name"),
        microcode.clone(),
        bios.clone(),
        optional("/sys/class/dmi/id/product_name"),
    ];
    let whole: Vec<String> = parts.into_iter().chain(mitigations).collect();
    let digest = Digest::of(whole.join("\n").as_bytes()).to_string();
    let hex = digest.rsplit(':').next().unwrap_or_default();
    let short: String = hex.chars().take(FINGERPRINT_CHARS).collect();
    let kernel = optional("/proc/sys/kernel/osrelease");
    let told = format!("{short} (kernel {kernel}, microcode {microcode}, BIOS {bios})");
    Ok(match &look.policy.approved {
        None => Found::ok(format!("{told}; none is approved")),
        Some(approved) if *approved == short => Found::ok(told),
        Some(approved) => Found::fail(
            format!("{told}; approved is {approved}"),
            format!(
                "find out what changed; if it may stand, calibrate anew and set `approved = \"{short}\"` below [sensor]"
            ),
        ),
    })
}

fn virtual_machine(look: &Look<'_>) -> Found {
    match hypervisor(look) {
        Ok(None) => Found::ok("no"),
        Ok(Some(kind)) => tolerated(
            look.limits.virtual_machine,
            format!("yes, {kind}"),
            "use bare metal, or give this box a pool of its own",
        ),
        Err(error) => Found::unknown(error),
    }
}

/// The hypervisor's name where there is one.
fn hypervisor(look: &Look<'_>) -> Result<Option<String>, ReadError> {
    if let Some(kind) = hypervisor_type(look.host) {
        return Ok(Some(kind));
    }
    let virtual_machine = is_virtual(&look.host.read_head("/proc/cpuinfo", FIRST_CPU_BYTES)?);
    let vendor = look
        .text("/sys/class/dmi/id/sys_vendor")
        .unwrap_or_else(|_| "of a kind that it does not tell".into());
    Ok(virtual_machine.then_some(vendor))
}

/// What a hypervisor that tells says of its kind.
fn hypervisor_type(host: &HostFs) -> Option<String> {
    host.read("/sys/hypervisor/type").ok().filter(|kind| !kind.is_empty())
}

/// Whether the box is a virtual machine, whose CPUs somebody can take from it; not where that cannot be read.
pub fn is_virtual_machine(host: &HostFs) -> bool {
    let cpuinfo = host.read_head("/proc/cpuinfo", FIRST_CPU_BYTES);
    hypervisor_type(host).is_some() || cpuinfo.is_ok_and(|cpuinfo| is_virtual(&cpuinfo))
}

/// Whether a CPU's entry in `/proc/cpuinfo` is that of a virtual one.
pub(super) fn is_virtual(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

fn harness(look: &Look<'_>) -> Result<Found, Found> {
    let (seen, all) = beside(look, |name| HARNESSES.contains(&name))?;
    if seen.is_empty() {
        return Ok(Found::ok(format!("none among {all} processes")));
    }
    Ok(look.spoilt(listed(&seen), "wait until it is done, or stop it"))
}

fn production(look: &Look<'_>) -> Result<Found, Found> {
    let guarded = &look.policy.production;
    if guarded.is_empty() {
        return Ok(Found::ok("none is named; `production = [\"NAME\"]` below [sensor] would be watched for"));
    }
    let (seen, all) = beside(look, |name| guarded.iter().any(|of| is_named(name, of)))?;
    if seen.is_empty() {
        return Ok(Found::ok(format!("{} not among {all} processes", guarded.join(", "))));
    }
    Ok(Found::fail(
        listed(&seen),
        "measure when it does not run, or on another box; nothing here may disturb it",
    ))
}

/// Whether a process's name, of which the kernel keeps 15 bytes, is this one.
fn is_named(kept: &str, name: &str) -> bool {
    kept == name || (kept.len() == 15 && name.starts_with(kept))
}

/// The processes whose name is wanted, and how many there are in all.
fn beside(look: &Look<'_>, wanted: impl Fn(&str) -> bool) -> Result<(Vec<String>, usize), Found> {
    let all = processes(look)?;
    let seen = all.iter().filter(|process| wanted(&process.name));
    Ok((seen.map(|process| format!("{} (process {})", process.name, process.pid)).collect(), all.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_machine_is_known_by_its_cpu() {
        let is_virtual = |tree: &str| {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(tree);
            is_virtual_machine(&HostFs::new(root))
        };
        assert!(is_virtual("cloud-vm"));
        assert!(!is_virtual("intel-2s") && !is_virtual("epyc") && !is_virtual("no-such-box"));
    }
}
