//! Makes probes on the cores of an attempt, and remembers what they saw.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use darwin_agent_core::probe::capacity::capacity;
use darwin_agent_core::probe::judge::judge;
use darwin_agent_core::probe::memory::{ProbeMemory, Way};
use darwin_shared::fleet::{AgentFacts, Tier};
use darwin_shared::probe::{BoxProbe, CpuProbe};
use darwin_shared::spec::Arm;
use darwin_shared::state::Stage;

use super::child::LOOP_ARG;
use super::plan::{CpuReading, LoopPlan, LoopReadings};
use crate::aside::write_json;
use crate::config::{AgentConfig, BenchLimits, ProbeLengths};
use crate::host::{HostFs, uptime_s};
use crate::run::{Bench, Outcome, Placing, Process, Slot};

/// The running binary: for a launcher that is the agent's own, even if its file was replaced meanwhile.
const OWN_BINARY: &str = "/proc/self/exe";
/// The file in the state folder in which earlier probes are remembered.
pub(crate) const MEMORY_FILE: &str = "probes.json";
/// The largest one that is read; of a thousand CPUs it has half of it.
pub(crate) const MEMORY_MAX_BYTES: u64 = 16 << 20;
/// The largest result of a loop: some KiB for each CPU.
const READINGS_MAX_BYTES: u64 = 16 << 20;
/// The part of a probe in which kernels are timed, and the most of it.
const CAPACITY_PART: u32 = 4;
const CAPACITY_MOST: Duration = Duration::from_millis(200);
/// A gap of this length is one; on isolated cores a shorter one is too.
const THRESHOLD: Duration = Duration::from_micros(1);
const THRESHOLD_ISOLATED: Duration = Duration::from_nanos(200);
/// What starting, summing up and writing may take beside the watch, on the busiest box.
const BESIDE: Duration = Duration::from_secs(30);

/// Why there is no probe.
#[derive(Debug)]
pub(crate) enum NoProbe {
    /// The attempt was told to stop.
    Stopped,
    /// It did not work, in words.
    Failed(String),
}

/// Makes probes.
#[derive(Debug)]
pub(crate) struct Prober {
    tier: Tier,
    boot_id: String,
    lengths: ProbeLengths,
    file: PathBuf,
    memory: Mutex<ProbeMemory>,
}

