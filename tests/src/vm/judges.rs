//! What must hold on a virtual box.

use super::Seen;

/// What must hold, and what was found where it does not.
pub(super) type Judgement = (&'static str, Result<(), String>);

/// A box that nobody has set up: isolated partitions of cgroup v2, made and taken away again.
pub(super) fn partition(seen: &Seen) -> Vec<Judgement> {
    let nothing = |name: &str| equals(seen, name, "");
    vec![
        (
            "whole cores are leased, one of each node, and none of the CPU 0",
            has(seen, "agents", &["2 (2,6)"]),
        ),
        ("a job that requires isolation is measured", has(seen, "measured.code", &["code 0"])),
        (
            "its report says how: an isolated partition",
            facts(seen, "measured", "isolated", &["an isolated partition", "CPUs 2 of node 0"]),
        ),
        (
            "the bench is in it: one CPU of its core, the memory of its node, the sibling kept idle",
            has(
                seen,
                "look",
                &[
                    "Cpus_allowed_list:\t2\n",
                    "Mems_allowed_list:\t0\n",
                    "partition: isolated",
                    "isolated: 2-3",
                ],
            ),
        ),
        ("when nothing is measured the cores are the scheduler's again", nothing("isolated.after")),
        ("and nothing is reserved any more", nothing("exclusive.after")),
        (
            "in a partition a bench may be SCHED_FIFO for as long as it likes",
            facts(seen, "fifo", "isolated", &["SCHED_FIFO 10"]),
        ),
        ("and is", has(seen, "fifo.look", &["policy: 1", "partition: isolated"])),
        ("while a bench runs its core is set apart", equals(seen, "isolated.before.kill", "2-3")),
        (
            "`restore` ends what a killed agent left, and puts all back",
            has(seen, "restored", &["ended what the agent had left running", "code 0"]),
        ),
        ("so that no core is set apart", nothing("isolated.restored")),
        ("and nothing is reserved", nothing("exclusive.restored")),
        ("the next life of a killed agent does the same", nothing("isolated.next.life")),
        ("no bench is left", nothing("left")),
        (
            "and it measures again, in a partition",
            facts(seen, "again", "isolated", &["an isolated partition"]),
        ),
        ("an agent that ends leaves no core set apart", nothing("isolated.end")),
        ("nothing reserved", nothing("exclusive.end")),
        ("and no cgroup of a lease", lacks(seen, "cgroups.end", "g0000")),
        ("nothing was waited for in vain", not_told(seen, "waited")),
    ]
}

/// A box whose cores were set apart at boot: these are leased, and nothing is changed.
pub(super) fn boot(seen: &Seen) -> Vec<Judgement> {
    let row = |name: &str| -> Result<(), String> {
        let sensor = seen.json("sensor");
        let found = sensor["readings"].as_array().into_iter().flatten().find(|row| row["name"] == name);
        match found {
            Some(row) if row["status"] == "ok" => Ok(()),
            Some(row) => Err(row.to_string()),
            None => Err(format!("no {name} in {sensor}")),
        }
    };
    vec![
        ("the cores that are set apart are leased", has(seen, "agents", &["2 (2,6)", "isolated"])),
        ("the sensor sees that they are isolated", row("isolation")),
        ("that they have no tick", row("nohz_full")),
        ("and that others run their callbacks", row("rcu_nocbs")),
        ("a job that requires isolation is measured", has(seen, "measured.code", &["code 0"])),
        (
            "its report says how: isolated, with nothing changed",
            facts(seen, "measured", "isolated", &["CPUs 2 of node 0"]),
        ),
        ("which holds for what is reserved", equals(seen, "exclusive", "")),
        ("the bench is on its core", has(seen, "look", &["Cpus_allowed_list:\t2\n", "isolated: 2-3,6-7"])),
        (
            "a bench may be SCHED_FIFO for as long as it likes",
            facts(seen, "fifo", "isolated", &["SCHED_FIFO 10"]),
        ),
        ("and is", has(seen, "fifo.look", &["policy: 1"])),
        ("nothing was waited for in vain", not_told(seen, "waited")),
    ]
}

fn has(seen: &Seen, name: &str, all: &[&str]) -> Result<(), String> {
    let text = format!("{}\n", seen.text(name));
    if all.iter().all(|part| text.contains(part)) { Ok(()) } else { Err(format!("{name}: {text}")) }
}

fn lacks(seen: &Seen, name: &str, part: &str) -> Result<(), String> {
    let text = seen.told(name).unwrap_or(part);
    if text.contains(part) { Err(format!("{name}: {text}")) } else { Ok(()) }
}

fn equals(seen: &Seen, name: &str, wanted: &str) -> Result<(), String> {
    match seen.told(name) {
        Some(text) if text == wanted => Ok(()),
        Some(text) => Err(format!("{name}: {text}, not `{wanted}`")),
        None => Err(format!("{name} was not told")),
    }
}

fn not_told(seen: &Seen, name: &str) -> Result<(), String> {
    seen.told(name).map_or(Ok(()), |text| Err(text.to_owned()))
}

/// Whether a report tells of this isolation.
fn facts(seen: &Seen, name: &str, level: &str, all: &[&str]) -> Result<(), String> {
    let report = seen.json(name);
    let told = report["isolation_facts"].to_string();
    if report["isolation"] == level && all.iter().all(|fact| told.contains(fact)) {
        return Ok(());
    }
    Err(format!("{name}: {} {told} {}", report["isolation"], seen.text(&format!("{name}.code"))))
}
