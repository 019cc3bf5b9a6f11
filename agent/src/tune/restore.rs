//! Undoing what an earlier life of the agent left changed.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use super::changes::{Changes, Told, What};
use super::disk;
use super::worker::log_back;
use crate::exec::{CgroupError, CgroupRoots, Reaped, reap_leftovers};
use crate::host::HostFs;
use crate::run::short_name;

/// Why nothing was restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The journal is in use.
    #[error(
        "an agent uses {}: it puts back what it has changed by itself when it has nothing more to measure, and when it \
         ends (SIGTERM); stop it first",
        .0.display()
    )]
    InUse(PathBuf),
    /// What the agent left running cannot be ended.
    #[error("what the agent left running cannot be ended: {0}")]
    Leftovers(#[from] CgroupError),
    /// The folder or the journal cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What restoring came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    reaped: Reaped,
    damaged: Vec<String>,
    told: Vec<Told>,
}

impl Restored {
    /// Whether everything is as it was before the agent changed it, as far as is known.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty()
            && self.told.iter().all(|told| matches!(told.what, What::Undone(_) | What::Impossible(_)))
    }
}

impl fmt::Display for Restored {
    /// A line for each change.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("nothing to put back: nothing of this agent's is changed on the box");
        }
        let damaged = self
            .damaged
            .iter()
            .map(|line| format!("the journal: {line}: what it was about is not known, and is not put back"));
        let Reaped { killed, removed } = self.reaped;
        let reaped = (killed + removed > 0).then(|| {
            format!(
                "ended what the agent had left running: {}, {}",
                counted(killed, "process", "processes"),
                counted(removed, "cgroup", "cgroups")
            )
        });
        let lines: Vec<String> =
            reaped.into_iter().chain(damaged).chain(self.told.iter().map(ToString::to_string)).collect();
        f.write_str(&lines.join("\n"))
    }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Ends what the agent of this state folder left running and puts back what it left changed, if that agent does not run.
pub fn restore(host: &HostFs, state_dir: &Path) -> Result<Restored, RestoreError> {
    let failed = |path: PathBuf| move |source| RestoreError::Io { path, source };
    if !state_dir.is_dir() {
        return Err(failed(state_dir.to_owned())(io::ErrorKind::NotFound.into()));
    }
    let lock_path = state_dir.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let _lock: Flock<File> =
        Flock::lock(file.map_err(failed(lock_path.clone()))?, FlockArg::LockExclusiveNonblock).map_err(
            |(_, error)| match error {
                nix::Error::EWOULDBLOCK => RestoreError::InUse(state_dir.to_owned()),
                other => failed(lock_path)(other.into()),
            },
        )?;
    // First: partitions end with their cgroups, and what is reserved for them cannot be given back before.
    let reaped = reap_leftovers(&CgroupRoots::written(state_dir), &short_name(state_dir))?;
    Ok(Restored { reaped, ..restore_as_owner(host, state_dir)? })
}

/// The same, for whoever has the folder's lock.
pub(crate) fn restore_as_owner(host: &HostFs, state_dir: &Path) -> Result<Restored, RestoreError> {
    let path = disk::path(state_dir);
    if !path.exists() {
        return Ok(Restored::default());
    }
    let undone = Changes::open(host.clone(), state_dir).and_then(|(mut changes, damaged)| {
        let told = changes.undo()?;
        Ok(Restored { damaged, told, ..Restored::default() })
    });
    undone.map_err(|source| RestoreError::Io { path, source })
}

/// Puts back what an earlier life of this agent left changed, and says so. What cannot be put back does not keep the
/// agent from running.
pub(crate) fn restored_at_start(host: &HostFs, state_dir: &Path) {
    match restore_as_owner(host, state_dir) {
        Ok(Restored { damaged, told, reaped: _ }) => {
            for line in &damaged {
                tracing::warn!("the journal of changes: {line}; what it was about is not put back");
            }
            if !told.is_empty() {
                tracing::warn!(changes = told.len(), "an earlier life of this agent left the box changed");
            }
            told.iter().for_each(log_back);
        }
        Err(error) => tracing::error!(%error, "what an earlier life changed on the box is not put back"),
    }
}
