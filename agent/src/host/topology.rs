//! Reads the topology from sysfs.

use darwin_agent_core::topology::{CoreKind, Cpu, LlcId, NodeId, Topology, TopologyError};
use darwin_shared::cpu::CpuSet;
use thiserror::Error;

use super::fs::{HostFs, ReadError};

const CPU_DIR: &str = "/sys/devices/system/cpu";
const LIST: &str = "a list of CPUs like 0-3,8";
/// Caches that a CPU can have: L1 data, L1 code, L2, L3, L4 and some to spare.
const MAX_CACHES: u32 = 8;

/// Why the topology could not be read.
#[derive(Debug, Error)]
pub enum HostTopologyError {
    /// A file that every Linux has is missing or odd.
    #[error("the box's topology cannot be read: {0}")]
    Read(#[from] ReadError),
    /// What was read does not fit together.
    #[error("the box's topology is contradictory: {0}")]
    Contradiction(#[from] TopologyError),
}

/// The box's online CPUs with their cores, nodes and caches.
pub fn read_topology(host: &HostFs) -> Result<Topology, HostTopologyError> {
    let online: CpuSet = host.parse(format!("{CPU_DIR}/online"), LIST)?;
    let isolated = isolated(host)?;
    let nohz_full = optional_list(host, &format!("{CPU_DIR}/nohz_full"))?;
    let kinds = Kinds::read(host)?;
    let mut cpus = Vec::with_capacity(online.len());
    for id in online.iter() {
        cpus.push(Cpu {
            id,
            siblings: siblings(host, id)?.intersection(&online),
            node: node(host, id)?,
            llc: last_level_cache(host, id)?,
            kind: kinds.of(host, id)?,
            isolated: isolated.contains(id),
            nohz_full: nohz_full.contains(id),
        });
    }
    Ok(Topology::new(cpus)?)
}

/// The CPUs that the kernel keeps other tasks off: by its command line, or as an isolated partition.
pub(super) fn isolated(host: &HostFs) -> Result<CpuSet, ReadError> {
    let by_command_line = optional_list(host, &format!("{CPU_DIR}/isolated"))?;
    Ok(by_command_line.union(&optional_list(host, "/sys/fs/cgroup/cpuset.cpus.isolated")?))
}

/// A list that kernels leave out, leave empty or (old ones) fill with ` (null)`.
fn optional_list(host: &HostFs, path: &str) -> Result<CpuSet, ReadError> {
    match host.read(path) {
        Ok(text) if text.is_empty() || text == "(null)" => Ok(CpuSet::new()),
        Ok(_) => host.parse(path, LIST),
        Err(ReadError::Absent { .. }) => Ok(CpuSet::new()),
        Err(error) => Err(error),
    }
}

/// The CPUs of the same core; older kernels know the file by its older name, and some boxes by none.
fn siblings(host: &HostFs, cpu: u32) -> Result<CpuSet, ReadError> {
    for name in ["core_cpus_list", "thread_siblings_list"] {
        match host.parse(format!("{CPU_DIR}/cpu{cpu}/topology/{name}"), LIST) {
            Err(ReadError::Absent { .. }) => {}
            read => return read,
        }
    }
    let mut alone = CpuSet::new();
    // The CPU came out of a parsed list, so it is within range.
    let _ = alone.insert(cpu);
    Ok(alone)
}

/// What a slow core counts as where the kernel says that it is one, and not how slow.
const SLOW: CoreKind = CoreKind(512);

/// The CPUs of the slow cores of a box that names them.
struct Kinds {
    slow: Option<CpuSet>,
}

impl Kinds {
    /// Intel's boxes with two kinds of cores have a PMU for each, whose folders name its CPUs.
    fn read(host: &HostFs) -> Result<Self, ReadError> {
        match host.parse("/sys/devices/cpu_atom/cpus", LIST) {
            Ok(slow) => Ok(Self { slow: Some(slow) }),
            Err(ReadError::Absent { .. }) => Ok(Self { slow: None }),
            Err(error) => Err(error),
        }
    }

    /// By name where there are names; else by the kernel's own scale, which a box with one kind of core does not show.
    fn of(&self, host: &HostFs, cpu: u32) -> Result<CoreKind, ReadError> {
        match &self.slow {
            Some(slow) if slow.contains(cpu) => return Ok(SLOW),
            Some(_) => return Ok(CoreKind::default()),
            None => {}
        }
        match host.parse(format!("{CPU_DIR}/cpu{cpu}/cpu_capacity"), "a capacity like 1024") {
            Ok(capacity) => Ok(CoreKind(capacity)),
            Err(ReadError::Absent { .. }) => Ok(CoreKind::default()),
            Err(error) => Err(error),
        }
    }
}

/// The node whose folder the CPU's folder links to; a kernel without NUMA has none, which is node 0.
fn node(host: &HostFs, cpu: u32) -> Result<NodeId, ReadError> {
    let names = host.list(format!("{CPU_DIR}/cpu{cpu}"))?;
    let node = names.iter().find_map(|name| name.strip_prefix("node")?.parse().ok());
    Ok(NodeId(node.unwrap_or(0)))
}

/// The highest-level cache, named by its lowest CPU; none where the kernel does not tell.
fn last_level_cache(host: &HostFs, cpu: u32) -> Result<Option<LlcId>, ReadError> {
    let mut last: Option<(u32, LlcId)> = None;
    for index in 0..MAX_CACHES {
        let dir = format!("{CPU_DIR}/cpu{cpu}/cache/index{index}");
        let level: u32 = match host.parse(format!("{dir}/level"), "a cache level") {
            Ok(level) => level,
            Err(ReadError::Absent { .. }) => break,
            Err(error) => return Err(error),
        };
        let shared: CpuSet = match host.parse(format!("{dir}/shared_cpu_list"), LIST) {
            Ok(shared) => shared,
            Err(ReadError::Absent { .. }) => continue,
            Err(error) => return Err(error),
        };
        // L1 and L2 belong to a core or a small cluster: not what a lease asks about.
        let highest = level >= 3 && last.is_none_or(|(known, _)| level > known);
        if let Some(first) = shared.first().filter(|_| highest) {
            last = Some((level, LlcId(first)));
        }
    }
    Ok(last.map(|(_, llc)| llc))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes the sysfs of a box; each line is a path below `cpu/` and its text.
    fn recorded(files: &[(&str, &str)]) -> (tempfile::TempDir, HostFs) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join("sys/devices/system/cpu").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let host = HostFs::new(dir.path());
        (dir, host)
    }

    #[test]
    fn reads_siblings_nodes_caches_and_isolation() {
        let (_dir, host) = recorded(&[
            ("online", "0-3"),
            ("isolated", "1,3"),
            ("nohz_full", "(null)"),
            ("cpu0/topology/core_cpus_list", "0,2"),
            ("cpu2/topology/core_cpus_list", "0,2"),
            ("cpu1/topology/thread_siblings_list", "1,3"),
            ("cpu3/topology/thread_siblings_list", "1,3"),
            ("cpu0/node0/x", ""),
            ("cpu2/node0/x", ""),
            ("cpu1/node1/x", ""),
            ("cpu3/node1/x", ""),
            ("cpu0/cache/index0/level", "1"),
            ("cpu0/cache/index0/shared_cpu_list", "0,2"),
            ("cpu0/cache/index1/level", "3"),
            ("cpu0/cache/index1/shared_cpu_list", "0,2"),
        ]);
        let topology = read_topology(&host).unwrap();
        let cores = topology.cores();
        assert_eq!(cores.len(), 2);
        assert_eq!(
            (cores[0].cpus.to_string(), cores[0].node, cores[0].isolated),
            ("0,2".into(), NodeId(0), false)
        );
        assert_eq!(
            (cores[1].cpus.to_string(), cores[1].node, cores[1].isolated),
            ("1,3".into(), NodeId(1), true)
        );
        assert_eq!((cores[0].llc, cores[1].llc), (Some(LlcId(0)), None));
    }

    #[test]
    fn an_offline_sibling_is_no_sibling_and_files_may_be_missing() {
        let (_dir, host) =
            recorded(&[("online", "0-1"), ("cpu0/topology/core_cpus_list", "0,8"), ("cpu1/uevent", "")]);
        let topology = read_topology(&host).unwrap();
        assert_eq!(topology.cores().len(), 2);
        assert!(topology.isolated().is_empty());
    }

    #[test]
    fn says_which_file_is_wrong() {
        let (_dir, host) = recorded(&[("online", "none")]);
        let message = read_topology(&host).unwrap_err().to_string();
        assert!(
            message.ends_with("cpu/online says `none`, which is not a list of CPUs like 0-3,8"),
            "{message}"
        );
        let empty = tempfile::tempdir().unwrap();
        let message = read_topology(&HostFs::new(empty.path())).unwrap_err().to_string();
        assert!(message.ends_with("/sys/devices/system/cpu/online does not exist on this box"), "{message}");
    }

    #[test]
    fn this_box_has_a_topology() {
        let host = HostFs::default();
        match read_topology(&host) {
            Ok(topology) => assert!(!topology.cores().is_empty()),
            Err(error) => println!("not run: {error}"),
        }
    }
}
