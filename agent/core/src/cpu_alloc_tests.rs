use proptest::prelude::*;

use super::*;
use crate::topology::Cpu;

/// A box of `nodes` x `llcs` x `cores`, SMT siblings numbered behind all first threads as on most x86 boxes.
fn a_box(nodes: u32, llcs: u32, cores: u32, smt: bool, isolated: &str) -> Topology {
    let total = nodes * llcs * cores;
    let isolated: CpuSet = isolated.parse().unwrap();
    let mut cpus = Vec::new();
    for core in 0..total {
        let ids = if smt { vec![core, core + total] } else { vec![core] };
        for &id in &ids {
            cpus.push(Cpu {
                id,
                siblings: set_of(ids.iter().copied()),
                node: NodeId(core / (llcs * cores)),
                llc: Some(LlcId(core / cores * cores)),
                isolated: isolated.contains(id),
                nohz_full: false,
            });
        }
    }
    Topology::new(cpus).unwrap()
}

fn ask(cores: u32, exclusive: Exclusive) -> Request {
    Request { cores, exclusive }
}

fn cpus(granted: &Granted) -> String {
    format!("{} idle {}", granted.cpus, granted.siblings_idle)
}

#[test]
fn leases_whole_cores_and_never_that_of_cpu_0() {
    let mut alloc = Allocator::new(&a_box(1, 1, 4, true, ""), None).unwrap();
    assert_eq!(alloc.housekeeping().to_string(), "0,4");
    assert_eq!(alloc.cores_total(), 3);
    assert_eq!(cpus(&alloc.allocate(LeaseKey(1), ask(2, Exclusive::Core)).unwrap()), "1-2 idle 5-6");
    assert_eq!(cpus(&alloc.allocate(LeaseKey(2), ask(1, Exclusive::Core)).unwrap()), "3 idle 7");
    let refused = alloc.allocate(LeaseKey(3), ask(1, Exclusive::Core)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "1 cores are asked for (exclusive: Core); at the moment 0 can be had on one node"
    );
    assert_eq!(cpus(&alloc.release(LeaseKey(1)).unwrap()), "1-2 idle 5-6");
    assert_eq!(alloc.release(LeaseKey(1)), None);
    assert_eq!(alloc.cores_free(), 2);
}

#[test]
fn what_others_have_is_left_alone_until_they_give_it_back() {
    let mut alloc = Allocator::new(&a_box(1, 2, 2, true, ""), None).unwrap();
    let claimed = |granted: &Granted| granted.claimed.to_string();
    alloc.set_elsewhere("5".parse().unwrap());
    assert_eq!(alloc.cores_free(), 3, "it will come back");
    let first = alloc.allocate(LeaseKey(1), ask(1, Exclusive::Core)).unwrap();
    assert_eq!(
        (cpus(&first), claimed(&first)),
        ("2 idle 6".to_owned(), "2,6".to_owned()),
        "5 is a sibling of 1"
    );
    alloc.release(LeaseKey(1));
    let cache = alloc.allocate(LeaseKey(1), ask(1, Exclusive::Llc)).unwrap();
    assert_eq!((cpus(&cache), claimed(&cache)), ("2 idle 6".to_owned(), "2-3,6-7".to_owned()));
    alloc.release(LeaseKey(1));
    let whole = ask(1, Exclusive::Host);
    assert!(matches!(alloc.allocate(LeaseKey(1), whole), Err(Refusal::Busy { .. })));
    alloc.set_elsewhere(CpuSet::new());
    assert_eq!(claimed(&alloc.allocate(LeaseKey(1), whole).unwrap()), "0-7", "housekeeping too");
}

#[test]
fn refuses_what_can_never_be() {
    let mut alloc = Allocator::new(&a_box(2, 1, 4, false, ""), None).unwrap();
    assert_eq!(alloc.housekeeping().to_string(), "0,4");
    let never = alloc.allocate(LeaseKey(1), ask(4, Exclusive::Core));
    assert_eq!(never, Err(Refusal::NeverFits { asked: 4, most: 3 }));
    assert_eq!(alloc.allocate(LeaseKey(1), ask(0, Exclusive::Core)), Err(Refusal::NoCores));
    alloc.allocate(LeaseKey(1), ask(1, Exclusive::Core)).unwrap();
    let twice = alloc.allocate(LeaseKey(1), ask(1, Exclusive::Core));
    assert_eq!(twice, Err(Refusal::AlreadyHeld { lease: LeaseKey(1) }));
}

