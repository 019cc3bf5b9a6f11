//! Compares, one after the other, and what came of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::calibrated::calibrate;
use super::example::{Example, SAME};
use super::neighbour::Neighbour;
use crate::World;

/// Pairs of the calibration that the planner is asked with, and the change that it is asked for.
const CALIBRATION_PAIRS: &str = "60";
const SLOWER_PERCENT: u64 = 5;

/// What is compared with `main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The same benches: whatever verdict says *faster* or *slower* is wrong.
    Same,
    /// Slower by 20%.
    Slower20,
    /// Slower by 5%, in sliced pairs.
    Slower5Sliced,
    /// Slower by 5%, in plain pairs.
    Slower5Plain,
}

impl Kind {
    /// All of them, in the order in which they are run.
    pub const ALL: [Self; 4] = [Self::Slower20, Self::Slower5Sliced, Self::Slower5Plain, Self::Same];

    /// What it is called in arguments and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Slower20 => "slower-20",
            Self::Slower5Sliced => "slower-5-sliced",
            Self::Slower5Plain => "slower-5-plain",
        }
    }

    fn branch(self) -> &'static str {
        match self {
            Self::Same => SAME,
            Self::Slower20 => "slower-20",
            Self::Slower5Sliced | Self::Slower5Plain => "slower-5",
        }
    }

    fn is_plain(self) -> bool {
        self == Self::Slower5Plain
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The product's sources, for its example.
    pub sources: PathBuf,
    /// How many compares of each kind; none of those that are left out.
    pub counts: BTreeMap<Kind, u32>,
}

/// What came of the compares of a kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// APPROVE.
    pub approved: u32,
    /// REJECT.
    pub rejected: u32,
    /// INCONCLUSIVE.
    pub inconclusive: u32,
    /// How many pairs each took.
    pub pairs: Vec<u32>,
    /// How long each took.
    pub took: Vec<Duration>,
    /// The chance of a REJECT that the planner gave before, from a calibration; none where it was not asked.
    pub predicted: Option<f64>,
}

impl Counts {
    /// Compares that came to a verdict.
    pub fn total(&self) -> u32 {
        self.approved + self.rejected + self.inconclusive
    }

    /// The mean number of pairs.
    pub fn mean_pairs(&self) -> f64 {
        self.pairs.iter().copied().map(f64::from).sum::<f64>() / f64::from(self.total().max(1))
    }

    /// The mean time of a compare, in seconds.
    pub fn mean_seconds(&self) -> f64 {
        self.took.iter().map(Duration::as_secs_f64).sum::<f64>() / f64::from(self.total().max(1))
    }
}

/// Runs them all, beside a busy neighbour; `heard` is told of each.
pub fn run(settings: &Settings, mut heard: impl FnMut(Kind, &str)) -> Result<BTreeMap<Kind, Counts>> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("box", &[])?;
    let auto = Example::create(&settings.sources, world.folder().join("auto"), "auto")?;
    let plain = Example::create(&settings.sources, world.folder().join("plain"), "pairs")?;
    let _neighbour = Neighbour::start()?;
    let mut all: BTreeMap<Kind, Counts> = BTreeMap::new();
    for (kind, count) in &settings.counts {
        let example = if kind.is_plain() { &plain } else { &auto };
        if kind.is_plain() && *count > 0 {
            let chance = predicted(&world, &plain.folder)?;
            heard(*kind, &format!("the planner gives a REJECT a chance of {:.0}%", 100.0 * chance));
            all.entry(*kind).or_default().predicted = Some(chance);
        }
        for _ in 0..*count {
            let begin = Instant::now();
            let arguments =
                ["compare", "--baseline", "main", "--challenger", kind.branch(), "--format", "json"];
            let done = world.darwin_in(&example.folder, &arguments)?;
            let counts = all.entry(*kind).or_default();
            let report = done.json().with_context(|| kind.name())?;
            let verdict = &report["verdict"];
            match verdict["decision"].as_str().unwrap_or_default() {
                "APPROVE" | "approve" => counts.approved += 1,
                "REJECT" | "reject" => counts.rejected += 1,
                "INCONCLUSIVE" | "inconclusive" => counts.inconclusive += 1,
                other => bail!("{}: no verdict but {other:?}: {}{}", kind.name(), done.stdout, done.stderr),
            }
            let pairs = verdict["pairs"].as_u64().and_then(|pairs| u32::try_from(pairs).ok());
            let pairs = pairs.context("a verdict without its pairs")?;
            counts.pairs.push(pairs);
            counts.took.push(begin.elapsed());
            heard(*kind, &format!("{}, {pairs} pairs", verdict["reason_text"].as_str().unwrap_or_default()));
        }
    }
    Ok(all)
}

/// What the planner says of a change of 5%: calibrates the example as it is, and has the gate tried on those pairs.
fn predicted(world: &World, folder: &Path) -> Result<f64> {
    let rejects = calibrate(world, folder, CALIBRATION_PAIRS)?.rejects;
    rejects
        .get(&SLOWER_PERCENT)
        .copied()
        .context("a calibration that does not say what becomes of a change of 5%")
}
