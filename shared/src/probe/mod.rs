//! What probes of a box saw: who took its cores away, and how much work a CPU second buys there.
//!
//! Plain data in whole numbers and shares. A probe is made by an agent on the cores of a lease, under the policy and in
//! the cgroup of a bench; what follows from it is decided there. See `docs/probes.md`.

mod short;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fleet::Tier;
use crate::words::words;

pub use self::short::{BoxWatch, ProbeShort, share};

/// The schema of a probe's JSON.
pub const PROBE_SCHEMA: &str = "darwin-probe/1";
/// The most CPUs of one probe: more than a box that is leased as a whole has.
pub const MAX_PROBED_CPUS: usize = 1024;

/// What a probe comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeLevel {
    /// As quiet as a box of its tier should be.
    Ok,
    /// Not as quiet as it could be.
    Warn,
    /// Not fit to measure.
    Fail,
}

words!(ProbeLevel { Ok = "ok", Warn = "warn", Fail = "fail" });

/// What a probe was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeMoment {
    /// It was a job of its own.
    Job,
    /// Before the first round of an attempt.
    Before,
    /// After a round that may be the last.
    After,
}

words!(ProbeMoment { Job = "job", Before = "before", After = "after" });

/// A stretch of time in which the probe did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// When it began, in nanoseconds since the probe began.
    pub start_ns: u64,
    /// How long it was.
    pub length_ns: u64,
}

/// A rhythm in which gaps come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// The kernel's tick.
    Tick {
        /// So often a second.
        hz: u32,
    },
    /// Once a second for 20 ms or longer: real-time throttling, which takes a `SCHED_FIFO` task off for 5% of each second.
    RealTimeHole,
    /// Once a second: the tick that is left on a quiet core, or some timer.
    Second,
    /// Every ten seconds: the kernel's statistics of memory.
    TenSeconds,
    /// Every five minutes: polling for corrected machine errors.
    FiveMinutes,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick { hz } => write!(f, "tick at {hz} Hz"),
            Self::RealTimeHole => f.write_str("real-time throttling each second"),
            Self::Second => f.write_str("once a second"),
            Self::TenSeconds => f.write_str("every 10 s"),
            Self::FiveMinutes => f.write_str("every 5 min"),
        }
    }
}

/// Who takes a core away, as far as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The local timer.
    Timer,
    /// Another CPU wants this one to reschedule.
    Reschedule,
    /// Another CPU has this one call a function.
    Call,
    /// Another CPU has this one forget translations of addresses.
    TlbShootdown,
    /// Interrupts that cannot be masked.
    Nmi,
    /// The CPU tells that it is hot.
    Thermal,
    /// Devices.
    Device,
    /// Other interrupts.
    OtherInterrupt,
    /// The scheduler ran somebody else.
    OtherTask,
    /// No counter of the kernel explains it: firmware (SMI), or the hypervisor.
    Unexplained,
}

words!(Cause {
    Timer = "timer",
    Reschedule = "reschedule",
    Call = "call",
    TlbShootdown = "TLB shootdown",
    Nmi = "NMI",
    Thermal = "thermal",
    Device = "devices",
    OtherInterrupt = "other interrupts",
    OtherTask = "other tasks",
    Unexplained = "firmware or hypervisor",
});

/// How much of the gaps a cause explains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CauseShare {
    /// Who.
    pub cause: Cause,
    /// How often it came.
    pub count: u64,
    /// Its share of the gaps, 0 to 1. Gaps are not matched one by one: it is the share of the counts.
    pub share: f64,
}

/// The gaps of one CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GapSummary {
    /// For how long the probe watched.
    pub observed_ns: u64,
    /// From this length on it counts as a gap.
    pub threshold_ns: u64,
    /// How many there were.
    pub count: u64,
    /// Those of more than 1 us.
    pub count_over_1us: u64,
    /// Gaps in a second.
    pub rate_per_s: f64,
    /// Gaps of more than 1 us in a second.
    pub rate_over_1us_per_s: f64,
    /// The median length; 0 without a gap, as the other quantiles.
    pub p50_ns: u64,
    /// The 90th percentile.
    pub p90_ns: u64,
    /// The 99th percentile.
    pub p99_ns: u64,
    /// The 99.9th percentile.
    pub p99_9_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The gaps' share of the time, 0 to 1.
    pub stolen_share: f64,
    /// The longest ones, the longest first; ten at most.
    pub top: Vec<Gap>,
    /// Rhythms in them.
    pub signatures: Vec<Signature>,
    /// How often the probe was put off its CPU for somebody else.
    pub involuntary_switches: u64,
    /// What the hypervisor says to have taken, 0 to 1; absent where nothing tells.
    pub steal_share: Option<f64>,
    /// Who it was, the greatest share first; empty where the kernel does not count.
    pub causes: Vec<CauseShare>,
}

