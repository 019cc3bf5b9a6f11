//! The agent that is killed, and where everything of it is.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use darwin_shared::cpu::CpuSet;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sight::Stat;
use crate::World;

/// What the agent logs once it has cleaned up after its earlier life, before it takes any work.
const UP: &str = "the agent is up";
/// How long the agent may take for that, and for its end.
const BOUND: Duration = Duration::from_mins(1);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// What the agent is told, beside its own file of core locks: everything that there is to be left behind, and short.
const CONFIG: &str = r#"
[void]
forgive = ["foreign", "stolen"]

[tune]
workqueues = "away"
timer_migration = "off"
keep = "30ms"

[probe]
before = "60ms"

[docker]
enabled = DOCKER
"#;

/// What `[tune]` above changes.
pub(crate) const KNOBS: [&str; 2] =
    ["/sys/devices/virtual/workqueue/cpumask", "/proc/sys/kernel/timer_migration"];

/// An agent in a world of its own.
#[derive(Debug)]
pub(crate) struct Subject<'w> {
    world: &'w World,
    /// Its id, which containers bear as a label.
    pub(crate) id: String,
    /// The name of everything that is its own on the box.
    pub(crate) short: String,
    /// Its scratch folder.
    pub(crate) scratch: PathBuf,
    /// The file in which it locks its cores.
    pub(crate) locks: PathBuf,
    log: PathBuf,
    config: PathBuf,
    child: Option<Child>,
}

impl<'w> Subject<'w> {
    /// An agent that is not started yet.
    pub(crate) fn new(world: &'w World, docker: bool) -> Result<Self> {
        let folder = world.folder();
        let state = folder.join("agent");
        let short = blake3::hash(state.as_os_str().as_encoded_bytes()).to_hex()[..16].to_owned();
        let (locks, config) = (folder.join("cores"), folder.join("chaos.toml"));
        let text = CONFIG.replace("DOCKER", &docker.to_string());
        std::fs::write(&config, format!("core_locks = \"{}\"\n{text}", locks.display()))?;
        Ok(Self {
            world,
            id: format!("chaos-{}", std::process::id()),
            scratch: PathBuf::from(format!("/dev/shm/darwin-agent-{short}")),
            short,
            locks,
            log: folder.join("agent.log"),
            config,
            child: None,
        })
    }

    /// Starts it; returns when it is up.
    pub(crate) fn start(&mut self) -> Result<()> {
        let ups = self.ups();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = self.world.program("darwin-agent");
        command.args(["run", "--coordinator", &self.world.url(), "--id", &self.id, "--state-dir"]);
        command.arg(self.world.folder().join("agent")).arg("--config").arg(&self.config);
        command.env("RUST_LOG", "info").stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
        let child = self.child.insert(command.spawn().context("cannot start the agent")?);
        let begin = Instant::now();
        loop {
            if std::fs::read_to_string(&self.log)?.matches(UP).count() > ups {
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                bail!("the agent does not start again: {status}\n{}", self.last_words());
            }
            ensure!(begin.elapsed() < BOUND, "the agent is not up after {BOUND:?}\n{}", self.last_words());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn ups(&self) -> usize {
        self.all_words().matches(UP).count()
    }

    fn all_words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.all_words();
        let lines: Vec<&str> = log.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The cores that it leases out, as it said at its start.
    pub(crate) fn leased(&self) -> Result<CpuSet> {
        let log = self.all_words();
        let (_, rest) =
            log.split_once("lease_cpus=").context("the agent does not say which cores it leases out")?;
        let word = rest.split_whitespace().next().unwrap_or_default();
        Ok(word.trim_matches('"').parse()?)
    }

    /// Its process; 0 if there is none.
    pub(crate) fn pid(&self) -> i32 {
        self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).unwrap_or(0)
    }

    /// When it started, in the kernel's ticks.
    pub(crate) fn born(&self) -> Result<u64> {
        Ok(Stat::of(self.pid()).context("the agent is gone")?.start)
    }

    /// Whether it lives; it must never end by itself.
    pub(crate) fn lives(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill_9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("there is no agent to kill")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("there is no agent to end")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if begin.elapsed() > BOUND {
                child.kill()?;
                child.wait()?;
                bail!("the agent does not end within {BOUND:?} of SIGTERM\n{}", self.last_words());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The archives' names of its images begin so.
    pub(crate) fn repository(&self) -> String {
        format!("darwin-agent-{}", self.short)
    }

    /// Keeps its log where somebody may look at it.
    pub(crate) fn keep_log(&self, to: &Path) -> Result<()> {
        std::fs::copy(&self.log, to)?;
        Ok(())
    }
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        if self.child.is_some() {
            // The run has failed; its launchers end what it ran.
            let _ = self.kill_9();
        }
    }
}
