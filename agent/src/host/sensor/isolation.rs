//! What may run on the leased cores beside the benches: tasks, the kernel's own work, interrupts.

use darwin_agent_core::topology::NodeId;
use darwin_shared::cpu::CpuSet;

use super::check::{Check, Found, Look, When, listed, named, or_unknown, tolerated};
use super::live::kib;
use crate::host::topology;

/// Device interrupts per second on leased cores that spoil a run.
const INTERRUPTS_FAIL_PER_S: f64 = 10.0;
/// Free memory of a node with leased cores that is warned of below this.
const NODE_FREE_WARN_BYTES: u64 = 512 << 20;
/// Queues of network devices that are looked at.
const QUEUES_MAX: usize = 2_000;
/// Interrupts that are looked at.
const IRQS_MAX: usize = 8_000;

pub(super) const CHECKS: &[Check] = &[
    Check::settled(
        "isolation",
        When::Always,
        "what the scheduler may put on a bench's CPU, it will",
        |look| or_unknown(isolation(look)),
    ),
    Check::settled(
        "nohz_full",
        When::Seldom,
        "the timer interrupts a core a hundred to a thousand times a second",
        |look| or_unknown(nohz_full(look)),
    ),
    Check::settled(
        "rcu_nocbs",
        When::Seldom,
        "the kernel's deferred work runs on the core that asked for it, in the bench's time",
        |look| or_unknown(rcu_nocbs(look)),
    ),
    Check::settled(
        "numa",
        When::Seldom,
        "a bench whose node is out of memory gets another's, 50 to 100 ns further away",
        |look| or_unknown(numa(look)),
    ),
    Check::settled(
        "core_kind",
        When::Seldom,
        "slow and fast cores of one box differ by half and more",
        core_kind,
    ),
    Check::settled(
        "interrupts",
        When::Seldom,
        "a device's interrupts stop the bench and bring work of their own",
        |look| or_unknown(interrupts(look)),
    ),
    Check::settled(
        "workqueues",
        When::Seldom,
        "the kernel's unbound work, such as writing back, comes in bursts on any CPU of its mask",
        |look| or_unknown(workqueues(look)),
    ),
    Check::settled(
        "packet_steering",
        When::Seldom,
        "network packets are worked on where their queue's mask says",
        |look| or_unknown(packet_steering(look)),
    ),
];

fn isolation(look: &Look<'_>) -> Result<Found, Found> {
    look.host.read("/sys/devices/system/cpu/isolated").map_err(Found::unknown)?;
    let isolated = topology::isolated(look.host).map_err(Found::unknown)?;
    let open = look.scope.cpus.difference(&isolated);
    if open.is_empty() {
        return Ok(Found::ok(format!("{}: isolated", named(&look.scope.cpus))));
    }
    let boot = format!("start the kernel with isolcpus={open} nohz_full={open} rcu_nocbs={open}");
    let some = look.scope.cpus.intersection(&isolated);
    let remedy = if some.is_empty() {
        boot
    } else {
        format!("{boot}, or lease no others: lease_cpus = \"{some}\" in agent.toml")
    };
    Ok(tolerated(look.limits.not_isolated, format!("{}: not isolated", named(&open)), remedy))
}

fn nohz_full(look: &Look<'_>) -> Result<Found, Found> {
    let quiet = look.cpus("/sys/devices/system/cpu/nohz_full")?;
    let ticking = look.scope.cpus.difference(&quiet);
    if ticking.is_empty() {
        return Ok(Found::ok(format!("{}: no tick while one task runs", named(&look.scope.cpus))));
    }
    let remedy = format!("start the kernel with nohz_full={}", look.scope.cpus);
    Ok(look.untuned(format!("{}: with a tick", named(&ticking)), remedy))
}

/// CPUs named by a boot option that has a list, with flags before it perhaps; `all` and no list mean every CPU.
fn boot_option(cmdline: &str, option: &str, every: &CpuSet) -> Result<CpuSet, String> {
    let mut cpus = CpuSet::new();
    for word in cmdline.split_whitespace() {
        let Some(rest) = word.strip_prefix(option) else { continue };
        let list = match rest.strip_prefix('=') {
            Some("all") => return Ok(every.clone()),
            Some(list) => list.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ','),
            None if rest.is_empty() => return Ok(every.clone()),
            None => continue,
        };
        let named: CpuSet = list
            .parse()
            .map_err(|why| format!("/proc/cmdline has `{word}`, which is not understood: {why}"))?;
        cpus = cpus.union(&named);
    }
    Ok(cpus)
}

