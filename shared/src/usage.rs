//! What a process and its children used, as the kernel and the CPU counted it.

use std::fmt;

use darwin_gate::{Metric, Unit};
use serde::{Deserialize, Serialize};

/// The resources that an invocation used: those of its process and of every child that it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Time in user mode, in nanoseconds.
    pub user_ns: u64,
    /// Time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// The largest resident set of any one process, in bytes.
    pub peak_rss_bytes: u64,
    /// Context switches that it asked for, by waiting.
    pub voluntary_switches: u64,
    /// Context switches that befell it: something else wanted its core.
    pub involuntary_switches: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
    /// Time that the hypervisor ran something else on a CPU while it had that CPU, in nanoseconds.
    #[serde(default)]
    pub stolen_ns: Count,
    /// The most that its own cgroup held at once, in bytes: all its processes together, with what they read from and
    /// wrote to files.
    #[serde(default)]
    pub cgroup_peak_bytes: Count,
    /// What the CPU counted.
    #[serde(default)]
    pub counters: Counters,
}

/// Hardware counters of an invocation: in user mode, from exec on, with all its threads and children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Instructions retired.
    pub instructions: Count,
    /// CPU cycles.
    pub cycles: Count,
    /// Accesses to the last cache.
    pub cache_references: Count,
    /// Misses of the last cache.
    pub cache_misses: Count,
    /// Branches that were predicted wrongly.
    pub branch_misses: Count,
}

impl Counters {
    /// All of them unknown, for one reason.
    pub const fn unknown(why: Uncounted) -> Self {
        let count = Count::Unknown(why);
        Self {
            instructions: count,
            cycles: count,
            cache_references: count,
            cache_misses: count,
            branch_misses: count,
        }
    }
}

/// What was counted, or why it was not. Never a zero for what nobody counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// So much.
    Known(u64),
    /// Nobody knows.
    Unknown(Uncounted),
}

impl Default for Count {
    fn default() -> Self {
        Self::Unknown(Uncounted::NotTold)
    }
}

impl Count {
    /// The number, if it is known.
    pub const fn known(self) -> Option<u64> {
        match self {
            Self::Known(number) => Some(number),
            Self::Unknown(_) => None,
        }
    }
}

/// Why something was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncounted {
    /// Who measured did not say.
    NotTold,
    /// The box has no such counter.
    NoCounter,
    /// The kernel forbids it to the agent.
    Forbidden,
    /// The counter was shared with others, and saw only part of the run.
    Shared,
    /// The kernel would not count this one invocation.
    Refused,
    /// It ran in no cgroup that counts memory.
    NoCgroup,
}

impl Uncounted {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::NotTold, Self::NoCounter, Self::Forbidden, Self::Shared, Self::Refused, Self::NoCgroup];

    /// The word for it, for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotTold => "not_told",
            Self::NoCounter => "no_counter",
            Self::Forbidden => "forbidden",
            Self::Shared => "shared",
            Self::Refused => "refused",
            Self::NoCgroup => "no_cgroup",
        }
    }

    /// The reason of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.word() == word)
    }
}

impl fmt::Display for Uncounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTold => "the agent did not say",
            Self::NoCounter => "no hardware counters on this box",
            Self::Forbidden => "the kernel forbids the agent hardware counters (kernel.perf_event_paranoid)",
            Self::Shared => "the hardware counters were shared, and a scaled value is not exact",
            Self::Refused => "the kernel would not count this run",
            Self::NoCgroup => "it ran in no cgroup of its own that counts memory",
        })
    }
}

/// Something that an invocation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// The largest resident set of any one process.
    PeakMemory,
    /// The most that its cgroup held at once.
    CgroupMemory,
    /// Time on CPUs.
    CpuTime,
    /// The part of it in user mode.
    UserTime,
    /// The part of it in the kernel.
    SystemTime,
    /// Time that the hypervisor took from it, on top.
    StolenTime,
    /// Context switches that it asked for.
    VoluntarySwitches,
    /// Context switches that befell it.
    InvoluntarySwitches,
    /// Page faults of either kind.
    PageFaults,
    /// Those of them with I/O.
    MajorFaults,
    /// Instructions retired.
    Instructions,
    /// CPU cycles.
    Cycles,
    /// Accesses to the last cache.
    CacheReferences,
    /// Misses of the last cache.
    CacheMisses,
    /// Branches that were predicted wrongly.
    BranchMisses,
}