#[test]
fn takes_isolated_cores_first_and_spreads_over_caches() {
    let mut alloc = Allocator::new(&a_box(1, 3, 4, false, "6-11"), None).unwrap();
    let mut got = |key, cores| cpus(&alloc.allocate(LeaseKey(key), ask(cores, Exclusive::Core)).unwrap());
    assert_eq!(got(1, 2), "6-7 idle ", "isolated, and the cache with the fewest left over");
    assert_eq!(got(2, 1), "8 idle ", "isolated, in a cache of its own");
    assert_eq!(got(3, 3), "9-11 idle ", "isolated comes before away from others");
    assert_eq!(got(4, 1), "1 idle ", "in the one cache that no lease is in");
}

#[test]
fn exclusive_means_both_ways() {
    let mut alloc = Allocator::new(&a_box(2, 2, 2, false, ""), None).unwrap();
    let llc = alloc.allocate(LeaseKey(1), ask(1, Exclusive::Llc)).unwrap();
    assert_eq!(cpus(&llc), "1 idle ");
    let next = alloc.allocate(LeaseKey(2), ask(1, Exclusive::Core)).unwrap();
    assert_eq!(cpus(&next), "5 idle ", "the smallest gap outside the exclusive cache");
    assert!(matches!(
        alloc.allocate(LeaseKey(3), ask(1, Exclusive::Node)),
        Err(Refusal::Busy { free: 0, .. })
    ));
    assert!(matches!(
        alloc.allocate(LeaseKey(3), ask(1, Exclusive::Host)),
        Err(Refusal::Busy { free: 0, .. })
    ));
    alloc.release(LeaseKey(1));
    let node = alloc.allocate(LeaseKey(3), ask(3, Exclusive::Node)).unwrap();
    assert_eq!(cpus(&node), "1-3 idle ");
    alloc.release(LeaseKey(2));
    alloc.release(LeaseKey(3));
    alloc.allocate(LeaseKey(4), ask(1, Exclusive::Host)).unwrap();
    assert_eq!(alloc.cores_free(), 0);
}

#[test]
fn a_list_of_the_operator_is_taken_as_it_is() {
    let small = a_box(1, 1, 2, false, "");
    let alloc = Allocator::new(&small, Some(&"0-1".parse().unwrap())).unwrap();
    assert_eq!((alloc.cores_total(), alloc.housekeeping().to_string()), (2, "0-1".to_owned()));
    let siblings = Allocator::new(&a_box(1, 1, 2, true, ""), Some(&"1,3".parse().unwrap())).unwrap();
    assert_eq!((siblings.cores_total(), siblings.housekeeping().to_string()), (1, "0,2".to_owned()));
    let missing = Allocator::new(&small, Some(&"1-2".parse().unwrap())).unwrap_err();
    assert_eq!(missing.to_string(), "`lease_cpus` names CPUs 2, which are not online; online are 0-1");
    assert_eq!(Allocator::new(&small, Some(&CpuSet::new())).unwrap_err(), AllocatorError::EmptyList);
}

#[test]
fn a_box_of_one_core_leases_it() {
    let alloc = Allocator::new(&a_box(1, 1, 1, true, ""), None).unwrap();
    assert_eq!((alloc.cores_total(), alloc.housekeeping().to_string()), (1, "1".to_owned()));
}

fn exclusive() -> impl Strategy<Value = Exclusive> {
    prop_oneof![
        6 => Just(Exclusive::Core),
        2 => Just(Exclusive::Llc),
        1 => Just(Exclusive::Node),
        1 => Just(Exclusive::Host),
    ]
}

proptest! {
    #[test]
    fn whatever_is_asked_nothing_is_given_twice(
        (nodes, llcs, cores, smt) in (1u32..3, 1u32..3, 1u32..4, any::<bool>()),
        isolated in prop::collection::btree_set(0u32..24, 0..12),
        steps in prop::collection::vec((0u64..6, 1u32..4, exclusive(), any::<bool>()), 1..60),
    ) {
        let isolated = set_of(isolated.into_iter()).to_string();
        let topology = a_box(nodes, llcs, cores, smt, &isolated);
        let mut alloc = Allocator::new(&topology, None).unwrap();
        let fresh = alloc.clone();
        for (key, cores, exclusive, give) in steps {
            if give {
                if let Ok(granted) = alloc.allocate(LeaseKey(key), ask(cores, exclusive)) {
                    prop_assert_eq!(granted.cpus.len(), cores as usize);
                    let whole = topology.with_siblings(&granted.cpus);
                    prop_assert_eq!(&whole, &granted.cpus.union(&granted.siblings_idle));
                    if topology.cores().len() > 1 {
                        prop_assert!(whole.is_disjoint(alloc.housekeeping()));
                        prop_assert!(!whole.contains(0));
                    }
                }
            } else {
                alloc.release(LeaseKey(key));
            }
            prop_assert_eq!(alloc.violation(), None);
        }
        for key in 0..6 {
            alloc.release(LeaseKey(key));
        }
        prop_assert_eq!(alloc.cores_free(), fresh.cores_free());
        prop_assert_eq!(alloc.leases().count(), 0);
    }
}
