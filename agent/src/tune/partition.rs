//! Isolated partitions of cgroup v2: cores on which the scheduler puts nothing but what is in the partition.
//!
//! ```text
//!   <mount>/../<base>/darwin/<agent>/<lease>     the partition; its children are the two leaves of the slot
//! ```
//! A partition that is not right below another one (a remote one, since Linux 6.7) needs its CPUs reserved in every
//! cgroup above it. It ends with its folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use darwin_agent_core::tune::{Form, Knob, Want, Wish};
use darwin_shared::cpu::CpuSet;

use super::knobs::put;
use crate::host::HostFs;

/// Reserves CPUs for partitions further down.
const EXCLUSIVE: &str = "cpuset.cpus.exclusive";
/// What kind of partition a cgroup is.
const PARTITION: &str = "cpuset.cpus.partition";

/// Where partitions are made.
#[derive(Debug, Clone)]
pub(super) struct Partitions {
    host: HostFs,
    /// Where cgroup v2 is mounted, as a path of the box.
    mount: PathBuf,
    /// The agent's own folder below it, which the leases' folders are in.
    agent_dir: PathBuf,
}

impl Partitions {
    /// None where cgroup v2 has no cpusets for us. `agent_dir` is the agent's folder below `base`, which is its own
    /// cgroup; all are paths of the box.
    pub(super) fn find(host: &HostFs, mount: PathBuf, base: &Path, agent_dir: &Path) -> Option<Self> {
        let controllers = host.read(base.join("cgroup.controllers")).ok()?;
        let has = controllers.split_whitespace().any(|name| name == "cpuset");
        has.then(|| Self { host: host.clone(), mount, agent_dir: agent_dir.to_owned() })
    }

    /// What is to be changed above the agent's own folder: these CPUs reserved in each cgroup on the way to it.
    pub(super) fn wishes(&self, cpus: &CpuSet) -> Vec<Wish> {
        let above = self.agent_dir.parent().and_then(Path::parent).unwrap_or(&self.mount);
        let mut on_the_way: Vec<&Path> =
            above.ancestors().take_while(|dir| *dir != self.mount && dir.starts_with(&self.mount)).collect();
        on_the_way.reverse();
        let wish = |dir: &Path| Wish {
            knob: Knob::new(dir.join(EXCLUSIVE).to_string_lossy(), Form::List),
            want: Want::With(cpus.clone()),
        };
        on_the_way.into_iter().map(wish).collect()
    }

    /// Makes the cores of a lease an isolated partition, or says why they are none.
    pub(super) fn make(&self, lease: &str, cpus: &CpuSet, node: u32) -> Result<(), String> {
        let dir = self.host.path(self.agent_dir.join(lease));
        let partition = dir.join(PARTITION);
        let value = cpus.to_string();
        let told =
            |what: &str, error: &io::Error| format!("{what} of {} cannot be set: {error}", dir.display());
        self.make_folders(&dir)?;
        let same = fs::read_to_string(dir.join("cpuset.cpus")).is_ok_and(|now| now.trim() == value);
        if same && reads_isolated(&partition).is_ok() {
            return Ok(());
        }
        if !dir.join(EXCLUSIVE).exists() {
            return Err(format!("this kernel has no {EXCLUSIVE} (it came with Linux 6.7)"));
        }
        // Our own two folders on the way are ours alone, and end with us.
        for above in [self.agent_dir.parent(), Some(&*self.agent_dir)].into_iter().flatten() {
            let file = self.host.path(above).join(EXCLUSIVE);
            let now: CpuSet =
                fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
            if !cpus.is_subset(&now) {
                put(&file, &now.union(cpus).to_string()).map_err(|error| told(EXCLUSIVE, &error))?;
            }
        }
        // A partition that is there already cannot change all of this at once.
        let _ = put(&partition, "member");
        let node = node.to_string();
        for (file, value) in [("cpuset.mems", &node), ("cpuset.cpus", &value), (EXCLUSIVE, &value)] {
            put(&dir.join(file), value).map_err(|error| told(file, &error))?;
        }
        put(&partition, "isolated").map_err(|error| told(PARTITION, &error))?;
        reads_isolated(&partition).inspect_err(|_| self.end(lease))
    }

    /// Gives the cores back to the scheduler. What cannot be undone here ends with the folder.
    pub(super) fn end(&self, lease: &str) {
        let dir = self.host.path(self.agent_dir.join(lease));
        for (file, value) in [(PARTITION, "member"), (EXCLUSIVE, ""), ("cpuset.cpus", "")] {
            let _ = put(&dir.join(file), value);
        }
    }

    /// Gives up what was reserved for partitions in our own two folders, once all of them have ended: in the one that agents
    /// share, what others have reserved stays.
    pub(super) fn give_up(&self) {
        let own = self.host.path(&self.agent_dir);
        let _ = put(&own.join(EXCLUSIVE), "");
        let Some(shared) = own.parent() else { return };
        let reserved = |dir: fs::DirEntry| -> Option<CpuSet> {
            fs::read_to_string(dir.path().join(EXCLUSIVE)).ok()?.trim().parse().ok()
        };
        let dirs = fs::read_dir(shared).into_iter().flatten().filter_map(Result::ok);
        let of_others = dirs.filter_map(reserved).fold(CpuSet::default(), |all, some| all.union(&some));
        let _ = put(&shared.join(EXCLUSIVE), &of_others.to_string());
    }

