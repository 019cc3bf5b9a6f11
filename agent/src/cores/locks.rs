//! Keeping off the cores of the other agents of this box.
//!
//! ```text
//!   one file for the box:   byte n          locked by who has CPU n
//!                           byte 1 Mi + n   locked by who waits for CPU n
//! ```
//! The locks belong to the open file, which every launcher holds open too: a lock ends when its owner gives it back, or
//! when agent and launchers are all gone and with them whatever ran on the core. An agent that has had its turn while
//! another waits lets that one go first.
//!
//! It never waits: whoever is denied asks again. It is told the time. What is in the bytes of the file is the business of
//! `marks`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use darwin_shared::cpu::CpuSet;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use thiserror::Error;
use tokio::task::JoinHandle;

use super::marks::{self, LifeId};

/// Where the bytes of those who wait begin: beyond every CPU's own.
const WAITING: i64 = 1 << 20;
/// How long an agent takes the same cores again and again before it looks whether another one waits.
const TURN: Duration = Duration::from_millis(50);
/// How long it then leaves them to the other, who asks several times within it.
const GIVE_WAY: Duration = Duration::from_millis(250);
/// How long one who waits and does not come (it is stopped, or wants more than these) is passed over.
const PASS_OVER: Duration = Duration::from_secs(5);
/// The file's name, in a folder that every agent of the box can use.
const NAME: &str = "darwin-cores";
/// Folders for it, the best one first.
const FOLDERS: [&str; 2] = ["/dev/shm", "/run/lock"];
/// Tries to open a file that another agent makes in the same moment.
const OPEN_TRIES: u32 = 5;
/// Between two of them.
const OPEN_PAUSE: Duration = Duration::from_millis(10);

/// Why cores cannot be locked against other agents.
#[derive(Debug, Error)]
#[error(
    "cannot lock cores against the other agents of this box in {}: {source}; `core_locks` must name a file that the \
     agent may read and write",
    path.display()
)]
pub struct LocksError {
    /// The file.
    path: PathBuf,
    /// Why.
    source: io::Error,
}

/// What came of asking for cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nobody else has them.
    Ours,
    /// Others have these, or are to have them first.
    Elsewhere(CpuSet),
}

/// How this agent stands with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It takes what is free, and looks whether others wait at this time.
    Ours { look_at: Duration },
    /// It lets others go first, for no longer than this.
    Theirs { until: Duration },
    /// It was denied: what is free is its own to take.
    Next,
}

/// The locks of one agent.
#[derive(Debug)]
pub(crate) struct CoreLocks {
    pub(super) file: File,
    path: PathBuf,
    /// The box's CPUs.
    online: CpuSet,
    /// What each slot uses.
    used: BTreeMap<u32, CpuSet>,
    /// What is locked: all that is used, and what was a moment ago.
    held: CpuSet,
    /// What others are told that we wait for.
    awaited: CpuSet,
    /// What others are told that containers of ours may run on.
    pub(super) marked: CpuSet,
    /// Those who see to what is left of lives that ended; each says whether nothing is.
    pub(super) sweeps: BTreeMap<LifeId, JoinHandle<bool>>,
    turn: Turn,
}

impl CoreLocks {
    /// The locks in this file, or in the one that all agents use that were told nothing else.
    pub(crate) fn open(file: Option<&Path>, state_dir: &Path, online: CpuSet) -> Result<Self, LocksError> {
        let last = file.map_or_else(|| state_dir.join("cores"), Path::to_owned);
        let usual = if file.is_none() { open_usual() } else { None };
        let (file, path) = match usual {
            Some(usual) => usual,
            None => match open_shared(&last) {
                Ok(file) => (file, last),
                Err(source) => return Err(LocksError { path: last, source }),
            },
        };
        let turn = Turn::Ours { look_at: Duration::ZERO };
        let (used, held, awaited) = (BTreeMap::new(), CpuSet::new(), CpuSet::new());
        let (marked, sweeps) = (CpuSet::new(), BTreeMap::new());
        Ok(Self { file, path, online, used, held, awaited, marked, sweeps, turn })
    }

    /// The open file, for a process that is to hold the locks with us.
    pub(crate) fn share(&self) -> Result<OwnedFd, LocksError> {
        let failed = |source| LocksError { path: self.path.clone(), source };
        Ok(self.file.try_clone().map_err(failed)?.into())
    }

    /// Takes CPUs for a slot. Time is counted from any fixed instant.
    pub(crate) fn take(&mut self, slot: u32, cpus: &CpuSet, now: Duration) -> io::Result<Taken> {
        if self.lets_others_go_first(cpus, now)? {
            return Ok(Taken::Elsewhere(cpus.clone()));
        }
        let wanted = cpus.difference(&self.held);
        let mut locked = CpuSet::new();
        for range in ranges(&wanted) {
            let ours = self.lock_at(0, libc::F_WRLCK, range);
            if !matches!(ours, Ok(true)) {
                self.unlock(0, &locked)?;
                ours?;
                self.wait_for(cpus)?;
                self.turn = Turn::Next;
                return Ok(Taken::Elsewhere(self.of_others(0, &self.online)?));
            }
            for cpu in range.0..=range.1 {
                // It came out of a set, so it is within range.
                let _ = locked.insert(cpu);
            }
        }
        self.held = self.held.union(&locked);
        self.used.insert(slot, cpus.clone());
        if self.turn == Turn::Next {
            self.turn = Turn::Ours { look_at: now + TURN };
        }
        self.wait_no_more()?;
        Ok(Taken::Ours)
    }

