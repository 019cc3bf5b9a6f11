//! One launch from fork to the end of its last process.
//!
//! ```text
//!   Starting -- exec --> Running -- first process ends --------------------> kill what is left, Ended
//!      |                    |-- deadline, or asked --> Stopping -- grace --^
//!      '-- a step fails --> Failed
//! ```

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use darwin_shared::usage::{Count, Uncounted, Usage};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, pipe2};

use super::super::packet::PacketError;
use super::super::protocol::{EndStatus, Ended, Failure, Launch, Reply, Request, Started, Step, Took};
use super::super::sys::{self, ChildPlan, Death, ReportedError, Waited};
use super::Wires;
use super::confine::{Joins, Slot};
use super::counting::{Counting, Hold, MemoryPeak};
use super::explain::explain;
use super::prepare::{OOM_SCORE, Prepared, prepare};
use super::tree;
use crate::measure::{nanoseconds, together};

/// A grace that the clock cannot hold counts as this one.
const FAR_OFF: Duration = Duration::from_hours(24);

/// How a launch ends for the launcher.
pub(super) enum Outcome {
    /// The agent is told.
    Reply(Reply),
    /// There is no agent to tell any more; nothing is left running.
    AgentGone,
}

enum Phase {
    /// Between fork and exec.
    Starting,
    /// The program runs.
    Running,
    /// It got SIGTERM.
    Stopping { status: EndStatus, kill_at: Instant },
}

/// The first process is gone.
struct End {
    death: Death,
    at: Instant,
}

struct Live<'a> {
    launch: &'a Launch,
    program: &'a Prepared,
    took: Took,
    main: Pid,
    began_at: Instant,
    /// Where a failed step shows; closed by exec.
    report: Option<File>,
    failed: Option<ReportedError>,
    phase: Phase,
    /// Lets a held launch go on; it ends if this is closed.
    gate: Option<OwnedFd>,
    end: Option<End>,
    usage: Usage,
    counting: Counting,
    memory_peak: Option<MemoryPeak>,
}

/// Runs a launch and everything that it starts, to the end.
pub(super) fn run(
    wires: &mut Wires,
    slot: &mut Slot,
    launch: &Launch,
    outputs: [&OwnedFd; 2],
    passed: Vec<OwnedFd>,
) -> io::Result<Outcome> {
    let started = prepare(launch).and_then(|prepared| {
        let joins = slot.confine(launch)?;
        Ok((prepared, joins))
    });
    let (prepared, joins) = match started {
        Ok(ready) => ready,
        Err(failure) => {
            slot.release();
            return Ok(Outcome::Reply(Reply::Failed(failure)));
        }
    };
    let forked = fork(wires, slot, launch, &prepared, joins, outputs, &passed);
    drop(passed);
    let mut live = match forked {
        Ok(live) => live,
        Err(error) => {
            slot.release();
            let error = ReportedError { step: Step::Fork, errno: error.raw_os_error().unwrap_or(0) };
            return Ok(Outcome::Reply(Reply::Failed(explain(error, launch, &prepared.program))));
        }
    };
    let agent_there = live.watch(wires)?;
    let remains = live.kill_rest(slot)?;
    if remains.cgroup_spent {
        slot.renew();
    }
    slot.release();
    if !agent_there {
        return Ok(Outcome::AgentGone);
    }
    Ok(Outcome::Reply(live.reply(remains, &outputs)?))
}

