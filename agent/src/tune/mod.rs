//! Changing the box for as long as something is measured, and putting it back.
//!
//! ```text
//!   attempt takes cores ──> Tuner::take ──> worker's thread: journal, write, read back
//!   attempt is over     ──> Ground dropped ──> after `keep` without another one: undone in reverse
//!   start after a crash, `darwin-agent restore` ──> undone from the journal
//! ```
//! What is to be changed and undone is decided by `darwin_agent_core::tune`. What dies with a file or a folder (the limit
//! on wake-up latency, partitions) is in no journal.

mod changes;
mod disk;
mod knobs;
mod partition;
mod restore;
mod worker;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use darwin_agent_core::cpu_alloc::Granted;
use darwin_agent_core::tune::{Choices, FifoFacts, FifoUse, may_use_fifo};
use darwin_shared::cpu::CpuSet;
use tokio::sync::{Mutex, oneshot};

pub(crate) use restore::restored_at_start;
pub use restore::{RestoreError, Restored, restore};

use self::partition::Partitions;
use self::worker::{Ask, Taken, Worker};
use crate::config::TuneConfig;
use crate::exec::CgroupPlace;
use crate::host::HostFs;

/// Questions that wait for the thread: two for each slot of a large box.
const QUEUE: usize = 4096;
/// Where a wake-up latency is asked for, as long as the file is open.
const LATENCY_FILE: &str = "/dev/cpu_dma_latency";
/// The name of the lock by which one agent of a box changes it at a time.
const LOCK_NAME: &str = "darwin-tune";

/// What a tuner is told of the agent and its box.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) config: &'a TuneConfig,
    pub(crate) host: HostFs,
    pub(crate) state_dir: &'a Path,
    /// The agent's own file of core locks, if it has one: then the lock on changes is beside it.
    pub(crate) core_locks: Option<&'a Path>,
    /// The cores that are leased out, with their siblings.
    pub(crate) cpus: CpuSet,
    /// The CPUs for everything else.
    pub(crate) others: CpuSet,
    /// Where the agent's cgroups are.
    pub(crate) cgroups: CgroupPlace,
}

/// Changes the box while attempts have cores.
#[derive(Debug, Default)]
pub(crate) struct Tuner {
    host: HostFs,
    /// The agent's own group in v1's cpu hierarchy.
    cpu_group: Option<PathBuf>,
    asks: Option<SyncSender<Ask>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    latency_max: Option<Duration>,
    no_huge_pages: bool,
    /// Whether there can be partitions, and whether every attempt gets one.
    partitions: bool,
    always_partition: bool,
    always_ask: bool,
}

/// What an attempt stands on; put back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    pub(crate) taken: Taken,
    /// Benches are to get no huge pages.
    pub(crate) no_huge_pages: bool,
    /// Whether they may be `SCHED_FIFO`, or why not; none if they are not to be.
    pub(crate) fifo: Option<Result<FifoUse, String>>,
    _latency: Option<File>,
    _hold: Option<Hold>,
}

impl Ground {
    /// Whether its cores are an isolated partition.
    pub(crate) const fn is_partition(&self) -> bool {
        matches!(self.taken.partition, Some(Ok(())))
    }
}

/// Gives back when it is dropped.
#[derive(Debug)]
struct Hold {
    lease: String,
    asks: SyncSender<Ask>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // The queue has room for every slot; if the thread is gone, all is put back already.
        let _ = self.asks.try_send(Ask::GiveBack { lease: std::mem::take(&mut self.lease) });
    }
}

impl Tuner {
    /// Starts the thread if there is anything for it to do.
    pub(crate) fn start(setting: Setting<'_>) -> io::Result<Self> {
        let Setting { config, host, state_dir, core_locks, cpus, others, cgroups } = setting;
        let apart = others.is_disjoint(&cpus) && !others.is_empty();
        let partitions = cgroups
            .v2
            .filter(|_| apart)
            .and_then(|(mount, base, agent)| Partitions::find(&host, mount, &base, &agent));
        let shield_root = config.shield.then(|| match cgroups.cpuset_mount {
            _ if !apart => {
                Err("every core is leased out, so that there is nowhere to move tasks to".to_owned())
            }
            Some(mount) => Ok(mount),
            None => Err("the box has no cpusets of cgroup v1; on v2 partitions do it".to_owned()),
        });
        let choices = if apart { config.choices.clone() } else { Choices::default() };
        let always_ask = shield_root.is_some() || choices != Choices::default();
        let mut tuner = Self {
            host: host.clone(),
            cpu_group: cgroups.cpu,
            asks: None,
            thread: Mutex::new(None),
            latency_max: config.wakeup_latency_max,
            no_huge_pages: config.no_huge_pages,
            partitions: partitions.is_some(),
            always_partition: config.partition,
            always_ask,
        };
        if always_ask || tuner.partitions {
            let worker = Worker {
                host,
                state_dir: state_dir.to_owned(),
                lock_file: lock_file(core_locks),
                choices,
                cpus,
                others,
                partitions,
                shield_root,
                keep: config.keep,
            };
            let (asks, asked) = sync_channel(QUEUE);
            let thread = std::thread::Builder::new()
                .name("darwin-tune".to_owned())
                .spawn(move || worker.serve(&asked))?;
            tuner.asks = Some(asks);
            *tuner.thread.get_mut() = Some(thread);
        }
        Ok(tuner)
    }