    fn make_folders(&self, dir: &Path) -> Result<(), String> {
        let base = self.agent_dir.parent().and_then(Path::parent).unwrap_or(&self.mount);
        let mut at = self.host.path(base);
        let names = dir.strip_prefix(&at).map_err(|error| error.to_string())?.to_owned();
        for name in &names {
            // Where it is on already this changes nothing; where it cannot be, the leaf shows it.
            let _ = put(&at.join("cgroup.subtree_control"), "+cpuset");
            at.push(name);
            match fs::create_dir(&at) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(format!("{} cannot be made: {error}", at.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        // For the leaves of the slot.
        for controller in ["+cpuset", "+pids", "+memory"] {
            let _ = put(&at.join("cgroup.subtree_control"), controller);
        }
        Ok(())
    }
}

/// What counts is what the kernel says of it.
fn reads_isolated(partition: &Path) -> Result<(), String> {
    let text = fs::read_to_string(partition)
        .map_err(|error| format!("{} cannot be read back: {error}", partition.display()))?;
    judge(text.trim())
}

/// `isolated`, or `isolated invalid (reason)`.
fn judge(text: &str) -> Result<(), String> {
    match text {
        "isolated" => Ok(()),
        "" => Err("the kernel does not say what became of the partition".to_owned()),
        other => Err(format!("the kernel says `{other}` of the partition")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "sys/fs/cgroup/system.slice/darwin.service";
    const FILES: [&str; 6] =
        ["cpuset.cpus", "cpuset.mems", EXCLUSIVE, PARTITION, "cgroup.subtree_control", "cgroup.controllers"];

    /// A box whose cgroup v2 is a tree of plain files.
    fn tree(without: &[&str]) -> (tempfile::TempDir, Option<Partitions>) {
        let root = tempfile::tempdir().unwrap();
        let lease = root.path().join(BASE).join("darwin/a/g0000");
        fs::create_dir_all(&lease).unwrap();
        let mount = root.path().join("sys/fs/cgroup");
        for dir in lease.ancestors().take_while(|dir| *dir != mount) {
            for file in FILES.iter().filter(|file| !without.contains(file)) {
                let text = if *file == "cgroup.controllers" { "cpuset pids memory\n" } else { "\n" };
                fs::write(dir.join(file), text).unwrap();
            }
        }
        let host = HostFs::new(root.path());
        let base = Path::new("/").join(BASE);
        let found = Partitions::find(&host, "/sys/fs/cgroup".into(), &base, &base.join("darwin/a"));
        (root, found)
    }

    fn read(root: &Path, file: &str) -> String {
        fs::read_to_string(root.join(BASE).join(file)).unwrap().trim().to_owned()
    }

    #[test]
    fn a_partition_has_its_cpus_reserved_all_the_way() {
        let (root, partitions) = tree(&[]);
        let partitions = partitions.unwrap();
        let cpus = "2-3".parse().unwrap();
        let wished: Vec<String> = partitions.wishes(&cpus).into_iter().map(|wish| wish.knob.path).collect();
        assert_eq!(
            wished,
            [
                "/sys/fs/cgroup/system.slice/cpuset.cpus.exclusive",
                "/sys/fs/cgroup/system.slice/darwin.service/cpuset.cpus.exclusive",
            ]
        );
        partitions.make("g0000", &cpus, 1).unwrap();
        let own = |file: &str| read(root.path(), &format!("darwin/a/g0000/{file}"));
        assert_eq!(
            (own("cpuset.cpus"), own("cpuset.mems"), own(EXCLUSIVE), own(PARTITION)),
            ("2-3".into(), "1".into(), "2-3".into(), "isolated".into())
        );
        for above in ["darwin", "darwin/a"] {
            assert_eq!(read(root.path(), &format!("{above}/{EXCLUSIVE}")), "2-3");
        }
        partitions.make("g0000", &cpus, 1).unwrap();
        partitions.end("g0000");
        assert_eq!((own(PARTITION), own("cpuset.cpus")), ("member".into(), String::new()));
        // What another agent has reserved stays.
        let other = root.path().join(BASE).join("darwin/b");
        fs::create_dir(&other).unwrap();
        fs::write(other.join(EXCLUSIVE), "3\n").unwrap();
        partitions.give_up();
        let left = ["darwin", "darwin/a"].map(|dir| read(root.path(), &format!("{dir}/{EXCLUSIVE}")));
        assert_eq!(left, ["3", ""]);
    }

    #[test]
    fn what_the_kernel_says_of_it_is_what_counts() {
        assert_eq!(judge("isolated"), Ok(()));
        let invalid = "isolated invalid (Cpu list in cpuset.cpus not exclusive)";
        assert_eq!(judge(invalid), Err(format!("the kernel says `{invalid}` of the partition")));
        assert!(judge("member").is_err() && judge("").is_err());
        let (_root, partitions) = tree(&[EXCLUSIVE]);
        let old = partitions.unwrap().make("g0000", &"2".parse().unwrap(), 0).unwrap_err();
        assert!(old.contains("6.7"), "{old}");
        // A file that forgets what is written to it.
        let (root, partitions) = tree(&[PARTITION]);
        let partition = root.path().join(BASE).join("darwin/a/g0000").join(PARTITION);
        std::os::unix::fs::symlink("/dev/null", partition).unwrap();
        assert!(partitions.unwrap().make("g0000", &"2".parse().unwrap(), 0).is_err());
    }

    #[test]
    fn a_box_without_them_has_none() {
        assert!(tree(&["cgroup.controllers"]).1.is_none());
    }
}
