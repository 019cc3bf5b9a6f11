//! Which cores a lease gets.
//!
//! The unit is the whole physical core: a bench runs on one CPU of it, the siblings stay idle and blocked. All cores
//! of a lease lie on one node, are of one kind, and share a last-level cache where that is possible. A core for the box's
//! own work (housekeeping) is never leased: that of CPU 0, and one more per further node.
//!
//! Pure: it decides and remembers, it pins nothing and reads nothing.

use std::collections::BTreeMap;

use darwin_shared::cpu::CpuSet;
use darwin_shared::spec::Exclusive;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::topology::{Core, CoreKind, LlcId, NodeId, Topology};

/// The name under which cores are held: whatever number the caller knows its lease by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseKey(pub u64);

/// What a lease asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Whole physical cores.
    pub cores: u32,
    /// What no other lease may share meanwhile.
    pub exclusive: Exclusive,
}

/// What a lease got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The CPUs to run on, one per core.
    pub cpus: CpuSet,
    /// Their SMT siblings: nothing may run there.
    pub siblings_idle: CpuSet,
    /// The node of all of them; memory belongs there as well.
    pub node: NodeId,
    /// Whether the kernel keeps other tasks off every one of them.
    pub isolated: bool,
    /// All CPUs that nobody else on the box may lease meanwhile: its cores, and what it shares with no one.
    pub claimed: CpuSet,
}

/// Why a request gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nothing was asked for.
    #[error("a lease needs at least one core")]
    NoCores,
    /// The key holds cores already.
    #[error("lease {} holds cores already; it must be released before it asks again", lease.0)]
    AlreadyHeld {
        /// The key.
        lease: LeaseKey,
    },
    /// More than the box could ever give.
    #[error(
        "{asked} cores of one kind on one node are asked for; the most that this box leases there is {most}"
    )]
    NeverFits {
        /// Cores asked for.
        asked: u32,
        /// Cores of one kind of the largest node.
        most: u32,
    },
    /// Not at the moment: other leases are in the way.
    #[error(
        "{asked} cores are asked for (exclusive: {exclusive:?}); at the moment {free} can be had on one node"
    )]
    Busy {
        /// Cores asked for.
        asked: u32,
        /// What must not be shared.
        exclusive: Exclusive,
        /// The most that one node could give for such a request now.
        free: u32,
    },
}

/// Why an operator's list of CPUs cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AllocatorError {
    /// An empty list leases nothing.
    #[error("`lease_cpus` is empty: name CPUs, as in \"2-7\", or leave it out to let the agent choose")]
    EmptyList,
    /// CPUs that the box does not have.
    #[error("`lease_cpus` names CPUs {missing}, which are not online; online are {online}")]
    NotOnline {
        /// The CPUs that are not there.
        missing: CpuSet,
        /// Those that are.
        online: CpuSet,
    },
}

/// A core that may be leased.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    /// The CPU that a bench runs on.
    cpu: u32,
    core: Core,
}

