//! The life of an agent on its box, as others can see it: a lock on its scratch folder.
//!
//! The agent and every launcher hold the folder open, so the lock ends when all of them are gone, and with them all that
//! they ran. The next life of the same agent waits for that before it touches anything; other agents tell by it what
//! nobody will ever clean up.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::agent::AgentError;
use crate::exec::{CgroupRoots, reap_leftovers};
use crate::run::{remove_all, scratch_name, scratch_root};

/// How long the end of an earlier life is waited for: a launcher's own bound on killing, and as much again.
const EARLIER_LIFE_BOUND: Duration = Duration::from_secs(20);
/// Between two looks at whether it is over; only at a start right after a crash.
const EARLIER_LIFE_PAUSE: Duration = Duration::from_millis(10);
/// Dead agents that are cleaned up after at one start; the next one goes on.
const MAX_SWEPT: usize = 256;

/// A claimed scratch folder.
#[derive(Debug)]
pub(crate) struct Life {
    folder: PathBuf,
    lock: Arc<OwnedFd>,
}

impl Life {
    /// Claims the scratch folder of this state folder, once nothing of an earlier life runs any more.
    pub(crate) async fn begin(state_dir: &Path) -> Result<Self, AgentError> {
        let folder = scratch_root(state_dir);
        let failed = |source| AgentError::Folder { path: folder.clone(), source };
        let until = Instant::now() + EARLIER_LIFE_BOUND;
        loop {
            fs::create_dir_all(&folder).map_err(failed)?;
            if let Some(lock) = claim(&folder).map_err(failed)? {
                return Ok(Self { lock: Arc::new(lock.into()), folder });
            }
            if Instant::now() >= until {
                return Err(AgentError::StillRunning { folder, bound: EARLIER_LIFE_BOUND });
            }
            tokio::time::sleep(EARLIER_LIFE_PAUSE).await;
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The lock, for launchers to hold with us.
    pub(crate) fn lock(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.lock)
    }

    /// Removes the folder. To be called when the launchers are gone.
    pub(crate) fn end(self) {
        // Only what it left in memory: at worst a later start removes it.
        let _ = remove_all(&self.folder);
    }
}

/// The lock on a folder, or none if somebody has it or the folder has just been replaced.
fn claim(folder: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let same =
        fs::metadata(folder).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino()));
    Ok(same.then_some(file))
}

/// Cleans up after agents that died and were never started again: their scratch folders, and their cgroups with
/// whatever may be in them. Says after how many.
pub(crate) fn sweep(own: &Path, cgroups: &CgroupRoots) -> usize {
    let Some(Ok(entries)) = own.parent().map(fs::read_dir) else { return 0 };
    let others = entries.flatten().map(|entry| entry.path()).filter(|path| path != own);
    let dead = others.filter_map(|path| {
        let name = scratch_name(&path)?.to_owned();
        // What cannot be claimed is alive, or somebody else's to clean.
        let lock = claim(&path).ok().flatten()?;
        Some((path, name, lock))
    });
    let mut swept = 0;
    for (path, name, lock) in dead.take(MAX_SWEPT) {
        let cleaned =
            reap_leftovers(cgroups, &name).map_err(io::Error::other).and_then(|_| remove_all(&path));
        match cleaned {
            Ok(()) => swept += 1,
            Err(error) => tracing::debug!(folder = %path.display(), %error, "a dead agent's leftovers stay"),
        }
        drop(lock);
    }
    swept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_life_begins_when_the_one_before_is_over() {
        let state = tempfile::tempdir().unwrap();
        let first = Life::begin(state.path()).await.unwrap();
        let launcher = first.lock();
        let folder = first.folder().to_owned();
        drop(first);
        assert!(claim(&folder).unwrap().is_none(), "its launcher lives");
        let later = async {
            tokio::task::yield_now().await;
            drop(launcher);
        };
        let (second, ()) = tokio::join!(Life::begin(state.path()), later);
        let second = second.unwrap();
        assert_eq!(second.folder(), folder);
        second.end();
        assert!(!folder.exists());
    }

    #[test]
    fn only_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |digit: &str| dir.path().join(format!("darwin-agent-{}", digit.repeat(16)));
        let (own, alive, dead) = (folder("a"), folder("b"), folder("c"));
        let foreign = [dir.path().join("darwin-agent-x"), dir.path().join("d".repeat(16))];
        for folder in [&own, &alive, &dead].into_iter().chain(&foreign) {
            fs::create_dir_all(folder.join("m0000")).unwrap();
        }
        let lock = claim(&alive).unwrap().unwrap();
        assert_eq!(sweep(&own, &CgroupRoots::none()), 1);
        assert!(
            own.exists() && alive.exists() && !dead.exists() && foreign.iter().all(|folder| folder.exists())
        );
        drop(lock);
        assert_eq!(sweep(&own, &CgroupRoots::none()), 1);
        assert!(!alive.exists());
    }
}