fn fork<'a>(
    wires: &Wires,
    slot: &mut Slot,
    launch: &'a Launch,
    prepared: &'a Prepared,
    mut joins: Joins,
    outputs: [&OwnedFd; 2],
    passed: &[OwnedFd],
) -> io::Result<Live<'a>> {
    let (report, report_end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let gate = launch.held.then(|| pipe2(OFlag::O_CLOEXEC)).transpose()?;
    let [stdout, stderr] = outputs.map(AsRawFd::as_raw_fd);
    let fds = joins.fds();
    let hold = wires.meter.hold(launch.count_stolen);
    let memory_peak = slot.memory_dir(joins.took).and_then(MemoryPeak::set_back);
    let passed: Vec<RawFd> = passed.iter().map(AsRawFd::as_raw_fd).collect();
    let with_leaf;
    let mut plan = ChildPlan {
        program: &prepared.program,
        argv: &prepared.argv,
        env: &prepared.env,
        cwd: &prepared.cwd,
        stdio: [wires.null.as_raw_fd(), stdout, stderr],
        passed: &passed,
        report: report_end.as_raw_fd(),
        hold: hold.as_ref().map(Hold::fd),
        joins: &fds,
        rlimits: &prepared.rlimits,
        oom_score: OOM_SCORE,
        affinity: prepared.affinity.as_ref(),
        user: launch.user.map(|user| (user.uid, user.gid)),
        nodes: prepared.nodes.as_deref(),
        no_huge_pages: launch.no_huge_pages,
        fixed_layout: launch.fixed_layout,
        fifo_priority: prepared.fifo_priority,
        strict: launch.strict,
        gate: gate.as_ref().map(|(theirs, _)| theirs.as_raw_fd()),
        parent: Pid::this().as_raw(),
    };
    let began_at = Instant::now();
    let main = match sys::fork_into(&plan, slot.birthplace()) {
        // Without clone3, or without the right to give birth there: fork as ever, and join by writing.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES)) => {
            if slot.birthplace().is_some()
                && let Some(leaf) = slot.give_up_births()
            {
                joins.add(leaf)?;
                with_leaf = joins.fds();
                plan.joins = &with_leaf;
            }
            sys::fork_plain(&plan)?
        }
        forked => forked?,
    };
    let main = Pid::from_raw(main);
    let counting = wires.meter.start(hold, main, launch.count_stolen);
    let took = Took { affinity: launch.cpus.is_some(), ..joins.took };
    Ok(Live {
        launch,
        program: prepared,
        took,
        main,
        began_at,
        report: Some(report.into()),
        failed: None,
        phase: Phase::Starting,
        gate: gate.map(|(_, ours)| ours),
        end: None,
        usage: Usage::default(),
        counting,
        memory_peak,
    })
}

