//! A thread that looks at the box all the time: tells when a lease comes to a step, and what must never be seen.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use darwin_shared::cpu::CpuSet;

use super::sight::{Ours, Role, Scanner, Seen, is_locked, is_marked};
use super::steps::Step;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// More than these say nothing new.
const PROBLEMS_MAX: usize = 20;

/// What is watched.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) ours: Ours,
    /// The cores that it leases out.
    pub(crate) leased: CpuSet,
    pub(crate) knobs: Knobs,
}

/// Files that the agent changes while it measures, with what was in them before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knobs(Vec<(PathBuf, String)>);

impl Knobs {
    /// Those of these files that there are and that can be written.
    pub(crate) fn found(paths: &[&str]) -> Self {
        let can = |path: &&&str| nix::unistd::access(**path, nix::unistd::AccessFlags::W_OK).is_ok();
        let read = |path: &&str| Some((PathBuf::from(path), std::fs::read_to_string(path).ok()?));
        Self(paths.iter().filter(can).filter_map(read).collect())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is not as it was.
    pub(crate) fn changed(&self) -> Vec<String> {
        let now = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let differs = self.0.iter().filter(|(path, was)| now(path) != *was);
        differs
            .map(|(path, was)| format!("{} is `{}`, was `{}`", path.display(), now(path).trim(), was.trim()))
            .collect()
    }

    /// Puts back what is not as it was, so that a failed run leaves the box as it found it.
    pub(crate) fn put_back(&self) {
        for (path, was) in &self.0 {
            if std::fs::read_to_string(path).is_ok_and(|now| now != *was) {
                // What cannot be put back was told of already.
                let _ = std::fs::write(path, was);
            }
        }
    }
}

/// What one look saw, and how often things had come about until then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sight {
    /// Looks so far.
    pub(crate) looks: u64,
    pub(crate) ours: Vec<Seen>,
    /// How often each step without processes of its own was come to.
    taken: u64,
    tuned: u64,
    probed: u64,
    measured: u64,
    given_back: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Levels {
    locked: bool,
    tuned: bool,
    probing: bool,
    benching: bool,
    /// A bench ran since the cores were taken.
    benched: bool,
}

#[derive(Debug, Default)]
struct Shared {
    sight: Sight,
    problems: Vec<String>,
}

/// The thread, and what it has seen.
#[derive(Debug)]
pub(crate) struct Watcher {
    shared: Arc<(Mutex<Shared>, Condvar)>,
    stop: Arc<AtomicBool>,
    leased: CpuSet,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(crate) fn start(watched: Watched) -> Result<Self> {
        let shared = Arc::<(Mutex<Shared>, Condvar)>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let leased = watched.leased.clone();
        let (theirs, theirs_stop) = (Arc::clone(&shared), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || watch(&watched, &theirs, &theirs_stop))
            .context("no thread to watch with")?;
        Ok(Self { shared, stop, leased, thread: Some(thread) })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen last.
    pub(crate) fn now(&self) -> Sight {
        self.lock().sight.clone()
    }

    /// Whether a process is what this step is about: on the leased cores or, while it is staged, on others.
    pub(crate) fn is_of(&self, step: Step, seen: &Seen) -> bool {
        seen.role.is_on_cores()
            && match step {
                Step::Staging => !seen.is_on(&self.leased),
                Step::Probing => seen.role == Role::Probe,
                Step::TakingCores
                | Step::Tuning
                | Step::BeforeRound
                | Step::InRound
                | Step::AfterRound
                | Step::GivingBack => seen.is_on(&self.leased) && seen.role != Role::Probe,
            }
    }

    /// What was seen that must never be.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.lock().problems.clone()
    }

    /// Waits for a sight of which this is so; none if it does not come in time.
    pub(crate) fn wait(&self, bound: Duration, holds: impl Fn(&Sight) -> bool) -> Option<Sight> {
        let until = Instant::now() + bound;
        let mut shared = self.lock();
        while !holds(&shared.sight) {
            let left = until.checked_duration_since(Instant::now())?;
            (shared, _) = self.shared.1.wait_timeout(shared, left).unwrap_or_else(PoisonError::into_inner);
        }
        Some(shared.sight.clone())
    }

