//! The one loop that owns the agent's state: it takes news in, has the machine decide, and does what it says.
//!
//! In each turn everything that has come in is taken in; then the spool is written, once; then processes are started
//! and the coordinator is told, in that order. So nothing runs and nothing is said that the spool does not know of,
//! and no file is written between two invocations that need not be.

mod effects;
mod incoming;
mod outbox;
mod tails;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use darwin_agent_core::machine::{Action, Event, Machine};
use darwin_proto::v1;
use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::{AgentFacts, ReadingStatus, SensorReport};
use darwin_shared::ids::{AttemptId, Epoch};
use darwin_shared::spec::JobSpec;
use darwin_shared::state::Stage;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Shutdown;
use crate::config::AgentConfig;
use crate::cores::CoreLocks;
use crate::docker::{Daemon, Guard};
use crate::link::LinkEvent;
use crate::logs::AttemptLogs;
use crate::probe::Prober;
use crate::run::{Bench, RoundEnd, Side, Slot};
use crate::sense::Senses;
use crate::spool::Spool;
use crate::stage::{Connection, Folders, StageEnd};
use crate::tune::Tuner;
use outbox::Outbox;
use tails::Tails;

/// News taken in before the turn's effects are performed: enough to gather a burst, few enough to stay quick.
const TURN_EVENTS: usize = 256;
/// How often the sensor is read while nothing is measured.
const SENSE_EVERY: Duration = Duration::from_secs(30);
/// How soon the first reading, which knows no shares of time yet, is followed by one that does.
const SENSE_SECOND: Duration = Duration::from_millis(200);
/// How old a reading may be that speaks for an attempt to begin.
const SENSE_FRESH: Duration = Duration::from_secs(5);
/// Words from tasks that wait for the loop: every slot and stager says a few for each attempt.
const PROGRESS_QUEUE: usize = 64;

/// How long ending everything may take: the grace of a process that is told to stop, and some for the rest.
const LEAVE_WITHIN: Duration = Duration::from_secs(8);

/// An attempt as the driver knows it.
#[derive(Debug)]
struct Job {
    epoch: Epoch,
    spec: Arc<JobSpec>,
    /// None until they are ready.
    sides: Vec<Side>,
    logs: Arc<AttemptLogs>,
    /// Processes started so far.
    started: Arc<AtomicU64>,
    stop: CancellationToken,
    bench: Option<Arc<Bench>>,
    /// Whether the coordinator was told that it runs.
    told: bool,
}

/// How far a task is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Progress {
    /// Staging has come to this stage.
    Stage(AttemptId, Stage),
    /// Benches of the attempt run, where they should.
    Placed(AttemptId),
}

/// What a task came to.
#[derive(Debug)]
enum Done {
    Staged {
        attempt: AttemptId,
        end: StageEnd,
    },
    Round {
        attempt: AttemptId,
        round: u32,
        end: RoundEnd,
    },
    /// A launcher was started ahead of its first use.
    Warmed,
}

/// Everything that the driver is made of.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) config: AgentConfig,
    pub(crate) facts: AgentFacts,
    /// Whether what the hypervisor takes from a process can be counted here.
    pub(crate) tells_stolen_time: bool,
    pub(crate) machine: Machine,
    pub(crate) spool: Spool,
    pub(crate) senses: Senses,
    pub(crate) sensor: SensorReport,
    pub(crate) locks: CoreLocks,
    pub(crate) tuner: Arc<Tuner>,
    pub(crate) slots: Vec<Arc<Mutex<Slot>>>,
    pub(crate) stagers: Vec<Arc<Mutex<Slot>>>,
    pub(crate) folders: Arc<Folders>,
    /// What runs images; none where none are run.
    pub(crate) docker: Option<Arc<Daemon>>,
    /// Ends containers, and holds cores until then, if this process is killed.
    pub(crate) _guard: Option<Guard>,
    /// Where the plugin for pytest is.
    pub(crate) plugin: Option<Arc<Path>>,
    pub(crate) prober: Arc<Prober>,
    pub(crate) connection: Connection,
    pub(crate) link: mpsc::Receiver<LinkEvent>,
    pub(crate) busy: Arc<AtomicBool>,
    pub(crate) shutdown: Shutdown,
}

