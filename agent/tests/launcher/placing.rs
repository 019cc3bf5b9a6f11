//! Held in its place until it was looked at; laid out in memory as asked.

use darwin_agent::exec::{Confine, EndStatus, LaunchError, OutputFile, verify_placement};
use darwin_agent::host::{HostFs, read_topology};

use super::common::{Bench, command, config, with_cgroups};

#[tokio::test]
async fn a_fixed_layout_is_the_same_in_every_process() {
    let mut bench = Bench::start(&config("layout")).await;
    let mut launch = command(&["grep", "-F", "[stack]", "/proc/self/maps"]);
    let mut seen = Vec::new();
    for fixed in [true, true, false, false] {
        launch.fixed_layout = fixed;
        match bench.try_run(&launch).await {
            Ok(done) => seen.push(done.stdout),
            Err(error) => return println!("not run: {error}"),
        }
    }
    assert!(seen[0].contains("[stack]"), "{seen:?}");
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[2], seen[3], "the kernel's own choice stands");
    assert_ne!(seen[1], seen[2]);
    bench.stop().await;
}

#[tokio::test]
async fn a_held_bench_begins_only_when_it_was_found_right() {
    let host = HostFs::default();
    let cpu = read_topology(&host).unwrap().online().iter().last().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ran = dir.path().join("ran");
    let mut bench = Bench::start(&with_cgroups("held")).await;
    let mut launch = command(&["touch", ran.to_str().unwrap()]);
    launch.cpus = Some(cpu.to_string().parse().unwrap());
    launch.node = Some(0);
    launch.held = true;
    launch.strict = true;
    launch.confine = Confine { cpuset: true, ..Confine::default() };
    let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
    let mut seen = None;
    let refused = bench
        .launcher
        .run_judged(&launch, &out, &err, &[], |held| {
            seen =
                Some((*held, verify_placement(&HostFs::default(), held.pid, launch.cpus.as_ref().unwrap())));
            Err("it is not right".to_owned())
        })
        .await
        .map(|run| *run.started());
    match refused {
        Err(LaunchError::Misplaced(why)) => assert_eq!(why, "it is not right"),
        Err(error) => return println!("not run: {error}"),
        Ok(_) => panic!("it began"),
    }
    let (held, placement) = seen.unwrap();
    let placement = placement.unwrap();
    assert!(!ran.exists() && !super::common::alive(held.pid.try_into().unwrap()), "it is gone and never ran");
    assert_eq!((placement.cpus.to_string(), placement.threads), (cpu.to_string(), 1));
    assert!(placement.no_new_privs);
    if held.took.cpuset {
        assert_eq!(placement.nodes.unwrap().to_string(), "0");
        println!("cpuset {:?}, cgroup {:?}", placement.cpuset, placement.cgroup);
        let leaf = placement.cpuset.or(placement.cgroup).unwrap();
        assert!(leaf.ends_with("/held"), "{leaf}");
    } else {
        println!("not run: no cpuset controller here");
    }
    // The next one is found right.
    let mut run = bench.launcher.run_judged(&launch, &out, &err, &[], |_| Ok(())).await.unwrap();
    assert_eq!(run.wait().await.unwrap().status, EndStatus::Exit(0));
    drop(run);
    assert!(ran.exists());
    bench.stop().await;
}

#[tokio::test]
async fn real_time_that_cannot_be_had_is_left_out_unless_it_is_required() {
    let mut bench = Bench::start(&config("real-time")).await;
    let mut launch = command(&["sleep", "0.01"]);
    let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
    launch.fifo_priority = Some(7);
    let run = bench.launcher.run(&launch, &out, &err).await;
    let took = run.map(|run| run.started().took.fifo);
    launch.strict = true;
    let strict = bench.try_run(&launch).await;
    match took {
        Ok(true) => assert!(strict.is_ok()),
        Ok(false) => assert!(strict.is_err(), "it was left out, so it cannot be had"),
        Err(error) => panic!("{error}"),
    }
    bench.stop().await;
}
