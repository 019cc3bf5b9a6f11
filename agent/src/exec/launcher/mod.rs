//! The launcher: the program that the agent's binary becomes when it is asked to.
//!
//! One thread, one launch at a time, nothing kept between launches. It waits in `poll` for its agent and its
//! children, never for time but a deadline's. When the agent's end of the socket closes, it kills what runs and ends.

mod confine;
mod counting;
mod explain;
mod live;
mod prepare;
mod tree;

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use darwin_shared::cpu::CpuSet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::packet::{Inbox, PacketError, Received, send};
use super::protocol::{Failure, Launch, Reply, Request, Step};
use super::sys;
use confine::Slot;
use counting::Meter;

/// The first argument that turns the agent's binary into a launcher.
pub(super) const LAUNCHER_ARG: &str = "__launcher";

/// Becomes a launcher if the process was started as one, and then never returns. To be called first thing in `main`,
/// before threads, runtimes and larger allocations: every launch forks this process.
pub fn launcher_main_if_asked() {
    if std::env::args_os().nth(1).is_none_or(|arg| arg != LAUNCHER_ARG) {
        // The other programs that this binary is for others than people.
        crate::probe::main_if_asked();
        crate::docker::guard_main_if_asked();
        return;
    }
    let served = std::panic::catch_unwind(serve);
    if let Ok(Ok(())) = served {
        std::process::exit(0);
    }
    if let Ok(Err(error)) = served {
        // Nobody is left to tell if this fails too.
        let _ = writeln!(io::stderr(), "darwin launcher: {error}");
    }
    // Whatever went wrong here, no bench goes on without its launcher.
    let _ = tree::kill_all(None, |_| ());
    std::process::exit(1);
}

/// What the launcher waits on.
struct Wires {
    agent: OwnedFd,
    children: SignalFd,
    null: OwnedFd,
    inbox: Inbox,
    meter: Meter,
}

impl Wires {
    /// The next request; none when the agent is gone.
    fn receive(&mut self) -> Result<Option<(Request, Vec<OwnedFd>)>, PacketError> {
        match self.inbox.receive(self.agent.as_fd())? {
            Received::Message(request, files) => Ok(Some((request, files))),
            Received::Closed => Ok(None),
        }
    }

    /// Says something to the agent. An agent that is gone is noticed at the next `receive`.
    fn reply(&self, reply: &Reply) -> io::Result<()> {
        match send(self.agent.as_fd(), reply, &[]) {
            Err(PacketError::Os(Errno::EPIPE | Errno::ECONNRESET)) => Ok(()),
            sent => Ok(sent?),
        }
    }
}

fn serve() -> io::Result<()> {
    let mut wires = set_up()?;
    let mut slot = Slot::default();
    // Only held: their locks last as long as this process.
    let mut kept: Vec<OwnedFd> = Vec::new();
    loop {
        wait_readable(&wires.agent)?;
        match wires.receive()? {
            None => {
                slot.remove();
                return Ok(());
            }
            Some((Request::Setup { housekeeping, cgroups, count }, files)) => {
                wires.meter = Meter::of_this_box(count);
                kept.extend(files);
                slot = Slot::new(cgroups);
                let problem = housekeeping.and_then(|cpus| move_to(&cpus).err());
                wires.reply(&Reply::Ready { problem })?;
            }
            Some((Request::Launch(launch), files)) => {
                if !serve_launch(&mut wires, &mut slot, &launch, files)? {
                    slot.remove();
                    return Ok(());
                }
            }
            // It ended before the request came.
            Some((Request::Kill { .. } | Request::Release, _)) => {}
        }
    }
}

/// Runs one launch to its end; says whether the agent is still there.
fn serve_launch(
    wires: &mut Wires,
    slot: &mut Slot,
    launch: &Launch,
    files: Vec<OwnedFd>,
) -> io::Result<bool> {
    let mut files = files.into_iter();
    let (Some(stdout), Some(stderr)) = (files.next(), files.next()) else {
        let message = "a launch must come with two files at least, for stdout and stderr".to_owned();
        wires.reply(&Reply::Failed(Failure { step: Step::Prepare, errno: 0, message }))?;
        return Ok(true);
    };
    // Ours are closed once the bench has its own: a pipe's other end must be alone in its hands.
    let passed: Vec<OwnedFd> = files.collect();
    match live::run(wires, slot, launch, [&stdout, &stderr], passed)? {
        live::Outcome::Reply(reply) => {
            wires.reply(&reply)?;
            Ok(true)
        }
        live::Outcome::AgentGone => Ok(false),
    }
}

/// Makes a process that a bench can be forked from: nothing inherited but the socket, no signal that could end it.
fn set_up() -> io::Result<Wires> {
    let agent = io::stdin().as_fd().try_clone_to_owned()?;
    // What else is open came from whoever started the agent, and is nobody's here.
    sys::close_all_but(agent.as_fd()).or_else(|error| match error.raw_os_error() {
        // Kernels before 5.9: the agent's own files are close-on-exec.
        Some(libc::ENOSYS) => Ok(()),
        _ => Err(error),
    })?;
    let null = OwnedFd::from(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?);
    nix::unistd::dup2_stdin(&null)?;
    sys::default_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    let mut sigchld = SigSet::empty();
    sigchld.add(nix::sys::signal::Signal::SIGCHLD);
    let children = SignalFd::with_flags(&sigchld, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // Orphans of the bench come to us, so that nothing can slip away.
    nix::sys::prctl::set_child_subreaper(true)?;
    nix::sys::prctl::set_name(c"darwin-launcher")?;
    // Out of reach of what is sent to the agent's group. It fails for a group leader, who has no such worry.
    let _ = nix::unistd::setsid();
    Ok(Wires { agent, children, null, inbox: Inbox::new(), meter: Meter::none() })
}

fn move_to(cpus: &CpuSet) -> Result<(), String> {
    let moved = prepare::affinity(cpus).and_then(|mask| {
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &mask)
            .map_err(|errno| errno.desc().to_owned())
    });
    moved.map_err(|error| format!("the launcher cannot be moved to the housekeeping CPUs {cpus}: {error}"))
}

fn wait_readable(fd: &OwnedFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