impl Live<'_> {
    /// Waits until the first process has ended or must be killed. Says whether the agent is still there.
    fn watch(&mut self, wires: &mut Wires) -> io::Result<bool> {
        while self.end.is_none() {
            let now = Instant::now();
            let Some(left) = self.time_left(now) else {
                return Ok(true);
            };
            let [from_agent, from_children, from_pipe] = self.wait(wires, left)?;
            if from_pipe {
                self.see_exec(wires)?;
            }
            if from_children {
                // One look at the queue; how many children ended is what reaping tells.
                let _ = wires.children.read_signal();
                self.reap()?;
                if self.end.is_some() {
                    // It may have been so quick that exec and exit both came after the poll.
                    self.see_exec(wires)?;
                }
            }
            if from_agent && !self.obey(wires)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The time until something must be done; none if the time has come to kill. A passed deadline is acted on here.
    fn time_left(&mut self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Starting | Phase::Running => {
                let left = (self.began_at + self.launch.limits.deadline).saturating_duration_since(now);
                if left.is_zero() {
                    self.stop(EndStatus::TimedOut, self.launch.limits.grace, now);
                    return Some(self.launch.limits.grace).filter(|grace| !grace.is_zero());
                }
                Some(left)
            }
            Phase::Stopping { kill_at, .. } => {
                Some(kill_at.saturating_duration_since(now)).filter(|left| !left.is_zero())
            }
        }
    }

    fn wait(&self, wires: &Wires, left: Duration) -> io::Result<[bool; 3]> {
        // Rounded up, or the last fraction of a millisecond would be spent spinning.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![
            PollFd::new(wires.agent.as_fd(), PollFlags::POLLIN),
            PollFd::new(wires.children.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.report.as_ref().map(|report| PollFd::new(report.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        Ok([ready(0), ready(1), ready(2)])
    }

    /// The report pipe says that exec has happened (its end) or what failed before.
    fn see_exec(&mut self, wires: &Wires) -> io::Result<()> {
        let Some(report) = self.report.as_mut() else {
            return Ok(());
        };
        let mut bytes = [0; ReportedError::BYTES];
        match report.read(&mut bytes) {
            Ok(0) => {
                self.report = None;
                if matches!(self.phase, Phase::Starting) {
                    self.phase = Phase::Running;
                    wires.reply(&Reply::Started(self.started()?))?;
                }
                Ok(())
            }
            Ok(_) => match ReportedError::decode(bytes) {
                ReportedError { step: Step::Held, errno: 0 } => wires.reply(&Reply::Placed(self.started()?)),
                failed => {
                    self.report = None;
                    self.failed = Some(failed);
                    Ok(())
                }
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What is known of the first process now.
    fn started(&mut self) -> io::Result<Started> {
        if self.launch.fifo_priority.is_some() {
            // Where it is not required, the child went on without.
            self.took.fifo = sys::is_fifo(self.main.as_raw());
        }
        let at_ns = nanoseconds(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into());
        Ok(Started { pid: self.main.as_raw().unsigned_abs(), at_ns, took: self.took })
    }

    /// Reaps what has ended: the first process, and orphans that ended by themselves.
    fn reap(&mut self) -> io::Result<()> {
        while let Waited::Ended(reap) = sys::reap_one()? {
            self.usage = together(self.usage, reap.usage.into());
            if reap.pid == self.main.as_raw() {
                self.end = Some(End { death: reap.death, at: Instant::now() });
            }
        }
        Ok(())
    }

    /// Does what the agent asks. Says whether it is still there.
    fn obey(&mut self, wires: &mut Wires) -> io::Result<bool> {
        match wires.receive() {
            Ok(None) => Ok(false),
            Ok(Some((Request::Kill { grace }, _))) => {
                if !matches!(self.phase, Phase::Stopping { .. }) || grace.is_zero() {
                    self.stop(EndStatus::Killed, grace, Instant::now());
                }
                Ok(true)
            }
            Ok(Some((Request::Release, _))) => {
                if let Some(gate) = self.gate.take() {
                    // What it took to look at it is not the bench's time.
                    self.began_at = Instant::now();
                    // If it is gone already, that shows by itself.
                    let _ = nix::unistd::write(&gate, &[1]);
                }
                Ok(true)
            }
            Ok(Some((Request::Launch(_) | Request::Setup { .. }, _))) => {
                Err(io::Error::other("the agent sent a second launch while one is alive"))
            }
            Err(PacketError::Os(Errno::EAGAIN)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn stop(&mut self, status: EndStatus, grace: Duration, now: Instant) {
        let status = match self.phase {
            Phase::Stopping { status: first, .. } => first,
            Phase::Starting | Phase::Running => status,
        };
        // A far-off time is as good as one that does not fit the clock.
        let kill_at = now.checked_add(grace).unwrap_or(now + FAR_OFF);
        self.phase = Phase::Stopping { status, kill_at };
        if !grace.is_zero() {
            // Its session's group; a bench that has not got there yet is killed after the grace.
            let _ = killpg(self.main, Signal::SIGTERM);
        }
    }

    /// Kills whatever is left of the tree, the first process too if it still lives.
    fn kill_rest(&mut self, slot: &Slot) -> io::Result<tree::Remains> {
        let main = self.main.as_raw();
        let mut end = None;
        let mut remains = tree::kill_all(slot.leaf_dir(), |reap| {
            if reap.pid == main {
                end = Some(End { death: reap.death, at: Instant::now() });
            }
        })?;
        self.usage = together(self.usage, remains.usage);
        if let Some(end) = end {
            // The first process is no leftover.
            remains.killed =
                remains.killed.saturating_sub(u32::from(end.death == Death::Signal(libc::SIGKILL)));
            self.end = Some(end);
        }
        Ok(remains)
    }

    fn reply(mut self, remains: tree::Remains, outputs: &[&OwnedFd]) -> io::Result<Reply> {
        if let Some(error) = self.failed {
            return Ok(Reply::Failed(explain(error, self.launch, &self.program.program)));
        }
        if self.report.is_some() {
            let message = "the deadline or a kill came before the program was started".to_owned();
            return Ok(Reply::Failed(Failure { step: Step::Fork, errno: libc::ETIMEDOUT, message }));
        }
        let ended_at = self.end.as_ref().map_or_else(Instant::now, |end| end.at);
        Ok(Reply::Ended(Ended {
            status: self.status(outputs)?,
            wall_ns: nanoseconds(ended_at.saturating_duration_since(self.began_at)),
            usage: self.used(),
            leftovers_killed: remains.killed,
            survivors: remains.survivors,
        }))
    }

    /// What all of it used, once all of it has ended.
    fn used(&mut self) -> Usage {
        let no_cgroup = Count::Unknown(Uncounted::NoCgroup);
        Usage {
            stolen_ns: self.counting.stolen_ns(self.usage.cpu_ns()),
            cgroup_peak_bytes: self.memory_peak.as_mut().map_or(no_cgroup, MemoryPeak::read),
            counters: self.counting.read(),
            ..self.usage
        }
    }

    fn status(&self, outputs: &[&OwnedFd]) -> io::Result<EndStatus> {
        if let Phase::Stopping { status, .. } = self.phase {
            return Ok(status);
        }
        let limits = &self.launch.limits;
        for output in outputs {
            let size = nix::sys::stat::fstat(output)?.st_size;
            // At the bound counts too: the write that would have crossed it was cut short, whatever became of it.
            if u64::try_from(size).unwrap_or(0) >= limits.output_max_bytes {
                return Ok(EndStatus::OutputTooLarge { max_bytes: limits.output_max_bytes });
            }
        }
        Ok(match self.end.as_ref().map(|end| end.death) {
            Some(Death::Exit(code)) => EndStatus::Exit(code),
            Some(Death::Signal(libc::SIGXFSZ)) => {
                EndStatus::FileTooLarge { max_bytes: limits.file_max_bytes.max(limits.output_max_bytes) }
            }
            Some(Death::Signal(signal)) => EndStatus::Signal(signal),
            None => EndStatus::Killed,
        })
    }
}