impl Unit {
    fn group(&self) -> (NodeId, Option<LlcId>) {
        (self.core.node, self.core.llc)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Lease {
    /// Indices into the units.
    units: Vec<usize>,
    exclusive: Exclusive,
    granted: Granted,
}

/// Gives cores to leases and takes them back.
#[derive(Debug, Clone)]
pub struct Allocator {
    units: Vec<Unit>,
    /// Every core of the box.
    cores: Vec<Core>,
    housekeeping: CpuSet,
    leases: BTreeMap<LeaseKey, Lease>,
    /// CPUs that somebody else on the box has leased, as far as is known.
    elsewhere: CpuSet,
}

impl Allocator {
    /// An allocator over the box. With `lease_cpus` exactly those are leased, even CPU 0; without, all but
    /// housekeeping.
    pub fn new(topology: &Topology, lease_cpus: Option<&CpuSet>) -> Result<Self, AllocatorError> {
        let listed = match lease_cpus {
            Some(list) => check_list(topology, list)?,
            None => topology.online().difference(&reserved(topology)),
        };
        let units: Vec<Unit> = topology
            .cores()
            .iter()
            .filter_map(|core| {
                let cpu = core.cpus.intersection(&listed).first()?;
                Some(Unit { cpu, core: core.clone() })
            })
            .collect();
        // Whole cores if any are left, else at least not the CPUs that benches run on.
        let taken = [topology.with_siblings(&listed), listed, set_of(units.iter().map(|unit| unit.cpu))];
        let mut left = taken.iter().map(|taken| topology.online().difference(taken));
        let housekeeping = left.find(|left| !left.is_empty()).unwrap_or_else(|| topology.online().clone());
        let cores = topology.cores().to_vec();
        Ok(Self { units, cores, housekeeping, leases: BTreeMap::new(), elsewhere: CpuSet::new() })
    }

    /// Says which CPUs somebody else on the box has: nothing that would touch them is given out until that changes.
    pub fn set_elsewhere(&mut self, cpus: CpuSet) {
        self.elsewhere = cpus;
    }

    /// CPUs that somebody else on the box has, as far as is known.
    pub const fn elsewhere(&self) -> &CpuSet {
        &self.elsewhere
    }

    /// Where the agent itself, its launchers and everything but benches belong.
    pub const fn housekeeping(&self) -> &CpuSet {
        &self.housekeeping
    }

    /// Cores that can be leased at all.
    pub fn cores_total(&self) -> u32 {
        count(self.units.len())
    }

    /// Cores that an ordinary request (exclusive: core) could still get of us, over all nodes. What others have passes.
    pub fn cores_free(&self) -> u32 {
        count((0..self.units.len()).filter(|&unit| self.is_free(unit, Exclusive::Core)).count())
    }

    /// The CPUs that benches may be given, over all leases.
    pub fn leasable(&self) -> CpuSet {
        set_of(self.units.iter().map(|unit| unit.cpu))
    }

    /// What each lease holds.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseKey, &Granted)> {
        self.leases.iter().map(|(&key, lease)| (key, &lease.granted))
    }

    /// Gives cores to a lease: isolated ones first, then the fastest, on one node, in one cache if possible, away from
    /// other leases' caches, and otherwise where the fewest are left over.
    pub fn allocate(&mut self, lease: LeaseKey, request: Request) -> Result<Granted, Refusal> {
        if request.cores == 0 {
            return Err(Refusal::NoCores);
        }
        if self.leases.contains_key(&lease) {
            return Err(Refusal::AlreadyHeld { lease });
        }
        let most = self.most_on_a_node(|_| true);
        if request.cores > most {
            return Err(Refusal::NeverFits { asked: request.cores, most });
        }
        let free: Vec<usize> = (0..self.units.len())
            .filter(|&unit| {
                self.is_free(unit, request.exclusive) && !self.is_elsewhere(unit, request.exclusive)
            })
            .collect();
        let Some(units) = self.choose(&free, request.cores as usize) else {
            let free = self.most_on_a_node(|unit| free.contains(&unit));
            return Err(Refusal::Busy { asked: request.cores, exclusive: request.exclusive, free });
        };
        let granted = self.describe(&units, request.exclusive);
        self.leases.insert(lease, Lease { units, exclusive: request.exclusive, granted: granted.clone() });
        debug_assert_eq!(self.violation(), None);
        Ok(granted)
    }

    /// Takes a lease's cores back; says what it held.
    pub fn release(&mut self, lease: LeaseKey) -> Option<Granted> {
        self.leases.remove(&lease).map(|lease| lease.granted)
    }

    /// Whether a request that shares nothing of `exclusive` may have the core now.
    fn is_free(&self, unit: usize, exclusive: Exclusive) -> bool {
        self.leases.values().all(|lease| {
            lease.units.iter().all(|&held| {
                held != unit && !self.clash(held, unit, exclusive) && !self.clash(held, unit, lease.exclusive)
            })
        })
    }

    /// Whether somebody else has a CPU of what a lease of this core would claim.
    fn is_elsewhere(&self, unit: usize, exclusive: Exclusive) -> bool {
        !self.elsewhere.is_empty() && !self.elsewhere.is_disjoint(&self.domain(unit, exclusive))
    }

    /// All CPUs of the domain of that kind that a core lies in.
    fn domain(&self, unit: usize, exclusive: Exclusive) -> CpuSet {
        let own = &self.units[unit].core;
        let near = |core: &&Core| match exclusive {
            Exclusive::Core => core.cpus == own.cpus,
            Exclusive::Llc => (core.node, core.llc) == (own.node, own.llc),
            Exclusive::Node => core.node == own.node,
            Exclusive::Host => true,
        };
        self.cores.iter().filter(near).fold(CpuSet::new(), |all, core| all.union(&core.cpus))
    }

    /// Whether two cores lie in the same domain of that kind.
    fn clash(&self, held: usize, wanted: usize, exclusive: Exclusive) -> bool {
        let (held, wanted) = (&self.units[held], &self.units[wanted]);
        match exclusive {
            Exclusive::Core => held.core.cpus == wanted.core.cpus,
            Exclusive::Llc => held.group() == wanted.group(),
            Exclusive::Node => held.core.node == wanted.core.node,
            Exclusive::Host => true,
        }
    }

    /// The best `cores` of the free ones, or none if no node has that many of one kind.
    fn choose(&self, free: &[usize], cores: usize) -> Option<Vec<usize>> {
        type Place = (CoreKind, NodeId, Option<Option<LlcId>>);
        let mut options: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
        for &unit in free {
            let (kind, (node, llc)) = (self.units[unit].core.kind, self.units[unit].group());
            options.entry((kind, node, Some(llc))).or_default().push(unit);
            options.entry((kind, node, None)).or_default().push(unit);
        }
        let fitting = options.into_iter().filter(|(_, units)| units.len() >= cores);
        let best = fitting.map(|((kind, node, llc), mut units)| {
            let spare = units.len() - cores;
            let room = |unit: usize| {
                free.iter().filter(|&&f| self.units[f].group() == self.units[unit].group()).count()
            };
            units.sort_by_key(|&unit| (!self.units[unit].core.isolated, std::cmp::Reverse(room(unit)), unit));
            units.truncate(cores);
            units.sort_unstable();
            let common = units.iter().filter(|&&unit| !self.units[unit].core.isolated).count();
            let slower = std::cmp::Reverse(kind);
            ((common, slower, llc.is_none(), self.neighbours(&units), spare, node, llc), units)
        });
        best.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, units)| units)
    }

    /// How many leases share a last-level cache with these cores.
    fn neighbours(&self, units: &[usize]) -> usize {
        let near = |held: &usize| units.iter().any(|&unit| self.clash(*held, unit, Exclusive::Llc));
        self.leases.values().filter(|lease| lease.units.iter().any(near)).count()
    }

    fn most_on_a_node(&self, counts: impl Fn(usize) -> bool) -> u32 {
        let mut there: BTreeMap<(NodeId, CoreKind), u32> = BTreeMap::new();
        for (index, unit) in self.units.iter().enumerate() {
            *there.entry((unit.core.node, unit.core.kind)).or_default() += u32::from(counts(index));
        }
        there.into_values().max().unwrap_or(0)
    }

    fn describe(&self, units: &[usize], exclusive: Exclusive) -> Granted {
        let cpus = set_of(units.iter().map(|&unit| self.units[unit].cpu));
        let cores = units.iter().fold(CpuSet::new(), |all, &unit| all.union(&self.units[unit].core.cpus));
        Granted {
            siblings_idle: cores.difference(&cpus),
            cpus,
            node: units.first().map_or(NodeId(0), |&unit| self.units[unit].core.node),
            isolated: units.iter().all(|&unit| self.units[unit].core.isolated),
            claimed: units.iter().fold(CpuSet::new(), |all, &unit| all.union(&self.domain(unit, exclusive))),
        }
    }

    /// What is wrong with the state, if anything: no CPU and no sibling belongs to two leases or to a lease and
    /// housekeeping (unless the box has nothing else), and what is exclusive is not shared.
    fn violation(&self) -> Option<String> {
        let mut taken = CpuSet::new();
        for (key, lease) in &self.leases {
            let all = lease.granted.cpus.union(&lease.granted.siblings_idle);
            if !all.is_disjoint(&taken) {
                return Some(format!("lease {} shares CPUs of {all} with another", key.0));
            }
            taken = taken.union(&all);
            if lease.units.iter().any(|&unit| self.units[unit].core.node != lease.granted.node) {
                return Some(format!("lease {} lies on two nodes", key.0));
            }
            let kind = lease.units.first().map(|&unit| self.units[unit].core.kind);
            if lease.units.iter().any(|&unit| Some(self.units[unit].core.kind) != kind) {
                return Some(format!("lease {} mixes kinds of cores", key.0));
            }
            for other in self.leases.iter().filter(|(other, _)| *other != key).map(|(_, other)| other) {
                let shared = |&a: &usize| other.units.iter().any(|&b| self.clash(a, b, lease.exclusive));
                if lease.units.iter().any(shared) {
                    return Some(format!(
                        "lease {} does not have its {:?} to itself",
                        key.0, lease.exclusive
                    ));
                }
            }
        }
        None
    }
}

