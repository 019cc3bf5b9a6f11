//! What is started finds exactly what it was promised, and what cannot be started says why.

use std::collections::BTreeMap;

use darwin_agent::exec::{EndStatus, LaunchError, Step};
use nix::sys::signal::Signal;

use super::common::{Bench, command, config, shell, with_cgroups};
#[tokio::test]
async fn runs_commands_and_tells_how_they_ended() {
    for config in [config("plain"), with_cgroups("grouped")] {
        let mut bench = Bench::start(&config).await;
        let done = bench.run(&command(&["true"])).await;
        assert_eq!(
            (done.ended.status, done.ended.leftovers_killed, done.ended.survivors),
            (EndStatus::Exit(0), 0, 0)
        );
        assert!(done.ended.usage.peak_rss_bytes > 0 && done.ended.wall_ns > 0);
        assert_eq!(bench.run(&command(&["/bin/false"])).await.ended.status, EndStatus::Exit(1));
        let done = bench.run(&shell("echo out; echo err >&2; read line || exit 3")).await;
        assert_eq!((done.ended.status, &*done.stdout, &*done.stderr), (EndStatus::Exit(3), "out\n", "err\n"));
        let done = bench.run(&shell("kill -SEGV $$")).await;
        assert_eq!(done.ended.status, EndStatus::Signal(Signal::SIGSEGV as i32));
        let done = bench.run(&shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")).await;
        assert!(done.ended.usage.user_ns > 0);
        bench.stop().await;
    }
}

#[tokio::test]
async fn the_environment_is_exact_and_no_file_leaks() {
    let mut bench = Bench::start(&with_cgroups("env")).await;
    let mut launch = command(&["env"]);
    launch.env = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into()), ("LANG".into(), "C".into())]);
    assert_eq!(bench.run(&launch).await.stdout, "LANG=C\nPATH=/usr/bin:/bin\n");
    // `ls` itself opens the folder that it lists, as 3.
    let done = bench.run(&command(&["ls", "/proc/self/fd"])).await;
    assert_eq!(done.stdout, "0\n1\n2\n3\n");
    assert_eq!(
        bench.run(&shell("readlink /proc/self/fd/0; umask; pwd")).await.stdout,
        "/dev/null\n0022\n/\n"
    );
    // Not through a shell, which blocks signals itself while it forks.
    let done = bench.run(&command(&["grep", "-E", "SigBlk|SigIgn|NoNewPrivs", "/proc/self/status"])).await;
    let none = "0".repeat(16);
    assert_eq!(done.stdout, format!("SigBlk:\t{none}\nSigIgn:\t{none}\nNoNewPrivs:\t1\n"));
    bench.stop().await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let mut bench = Bench::start(&config("errors")).await;
    let (step, message) = bench.fails(&command(&["no-such-program"])).await;
    assert_eq!(
        (step, &*message),
        (Step::Exec, "`no-such-program` is not found in PATH=/usr/local/bin:/usr/bin:/bin")
    );
    let (step, message) = bench.fails(&command(&["/no/such/program"])).await;
    assert_eq!((step, &*message), (Step::Exec, "`/no/such/program` does not exist"));
    let (step, message) = bench.fails(&command(&[script.to_str().unwrap()])).await;
    assert_eq!(step, Step::Exec);
    assert!(message.contains("lacks the permission"), "{message}");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (_, message) = bench.fails(&command(&[script.to_str().unwrap()])).await;
    assert!(message.contains("its interpreter does not"), "{message}");
    let mut launch = command(&["true"]);
    launch.cwd = "/no/such/folder".into();
    let (step, message) = bench.fails(&launch).await;
    assert_eq!(step, Step::Directory);
    assert_eq!(message, "the working directory /no/such/folder cannot be entered: No such file or directory");
    assert_eq!(bench.fails(&command(&[])).await.0, Step::Prepare);
    assert_eq!(bench.fails(&command(&["tr\0ue"])).await.0, Step::Prepare);
    let mut launch = command(&["true"]);
    launch.cpus = Some("8000".parse().unwrap());
    assert_eq!(bench.fails(&launch).await.0, Step::Prepare);
    launch.cpus = Some("1000".parse().unwrap());
    assert_eq!(bench.fails(&launch).await.0, Step::Affinity);
    let huge = command(&["true", &"x".repeat(200 << 10)]);
    assert!(matches!(bench.try_run(&huge).await, Err(LaunchError::TooLarge { .. })));
    assert_eq!(bench.run(&command(&["true"])).await.ended.status, EndStatus::Exit(0), "it still works");
    bench.stop().await;
}
