//! The agent's senses: what its box is, whether it is fit to measure, and what it can keep apart.

use std::path::Path;

use darwin_agent_core::cpu_alloc::Allocator;
use darwin_agent_core::topology::Topology;
use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::{AgentFacts, IsolationLevel, SensorReport, SensorStatus};
use darwin_shared::spec::Scheduler;

use crate::config::{AgentConfig, Tier};
use crate::exec::CgroupRoots;
use crate::host::{HostFs, Sensor, SensorLimits, StatSample};

/// What the agent reads of its box.
#[derive(Debug)]
pub(crate) struct Senses {
    host: HostFs,
    sensor: Sensor,
    earlier: Option<StatSample>,
    /// Whether the latest reading had an earlier one to compare with.
    know_shares: bool,
    tier: Tier,
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
        let cpus = allocator.leasable();
        Self {
            isolated: cpus.is_subset(&topology.isolated()),
            cpusets: cgroups.v2.is_some() || cgroups.cpuset.is_some(),
            tier: config.tier,
            earlier: None,
            know_shares: false,
            sensor: Sensor::new(
                &host,
                cpus.clone(),
                topology.with_siblings(&cpus).difference(&cpus),
                config.state_dir.clone(),
                match config.tier {
                    Tier::BareMetal => SensorLimits::bare_metal(),
                    Tier::Dev => SensorLimits::dev(),
                },
            ),
            host,
        }
    }

    /// Reads every check. Shares of time are known from the second reading on; `ours` are the CPUs that benches of our
    /// own used since the last one.
    pub(crate) fn read(&mut self, ours: &CpuSet) -> SensorReport {
        let (report, sample) = self.sensor.read(&self.host, self.earlier.as_ref(), ours);
        // A box that has no such times will not have them later either.
        self.know_shares = self.earlier.is_some() || sample.is_none();
        self.earlier = sample;
        report
    }

    /// Whether the latest reading knows shares of time, as far as this box tells them.
    pub(crate) const fn know_shares(&self) -> bool {
        self.know_shares
    }

    /// Whether the box may measure, or why not. Only a box whose numbers must stand is ever stopped by its sensor.
    pub(crate) fn judge(&self, report: &SensorReport) -> Result<(), String> {
        match (self.tier, report.status) {
            (Tier::BareMetal, SensorStatus::Down) => Err(report.to_string()),
            (Tier::BareMetal, SensorStatus::Ok | SensorStatus::Degraded) | (Tier::Dev, _) => Ok(()),
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
        }
    }
}

/// Enough for the first CPU's entry.
const CPUINFO_BYTES: u64 = 4096;
