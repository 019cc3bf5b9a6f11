//! The two processes of a sliced pair: started, told and heard as the conductor says, ended together.
//!
//! Both are alive in the same cores, and one of them at most is not blocked. Passing the turn is a read and a write of a
//! pipe here, on the housekeeping cores.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use darwin_agent_core::slices::{
    BenchFrame, Conductor, Do, End, FrameError, FrameReader, News, Setting, ToBench, encode,
};
use darwin_shared::spec::Arm;
use darwin_shared::state::FailureCause;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::process::{Ill, Process, STOP_GRACE, Slot, judge, not_run};
use crate::exec::{Ended, FIRST_PASSED_FD, LaunchError, Run, Started};
use crate::logs::{AttemptLogs, Written};

/// The variable that a bench finds the protocol by.
pub(super) const SLICE_VARIABLE: &str = "DARWIN_SLICE";
/// A launch's own deadline in times of a run's: each side has a run's time of its own, which is watched here, and the
/// launcher's is for the case that nobody watches any more.
const DEADLINE_TIMES: u32 = 3;
/// More than a frame.
const READ_BYTES: usize = 1024;

/// The variable's value: the version, and where the launcher puts the two pipe ends.
pub(super) fn slice_variable() -> String {
    format!("1:{FIRST_PASSED_FD}:{}", FIRST_PASSED_FD + 1)
}

/// How a pair went.
#[derive(Debug)]
pub(super) enum PairOutcome {
    /// Both ended well, and what they measured counts; in the order of their starts.
    Measured(End, Box<[(Ended, Option<Written>); 2]>),
    /// Both were ended: what they measured does not count.
    Undone(End),
    /// A side is at fault; with the last lines of what it wrote.
    Failed(Arm, FailureCause, String),
    /// The box is at fault.
    Broken(String),
    /// It was told to stop, and both are gone.
    Stopped,
}

/// Why a pair did not come to the end that its conductor sees.
enum Cut {
    Ill(Arm, Ill),
    Stopped,
}

/// What was heard of a side.
enum Heard {
    Said(BenchFrame),
    Garbled(FrameError),
    Ended(Ended),
    Lost(LaunchError),
}

/// A started side.
struct Side<'s> {
    arm: Arm,
    run: Run<'s>,
    started: Started,
    /// None once the bench has closed its end.
    done: Option<Receiver>,
    go: Sender,
    reader: FrameReader,
    ended: Option<Ended>,
    /// Whether its end was told of.
    told: bool,
    /// How long it has been its turn.
    used: Duration,
}

/// Runs a pair, `processes` in the order of their starts, the first one on the slot and the second on its twin.
pub(super) async fn conduct(
    processes: [&Process<'_>; 2],
    setting: Setting,
    slots: [&mut Slot; 2],
    logs: &AttemptLogs,
    started: &AtomicU64,
    stop: &CancellationToken,
) -> PairOutcome {
    let [slot, twin] = slots;
    let files = slot.files().and_then(|first| Ok([first, twin.files()?]));
    let written = match files {
        Ok(written) => written,
        Err(error) => return PairOutcome::Broken(format!("no file in memory for a bench's output: {error}")),
    };
    let mut begun = [false; 2];
    let placed = processes[0].placing.map(|placing| placing.placed);
    if let Some(placed) = placed {
        placed.rest().await;
    }
    let since = Instant::now();
    let ended = {
        let mut pair = Pair { processes, written: &written, logs, started, begun: &mut begun };
        pair.drive(setting, [&mut *slot, &mut *twin], stop).await
    };
    if let Some(placed) = placed {
        placed.ran(since.elapsed());
    }
    if matches!(ended, Err(Cut::Ill(_, Ill::Broken(_)))) {
        slot.discard();
        twin.discard();
    }
    let mut kept = [None, None];
    for (((at, written), begun), slot) in kept.iter_mut().zip(written).zip(begun).zip([slot, twin]) {
        if begun && logs.finish(&written) {
            *at = Some(written);
        } else {
            slot.keep_blank(written);
        }
    }
    match ended {
        Ok((end, Some([first, second]))) => {
            let [first_log, second_log] = kept;
            PairOutcome::Measured(end, Box::new([(first, first_log), (second, second_log)]))
        }
        Ok((end, None)) => PairOutcome::Undone(end),
        Err(Cut::Stopped | Cut::Ill(_, Ill::Stopped)) => PairOutcome::Stopped,
        Err(Cut::Ill(_, Ill::Broken(why))) => PairOutcome::Broken(why),
        Err(Cut::Ill(arm, Ill::Failed(cause))) => {
            let [first, second] = &kept;
            let log = if processes[0].arm == arm { first } else { second };
            PairOutcome::Failed(arm, cause, log.as_ref().map(Written::tail).unwrap_or_default())
        }
    }
}

/// What a pair is driven with.
struct Pair<'p> {
    processes: [&'p Process<'p>; 2],
    written: &'p [Written; 2],
    logs: &'p AttemptLogs,
    started: &'p AtomicU64,
    begun: &'p mut [bool; 2],
}