/// The loop's own state beside what it is made of.
#[derive(Debug)]
struct Turning {
    origin: Instant,
    jobs: BTreeMap<AttemptId, Job>,
    stagers_free: Vec<usize>,
    tasks: JoinSet<Done>,
    progress: (mpsc::Sender<Progress>, mpsc::Receiver<Progress>),
    outbox: Outbox,
    tails: Tails,
    /// Rounds that the machine has not asked to be reported yet; at most one, within a step.
    measured: Option<v1::RoundResult>,
    /// Starts that wait for the spool to be written.
    starts: VecDeque<Action>,
    /// Specs of grants that the machine has not taken or refused yet; at most one, within a step.
    assigned: Option<Arc<JobSpec>>,
    /// What each task works on: its attempt, and its stager if it has one.
    running: HashMap<Id, (AttemptId, Option<usize>)>,
    /// Why the disk did not take the spool's records the last time.
    spool_failed: Option<String>,
    /// When the sensor was read last.
    sensed_at: Instant,
    /// CPUs that benches have used since then.
    used: CpuSet,
    leaving: Leaving,
    gone: bool,
}

/// How far the agent is on its way out, and when it takes the next step by itself.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    No,
    /// What has cores is finished, until then at most.
    WhenDone(Instant),
    /// Everything is being ended; whatever is not gone by then is left to the launchers.
    Now(Instant),
}

impl Driver {
    /// Runs until the agent leaves.
    pub(crate) async fn run(mut self, earlier: Vec<Action>) {
        let health = Senses::judge(&self.sensor);
        let mut turning = Turning {
            origin: Instant::now(),
            jobs: BTreeMap::new(),
            stagers_free: (0..self.stagers.len()).rev().collect(),
            tasks: JoinSet::new(),
            progress: mpsc::channel(PROGRESS_QUEUE),
            outbox: Outbox::default(),
            tails: Tails::default(),
            measured: None,
            starts: VecDeque::new(),
            assigned: None,
            running: HashMap::new(),
            spool_failed: None,
            sensed_at: Instant::now(),
            used: CpuSet::new(),
            leaving: Leaving::No,
            gone: false,
        };
        self.perform(&mut turning, earlier);
        self.step(&mut turning, Event::SensorRead(health));
        self.end_turn(&mut turning);
        self.warm_up(&mut turning);
        while !turning.gone {
            self.wait(&mut turning).await;
            self.end_turn(&mut turning);
        }
        self.close(turning).await;
    }

    fn now(turning: &Turning) -> Duration {
        turning.origin.elapsed()
    }

    fn step(&mut self, turning: &mut Turning, event: Event) {
        let actions = self.machine.step(event, Self::now(turning));
        self.perform(turning, actions);
    }

