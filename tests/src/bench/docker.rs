//! What a container costs beside a process: the same program, measured both ways by one agent, in turns.

use anyhow::{Context, Result, ensure};

use super::report::{Aim, Line, median};
use crate::World;
use crate::images::Images;

/// How often the two ways take turns.
const TURNS: usize = 3;
/// Rounds of a turn, of one invocation each.
const ROUNDS: u32 = 10;

/// The wall time of a round in a container, in times of a process's; nothing where there is no Docker daemon.
pub fn containers() -> Result<Vec<Line>> {
    measure(TURNS, ROUNDS)
}

#[expect(clippy::print_stderr, reason = "a part of a benchmark that cannot be run says so")]
fn measure(turns: usize, rounds: u32) -> Result<Vec<Line>> {
    if let Err(why) = Images::can() {
        eprintln!("not run: {why}");
        return Ok(Vec::new());
    }
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let config = world.folder().join("bench.toml");
    std::fs::write(&config, "[void]\nforgive = [\"foreign\", \"stolen\"]\n[docker]\nenabled = true\n")?;
    let _agent = world.agent("bench", &["--config", &config.display().to_string()])?;
    let mut images = Images::create(world.folder(), "60s", "none")?;
    let image = format!("image:{}", images.variant("main", 100, "")?);
    let folder = format!("dir:{}", images.folder.join("main").display());
    let (mut of_processes, mut of_containers) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        of_processes.push(seconds_a_round(&world, &images, &folder, rounds)?);
        of_containers.push(seconds_a_round(&world, &images, &image, rounds)?);
    }
    let ratio = median(of_containers) / median(of_processes);
    Ok(vec![Line::new("a round in a container, in a process's", ratio, "times", Aim::None)])
}

fn seconds_a_round(world: &World, images: &Images, reference: &str, rounds: u32) -> Result<f64> {
    let count = rounds.to_string();
    let arguments = ["measure", "--suite", "orders", "--rounds", &count, "--format", "json", reference];
    let done = world.darwin_in(&images.folder, &arguments)?;
    ensure!(done.code == 0, "{reference}: {}{}", done.stdout, done.stderr);
    let report = done.json()?;
    let seconds = report["elapsed_s"].as_f64().context("a report without its time")?;
    Ok(seconds / f64::from(rounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_costs_more_than_a_process() -> Result<()> {
        if Images::can().is_err() {
            // The part itself says why.
            return measure(1, 1).map(|_| ());
        }
        let lines = measure(1, 2)?;
        assert!(lines.len() == 1 && lines[0].value.is_finite() && lines[0].value > 0.0, "{lines:?}");
        Ok(())
    }
}