/// How long a kernel of a fixed number of operations took, in thread CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelTimes {
    /// The median.
    pub median_ns: u64,
    /// The 90th percentile.
    pub p90_ns: u64,
    /// The fastest.
    pub min_ns: u64,
    /// How often it ran.
    pub runs: u32,
}

/// How much work a CPU second buys on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CapacitySummary {
    /// Many independent operations: slower when an SMT neighbour takes a part of the core, or its frequency sinks.
    pub width: KernelTimes,
    /// One operation after the other: slower when the frequency sinks, and hardly for a neighbour.
    pub latency: KernelTimes,
    /// The median of `width` over the best one that this CPU ever had, 1 or more; absent before there is one.
    pub width_of_best: Option<f64>,
    /// The same of `latency`.
    pub latency_of_best: Option<f64>,
}

impl CapacitySummary {
    /// The worse of both over its best.
    pub fn of_best(&self) -> Option<f64> {
        match (self.width_of_best, self.latency_of_best) {
            (Some(width), Some(latency)) => Some(width.max(latency)),
            (one, other) => one.or(other),
        }
    }
}

/// What a CPU's earlier probes of this kind were, in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    /// So many probes are behind it.
    pub probes: u32,
    /// The median of their rates, in gaps a second.
    pub rate_per_s: f64,
    /// The median of their 99th percentiles.
    pub p99_ns: f64,
    /// The median of their stolen shares, 0 to 1.
    pub stolen_share: f64,
}

/// What the probe saw of one CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CpuProbe {
    /// Which.
    pub cpu: u32,
    /// Who takes it away.
    pub gaps: GapSummary,
    /// How much it does; absent if it was not measured.
    pub capacity: Option<CapacitySummary>,
    /// What it usually is; absent before there is anything.
    pub usual: Option<Usual>,
    /// What that comes to.
    pub level: ProbeLevel,
    /// Why, in words.
    pub reasons: Vec<String>,
}

/// What a probe saw of a box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoxProbe {
    /// By which limits it is judged.
    pub tier: Tier,
    /// The box's boot id: changes with every start of the box.
    pub boot_id: String,
    /// For how long it watched.
    pub length_ns: u64,
    /// Whether it ran under `SCHED_FIFO`.
    pub fifo: bool,
    /// Whether it read the CPU's time stamp counter; else the kernel's clock.
    pub tsc: bool,
    /// CPU by CPU.
    pub cpus: Vec<CpuProbe>,
}

impl BoxProbe {
    /// The worst of its CPUs.
    pub fn level(&self) -> ProbeLevel {
        self.cpus.iter().map(|cpu| cpu.level).max().unwrap_or(ProbeLevel::Ok)
    }

    /// The CPU that is the worst off: by its level, then by what is stolen of it.
    pub fn worst(&self) -> Option<&CpuProbe> {
        self.cpus.iter().max_by(|a, b| {
            let by_time = a.gaps.stolen_share.total_cmp(&b.gaps.stolen_share);
            a.level.cmp(&b.level).then(by_time)
        })
    }

    /// Why it is not ok, CPU by CPU: `CPU 3: the longest gap is 4.2ms; …`.
    pub fn reasons(&self) -> String {
        let told = self.cpus.iter().filter(|cpu| cpu.level > ProbeLevel::Ok && !cpu.reasons.is_empty());
        let told: Vec<String> =
            told.map(|cpu| format!("CPU {}: {}", cpu.cpu, cpu.reasons.join("; "))).collect();
        told.join(", ")
    }
}

/// A probe that was made around the rounds of an attempt, or as a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundProbe {
    /// For what.
    pub moment: ProbeMoment,
    /// What it saw.
    pub probe: BoxProbe,
    /// Of one after a round: how the box got worse since the one before the rounds, in words; empty if it did not.
    pub worse: String,
}