fn rcu_nocbs(look: &Look<'_>) -> Result<Found, Found> {
    let cmdline = look.text("/proc/cmdline")?;
    let named_there = boot_option(&cmdline, "rcu_nocbs", &look.scope.cpus).map_err(Found::unknown)?;
    // A CPU without a tick has its callbacks taken off it as well.
    let implied = look.cpus("/sys/devices/system/cpu/nohz_full").unwrap_or_default();
    let covered = named_there.union(&implied);
    let open = look.scope.cpus.difference(&covered);
    if open.is_empty() {
        return Ok(Found::ok(format!("{}: callbacks run elsewhere", named(&look.scope.cpus))));
    }
    let remedy = format!("start the kernel with rcu_nocbs={}", look.scope.cpus);
    Ok(look.untuned(format!("{}: run their own callbacks", named(&open)), remedy))
}

fn numa(look: &Look<'_>) -> Result<Found, Found> {
    let (mut told, mut low) = (Vec::new(), Vec::new());
    for (NodeId(node), cpus) in &look.scope.nodes {
        let path = format!("/sys/devices/system/node/node{node}/meminfo");
        let text = look.text(&path)?;
        let lines: String = text
            .lines()
            .map(|line| line.trim_start_matches(&format!("Node {node} ")).to_owned() + "\n")
            .collect();
        let free = kib(&lines, "MemFree:")
            .ok_or_else(|| super::check::odd(path.as_ref(), &text, "text with a line `MemFree: ... kB`"))?;
        let free_bytes = free.saturating_mul(1024);
        told.push(format!("node {node} ({}): {} MiB free", named(cpus), free_bytes >> 20));
        if free_bytes < NODE_FREE_WARN_BYTES {
            low.push(node.to_string());
        }
    }
    let told = listed(&told);
    if low.is_empty() {
        return Ok(Found::ok(told));
    }
    let remedy =
        format!("free memory of node {}, such as its page cache; `numastat -m` shows it", listed(&low));
    Ok(look.untuned(told, remedy))
}

fn core_kind(look: &Look<'_>) -> Found {
    if look.scope.kinds.len() > 1 {
        let kinds = look.scope.kinds.iter().map(|(kind, cpus)| format!("{} at {}", named(cpus), kind.0));
        let kinds: Vec<String> = kinds.collect();
        return Found::ok(format!("{} of 1024; a lease never mixes them", listed(&kinds)));
    }
    let tells = |path: &str| look.host.exists(path);
    let first = look.scope.cpus.first().unwrap_or_default();
    if tells(&format!("/sys/devices/system/cpu/cpu{first}/cpu_capacity"))
        || tells("/sys/devices/cpu_core/cpus")
    {
        return Found::ok("one kind");
    }
    let fastest =
        |cpu: u32| look.number(format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq"));
    let speeds: Result<Vec<i64>, Found> = look.scope.cpus.iter().map(fastest).collect();
    match speeds {
        Ok(speeds) if speeds.iter().all(|speed| Some(speed) == speeds.first()) => {
            Found::ok("one kind, by their greatest frequency")
        }
        Ok(_) => Found::unknown(
            "the leased CPUs have different greatest frequencies, and the kernel does not tell kinds of cores",
        ),
        Err(unknown) => unknown,
    }
}

/// The interrupts that may come to these CPUs, by the masks that took effect.
fn aimed_at(look: &Look<'_>, cpus: &CpuSet) -> Result<Vec<String>, Found> {
    let irqs = look.host.list("/proc/irq").map_err(Found::unknown)?;
    let mut aimed = Vec::new();
    for irq in irqs.iter().filter(|irq| irq.bytes().all(|byte| byte.is_ascii_digit())).take(IRQS_MAX) {
        let list = look
            .cpus(format!("/proc/irq/{irq}/effective_affinity_list"))
            .ok()
            .filter(|list| !list.is_empty())
            .or_else(|| look.cpus(format!("/proc/irq/{irq}/smp_affinity_list")).ok());
        if list.is_some_and(|list| !list.is_disjoint(cpus)) {
            aimed.push(irq.clone());
        }
    }
    Ok(aimed)
}

fn interrupts(look: &Look<'_>) -> Result<Found, Found> {
    let aimed = aimed_at(look, &look.scope.cpus);
    let remedy = format!(
        "write {} to /proc/irq/NUMBER/smp_affinity_list for them, and keep irqbalance off {}",
        look.scope.housekeeping, look.scope.cpus
    );
    let cpus = named(&look.scope.cpus);
    let (now, before, seconds) = match look.counted() {
        Ok(counted) => counted,
        // Where they may come is known, how many came is not.
        Err(not_yet) => {
            let aimed = aimed.map_err(|_| not_yet)?;
            return Ok(match aimed.as_slice() {
                [] => Found::ok(format!("none may come to {cpus}")),
                aimed => {
                    look.untuned(format!("{} may come to {cpus}: {}", aimed.len(), listed(aimed)), remedy)
                }
            });
        }
    };
    let (now, before) = (
        now.interrupts.as_ref().map_err(Found::unknown)?,
        before.interrupts.as_ref().map_err(Found::unknown)?,
    );
    // Lines with a number are devices'; the others are the CPU's own: ticks, calls, errors.
    let devices = now.iter().filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_digit()));
    let came: Vec<(&String, u64)> = devices
        .map(|(name, count)| (name, count.saturating_sub(before.get(name).copied().unwrap_or(0))))
        .filter(|(_, came)| *came > 0)
        .collect();
    let rate = came.iter().map(|(_, came)| *came).sum::<u64>() as f64 / seconds;
    let names: Vec<String> = came.iter().map(|(name, _)| (*name).clone()).collect();
    if rate > 0.0 {
        let value = format!("{rate:.1} a second on {cpus}: {}", listed(&names));
        let found = if rate > INTERRUPTS_FAIL_PER_S { Look::spoilt } else { Look::untuned };
        return Ok(found(look, value, remedy));
    }
    match aimed {
        Ok(aimed) if !aimed.is_empty() => {
            let value = format!("none came to {cpus}; {} may: {}", aimed.len(), listed(&aimed));
            Ok(look.untuned(value, remedy))
        }
        Ok(_) | Err(_) => Ok(Found::ok(format!("none came to {cpus} in {seconds:.1} s"))),
    }
}

