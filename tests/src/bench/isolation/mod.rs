//! What isolation buys on this machine: the same benches plainly and under the agent, in turns within one run, beside a
//! busy loop for every core that may run on any of them.

mod agent_cpu;
mod fleet;
mod program;
mod pytest;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use darwin_gate::plan::robust_sd;
use darwin_gate::stats::median;

use self::fleet::{Fleet, Way};
use self::program::Program;
use self::pytest::Pytest;
use super::report::{Aim, Line};
use crate::World;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// How often the ways of the CPU-bound bench take turns.
    turns: usize,
    /// Invocations of a way in a turn.
    invocations: u32,
    /// Turns of the pytest-benchmark runs, with a run of each way in each.
    pytest_turns: usize,
    /// How long the agent is watched during a round.
    watched: Duration,
    /// Whether the whole box is shielded in some of the ways.
    shield: bool,
}

const FULL: Size =
    Size { turns: 4, invocations: 24, pytest_turns: 8, watched: Duration::from_secs(10), shield: true };

impl Size {
    /// Those of these ways that are measured.
    fn ways(self, all: &[Way]) -> Vec<Way> {
        all.iter().copied().filter(|way| self.shield || !way.shields()).collect()
    }
}

/// How far apart the runs of one bench lie, by how it is isolated, and what the agent itself uses meanwhile.
pub fn isolation() -> Result<Vec<Line>> {
    measure(Path::new("."), FULL)
}

/// `sources` is where the product's examples are; their harness for Python is used.
fn measure(sources: &Path, size: Size) -> Result<Vec<Line>> {
    let world = World::new()?;
    let program = Program::compile(world.folder())?;
    let fleet = Fleet::start(&world, size.shield)?;
    let pytest = Pytest::install(&fleet, &world, sources)?;
    let mut suites: Vec<String> = Way::ALL.iter().map(|way| program.suite(*way, world.folder())).collect();
    suites.extend(Pytest::WAYS.iter().map(|way| pytest.suite(*way)));
    let watched_in = if size.shield { Way::Shield } else { Way::Cpuset };
    suites.push(agent_cpu::suite(&program, watched_in, world.folder(), size.watched));
    fleet.write_suites(&suites)?;

    let mut lines = cpu_bound(&world, &fleet, &program, size)?;
    let _loops = program.busy_loops()?;
    lines.extend(pytest.measure(&fleet, &size.ways(&Pytest::WAYS), size.pytest_turns)?);
    lines.extend(agent_cpu::measure(&world, &fleet, &program, watched_in, size.watched)?);
    Ok(lines)
}

/// What was timed of one way.
#[derive(Debug, Default)]
struct Times {
    /// How it was isolated, as the agent read it back.
    words: String,
    /// The bench's work, as it times itself, in nanoseconds.
    own: Vec<f64>,
    /// The whole process, as its starter times it, in nanoseconds.
    process: Vec<f64>,
    /// Rounds that were void.
    voids: u64,
}

