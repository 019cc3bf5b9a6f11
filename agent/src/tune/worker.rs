//! The thread that changes the box when the first attempt takes cores, and puts it back when none has had any for a while.
//!
//! A thread of its own, on the housekeeping cores: moving every task of a box may take seconds, and the agent must go on
//! renewing its leases meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use darwin_agent_core::tune::{Choices, Form, Knob, Place, Want, Wish, wishes};
use darwin_shared::cpu::CpuSet;
use tokio::sync::oneshot;

use super::changes::{Changes, Told, What};
use super::partition::Partitions;
use crate::exec::SHIELD_NAME;
use crate::host::HostFs;

/// The most names in a line of facts; the log has all.
const MAX_NAMES: usize = 16;

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Ask {
    /// An attempt has taken cores.
    Take { lease: String, cpus: CpuSet, node: u32, partition: bool, reply: oneshot::Sender<Taken> },
    /// It has given them back.
    GiveBack { lease: String },
    /// The agent ends.
    Close,
}

/// What an attempt was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    /// Whether its cores are an isolated partition, or why not; none if that was not tried.
    pub(crate) partition: Option<Result<(), String>>,
    /// Whether all other tasks of the box were moved off.
    pub(crate) shielded: bool,
    /// What was changed for it, and what could not be, in words.
    pub(crate) facts: Vec<String>,
}

/// Everything that the thread knows.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) host: HostFs,
    pub(super) state_dir: PathBuf,
    /// The file by whose lock one agent of a box changes it at a time.
    pub(super) lock_file: PathBuf,
    pub(super) choices: Choices,
    /// All cores that are leased out, with siblings, and the CPUs for everything else.
    pub(super) cpus: CpuSet,
    pub(super) others: CpuSet,
    pub(super) partitions: Option<Partitions>,
    /// The set whose tasks are moved, where that is asked for.
    pub(super) shield_root: Option<Result<PathBuf, String>>,
    pub(super) keep: Duration,
}

/// What is in force.
#[derive(Debug, Default)]
struct Held {
    leases: BTreeSet<String>,
    partitions: BTreeMap<String, CpuSet>,
    changes: Option<Changes>,
    /// Only held: it keeps other agents of the box from changing it meanwhile.
    lock: Option<File>,
    shielded: bool,
    facts: Vec<String>,
    begun: bool,
}

impl Worker {
    /// Serves until nobody can ask any more; then everything is put back.
    pub(super) fn serve(self, asks: &Receiver<Ask>) {
        let mut held = Held::default();
        let mut idle_since: Option<Instant> = None;
        loop {
            let asked = match idle_since.filter(|_| held.begun || !held.partitions.is_empty()) {
                Some(since) => {
                    asks.recv_timeout((since + self.keep).saturating_duration_since(Instant::now()))
                }
                None => asks.recv().map_err(RecvTimeoutError::from),
            };
            match asked {
                Ok(Ask::Take { lease, cpus, node, partition, reply }) => {
                    idle_since = None;
                    let taken = self.take(&mut held, &lease, &cpus, node, partition);
                    held.leases.insert(lease);
                    // Whoever asked may have been stopped meanwhile; its hold gives it back.
                    let _ = reply.send(taken);
                }
                Ok(Ask::GiveBack { lease }) => {
                    held.leases.remove(&lease);
                    idle_since = held.leases.is_empty().then(Instant::now);
                }
                Err(RecvTimeoutError::Timeout) => {
                    idle_since = None;
                    self.put_back(&mut held);
                }
                Ok(Ask::Close) | Err(RecvTimeoutError::Disconnected) => return self.put_back(&mut held),
            }
        }
    }

    fn take(&self, held: &mut Held, lease: &str, cpus: &CpuSet, node: u32, partition: bool) -> Taken {
        if !held.begun {
            self.begin(held);
        }
        let partition = partition.then(|| {
            let partitions = self.partitions.as_ref().ok_or("cgroup v2 has no cpusets here")?;
            // Of an attempt before this one.
            let idle = |other: &str, theirs: &CpuSet| {
                other != lease && !held.leases.contains(other) && !theirs.is_disjoint(cpus)
            };
            let in_the_way: Vec<String> = held
                .partitions
                .iter()
                .filter(|(other, theirs)| idle(other, theirs))
                .map(|(other, _)| other.clone())
                .collect();
            for other in in_the_way {
                partitions.end(&other);
                held.partitions.remove(&other);
            }
            partitions.make(lease, cpus, node)?;
            held.partitions.insert(lease.to_owned(), cpus.clone());
            Ok(())
        });
        Taken { partition, shielded: held.shielded, facts: held.facts.clone() }
    }

    fn wishes(&self) -> Vec<Wish> {
        let listed = self.host.list("/proc/irq").unwrap_or_default();
        let interrupts = if self.choices.interrupts {
            listed.iter().filter_map(|name| name.parse().ok()).collect()
        } else {
            Vec::new()
        };
        let place = Place { cpus: self.cpus.clone(), others: self.others.clone(), interrupts };
        let mut all = wishes(&self.choices, &place);
        if let Some(partitions) = &self.partitions {
            all.extend(partitions.wishes(&self.cpus));
        }
        if let Some(Ok(root)) = &self.shield_root {
            all.extend(shield(root, &self.others));
        }
        all
    }