fn workqueues(look: &Look<'_>) -> Result<Found, Found> {
    const UNBOUND: &str = "/sys/devices/virtual/workqueue/cpumask";
    const WRITEBACK: &str = "/sys/bus/workqueue/devices/writeback/cpumask";
    let mut open = look.mask(UNBOUND)?.intersection(&look.scope.cpus);
    // Not every kernel shows the mask of writing back; it is within the other one.
    if let Ok(writeback) = look.mask(WRITEBACK) {
        open = open.union(&writeback.intersection(&look.scope.cpus));
    }
    if open.is_empty() {
        return Ok(Found::ok(format!("kept off {}", named(&look.scope.cpus))));
    }
    let remedy = format!("write a mask of {} alone to {UNBOUND} and {WRITEBACK}", look.scope.housekeeping);
    Ok(look.untuned(format!("may run on {}", named(&open)), remedy))
}

fn packet_steering(look: &Look<'_>) -> Result<Found, Found> {
    let devices = look.host.list("/sys/class/net").map_err(Found::unknown)?;
    let (mut seen, mut open) = (0usize, Vec::new());
    for device in devices {
        let folder = format!("/sys/class/net/{device}/queues");
        for queue in look.host.list(&folder).unwrap_or_default() {
            if seen >= QUEUES_MAX {
                break;
            }
            let file = if queue.starts_with("rx-") { "rps_cpus" } else { "xps_cpus" };
            let Ok(mask) = look.mask(format!("{folder}/{queue}/{file}")) else { continue };
            seen += 1;
            // Steering outgoing packets only chooses a queue; incoming ones are worked on there.
            if file == "rps_cpus" && !mask.is_disjoint(&look.scope.cpus) {
                open.push(format!("{device} {queue}"));
            }
        }
    }
    let cpus = named(&look.scope.cpus);
    if open.is_empty() {
        return Ok(Found::ok(format!("no queue of {seen} steers packets to {cpus}")));
    }
    let remedy = "write 0, or a mask of housekeeping CPUs, to their rps_cpus";
    Ok(look.untuned(format!("{} steer packets to {cpus}: {}", open.len(), listed(&open)), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_options_are_read_with_their_flags() {
        let every: CpuSet = "0-7".parse().unwrap();
        let read = |cmdline: &str| boot_option(cmdline, "isolcpus", &every).map(|cpus| cpus.to_string());
        assert_eq!(read("quiet isolcpus=2-3 ro"), Ok("2-3".to_owned()));
        assert_eq!(read("isolcpus=nohz,domain,managed_irq,4,6"), Ok("4,6".to_owned()));
        assert_eq!(read("isolcpus=all"), Ok("0-7".to_owned()));
        assert_eq!(read("isolcpus"), Ok("0-7".to_owned()));
        assert_eq!(read("isolcpusx=1 quiet"), Ok(String::new()));
        assert!(read("isolcpus=5-x").unwrap_err().contains("`isolcpus=5-x`, which is not understood"));
    }
}