impl Pair<'_> {
    /// To the pair's end; with how both processes ended, if they ended by themselves. Nothing of them is left.
    async fn drive(
        &mut self,
        setting: Setting,
        slots: [&mut Slot; 2],
        stop: &CancellationToken,
    ) -> Result<(End, Option<[Ended; 2]>), Cut> {
        if stop.is_cancelled() {
            return Err(Cut::Stopped);
        }
        let mut sides: Vec<Side<'_>> = Vec::with_capacity(2);
        let turned = self.take_turns(setting, slots, &mut sides, stop).await;
        let ended = end_all(&mut sides).await;
        if let Some(first) = sides.first()
            && let Some(placing) = self.processes[0].placing
        {
            placing.is_over(&first.started);
        }
        let end = turned?;
        let ended = ended.map_err(|error| Cut::Ill(first_arm(&sides), Ill::Broken(error.to_string())))?;
        let survivors: u32 = ended.iter().map(|ended| ended.survivors).sum();
        if survivors > 0 {
            let why = format!("{survivors} of its processes cannot be killed");
            return Err(Cut::Ill(first_arm(&sides), Ill::Broken(why)));
        }
        match end {
            End::Sliced | End::Plain { .. } => Ok((end, <[Ended; 2]>::try_from(ended).ok())),
            End::TimedOut(arm) => {
                let timeout = self.processes[0].describe().limits.deadline;
                Err(Cut::Ill(arm, Ill::Failed(FailureCause::TimedOut(timeout))))
            }
            End::Again { .. } | End::Void { .. } | End::Refused { .. } => Ok((end, None)),
        }
    }

    /// Lets the conductor and the sides talk until the pair is over.
    async fn take_turns<'s>(
        &mut self,
        setting: Setting,
        slots: [&'s mut Slot; 2],
        sides: &mut Vec<Side<'s>>,
        stop: &CancellationToken,
    ) -> Result<End, Cut> {
        let budget = self.processes[0].describe().limits.deadline;
        let (mut conductor, mut todo) = Conductor::begin(setting);
        let mut free = slots.into_iter();
        let mut watch: Pin<Box<dyn Future<Output = String> + Send + '_>> = Box::pin(pending());
        loop {
            let turn_began = Instant::now();
            for what in todo.drain(..) {
                match what {
                    Do::Finish(end) => return Ok(end),
                    Do::Send(arm, frame) => {
                        if let Some(side) = sides.iter().find(|side| side.arm == arm) {
                            side.tell(frame);
                        }
                    }
                    Do::Start(arm) => {
                        let Some(slot) = free.next() else { continue };
                        let first = self.processes[0].placing.is_some_and(|placing| placing.is_first());
                        let side = self.start(sides.len(), slot).await.map_err(|ill| Cut::Ill(arm, ill))?;
                        if sides.is_empty()
                            && let Some(placing) = self.processes[0].placing
                        {
                            let begun = side.started;
                            watch = Box::pin(async move { placing.watch(&begun, first).await });
                        }
                        sides.push(side);
                    }
                }
            }
            let Some(awaited) = conductor.awaits() else {
                return Err(Cut::Ill(Arm::Baseline, Ill::Broken("its turns came to no end".to_owned())));
            };
            let used =
                sides.iter().find(|side| side.arm == awaited.arm).map_or(Duration::ZERO, |side| side.used);
            let left = budget.saturating_sub(used);
            let within = awaited.within.map_or(left, |within| within.min(left));
            let [first, second] = both(sides);
            let (arm, heard) = tokio::select! {
                biased;
                heard = hear(first) => heard,
                heard = hear(second) => heard,
                () = stop.cancelled() => return Err(Cut::Stopped),
                why = &mut watch => return Err(Cut::Ill(awaited.arm, Ill::Broken(why))),
                () = sleep_until(turn_began + within) => {
                    if within == left {
                        return Ok(End::TimedOut(awaited.arm));
                    }
                    todo = conductor.step(News::Late(awaited.arm));
                    continue;
                }
            };
            if let Some(side) = sides.iter_mut().find(|side| side.arm == awaited.arm) {
                side.used += turn_began.elapsed();
            }
            let news = match heard {
                Heard::Said(frame) => News::Said(arm, frame),
                Heard::Garbled(error) => News::Garbled(arm, error.to_string()),
                Heard::Lost(error) => return Err(Cut::Ill(arm, Ill::Broken(error.to_string()))),
                Heard::Ended(ended) => {
                    judge(ended, budget).map_err(|ill| Cut::Ill(arm, ill))?;
                    News::Gone(arm)
                }
            };
            todo = conductor.step(news);
        }
    }

    /// Starts the first or the second process.
    async fn start<'s>(&mut self, index: usize, slot: &'s mut Slot) -> Result<Side<'s>, Ill> {
        let (process, written) = (self.processes[index], &self.written[index]);
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| no_pipe(&errno.into()));
        let ((go_theirs, go), (done, done_theirs)) = (pipe()?, pipe()?);
        let go = Sender::from_owned_fd(go).map_err(|error| no_pipe(&error))?;
        let done = Receiver::from_owned_fd(done).map_err(|error| no_pipe(&error))?;
        self.logs.begin(process.stage, process.arm, written.clone());
        self.begun[index] = true;
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut launch = process.describe();
        launch.limits.deadline = launch.limits.deadline.saturating_mul(DEADLINE_TIMES);
        let launcher = slot.launcher().await.map_err(|error| Ill::Broken(error.to_string()))?;
        let passed = [go_theirs.as_fd(), done_theirs.as_fd()];
        let judge = |held: &_| process.placing.map_or(Ok(()), |placing| placing.check_held(held));
        let run = launcher.run_judged(&launch, &written.stdout, &written.stderr, &passed, judge).await;
        let run = run.map_err(|error| not_run(&error))?;
        let started = *run.started();
        if let Some(placing) = process.placing {
            // Dropping the run ends it.
            placing.check_start(&started).map_err(Ill::Broken)?;
        }
        Ok(Side {
            arm: process.arm,
            run,
            started,
            done: Some(done),
            go,
            reader: FrameReader::default(),
            ended: None,
            told: false,
            used: Duration::ZERO,
        })
    }
}

