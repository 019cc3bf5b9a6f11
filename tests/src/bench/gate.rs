//! The gate on saved files, as a person starts it.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::report::{Aim, Line};
use crate::World;

/// How often; the median is reported.
const TURNS: usize = 21;

fn samples() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/tests/samples/pytest-benchmark"))
}

/// `darwin gate` on two shipped pytest-benchmark files, from start to end of the process.
pub fn gate_on_files() -> Result<Vec<Line>> {
    let world = World::new()?;
    let file = |name: &str| samples().join(name).display().to_string();
    let (baseline, challenger) = (file("baseline.json"), file("challenger.json"));
    let mut times = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        let begin = Instant::now();
        let done = world.darwin(&["gate", &baseline, &challenger])?;
        ensure!((0..=3).contains(&done.code) && done.code != 2, "the gate failed: {}", done.stderr);
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(vec![Line::new("`darwin gate` on two saved files, median", times[TURNS / 2], "ms", Aim::AtMost(50.0))])
}
