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
                kind: CoreKind::default(),
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

/// A box of `fast` cores with siblings and as many slow ones without as there are in `slow`, all in one cache.
fn hybrid(fast: u32, slow: u32) -> Topology {
    let cpu = |id: u32, siblings: CpuSet, kind| Cpu {
        id,
        siblings,
        node: NodeId(0),
        llc: Some(LlcId(0)),
        kind: CoreKind(kind),
        isolated: false,
        nohz_full: false,
    };
    let fast_cpus = (0..2 * fast).map(|id| cpu(id, set_of([id / 2 * 2, id / 2 * 2 + 1].into_iter()), 1024));
    let slow_cpus = (2 * fast..2 * fast + slow).map(|id| cpu(id, set_of([id].into_iter()), 512));
    Topology::new(fast_cpus.chain(slow_cpus).collect()).unwrap()
}

#[test]
fn a_lease_has_cores_of_one_kind_the_fast_ones_first() {
    let topology = hybrid(3, 4);
    let kinds: Vec<String> =
        topology.kinds().iter().map(|(kind, cpus)| format!("{}: {cpus}", kind.0)).collect();
    assert_eq!(kinds, ["1024: 0-5", "512: 6-9"]);
    let mut alloc = Allocator::new(&topology, None).unwrap();
    assert_eq!((alloc.housekeeping().to_string(), alloc.cores_total()), ("0-1".to_owned(), 6));
    let mut got = |key, cores| alloc.allocate(LeaseKey(key), ask(cores, Exclusive::Core));
    assert_eq!(cpus(&got(1, 1).unwrap()), "2 idle 3");
    assert_eq!(cpus(&got(2, 2).unwrap()), "6-7 idle ", "two fast ones are not free any more");
    assert_eq!(cpus(&got(3, 1).unwrap()), "4 idle 5");
    assert!(matches!(got(4, 3), Err(Refusal::Busy { free: 2, .. })));
    assert_eq!(got(4, 5), Err(Refusal::NeverFits { asked: 5, most: 4 }));
}

#[test]
fn a_node_that_is_isolated_as_a_whole_keeps_a_core_all_the_same() {
    let alloc = Allocator::new(&a_box(2, 1, 3, true, "3-5,9-11"), None).unwrap();
    assert_eq!((alloc.housekeeping().to_string(), alloc.cores_total()), ("0,3,6,9".to_owned(), 4));
}
