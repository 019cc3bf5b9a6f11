//! The cgroups of a slot: where they are, how they are made, and how everything in them is killed.
//!
//! ```text
//!   <base>/darwin/<agent>/<slot>            one leaf per slot, in v2 and, where asked for, in v1's pids, memory, cpuset
//!   <base>/darwin/<agent>/<lease>/<slot>    the two leaves of a slot that measures; in v2 their folder may be a partition
//! ```
//! The base is the agent's own cgroup, so that what a service manager delegated is all that is touched. A box
//! without cgroups, or without the right to make them, runs benches without: the launcher kills trees by itself too.
//! Never is a cpuset made exclusive: that breaks whatever else asks for CPUs on the box.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::aside::write_json;
use crate::host::HostFs;

/// The folder that everything of ours is below.
const OUR_DIR: &str = "darwin";
/// The cpuset that everything else is moved into while an agent shields its cores.
pub(crate) const SHIELD_NAME: &str = "darwin-housekeeping";
/// The file in the state folder that says in which cgroups the agent is.
const WRITTEN: &str = "cgroups.json";
/// The longest that killing a cgroup is waited for: a process that takes longer is stuck in the kernel.
const KILL_BOUND: Duration = Duration::from_secs(10);
/// Between two looks at whether a killed cgroup is empty; only at starts and after crashes.
const KILL_PAUSE: Duration = Duration::from_millis(5);
/// How often a leaf is tried to be made: slots end seldom, and never twice in the same instant.
const MAKE_TRIES: u32 = 3;
/// How deep a cgroup tree is followed: ours has three levels, and a bench may have made some more.
const MAX_DEPTH: u32 = 16;

/// Why cgroups could not be cleaned.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// A name that would lead out of our folder.
    #[error(
        "`{name}` cannot name a cgroup: letters, digits, `-`, `_` and `.` can, up to 100, not starting with a dot"
    )]
    Name {
        /// The refused name.
        name: String,
    },
    /// Processes that do not die.
    #[error("{count} processes in {} do not die within {KILL_BOUND:?}; they are stuck in the kernel, look at /proc/PID/stack", dir.display())]
    Stuck {
        /// How many.
        count: usize,
        /// The cgroup.
        dir: PathBuf,
    },
    /// The kernel refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// What cleaning up after an earlier life found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Processes that were killed.
    pub killed: usize,
    /// Cgroups that were removed.
    pub removed: usize,
}

/// The agent's own cgroup in each hierarchy that can be of use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CgroupRoots {
    /// cgroup v2.
    pub v2: Option<PathBuf>,
    /// v1's pids controller.
    pub pids: Option<PathBuf>,
    /// v1's memory controller.
    pub memory: Option<PathBuf>,
    /// v1's cpuset controller.
    pub cpuset: Option<PathBuf>,
}

impl CgroupRoots {
    /// Use none.
    pub fn none() -> Self {
        Self::default()
    }

    /// Finds them in `/proc/self`; what is not there is none.
    pub fn discover(host: &HostFs) -> Self {
        let mounts = host.read("/proc/self/mountinfo").unwrap_or_default();
        let own = host.read("/proc/self/cgroup").unwrap_or_default();
        let find = |controller| base(&mounts, &own, controller).map(|path| host.path(path));
        Self {
            v2: find(None),
            pids: find(Some("pids")),
            memory: find(Some("memory")),
            cpuset: find(Some("cpuset")),
        }
    }

