//! The launcher as a real process: what it starts, how it ends it, and that nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use darwin_agent::exec::{
    CgroupRoots, Confine, EndStatus, Ended, Launch, LaunchError, Launcher, LauncherConfig, OutputFile, Step,
    reap_leftovers, verify_placement,
};
use darwin_agent::host::{HostFs, read_topology};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far above what anything here takes; a test that needs it has failed.
const DEADLINE: Duration = Duration::from_mins(1);
/// How long something that must happen is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(slot: &str) -> LauncherConfig {
    LauncherConfig {
        program: PathBuf::from(env!("CARGO_BIN_EXE_darwin-agent")),
        ..LauncherConfig::new(format!("test-{}-{slot}", std::process::id()), slot)
    }
}

/// With every cgroup that the box gives, or none at all: everything must hold either way.
fn with_cgroups(slot: &str) -> LauncherConfig {
    LauncherConfig { cgroups: CgroupRoots::discover(&HostFs::default()), ..config(slot) }
}

fn command(argv: &[&str]) -> Launch {
    let argv = argv.iter().map(ToString::to_string).collect();
    let env = BTreeMap::from([("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]);
    let mut launch = Launch::new(argv, env, "/".into());
    launch.limits.deadline = DEADLINE;
    launch
}

fn shell(script: &str) -> Launch {
    command(&["sh", "-c", script])
}

struct Done {
    ended: Ended,
    stdout: String,
    stderr: String,
}

struct Bench {
    launcher: Launcher,
    config: LauncherConfig,
}

impl Bench {
    async fn start(config: &LauncherConfig) -> Self {
        Self { launcher: Launcher::start(config).await.unwrap(), config: config.clone() }
    }

    /// Stops the launcher; nothing is left of it then.
    async fn stop(self) {
        self.launcher.stop().await;
        assert_eq!(reap_leftovers(&self.config.cgroups, &self.config.agent).unwrap().killed, 0);
    }

    async fn try_run(&mut self, launch: &Launch) -> Result<Done, LaunchError> {
        let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
        let ended = self.launcher.run(launch, &out, &err).await?.wait().await?;
        let text = |file: &OutputFile| String::from_utf8(file.read_tail(1 << 20).unwrap()).unwrap();
        Ok(Done { ended, stdout: text(&out), stderr: text(&err) })
    }

    async fn run(&mut self, launch: &Launch) -> Done {
        self.try_run(launch).await.unwrap()
    }

    async fn fails(&mut self, launch: &Launch) -> (Step, String) {
        match self.try_run(launch).await {
            Err(LaunchError::NotStarted(failure)) => (failure.step, failure.message),
            Err(other) => panic!("{other}"),
            Ok(done) => panic!("it ran: {:?}", done.ended),
        }
    }
}

fn alive(pid: i32) -> bool {
    // A zombie that nobody reaps is as dead as it gets.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn pid_in(file: &Path) -> i32 {
    let read = || std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    until("a process has written its pid", || read().is_some()).await;
    read().unwrap()
}

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

#[tokio::test]
async fn a_flood_of_output_is_bounded() {
    let mut bench = Bench::start(&config("flood")).await;
    for script in ["exec yes", "yes", "yes >&2"] {
        let mut launch = shell(script);
        launch.limits.output_max_bytes = 1 << 20;
        launch.limits.file_max_bytes = 0;
        let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
        let ended = bench.launcher.run(&launch, &out, &err).await.unwrap().wait().await.unwrap();
        assert_eq!(ended.status, EndStatus::OutputTooLarge { max_bytes: 1 << 20 });
        assert_eq!(ended.status.to_string(), "wrote more than 1 MiB to its output");
        assert!(out.len().unwrap() <= 1 << 20 && err.len().unwrap() <= (1 << 20) + 100);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut launch = shell(&format!("exec yes > {}/file", dir.path().display()));
    launch.limits.file_max_bytes = 2 << 20;
    launch.limits.output_max_bytes = 1 << 20;
    assert_eq!(bench.run(&launch).await.ended.status, EndStatus::FileTooLarge { max_bytes: 2 << 20 });
    bench.stop().await;
}

#[tokio::test]
async fn output_can_be_read_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let mut bench = Bench::start(&config("live")).await;
    let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
    let launch = shell(&format!("echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two", go.display()));
    let mut run = bench.launcher.run(&launch, &out, &err).await.unwrap();
    until("the first line is there", || out.len().unwrap() == 4).await;
    assert_eq!(out.read_from(0, 100).unwrap(), b"one\n");
    std::fs::write(&go, "").unwrap();
    assert_eq!(run.wait().await.unwrap().status, EndStatus::Exit(0));
    drop(run);
    assert_eq!(out.read_from(4, 100).unwrap(), b"two\n");
    bench.stop().await;
}

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
        .args(["--exact", "helper_agent", "--nocapture"])
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