    /// Waits until a lease comes to this step, with a container in it if that is wanted.
    pub(crate) fn wait_for(
        &self,
        step: Step,
        container: bool,
        since: &Sight,
        bound: Duration,
    ) -> Option<Sight> {
        self.wait(bound, |sight| match step {
            Step::Staging | Step::Probing | Step::InRound => sight
                .ours
                .iter()
                .any(|seen| self.is_of(step, seen) && (!container || seen.container.is_some())),
            Step::TakingCores => sight.taken > since.taken,
            Step::Tuning => sight.tuned > since.tuned,
            Step::BeforeRound => sight.probed > since.probed,
            Step::AfterRound => sight.measured > since.measured,
            Step::GivingBack => sight.given_back > since.given_back,
        })
    }

    /// Ends the thread; what it saw last, and what must never be.
    pub(crate) fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A look that panicked has nothing more to tell.
            let _ = thread.join();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

fn watch(watched: &Watched, shared: &(Mutex<Shared>, Condvar), stop: &AtomicBool) {
    let mut scanner = Scanner::new(watched.ours.clone());
    let mut before = Levels::default();
    let mut sight = Sight::default();
    while !stop.load(Ordering::Relaxed) {
        let problems = match look(watched, &mut scanner, &mut before, &mut sight) {
            Ok(problems) => problems,
            Err(error) => vec![format!("the box cannot be watched: {error:#}")],
        };
        let mut shared_now = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems {
            if shared_now.problems.len() < PROBLEMS_MAX && !shared_now.problems.contains(&problem) {
                shared_now.problems.push(problem);
            }
        }
        shared_now.sight.clone_from(&sight);
        drop(shared_now);
        shared.1.notify_all();
        std::thread::sleep(LOOK_EVERY);
    }
}

fn look(
    watched: &Watched,
    scanner: &mut Scanner,
    before: &mut Levels,
    sight: &mut Sight,
) -> Result<Vec<String>> {
    let ours = scanner.scan()?;
    let locked = is_locked(&watched.ours.locks)?;
    let on_cores: Vec<&Seen> = ours.iter().filter(|seen| seen.is_on(&watched.leased)).collect();
    let mut problems = together(&on_cores);
    if !locked {
        // Who takes them next waits for containers that a mark tells of.
        let marked = is_marked(&watched.ours.locks);
        let told = |seen: &Seen| marked && seen.container.is_some();
        // It lived before the locks were read, and lives now.
        let alive = on_cores.iter().filter(|seen| !told(seen) && seen.lives());
        problems.extend(alive.map(|seen| format!("nobody holds the cores, and on them runs {seen}")));
    }
    let probing = on_cores.iter().any(|seen| seen.role == Role::Probe);
    let benching = on_cores.iter().any(|seen| seen.role != Role::Probe);
    let now = Levels {
        locked,
        tuned: !watched.knobs.changed().is_empty(),
        probing,
        benching,
        benched: locked && (before.benched || benching),
    };
    sight.looks += 1;
    sight.taken += u64::from(now.locked && !before.locked);
    sight.given_back += u64::from(!now.locked && before.locked);
    sight.tuned += u64::from(now.tuned && !before.tuned);
    sight.probed += u64::from(locked && before.probing && !probing && !before.benched);
    sight.measured += u64::from(locked && before.benching && !benching);
    *before = now;
    sight.ours = ours;
    Ok(problems)
}

/// Processes of two attempts, or of an attempt and a probe, that are on the cores at the same time. Not by when they were
/// looked at: the one lives before and after the other was seen to live.
pub(crate) fn together(on_cores: &[&Seen]) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, one) in on_cores.iter().enumerate() {
        for other in on_cores.iter().skip(index + 1).filter(|other| other.role != one.role) {
            if one.lives() && other.lives() && one.lives() {
                let (older, newer) = if one.start <= other.start { (one, other) } else { (other, one) };
                problems.push(format!("on the same cores run {older}, and {newer}"));
            }
        }
    }
    problems
}