    /// Waits for news and takes in all that is there.
    async fn wait(&mut self, turning: &mut Turning) {
        let wake = self.machine.wake_at().map(|at| turning.origin + at);
        let idle = !self.machine.is_busy();
        let sense_every = if self.senses.know_shares() { SENSE_EVERY } else { SENSE_SECOND };
        tokio::select! {
            Some(event) = self.link.recv() => {
                self.heard(turning, event);
                for _ in 0..TURN_EVENTS {
                    let Ok(event) = self.link.try_recv() else { break };
                    self.heard(turning, event);
                }
            }
            Some(done) = turning.tasks.join_next_with_id() => self.finished(turning, done),
            Some(progress) = turning.progress.1.recv() => match progress {
                Progress::Stage(attempt, stage) => self.step(turning, Event::StageBegun { attempt, stage }),
                Progress::Placed(attempt) => Self::tell_running(turning, attempt),
            },
            () = sleep_until(wake) => self.step(turning, Event::Woken),
            // The turn's end sends it.
            () = sleep_until(turning.outbox.due_at()) => {}
            () = tokio::time::sleep_until(turning.sensed_at + sense_every), if idle => {
                if self.sense(turning, Senses::read_idle) {
                    turning.outbox.sensor(&self.sensor);
                }
            }
            () = self.shutdown.now.cancelled(), if !matches!(turning.leaving, Leaving::Now(_)) => {
                self.leave_now(turning);
            }
            () = self.shutdown.drain.cancelled(), if matches!(turning.leaving, Leaving::No) => {
                turning.leaving = Leaving::WhenDone(Instant::now() + self.config.drain_max);
                self.step(turning, Event::LeaveAsked);
            }
            () = sleep_until(turning.leaving.next_at()) => match turning.leaving {
                Leaving::No => {}
                Leaving::WhenDone(_) => self.leave_now(turning),
                Leaving::Now(_) => turning.gone = true,
            },
        }
        while let Some(done) = turning.tasks.try_join_next_with_id() {
            self.finished(turning, done);
        }
    }

    fn leave_now(&mut self, turning: &mut Turning) {
        turning.leaving = Leaving::Now(Instant::now() + LEAVE_WITHIN);
        self.step(turning, Event::LeaveNow);
    }

    /// Starts launchers before they are needed: the first attempts should not wait for them.
    fn warm_up(&self, turning: &mut Turning) {
        /// More than these would slow down the start of an agent that lives for one job.
        const WARM_SLOTS: usize = 4;
        for slot in self.slots.iter().take(WARM_SLOTS) {
            let slot = Arc::clone(slot);
            turning.tasks.spawn(async move {
                if let Err(error) = slot.lock().await.launcher().await {
                    tracing::warn!(%error, "a launcher does not start; it is tried again when it is needed");
                }
                Done::Warmed
            });
        }
    }

    /// Reads the sensor before an attempt begins, unless that was done a moment ago.
    fn sense_afresh(&mut self, turning: &mut Turning) {
        let status = |report: &SensorReport| -> Vec<ReadingStatus> {
            report.readings.iter().map(|reading| reading.status).collect()
        };
        if turning.sensed_at.elapsed() >= SENSE_FRESH {
            let before = status(&self.sensor);
            self.sense(turning, Senses::read);
            if status(&self.sensor) != before {
                turning.outbox.sensor(&self.sensor);
            }
        }
    }

    /// Reads the sensor; says whether anything is different.
    fn sense(&mut self, turning: &mut Turning, read: fn(&mut Senses, &CpuSet) -> SensorReport) -> bool {
        let in_use = self.machine.cpus_in_use();
        let used = std::mem::replace(&mut turning.used, in_use.clone());
        let report = read(&mut self.senses, &used.union(&in_use));
        turning.sensed_at = Instant::now();
        let changed = report != self.sensor;
        self.sensor = report;
        let health = self.health(turning);
        self.step(turning, Event::SensorRead(health));
        changed
    }

    /// Whether the agent may measure: by its sensor, and by its spool.
    fn health(&self, turning: &Turning) -> Result<(), String> {
        match &turning.spool_failed {
            Some(why) => Err(why.clone()),
            None => Senses::judge(&self.sensor),
        }
    }

    /// Ends what is left: tasks first, then launchers.
    async fn close(mut self, mut turning: Turning) {
        if let Err(error) = self.spool.write_out() {
            tracing::error!(%error, "the spool's last records are lost");
        }
        turning.tails.close();
        turning.outbox.drain().await;
        turning.tasks.shutdown().await;
        for slot in self.slots.iter().chain(&self.stagers) {
            slot.lock().await.close().await;
        }
        // The last holders of images go with the jobs.
        turning.jobs.clear();
        if let Some(docker) = &self.docker {
            docker.close().await;
        }
    }
}

impl Leaving {
    const fn next_at(self) -> Option<Instant> {
        match self {
            Self::No => None,
            Self::WhenDone(at) | Self::Now(at) => Some(at),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
