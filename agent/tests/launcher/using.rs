//! What a launch used, as the kernel counted it.

use std::time::Duration;

use darwin_agent::exec::{Confine, EndStatus, LauncherConfig};
use darwin_agent::host::{HostFs, StatSample};
use darwin_agent::measure::CountSource;
use darwin_shared::usage::{Count, Counters, Uncounted};

use super::common::{Bench, command, config, shell, with_cgroups};

const MIB: u64 = 1 << 20;
const PAGE_BYTES: u64 = 4096;
/// 64 MiB that are written to, so that every page is there.
const TAKES_64_MIB: &str = "block = bytearray(64 << 20)\nfor at in range(0, len(block), 4096): block[at] = 1";

fn python(script: &str) -> darwin_agent::exec::Launch {
    command(&["python3", "-c", script])
}

#[tokio::test]
async fn memory_faults_and_switches_are_those_of_the_bench() {
    let mut bench = Bench::start(&config("using")).await;
    let idle = bench.run(&python("pass")).await.ended;
    let large = bench.run(&python(TAKES_64_MIB)).await.ended;
    assert_eq!(large.status, EndStatus::Exit(0));
    // Python itself takes some MiB, and how many is no business of this test.
    let more = large.usage.peak_rss_bytes - idle.usage.peak_rss_bytes;
    println!("peak {} KiB, over an idle python {} KiB", large.usage.peak_rss_bytes >> 10, more >> 10);
    assert!((60 * MIB..70 * MIB).contains(&more), "{idle:?} {large:?}");
    assert!((64 * MIB..80 * MIB).contains(&large.usage.peak_rss_bytes), "{large:?}");
    // A huge page is one fault for 512 pages; without them each page is one.
    let pages = 64 * MIB / PAGE_BYTES;
    let faults = large.usage.minor_faults - idle.usage.minor_faults;
    println!("{faults} faults for {pages} pages");
    assert!((pages / 512..2 * pages).contains(&faults), "{faults} faults for {pages} pages");

    let sleeps = "import time\nfor _ in range(50): time.sleep(0.001)";
    let sleeping = bench.run(&python(sleeps)).await.ended;
    println!("{} voluntary switches for 50 sleeps", sleeping.usage.voluntary_switches);
    let more = sleeping.usage.voluntary_switches.saturating_sub(idle.usage.voluntary_switches);
    assert!((45..100).contains(&more), "{idle:?} {sleeping:?}");

    let busy = bench.run(&python("import time\nwhile time.process_time() < 0.2: pass")).await.ended;
    let cpu = Duration::from_nanos(busy.usage.user_ns + busy.usage.system_ns);
    assert!((Duration::from_millis(190)..Duration::from_millis(400)).contains(&cpu), "{cpu:?}");
    bench.stop().await;
}

#[tokio::test]
async fn what_children_use_counts_too() {
    let mut bench = Bench::start(&config("using-children")).await;
    let launch = shell(&format!("python3 -c '{TAKES_64_MIB}' & python3 -c '{TAKES_64_MIB}' & wait"));
    let ended = bench.run(&launch).await.ended;
    assert_eq!(ended.status, EndStatus::Exit(0));
    // The peak is that of the largest process, not of both together.
    assert!((64 * MIB..80 * MIB).contains(&ended.usage.peak_rss_bytes), "{ended:?}");
    assert!(ended.usage.user_ns + ended.usage.system_ns > 0);
    bench.stop().await;
}

#[tokio::test]
async fn a_cgroup_knows_what_all_processes_took_together() {
    let mut bench = Bench::start(&with_cgroups("using-grouped")).await;
    // Each opens its end of the pipe once it has its memory, so that both have it at the same time.
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe").display().to_string();
    let mut launch = shell(&format!(
        "mkfifo {pipe} && python3 -c '{TAKES_64_MIB}\nopen(\"{pipe}\").read()' & first=$!
         while [ ! -p {pipe} ]; do sleep 0.01; done
         python3 -c '{TAKES_64_MIB}\nopen(\"{pipe}\", \"w\").close()' && wait $first"
    ));
    launch.confine = Confine { memory_max_bytes: Some(1 << 30), ..Confine::default() };
    let two = bench.run(&launch).await.ended;
    assert_eq!(two.status, EndStatus::Exit(0), "{two:?}");
    match two.usage.cgroup_peak_bytes {
        Count::Known(peak) => {
            println!("two processes of 64 MiB: the cgroup held {} MiB", peak / MIB);
            assert!((128 * MIB..200 * MIB).contains(&peak), "{two:?}");
            // Set back for each launch.
            let mut small = command(&["true"]);
            small.confine = launch.confine.clone();
            let one = bench.run(&small).await.ended.usage.cgroup_peak_bytes;
            assert!(matches!(one, Count::Known(peak) if peak < 64 * MIB), "{one:?}");
        }
        Count::Unknown(why) => {
            assert_eq!(why, Uncounted::NoCgroup);
            println!("not run: no cgroup that counts memory and can be set back");
        }
    }
    let unconfined = bench.run(&command(&["true"])).await.ended.usage.cgroup_peak_bytes;
    println!("without a limit: {unconfined:?}");
    bench.stop().await;
}

