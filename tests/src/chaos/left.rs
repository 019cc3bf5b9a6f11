//! What an agent may leave behind, and must not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::sight::{Role, Seen, holders, is_locked};
use super::subject::Subject;
use super::watcher::Knobs;
use crate::images::{Images, docker};

/// Where the agent's groups are in each hierarchy.
const OUR_DIR: &str = "darwin";

/// The agent's groups in every hierarchy, by their path below its own one, with the processes in each.
fn cgroups(short: &str) -> Vec<(PathBuf, String, Vec<String>)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo");
    let mounts =
        mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let own = read("/proc/self/cgroup");
    let own: BTreeSet<&str> = own.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    let bases: BTreeSet<PathBuf> = mounts
        .flat_map(|mount| own.iter().map(move |own| Path::new(mount).join(own.trim_start_matches('/'))))
        .map(|base| base.join(OUR_DIR).join(short))
        .collect();
    let mut found = Vec::new();
    for base in bases {
        let mut open = vec![base.clone()];
        while let Some(dir) = open.pop().filter(|dir| dir.is_dir()) {
            let below = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
            open.extend(below.filter(|path| path.is_dir()));
            let members = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            let members = members.lines().map(str::to_owned).collect();
            let name = dir.strip_prefix(&base).unwrap_or(&dir).display().to_string();
            found.push((dir, name, members));
        }
    }
    found
}

/// Whether a slot of the agent has a group of this name.
fn is_of_a_slot(name: &str) -> bool {
    let part = |part: &str| {
        let (letter, number) = part.split_at_checked(1).unwrap_or_default();
        matches!(letter, "g" | "m" | "n" | "s")
            && number.len() == 4
            && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    name.is_empty() || (name.split('/').count() <= 2 && name.split('/').all(part))
}

/// What an agent that has just started, and that nobody gives work yet, has of its earlier life.
pub(crate) fn of_earlier_life(subject: &Subject<'_>, ours: &[Seen], knobs: &Knobs) -> Result<Vec<String>> {
    let mut left = older_processes(subject, ours)?;
    let benches =
        ours.iter().filter(|seen| seen.role.is_on_cores() && seen.container.is_none() && seen.lives());
    left.extend(benches.map(|seen| format!("there is no work, and there is {seen}")));
    for (dir, name, members) in cgroups(&subject.short) {
        if !is_of_a_slot(&name) {
            left.push(format!("a cgroup of no slot: {}", dir.display()));
        }
        if !members.is_empty() {
            left.push(format!("in {} are processes: {}", dir.display(), members.join(" ")));
        }
    }
    left.extend(knobs.changed());
    Ok(left)
}

/// What of an earlier life may take its time: a container that the daemon was just asked to start may appear late. A guard
/// looks for such again and again, and holds the cores meanwhile.
pub(crate) fn of_its_guard(subject: &Subject<'_>, ours: &[Seen], docker: bool) -> Result<Vec<String>> {
    let born = subject.born()?;
    let own = |seen: &&Seen| seen.role == Role::Launcher || (seen.role == Role::Guard && seen.start >= born);
    let mut left: Vec<String> =
        ours.iter().filter(|seen| !own(seen) && seen.lives()).map(ToString::to_string).collect();
    if docker {
        left.extend(containers(subject)?);
    }
    left.extend(locked(subject)?);
    Ok(left)
}

/// Cores that are locked, with those who may have done it.
fn locked(subject: &Subject<'_>) -> Result<Option<String>> {
    let told = || format!("cores are locked, and the file is open in {}", holders(&subject.locks));
    Ok(is_locked(&subject.locks)?.then(told))
}

/// Processes that are older than the agent, but for what the guard of its earlier life sees to.
pub(crate) fn older_processes(subject: &Subject<'_>, ours: &[Seen]) -> Result<Vec<String>> {
    let born = subject.born()?;
    let older = ours.iter().filter(|seen| {
        seen.role != Role::Guard && seen.container.is_none() && seen.start < born && seen.lives()
    });
    Ok(older.map(|seen| format!("older than the agent: {seen}")).collect())
}

fn containers(subject: &Subject<'_>) -> Result<Vec<String>> {
    Ok(Images::containers(&subject.id)?.iter().map(|id| format!("a container: {id}")).collect())
}

/// What is left when the agent has ended, and will not be started again.
pub(crate) fn of_all(
    subject: &Subject<'_>,
    ours: &[Seen],
    knobs: &Knobs,
    loaded: Option<&str>,
) -> Result<Vec<String>> {
    let mut left = of_the_dead(subject, ours, loaded.is_some())?;
    left.extend(cgroups(&subject.short).iter().map(|(dir, ..)| format!("a cgroup: {}", dir.display())));
    left.extend(knobs.changed());
    if subject.scratch.exists() {
        left.push(format!("the scratch folder {}", subject.scratch.display()));
    }
    if let Some(loaded) = loaded {
        let images = docker(&["images", "--all", "--no-trunc", "--format", "{{.Repository}} {{.ID}}"])?;
        let ours =
            images.lines().filter(|line| line.contains(&subject.repository()) || line.contains(loaded));
        left.extend(ours.map(|image| format!("an image: {image}")));
    }
    Ok(left)
}

/// What still runs or is held though the agent is dead and nobody starts it again.
pub(crate) fn of_the_dead(subject: &Subject<'_>, ours: &[Seen], docker: bool) -> Result<Vec<String>> {
    let mut left: Vec<String> = ours.iter().filter(|seen| seen.lives()).map(ToString::to_string).collect();
    left.extend(locked(subject)?);
    if docker {
        left.extend(containers(subject)?);
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_names() {
        assert!(["", "g0000", "g0000/m0000", "g0001/n0001", "s0000"].map(is_of_a_slot).iter().all(|is| *is));
        assert!(!["x", "g0000/m0000/x", "g00", "lease", "s000a"].map(is_of_a_slot).iter().any(|is| *is));
    }
}
