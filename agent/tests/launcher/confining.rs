//! Where processes run and what they may use, as the kernel says.

use std::time::Duration;

use darwin_agent::exec::{Confine, EndStatus, OutputFile, Step, verify_placement};
use darwin_agent::host::{HostFs, read_topology};

use super::common::{Bench, Done, command, config, shell, with_cgroups};
#[tokio::test]
async fn placement_is_what_the_kernel_says() {
    let host = HostFs::default();
    let cpu = read_topology(&host).unwrap().online().iter().last().unwrap();
    let mut bench = Bench::start(&config("placed")).await;
    let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
    let mut launch = command(&["sleep", "600"]);
    launch.cpus = Some(cpu.to_string().parse().unwrap());
    let mut run = match bench.launcher.run(&launch, &out, &err).await {
        Ok(run) => run,
        Err(error) => return println!("not run: CPU {cpu} is not ours: {error}"),
    };
    assert!(run.started().took.affinity);
    let pid = run.started().pid;
    let placement = verify_placement(&host, pid, launch.cpus.as_ref().unwrap()).unwrap();
    assert_eq!((placement.cpus.to_string(), placement.threads), (cpu.to_string(), 1));
    assert!(placement.no_new_privs && !placement.narrowed);
    let elsewhere = if cpu == 0 { "1" } else { "0" };
    assert!(verify_placement(&host, pid, &elsewhere.parse().unwrap()).is_err());
    run.kill(Duration::ZERO).await.unwrap();
    assert_eq!(run.wait().await.unwrap().status, EndStatus::Killed);
    drop(run);
    bench.stop().await;
}

#[tokio::test]
async fn the_peak_of_memory_is_the_benchs_own() {
    const MIB: u64 = 1 << 20;
    for config in [config("peak"), with_cgroups("peak-grouped")] {
        let mut bench = Bench::start(&config).await;
        let small = bench.run(&command(&["true"])).await.ended;
        assert_eq!(small.status, EndStatus::Exit(0));
        // Its own: of the launcher that it was forked from, only the little private memory counts.
        assert!((1..4 * MIB).contains(&small.usage.peak_rss_bytes), "{small:?}");
        let python = ["python3", "-c", "block = bytearray(200 << 20)"];
        for argv in [&["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"][..], &python] {
            match bench.try_run(&command(argv)).await {
                Ok(Done { ended, stderr, .. }) => {
                    assert_eq!(ended.status, EndStatus::Exit(0), "{stderr}");
                    assert!(
                        (200 * MIB..260 * MIB).contains(&ended.usage.peak_rss_bytes),
                        "{argv:?}: {ended:?}"
                    );
                    println!("{argv:?}: {} KiB", ended.usage.peak_rss_bytes >> 10);
                }
                Err(error) => println!("not run: {error}"),
            }
        }
        println!("true: {} KiB", small.usage.peak_rss_bytes >> 10);
        bench.stop().await;
    }
}

#[tokio::test]
async fn limits_of_cgroups_take_effect() {
    let config = with_cgroups("limits");
    let (pids, cpuset) = (config.cgroups.pids.is_some(), config.cgroups.cpuset.is_some());
    let mut bench = Bench::start(&config).await;
    let mut launch = shell("for i in 1 2 3 4 5 6 7 8; do sleep 0.2 & done; wait; echo all");
    launch.confine = Confine { processes_max: Some(4), required: true, ..Confine::default() };
    match bench.try_run(&launch).await {
        Ok(done) => assert!(done.stderr.contains("fork"), "{} {}", done.stdout, done.stderr),
        Err(error) => println!("not run: no pids controller (v1: {pids}): {error}"),
    }
    let mut launch = command(&["sleep", "600"]);
    launch.cpus = read_topology(&HostFs::default())
        .unwrap()
        .online()
        .first()
        .map(|cpu| cpu.to_string().parse().unwrap());
    launch.confine = Confine { cpuset: true, required: true, ..Confine::default() };
    let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
    match bench.launcher.run(&launch, &out, &err).await {
        Ok(run) => {
            assert!(run.started().took.cpuset);
            let placement =
                verify_placement(&HostFs::default(), run.started().pid, launch.cpus.as_ref().unwrap());
            assert!(placement.unwrap().cpuset.unwrap().ends_with("/limits"));
        }
        Err(error) => println!("not run: no cpuset controller (v1: {cpuset}): {error}"),
    }
    assert_eq!(
        bench.run(&command(&["true"])).await.ended.status,
        EndStatus::Exit(0),
        "after an abandoned run"
    );
    bench.stop().await;
}

#[tokio::test]
async fn what_is_required_and_not_there_is_refused() {
    let mut bench = Bench::start(&config("required")).await;
    let mut launch = command(&["true"]);
    launch.confine = Confine { memory_max_bytes: Some(1 << 30), required: true, ..Confine::default() };
    let (step, message) = bench.fails(&launch).await;
    assert_eq!(step, Step::Cgroup);
    assert!(message.starts_with("the limit on memory is required and cannot be had here: "), "{message}");
    launch.confine.required = false;
    assert_eq!(bench.run(&launch).await.ended.status, EndStatus::Exit(0));
    bench.stop().await;
}

#[tokio::test]
async fn runs_as_another_user_and_in_real_time_where_allowed() {
    let mut bench = Bench::start(&config("user")).await;
    let mut launch = shell("id -u; id -g; id -G; ulimit -c");
    launch.user = Some(darwin_agent::exec::RunAs { uid: 65534, gid: 65534 });
    match bench.try_run(&launch).await {
        Ok(done) => assert_eq!(done.stdout, "65534\n65534\n65534\n0\n"),
        Err(error) => println!("not run: {error}"),
    }
    let mut launch = command(&["sleep", "600"]);
    launch.fifo_priority = Some(7);
    let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
    match bench.launcher.run(&launch, &out, &err).await {
        Ok(run) => {
            let online = read_topology(&HostFs::default()).unwrap().online().clone();
            let placement = verify_placement(&HostFs::default(), run.started().pid, &online).unwrap();
            assert_eq!(placement.fifo_priority, Some(7));
        }
        Err(error) => println!("not run: {error}"),
    }
    launch.fifo_priority = Some(50);
    assert_eq!(bench.fails(&launch).await.0, Step::Prepare);
    bench.stop().await;
}
