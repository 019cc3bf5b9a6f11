//! A launcher under test, and ways to wait for what must happen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use darwin_agent::exec::{
    CgroupRoots, Ended, Launch, LaunchError, Launcher, LauncherConfig, OutputFile, Step, reap_leftovers,
};
use darwin_agent::host::HostFs;

/// Far above what anything here takes; a test that needs it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
/// How long something that must happen is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config(slot: &str) -> LauncherConfig {
    LauncherConfig {
        program: PathBuf::from(env!("CARGO_BIN_EXE_darwin-agent")),
        ..LauncherConfig::new(format!("test-{}-{slot}", std::process::id()), slot)
    }
}

/// With every cgroup that the box gives, or none at all: everything must hold either way.
pub(crate) fn with_cgroups(slot: &str) -> LauncherConfig {
    LauncherConfig { cgroups: CgroupRoots::discover(&HostFs::default()), ..config(slot) }
}

pub(crate) fn command(argv: &[&str]) -> Launch {
    let argv = argv.iter().map(ToString::to_string).collect();
    let env = BTreeMap::from([("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]);
    let mut launch = Launch::new(argv, env, "/".into());
    launch.limits.deadline = DEADLINE;
    launch
}

pub(crate) fn shell(script: &str) -> Launch {
    command(&["sh", "-c", script])
}

pub(crate) struct Done {
    pub(crate) ended: Ended,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct Bench {
    pub(crate) launcher: Launcher,
    pub(crate) config: LauncherConfig,
}

impl Bench {
    pub(crate) async fn start(config: &LauncherConfig) -> Self {
        Self { launcher: Launcher::start(config).await.unwrap(), config: config.clone() }
    }

    /// Stops the launcher; nothing is left of it then.
    pub(crate) async fn stop(self) {
        self.launcher.stop().await;
        assert_eq!(reap_leftovers(&self.config.cgroups, &self.config.agent).unwrap().killed, 0);
    }

    pub(crate) async fn try_run(&mut self, launch: &Launch) -> Result<Done, LaunchError> {
        let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
        let ended = self.launcher.run(launch, &out, &err).await?.wait().await?;
        let text = |file: &OutputFile| String::from_utf8(file.read_tail(1 << 20).unwrap()).unwrap();
        Ok(Done { ended, stdout: text(&out), stderr: text(&err) })
    }

    pub(crate) async fn run(&mut self, launch: &Launch) -> Done {
        self.try_run(launch).await.unwrap()
    }

    pub(crate) async fn fails(&mut self, launch: &Launch) -> (Step, String) {
        match self.try_run(launch).await {
            Err(LaunchError::NotStarted(failure)) => (failure.step, failure.message),
            Err(other) => panic!("{other}"),
            Ok(done) => panic!("it ran: {:?}", done.ended),
        }
    }
}

pub(crate) fn alive(pid: i32) -> bool {
    // A zombie that nobody reaps is as dead as it gets.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn pid_in(file: &Path) -> i32 {
    let read = || std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    until("a process has written its pid", || read().is_some()).await;
    read().unwrap()
}
