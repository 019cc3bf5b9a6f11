//! `hyperfine --export-json`, of hyperfine 1 (seconds in `times`) and 2 (`measurements` with units).
//!
//! Each value is one run of a process: evidence A. Peak memory becomes a second series where the file has it.

use std::collections::BTreeMap;

use darwin_gate::{Better, Evidence, Unit};
use serde::{Deserialize, Deserializer};

use super::names::{Param, Taken, bench_name, excerpt, with_params};
use super::{Format, MAX_SERIES, ReadErrorKind, json};
use crate::sample::{Grouping, Measured, MetricKind, Order, Per, Series, Values};

/// The newest `schema_version` that is known.
const NEWEST_SCHEMA: u64 = 2;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    metadata: Option<Metadata>,
    results: Vec<Run>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    hyperfine_version: Option<String>,
}

/// One command with all of its runs.
#[derive(Deserialize)]
struct Run {
    command: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, ParamValue>,
    #[serde(default)]
    times: Option<Vec<f64>>,
    #[serde(default)]
    memory_usage_byte: Vec<f64>,
    #[serde(default)]
    exit_codes: Vec<Option<i32>>,
    #[serde(default)]
    measurements: Option<Vec<Measurement>>,
}

/// Hyperfine 1 writes the bare value, hyperfine 2 an object around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum ParamValue {
    Bare(Param),
    Wrapped { value: Param },
}

/// One run of a command, in hyperfine 2.
#[derive(Deserialize)]
struct Measurement {
    time_wall_clock: Quantity,
    #[serde(default)]
    memory_peak_resident: Option<Quantity>,
    #[serde(default = "succeeded", deserialize_with = "exit_code")]
    exit_code: Option<i32>,
}

#[derive(Deserialize)]
struct Quantity {
    value: f64,
    unit: String,
}

/// A file without exit codes tells of no failure; one with `null` tells of a signal.
#[expect(clippy::unnecessary_wraps, reason = "it is the default of an optional field")]
const fn succeeded() -> Option<i32> {
    Some(0)
}

fn exit_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    Option::deserialize(deserializer)
}

/// One command's runs in base units, of either generation.
struct Runs {
    wall_ns: Vec<f64>,
    peak_rss_bytes: Vec<f64>,
    exit_codes: Vec<Option<i32>>,
}

pub(super) fn read(text: &str) -> Result<Measured, ReadErrorKind> {
    let file: File = json::parse(Format::Hyperfine, text)?;
    if let Some(found) = file.schema_version.filter(|version| *version > NEWEST_SCHEMA) {
        let found = found.to_string();
        return Err(ReadErrorKind::UnsupportedVersion { format: Format::Hyperfine, found, reads: "1 and 2" });
    }
    if file.results.is_empty() {
        let why = "no command was run; give hyperfine at least one".to_owned();
        return Err(ReadErrorKind::NoSeries { why });
    }
    // Each command may give two series.
    if file.results.len() > MAX_SERIES / 2 {
        let found = file.results.len();
        return Err(ReadErrorKind::TooLarge { what: "commands", found, most: MAX_SERIES / 2 });
    }
    let (mut warnings, mut series, mut taken) = (Vec::new(), Vec::new(), Taken::default());
    for (at, run) in file.results.into_iter().enumerate() {
        let name = bench_name(&name_of(&run), at + 1, &mut warnings)?;
        taken.take(&name, &MetricKind::Latency)?;
        series.extend(series_of(name, runs(run)?, &mut warnings)?);
    }
    let version = file.metadata.and_then(|metadata| metadata.hyperfine_version);
    Ok(Measured {
        format: Format::Hyperfine,
        tool: Some("hyperfine".to_owned()),
        tool_version: version.map(|version| excerpt(&version, 40)),
        host: BTreeMap::new(),
        series,
        warnings,
    })
}

fn name_of(run: &Run) -> String {
    let params = run.parameters.iter().map(|(key, value)| match value {
        ParamValue::Bare(value) | ParamValue::Wrapped { value } => (key.as_str(), value),
    });
    with_params(run.name.as_ref().unwrap_or(&run.command), params)
}

fn runs(run: Run) -> Result<Runs, ReadErrorKind> {
    let Some(measurements) = run.measurements else {
        let wall_ns = run.times.unwrap_or_default().into_iter().map(super::whole_ns).collect();
        return Ok(Runs { wall_ns, peak_rss_bytes: run.memory_usage_byte, exit_codes: run.exit_codes });
    };
    let wall_ns = measurements.iter().map(|one| in_ns(&one.time_wall_clock)).collect::<Result<_, _>>()?;
    let peak_rss_bytes = measurements
        .iter()
        .filter_map(|one| one.memory_peak_resident.as_ref())
        .map(in_bytes)
        .collect::<Result<_, _>>()?;
    let exit_codes = measurements.iter().map(|one| one.exit_code).collect();
    Ok(Runs { wall_ns, peak_rss_bytes, exit_codes })
}

fn in_ns(time: &Quantity) -> Result<f64, ReadErrorKind> {
    match time.unit.as_str() {
        "second" => Ok(super::whole_ns(time.value)),
        "millisecond" => Ok(time.value * 1e6),
        "microsecond" => Ok(time.value * 1e3),
        "nanosecond" => Ok(time.value),
        other => Err(unknown_unit("time_wall_clock", other, "second")),
    }
}

fn in_bytes(memory: &Quantity) -> Result<f64, ReadErrorKind> {
    match memory.unit.as_str() {
        "byte" => Ok(memory.value),
        other => Err(unknown_unit("memory_peak_resident", other, "byte")),
    }
}

fn unknown_unit(what: &str, unit: &str, known: &str) -> ReadErrorKind {
    let why = format!("{what} is in `{}`, and only `{known}` is known", excerpt(unit, 40));
    ReadErrorKind::WrongFormat { expected: Format::Hyperfine, why }
}

fn series_of(name: String, runs: Runs, warnings: &mut Vec<String>) -> Result<Vec<Series>, ReadErrorKind> {
    let Runs { wall_ns, peak_rss_bytes, exit_codes } = runs;
    if exit_codes.iter().any(|code| *code != Some(0)) {
        return Err(ReadErrorKind::BenchFailed { name, exit_codes });
    }
    if wall_ns.is_empty() {
        let why = format!("no times of `{name}`; the export must be hyperfine's own, by --export-json");
        return Err(ReadErrorKind::NoSeries { why });
    }
    super::warn_of_zeros(&name, &wall_ns, warnings);
    let of = |metric, unit, values| {
        let series = Series {
            name: name.clone(),
            metric,
            unit,
            better: Better::Smaller,
            per: Per::Op,
            evidence: Evidence::A,
            order: Order::Time,
            grouping: Grouping::ProcessEach,
            values: Values::Samples(values),
        };
        series.checked().map_err(|error| ReadErrorKind::of_series(Format::Hyperfine, error))
    };
    // Where the system does not tell memory, hyperfine writes zeros.
    let has_memory = peak_rss_bytes.iter().any(|bytes| *bytes != 0.0);
    let mut all = vec![of(MetricKind::Latency, Unit::Nanoseconds, wall_ns)?];
    if has_memory {
        all.push(of(MetricKind::MemoryPeak, Unit::Bytes, peak_rss_bytes)?);
    }
    Ok(all)
}
