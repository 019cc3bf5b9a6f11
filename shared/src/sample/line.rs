//! A series as one JSON object: the line of `darwin-samples/1`, and its serde form everywhere else.

use std::collections::BTreeMap;

use darwin_gate::{Better, Evidence, Unit};
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::check::SampleError;
use super::{Grouping, MetricKind, Order, Per, Series, Summary, Values};
use crate::formats::{Param, with_params};

/// The object as it is written; what may be left out is optional here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesLine {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) params: BTreeMap<String, Param>,
    #[serde(deserialize_with = "metric_kind")]
    metric: MetricKind,
    unit: String,
    better: Option<Better>,
    #[serde(default)]
    per: PerWord,
    iterations: Option<Iterations>,
    #[serde(default)]
    order: Order,
    #[serde(default)]
    grouping: Grouping,
    evidence: Option<Evidence>,
    values: Option<Vec<f64>>,
    hist: Option<Vec<(f64, u64)>>,
    hdr: Option<de::IgnoredAny>,
    summary: Option<Summary>,
}

impl SeriesLine {
    /// The name with the parameters in it.
    pub(crate) fn full_name(&self) -> String {
        with_params(&self.name, self.params.iter().map(|(key, value)| (key.as_str(), value)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PerWord {
    #[default]
    Op,
    Batch,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Iterations {
    Same(u64),
    Each(Vec<u64>),
}

fn metric_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MetricKind, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "latency" => Ok(MetricKind::Latency),
        "throughput" => Ok(MetricKind::Throughput),
        "memory" | "memory.peak" => Ok(MetricKind::MemoryPeak),
        "instructions" => Ok(MetricKind::Instructions),
        other => other.strip_prefix("custom.").map(|name| MetricKind::Custom(name.to_owned())).ok_or_else(|| {
            de::Error::custom(format!(
                "unknown metric `{other}`: it is latency, throughput, memory.peak, instructions or custom.NAME"
            ))
        }),
    }
}

const UNITS: &str = "ns, us, ms, s, By, KiBy, MiBy, GiBy, 1/s, {count} or 1";

/// The unit that a word stands for, and by what its values are multiplied to be in it.
fn unit_of(word: &str, metric: &MetricKind) -> Option<(Unit, f64)> {
    match word {
        "ns" => Some((Unit::Nanoseconds, 1.0)),
        "us" => Some((Unit::Nanoseconds, 1e3)),
        "ms" => Some((Unit::Nanoseconds, 1e6)),
        "s" => Some((Unit::Nanoseconds, 1e9)),
        "By" => Some((Unit::Bytes, 1.0)),
        "KiBy" => Some((Unit::Bytes, 1024.0)),
        "MiBy" => Some((Unit::Bytes, 1024.0 * 1024.0)),
        "GiBy" => Some((Unit::Bytes, 1024.0 * 1024.0 * 1024.0)),
        "1/s" => Some((Unit::PerSecond, 1.0)),
        "{count}" => Some((Unit::Count, 1.0)),
        // Counters are plain numbers too, and tools write them so.
        "1" if *metric == MetricKind::Instructions => Some((Unit::Count, 1.0)),
        "1" => Some((Unit::Ratio, 1.0)),
        _ => None,
    }
}

const fn word_of(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ns",
        Unit::Bytes => "By",
        Unit::PerSecond => "1/s",
        Unit::Count => "{count}",
        Unit::Ratio => "1",
    }
}

impl TryFrom<SeriesLine> for Series {
    type Error = SampleError;

    /// Completes what was left out, brings the values to the base unit, and checks the whole.
    fn try_from(line: SeriesLine) -> Result<Self, SampleError> {
        let name = line.full_name();
        let contradiction = |what: String| SampleError::Contradiction { name: name.clone(), what };
        if line.hdr.is_some() {
            let what = "`hdr` histograms are not read yet; write them out as `hist`: [[value, count], ...]";
            return Err(contradiction(what.to_owned()));
        }
        let (unit, factor) = unit_of(&line.unit, &line.metric)
            .ok_or_else(|| contradiction(format!("unknown unit `{}`: it is {UNITS}", line.unit)))?;
        let better = line.better.or_else(|| line.metric.better()).ok_or_else(|| {
            contradiction("a custom metric must say `better`: \"smaller\" or \"bigger\"".to_owned())
        })?;
        let per = match (line.per, line.iterations) {
            (PerWord::Op, None | Some(Iterations::Same(1))) => Per::Op,
            (PerWord::Op, Some(_)) => {
                return Err(contradiction("`iterations` need `per`: \"batch\"".to_owned()));
            }
            (PerWord::Batch, Some(Iterations::Same(iterations))) => Per::Batch { iterations },
            (PerWord::Batch, Some(Iterations::Each(iterations))) => Per::Batches { iterations },
            (PerWord::Batch, None) => {
                return Err(contradiction(
                    "`per`: \"batch\" needs `iterations`, how many in a batch".to_owned(),
                ));
            }
        };
        let values = match (line.values, line.hist, line.summary) {
            (Some(values), None, None) => Values::Samples(scaled(values, factor)),
            (None, Some(pairs), None) => {
                Values::Histogram(pairs.into_iter().map(|(value, count)| (value * factor, count)).collect())
            }
            (None, None, Some(summary)) => Values::Summary(summary.times(factor)),
            (None, None, None) | (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                return Err(contradiction(
                    "exactly one of `values`, `hist` and `summary` must be there".to_owned(),
                ));
            }
        };
        let evidence = line.evidence.unwrap_or(match (&values, &per) {
            (Values::Summary(_), _) => Evidence::C,
            (Values::Samples(_) | Values::Histogram(_), Per::Op) => Evidence::A,
            (Values::Samples(_) | Values::Histogram(_), Per::Batch { .. } | Per::Batches { .. }) => {
                Evidence::B
            }
        });
        let (metric, order, grouping) = (line.metric, line.order, line.grouping);
        Self { name, metric, unit, better, per, evidence, order, grouping, values }.checked()
    }
}

fn scaled(mut values: Vec<f64>, factor: f64) -> Vec<f64> {
    for value in &mut values {
        *value *= factor;
    }
    values
}

impl Summary {
    fn times(self, factor: f64) -> Self {
        let scale = |value: Option<f64>| value.map(|value| value * factor);
        Self {
            count: self.count,
            min: scale(self.min),
            p50: scale(self.p50),
            p90: scale(self.p90),
            p99: scale(self.p99),
            p99_9: scale(self.p99_9),
            mean: scale(self.mean),
            max: scale(self.max),
        }
    }
}

impl<'de> Deserialize<'de> for Series {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SeriesLine::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let with_iterations = usize::from(self.per != Per::Op);
        let mut line = serializer.serialize_struct("Series", 9 + with_iterations)?;
        line.serialize_field("name", &self.name)?;
        line.serialize_field("metric", &self.metric.to_string())?;
        line.serialize_field("unit", word_of(self.unit))?;
        line.serialize_field("better", &self.better)?;
        match &self.per {
            Per::Op => line.serialize_field("per", &PerWord::Op)?,
            Per::Batch { iterations } => {
                line.serialize_field("per", &PerWord::Batch)?;
                line.serialize_field("iterations", iterations)?;
            }
            Per::Batches { iterations } => {
                line.serialize_field("per", &PerWord::Batch)?;
                line.serialize_field("iterations", iterations)?;
            }
        }
        line.serialize_field("evidence", &self.evidence)?;
        line.serialize_field("order", &self.order)?;
        line.serialize_field("grouping", &self.grouping)?;
        match &self.values {
            Values::Samples(values) => line.serialize_field("values", &Plain(values))?,
            Values::Histogram(pairs) => line.serialize_field("hist", &Pairs(pairs))?,
            Values::Summary(summary) => line.serialize_field("summary", summary)?,
        }
        line.end()
    }
}

/// Above this a float has no odd whole numbers any more, and its digits are no shorter as an integer.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// A number that is written without `.0` where it is whole: half the size for nanoseconds.
struct Short(f64);

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && (0.0..LARGEST_WHOLE).contains(&self.0) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, not negative and below 2^53 by the line above"
            )]
            return serializer.serialize_u64(self.0 as u64);
        }
        serializer.serialize_f64(self.0)
    }
}

struct Plain<'a>(&'a [f64]);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for value in self.0 {
            list.serialize_element(&Short(*value))?;
        }
        list.end()
    }
}

struct Pairs<'a>(&'a [(f64, u64)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (value, count) in self.0 {
            list.serialize_element(&(Short(*value), count))?;
        }
        list.end()
    }
}
