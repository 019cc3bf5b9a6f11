//! The gate on saved files, as a person starts it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::report::{Aim, Line};
use crate::World;

/// How often; the median is reported.
const TURNS: usize = 21;

fn samples() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/tests/samples/pytest-benchmark"))
}

/// Benches of a large file, and their samples.
const BENCHES: usize = 2;
const SAMPLES: usize = 100_000;
/// Samples whose values differ; they come again and again.
const DISTINCT: usize = 9_973;

/// `darwin gate` on two shipped pytest-benchmark files and on two large ones, from start to end of the process.
pub fn gate_on_files() -> Result<Vec<Line>> {
    let world = World::new()?;
    let shipped = ["baseline.json", "challenger.json"].map(|name| samples().join(name));
    let large = [("large-baseline.json", 1.0), ("large-challenger.json", 1.02)];
    let large = large.map(|(name, slower)| {
        let path = world.folder().join(name);
        large_file(&path, slower).map(|()| path)
    });
    let [baseline, challenger] = large;
    Ok(vec![
        Line::new(
            "`darwin gate` on two saved files, median",
            median(&world, &shipped)?,
            "ms",
            Aim::AtMost(50.0),
        ),
        Line::new(
            "`darwin gate` on two files of 100,000 samples a bench, median",
            median(&world, &[baseline?, challenger?])?,
            "ms",
            Aim::AtMost(200.0),
        ),
    ])
}

/// The median time of a start of the gate on two files, in milliseconds.
fn median(world: &World, files: &[PathBuf; 2]) -> Result<f64> {
    let [baseline, challenger] = files.each_ref().map(|file| file.display().to_string());
    let mut times = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        let begin = Instant::now();
        let done = world.darwin(&["gate", &baseline, &challenger])?;
        ensure!((0..=3).contains(&done.code) && done.code != 2, "the gate failed: {}", done.stderr);
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(super::report::median(times))
}

/// A shipped file with benches of many more samples: their times wander from 20 to 30 µs, `slower` times as long.
fn large_file(path: &Path, slower: f64) -> Result<()> {
    let mut file: Value = serde_json::from_slice(&std::fs::read(samples().join("baseline.json"))?)?;
    let benches = file["benchmarks"].as_array_mut().context("a sample without benches")?;
    benches.truncate(BENCHES);
    let seconds =
        |at: usize| slower * 2e-5 * (1.0 + 0.5 * ((at * 7_919) % DISTINCT) as f64 / DISTINCT as f64);
    for bench in benches {
        bench["stats"]["data"] = (0..SAMPLES).map(seconds).collect();
        bench["stats"]["rounds"] = SAMPLES.into();
    }
    std::fs::write(path, serde_json::to_vec(&file)?)?;
    Ok(())
}
