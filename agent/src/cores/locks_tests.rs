use super::*;

const START: Duration = Duration::from_secs(100);

fn cpus(list: &str) -> CpuSet {
    list.parse().unwrap()
}

fn elsewhere(list: &str) -> Taken {
    Taken::Elsewhere(cpus(list))
}

/// Two agents of one box of four CPUs.
fn two() -> (tempfile::TempDir, CoreLocks, CoreLocks) {
    let dir = tempfile::tempdir().unwrap();
    let open = || CoreLocks::open(Some(&dir.path().join("cores")), dir.path(), cpus("0-3")).unwrap();
    let (a, b) = (open(), open());
    (dir, a, b)
}

#[test]
fn a_core_is_taken_by_one_agent_at_a_time() {
    let (_dir, mut a, mut b) = two();
    assert_eq!(a.take(0, &cpus("1,3"), START).unwrap(), Taken::Ours);
    assert_eq!(
        b.take(0, &cpus("0-1"), START).unwrap(),
        elsewhere("1,3"),
        "and what was locked on the way is free"
    );
    assert_eq!(a.take(1, &cpus("0"), START).unwrap(), Taken::Ours);
    assert_eq!(b.take(0, &cpus("2"), START).unwrap(), Taken::Ours);
    a.give_back(0);
    assert_eq!(b.take(1, &cpus("3"), START).unwrap(), elsewhere("0-1,3"), "not before it is settled");
    a.settle().unwrap();
    assert_eq!(b.take(1, &cpus("1,3"), START).unwrap(), Taken::Ours);
    assert_eq!(a.take(0, &cpus("1"), START).unwrap(), elsewhere("1-3"), "its own 0 is not among them");
}

#[test]
fn what_is_taken_again_at_once_is_never_let_go() {
    let (_dir, mut a, mut b) = two();
    assert_eq!(a.take(0, &cpus("1"), START).unwrap(), Taken::Ours);
    a.give_back(0);
    assert_eq!(a.take(1, &cpus("1"), START).unwrap(), Taken::Ours);
    a.settle().unwrap();
    assert_eq!(b.take(0, &cpus("1"), START).unwrap(), elsewhere("1"));
}

#[test]
fn whoever_holds_the_open_file_holds_the_locks() {
    let (_dir, mut a, mut b) = two();
    assert_eq!(a.take(0, &cpus("1"), START).unwrap(), Taken::Ours);
    let launcher = a.share().unwrap();
    drop(a);
    assert_eq!(b.take(0, &cpus("1"), START).unwrap(), elsewhere("1"));
    drop(launcher);
    assert_eq!(b.take(0, &cpus("1"), START).unwrap(), Taken::Ours);
}

#[test]
fn two_who_want_the_same_core_without_end_take_turns() {
    let (_dir, mut a, mut b) = two();
    let mut agents = [(&mut a, START, 0u32, "a"), (&mut b, START, 0, "b")];
    let mut history = String::new();
    // Each measures for a millisecond at a time and takes the core again in the same moment; who is denied asks again
    // after 50.
    for millis in 0..2_000u64 {
        let now = START + Duration::from_millis(millis);
        for (locks, ask_at, ran, name) in &mut agents {
            locks.give_back(0);
            let asks = now >= *ask_at;
            match asks.then(|| locks.take(0, &cpus("1"), now).unwrap()) {
                Some(Taken::Ours) => {
                    *ran += 1;
                    if !history.ends_with(*name) {
                        history.push_str(name);
                    }
                }
                Some(Taken::Elsewhere(_)) => *ask_at = now + Duration::from_millis(50),
                None => {}
            }
            locks.settle().unwrap();
        }
    }
    let [(_, _, first, _), (_, _, second, _)] = agents;
    assert!(history.starts_with("ababab"), "{history}");
    assert!(first > 300 && second > 300 && first + second > 1_000, "{first} and {second} of 2,000 ms");
}

#[test]
fn one_who_waits_and_never_comes_stops_nobody() {
    let (_dir, mut a, mut b) = two();
    assert_eq!(a.take(0, &cpus("1"), START).unwrap(), Taken::Ours);
    assert_eq!(b.take(0, &cpus("1"), START).unwrap(), elsewhere("1"));
    let mut at = |millis| {
        a.give_back(0);
        let taken = a.take(0, &cpus("1"), START + Duration::from_millis(millis)).unwrap();
        a.settle().unwrap();
        taken == Taken::Ours
    };
    // The first look came with the first take.
    assert_eq!(
        [at(10), at(60), at(200), at(320), at(1_000), at(5_000)],
        [true, false, false, true, true, true]
    );
    b.wait_no_more().unwrap();
    assert!(at(6_000));
}

#[test]
fn a_file_that_is_none_is_refused_and_one_for_all_can_be_locked_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cores");
    open_shared(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(open_shared(&link).is_err(), "whoever made the link decides where it leads");
    assert!(open_shared(dir.path()).is_err());
    assert!(open_shared(&dir.path().join("no/folder")).is_err());
}
