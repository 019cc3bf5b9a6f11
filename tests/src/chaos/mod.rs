//! `make chaos-agent`: `kill -9` of the agent, its guard, launchers, containers and benches at every step of a lease.
//!
//! What is killed, what is checked and how to read it is in `docs/chaos.md`.

mod jobs;
mod left;
mod look;
mod sight;
mod steps;
mod subject;
mod turns;
mod watcher;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use darwin_shared::cpu::CpuSet;
use rand::SeedableRng;
use rand::rngs::StdRng;

pub use look::look_if_asked;
pub use steps::{Step, Victim};

use self::jobs::Jobs;
use self::sight::Ours;
use self::subject::{KNOBS, Subject};
use self::turns::Turns;
use self::watcher::{Knobs, Watched, Watcher};
use crate::World;
use crate::images::Images;

/// The coordinator gives up a silent agent soon, as what is tested is the agent.
const COORDINATOR: [&str; 4] = ["--lease", "3s", "--grace", "1s"];
/// How long what is dying may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of all dice.
    pub seed: u64,
    /// How many kills.
    pub kills: u32,
    /// Whether containers are run and killed too, where there is Docker.
    pub docker: bool,
    /// The program that calls [`look_if_asked`] first; `slice-bench` lies beside it.
    pub look_by: PathBuf,
    /// Where the agent's log goes if anything is wrong.
    pub keep_log: Option<PathBuf>,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    /// How often each was killed at each step.
    pub kills: BTreeMap<(Victim, Step), u32>,
    /// Starts of the agent on a box where no work came, so that all was looked through.
    pub looked_through: u32,
    /// Deaths of the agent after which it was waited until everything was gone without it.
    pub left_alone: u32,
    /// Looks at the box while it ran.
    pub looks: u64,
    /// Benches that looked for anything of an earlier lease.
    pub benches_looked: usize,
    /// How the jobs ended.
    pub ends: BTreeMap<String, u32>,
    /// Parts that this machine lacks something for.
    pub not_run: Vec<String>,
    /// What was left, or was wrong.
    pub problems: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", steps::table(&self.kills))?;
        let kills: u32 = self.kills.values().sum();
        let ends: Vec<String> = self.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        writeln!(
            f,
            "{kills} kills in {:.0} s; {} starts were looked through, {} deaths were left alone\n{} looks at the box, \
             and {} benches looked for an earlier lease\njobs: {}",
            self.took.as_secs_f64(),
            self.looked_through,
            self.left_alone,
            self.looks,
            self.benches_looked,
            ends.join(", ")
        )?;
        for why in &self.not_run {
            writeln!(f, "not run: {why}")?;
        }
        match self.problems.as_slice() {
            [] => write!(f, "nothing was left"),
            problems => write!(f, "LEFT OR WRONG:\n  {}", problems.join("\n  ")),
        }
    }
}

/// Kills, and looks what is left. Fails where nothing could be tried at all.
pub fn run(settings: &Settings, tell: &mut dyn FnMut(&str)) -> Result<Report> {
    let begin = Instant::now();
    let online: CpuSet = std::fs::read_to_string("/sys/devices/system/cpu/online")?.trim().parse()?;
    if !nix::unistd::geteuid().is_root() || online.len() < 2 {
        bail!(
            "not run: it needs root, to see and to end what it looks for, and two CPUs, one of them to lease out"
        );
    }
    let mut report = Report::default();
    let world = World::new()?;
    let coordinator = world.coordinator(&COORDINATOR)?;
    let docker = match Images::can() {
        Ok(()) => settings.docker,
        Err(why) => {
            report.not_run.push(format!("containers: {why}"));
            false
        }
    };
    if !settings.docker {
        report.not_run.push("containers: --no-docker".to_owned());
    }
    let images = if docker { Some(Images::create(world.folder(), "60s", "preferred")?) } else { None };
    let knobs = Knobs::found(&KNOBS);
    let back = PutBack(knobs.clone());
    if knobs.is_empty() {
        report.not_run.push("tuning: none of its knobs can be changed here".to_owned());
    }
    let mut subject = Subject::new(&world, docker)?;
    let mark = images.as_ref().map_or_else(|| subject.short.clone(), |images| images.mark.clone());
    let ours = Ours { scratch: subject.scratch.clone(), locks: subject.locks.clone(), mark };
    let jobs = Jobs::new(&world, &settings.look_by, &ours, images)?;
    subject.start()?;
    let leased = subject.leased()?;
    let watcher = Watcher::start(Watched { ours, leased, knobs: knobs.clone() })?;
    let dice = StdRng::seed_from_u64(settings.seed);
    let mut turns = Turns { dice, subject, jobs, watcher, knobs, coordinator, docker, report };
    let gone_on = turns.all(settings.kills, tell);
    if let Err(error) = &gone_on {
        turns.report.problems.push(format!("{error:#}"));
    } else if let Err(error) = turns.end() {
        turns.report.problems.push(format!("at the end: {error:#}"));
    }
    let mut report = turns.finish(&world, settings.keep_log.as_deref()).context("the end of the run")?;
    report.took = begin.elapsed();
    drop(back);
    Ok(report)
}

/// Leaves the box as it was found, whatever comes.
struct PutBack(Knobs);

impl Drop for PutBack {
    fn drop(&mut self) {
        self.0.put_back();
    }
}