    /// Those that an agent wrote down; none if it did not, or if that cannot be read.
    pub(crate) fn written(state_dir: &Path) -> Self {
        let text = fs::read(state_dir.join(WRITTEN)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes them down, for whoever must find them when this process is gone: another one may be in other cgroups.
    pub(crate) fn write_down(&self, state_dir: &Path) -> io::Result<()> {
        write_json(&state_dir.join(WRITTEN), self)
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.v2, &self.pids, &self.memory, &self.cpuset].into_iter().flatten()
    }

    /// Makes a slot's leaf wherever that is allowed, and says where it is not.
    pub(super) fn open_slot(
        &self,
        agent: &str,
        lease: Option<&str>,
        slot: &str,
    ) -> Result<(SlotCgroups, Vec<CgroupError>), CgroupError> {
        let mut relative = Path::new(OUR_DIR).join(checked(agent)?);
        if let Some(lease) = lease {
            relative.push(checked(lease)?);
        }
        relative.push(checked(slot)?);
        let mut problems = Vec::new();
        let mut make = |base: &Option<PathBuf>, kind: Kind| {
            let base = base.as_ref()?;
            match make_leaf_again(base, &relative, kind) {
                Ok(leaf) => Some(leaf),
                Err(error) => {
                    problems.push(error);
                    None
                }
            }
        };
        let slot = SlotCgroups {
            v2: make(&self.v2, Kind::V2),
            pids: make(&self.pids, Kind::V1),
            memory: make(&self.memory, Kind::V1),
            cpuset: make(&self.cpuset, Kind::V1Cpuset),
        };
        Ok((slot, problems))
    }
}

/// A slot's leaf in each hierarchy where it could be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct SlotCgroups {
    pub(super) v2: Option<PathBuf>,
    pub(super) pids: Option<PathBuf>,
    pub(super) memory: Option<PathBuf>,
    pub(super) cpuset: Option<PathBuf>,
}

impl SlotCgroups {
    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.v2, &self.pids, &self.memory, &self.cpuset].into_iter().flatten()
    }

    /// Kills everything in the slot, for when its launcher cannot any more.
    pub(super) fn kill(&self) -> Result<usize, CgroupError> {
        self.all().try_fold(0, |killed, leaf| Ok(killed + kill_all(leaf)?))
    }

    /// Removes the leaves, and the agent's own folder with the last one; what is not empty stays.
    pub(super) fn remove(&self) {
        for leaf in self.all() {
            // What cannot be removed now is removed at the agent's next start.
            for dir in leaf.ancestors().take_while(|dir| !dir.ends_with(OUR_DIR)) {
                if fs::remove_dir(dir).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
                    break;
                }
            }
        }
    }

    /// Which folders these are: another life of the agent may have made new ones under the same names.
    pub(super) fn identity(&self) -> Vec<Option<u64>> {
        self.all().map(|leaf| fs::metadata(leaf).ok().map(|found| found.ino())).collect()
    }
}

/// Where on the box the agent's cgroups are, for what is changed around them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupPlace {
    /// In cgroup v2: where it is mounted, the agent's own cgroup, and the folder of ours in it.
    pub v2: Option<(PathBuf, PathBuf, PathBuf)>,
    /// Where v1's cpusets are mounted.
    pub cpuset_mount: Option<PathBuf>,
    /// The agent's own cgroup in v1's cpu hierarchy.
    pub cpu: Option<PathBuf>,
}

impl CgroupPlace {
    /// Finds them in `/proc/self`, as paths of the box.
    pub fn find(host: &HostFs, agent: &str) -> Result<Self, CgroupError> {
        let mounts = host.read("/proc/self/mountinfo").unwrap_or_default();
        let own = host.read("/proc/self/cgroup").unwrap_or_default();
        let below = Path::new(OUR_DIR).join(checked(agent)?);
        let v2 = mount(&mounts, None).zip(base(&mounts, &own, None));
        Ok(Self {
            v2: v2.map(|((_, mount), base)| (PathBuf::from(mount), base.clone(), base.join(below))),
            cpuset_mount: mount(&mounts, Some("cpuset")).map(|(_, mount)| PathBuf::from(mount)),
            cpu: base(&mounts, &own, Some("cpu")),
        })
    }
}

/// Kills whatever an earlier life of this agent left in its cgroups, and removes them. To be called before the agent
/// registers and before any slot is opened.
pub fn reap_leftovers(roots: &CgroupRoots, agent: &str) -> Result<Reaped, CgroupError> {
    let relative = Path::new(OUR_DIR).join(checked(agent)?);
    let mut reaped = Reaped::default();
    for dir in roots.all().map(|base| base.join(&relative)).filter(|dir| dir.is_dir()) {
        reaped.killed += kill_all(&dir)?;
        for leaf in tree(&dir, MAX_DEPTH).iter().rev() {
            match remove_soon(leaf) {
                Ok(()) => reaped.removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(CgroupError::Io { path: leaf.clone(), source });
                }
            }
        }
    }
    Ok(reaped)
}

