use std::fs;
use std::sync::mpsc::sync_channel;

use super::*;

/// A box of plain files.
fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, HostFs) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    let host = HostFs::new(root.path());
    (root, host)
}

fn worker(root: &tempfile::TempDir, host: &HostFs) -> Worker {
    Worker {
        host: host.clone(),
        state_dir: root.path().to_owned(),
        lock_file: root.path().join("tune.lock"),
        choices: Choices::all(),
        cpus: "2-3".parse().unwrap(),
        others: "0-1".parse().unwrap(),
        partitions: None,
        shield_root: None,
        keep: Duration::from_hours(1),
    }
}

#[test]
fn a_box_is_changed_for_the_first_attempt_and_put_back_at_the_end() {
    let (root, host) = tree(&[
        ("proc/sys/kernel/random/boot_id", "one"),
        ("proc/sys/vm/stat_interval", "1"),
        ("proc/irq/24/smp_affinity_list", "0-3"),
        ("sys/kernel/mm/ksm/run", "1"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
        ("sys/devices/virtual/workqueue/cpumask", "f"),
    ]);
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap().trim().to_owned();
    let knobs = || {
        [
            read("proc/sys/vm/stat_interval"),
            read("proc/irq/24/smp_affinity_list"),
            read("sys/kernel/mm/ksm/run"),
            read("sys/kernel/mm/transparent_hugepage/enabled"),
            read("sys/devices/virtual/workqueue/cpumask"),
        ]
    };
    let (asks, asked) = sync_channel(4);
    let mine = worker(&root, &host);
    let thread = std::thread::spawn(move || mine.serve(&asked));
    let take = |lease: &str| {
        let (reply, taken) = oneshot::channel();
        let cpus = "2".parse().unwrap();
        asks.send(Ask::Take { lease: lease.into(), cpus, node: 0, partition: true, reply }).unwrap();
        taken.blocking_recv().unwrap()
    };
    let taken = take("g0000");
    assert_eq!(
        taken.facts,
        ["tuned: transparent_hugepage/enabled, ksm/run, stat_interval, workqueue/cpumask, smp_affinity_list"]
    );
    assert!(taken.partition.unwrap().is_err() && !taken.shielded);
    assert_eq!(knobs(), ["10", "0-1", "0", "madvise", "00000003"]);
    // Another agent of the box leaves it alone meanwhile.
    let other = tempfile::tempdir().unwrap();
    let second = Worker { state_dir: other.path().to_owned(), ..worker(&root, &host) };
    let mut held = Held::default();
    second.begin(&mut held);
    assert_eq!(held.facts, ["not tuned: another agent of this box has changed it for itself"]);
    asks.send(Ask::GiveBack { lease: "g0000".into() }).unwrap();
    assert_eq!(take("g0001").facts.len(), 1, "it stays changed between attempts");
    drop(asks);
    thread.join().unwrap();
    assert_eq!(knobs(), ["1", "0-3", "1", "always", "0000000f"]);
    assert_eq!(fs::metadata(root.path().join("tune.journal")).unwrap().len(), 0);
}

#[test]
fn nothing_to_change_writes_nothing() {
    let (root, host) = tree(&[("proc/sys/vm/stat_interval", "60"), ("sys/kernel/mm/ksm/run", "0")]);
    let mut held = Held::default();
    worker(&root, &host).begin(&mut held);
    assert!(held.facts.is_empty());
    assert_eq!(fs::metadata(root.path().join("tune.journal")).unwrap().len(), 0);
}

/// Below a cpuset of its own, so that no task of the box is touched.
#[test]
fn a_shield_moves_what_is_there_and_brings_it_back() {
    let Some(mount) = cpusets() else { return println!("not run: no cpusets of cgroup v1 that we may make") };
    let root = mount.join(format!("darwin-test-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&root) {
        return println!("not run: {}: {error}", root.display());
    }
    let inherit = |file: &str| {
        let text = fs::read_to_string(mount.join(file)).unwrap();
        fs::write(root.join(file), text.trim()).unwrap();
        text.trim().to_owned()
    };
    inherit("cpuset.mems");
    let all: CpuSet = inherit("cpuset.cpus").parse().unwrap();
    let mut task = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(root.join("cgroup.procs"), task.id().to_string()).unwrap();
    let state = tempfile::tempdir().unwrap();
    let others: CpuSet = all.first().unwrap().to_string().parse().unwrap();
    let host = HostFs::default();
    let shielding = Worker {
        state_dir: state.path().to_owned(),
        choices: Choices::default(),
        cpus: all.difference(&others),
        others: others.clone(),
        shield_root: Some(Ok(root.clone())),
        ..worker(&state, &host)
    };
    let mut held = Held::default();
    shielding.begin(&mut held);
    let status = || fs::read_to_string(format!("/proc/{}/status", task.id())).unwrap();
    let set = || fs::read_to_string(format!("/proc/{}/cpuset", task.id())).unwrap().trim().to_owned();
    let seen = (held.shielded, set(), status());
    let balance = fs::read_to_string(root.join(BALANCE)).unwrap();
    let facts = held.facts.clone();
    shielding.put_back(&mut held);
    let back = (set(), fs::read_to_string(root.join(BALANCE)).unwrap(), root.join(SHIELD_NAME).exists());
    task.kill().unwrap();
    task.wait().unwrap();
    fs::remove_dir(&root).unwrap();
    let name = root.file_name().unwrap().to_str().unwrap();
    assert_eq!((seen.0, seen.1.as_str()), (true, &*format!("/{name}/{SHIELD_NAME}")), "{facts:?}");
    assert!(seen.2.contains(&format!("Cpus_allowed_list:\t{others}\n")), "{}", seen.2);
    let told = format!("tuned: {SHIELD_NAME}, {BALANCE}");
    assert_eq!((balance.trim(), facts.as_slice()), ("0", &[told][..]));
    assert_eq!(back, (format!("/{name}"), "1\n".to_owned(), false));
}

fn cpusets() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| {
        line.split_once(" - cgroup ")
            .is_some_and(|(_, right)| right.split([' ', ',']).any(|word| word == "cpuset"))
    })?;
    let mount = PathBuf::from(line.split(' ').nth(4)?);
    nix::unistd::access(&mount, nix::unistd::AccessFlags::W_OK).is_ok().then_some(mount)
}