impl Prober {
    /// With what earlier lives of this agent remembered.
    pub(crate) fn open(config: &AgentConfig, facts: &AgentFacts) -> Self {
        let file = config.state_dir.join(MEMORY_FILE);
        // Kernels that were built otherwise take another time.
        let built = if cfg!(debug_assertions) { "debug" } else { "release" };
        let fingerprint = format!("{}, {built} {}", facts.cpu_model, env!("CARGO_PKG_VERSION"));
        let memory = remembered(&file).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "what earlier probes saw is forgotten");
            ProbeMemory::default()
        });
        Self {
            tier: config.tier,
            boot_id: facts.boot_id.clone(),
            lengths: config.probe,
            file,
            memory: Mutex::new(memory.fit_for(&fingerprint)),
        }
    }

    pub(super) const fn tier(&self) -> Tier {
        self.tier
    }

    pub(super) const fn lengths(&self) -> ProbeLengths {
        self.lengths
    }

    /// Probes the cores of an attempt as its benches use them, for about this long.
    pub(super) async fn probe(
        &self,
        bench: &Bench,
        slot: &mut Slot,
        length: Duration,
    ) -> Result<BoxProbe, NoProbe> {
        let failed = |why: String| NoProbe::Failed(why);
        slot.scratch.empty().map_err(|error| failed(format!("the scratch folder: {error}")))?;
        let capacity = (length / CAPACITY_PART).min(CAPACITY_MOST);
        let threshold = match self.tier {
            Tier::BareMetalIsolated => THRESHOLD_ISOLATED,
            Tier::Shielded | Tier::Dev => THRESHOLD,
        };
        let plan = LoopPlan {
            cpus: bench.granted.cpus.iter().collect(),
            watch_ns: nanos(length.saturating_sub(capacity)),
            threshold_ns: nanos(threshold),
            capacity_ns: nanos(capacity),
            shares_core: !bench.granted.isolated,
            output: slot.scratch.output(),
        };
        self.run_loop(bench, slot, &plan, length).await?;
        let readings = readings(&plan.output).map_err(|error| failed(format!("its result: {error}")))?;
        Ok(self.judged(readings, length))
    }

    async fn run_loop(
        &self,
        bench: &Bench,
        slot: &mut Slot,
        plan: &LoopPlan,
        length: Duration,
    ) -> Result<(), NoProbe> {
        let json = serde_json::to_string(plan).map_err(|error| NoProbe::Failed(error.to_string()))?;
        let home = slot.scratch.home().to_owned();
        // It may use what it needs whatever a bench may.
        let limits = BenchLimits::default();
        let process = Process {
            argv: vec![OWN_BINARY.to_owned(), LOOP_ARG.to_owned(), json],
            env: BTreeMap::new(),
            cwd: &home,
            // Also where the benches are images: a container has their policy, their CPUs and their cpuset.
            image: None,
            attempt: bench.attempt,
            placing: Some(Placing {
                granted: &bench.granted,
                isolation: bench.spec.cores.isolation,
                layout: bench.spec.layout,
                placed: &bench.placed,
            }),
            fifo: bench.placed.fifo(),
            count_stolen: false,
            // With the pauses between slices.
            timeout: length.saturating_mul(2).saturating_add(BESIDE),
            limits: &limits,
            stage: Stage::Run,
            arm: Arm::Baseline,
        };
        // It is no invocation of the job's.
        let uncounted = AtomicU64::new(0);
        match process.run(slot, &bench.logs, &uncounted, &bench.stop).await {
            Outcome::Well(..) => Ok(()),
            Outcome::Failed(cause, log) => Err(NoProbe::Failed(format!("the probe {cause}: {}", log.trim()))),
            Outcome::Broken(why) => Err(NoProbe::Failed(why)),
            Outcome::Stopped => Err(NoProbe::Stopped),
        }
    }

    /// What the readings come to; they are remembered.
    fn judged(&self, readings: LoopReadings, length: Duration) -> BoxProbe {
        let mut memory = self.memory();
        let fifo = readings.cpus.iter().all(|cpu| cpu.fifo);
        let cpus: Vec<CpuProbe> =
            readings.cpus.into_iter().map(|reading| self.judged_cpu(&mut memory, reading)).collect();
        match uptime_s(&HostFs::default()) {
            Ok(uptime_s) => {
                for cpu in &cpus {
                    memory.learn_speed(cpu, &self.boot_id, uptime_s);
                }
            }
            Err(error) => tracing::warn!(%error, "the sensor will not know how fast the cores were"),
        }
        if let Err(error) = write_json(&self.file, &*memory) {
            tracing::warn!(file = %self.file.display(), %error, "what this probe saw is not remembered");
        }
        BoxProbe {
            tier: self.tier,
            boot_id: self.boot_id.clone(),
            length_ns: nanos(length),
            fifo,
            tsc: readings.tsc,
            cpus,
        }
    }

    fn judged_cpu(&self, memory: &mut ProbeMemory, reading: CpuReading) -> CpuProbe {
        let CpuReading { cpu, fifo, gaps, kernels } = reading;
        let way = Way { fifo, observed_ns: gaps.observed_ns };
        let usual = memory.usual(cpu, way);
        let capacity =
            kernels.map(|(width, latency)| capacity(width, latency, Some(memory.best(cpu, width, latency))));
        let (level, reasons) = judge(self.tier, &gaps, capacity.as_ref(), usual.as_ref());
        let probe = CpuProbe { cpu, gaps, capacity, usual, level, reasons };
        memory.learn(&probe, way);
        probe
    }

    fn memory(&self) -> MutexGuard<'_, ProbeMemory> {
        // Whoever broke down while holding it left whole values.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a loop wrote. It is our own program, and its core may have been anybody's: read within bounds.
fn readings(path: &Path) -> io::Result<LoopReadings> {
    let mut bytes = Vec::new();
    File::open(path)?.take(READINGS_MAX_BYTES).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

/// What earlier lives remembered; nothing if there was none.
fn remembered(file: &Path) -> io::Result<ProbeMemory> {
    let mut bytes = Vec::new();
    match File::open(file) {
        Ok(file) => file.take(MEMORY_MAX_BYTES).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ProbeMemory::default()),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_remembered_survives_and_what_is_torn_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(MEMORY_FILE);
        assert_eq!(remembered(&file).unwrap(), ProbeMemory::default());
        let memory = ProbeMemory::default().fit_for("a box");
        write_json(&file, &memory).unwrap();
        assert_eq!(remembered(&file).unwrap(), memory);
        fs::write(&file, "{\"best\":").unwrap();
        assert!(remembered(&file).is_err());
    }
}