    /// Changes what is changed for the whole box.
    fn begin(&self, held: &mut Held) {
        held.begun = true;
        held.facts.clear();
        let all = self.wishes();
        if let Some(Err(why)) = &self.shield_root {
            held.facts.push(format!("no shield: {why}"));
        }
        if all.is_empty() {
            return;
        }
        match lock(&self.lock_file) {
            Ok(lock) => held.lock = Some(lock),
            Err(why) => {
                tracing::warn!(why, "nothing is changed for the whole box");
                held.facts.push(format!("not tuned: {why}"));
                return;
            }
        }
        let made = Changes::open(self.host.clone(), &self.state_dir).and_then(|(mut changes, _)| {
            let told = changes.make(all);
            held.changes = Some(changes);
            told
        });
        match made {
            Ok(told) => {
                for told in &told {
                    tracing::info!("{told}");
                }
                held.facts.extend(facts(&told));
            }
            Err(error) => {
                tracing::warn!(%error, "the journal cannot be written, so that nothing more is changed");
                held.facts.push(format!("not tuned: the journal cannot be written: {error}"));
            }
        }
        if let (Some(Ok(root)), Some(changes)) = (&self.shield_root, &held.changes) {
            let open = changes.journal().latest_first().any(|(_, entry)| entry.knob.form == Form::Shield);
            let apart = self.host.read(root.join(BALANCE)).is_ok_and(|text| text == "0");
            held.shielded = open && apart;
            held.facts.extend(self.overlapping(root));
        }
    }

    /// Other cpusets that the leased cores are balanced in all the same.
    fn overlapping(&self, root: &std::path::Path) -> Option<String> {
        let names = self.host.list(root).ok()?;
        let read = |name: &str, file: &str| self.host.read(root.join(name).join(file)).ok();
        let overlaps = |name: &&String| {
            let cpus = read(name, "cpuset.cpus").and_then(|text| text.parse::<CpuSet>().ok());
            name.as_str() != SHIELD_NAME
                && read(name, BALANCE).as_deref() == Some("1")
                && cpus.is_some_and(|cpus| !cpus.is_disjoint(&self.cpus))
        };
        let sets: Vec<&str> = names.iter().filter(overlaps).map(String::as_str).take(MAX_NAMES).collect();
        (!sets.is_empty()).then(|| format!("still spread over the leased cores: cpuset {}", sets.join(", ")))
    }

    /// Puts everything back. What cannot be put back now is tried again at the next start.
    fn put_back(&self, held: &mut Held) {
        if let Some(partitions) = &self.partitions {
            let ended = std::mem::take(&mut held.partitions);
            for lease in ended.keys() {
                partitions.end(lease);
            }
            if !ended.is_empty() {
                partitions.give_up();
            }
        }
        if let Some(mut changes) = held.changes.take() {
            match changes.undo() {
                Ok(told) => told.iter().for_each(log_back),
                Err(error) => {
                    tracing::error!(%error, "not all that was changed is put back; `darwin-agent restore` tries again");
                }
            }
        }
        drop(held.lock.take());
        *held = Held { leases: std::mem::take(&mut held.leases), ..Held::default() };
    }
}

/// Says how putting back went.
pub(super) fn log_back(told: &Told) {
    match told.what {
        What::Set(_) | What::Undone(_) | What::Impossible(_) => tracing::info!("{told}"),
        What::Foreign(_) | What::Stuck(_) => tracing::warn!("{told}"),
    }
}

/// Whether the scheduler spreads tasks over all CPUs of a set.
const BALANCE: &str = "cpuset.sched_load_balance";

/// Everything that can be moved goes into a set of the other CPUs, and then the scheduler no longer spreads tasks over
/// all: the leased cores are on their own. Never `cpu_exclusive`, which breaks whatever else asks for CPUs on the box.
fn shield(root: &std::path::Path, others: &CpuSet) -> [Wish; 2] {
    let set = root.join(SHIELD_NAME).to_string_lossy().into_owned();
    let balance = root.join(BALANCE).to_string_lossy().into_owned();
    [
        Wish { knob: Knob::new(set, Form::Shield), want: Want::Value(others.to_string()) },
        Wish { knob: Knob::new(balance, Form::Word), want: Want::Value("0".to_owned()) },
    ]
}

/// What was changed and what could not be, shortly.
fn facts(told: &[Told]) -> Vec<String> {
    let names = |wanted: fn(&What) -> bool| {
        let mut names: Vec<&str> = Vec::new();
        for told in told.iter().filter(|told| wanted(&told.what)) {
            let name = told.name();
            if !names.contains(&name) && names.len() < MAX_NAMES {
                names.push(name);
            }
        }
        names.join(", ")
    };
    let set = names(|what| matches!(what, What::Set(_)));
    let not = names(|what| matches!(what, What::Impossible(_)));
    let line = |what: &str, names: String| (!names.is_empty()).then(|| format!("{what} {names}"));
    line("tuned:", set).into_iter().chain(line("could not be tuned:", not)).collect()
}

fn lock(path: &std::path::Path) -> Result<File, String> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| format!("{} cannot be locked: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err("another agent of this box has changed it for itself".to_owned()),
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
