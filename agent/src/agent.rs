//! Putting an agent together, and taking it apart.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use darwin_agent_core::cpu_alloc::Allocator;
use darwin_agent_core::machine::{Action, Limits, Machine};
use darwin_agent_core::topology::Topology;
use darwin_shared::cpu::CpuSet;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::AgentConfig;
use crate::cores::{self, CoreLocks, CoresError, LocksError};
use crate::docker::{Daemon, DaemonError, Guard};
use crate::driver::Driver;
use crate::exec::{CgroupError, CgroupPlace, CgroupRoots, LauncherConfig, reap_leftovers};
use crate::host::{HostFs, tells_stolen_time};
use crate::life::{Life, sweep};
use crate::link::{Link, LinkEvent};
use crate::pin::pin_process;
use crate::probe::Prober;
use crate::run::{Scratch, Slot, install_plugin, short_name};
use crate::sense::Senses;
use crate::spool::{Recovered, Spool, SpoolError};
use crate::stage::{Connection, Folders};
use crate::tune::{Setting, Tuner, restored_at_start};

/// News from the link that wait for the driver; beyond it the connection itself holds the coordinator back.
const LINK_QUEUE: usize = 1024;

/// Why an agent does not run.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Another agent has the folder.
    #[error(
        "another agent uses {}: one state folder serves one agent; stop the other one, or give this one its own \
         (`state_dir`, --state-dir)",
        .0.display()
    )]
    InUse(PathBuf),
    /// A folder cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The box's cores.
    #[error(transparent)]
    Cores(#[from] CoresError),
    /// What an earlier life left running cannot be ended.
    #[error("processes of an earlier life of this agent cannot be ended: {0}")]
    Leftovers(#[from] CgroupError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// An earlier life is not over.
    #[error(
        "after {bound:?} processes of an earlier life of this agent still run: `fuser -v {}` names what holds its folder",
        folder.display()
    )]
    StillRunning {
        /// What they hold.
        folder: PathBuf,
        /// How long it was waited for.
        bound: Duration,
    },
    /// Containers that an earlier life left cannot be removed.
    #[error("containers of an earlier life of this agent cannot be removed: {0}")]
    Containers(String),
    /// The process that would end containers if this one were killed.
    #[error("the guard of its containers cannot be started: {0}")]
    Guard(io::Error),
    /// The file of the box's agents.
    #[error(transparent)]
    CoreLocks(#[from] LocksError),
}

/// How an agent is told to leave.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Finish what has cores, give back the rest, take nothing new; then go.
    pub drain: CancellationToken,
    /// End everything, report it, and go.
    pub now: CancellationToken,
}

/// Runs an agent until `shutdown` is cancelled; then it ends what runs, reports it, and returns.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    Box::pin(run_with(config, Shutdown { drain: CancellationToken::new(), now: shutdown })).await
}

/// Runs an agent until it is told to leave in one way or the other.
pub async fn run_with(mut config: AgentConfig, shutdown: Shutdown) -> Result<(), AgentError> {
    // Benches are started in folders below it, and a launcher has another working directory than its agent.
    config.state_dir = std::path::absolute(&config.state_dir)
        .map_err(|source| AgentError::Folder { path: config.state_dir.clone(), source })?;
    let lock = lock(&config.state_dir)?;
    let life = Life::begin(&config.state_dir).await?;
    let (events, link_events) = mpsc::channel(LINK_QUEUE);
    let (connection, connections) = watch::channel(None);
    let busy = Arc::new(AtomicBool::new(false));
    let link = Link {
        coordinators: config.coordinators.clone(),
        events,
        connection,
        busy: Arc::clone(&busy),
        stop: CancellationToken::new(),
    };
    let stop_link = link.stop.clone().drop_guard();
    let docker = open_docker(&config).await?;
    let ends = Ends { link: link_events, connections, busy };
    let cgroups = cgroups_without_leftovers(&config.state_dir)?;
    restored_at_start(&HostFs::default(), &config.state_dir);
    let (driver, earlier) = assemble(config, &life, docker, &cgroups, shutdown, ends)?;

    let tasks = TaskTracker::new();
    tasks.spawn(link.keep());
    let own = life.folder().to_owned();
    tasks.spawn_blocking(move || {
        let swept = sweep(&own, &CgroupRoots::discover(&HostFs::default()));
        if swept > 0 {
            tracing::info!(agents = swept, "cleaned up after agents that died");
        }
    });
    let tuner = Arc::clone(&driver.tuner);
    Box::pin(driver.run(earlier)).await;
    tuner.close().await;
    drop(stop_link);
    tasks.close();
    tasks.wait().await;
    life.end();
    drop(lock);
    Ok(())
}