/// Removes a cgroup whose processes were killed: the kernel holds it until the last of them is buried.
fn remove_soon(dir: &Path) -> io::Result<()> {
    let until = Instant::now() + KILL_BOUND;
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                std::thread::sleep(KILL_PAUSE);
            }
            removed => return removed,
        }
    }
}

/// Writes one value into a cgroup's file. The kernel judges at the write, so no buffering.
pub(super) fn write(dir: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = dir.join(file);
    let written = fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| {
        use io::Write as _;
        file.write_all(value.as_bytes())
    });
    written.map_err(|source| CgroupError::Io { path, source })
}

/// A name that stays below our folder.
fn checked(name: &str) -> Result<&str, CgroupError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.bytes().all(fine) {
        return Err(CgroupError::Name { name: name.chars().filter(|c| !c.is_control()).take(60).collect() });
    }
    Ok(name)
}

/// The agent's cgroup in one hierarchy, as a path: the mount point, and below it what is the agent's own.
fn base(mounts: &str, own: &str, controller: Option<&str>) -> Option<PathBuf> {
    let (mount_root, mount_point) = mount(mounts, controller)?;
    let own = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let ours = match controller {
            None => controllers.is_empty(),
            Some(controller) => controllers.split(',').any(|name| name == controller),
        };
        ours.then_some(path)
    })?;
    let below = Path::new(own).strip_prefix(mount_root).unwrap_or(Path::new(""));
    let mut base = Path::new(mount_point).join(below);
    // A service manager that puts the daemon into a leaf called `agent` (DelegateSubgroup=agent) delegated its parent.
    if controller.is_none() && base.ends_with("agent") {
        base.pop();
    }
    // Started under another agent's shield: benches of ours need the cores that the shield keeps free.
    if controller == Some("cpuset") && base.ends_with(SHIELD_NAME) {
        base.pop();
    }
    Some(base)
}

/// Where a hierarchy is mounted: which of its folders, and where.
fn mount<'a>(mounts: &'a str, controller: Option<&str>) -> Option<(&'a str, &'a str)> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
        let ours = match controller {
            None => kind == "cgroup2",
            Some(controller) => kind == "cgroup" && options.split(',').any(|option| option == controller),
        };
        let mut left = left.split(' ').skip(3);
        ours.then(|| left.next().zip(left.next())).flatten()
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V2,
    V1,
    V1Cpuset,
}

/// Makes the leaf, and again if another slot that ends has just removed the agent's folder above it.
fn make_leaf_again(base: &Path, relative: &Path, kind: Kind) -> Result<PathBuf, CgroupError> {
    let mut made = make_leaf(base, relative, kind);
    for _ in 1..MAKE_TRIES {
        match &made {
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                made = make_leaf(base, relative, kind);
            }
            Ok(_) | Err(_) => break,
        }
    }
    made
}

/// Makes the folders down to the leaf, each ready for the next.
fn make_leaf(base: &Path, relative: &Path, kind: Kind) -> Result<PathBuf, CgroupError> {
    let leaf = base.join(relative);
    clear(&leaf)?;
    let mut dir = base.to_owned();
    for part in relative {
        if kind == Kind::V2 {
            for controller in ["+pids", "+memory", "+cpuset"] {
                // Not every box has them, or delegates them; what can be limited is seen at the leaf.
                let _ = write(&dir, "cgroup.subtree_control", controller);
            }
        }
        let parent = dir.clone();
        dir.push(part);
        match fs::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(CgroupError::Io { path: dir, source }),
        }
        if kind == Kind::V1Cpuset {
            // A fresh cpuset is empty and takes no process; memory nodes go first.
            for file in ["cpuset.mems", "cpuset.cpus"] {
                let inherited = fs::read_to_string(parent.join(file))
                    .map_err(|source| CgroupError::Io { path: parent.join(file), source })?;
                write(&dir, file, inherited.trim())?;
            }
            // Or the folders on the way, which hold no task, would spread tasks over all their CPUs. It says nothing
            // while the set above does.
            if dir != leaf {
                let _ = write(&dir, "cpuset.sched_load_balance", "0");
            }
        }
    }
    Ok(leaf)
}

