//! What is compared: metrics, their direction, their units, and the key of a series.
//!
//! A metric's text name is a contract: it stands in `darwin.toml`, in reports and in the archive.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which direction of a metric is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// A smaller value is better (latency, memory).
    Smaller,
    /// A bigger value is better (throughput).
    Bigger,
}

/// The statistic of one invocation's latencies that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LatencyStat {
    /// The smallest value.
    Min,
    /// The median, by nearest rank.
    P50,
    /// The 90th percentile.
    P90,
    /// The 99th percentile.
    P99,
    /// The 99.9th percentile.
    P99_9,
    /// The arithmetic mean.
    Mean,
    /// The largest value.
    Max,
}

impl LatencyStat {
    /// Every statistic, in the order in which reports list them.
    pub const ALL: [Self; 7] =
        [Self::Min, Self::P50, Self::P90, Self::P99, Self::P99_9, Self::Mean, Self::Max];

    /// The quantile in 0..=1 that this statistic is, or none for the mean.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::Min => Some(0.0),
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            Self::P99_9 => Some(0.999),
            Self::Max => Some(1.0),
            Self::Mean => None,
        }
    }

    /// The samples that one invocation needs before this statistic may decide: `N (1 - q) >= 20`.
    ///
    /// That rule guards the upper tail. Below it (minimum, median, mean) one sample will do, since the pair of
    /// invocations is the unit of evidence; of the largest value no number is enough (none).
    pub fn samples_to_gate(self) -> Option<u64> {
        match self {
            Self::Min | Self::P50 | Self::Mean => Some(1),
            Self::P90 => Some(200),
            Self::P99 => Some(2_000),
            Self::P99_9 => Some(20_000),
            Self::Max => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P99_9 => "p99.9",
            Self::Mean => "mean",
            Self::Max => "max",
        }
    }
}

impl fmt::Display for LatencyStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is compared between two variants.
///
/// Text names: `latency.p50`, `latency.p99.9`, `latency.mean`, `throughput`, `memory.peak`, `cpu.time`, `page.faults`,
/// `instructions`, `cycles`, `cache.misses`, `branch.misses`, `custom.<name>` (smaller is better), `custom.<name>:bigger`, and `worst-tenth.<metric>`, which
/// only findings have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Time of one operation.
    Latency(LatencyStat),
    /// Operations per second.
    Throughput,
    /// Peak resident memory of the invocation.
    MemoryPeak,
    /// Time on CPUs, in user mode and in the kernel together.
    CpuTime,
    /// Page faults, with and without I/O.
    PageFaults,
    /// Instructions retired.
    Instructions,
    /// CPU cycles.
    Cycles,
    /// Misses of the last cache.
    CacheMisses,
    /// Branches that were predicted wrongly.
    BranchMisses,
    /// A metric that the bench names itself.
    Custom {
        /// The bench's name for it: not empty, no colon, no control characters.
        name: String,
        /// Which direction is good.
        better: Better,
    },
    /// The mean of the worst tenth of the invocations of another metric: what the guard for rare slow processes
    /// compares. No bench measures it.
    WorstTenth(Box<Metric>),
}

/// Why a text is not a metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// No metric has this name.
    #[error(
        "`{0}` is not a metric; known are latency.{{min,p50,p90,p99,p99.9,mean,max}}, throughput, \
         memory.peak, cpu.time, page.faults, instructions, cycles, cache.misses, branch.misses, and custom.NAME or custom.NAME:bigger"
    )]
    Unknown(String),
    /// The part after `custom.` cannot be used.
    #[error(
        "`{0}` cannot name a custom metric: a name has 1 to 128 bytes, no colon and no control characters"
    )]
    BadCustomName(String),
}

/// The longest name of a custom metric in bytes: it is a column in tables and a key in the archive.
const CUSTOM_NAME_MAX_BYTES: usize = 128;
/// What the text of a worst tenth begins with.
const WORST_TENTH: &str = "worst-tenth.";

impl Metric {
    /// A metric of the bench's own.
    pub fn custom(name: impl Into<String>, better: Better) -> Result<Self, MetricError> {
        let name = name.into();
        let bad = name.is_empty()
            || name.len() > CUSTOM_NAME_MAX_BYTES
            || name.chars().any(|c| c == ':' || c.is_control());
        if bad { Err(MetricError::BadCustomName(name)) } else { Ok(Self::Custom { name, better }) }
    }

    /// Which direction of this metric is the good one.
    pub fn better(&self) -> Better {
        match self {
            Self::Latency(_)
            | Self::MemoryPeak
            | Self::CpuTime
            | Self::PageFaults
            | Self::Instructions
            | Self::Cycles
            | Self::CacheMisses
            | Self::BranchMisses => Better::Smaller,
            Self::Throughput => Better::Bigger,
            Self::Custom { better, .. } => *better,
            Self::WorstTenth(of) => of.better(),
        }
    }