/// The kernel's own events in the place of the hardware's: opened for the child that waits, from exec on, with its
/// threads and children, read when all of it is gone.
#[tokio::test]
async fn counters_see_the_whole_tree_from_exec_on() {
    let source = LauncherConfig { count: CountSource::Kernel, ..config("counted") };
    let mut bench = Bench::start(&source).await;
    let counted = |ended: darwin_agent::exec::Ended| {
        let Counters { instructions, cycles, .. } = ended.usage.counters;
        Some((instructions.known()?, cycles.known()?))
    };
    let small = bench.run(&command(&["true"])).await.ended;
    let Some((clock_ns, faults)) = counted(small) else {
        println!("not run: the kernel does not count: {:?}", small.usage.counters);
        return bench.stop().await;
    };
    println!("true: {clock_ns} ns, {faults} faults of {}", small.usage.minor_faults);
    // What the launcher's child does before exec is in the usage, and not in the counters.
    assert!(clock_ns > 0 && faults > 0 && faults < small.usage.minor_faults, "{small:?}");

    let alone = bench.run(&python(TAKES_64_MIB)).await.ended;
    let script = format!("python3 -c '{TAKES_64_MIB}' & python3 -c '{TAKES_64_MIB}' & wait");
    let both = bench.run(&shell(&script)).await.ended;
    let (Some((one_ns, one)), Some((two_ns, two))) = (counted(alone), counted(both)) else {
        panic!("{alone:?} {both:?}");
    };
    println!("one process: {one_ns} ns, {one} faults; two: {two_ns} ns, {two} faults");
    assert!((one * 3 / 2..one * 3).contains(&two), "children are not counted: {one} and {two} faults");
    for (ended, clock) in [(alone, one_ns), (both, two_ns)] {
        let usage = ended.usage.user_ns + ended.usage.system_ns;
        assert!((usage / 2..usage * 2).contains(&clock), "{clock} ns counted, {usage} ns used");
    }
    // Nothing is carried over to the next launch, and a command that cannot be started ends as ever.
    assert!(bench.try_run(&command(&["/no/such/program"])).await.is_err());
    let again = counted(bench.run(&command(&["true"])).await.ended).unwrap();
    assert!(again.1 < 2 * faults, "{again:?}");
    // A threaded bench, and one that is killed while it runs.
    let threads = "import threading\nt=[threading.Thread(target=lambda: sum(range(10**6))) for _ in range(3)]\n\
                   [x.start() for x in t]; [x.join() for x in t]";
    assert!(counted(bench.run(&python(threads)).await.ended).is_some());
    let mut hanging = command(&["sleep", "600"]);
    hanging.limits.deadline = Duration::from_millis(200);
    let killed = bench.run(&hanging).await.ended;
    assert_eq!(killed.status, EndStatus::TimedOut);
    assert!(counted(killed).is_some(), "{killed:?}");
    bench.stop().await;
}

/// What the hypervisor takes cannot be had at will. What is not charged can: the CPU time of a child that the kernel buries
/// by itself, for its parent ignores its end.
#[tokio::test]
async fn time_on_a_cpu_that_is_not_charged_is_told_apart() {
    const BUSY: &str = "import time\nwhile time.process_time() < 0.4: pass";
    let mut bench = Bench::start(&config("stolen")).await;
    let mut counted = async |script: String| {
        let mut launch = python(&script);
        launch.count_stolen = true;
        let before = StatSample::read(&HostFs::default()).unwrap();
        let ended = bench.run(&launch).await.ended;
        assert_eq!(ended.status, EndStatus::Exit(0), "{ended:?}");
        let all = "0-1023".parse().unwrap();
        // In ticks of 10 ms, of all CPUs.
        let taken =
            StatSample::read(&HostFs::default()).unwrap().since(&before, &all).steal_ticks * 10_000_000;
        println!(
            "{:?} not charged of {} ns used; the box lost {taken} ns",
            ended.usage.stolen_ns, ended.usage.user_ns
        );
        ended
            .usage
            .stolen_ns
            .known()
            .map(|stolen| (Duration::from_nanos(stolen), Duration::from_nanos(taken)))
    };
    let slack = Duration::from_millis(100);
    let child = format!("subprocess.Popen(['python3', '-c', '''{BUSY}'''])");
    let Some((alone, taken)) = counted(BUSY.to_owned()).await else {
        println!("not run: the kernel gives no task clock");
        return bench.stop().await;
    };
    assert!(alone < taken + slack, "{alone:?} of a process alone");
    // Children, and time off the CPU, are neither.
    let waits =
        format!("import subprocess, time\na = {child}\nb = {child}\na.wait(), b.wait()\ntime.sleep(0.3)");
    let (waited, taken) = counted(waits).await.unwrap();
    assert!(waited < taken + slack, "{waited:?} of children that were waited for");
    let ignores = format!(
        "import os, signal, subprocess\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n{child}\n\
         try: os.wait()\nexcept ChildProcessError: pass"
    );
    let (unburied, taken) = counted(ignores).await.unwrap();
    assert!(
        unburied > Duration::from_millis(350) && unburied < taken + slack + Duration::from_millis(500),
        "{unburied:?}"
    );
    // Without being asked nobody counts.
    let unasked = bench.run(&python("pass")).await.ended.usage.stolen_ns;
    assert_eq!(unasked, Count::Unknown(Uncounted::NotTold));
    bench.stop().await;
}

#[tokio::test]
async fn hardware_counters_are_known_or_told_why_not() {
    let mut bench = Bench::start(&config("hardware")).await;
    let Counters { instructions, cycles, .. } = bench.run(&python("pass")).await.ended.usage.counters;
    let pmu = HostFs::default().path("/sys/bus/event_source/devices/cpu").exists();
    println!("counters of the CPU: {pmu}; {instructions:?}, {cycles:?}");
    match instructions {
        Count::Known(number) => assert!(number > 1_000_000, "{number} instructions to start a python"),
        Count::Unknown(why) => {
            assert!(!pmu || why != Uncounted::NoCounter, "{why:?}");
            assert_ne!(why, Uncounted::NotTold);
            println!("not run: {why}");
        }
    }
    bench.stop().await;
}
