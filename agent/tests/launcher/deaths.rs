//! When the launcher or the agent dies: nothing that they started outlives them.

use std::path::PathBuf;

use darwin_agent::exec::{CgroupRoots, EndStatus, LaunchError, OutputFile, reap_leftovers};
use darwin_agent::host::HostFs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::{Bench, alive, command, config, pid_in, shell, until, with_cgroups};
#[tokio::test]
async fn a_launcher_that_dies_is_noticed_and_replaced() {
    for config in [config("dies"), with_cgroups("dies-grouped")] {
        let mut bench = Bench::start(&config).await;
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let launcher = Pid::from_raw(bench.launcher.pid().unwrap().try_into().unwrap());
        let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
        let script = format!(
            "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600' & exec sleep 600",
            pid_file.display()
        );
        let mut run = bench.launcher.run(&shell(&script), &out, &err).await.unwrap();
        let main = i32::try_from(run.started().pid).unwrap();
        let in_cgroup = run.started().took.cgroup;
        let daemon = pid_in(&pid_file).await;
        kill(launcher, Signal::SIGKILL).unwrap();
        let error = run.wait().await.unwrap_err();
        assert!(matches!(&error, LaunchError::Gone { how, .. } if how.contains("signal: 9")), "{error}");
        drop(run);
        until("the first process is gone", || !alive(main)).await;
        if in_cgroup {
            until("the daemon is gone", || !alive(daemon)).await;
        } else {
            println!("not run: without a cgroup a daemon outlives a killed launcher");
            let _ = kill(Pid::from_raw(daemon), Signal::SIGKILL);
        }
        assert!(matches!(bench.try_run(&command(&["true"])).await, Err(LaunchError::Gone { .. })));
        let mut bench = Bench::start(&config).await;
        assert_eq!(bench.run(&command(&["true"])).await.ended.status, EndStatus::Exit(0));
        bench.stop().await;
    }
}

/// The child half of the test below: runs a stubborn tree and waits to be killed.
#[tokio::test]
async fn helper_agent() {
    let Some(dir) = std::env::var_os("DARWIN_TEST_HELPER_DIR") else {
        return;
    };
    let dir = PathBuf::from(dir);
    let mut bench = Bench::start(&with_cgroups("helper")).await;
    let script = format!(
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$ > {0}/d.new; mv {0}/d.new {0}/daemon; exec sleep 600' &); \
         echo $$ > {0}/m.new; mv {0}/m.new {0}/main; exec sleep 600",
        dir.display()
    );
    let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
    let launcher = bench.launcher.pid().unwrap();
    std::fs::write(dir.join("launcher"), launcher.to_string()).unwrap();
    let _ = bench.launcher.run(&shell(&script), &out, &err).await.unwrap().wait().await;
}

#[tokio::test]
async fn nothing_survives_the_agents_sudden_death() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "deaths::helper_agent", "--nocapture"])
        .env("DARWIN_TEST_HELPER_DIR", dir.path())
        .spawn()
        .unwrap();
    let mut pids = Vec::new();
    for name in ["launcher", "main", "daemon"] {
        pids.push(pid_in(&dir.path().join(name)).await);
    }
    assert!(pids.iter().all(|&pid| alive(pid)));
    agent.kill().unwrap();
    agent.wait().unwrap();
    until("all of its processes are gone", || pids.iter().all(|&pid| !alive(pid))).await;
    let of_agent = format!("darwin/test-{}-helper", agent.id());
    let roots = CgroupRoots::discover(&HostFs::default());
    let gone = |base: Option<PathBuf>| base.is_none_or(|base| !base.join(&of_agent).exists());
    assert!(gone(roots.v2) && gone(roots.pids) && gone(roots.memory) && gone(roots.cpuset));
}

#[tokio::test]
async fn leftovers_of_an_earlier_life_are_killed() {
    let roots = CgroupRoots::discover(&HostFs::default());
    let agent = format!("test-left-{}", std::process::id());
    let Some(dir) = roots.v2.as_ref().map(|base| base.join("darwin").join(&agent).join("0")) else {
        return println!("not run: no cgroup v2");
    };
    if let Err(error) = std::fs::create_dir_all(&dir) {
        return println!("not run: {}: {error}", dir.display());
    }
    let mut left = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write(dir.join("cgroup.procs"), left.id().to_string()).unwrap();
    let reaper = tokio::task::spawn_blocking(move || reap_leftovers(&roots, &agent));
    assert_eq!(left.wait().unwrap().code(), None);
    let found = reaper.await.unwrap().unwrap();
    assert_eq!((found.killed, found.removed), (1, 2));
    assert!(!dir.exists());
}