impl Quantity {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 15] = [
        Self::PeakMemory,
        Self::CgroupMemory,
        Self::CpuTime,
        Self::UserTime,
        Self::SystemTime,
        Self::StolenTime,
        Self::VoluntarySwitches,
        Self::InvoluntarySwitches,
        Self::PageFaults,
        Self::MajorFaults,
        Self::Instructions,
        Self::Cycles,
        Self::CacheReferences,
        Self::CacheMisses,
        Self::BranchMisses,
    ];

    /// The word for it, on the wire, in stores and in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::PeakMemory => "peak_memory",
            Self::CgroupMemory => "cgroup_memory",
            Self::CpuTime => "cpu_time",
            Self::UserTime => "user_time",
            Self::SystemTime => "system_time",
            Self::StolenTime => "stolen_time",
            Self::VoluntarySwitches => "voluntary_switches",
            Self::InvoluntarySwitches => "involuntary_switches",
            Self::PageFaults => "page_faults",
            Self::MajorFaults => "major_faults",
            Self::Instructions => "instructions",
            Self::Cycles => "cycles",
            Self::CacheReferences => "cache_references",
            Self::CacheMisses => "cache_misses",
            Self::BranchMisses => "branch_misses",
        }
    }

    /// The quantity of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quantity| quantity.word() == word)
    }

    /// What people call it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::PeakMemory => "peak memory",
            Self::CgroupMemory => "peak memory of the cgroup",
            Self::CpuTime => "CPU time",
            Self::UserTime => "CPU time, user",
            Self::SystemTime => "CPU time, system",
            Self::StolenTime => "time that the hypervisor took",
            Self::VoluntarySwitches => "voluntary switches",
            Self::InvoluntarySwitches => "involuntary switches",
            Self::PageFaults => "page faults",
            Self::MajorFaults => "major page faults",
            Self::Instructions => "instructions",
            Self::Cycles => "cycles",
            Self::CacheReferences => "cache references",
            Self::CacheMisses => "cache misses",
            Self::BranchMisses => "branch misses",
        }
    }

    /// What it is counted in.
    pub const fn unit(self) -> Unit {
        match self {
            Self::PeakMemory | Self::CgroupMemory => Unit::Bytes,
            Self::CpuTime | Self::UserTime | Self::SystemTime | Self::StolenTime => Unit::Nanoseconds,
            Self::VoluntarySwitches
            | Self::InvoluntarySwitches
            | Self::PageFaults
            | Self::MajorFaults
            | Self::Instructions
            | Self::Cycles
            | Self::CacheReferences
            | Self::CacheMisses
            | Self::BranchMisses => Unit::Count,
        }
    }

    /// The metric as which the gate judges it, if it can. Switches are often none at all, and zeros have no ratio; the
    /// parts of a time are not judged beside the whole.
    pub const fn metric(self) -> Option<Metric> {
        match self {
            Self::PeakMemory => Some(Metric::MemoryPeak),
            Self::CpuTime => Some(Metric::CpuTime),
            Self::PageFaults => Some(Metric::PageFaults),
            Self::Instructions => Some(Metric::Instructions),
            Self::Cycles => Some(Metric::Cycles),
            Self::CacheMisses => Some(Metric::CacheMisses),
            Self::BranchMisses => Some(Metric::BranchMisses),
            Self::CgroupMemory
            | Self::UserTime
            | Self::SystemTime
            | Self::StolenTime
            | Self::VoluntarySwitches
            | Self::InvoluntarySwitches
            | Self::MajorFaults
            | Self::CacheReferences => None,
        }
    }
}

impl Usage {
    /// Time on CPUs, in nanoseconds.
    pub const fn cpu_ns(&self) -> u64 {
        self.user_ns.saturating_add(self.system_ns)
    }

    /// How much of this it used, in the quantity's unit.
    pub const fn of(&self, quantity: Quantity) -> Count {
        match quantity {
            // A process without memory there is none: an agent that says 0 does not know.
            Quantity::PeakMemory if self.peak_rss_bytes == 0 => Count::Unknown(Uncounted::NotTold),
            Quantity::PeakMemory => Count::Known(self.peak_rss_bytes),
            Quantity::CgroupMemory => self.cgroup_peak_bytes,
            Quantity::CpuTime => Count::Known(self.cpu_ns()),
            Quantity::UserTime => Count::Known(self.user_ns),
            Quantity::SystemTime => Count::Known(self.system_ns),
            Quantity::StolenTime => self.stolen_ns,
            Quantity::VoluntarySwitches => Count::Known(self.voluntary_switches),
            Quantity::InvoluntarySwitches => Count::Known(self.involuntary_switches),
            Quantity::PageFaults => Count::Known(self.minor_faults.saturating_add(self.major_faults)),
            Quantity::MajorFaults => Count::Known(self.major_faults),
            Quantity::Instructions => self.counters.instructions,
            Quantity::Cycles => self.counters.cycles,
            Quantity::CacheReferences => self.counters.cache_references,
            Quantity::CacheMisses => self.counters.cache_misses,
            Quantity::BranchMisses => self.counters.branch_misses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back() {
        for quantity in Quantity::ALL {
            assert_eq!(Quantity::of_word(quantity.word()), Some(quantity));
            assert_eq!(serde_json::to_value(quantity).unwrap(), quantity.word());
        }
        for why in Uncounted::ALL {
            assert_eq!(Uncounted::of_word(why.word()), Some(why));
        }
    }

    #[test]
    fn usage_from_before_the_counters_reads_as_not_told() {
        let old = r#"{"user_ns":1,"system_ns":2,"peak_rss_bytes":3,"voluntary_switches":4,"involuntary_switches":5,
            "minor_faults":6,"major_faults":7}"#;
        let usage: Usage = serde_json::from_str(old).unwrap();
        assert_eq!(usage.of(Quantity::Instructions), Count::Unknown(Uncounted::NotTold));
        assert_eq!(usage.of(Quantity::CpuTime), Count::Known(3));
        assert_eq!(usage.of(Quantity::PageFaults), Count::Known(13));
    }
}