    /// The slot uses its CPUs no more. Others can have them after [`CoreLocks::settle`], unless they are taken again
    /// before.
    pub(crate) fn give_back(&mut self, slot: u32) {
        self.used.remove(&slot);
    }

    /// Gives to others what no slot uses.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let idle = self.used.values().fold(self.held.clone(), |idle, cpus| idle.difference(cpus));
        if idle.is_empty() {
            return Ok(());
        }
        let marked = idle.intersection(&self.marked);
        if !marked.is_empty() {
            marks::write(&self.file, &marked, None)?;
            self.marked = self.marked.difference(&marked);
        }
        self.held = self.held.difference(&idle);
        self.unlock(0, &idle)
    }

    /// Nothing of ours waits for cores any more.
    pub(crate) fn wait_no_more(&mut self) -> io::Result<()> {
        let awaited = std::mem::take(&mut self.awaited);
        if awaited.is_empty() { Ok(()) } else { self.unlock(WAITING, &awaited) }
    }

    fn wait_for(&mut self, cpus: &CpuSet) -> io::Result<()> {
        if self.awaited == *cpus {
            return Ok(());
        }
        self.wait_no_more()?;
        for (first, last) in ranges(cpus) {
            // A shared lock: any number can wait.
            self.lock_at(WAITING, libc::F_RDLCK, (first, last))?;
        }
        self.awaited = cpus.clone();
        Ok(())
    }

    /// Whether others wait for these cores, and it is their turn.
    fn lets_others_go_first(&mut self, cpus: &CpuSet, now: Duration) -> io::Result<bool> {
        match self.turn {
            Turn::Next => return Ok(false),
            Turn::Ours { look_at } if now < look_at => return Ok(false),
            Turn::Ours { .. } | Turn::Theirs { .. } => {}
        }
        let until = match self.turn {
            Turn::Theirs { until } => until,
            Turn::Ours { .. } | Turn::Next => now + GIVE_WAY,
        };
        if self.of_others(WAITING, cpus)?.is_empty() {
            self.turn = Turn::Ours { look_at: now + TURN };
            return Ok(false);
        }
        if now >= until {
            self.turn = Turn::Ours { look_at: now + PASS_OVER };
            return Ok(false);
        }
        self.turn = Turn::Theirs { until };
        Ok(true)
    }

    /// Those of the CPUs whose bytes others have locked.
    fn of_others(&self, base: i64, cpus: &CpuSet) -> io::Result<CpuSet> {
        let mut theirs = CpuSet::new();
        for cpu in cpus.iter() {
            let mut lock = range_lock(base, libc::F_WRLCK, (cpu, cpu));
            fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock))?;
            if i32::from(lock.l_type) != libc::F_UNLCK {
                // It came out of a set, so it is within range.
                let _ = theirs.insert(cpu);
            }
        }
        Ok(theirs)
    }

    /// Locks a range, or says that others have some of it.
    fn lock_at(&self, base: i64, kind: i32, range: (u32, u32)) -> io::Result<bool> {
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&range_lock(base, kind, range))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn unlock(&self, base: i64, cpus: &CpuSet) -> io::Result<()> {
        for range in ranges(cpus) {
            self.lock_at(base, libc::F_UNLCK, range)?;
        }
        Ok(())
    }
}

/// The runs of neighbouring CPUs of a set: each is one system call.
fn ranges(cpus: &CpuSet) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus.iter() {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            Some(_) | None => runs.push((cpu, cpu)),
        }
    }
    runs
}

fn range_lock(base: i64, kind: i32, (first, last): (u32, u32)) -> libc::flock {
    libc::flock {
        // The kernel's numbers for kinds and origins are small.
        l_type: i16::try_from(kind).unwrap_or(i16::MAX),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or(i16::MAX),
        l_start: base + i64::from(first),
        l_len: i64::from(last - first) + 1,
        l_pid: 0,
    }
}

/// The file that the box's agents share, whoever's they are; none if there is no folder that all of them can use.
fn open_usual() -> Option<(File, PathBuf)> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    for folder in FOLDERS.iter().map(PathBuf::from).chain(own) {
        let path = folder.join(NAME);
        match open_shared(&path) {
            Ok(file) => return Some((file, path)),
            Err(error) => {
                tracing::warn!(
                    folder = %folder.display(), %error,
                    "agents of other users may not see which cores this one uses; `core_locks` can name a file for all"
                );
            }
        }
    }
    None
}

/// Opens a file to which everybody on the box may set locks, and makes it if need be.
fn open_shared(path: &Path) -> io::Result<File> {
    let mut failed = None;
    for attempt in 0..OPEN_TRIES {
        if attempt > 0 {
            std::thread::sleep(OPEN_PAUSE);
        }
        let open = |new| {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            OpenOptions::new().read(true).write(true).create_new(new).custom_flags(flags).open(path)
        };
        // Not in one step: in a folder for everybody, the kernel may refuse to "make" what someone else has made.
        let opened = match open(false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => open(true).and_then(|file| {
                file.set_permissions(Permissions::from_mode(0o666))?;
                Ok(file)
            }),
            opened => opened,
        };
        match opened {
            Ok(file) if file.metadata()?.is_file() => return Ok(file),
            Ok(_) => return Err(io::Error::other(format!("{} is not an ordinary file", path.display()))),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::PermissionDenied) =>
            {
                failed = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::ErrorKind::PermissionDenied.into()))
}

#[cfg(test)]
#[path = "locks_tests.rs"]
mod tests;
