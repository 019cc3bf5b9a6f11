//! One process tree from start to end, and what its end means.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use darwin_shared::ids::AttemptId;
use darwin_shared::spec::{Arm, Layout};
use darwin_shared::state::{FailureCause, Stage};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::placing::Placing;
use super::running::Running;
use super::scratch::Scratch;
use crate::config::BenchLimits;
use crate::docker::{ContainerError, Place, StagedImage};
use crate::exec::{Confine, EndStatus, Ended, Launch, LaunchError, LaunchLimits, Launcher, LauncherConfig};
use crate::logs::{AttemptLogs, Written};

/// Time between SIGTERM and SIGKILL for whoever is told to stop.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(2);

/// A launcher, started when it is first needed, and the scratch folders that go with it.
#[derive(Debug)]
pub(crate) struct Slot {
    config: LauncherConfig,
    launcher: Option<Launcher>,
    pub(crate) scratch: Scratch,
    /// Files that nothing was written to, for the next process.
    blank: Option<Written>,
    /// Where the second process of a sliced pair runs: with a launcher and folders of its own.
    twin: Option<Arc<Mutex<Slot>>>,
}

impl Slot {
    pub(crate) fn new(config: LauncherConfig, scratch: Scratch) -> Self {
        Self { config, launcher: None, scratch, blank: None, twin: None }
    }

    /// The slot with a twin, for pairs whose processes are alive at once.
    pub(crate) fn with_twin(self, twin: Self) -> Self {
        Self { twin: Some(Arc::new(Mutex::new(twin))), ..self }
    }

    /// Its twin, if it has one; nobody but the slot's own user may lock it.
    pub(super) fn twin(&self) -> Option<Arc<Mutex<Self>>> {
        self.twin.clone()
    }

    /// Two empty files for what a process writes.
    pub(super) fn files(&mut self) -> io::Result<Written> {
        self.blank.take().map_or_else(Written::nothing, Ok)
    }

    /// The name of the lease that its cgroups are gathered under.
    pub(super) fn lease(&self) -> &str {
        self.config.lease.as_deref().unwrap_or(&self.config.slot)
    }

    /// The launcher, started if there is none.
    pub(crate) async fn launcher(&mut self) -> Result<&mut Launcher, LaunchError> {
        let launcher = match self.launcher.take() {
            Some(launcher) => launcher,
            None => Launcher::start(&self.config).await?,
        };
        Ok(self.launcher.insert(launcher))
    }

    /// Lets go of a launcher that does not answer: the next launch starts another.
    pub(super) fn discard(&mut self) {
        self.launcher = None;
    }

    /// Keeps files that nothing was written to, unless somebody follows the log.
    pub(super) fn keep_blank(&mut self, written: Written) {
        self.blank = written.alone();
    }

    /// Ends the launcher with whatever it runs.
    pub(crate) async fn close(&mut self) {
        if let Some(launcher) = self.launcher.take() {
            launcher.stop().await;
        }
        if let Some(twin) = &self.twin
            && let Some(launcher) = twin.lock().await.launcher.take()
        {
            launcher.stop().await;
        }
    }
}

/// What is run.
#[derive(Debug)]
pub(crate) struct Process<'a> {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: &'a Path,
    /// The image that it runs in, in a container of its own; none for a process of the box.
    pub(crate) image: Option<&'a Arc<StagedImage>>,
    pub(crate) attempt: AttemptId,
    /// Where; none leaves it on the launcher's CPUs.
    pub(crate) placing: Option<Placing<'a>>,
    pub(crate) fifo: bool,
    /// Whether to count what the hypervisor takes from it.
    pub(crate) count_stolen: bool,
    pub(crate) timeout: Duration,
    pub(crate) limits: &'a BenchLimits,
    pub(crate) stage: Stage,
    pub(crate) arm: Arm,
}

/// How it went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended with code 0; with what it wrote, if anything.
    Well(Ended, Option<Written>),
    /// The candidate is at fault; with the last lines of what it wrote.
    Failed(FailureCause, String),
    /// The box is at fault.
    Broken(String),
    /// It was told to stop, and is gone.
    Stopped,
}

