//! How what runs is ended: with its whole tree, whatever it does against that.

use std::time::Duration;

use darwin_agent::exec::{EndStatus, OutputFile};

use super::common::{Bench, PATIENCE, alive, command, config, pid_in, shell, until, with_cgroups};
#[tokio::test]
async fn a_deadline_ends_what_runs() {
    for config in [config("deadline"), with_cgroups("deadline-grouped")] {
        let mut bench = Bench::start(&config).await;
        let mut launch = shell("trap '' TERM; (trap '' TERM; sleep 600) & sleep 600; sleep 600");
        launch.limits.deadline = Duration::from_millis(200);
        launch.limits.grace = Duration::from_millis(100);
        let done = bench.run(&launch).await;
        assert_eq!((done.ended.status, done.ended.survivors), (EndStatus::TimedOut, 0));
        assert!(done.ended.wall_ns >= 200_000_000, "{:?}", done.ended);
        bench.stop().await;
    }
}

#[tokio::test]
async fn sigterm_comes_first_and_sigkill_for_those_who_do_not_listen() {
    for config in [config("stubborn"), with_cgroups("stubborn-grouped")] {
        let mut bench = Bench::start(&config).await;
        for (script, grace, output, leftovers) in [
            ("trap 'echo bye; exit 0' TERM; echo ready; sleep 600 & wait", PATIENCE, "ready\nbye\n", 0),
            (
                "trap '' TERM; sleep 600 & sleep 600 & echo ready; sleep 600",
                Duration::from_millis(50),
                "ready\n",
                2,
            ),
        ] {
            let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
            let mut run = bench.launcher.run(&shell(script), &out, &err).await.unwrap();
            until("it is ready", || out.len().unwrap() > 0).await;
            run.kill(grace).await.unwrap();
            let ended = run.wait().await.unwrap();
            assert_eq!((ended.status, ended.survivors), (EndStatus::Killed, 0));
            assert!(ended.leftovers_killed >= leftovers, "{ended:?}");
            assert_eq!(out.read_tail(100).unwrap(), output.as_bytes());
        }
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_daemon_does_not_get_away() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    for config in [config("daemon"), with_cgroups("daemon-grouped")] {
        let mut bench = Bench::start(&config).await;
        let script = format!(
            "(setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600' &) ; while [ ! -e {0} ]; do sleep 0.01; done",
            pid_file.display()
        );
        let done = bench.run(&shell(&script)).await;
        assert_eq!((done.ended.status, done.ended.leftovers_killed), (EndStatus::Exit(0), 1));
        let daemon = pid_in(&pid_file).await;
        assert!(!alive(daemon));
        std::fs::remove_file(&pid_file).unwrap();
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_swarm_of_processes_is_killed() {
    for config in [config("swarm"), with_cgroups("swarm-grouped")] {
        let mut bench = Bench::start(&config).await;
        let script = "i=0; while [ $i -lt 200 ]; do (trap '' TERM HUP; setsid sleep 600) & i=$((i+1)); done; echo all; exit 0";
        let done = bench.run(&shell(script)).await;
        assert_eq!(
            (done.ended.status, &*done.stdout, done.ended.survivors),
            (EndStatus::Exit(0), "all\n", 0)
        );
        assert!(done.ended.leftovers_killed >= 200, "{:?}", done.ended);
        assert_eq!(bench.run(&command(&["true"])).await.ended.leftovers_killed, 0);
        bench.stop().await;
    }
}