fn check_list(topology: &Topology, list: &CpuSet) -> Result<CpuSet, AllocatorError> {
    if list.is_empty() {
        return Err(AllocatorError::EmptyList);
    }
    let missing = list.difference(topology.online());
    if missing.is_empty() {
        return Ok(list.clone());
    }
    Err(AllocatorError::NotOnline { missing, online: topology.online().clone() })
}

/// The cores kept back when the operator names none: that of CPU 0 (of the lowest CPU, if 0 is offline), and on every
/// further node that has another the lowest that is not isolated, else the lowest. A box of one core keeps nothing back.
fn reserved(topology: &Topology) -> CpuSet {
    let cores = topology.cores();
    let Some(first) = cores.first().filter(|_| cores.len() > 1) else {
        return CpuSet::new();
    };
    let mut nodes: Vec<NodeId> = cores.iter().map(|core| core.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let further = nodes.into_iter().filter(|&node| node != first.node).filter_map(|node| {
        let of_node: Vec<&Core> = cores.iter().filter(|core| core.node == node).collect();
        let spare = of_node.iter().find(|core| !core.isolated).or(of_node.first());
        spare.filter(|_| of_node.len() > 1).map(|core| &core.cpus)
    });
    further.fold(first.cpus.clone(), |all, cpus| all.union(cpus))
}

fn set_of(cpus: impl Iterator<Item = u32>) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in cpus {
        // Every CPU here came out of a CpuSet, so it is within range.
        let _ = set.insert(cpu);
    }
    set
}

fn count(cores: usize) -> u32 {
    u32::try_from(cores).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "cpu_alloc_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "cpu_alloc_properties.rs"]
mod properties;
