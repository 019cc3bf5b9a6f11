//! The slot's cgroups as one launch needs them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::cgroup::{CgroupError, SlotCgroups, renew, write};
use super::super::protocol::{Failure, Launch, Step, Took};
use super::super::sys;

/// Where v2 keeps "no limit".
const NO_LIMIT: &str = "max";

/// How a bench gets into the v2 leaf.
#[derive(Debug)]
enum Entry {
    /// It is born there; the folder is held open.
    Born(OwnedFd),
    /// It writes itself into it, which takes longer.
    Joined,
}

/// The slot's leaves, opened once.
#[derive(Debug, Default)]
pub(super) struct Slot {
    cgroups: SlotCgroups,
    entry: Option<Entry>,
    /// Which folders the leaves were when they were last made.
    identity: Vec<Option<u64>>,
    /// Whether the v2 leaf was given limits that the next launch did not ask for.
    limited: bool,
}

/// A launch's way into its cgroups.
#[derive(Debug)]
pub(super) struct Joins {
    files: Vec<File>,
    pub(super) took: Took,
}

impl Joins {
    pub(super) fn fds(&self) -> Vec<RawFd> {
        self.files.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Adds a cgroup that must be joined by writing.
    pub(super) fn add(&mut self, dir: &Path) -> io::Result<()> {
        self.files.push(procs(dir)?);
        Ok(())
    }
}

impl Slot {
    pub(super) fn new(cgroups: SlotCgroups) -> Self {
        let entry = cgroups.v2.as_deref().map(enter);
        Self { identity: cgroups.identity(), cgroups, entry, limited: false }
    }

    /// The leaf that a bench is born into.
    pub(super) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        match &self.entry {
            Some(Entry::Born(dir)) => Some(dir.as_fd()),
            Some(Entry::Joined) | None => None,
        }
    }

    /// The leaf's folder.
    pub(super) fn leaf_dir(&self) -> Option<&Path> {
        self.entry.as_ref().and(self.cgroups.v2.as_deref())
    }

    /// The cgroup that counts a launch's memory, if it is in one.
    pub(super) fn memory_dir(&self, took: Took) -> Option<&Path> {
        let v1 = self.cgroups.memory.as_deref().filter(|_| took.memory);
        let counts = |leaf: &&Path| leaf.join("memory.current").exists();
        self.leaf_dir().filter(|_| took.cgroup).filter(counts).or(v1)
    }

    /// Births into the leaf do not work here: benches join it by themselves.
    pub(super) fn give_up_births(&mut self) -> Option<&Path> {
        self.entry = self.entry.take().map(|_| Entry::Joined);
        self.leaf_dir()
    }

    /// After the leaf was killed as a whole. Without a fresh one, benches still can join the old one.
    pub(super) fn renew(&mut self) {
        if let Some(leaf) = self.leaf_dir().map(Path::to_owned) {
            self.entry = Some(if renew(&leaf).is_ok() { enter(&leaf) } else { Entry::Joined });
            self.identity = self.cgroups.identity();
        }
    }

    /// Removes the leaves, unless another life of the agent has replaced them by its own.
    pub(super) fn remove(&self) {
        if self.cgroups.identity() == self.identity {
            self.cgroups.remove();
        }
    }

