use proptest::prelude::*;

use super::*;
use crate::topology::Cpu;

/// A box as drawn: nodes, caches in each, cores in each cache, siblings, and the kinds and isolation of its cores.
#[derive(Debug, Clone)]
struct Drawn {
    nodes: u32,
    llcs: u32,
    cores: u32,
    smt: bool,
    knows_llc: bool,
    /// Of each core: whether it is a slow one, and whether it is isolated. Repeats itself on larger boxes.
    each: Vec<(bool, bool)>,
}

impl Drawn {
    fn topology(&self) -> Topology {
        let total = self.nodes * self.llcs * self.cores;
        let cpus = (0..total).flat_map(|core| {
            let ids = if self.smt { vec![core, core + total] } else { vec![core] };
            let (slow, isolated) = self.each[core as usize % self.each.len()];
            let llc = self.knows_llc.then_some(LlcId(core / self.cores * self.cores));
            let cpu = |id: u32, siblings: CpuSet| Cpu {
                id,
                siblings,
                node: NodeId(core / (self.llcs * self.cores)),
                llc,
                kind: CoreKind(if slow { 512 } else { 1024 }),
                isolated,
                nohz_full: isolated,
            };
            ids.iter().map(|&id| cpu(id, set_of(ids.iter().copied()))).collect::<Vec<Cpu>>()
        });
        Topology::new(cpus.collect()).unwrap()
    }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let each = prop::collection::vec((any::<bool>(), any::<bool>()), 1..9);
    (1u32..4, 1u32..4, 1u32..5, any::<bool>(), prop::bool::weighted(0.8), each).prop_map(
        |(nodes, llcs, cores, smt, knows_llc, each)| Drawn { nodes, llcs, cores, smt, knows_llc, each },
    )
}

fn exclusive() -> impl Strategy<Value = Exclusive> {
    prop_oneof![
        6 => Just(Exclusive::Core),
        2 => Just(Exclusive::Llc),
        1 => Just(Exclusive::Node),
        1 => Just(Exclusive::Host),
    ]
}

/// Every CPU of the domains of that kind in which these CPUs lie, by the topology alone.
fn domain(topology: &Topology, cpus: &CpuSet, exclusive: Exclusive) -> CpuSet {
    let own: Vec<&Core> = topology.cores().iter().filter(|core| !core.cpus.is_disjoint(cpus)).collect();
    let near = |core: &Core| match exclusive {
        Exclusive::Core => own.iter().any(|own| own.cpus == core.cpus),
        Exclusive::Llc => own.iter().any(|own| (own.node, own.llc) == (core.node, core.llc)),
        Exclusive::Node => own.iter().any(|own| own.node == core.node),
        Exclusive::Host => true,
    };
    let cores = topology.cores().iter().filter(|core| near(core));
    cores.fold(CpuSet::new(), |all, core| all.union(&core.cpus))
}

proptest! {
    #[test]
    fn no_two_leases_share_what_one_of_them_has_to_itself(
        drawn in drawn(),
        steps in prop::collection::vec((0u64..6, 1u32..4, exclusive(), any::<bool>()), 1..60),
    ) {
        let topology = drawn.topology();
        let mut alloc = Allocator::new(&topology, None).unwrap();
        let fresh = alloc.clone();
        let mut asked: BTreeMap<LeaseKey, Exclusive> = BTreeMap::new();
        for (key, cores, exclusive, give) in steps {
            let key = LeaseKey(key);
            if give {
                if let Ok(granted) = alloc.allocate(key, Request { cores, exclusive }) {
                    prop_assert_eq!(granted.cpus.len(), cores as usize);
                    asked.insert(key, exclusive);
                }
            } else {
                alloc.release(key);
                asked.remove(&key);
            }
            let leases: Vec<(LeaseKey, Granted)> =
                alloc.leases().map(|(key, granted)| (key, granted.clone())).collect();
            prop_assert_eq!(leases.len(), asked.len());
            for (key, granted) in &leases {
                let whole = granted.cpus.union(&granted.siblings_idle);
                prop_assert_eq!(&topology.with_siblings(&granted.cpus), &whole, "siblings stay idle");
                prop_assert!(granted.cpus.is_disjoint(&granted.siblings_idle));
                let own: Vec<&Core> =
                    topology.cores().iter().filter(|core| !core.cpus.is_disjoint(&whole)).collect();
                prop_assert_eq!(own.len(), granted.cpus.len(), "one CPU of each core");
                prop_assert!(own.iter().all(|core| core.node == granted.node && core.kind == own[0].kind));
                let alone = domain(&topology, &granted.cpus, asked[key]);
                prop_assert_eq!(&alone, &granted.claimed);
                for (_, other) in leases.iter().filter(|(other, _)| other != key) {
                    prop_assert!(other.cpus.union(&other.siblings_idle).is_disjoint(&alone));
                }
            }
            prop_assert_eq!(alloc.violation(), None);
        }
        for key in 0..6 {
            alloc.release(LeaseKey(key));
        }
        prop_assert_eq!(alloc.cores_free(), fresh.cores_free());
        prop_assert_eq!(alloc.leases().count(), 0);
    }

    #[test]
    fn a_whole_core_of_each_node_keeps_house(drawn in drawn()) {
        let topology = drawn.topology();
        let alloc = Allocator::new(&topology, None).unwrap();
        if topology.cores().len() == 1 {
            return Ok(());
        }
        let leased = topology.with_siblings(&alloc.leasable());
        let zero = topology.with_siblings(&"0".parse().unwrap());
        prop_assert!(leased.is_disjoint(&zero), "CPU 0 and its siblings are never leased");
        prop_assert_eq!(leased.union(alloc.housekeeping()), topology.online().clone());
        prop_assert!(leased.is_disjoint(alloc.housekeeping()));
        for node in topology.cores().iter().map(|core| core.node) {
            let of_node: Vec<&Core> = topology.cores().iter().filter(|core| core.node == node).collect();
            let kept = of_node.iter().filter(|core| core.cpus.is_subset(alloc.housekeeping())).count();
            prop_assert!(kept == 1 || of_node.len() == 1, "{node:?} keeps {kept}");
        }
    }

    #[test]
    fn isolated_cores_come_first(drawn in drawn(), cores in 1u32..3) {
        let topology = drawn.topology();
        let mut alloc = Allocator::new(&topology, None).unwrap();
        let leasable = alloc.leasable();
        let mut isolated: BTreeMap<(NodeId, CoreKind), u32> = BTreeMap::new();
        for core in topology.cores().iter().filter(|core| core.isolated && !core.cpus.is_disjoint(&leasable)) {
            *isolated.entry((core.node, core.kind)).or_default() += 1;
        }
        if let Ok(granted) = alloc.allocate(LeaseKey(1), Request { cores, exclusive: Exclusive::Core }) {
            prop_assert_eq!(granted.isolated, isolated.values().any(|&there| there >= cores));
        }
    }
}