/// Why a process did not end well.
#[derive(Debug)]
pub(super) enum Ill {
    Failed(FailureCause),
    Broken(String),
    Stopped,
}

/// Real-time priority of a bench: above every ordinary task, below interrupt threads (50).
const FIFO_PRIORITY: u8 = 10;

impl Process<'_> {
    /// Runs it on this slot. What it writes can be followed in `logs` while it runs.
    pub(crate) async fn run(
        self,
        slot: &mut Slot,
        logs: &AttemptLogs,
        started: &AtomicU64,
        stop: &CancellationToken,
    ) -> Outcome {
        if stop.is_cancelled() {
            return Outcome::Stopped;
        }
        let written = match slot.files() {
            Ok(written) => written,
            Err(error) => return Outcome::Broken(format!("no file in memory for a bench's output: {error}")),
        };
        if let Some(placing) = self.placing {
            placing.placed.rest().await;
        }
        logs.begin(self.stage, self.arm, written.clone());
        started.fetch_add(1, Ordering::Relaxed);
        let begin = Instant::now();
        let end = self.launch(slot, &written, stop).await;
        if let Some(placing) = self.placing {
            placing.placed.ran(begin.elapsed());
        }
        let written = if logs.finish(&written) {
            Some(written)
        } else {
            slot.keep_blank(written);
            None
        };
        match end {
            Ok(ended) => Outcome::Well(ended, written),
            Err(Ill::Failed(cause)) => {
                Outcome::Failed(cause, written.map(|written| written.tail()).unwrap_or_default())
            }
            Err(Ill::Broken(why)) => Outcome::Broken(why),
            Err(Ill::Stopped) => Outcome::Stopped,
        }
    }

    async fn launch(
        &self,
        slot: &mut Slot,
        written: &Written,
        stop: &CancellationToken,
    ) -> Result<Ended, Ill> {
        let launch = self.describe();
        let deadline = launch.limits.deadline;
        let first = self.placing.is_some_and(|placing| placing.is_first());
        // Also if it is to stop meanwhile: a container that was given up on while it starts would still run, for a moment, on
        // cores that are given back.
        let ended = match self.start(slot, launch, written).await {
            Ok(run) => self.drive(run, first, stop).await,
            Err(ill) => Err(ill),
        };
        match ended {
            Ok(ended) if ended.survivors > 0 => {
                slot.discard();
                Err(Ill::Broken(format!("{} of its processes cannot be killed", ended.survivors)))
            }
            Ok(ended) => judge(ended, deadline),
            Err(ill) => {
                if matches!(ill, Ill::Broken(_)) && self.image.is_none() {
                    slot.discard();
                }
                Err(ill)
            }
        }
    }

    /// Starts it, by the slot's launcher or by the image's daemon.
    async fn start<'s>(
        &self,
        slot: &'s mut Slot,
        mut launch: Launch,
        written: &Written,
    ) -> Result<Running<'s>, Ill> {
        let Some(image) = self.image else {
            let launcher = slot.launcher().await.map_err(|error| Ill::Broken(error.to_string()))?;
            let judge = |held: &_| self.placing.map_or(Ok(()), |placing| placing.check_held(held));
            let run = launcher.run_judged(&launch, &written.stdout, &written.stderr, &[], judge).await;
            return run.map(Running::Process).map_err(|error| not_run(&error));
        };
        // What the launcher does for a process by inheriting.
        launch.cpus = launch.cpus.or_else(|| slot.config.housekeeping.clone());
        let node = self.placing.map(|placing| placing.granted.node.0);
        let place = Place { attempt: self.attempt, node, folder: slot.scratch.for_container() };
        let run = image.start(launch, place, written).await;
        run.map(Running::Container).map_err(|error| match error {
            ContainerError::Command(why) => Ill::Failed(FailureCause::NotStarted(why)),
            ContainerError::Box(why) => Ill::Broken(why),
        })
    }

    async fn drive(&self, mut run: Running<'_>, first: bool, stop: &CancellationToken) -> Result<Ended, Ill> {
        let started = *run.started();
        let check = |placing: Placing<'_>| {
            // A container cannot be held in its place: it is looked at when it runs.
            if self.image.is_some() { placing.check_held(&started) } else { placing.check_start(&started) }
        };
        let mut worthless = self.placing.and_then(|placing| check(placing).err());
        if worthless.is_none() {
            let watch = async {
                match self.placing {
                    Some(placing) => placing.watch(&started, first).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = run.wait() => {
                    if let Some(placing) = self.placing {
                        placing.is_over(&started);
                    }
                    return ended.map_err(Ill::Broken);
                }
                () = stop.cancelled() => {}
                why = watch => worthless = Some(why),
            }
        }
        let grace = if worthless.is_some() { Duration::ZERO } else { STOP_GRACE };
        run.kill(grace).await.map_err(Ill::Broken)?;
        run.wait().await.map_err(Ill::Broken)?;
        Err(worthless.map_or(Ill::Stopped, Ill::Broken))
    }

    pub(super) fn describe(&self) -> Launch {
        let mut launch = Launch::new(self.argv.clone(), self.env.clone(), PathBuf::from(self.cwd));
        launch.cpus = self.placing.map(|placing| placing.granted.cpus.clone());
        if let Some(placing) = self.placing {
            launch.node = Some(placing.granted.node.0);
            launch.strict = placing.must_be_isolated();
            launch.held = placing.must_be_isolated();
            launch.fixed_layout = placing.layout == Layout::Fixed;
            launch.no_huge_pages = placing.no_huge_pages();
        }
        launch.count_stolen = self.count_stolen;
        launch.fifo_priority = self.fifo.then_some(FIFO_PRIORITY);
        launch.limits = LaunchLimits {
            deadline: self.limits.time_max.map_or(self.timeout, |most| most.min(self.timeout)),
            output_max_bytes: self.limits.output_max_bytes,
            file_max_bytes: self.limits.file_max_bytes,
            ..LaunchLimits::default()
        };
        launch.confine = Confine {
            cpuset: self.placing.is_some_and(|placing| placing.wants_cpuset()),
            processes_max: self.limits.processes_max,
            memory_max_bytes: self.limits.memory_max_bytes,
            required: false,
        };
        launch
    }
}

