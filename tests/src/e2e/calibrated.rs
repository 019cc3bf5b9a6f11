//! What a box's calibration says of the example.

use std::path::Path;

use anyhow::{Context, Result, ensure};

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

/// Compares the suite in this folder with itself, in so many pairs.
pub fn calibrate(world: &World, folder: &Path, pairs: &str) -> Result<Vec<Calibrated>> {
    let arguments = ["measure", "--calibrate", "--pairs", pairs, "--format", "json"];
    let done = world.darwin_in(folder, &arguments)?;
    ensure!(done.code == 0, "a calibration failed: {}{}", done.stdout, done.stderr);
    let report = done.json()?;
    let series = report["series"].as_array().context("a calibration without series")?;
    series
        .iter()
        .map(|row| {
            let number = |field: &str| row[field].as_f64().with_context(|| format!("no {field}: {row}"));
            Ok(Calibrated {
                metric: row["metric"].as_str().unwrap_or_default().to_owned(),
                robust_sd: number("log_ratio_robust_sd")?,
                sd: number("log_ratio_sd")?,
            })
        })
        .collect()
}
