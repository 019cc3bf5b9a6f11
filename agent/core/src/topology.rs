//! What a box is made of, as far as placing benches goes: cores, siblings, nodes, last-level caches.
//!
//! Pure data: the agent's shell reads it from sysfs. It must never be derived from a process's own affinity mask,
//! which hides exactly the isolated cores that one wants.

use std::collections::BTreeMap;

use darwin_shared::cpu::CpuSet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// A last-level cache, named by the lowest CPU that shares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LlcId(pub u32);

/// What a core can do beside the others of its box, in the kernel's scale: 1024 is the fastest. Boxes with one kind of
/// core have one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CoreKind(pub u32);

impl Default for CoreKind {
    fn default() -> Self {
        Self(1024)
    }
}

/// What the kernel says of one online CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Its number.
    pub id: u32,
    /// The online CPUs of its physical core, itself among them.
    pub siblings: CpuSet,
    /// Its memory's node.
    pub node: NodeId,
    /// Its last-level cache, where the kernel tells.
    pub llc: Option<LlcId>,
    /// What its core can do.
    pub kind: CoreKind,
    /// Kept free of other tasks by the kernel (`isolcpus`, isolated partition).
    pub isolated: bool,
    /// Without a timer tick while it runs a single task.
    pub nohz_full: bool,
}

/// A physical core: the unit of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// Its CPUs: one, or the SMT siblings.
    pub cpus: CpuSet,
    /// Its memory's node.
    pub node: NodeId,
    /// Its last-level cache; cores of a node without that knowledge count as sharing one.
    pub llc: Option<LlcId>,
    /// What it can do: no lease mixes kinds.
    pub kind: CoreKind,
    /// Whether every CPU of it is isolated.
    pub isolated: bool,
    /// Whether every CPU of it runs without tick.
    pub nohz_full: bool,
}

/// Why what was read is no topology.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopologyError {
    /// Nothing is online.
    #[error("no CPU is online in what was read; /sys/devices/system/cpu/online should list some")]
    Empty,
    /// A CPU came twice.
    #[error("CPU {cpu} is listed twice")]
    Twice {
        /// The CPU.
        cpu: u32,
    },
    /// Two CPUs do not agree on whether they share a core.
    #[error(
        "CPU {cpu} counts {sibling} among the CPUs of its core, but the two do not have the same core and node"
    )]
    Siblings {
        /// The CPU that was looked at.
        cpu: u32,
        /// The CPU that disagrees (itself, if it is not in its own list).
        sibling: u32,
    },
}

/// The box's online CPUs and their cores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    online: CpuSet,
    cores: Vec<Core>,
}

impl Topology {
    /// Checks that the CPUs agree with one another and groups them into cores, ordered by their lowest CPU.
    pub fn new(cpus: Vec<Cpu>) -> Result<Self, TopologyError> {
        let mut by_id = BTreeMap::new();
        let mut online = CpuSet::new();
        for cpu in cpus {
            let id = cpu.id;
            let new = online.insert(id).is_ok_and(|new| new);
            if !new || by_id.insert(id, cpu).is_some() {
                return Err(TopologyError::Twice { cpu: id });
            }
        }
        if online.is_empty() {
            return Err(TopologyError::Empty);
        }
        let mut cores = Vec::new();
        for cpu in by_id.values() {
            if !cpu.siblings.contains(cpu.id) {
                return Err(TopologyError::Siblings { cpu: cpu.id, sibling: cpu.id });
            }
            let mut core = Core {
                cpus: cpu.siblings.clone(),
                node: cpu.node,
                llc: cpu.llc,
                kind: cpu.kind,
                isolated: true,
                nohz_full: true,
            };
            for sibling in cpu.siblings.iter() {
                let other = by_id
                    .get(&sibling)
                    .filter(|other| other.siblings == cpu.siblings && other.node == cpu.node)
                    .ok_or(TopologyError::Siblings { cpu: cpu.id, sibling })?;
                core.isolated &= other.isolated;
                core.nohz_full &= other.nohz_full;
            }
            if cpu.siblings.first() == Some(cpu.id) {
                cores.push(core);
            }
        }
        Ok(Self { online, cores })
    }

    /// Every online CPU.
    pub const fn online(&self) -> &CpuSet {
        &self.online
    }

    /// The physical cores, by their lowest CPU.
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// The CPUs given, with all their siblings.
    pub fn with_siblings(&self, cpus: &CpuSet) -> CpuSet {
        let touched = self.cores.iter().filter(|core| !core.cpus.is_disjoint(cpus));
        touched.fold(cpus.clone(), |all, core| all.union(&core.cpus))
    }

    /// The kinds of cores that there are, the fastest first, each with its CPUs.
    pub fn kinds(&self) -> Vec<(CoreKind, CpuSet)> {
        let mut kinds: BTreeMap<CoreKind, CpuSet> = BTreeMap::new();
        for core in &self.cores {
            let cpus = kinds.entry(core.kind).or_default();
            *cpus = cpus.union(&core.cpus);
        }
        kinds.into_iter().rev().collect()
    }

    /// Every isolated CPU.
    pub fn isolated(&self) -> CpuSet {
        let cores = self.cores.iter().filter(|core| core.isolated);
        cores.fold(CpuSet::new(), |all, core| all.union(&core.cpus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(id: u32, siblings: &str) -> Cpu {
        let siblings = siblings.parse().unwrap();
        Cpu {
            id,
            siblings,
            node: NodeId(0),
            llc: Some(LlcId(0)),
            kind: CoreKind::default(),
            isolated: id == 3,
            nohz_full: false,
        }
    }

    #[test]
    fn groups_siblings_into_cores() {
        let box_ = Topology::new(vec![cpu(0, "0,2"), cpu(1, "1,3"), cpu(2, "0,2"), cpu(3, "1,3")]).unwrap();
        let cores: Vec<_> = box_.cores().iter().map(|core| core.cpus.to_string()).collect();
        assert_eq!(cores, ["0,2", "1,3"]);
        assert!(box_.isolated().is_empty(), "a core with one isolated sibling is not isolated");
        assert_eq!(box_.with_siblings(&"3".parse().unwrap()).to_string(), "1,3");
    }

    #[test]
    fn refuses_what_does_not_fit_together() {
        assert_eq!(Topology::new(vec![]), Err(TopologyError::Empty));
        assert_eq!(Topology::new(vec![cpu(0, "0"), cpu(0, "0")]), Err(TopologyError::Twice { cpu: 0 }));
        assert_eq!(Topology::new(vec![cpu(0, "1")]), Err(TopologyError::Siblings { cpu: 0, sibling: 0 }));
        let offline = Topology::new(vec![cpu(0, "0,2")]);
        assert_eq!(offline, Err(TopologyError::Siblings { cpu: 0, sibling: 2 }));
        let one_sided = Topology::new(vec![cpu(0, "0,2"), cpu(2, "2")]);
        assert_eq!(one_sided, Err(TopologyError::Siblings { cpu: 0, sibling: 2 }));
    }
}
