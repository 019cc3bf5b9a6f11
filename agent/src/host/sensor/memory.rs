//! Memory and disk: room, and what moves pages while a bench runs.

use darwin_shared::fleet::ReadingStatus;

use super::check::{Check, Found, Look, When, or_unknown};
use super::counters::memory_controllers;
use super::live::kib;

pub(super) const CHECKS: &[Check] = &[
    Check::passing(
        "memory",
        When::Always,
        "a box short of memory reclaims and swaps in the middle of a run",
        |look| or_unknown(memory(look)),
    ),
    Check::passing("disk", When::Always, "results are written here before they travel", |look| {
        or_unknown(disk(look))
    }),
    Check::settled(
        "huge_pages",
        When::Seldom,
        "transparent huge pages come by luck, and the kernel stops a process to make room for them",
        |look| or_unknown(huge_pages(look)),
    ),
    Check::settled(
        "page_merging",
        When::Seldom,
        "the kernel's search for equal pages takes CPU time, and writing to one faults",
        |look| or_unknown(page_merging(look)),
    ),
    Check::settled(
        "numa_balancing",
        When::Seldom,
        "the kernel takes pages away to see who uses them, and each use then faults",
        |look| or_unknown(numa_balancing(look)),
    ),
    Check::passing("swap", When::Seldom, "a page that comes back from disk takes milliseconds", |look| {
        or_unknown(swap(look))
    }),
    Check::passing(
        "stalls",
        When::Seldom,
        "a process that must free memory before it gets some stands still meanwhile",
        |look| or_unknown(stalls(look)),
    ),
    Check::settled(
        "memory_errors",
        When::Seldom,
        "each error that is corrected stops a core; one that is not makes results wrong",
        |look| or_unknown(memory_errors(look)),
    ),
];

fn at_least(name: &str, bytes: u64, min_bytes: u64, what: &str) -> Found {
    let status = if bytes >= min_bytes { ReadingStatus::Ok } else { ReadingStatus::Fail };
    let remedy = format!("free some {name}: at least {} MiB must be {what}", min_bytes >> 20);
    Found::graded(status, format!("{} MiB {what}", bytes >> 20), remedy)
}

fn memory(look: &Look<'_>) -> Result<Found, Found> {
    let text = look.text("/proc/meminfo")?;
    let kib = kib(&text, "MemAvailable:")
        .ok_or_else(|| Found::unknown("/proc/meminfo has no MemAvailable in kB"))?;
    Ok(at_least("memory", kib.saturating_mul(1024), look.limits.memory_min_bytes, "available"))
}

fn disk(look: &Look<'_>) -> Result<Found, Found> {
    let disk = &look.scope.disk;
    // An agent that never ran has no folder yet; it will lie where the nearest one above it lies.
    let there = disk.ancestors().find(|folder| look.host.exists(folder)).unwrap_or(disk);
    let free = look.host.free_bytes(there).map_err(Found::unknown)?;
    Ok(at_least("disk", free, look.limits.disk_min_bytes, &format!("free for {}", disk.display())))
}

/// The word in brackets of a file like `always [madvise] never`.
fn chosen(look: &Look<'_>, path: &str) -> Result<String, Found> {
    let text = look.text(path)?;
    let word =
        text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(word, _)| word.to_owned());
    word.ok_or_else(|| super::check::odd(path.as_ref(), &text, "text with one word in brackets"))
}

fn huge_pages(look: &Look<'_>) -> Result<Found, Found> {
    const FOLDER: &str = "/sys/kernel/mm/transparent_hugepage";
    let enabled = chosen(look, &format!("{FOLDER}/enabled"))?;
    if enabled == "never" {
        return Ok(Found::ok("never"));
    }
    let defrag = chosen(look, &format!("{FOLDER}/defrag"))?;
    let value = format!("{enabled}, made room for: {defrag}");
    if enabled == "always" || defrag == "always" {
        let remedy = format!("write madvise to {FOLDER}/enabled and to {FOLDER}/defrag");
        return Ok(look.untuned(value, remedy));
    }
    Ok(Found::ok(value))
}

