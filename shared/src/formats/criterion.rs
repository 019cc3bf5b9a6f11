//! Criterion's folder `target/criterion`: for each bench `…/new/benchmark.json` (its name) and `…/new/sample.json`.
//!
//! `times` are totals of batches in nanoseconds: each becomes the mean of its batch, evidence B, and A only where
//! every batch is one iteration. Names come from `full_id`; folder names are slugs and two ids may share one.
//! `change/` is criterion's own comparison with whatever ran last, and is not read. Folders of benches that no
//! longer exist stay on disk: whoever collects the files leaves out those that this run did not write.

use std::collections::BTreeMap;

use darwin_gate::Evidence;
use serde::Deserialize;

use super::input::text_of;
use super::names::{Taken, bench_name};
use super::{Format, MAX_SERIES, ReadError, ReadErrorKind, TreeFile, json, latency_of_one_process};
use crate::sample::{Measured, MetricKind, Per, Series};

const NAME_FILE: &str = "benchmark.json";
const SAMPLE_FILE: &str = "sample.json";

/// Whether the file at this path, inside `target/criterion`, is one that [`super::read`] needs.
pub fn criterion_wants(path: &str) -> bool {
    bench_folder(path).is_some()
}

/// The bench's folder and the name of the file, of the paths that are read.
fn bench_folder(path: &str) -> Option<(&str, &str)> {
    let (folder, file) = path.rsplit_once('/')?;
    let bench = folder.strip_suffix("/new")?;
    (file == NAME_FILE || file == SAMPLE_FILE).then_some((bench, file))
}

#[derive(Deserialize)]
struct Name {
    full_id: String,
}

#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// The two files of one bench.
#[derive(Default)]
struct Folder<'a> {
    name: Option<&'a TreeFile>,
    sample: Option<&'a TreeFile>,
}

pub(super) fn read(root: &str, files: &[TreeFile]) -> Result<Measured, ReadError> {
    let folders = folders(files);
    if folders.is_empty() {
        let why = format!(
            "no `…/new/{NAME_FILE}` among its {} files; give the folder target/criterion after `cargo bench`",
            files.len()
        );
        return Err(ReadErrorKind::NoSeries { why }.in_file(root));
    }
    if folders.len() > MAX_SERIES {
        let found = folders.len();
        return Err(ReadErrorKind::TooLarge { what: "benches", found, most: MAX_SERIES }.in_file(root));
    }
    let (mut warnings, mut series, mut taken) = (Vec::new(), Vec::new(), Taken::default());
    for (at, (path, folder)) in folders.into_iter().enumerate() {
        let inside = |file: &TreeFile| format!("{root}/{}", file.path);
        let (Some(name_file), Some(sample_file)) = (folder.name, folder.sample) else {
            let missing = if folder.name.is_none() { NAME_FILE } else { SAMPLE_FILE };
            let why = format!("{missing} is missing beside its sibling: the bench was stopped; run it again");
            let kind = ReadErrorKind::WrongFormat { expected: Format::Criterion, why };
            return Err(kind.in_file(&format!("{root}/{path}/new")));
        };
        let name = name_of(name_file, at + 1, &mut warnings, &mut taken)
            .map_err(|kind| kind.in_file(&inside(name_file)))?;
        let one =
            series_of(name, sample_file, &mut warnings).map_err(|kind| kind.in_file(&inside(sample_file)))?;
        series.push(one);
    }
    Ok(Measured {
        format: Format::Criterion,
        tool: Some("criterion".to_owned()),
        tool_version: None,
        host: BTreeMap::new(),
        series,
        warnings,
    })
}

fn folders(files: &[TreeFile]) -> BTreeMap<&str, Folder<'_>> {
    let mut folders = BTreeMap::<&str, Folder<'_>>::new();
    for file in files {
        let Some((bench, name)) = bench_folder(&file.path) else {
            continue;
        };
        let folder = folders.entry(bench).or_default();
        if name == NAME_FILE {
            folder.name = Some(file);
        } else {
            folder.sample = Some(file);
        }
    }
    folders
}

fn name_of(
    file: &TreeFile,
    place: usize,
    warnings: &mut Vec<String>,
    taken: &mut Taken,
) -> Result<String, ReadErrorKind> {
    let Name { full_id } = json::parse(Format::Criterion, text_of(&file.bytes)?)?;
    let name = bench_name(&full_id, place, warnings)?;
    taken.take(&name, &MetricKind::Latency)?;
    Ok(name)
}

fn series_of(name: String, file: &TreeFile, warnings: &mut Vec<String>) -> Result<Series, ReadErrorKind> {
    let Sample { iters, times } = json::parse(Format::Criterion, text_of(&file.bytes)?)?;
    if iters.len() != times.len() {
        let why = format!("`{name}` has {} times and {} numbers of iterations", times.len(), iters.len());
        return Err(ReadErrorKind::WrongFormat { expected: Format::Criterion, why });
    }
    let iterations = iters
        .iter()
        .enumerate()
        .map(|(at, iterations)| {
            whole_iterations(*iterations).ok_or_else(|| ReadErrorKind::WrongFormat {
                expected: Format::Criterion,
                why: format!(
                    "`{name}`, batch {}: {iterations} iterations; it must be a whole number from 1",
                    at + 1
                ),
            })
        })
        .collect::<Result<Vec<u64>, _>>()?;
    let values: Vec<f64> = times.iter().zip(&iters).map(|(total, iterations)| total / iterations).collect();
    super::warn_of_zeros(&name, &values, warnings);
    let (per, evidence) = per(iterations);
    latency_of_one_process(Format::Criterion, name, per, evidence, values)
}

/// Criterion writes its counts as floats; above this they would not be exact, and no batch is so large.
const MOST_ITERATIONS: f64 = 9_007_199_254_740_992.0;

fn whole_iterations(iterations: f64) -> Option<u64> {
    let whole = iterations.fract() == 0.0 && (1.0..=MOST_ITERATIONS).contains(&iterations);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and in range by the line above"
    )]
    whole.then_some(iterations as u64)
}

/// Linear sampling grows its batches, flat sampling keeps them alike.
fn per(iterations: Vec<u64>) -> (Per, Evidence) {
    match iterations.first() {
        Some(1) if iterations.iter().all(|one| *one == 1) => (Per::Op, Evidence::A),
        Some(&first) if iterations.iter().all(|one| *one == first) => {
            (Per::Batch { iterations: first }, Evidence::B)
        }
        Some(_) | None => (Per::Batches { iterations }, Evidence::B),
    }
}