/// Whose fault it is that a process did not start.
pub(super) fn not_run(error: &LaunchError) -> Ill {
    match error {
        LaunchError::NotStarted(failure) if failure.is_commands_fault() => {
            Ill::Failed(FailureCause::NotStarted(failure.to_string()))
        }
        LaunchError::TooLarge { .. } => Ill::Failed(FailureCause::NotStarted(error.to_string())),
        LaunchError::NotStarted(_)
        | LaunchError::Misplaced(_)
        | LaunchError::Gone { .. }
        | LaunchError::Hung { .. }
        | LaunchError::Cgroup(_)
        | LaunchError::Io(_) => Ill::Broken(error.to_string()),
    }
}

pub(super) fn judge(ended: Ended, deadline: Duration) -> Result<Ended, Ill> {
    match ended.status {
        EndStatus::Exit(0) => Ok(ended),
        EndStatus::Exit(code) => Err(Ill::Failed(FailureCause::ExitCode(code))),
        EndStatus::Signal(signal) => Err(Ill::Failed(FailureCause::Signal(signal))),
        EndStatus::TimedOut => Err(Ill::Failed(FailureCause::TimedOut(deadline))),
        EndStatus::OutputTooLarge { max_bytes } | EndStatus::FileTooLarge { max_bytes } => {
            Err(Ill::Failed(FailureCause::OutputTooLarge { limit_bytes: max_bytes }))
        }
        EndStatus::Killed => Err(Ill::Broken("it was killed, though nobody asked for it".to_owned())),
    }
}
