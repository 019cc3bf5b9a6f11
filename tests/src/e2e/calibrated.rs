//! What a box's calibration says of the example.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::World;

/// The noise of a series: standard deviations of the log ratio of identical builds.
#[derive(Debug, Clone)]
pub struct Calibrated {
    /// The metric's name.
    pub metric: String,
    /// From the median absolute deviation.
    pub robust_sd: f64,
    /// The plain one.
    pub sd: f64,
}

/// What a calibration says.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// Of each series.
    pub series: Vec<Calibrated>,
    /// The chance of a REJECT by how much slower all benches are, in percent, in the rounds that the suite allows.
    pub rejects: BTreeMap<u64, f64>,
}

/// Compares the suite in this folder with itself, in so many pairs.
pub fn calibrate(world: &World, folder: &Path, pairs: &str) -> Result<Calibration> {
    let arguments = ["measure", "--calibrate", "--pairs", pairs, "--format", "json"];
    let done = world.darwin_in(folder, &arguments)?;
    ensure!(done.code == 0, "a calibration failed: {}{}", done.stdout, done.stderr);
    let report = done.json()?;
    let number = |row: &Value, field: &str| row[field].as_f64().with_context(|| format!("no {field}: {row}"));
    let rows = report["series"].as_array().context("a calibration without series")?;
    let series = rows.iter().map(|row| {
        Ok(Calibrated {
            metric: row["metric"].as_str().unwrap_or_default().to_owned(),
            robust_sd: number(row, "log_ratio_robust_sd")?,
            sd: number(row, "log_ratio_sd")?,
        })
    });
    let series = series.collect::<Result<_>>()?;
    let rehearsed = report["rehearsed"].as_array().with_context(|| format!("not rehearsed: {report}"))?;
    let rejects = rehearsed.iter().map(|row| {
        let percent = row["slower_percent"].as_u64().context("a rehearsal without its change")?;
        Ok((percent, number(row, "reject_chance")?))
    });
    Ok(Calibration { series, rejects: rejects.collect::<Result<_>>()? })
}