fn page_merging(look: &Look<'_>) -> Result<Found, Found> {
    const PATH: &str = "/sys/kernel/mm/ksm/run";
    Ok(match look.number(PATH)? {
        0 => Found::ok("off"),
        2 => Found::ok("off, and undone"),
        1 => look.untuned("on", format!("write 2 to {PATH}")),
        other => super::check::odd(PATH.as_ref(), &other.to_string(), "0, 1 or 2"),
    })
}

fn numa_balancing(look: &Look<'_>) -> Result<Found, Found> {
    const PATH: &str = "/proc/sys/kernel/numa_balancing";
    Ok(match look.number(PATH)? {
        0 => Found::ok("off"),
        1..=3 => look.untuned("on", format!("write 0 to {PATH}")),
        other => super::check::odd(PATH.as_ref(), &other.to_string(), "a number from 0 to 3"),
    })
}

/// By how much one of the kernel's counters grew between two whole readings.
fn grown(look: &Look<'_>, names: &[&str]) -> Result<(u64, f64), Found> {
    let (now, before, seconds) = look.counted()?;
    let now = now.vmstat.as_ref().map_err(Found::unknown)?;
    let before = before.vmstat.as_ref().map_err(Found::unknown)?;
    let of = |name: &str| {
        let grown = |all: &std::collections::BTreeMap<String, u64>| {
            all.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, count)| *count).sum::<u64>()
        };
        grown(now).saturating_sub(grown(before))
    };
    let known = |name: &&&str| now.keys().any(|key| key.starts_with(**name));
    if names.iter().filter(known).count() == 0 {
        return Err(Found::unknown(format!("/proc/vmstat has no {}", names.join(", "))));
    }
    Ok((names.iter().map(|name| of(name)).sum(), seconds))
}

fn swap(look: &Look<'_>) -> Result<Found, Found> {
    let swaps = look.text("/proc/swaps")?;
    let places = swaps.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
    if places == 0 {
        return Ok(Found::ok("none"));
    }
    let moved = match grown(look, &["pswpin", "pswpout"]) {
        Ok((0, seconds)) => format!("; nothing moved in {seconds:.1} s"),
        Ok((pages, seconds)) => {
            let value = format!("{pages} pages in {seconds:.1} s");
            return Ok(look.spoilt(value, "stop what takes the memory, or swapoff -a"));
        }
        Err(_) => String::new(),
    };
    let meminfo = look.text("/proc/meminfo")?;
    let available = kib(&meminfo, "MemAvailable:").unwrap_or(u64::MAX).saturating_mul(1024);
    let value = format!("{places} in use{moved}");
    if available < look.limits.memory_min_bytes {
        let remedy =
            "free some memory, or swapoff -a: a bench's own memory is kept from it where a cgroup can";
        return Ok(look.untuned(format!("{value}; little memory is available"), remedy));
    }
    Ok(Found::ok(value))
}

fn stalls(look: &Look<'_>) -> Result<Found, Found> {
    let (times, seconds) = grown(look, &["allocstall", "compact_stall"])?;
    let value = format!("{times} in {seconds:.1} s");
    if times == 0 {
        return Ok(Found::ok(value));
    }
    Ok(look.untuned(value, "free some memory, or give huge pages up (`huge_pages`)"))
}

fn memory_errors(look: &Look<'_>) -> Result<Found, Found> {
    let mut uncorrected = 0i64;
    for controller in memory_controllers(look.host).map_err(Found::unknown)? {
        uncorrected = uncorrected.saturating_add(look.number(format!("{controller}/ue_count"))?);
    }
    if uncorrected > 0 {
        let value = format!("{uncorrected} could not be corrected");
        return Ok(Found::fail(value, "replace the memory module; `edac-util -v` names it"));
    }
    let Ok((now, before, seconds)) = look.counted() else {
        return Ok(Found::ok("none that could not be corrected"));
    };
    let (now, before) =
        (now.corrected.as_ref().map_err(Found::unknown)?, before.corrected.as_ref().map_err(Found::unknown)?);
    let corrected = now.saturating_sub(*before);
    let value = format!("{corrected} corrected in {seconds:.1} s");
    if corrected == 0 {
        return Ok(Found::ok(value));
    }
    Ok(look.untuned(value, "watch it grow with `edac-util -v`; replace the module soon"))
}