fn cpu_bound(world: &World, fleet: &Fleet<'_>, program: &Program, size: Size) -> Result<Vec<Line>> {
    let Size { turns, invocations, .. } = size;
    let own_plain = world.folder().join("plain.times");
    let own_alone = world.folder().join("alone.times");
    let mut plain = Vec::new();
    let mut ways: BTreeMap<Way, Times> = BTreeMap::new();
    for _ in 0..turns {
        for _ in 0..invocations {
            program.run_alone(&own_alone)?;
        }
        let _loops = program.busy_loops()?;
        for _ in 0..invocations {
            plain.push(program.run(&own_plain)?.as_secs_f64() * 1e9);
        }
        for way in size.ways(&Way::ALL) {
            if let Some(done) = fleet.measure(way, "cpu", invocations)? {
                let times = ways.entry(way).or_default();
                times.process.extend(fleet.history(&way.suite("cpu"), &done.job, done.rounds)?);
                times.own.extend(program::take_rounds(&way.times_file(world.folder()), done.rounds)?);
                times.words = if way == Way::CpusetFifoWatched {
                    format!("{}, rounds void of which over 5% was stolen", done.words)
                } else {
                    done.words
                };
                times.voids += done.voids;
            }
        }
    }
    let what = "CPU-bound bench of 13 ms, run-to-run CoV";
    let (alone, own) = (program::take_times(&own_alone)?, program::take_times(&own_plain)?);
    let mut lines = vec![
        percent(format!("{what}: without the loops, bound to the core"), cov(&alone), Aim::None),
        percent(format!("{what}: plainly"), cov(&own), Aim::AtLeast(15.0)),
    ];
    for (way, times) in &ways {
        let aim = if *way == Way::CpusetFifoWatched { Aim::AtMost(3.0) } else { Aim::None };
        lines.push(percent(format!("{what}: agent, {}", times.words), cov(&times.own), aim));
    }
    if let Some(times) = ways.get(&Way::CpusetFifoWatched) {
        let what = format!(
            "of these, rounds that were void and measured again, beside {} that count",
            times.own.len()
        );
        lines.push(Line::new(what, times.voids as f64, "rounds", Aim::None));
    }
    let robust = "the same, robust: 1.4826 times the median absolute deviation, over the median";
    lines.push(percent(
        format!("{robust}: without the loops, bound to the core"),
        robust_cov(&alone),
        Aim::None,
    ));
    lines.push(percent(format!("{robust}: plainly"), robust_cov(&own), Aim::None));
    for (_, times) in ways.iter().filter(|(way, _)| way.is_fifo()) {
        lines.push(percent(format!("{robust}: agent, {}", times.words), robust_cov(&times.own), Aim::None));
    }
    let whole = "the same with start and end, as whoever starts it times it";
    lines.push(percent(format!("{whole}: plainly"), cov(&plain), Aim::None));
    for (_, times) in ways.iter().filter(|(way, _)| way.is_fifo()) {
        lines.push(percent(format!("{whole}: agent, {}", times.words), cov(&times.process), Aim::None));
    }
    Ok(lines)
}

fn percent(what: impl Into<String>, share: f64, aim: Aim) -> Line {
    Line::new(what, share * 100.0, "%", aim)
}

/// The coefficient of variation: the sample's standard deviation over its mean; no number of fewer than two values.
fn cov(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt() / mean
}

/// The same by medians, which a few runs on a slow core do not move; no number without values.
fn robust_cov(values: &[f64]) -> f64 {
    median(values).map_or(f64::NAN, |middle| robust_sd(values) / middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coefficient_of_variation_is_relative() {
        assert!((cov(&[9.0, 11.0]) - 2.0_f64.sqrt() / 10.0).abs() < 1e-12);
        assert!(cov(&[7.0, 7.0, 7.0]).abs() < 1e-12);
        assert!(!cov(&[1.0]).is_finite());
        // Deviations from the median 10: 0, 1, 1, 2, 90.
        assert!((robust_cov(&[9.0, 10.0, 11.0, 8.0, 100.0]) - 0.148_26).abs() < 1e-4);
        assert!(!robust_cov(&[]).is_finite());
    }

    #[test]
    fn every_way_of_this_machine_gives_a_number() -> Result<()> {
        // A test does not move every task of the box.
        let watched = Duration::from_secs(1);
        let size = Size { turns: 1, invocations: 3, pytest_turns: 2, watched, shield: false };
        let lines = measure(Path::new(".."), size)?;
        for line in &lines {
            println!("{} {} {}", line.what, line.value, line.unit);
            assert!(line.value.is_finite() && line.value >= 0.0, "{line:?}");
        }
        let has = |text: &str| lines.iter().any(|line| line.what.contains(text));
        assert!(has("CoV: plainly") && has("CoV: agent, ") && has("inside a run: agent, "), "{lines:?}");
        let on_leased = lines.iter().find(|line| line.what.contains("may run on the leased core"));
        assert!(on_leased.is_some_and(|line| line.reached() == Some(true)), "{lines:?}");
        Ok(())
    }
}
