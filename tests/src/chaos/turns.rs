//! A turn: wait until a lease comes to a step, kill somebody, and look what is left.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::jobs::{Jobs, Kind, looks};
use super::sight::{Role, Seen};
use super::steps::{Cell, Step, Victim, cells, choose, pause};
use super::subject::Subject;
use super::watcher::{Knobs, Sight, Watcher};
use super::{GONE_WITHIN, Report, left, look};
use crate::images::docker;
use crate::{Daemon, World};

/// How long a step may take to come about: jobs are there, so far beyond what any takes.
const STEP_WITHIN: Duration = Duration::from_mins(1);
/// How often it is seen to that there are jobs.
const FEED_EVERY: Duration = Duration::from_millis(700);
/// How often what is to be gone is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often a kill may come too late before the next kind of kill is drawn.
const TRIES: u32 = 20;

/// Everything that turns are made with.
pub(crate) struct Turns<'w> {
    pub(crate) dice: StdRng,
    pub(crate) subject: Subject<'w>,
    pub(crate) jobs: Jobs<'w>,
    pub(crate) watcher: Watcher,
    pub(crate) knobs: Knobs,
    pub(crate) coordinator: Daemon,
    pub(crate) docker: bool,
    pub(crate) report: Report,
}

impl Turns<'_> {
    /// So many kills; ends early when something is wrong.
    pub(crate) fn all(&mut self, kills: u32, tell: &mut dyn FnMut(&str)) -> Result<()> {
        let cells = cells(self.docker, !self.knobs.is_empty());
        for number in 1..=kills {
            let cell =
                choose(&mut self.dice, &cells, &self.report.kills).context("there is nothing to kill")?;
            let what = self.turn(cell).with_context(|| format!("kill {number}, {cell:?}"))?;
            *self.report.kills.entry(cell).or_insert(0) += 1;
            tell(&format!("{number} {}: {what}", cell.1.name()));
            self.check_nothing_seen(number)?;
        }
        Ok(())
    }

    fn check_nothing_seen(&self, number: u32) -> Result<()> {
        let seen = self.watcher.problems();
        ensure!(seen.is_empty(), "by kill {number} it was seen that {}", seen.join("; "));
        Ok(())
    }

    /// One kill; says of what.
    fn turn(&mut self, cell: Cell) -> Result<String> {
        let (victim, step) = cell;
        for _ in 0..TRIES {
            let kind = self.kind_for(cell)?;
            self.come_to(step, kind)?;
            let pause = pause(&mut self.dice, step);
            std::thread::sleep(pause);
            let sight = self.watcher.now();
            let killed = match victim {
                Victim::Agent => Some(self.kill_agent()?),
                Victim::AgentAndGuard => self.kill_agent_and_guard(&sight)?,
                Victim::Launcher => self.kill_launcher(&sight)?,
                Victim::Container => self.kill_container(&sight, step),
                Victim::Bench => self.kill_bench(&sight, step),
            };
            if let Some(killed) = killed {
                let alive = self.subject.lives()?;
                ensure!(
                    alive,
                    "the agent died when somebody else was killed: {killed}\n{}",
                    self.subject.last_words()
                );
                return Ok(killed);
            }
        }
        bail!("in {TRIES} tries there was nobody to kill")
    }

    /// A kind of job that can come to this.
    fn kind_for(&mut self, (victim, step): Cell) -> Result<Kind> {
        let kinds: Vec<Kind> = match (victim, step) {
            // Without containers a guard has nothing to do.
            (Victim::Container | Victim::AgentAndGuard, _) => vec![Kind::Images],
            // Nothing of a sliced pair's own is staged.
            (_, Step::Staging) => {
                self.jobs.kinds().iter().copied().filter(|kind| *kind != Kind::Sliced).collect()
            }
            _ => self.jobs.kinds().to_vec(),
        };
        kinds.choose(&mut self.dice).copied().context("there is no kind of job")
    }

    /// Waits until a lease comes to this step, and sees to it that there are jobs meanwhile.
    fn come_to(&mut self, step: Step, kind: Kind) -> Result<()> {
        let since = self.watcher.now();
        let container = kind == Kind::Images && matches!(step, Step::Staging | Step::InRound);
        let begin = Instant::now();
        while begin.elapsed() < STEP_WITHIN {
            self.feed(kind)?;
            if self.watcher.wait_for(step, container, &since, FEED_EVERY).is_some() {
                return Ok(());
            }
            self.check_nothing_seen(0)?;
            ensure!(self.subject.lives()?, "the agent died of itself\n{}", self.subject.last_words());
        }
        bail!(
            "no lease came to it within {STEP_WITHIN:?}: the slot does not work any more; jobs under way: {:?}\n{}",
            self.jobs.under_way()?,
            self.subject.last_words()
        )
    }

    /// A job of this kind, if there is none; and at times another one that waits behind it.
    fn feed(&mut self, kind: Kind) -> Result<()> {
        let under_way = self.jobs.under_way()?;
        if !under_way.contains(&kind) {
            self.jobs.submit(kind, &mut self.dice)?;
        }
        if under_way.len() < 2 && self.dice.random_bool(0.3) {
            let kinds = self.jobs.kinds();
            let other = kinds.choose(&mut self.dice).copied().unwrap_or(kind);
            self.jobs.submit(other, &mut self.dice)?;
        }
        Ok(())
    }

    fn kill_agent(&mut self) -> Result<String> {
        self.subject.kill_9()?;
        let mut what = "the agent".to_owned();
        if self.dice.random_bool(0.25) {
            // Though nobody starts it again, all that it ran must go.
            self.wait_until_nothing("the agent's death", |turns| {
                left::of_the_dead(&turns.subject, &turns.seen_afresh()?, turns.docker)
            })?;
            self.report.left_alone += 1;
            what += ", and left alone";
        }
        self.start_again(what)
    }

    /// Nobody is left to end containers, and no lock tells of them: they go with the agent's next start, or with the next
    /// lease of their cores.
    fn kill_agent_and_guard(&mut self, sight: &Sight) -> Result<Option<String>> {
        let agent = self.subject.pid();
        let guard = sight.ours.iter().find(|seen| seen.role == Role::Guard && seen.parent == agent);
        let Some(guard) = guard.filter(|guard| end(guard)) else { return Ok(None) };
        self.subject.kill_9()?;
        let what = format!("the agent and its guard, {}", guard.pid);
        self.start_again(what).map(Some)
    }

    /// Starts the agent that was killed, and looks what is left of its earlier life; says what was done.
    fn start_again(&mut self, mut what: String) -> Result<String> {
        let quiet = self.dice.random_bool(0.6);
        if quiet {
            // So that no work comes while it is looked through.
            self.signal_coordinator(Signal::SIGSTOP)?;
        }
        let started = self.subject.start().and_then(|()| if quiet { self.look_through() } else { Ok(()) });
        if quiet {
            self.signal_coordinator(Signal::SIGCONT)?;
            self.report.looked_through += 1;
            what += ", and looked through what it left";
        }
        started?;
        let older = left::older_processes(&self.subject, &self.seen_afresh()?)?;
        ensure!(older.is_empty(), "an earlier life of the agent still runs: {}", older.join("; "));
        Ok(what)
    }

    fn signal_coordinator(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.coordinator.pid())?), signal)?)
    }

    fn look_through(&self) -> Result<()> {
        let left = left::of_earlier_life(&self.subject, &self.seen_afresh()?, &self.knobs)?;
        ensure!(left.is_empty(), "of an earlier life of the agent is left: {}", left.join("; "));
        self.wait_until_nothing("the agent was started again", |turns| {
            left::of_its_guard(&turns.subject, &turns.seen_afresh()?, turns.docker)
        })
    }

    /// Waits until nothing of this is left.
    fn wait_until_nothing(&self, after: &str, left: impl Fn(&Self) -> Result<Vec<String>>) -> Result<()> {
        let begin = Instant::now();
        loop {
            let left = left(self)?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(
                begin.elapsed() < GONE_WITHIN,
                "{GONE_WITHIN:?} after {after} there still is {}",
                left.join("; ")
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What is seen by looks that began after this was called.
    fn seen_afresh(&self) -> Result<Vec<Seen>> {
        let since = self.watcher.now().looks;
        let sight = self.watcher.wait(STEP_WITHIN, |sight| sight.looks > since + 1);
        Ok(sight.context("the watcher does not look any more")?.ours)
    }

    /// The launcher of what runs, or any.
    fn kill_launcher(&mut self, sight: &Sight) -> Result<Option<String>> {
        let agent = self.subject.pid();
        let launchers: Vec<&Seen> =
            sight.ours.iter().filter(|seen| seen.role == Role::Launcher && seen.parent == agent).collect();
        let busy = |launcher: &&&Seen| sight.ours.iter().any(|seen| seen.parent == launcher.pid);
        let busy: Vec<&Seen> = launchers.iter().filter(busy).copied().collect();
        let from = if busy.is_empty() { &launchers } else { &busy };
        let Some(launcher) = from.choose(&mut self.dice) else { return Ok(None) };
        let orphans = below(launcher, &sight.ours);
        if !end(launcher) {
            return Ok(None);
        }
        // What a dead launcher ran must go, though the agent goes on.
        self.wait_until_nothing(&format!("the death of launcher {}", launcher.pid), |_| {
            Ok(orphans.iter().filter(|seen| seen.lives()).map(ToString::to_string).collect())
        })?;
        let what = if busy.is_empty() { "an idle launcher" } else { "a launcher" };
        Ok(Some(format!("{what}, {}, above {} processes", launcher.pid, orphans.len())))
    }

    fn kill_container(&mut self, sight: &Sight, step: Step) -> Option<String> {
        let of_step = sight.ours.iter().filter(|seen| self.watcher.is_of(step, seen));
        let ids: Vec<&String> = of_step.filter_map(|seen| seen.container.as_ref()).collect();
        let id = ids.choose(&mut self.dice)?;
        // It may have ended by itself meanwhile; then another one is to be killed.
        docker(&["kill", id]).ok().map(|_| format!("container {id}"))
    }

    fn kill_bench(&mut self, sight: &Sight, step: Step) -> Option<String> {
        let wanted: Vec<&Seen> = sight.ours.iter().filter(|seen| self.watcher.is_of(step, seen)).collect();
        let bench = wanted.choose(&mut self.dice)?;
        if let Role::Bench(attempt) = &bench.role {
            let job = attempt.rsplit_once('.').map_or(attempt.as_str(), |(job, _)| job);
            self.jobs.hit.insert(job.to_owned());
        }
        end(bench).then(|| bench.to_string())
    }

    /// The end: a verdict of each kind, then SIGTERM.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.jobs.cancel_all()?;
        let wrong = self.jobs.verdicts()?;
        self.report.problems.extend(wrong);
        let status = self.subject.terminate()?;
        ensure!(
            status.success(),
            "after SIGTERM the agent ended with {status}\n{}",
            self.subject.last_words()
        );
        let loaded = self.jobs.loaded_image();
        // A guard looks for containers for a while even where none is left; all else must be gone with the agent.
        self.wait_until_nothing("SIGTERM", |turns| {
            let ours = turns.seen_afresh()?;
            Ok(ours
                .iter()
                .filter(|seen| seen.role == Role::Guard && seen.lives())
                .map(ToString::to_string)
                .collect())
        })?;
        let left = left::of_all(&self.subject, &self.seen_afresh()?, &self.knobs, loaded)?;
        self.report.problems.extend(left.into_iter().map(|left| format!("left at the end: {left}")));
        Ok(())
    }

    /// What came of it all.
    pub(crate) fn finish(mut self, world: &World, keep_log: Option<&Path>) -> Result<Report> {
        self.watcher.end();
        let mut report = std::mem::take(&mut self.report);
        report.problems.extend(self.watcher.problems());
        report.looks = self.watcher.now().looks;
        let (benches_looked, found) = look::found(&looks(world));
        report.benches_looked = benches_looked;
        report.problems.extend(found);
        let (ends, wrong) = self.jobs.ends()?;
        (report.ends, report.problems) = (ends, [report.problems, wrong].concat());
        if benches_looked == 0 {
            report.problems.push("no bench has looked".to_owned());
        }
        if let Some(to) = keep_log.filter(|_| !report.problems.is_empty()) {
            self.subject.keep_log(to)?;
        }
        Ok(report)
    }
}

/// Everything that descends from a process.
fn below<'a>(from: &Seen, all: &'a [Seen]) -> Vec<&'a Seen> {
    let mut found: Vec<&Seen> = all.iter().filter(|seen| seen.parent == from.pid).collect();
    let mut at = 0;
    while let Some(parent) = found.get(at).map(|seen| seen.pid) {
        // A process has one parent, so that nothing is found twice.
        found.extend(all.iter().filter(|seen| seen.parent == parent));
        at += 1;
    }
    found
}

/// `kill -9`, if it still is the same process.
fn end(seen: &Seen) -> bool {
    seen.lives() && kill(Pid::from_raw(seen.pid), Signal::SIGKILL).is_ok()
}