    /// Makes the box ready for an attempt that has these cores, under this lease's name. `isolate` says that its cores
    /// should become a partition if they can.
    pub(crate) async fn take(&self, lease: &str, granted: &Granted, isolate: bool) -> Ground {
        let mut facts = Vec::new();
        let latency = self.latency_max.and_then(|max| match limit_latency(Path::new(LATENCY_FILE), max) {
            Ok(file) => {
                facts.push(format!("wake-ups within {}", humantime::format_duration(max)));
                Some(file)
            }
            Err(error) => {
                facts.push(format!("no limit on wake-up latency: {LATENCY_FILE}: {error}"));
                None
            }
        });
        let partition = isolate && self.partitions && !granted.isolated;
        let mut taken = Taken::default();
        let mut hold = None;
        if let Some(asks) = self.asks.as_ref().filter(|_| partition || self.always_ask) {
            let (reply, answer) = oneshot::channel();
            let ask = Ask::Take {
                lease: lease.to_owned(),
                cpus: granted.cpus.union(&granted.siblings_idle),
                node: granted.node.0,
                partition,
                reply,
            };
            if asks.try_send(ask).is_ok() {
                hold = Some(Hold { lease: lease.to_owned(), asks: asks.clone() });
                taken = answer.await.unwrap_or_default();
            }
        }
        taken.facts.append(&mut facts);
        Ground { taken, no_huge_pages: self.no_huge_pages, fifo: None, _latency: latency, _hold: hold }
    }

    /// Whether an attempt that only prefers isolation gets a partition as well.
    pub(crate) const fn always_partition(&self) -> bool {
        self.always_partition
    }

    /// How a bench may be `SCHED_FIFO`, or why not at all. `isolated` says whether nothing else is scheduled on its cores,
    /// `run_max` how long a run may take at most.
    pub(crate) fn may_use_fifo(&self, isolated: bool, run_max: Duration) -> Result<FifoUse, String> {
        let number = |path: &Path| self.host.read(path).ok().and_then(|text| text.parse().ok());
        let facts = FifoFacts {
            isolated,
            run_max,
            runtime_us: number(Path::new("/proc/sys/kernel/sched_rt_runtime_us")),
            group_budget_us: self
                .cpu_group
                .as_ref()
                .and_then(|group| number(&group.join("cpu.rt_runtime_us"))),
        };
        may_use_fifo(facts).map_err(|why| why.to_string())
    }

    /// Puts everything back and waits for it. Nothing may be asked after this.
    pub(crate) async fn close(&self) {
        if let Some(thread) = self.thread.lock().await.take() {
            let asks = self.asks.clone();
            // It only ends early by a panic, which has been told of; the next start puts back what it left.
            let end = move || {
                // Whatever it does meanwhile has an end, so it has room for this some time.
                asks.map(|asks| asks.send(Ask::Close));
                thread.join()
            };
            let _ = tokio::task::spawn_blocking(end).await;
        }
    }
}

/// Keeps every CPU from sleeping deeper than it can wake from within this, as long as the file is open.
fn limit_latency(path: &Path, max: Duration) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let microseconds = i32::try_from(max.as_micros()).unwrap_or(i32::MAX);
    file.write_all(&microseconds.to_ne_bytes())?;
    Ok(file)
}

fn lock_file(core_locks: Option<&Path>) -> PathBuf {
    if let Some(file) = core_locks {
        return file.with_extension("tune");
    }
    let folders = ["/dev/shm", "/run/lock"].map(Path::new);
    let folder = folders.into_iter().find(|folder| folder.is_dir()).unwrap_or(Path::new("/tmp"));
    folder.join(LOCK_NAME)
}