    /// Whether both speak of the same quantity: custom metrics are one by name, whatever direction was given.
    pub fn same_quantity(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Custom { name: a, .. }, Self::Custom { name: b, .. }) => a == b,
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency(stat) => write!(f, "latency.{stat}"),
            Self::Throughput => f.write_str("throughput"),
            Self::MemoryPeak => f.write_str("memory.peak"),
            Self::CpuTime => f.write_str("cpu.time"),
            Self::PageFaults => f.write_str("page.faults"),
            Self::Instructions => f.write_str("instructions"),
            Self::Cycles => f.write_str("cycles"),
            Self::CacheMisses => f.write_str("cache.misses"),
            Self::BranchMisses => f.write_str("branch.misses"),
            Self::Custom { name, better: Better::Smaller } => write!(f, "custom.{name}"),
            Self::Custom { name, better: Better::Bigger } => write!(f, "custom.{name}:bigger"),
            Self::WorstTenth(of) => write!(f, "{WORST_TENTH}{of}"),
        }
    }
}

impl FromStr for Metric {
    type Err = MetricError;

    fn from_str(text: &str) -> Result<Self, MetricError> {
        if let Some(stat) = text.strip_prefix("latency.") {
            return LatencyStat::ALL
                .into_iter()
                .find(|s| s.name() == stat)
                .map(Self::Latency)
                .ok_or_else(|| MetricError::Unknown(text.to_owned()));
        }
        if let Some(custom) = text.strip_prefix("custom.") {
            return match custom.split_once(':') {
                None | Some((_, "smaller")) => {
                    Self::custom(custom.split(':').next().unwrap_or_default(), Better::Smaller)
                }
                Some((name, "bigger")) => Self::custom(name, Better::Bigger),
                Some(_) => Err(MetricError::BadCustomName(custom.to_owned())),
            };
        }
        if let Some(of) = text.strip_prefix(WORST_TENTH) {
            // One level: a worst tenth of a worst tenth means nothing, and a long text must not nest for ever.
            if of.starts_with(WORST_TENTH) {
                return Err(MetricError::Unknown(text.to_owned()));
            }
            return Ok(Self::WorstTenth(Box::new(of.parse()?)));
        }
        match text {
            "throughput" => Ok(Self::Throughput),
            "memory.peak" => Ok(Self::MemoryPeak),
            "cpu.time" => Ok(Self::CpuTime),
            "page.faults" => Ok(Self::PageFaults),
            "instructions" => Ok(Self::Instructions),
            "cycles" => Ok(Self::Cycles),
            "cache.misses" => Ok(Self::CacheMisses),
            "branch.misses" => Ok(Self::BranchMisses),
            _ => Err(MetricError::Unknown(text.to_owned())),
        }
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The unit of every value of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Bytes.
    Bytes,
    /// Operations per second.
    PerSecond,
    /// A plain count.
    Count,
    /// A share or a ratio without unit.
    Ratio,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nanoseconds, Self::Bytes, Self::PerSecond, Self::Count, Self::Ratio];

    /// The word for it where it is written down: on the wire, in stores, in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nanoseconds => "nanoseconds",
            Self::Bytes => "bytes",
            Self::PerSecond => "per_second",
            Self::Count => "count",
            Self::Ratio => "ratio",
        }
    }

    /// The unit of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.word() == word)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nanoseconds => "nanoseconds",
            Self::Bytes => "bytes",
            Self::PerSecond => "per second",
            Self::Count => "count",
            Self::Ratio => "ratio",
        })
    }
}

/// One metric of one bench.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// The bench's name.
    pub bench: String,
    /// What is compared.
    pub metric: Metric,
}

impl SeriesKey {
    /// The series of `metric` of `bench`.
    pub fn new(bench: impl Into<String>, metric: Metric) -> Self {
        Self { bench: bench.into(), metric }
    }
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.metric, self.bench)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let mut all: Vec<Metric> = LatencyStat::ALL.into_iter().map(Metric::Latency).collect();
        all.extend([Metric::Throughput, Metric::MemoryPeak, Metric::CpuTime, Metric::PageFaults]);
        all.extend([Metric::Instructions, Metric::Cycles, Metric::CacheMisses, Metric::BranchMisses]);
        all.push(Metric::custom("orders.in.flight", Better::Smaller).unwrap());
        all.push(Metric::custom("fills", Better::Bigger).unwrap());
        all.extend(all.clone().into_iter().map(|metric| Metric::WorstTenth(Box::new(metric))));
        for metric in all {
            assert_eq!(metric.to_string().parse::<Metric>().unwrap(), metric);
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(serde_json::from_str::<Metric>(&json).unwrap(), metric);
        }
        assert_eq!(Metric::Latency(LatencyStat::P99_9).to_string(), "latency.p99.9");
        assert_eq!(Metric::custom("fills", Better::Bigger).unwrap().to_string(), "custom.fills:bigger");
        assert_eq!("custom.a:smaller".parse::<Metric>().unwrap().to_string(), "custom.a");
    }

    #[test]
    fn what_is_no_metric_is_refused() {
        for bad in [
            "",
            "latency",
            "latency.p98",
            "custom.",
            "custom.a:wrong",
            "custom.a:b:bigger",
            "memory",
            "p99",
            "worst-tenth.",
            "worst-tenth.worst-tenth.throughput",
        ] {
            assert!(bad.parse::<Metric>().is_err(), "{bad} was taken");
        }
        insta::assert_snapshot!("latency.p98".parse::<Metric>().unwrap_err(), @"`latency.p98` is not a metric; known are latency.{min,p50,p90,p99,p99.9,mean,max}, throughput, memory.peak, cpu.time, page.faults, instructions, cycles, cache.misses, branch.misses, and custom.NAME or custom.NAME:bigger");
    }
}
