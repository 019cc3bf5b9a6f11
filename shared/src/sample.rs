//! What one invocation of a bench measured: series of samples, and the statistics that the gate compares.
//!
//! Raw samples and exact histograms are kept; nothing here drops, trims or smooths a value. A series says of itself
//! what its values are worth ([`Evidence`]), so that no mean of a batch passes for a call's tail.

mod check;
mod line;
mod observe;
mod warm_up;

use std::collections::BTreeMap;
use std::fmt;

use darwin_gate::{Better, Evidence, Unit};
use serde::{Deserialize, Serialize};

pub use check::SampleError;
pub(crate) use line::SeriesLine;
pub use warm_up::cut_warm_up;

use crate::formats::Format;

/// What was measured, without the statistic: one kind gives a [`darwin_gate::Metric`] per statistic that is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricKind {
    /// Time of one operation, in nanoseconds.
    Latency,
    /// Operations per second.
    Throughput,
    /// Peak resident memory, in bytes.
    MemoryPeak,
    /// Instructions retired.
    Instructions,
    /// A metric that the bench names itself; the name is one that [`darwin_gate::Metric::custom`] takes.
    Custom(String),
}

impl MetricKind {
    /// The direction of a known metric; a custom one says its own.
    pub const fn better(&self) -> Option<Better> {
        match self {
            Self::Latency | Self::MemoryPeak | Self::Instructions => Some(Better::Smaller),
            Self::Throughput => Some(Better::Bigger),
            Self::Custom(_) => None,
        }
    }

    /// The unit of a known metric; a custom one says its own.
    pub const fn unit(&self) -> Option<Unit> {
        match self {
            Self::Latency => Some(Unit::Nanoseconds),
            Self::Throughput => Some(Unit::PerSecond),
            Self::MemoryPeak => Some(Unit::Bytes),
            Self::Instructions => Some(Unit::Count),
            Self::Custom(_) => None,
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency => f.write_str("latency"),
            Self::Throughput => f.write_str("throughput"),
            Self::MemoryPeak => f.write_str("memory.peak"),
            Self::Instructions => f.write_str("instructions"),
            Self::Custom(name) => write!(f, "custom.{name}"),
        }
    }
}

/// What one value stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Per {
    /// One operation.
    Op,
    /// The mean of so many operations, the same number behind every value.
    Batch {
        /// Operations behind each value, at least 2.
        iterations: u64,
    },
    /// Means of batches of different sizes.
    Batches {
        /// Operations behind each value, in the order of the values.
        iterations: Vec<u64>,
    },
}

/// The order in which a series has its values. Drift can be seen only in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they were measured.
    Time,
    /// By size.
    Sorted,
    /// Not said.
    #[default]
    Unknown,
}

/// Which values share a process, and with it its luck with memory layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// All of them.
    OneProcess,
    /// None: each value is from a process of its own.
    ProcessEach,
    /// Not said.
    #[default]
    Unknown,
}

/// The statistics that a tool made of samples that it did not keep, in the series' unit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Summary {
    /// How many samples there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The smallest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// The 90th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90: Option<f64>,
    /// The 99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// The 99.9th percentile.
    #[serde(rename = "p99.9", skip_serializing_if = "Option::is_none")]
    pub p99_9: Option<f64>,
    /// The arithmetic mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// The largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// The values of a series, in its unit.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Every sample.
    Samples(Vec<f64>),
    /// Every sample, as (value, how often), ascending and each value once: exact, and small for millions of samples.
    Histogram(Vec<(f64, u64)>),
    /// No samples, only what the tool made of them.
    Summary(Summary),
}

/// One metric of one bench, as one invocation measured it.
///
/// Readers give only series that passed [`Series::checked`]; so does deserializing.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// `group/name{param=value}`, unique in its result together with the metric; without the suite.
    pub name: String,
    /// What was measured.
    pub metric: MetricKind,
    /// The unit of every value.
    pub unit: Unit,
    /// Which direction is good.
    pub better: Better,
    /// What one value stands for.
    pub per: Per,
    /// What the values are worth.
    pub evidence: Evidence,
    /// The order of the values.
    pub order: Order,
    /// Which values share a process.
    pub grouping: Grouping,
    /// The values.
    pub values: Values,
}

/// All that one result holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The format that it was in; never [`Format::Auto`].
    pub format: Format,
    /// The tool that measured, where the result says so.
    pub tool: Option<String>,
    /// The tool's version, where the result says so.
    pub tool_version: Option<String>,
    /// Facts of the host that the result tells, for a person to compare; empty for most formats.
    pub host: BTreeMap<String, String>,
    /// At least one series; no two with the same name and metric.
    pub series: Vec<Series>,
    /// What a person should know of it, each a sentence.
    pub warnings: Vec<String>,
}