    /// Sets the launch's limits; what cannot be had is refused if it is required, and left out if not.
    pub(super) fn confine(&mut self, launch: &Launch) -> Result<Joins, Failure> {
        let confine = &launch.confine;
        let mut joins =
            Joins { files: Vec::new(), took: Took { cgroup: self.entry.is_some(), ..Took::default() } };
        if let (Some(Entry::Joined), Some(leaf)) = (&self.entry, self.leaf_dir())
            && joins.add(leaf).is_err()
        {
            joins.took.cgroup = false;
        }
        if confine.cpuset {
            let cpus = launch.cpus.as_ref().ok_or_else(|| Failure {
                step: Step::Prepare,
                errno: 0,
                message: "a cpuset is asked for without CPUs to put into it".to_owned(),
            })?;
            let (value, node) = (cpus.to_string(), launch.node.map(|node| node.to_string()));
            // Memory nodes go first: a set without them takes no process.
            let mut files: Vec<(&str, &str)> =
                node.iter().map(|node| ("cpuset.mems", node.as_str())).collect();
            files.push(("cpuset.cpus", &value));
            let set = self.set(&files, self.cgroups.cpuset.clone(), &files, &mut joins);
            joins.took.cpuset = settle("the cpuset", set, confine.required)?;
        }
        if let Some(max) = confine.processes_max {
            let value = max.to_string();
            let both = [("pids.max", value.as_str())];
            let set = self.set(&both, self.cgroups.pids.clone(), &both, &mut joins);
            joins.took.processes = settle("the limit on processes", set, confine.required)?;
        }
        if let Some(max) = confine.memory_max_bytes {
            let value = max.to_string();
            let v2 = [("memory.max", value.as_str())];
            let v1 = [("memory.limit_in_bytes", value.as_str())];
            let set = self.set(&v2, self.cgroups.memory.clone(), &v1, &mut joins);
            joins.took.memory = settle("the limit on memory", set, confine.required)?;
            // Swapping would let it be exceeded; kernels without swap accounting have nothing to switch off.
            if let Some(leaf) = self.leaf_dir() {
                let _ = write(leaf, "memory.swap.max", "0");
            }
        }
        Ok(joins)
    }

    /// Sets values on the v2 leaf if its controller is there, else on the v1 leaf, which then must be joined.
    fn set(
        &mut self,
        v2: &[(&str, &str)],
        v1_dir: Option<PathBuf>,
        v1: &[(&str, &str)],
        joins: &mut Joins,
    ) -> Result<(), CgroupError> {
        if let Some(leaf) = self.leaf_dir().filter(|leaf| v2.iter().all(|(file, _)| leaf.join(file).exists()))
        {
            v2.iter().try_for_each(|(file, value)| write(leaf, file, value))?;
            self.limited = true;
            return Ok(());
        }
        let dir = v1_dir.ok_or_else(|| CgroupError::Io {
            path: v1.first().map_or_else(PathBuf::new, |(file, _)| PathBuf::from(*file)),
            source: io::ErrorKind::NotFound.into(),
        })?;
        v1.iter().try_for_each(|(file, value)| write(&dir, file, value))?;
        joins.add(&dir).map_err(|source| CgroupError::Io { path: dir, source })
    }

    /// Takes the limits off the v2 leaf again, so that the next launch does not inherit them.
    pub(super) fn release(&mut self) {
        if !std::mem::take(&mut self.limited) {
            return;
        }
        let Some(leaf) = self.leaf_dir() else { return };
        for (file, value) in
            [("pids.max", NO_LIMIT), ("memory.max", NO_LIMIT), ("cpuset.cpus", "\n"), ("cpuset.mems", "\n")]
        {
            // Files of controllers that the leaf does not have are not there, and need no reset.
            let _ = write(leaf, file, value);
        }
    }
}

fn settle(what: &str, set: Result<(), CgroupError>, required: bool) -> Result<bool, Failure> {
    match set {
        Ok(()) => Ok(true),
        Err(_) if !required => Ok(false),
        Err(error) => {
            let errno = match &error {
                CgroupError::Io { source, .. } => source.raw_os_error().unwrap_or(libc::ENOENT),
                CgroupError::Name { .. } | CgroupError::Stuck { .. } => 0,
            };
            let message = format!("{what} is required and cannot be had here: {error}");
            Err(Failure { step: Step::Cgroup, errno, message })
        }
    }
}

fn enter(leaf: &Path) -> Entry {
    let dir = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(leaf).map(OwnedFd::from);
    dir.ok().filter(|dir| sys::can_be_born_in(dir.as_fd())).map_or(Entry::Joined, Entry::Born)
}

fn procs(dir: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(dir.join("cgroup.procs"))
}