/// The daemon that runs images, if the agent may run any and the daemon is there. What an earlier life left in it must
/// go: a container that still runs is on somebody's cores.
async fn open_docker(config: &AgentConfig) -> Result<Option<Arc<Daemon>>, AgentError> {
    let Some(docker) = &config.docker else { return Ok(None) };
    let state = short_name(&config.state_dir);
    match Daemon::open(docker.clone(), config.id.as_str(), &state).await {
        Ok(daemon) => Ok(Some(daemon)),
        Err(error @ DaemonError::Silent { .. }) => {
            tracing::error!(%error, "the agent runs no images until it is started again");
            Ok(None)
        }
        Err(DaemonError::Leftovers(why)) => Err(AgentError::Containers(why)),
    }
}

/// The driver's ends of what the link holds.
struct Ends {
    link: mpsc::Receiver<LinkEvent>,
    connections: Connection,
    busy: Arc<AtomicBool>,
}

/// Reads the box and what an earlier life left, and makes the driver of it all, with what that life leaves to do.
fn assemble(
    config: AgentConfig,
    life: &Life,
    docker: Option<Arc<Daemon>>,
    cgroups: &CgroupRoots,
    shutdown: Shutdown,
    ends: Ends,
) -> Result<(Driver, Vec<Action>), AgentError> {
    let host = HostFs::default();
    let (topology, allocator) = cores::open(&host, config.lease_cpus.as_ref())?;
    keep_off(&allocator);
    let (spool, recovered) = open_spool(&config.state_dir)?;
    let tells_stolen_time = tells_stolen_time(&host);
    let mut senses = Senses::new(host, &config, &topology, &allocator, cgroups);
    let mut facts = senses.facts(&config, &allocator);
    facts.docker = docker.as_ref().map(|docker| docker.version().to_owned());
    tracing::info!(
        id = %config.id, pool = %config.pool, version = facts.version, lease_cpus = facts.lease_cpus,
        housekeeping_cpus = facts.housekeeping_cpus, state_dir = %config.state_dir.display(),
        "the agent is up; without TLS it talks to its own box only"
    );
    let housekeeping = allocator.housekeeping().clone();
    let tuner = Arc::new(tuner(&config, &topology, &allocator)?);
    let locks = CoreLocks::open(config.core_locks.as_deref(), &config.state_dir, topology.online().clone())?;
    let guard = docker.as_deref().map(|docker| guard(docker, &config, &locks)).transpose()?;
    let launchers = Launchers {
        config: &config,
        scratch: life.folder(),
        housekeeping: &housekeeping,
        cgroups,
        keeps: vec![life.lock(), Arc::new(locks.share()?)],
    };
    let (slots, stagers) =
        (launchers.slots(true, facts.lease_cores)?, launchers.slots(false, config.stagers)?);
    let limits = Limits {
        slots: facts.lease_cores,
        stagers: config.stagers,
        ahead: config.stage_ahead,
        lease_grace: config.lease_grace,
    };
    let seen = recovered.seen.iter().map(|(attempt, epoch)| (attempt.job, *epoch));
    let (machine, earlier) = Machine::new(limits, allocator, recovered.attempts, seen);
    let folders = Folders::open(&config.state_dir, config.cache_max_bytes)
        .map_err(|source| AgentError::Folder { path: config.state_dir.clone(), source })?;
    let plugin = plugin(&config.state_dir);
    let driver = Driver {
        sensor: senses.read_idle(&CpuSet::new()),
        prober: Arc::new(Prober::open(&config, &facts)),
        config,
        facts,
        tells_stolen_time,
        machine,
        spool,
        senses,
        locks,
        tuner,
        slots,
        stagers,
        folders,
        docker,
        _guard: guard,
        plugin,
        connection: ends.connections,
        link: ends.link,
        busy: ends.busy,
        shutdown,
    };
    Ok((driver, earlier))
}

/// The agent's cgroups, once nothing of an earlier life runs in them, nor in those that it was in.
fn cgroups_without_leftovers(state_dir: &Path) -> Result<CgroupRoots, AgentError> {
    let (earlier, now) = (CgroupRoots::written(state_dir), CgroupRoots::discover(&HostFs::default()));
    let mut killed = 0;
    for roots in [&earlier, &now] {
        killed += reap_leftovers(roots, &short_name(state_dir))?.killed;
    }
    if killed > 0 {
        tracing::warn!(processes = killed, "ended what an earlier life of this agent had left running");
    }
    if let Err(error) = now.write_down(state_dir) {
        tracing::warn!(%error, "if this agent is killed, `darwin-agent restore` will not find its cgroups");
    }
    Ok(now)
}

