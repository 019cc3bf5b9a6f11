//! `pytest --benchmark-json`: seconds, one value per round, each already divided by the round's iterations.
//!
//! A round of one iteration is one call: evidence A. More iterations give means of calls: evidence B, whose 99th
//! percentile is no call's. `ops` is the mean turned over, and no metric of its own.

use serde::Deserialize;

use darwin_gate::Evidence;

use super::names::{Taken, bench_name, some_of};
use super::{Format, MAX_SERIES, ReadErrorKind, json, latency_of_one_process};
use crate::sample::{Measured, MetricKind, Per, Series};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    version: Option<String>,
    benchmarks: Vec<Bench>,
}

#[derive(Deserialize)]
struct Bench {
    #[serde(default)]
    group: Option<String>,
    name: String,
    fullname: String,
    stats: Stats,
}

#[derive(Deserialize)]
struct Stats {
    #[serde(default)]
    data: Option<Vec<f64>>,
    #[serde(default)]
    rounds: Option<usize>,
    iterations: u64,
}

pub(super) fn read(text: &str) -> Result<Measured, ReadErrorKind> {
    let file: File = json::parse(Format::PytestBenchmark, text)?;
    check_there_is_data(&file.benchmarks)?;
    let names = names(&file.benchmarks);
    let (mut warnings, mut series, mut taken) = (Vec::new(), Vec::new(), Taken::default());
    for (at, (bench, name)) in file.benchmarks.into_iter().zip(names).enumerate() {
        let name = bench_name(&name, at + 1, &mut warnings)?;
        taken.take(&name, &MetricKind::Latency)?;
        series.push(series_of(bench, name, &mut warnings)?);
    }
    Ok(Measured {
        format: Format::PytestBenchmark,
        tool: Some("pytest-benchmark".to_owned()),
        tool_version: file.version.map(|version| super::names::excerpt(&version, 40)),
        host: std::collections::BTreeMap::new(),
        series,
        warnings,
    })
}

fn check_there_is_data(benches: &[Bench]) -> Result<(), ReadErrorKind> {
    if benches.len() > MAX_SERIES {
        return Err(ReadErrorKind::TooLarge { what: "benches", found: benches.len(), most: MAX_SERIES });
    }
    if benches.is_empty() {
        let why = "no benchmark ran; see that the tests use the `benchmark` fixture, are selected, and that \
                   --benchmark-disable and --benchmark-skip are not given";
        return Err(ReadErrorKind::NoSeries { why: why.to_owned() });
    }
    let without: Vec<&str> = benches
        .iter()
        .filter(|bench| bench.stats.data.as_ref().is_none_or(Vec::is_empty))
        .map(|bench| bench.name.as_str())
        .collect();
    if without.is_empty() {
        return Ok(());
    }
    let names = some_of(without.iter().map(|name| super::names::excerpt(name, 80)), ", ");
    let why = format!(
        "no samples of {names}: it was saved with --benchmark-save or --benchmark-autosave without data; add \
         --benchmark-save-data, or use --benchmark-json"
    );
    Err(ReadErrorKind::NoSeries { why })
}

/// `group/name[params]`; tests of one name in several modules are told apart by pytest's full id.
fn names(benches: &[Bench]) -> Vec<String> {
    let grouped = |bench: &Bench, name: &str| match &bench.group {
        Some(group) => format!("{group}/{name}"),
        None => name.to_owned(),
    };
    let short: Vec<String> = benches.iter().map(|bench| grouped(bench, &bench.name)).collect();
    let mut uses = std::collections::BTreeMap::<&str, usize>::new();
    for name in &short {
        *uses.entry(name).or_default() += 1;
    }
    let unique = |name: &str| uses.get(name) == Some(&1);
    benches
        .iter()
        .zip(&short)
        .map(|(bench, name)| if unique(name) { name.clone() } else { grouped(bench, &bench.fullname) })
        .collect()
}

fn series_of(bench: Bench, name: String, warnings: &mut Vec<String>) -> Result<Series, ReadErrorKind> {
    let Stats { data, rounds, iterations } = bench.stats;
    let mut values = data.unwrap_or_default();
    if let Some(rounds) = rounds.filter(|rounds| *rounds != values.len()) {
        warnings.push(format!("`{name}` says {rounds} rounds but has {} values", values.len()));
    }
    for value in &mut values {
        *value = super::whole_ns(*value);
    }
    super::warn_of_zeros(&name, &values, warnings);
    let (per, evidence) = match iterations {
        0 => {
            let why = format!("`{name}` says 0 iterations a round: nothing was called");
            return Err(ReadErrorKind::WrongFormat { expected: Format::PytestBenchmark, why });
        }
        1 => (Per::Op, Evidence::A),
        _ => (Per::Batch { iterations }, Evidence::B),
    };
    latency_of_one_process(Format::PytestBenchmark, name, per, evidence, values)
}
