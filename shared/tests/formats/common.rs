//! Sample files, and results in words.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use darwin_shared::formats::{Format, Input, ReadError, TreeFile, criterion_wants, read};
use darwin_shared::sample::{Measured, Per, Series, Values};
use darwin_shared::units::format_value;

pub(crate) fn sample_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name)
}

pub(crate) fn sample(name: &str) -> Vec<u8> {
    fs::read(sample_path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn read_sample(format: Format, name: &str) -> Result<Measured, ReadError> {
    read(format, Input::file(name, &sample(name)))
}

/// The files of a folder that criterion's reader wants.
pub(crate) fn criterion_tree(name: &str) -> Vec<TreeFile> {
    let root = sample_path(name);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if criterion_wants(&inside) {
                files.push(TreeFile { path: inside, bytes: fs::read(&path).unwrap() });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// A result as a person would want to check it: every series with what it claims and what the gate would get.
pub(crate) fn summary(measured: &Measured) -> String {
    let tool = measured.tool.as_deref().unwrap_or("-");
    let version = measured.tool_version.as_deref().unwrap_or("-");
    let mut text = format!("{}: {tool} {version}\n", measured.format);
    for series in &measured.series {
        text += &series_summary(series);
    }
    for warning in &measured.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn series_summary(series: &Series) -> String {
    let per = match &series.per {
        Per::Op => "op".to_owned(),
        Per::Batch { iterations } => format!("batch of {iterations}"),
        Per::Batches { iterations } => {
            format!("batches of {}..{}", iterations.first().unwrap(), iterations.last().unwrap())
        }
    };
    let values = match &series.values {
        Values::Samples(values) => format!("{} samples, first {:?}", values.len(), values.first().unwrap()),
        Values::Histogram(pairs) => format!("{} pairs, first {:?}", pairs.len(), pairs.first().unwrap()),
        Values::Summary(summary) => format!("{summary:?}"),
    };
    let Series { name, metric, unit, better, evidence, order, grouping, .. } = series;
    let mut text = format!(
        "{name}\n  {metric} in {unit}, {better:?} is better, per {per}, evidence {evidence:?}, {order:?}, {grouping:?}\n  {values}\n"
    );
    for (key, seen) in series.observations() {
        let _ = writeln!(
            text,
            "    {:14} {:>9}  {:?}",
            key.metric.to_string(),
            format_value(seen.value, seen.unit),
            seen.value
        );
    }
    text
}