/// Opens the spool, and tells what of it could not be read.
fn open_spool(state_dir: &Path) -> Result<(Spool, Recovered), SpoolError> {
    let (spool, recovered) = Spool::open(&state_dir.join("spool"))?;
    if let Some((path, bytes)) = &recovered.quarantined {
        tracing::warn!(path = %path.display(), bytes, "a part of the spool could not be read and was set aside");
    }
    Ok((spool, recovered))
}

/// Starts what ends the containers of this life, and holds its cores until then, if this process is killed.
fn guard(docker: &Daemon, config: &AgentConfig, locks: &CoreLocks) -> Result<Guard, AgentError> {
    docker.guard(&config.launcher, locks.share()?).map_err(AgentError::Guard)
}

/// Where the plugin for pytest is put; none where it cannot be.
fn plugin(state_dir: &Path) -> Option<Arc<Path>> {
    match install_plugin(state_dir) {
        Ok(folder) => Some(Arc::from(folder)),
        Err(error) => {
            tracing::warn!(%error, "the plugin for pytest cannot be put into the state folder: its pairs will be plain");
            None
        }
    }
}

/// What changes the box while something is measured.
fn tuner(config: &AgentConfig, topology: &Topology, allocator: &Allocator) -> Result<Tuner, AgentError> {
    Tuner::start(Setting {
        config: &config.tune,
        host: HostFs::default(),
        state_dir: &config.state_dir,
        core_locks: config.core_locks.as_deref(),
        cpus: topology.with_siblings(&allocator.leasable()),
        others: allocator.housekeeping().clone(),
        cgroups: CgroupPlace::find(&HostFs::default(), &short_name(&config.state_dir))?,
    })
    .map_err(|source| AgentError::Folder { path: config.state_dir.clone(), source })
}

/// Takes the state folder for this agent alone, for as long as the lock lives.
fn lock(state_dir: &Path) -> Result<Flock<File>, AgentError> {
    let failed = |source| AgentError::Folder { path: state_dir.to_owned(), source };
    std::fs::create_dir_all(state_dir).map_err(failed)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(state_dir.join("lock"));
    Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::Error::EWOULDBLOCK => AgentError::InUse(state_dir.to_owned()),
        other => failed(other.into()),
    })
}

/// Moves this process off the cores that it leases, where the box has others.
fn keep_off(allocator: &Allocator) {
    let housekeeping = allocator.housekeeping();
    if !housekeeping.is_disjoint(&allocator.leasable()) {
        tracing::warn!(
            "every core is leased out: the agent itself has none, and will be felt in what it measures"
        );
        return;
    }
    if let Err(error) = pin_process(housekeeping) {
        tracing::warn!(%error, "the agent cannot bind itself to its housekeeping CPUs");
    }
}

/// What slots are made of.
struct Launchers<'a> {
    config: &'a AgentConfig,
    scratch: &'a Path,
    housekeeping: &'a CpuSet,
    cgroups: &'a CgroupRoots,
    keeps: Vec<Arc<OwnedFd>>,
}

impl Launchers<'_> {
    /// So many slots: to measure on, each with a twin, or to stage on.
    fn slots(&self, measure: bool, count: u32) -> Result<Vec<Arc<Mutex<Slot>>>, AgentError> {
        let slot = |number| {
            if measure {
                Ok(self.slot('m', number)?.with_twin(self.slot('n', number)?))
            } else {
                self.slot('s', number)
            }
        };
        (0..count).map(|number| Ok(Arc::new(Mutex::new(slot(number)?)))).collect()
    }

    /// A slot of this kind; names are of equal length, for they stand in the paths that a bench sees.
    fn slot(&self, letter: char, number: u32) -> Result<Slot, AgentError> {
        let name = format!("{letter}{number:04}");
        let scratch = Scratch::open(self.scratch, &name)
            .map_err(|source| AgentError::Folder { path: self.scratch.to_owned(), source })?;
        let mut launcher = LauncherConfig::new(short_name(&self.config.state_dir), &name);
        launcher.program.clone_from(&self.config.launcher);
        launcher.housekeeping = Some(self.housekeeping.clone());
        launcher.cgroups = self.cgroups.clone();
        launcher.lease = matches!(letter, 'm' | 'n').then(|| format!("g{number:04}"));
        launcher.keeps.clone_from(&self.keeps);
        Ok(Slot::new(launcher, scratch))
    }
}
