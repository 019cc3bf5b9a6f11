//! The agent's senses: what its box is, whether it is fit to measure, and what it can keep apart.

use std::path::Path;
use std::time::{Duration, Instant};

use darwin_agent_core::cpu_alloc::Allocator;
use darwin_agent_core::topology::Topology;
use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::{AgentFacts, IsolationLevel, SensorReport, SensorStatus, Tier};
use darwin_shared::spec::Scheduler;
use serde::Serialize;

use crate::config::AgentConfig;
use crate::cores::{self, CoresError};
use crate::exec::CgroupRoots;
use crate::host::{Depth, HostFs, Scope, Sensor, SensorPolicy};

/// How soon the whole list is read again, at the earliest; between two attempts it never is.
const WHOLE_EVERY: Duration = Duration::from_mins(1);

/// What the agent reads of its box.
#[derive(Debug)]
pub(crate) struct Senses {
    host: HostFs,
    sensor: Sensor,
    /// When the whole list was read last.
    whole_at: Option<Instant>,
    /// How often the sensor was read, up to two.
    readings: u8,
    isolated: bool,
    cpusets: bool,
}

impl Senses {
    pub(crate) fn new(
        host: HostFs,
        config: &AgentConfig,
        topology: &Topology,
        allocator: &Allocator,
        cgroups: &CgroupRoots,
    ) -> Self {
        let scope = Scope::of(topology, allocator, config.state_dir.clone());
        Self {
            isolated: scope.cpus.is_subset(&topology.isolated()),
            cpusets: cgroups.v2.is_some() || cgroups.cpuset.is_some(),
            whole_at: None,
            readings: 0,
            sensor: Sensor::new(&host, scope, policy(config)),
            host,
        }
    }

    /// Reads what may be read between two attempts. Shares of time are known from the second reading on; `ours` are the
    /// CPUs that benches of our own used since the last one.
    pub(crate) fn read(&mut self, ours: &CpuSet) -> SensorReport {
        self.readings = self.readings.saturating_add(1).min(2);
        self.sensor.read(&self.host, ours, Depth::Light)
    }

    /// Reads the whole list, if that is due; to be called while nothing is measured. The first two readings are whole, so
    /// that rates are known soon.
    pub(crate) fn read_idle(&mut self, ours: &CpuSet) -> SensorReport {
        if self.readings >= 2 && self.whole_at.is_some_and(|at| at.elapsed() < WHOLE_EVERY) {
            return self.read(ours);
        }
        self.readings = self.readings.saturating_add(1).min(2);
        self.whole_at = Some(Instant::now());
        self.sensor.read(&self.host, ours, Depth::Whole)
    }

    /// Whether the latest reading knows shares of time, as far as this box tells them.
    pub(crate) const fn know_shares(&self) -> bool {
        // A box that has no such times will not have them later either.
        self.readings >= 2 || !self.sensor.has_shares()
    }

    /// Whether the box may measure, or why not.
    pub(crate) fn judge(report: &SensorReport) -> Result<(), String> {
        match (report.status, &report.refuses) {
            (SensorStatus::Down, Some(why)) => Err(why.clone()),
            (SensorStatus::Down, None) => Err(report.to_string()),
            (SensorStatus::Ok | SensorStatus::Degraded, _) => Ok(()),
        }
    }

    /// Whether a bench that must have its cores to itself has a chance here.
    pub(crate) const fn can_isolate(&self, scheduler: Scheduler) -> bool {
        self.isolated || self.cpusets || matches!(scheduler, Scheduler::Fifo)
    }

    /// The best isolation that is on offer.
    const fn level(&self) -> IsolationLevel {
        if self.isolated {
            IsolationLevel::Isolated
        } else if self.cpusets {
            IsolationLevel::Cpuset
        } else {
            IsolationLevel::Affinity
        }
    }

    /// What the agent says of itself on joining. What cannot be read is left empty.
    pub(crate) fn facts(&self, config: &AgentConfig, allocator: &Allocator) -> AgentFacts {
        let read = |path: &str| self.host.read(Path::new(path)).unwrap_or_default();
        let cpuinfo = self.host.read_head(Path::new("/proc/cpuinfo"), CPUINFO_BYTES).unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        AgentFacts {
            pool: config.pool.clone(),
            labels: config.labels.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: read("/proc/sys/kernel/hostname"),
            lease_cpus: allocator.leasable().to_string(),
            lease_cores: allocator.cores_total(),
            housekeeping_cpus: allocator.housekeeping().to_string(),
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu_model: model.map(|(_, model)| model.trim().to_owned()).unwrap_or_default(),
            isolation: self.level(),
            incarnation: format!("{:016x}", rand::random::<u64>()),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            docker: None,
            tier: config.tier,
        }
    }
}

/// What `darwin-agent sensor` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SensorView {
    /// The name and version of this JSON: `darwin-sensor/1`.
    pub schema: &'static str,
    /// What the box's numbers are good for.
    pub tier: Tier,
    /// The CPUs that are leased out, as a list like `1,3-4`.
    pub lease_cpus: String,
    /// The CPUs that the agent and all staging run on.
    pub housekeeping_cpus: String,
    /// The checks that must neither fail nor be unknown.
    pub required: Vec<&'static str>,
    /// What was found.
    #[serde(flatten)]
    pub report: SensorReport,
}

/// Reads the sensor twice, without an agent, with the `span` between, so that shares of time are known. With a `tree`, the
/// box recorded there is looked at instead of this one: files as they lie below `/`, and below `later/` those that had
/// changed at the second reading.
pub async fn sensor_report(
    config: &AgentConfig,
    tree: Option<&Path>,
    span: Duration,
) -> Result<SensorView, CoresError> {
    let host = tree.map_or_else(HostFs::default, HostFs::new);
    let (topology, allocator) = cores::open(&host, config.lease_cpus.as_ref())?;
    let scope = Scope::of(&topology, &allocator, config.state_dir.clone());
    let mut sensor = Sensor::new(&host, scope, policy(config));
    let none = CpuSet::new();
    let first = sensor.read(&host, &none, Depth::Whole);
    let later = tree.map(|tree| tree.join("later"));
    let report = match later {
        Some(later) if later.is_dir() => sensor.read(&host.with(later), &none, Depth::Whole),
        Some(_) => first,
        None => {
            tokio::time::sleep(span).await;
            sensor.read(&host, &none, Depth::Whole)
        }
    };
    Ok(SensorView {
        schema: "darwin-sensor/1",
        tier: config.tier,
        lease_cpus: allocator.leasable().to_string(),
        housekeeping_cpus: allocator.housekeeping().to_string(),
        required: sensor.policy().required(),
        report,
    })
}

/// What is asked of the box, as it is configured.
fn policy(config: &AgentConfig) -> SensorPolicy {
    let sensor = config.sensor.clone();
    SensorPolicy {
        tier: config.tier,
        require: sensor.require,
        forgive: sensor.forgive,
        approved: sensor.approved,
        production: sensor.production,
    }
}

/// Enough for the first CPU's entry.
const CPUINFO_BYTES: u64 = 4096;
