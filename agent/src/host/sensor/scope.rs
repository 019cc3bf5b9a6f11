//! What the sensor is to look at: the cores that are leased out, and what lies beside them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use darwin_agent_core::cpu_alloc::Allocator;
use darwin_agent_core::topology::{Core, CoreKind, NodeId, Topology};
use darwin_shared::cpu::CpuSet;

/// The part of a box that its numbers depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The CPUs that benches may be given.
    pub cpus: CpuSet,
    /// Their SMT siblings, which must stay idle.
    pub siblings_idle: CpuSet,
    /// Where everything but benches belongs.
    pub housekeeping: CpuSet,
    /// CPUs that are not leased and share a last-level cache with one that is.
    pub cache_neighbours: CpuSet,
    /// The kinds of cores that are leased, the fastest first.
    pub kinds: Vec<(CoreKind, CpuSet)>,
    /// The nodes of leased cores, each with its leased CPUs.
    pub nodes: BTreeMap<NodeId, CpuSet>,
    /// The folder of spool and artifacts.
    pub disk: PathBuf,
}

impl Scope {
    /// What this allocator leases out of this box; spool and artifacts are in the folder `disk`.
    pub fn of(topology: &Topology, allocator: &Allocator, disk: PathBuf) -> Self {
        let cpus = allocator.leasable();
        let leased: Vec<&Core> =
            topology.cores().iter().filter(|core| !core.cpus.is_disjoint(&cpus)).collect();
        let siblings_idle = topology.with_siblings(&cpus).difference(&cpus);
        let in_a_leased_cache = |core: &&Core| {
            core.llc.is_some() && leased.iter().any(|of| (of.node, of.llc) == (core.node, core.llc))
        };
        let in_caches = topology.cores().iter().filter(in_a_leased_cache);
        let cache_neighbours = in_caches
            .fold(CpuSet::new(), |all, core| all.union(&core.cpus))
            .difference(&cpus)
            .difference(&siblings_idle);
        let mut nodes: BTreeMap<NodeId, CpuSet> = BTreeMap::new();
        let mut kinds: BTreeMap<CoreKind, CpuSet> = BTreeMap::new();
        for core in &leased {
            let own = core.cpus.intersection(&cpus);
            let of_node = nodes.entry(core.node).or_default();
            *of_node = of_node.union(&own);
            let of_kind = kinds.entry(core.kind).or_default();
            *of_kind = of_kind.union(&own);
        }
        Self {
            siblings_idle,
            housekeeping: allocator.housekeeping().clone(),
            cache_neighbours,
            kinds: kinds.into_iter().rev().collect(),
            nodes,
            disk,
            cpus,
        }
    }
}