/// Kills what is in a leaf and removes it if it is there. A leaf that was killed as a whole must not be used again:
/// the kernel kills at birth what is born into it by a parent from elsewhere.
fn clear(leaf: &Path) -> Result<(), CgroupError> {
    kill_all(leaf)?;
    for dir in tree(leaf, MAX_DEPTH).iter().rev() {
        match fs::remove_dir(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(CgroupError::Io { path: dir.clone(), source }),
        }
    }
    Ok(())
}

/// Replaces an empty v2 leaf by a fresh one.
pub(super) fn renew(leaf: &Path) -> Result<(), CgroupError> {
    clear(leaf)?;
    fs::create_dir(leaf).map_err(|source| CgroupError::Io { path: leaf.to_owned(), source })
}

/// Kills every process in a cgroup and below it, and waits until none is left. Says how many there were.
pub(super) fn kill_all(dir: &Path) -> Result<usize, CgroupError> {
    let until = Instant::now() + KILL_BOUND;
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let members: Vec<i32> = tree(dir, MAX_DEPTH).iter().flat_map(|dir| members(dir)).collect();
        if members.is_empty() {
            return Ok(seen.len());
        }
        if Instant::now() > until {
            return Err(CgroupError::Stuck { count: members.len(), dir: dir.to_owned() });
        }
        // One write for all of them on v2; v1 does not have the file.
        let _ = write(dir, "cgroup.kill", "1");
        for pid in members {
            seen.insert(pid);
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(CgroupError::Io { path: dir.to_owned(), source: errno.into() });
                }
            }
        }
        std::thread::sleep(KILL_PAUSE);
    }
}

/// The processes of one cgroup; those of another pid namespace show as 0 and are not ours to kill.
fn members(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0).collect()
}

/// A cgroup and those below it, parents first.
fn tree(dir: &Path, depth: u32) -> Vec<PathBuf> {
    let mut all = vec![dir.to_owned()];
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        all.extend(tree(&entry.path(), depth - 1));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 30 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate";
    const OWN: &str =
        "9:pids:/user\n4:memory:/docker/abc/x\n2:cpu,cpuacct:/\n0::/system.slice/darwin.service/agent";

    fn find(controller: Option<&str>) -> Option<String> {
        base(V1, OWN, controller).map(|path| path.display().to_string())
    }

    #[test]
    fn finds_the_agents_own_cgroups() {
        assert_eq!(find(Some("pids")).as_deref(), Some("/sys/fs/cgroup/pids/user"));
        assert_eq!(find(Some("memory")).as_deref(), Some("/sys/fs/cgroup/memory/x"), "a container's mount");
        assert_eq!(find(Some("cpuset")), None);
        let delegated = find(None);
        assert_eq!(delegated.as_deref(), Some("/sys/fs/cgroup/unified/system.slice/darwin.service"));
    }

    #[test]
    fn a_shield_of_another_agent_is_left() {
        let mounts = "33 30 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset";
        let found = |own| base(mounts, own, Some("cpuset")).map(|path| path.display().to_string());
        assert_eq!(found("4:cpuset:/darwin-housekeeping").as_deref(), Some("/sys/fs/cgroup/cpuset"));
        assert_eq!(found("4:cpuset:/user").as_deref(), Some("/sys/fs/cgroup/cpuset/user"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "a/b", ".hidden", "a b", "a\0", "é"] {
            assert!(checked(name).is_err(), "{name:?}");
        }
        assert!(checked("box-01.rack_3").is_ok());
    }

    #[test]
    fn a_box_without_cgroups_has_nothing_to_reap() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostFs::new(dir.path());
        let roots = CgroupRoots::discover(&host);
        assert_eq!(roots, CgroupRoots::none());
        assert_eq!(reap_leftovers(&roots, "a").unwrap(), Reaped::default());
        let (slot, problems) = roots.open_slot("a", None, "0").unwrap();
        assert_eq!((slot, problems.len()), (SlotCgroups::default(), 0));
    }
}