impl Side<'_> {
    /// Tells it something. What does not get through shows by what it does not answer: a pipe holds thousands of frames.
    fn tell(&self, frame: ToBench) {
        let _ = self.go.try_write(&encode(frame));
    }

    /// What it says next, or that it ended, once. Giving up waiting loses nothing.
    async fn hear(&mut self) -> Heard {
        loop {
            match self.reader.next_frame() {
                Ok(Some(frame)) => return Heard::Said(frame),
                Ok(None) => {}
                Err(error) => return Heard::Garbled(error),
            }
            if let Some(ended) = self.ended {
                if self.told {
                    return pending().await;
                }
                self.told = true;
                return Heard::Ended(ended);
            }
            tokio::select! {
                biased;
                // Without a wait the pipe is read again.
                () = readable(self.done.as_ref()) => self.take_in(),
                ended = self.run.wait() => match ended {
                    Ok(ended) => {
                        // What it said last is told before its end.
                        self.take_in();
                        self.ended = Some(ended);
                    }
                    Err(error) => return Heard::Lost(error),
                },
            }
        }
    }

    /// Takes in what the pipe has, as far as one look goes.
    fn take_in(&mut self) {
        let Some(done) = &self.done else { return };
        let mut bytes = [0; READ_BYTES];
        match done.try_read(&mut bytes) {
            Ok(0) => self.done = None,
            Ok(read) => self.reader.feed(&bytes[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.done = None,
        }
    }
}

/// Whoever could not be ended, the pair's first side speaks for both.
fn first_arm(sides: &[Side<'_>]) -> Arm {
    sides.first().map_or(Arm::Baseline, |side| side.arm)
}

fn both<'a, 's>(sides: &'a mut [Side<'s>]) -> [Option<&'a mut Side<'s>>; 2] {
    let mut sides = sides.iter_mut();
    [sides.next(), sides.next()]
}

async fn hear(side: Option<&mut Side<'_>>) -> (Arm, Heard) {
    match side {
        Some(side) => (side.arm, side.hear().await),
        None => pending().await,
    }
}

async fn readable(done: Option<&Receiver>) {
    let watched = match done {
        Some(done) => done.readable().await,
        None => pending().await,
    };
    if watched.is_err() {
        // The runtime is being shut down.
        pending::<()>().await;
    }
}

/// Ends what still runs, both at once, and waits until all of it is gone.
async fn end_all(sides: &mut [Side<'_>]) -> Result<Vec<Ended>, LaunchError> {
    for side in sides.iter_mut().filter(|side| side.ended.is_none()) {
        side.run.kill(STOP_GRACE).await?;
    }
    let mut all = Vec::with_capacity(sides.len());
    for side in sides {
        all.push(match side.ended {
            Some(ended) => ended,
            None => side.run.wait().await?,
        });
    }
    Ok(all)
}

fn no_pipe(error: &io::Error) -> Ill {
    Ill::Broken(format!("no pipe to a bench: {error}"))
}
