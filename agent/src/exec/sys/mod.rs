//! The few calls that the safe libraries do not have, and the child's way from fork to exec.
//!
//! All unsafe code of the agent is here. Nothing here decides anything.

#![expect(
    unsafe_code,
    reason = "clone3, wait4, perf counters, signal dispositions and received files have no safe wrapper"
)]

mod child;
mod perf;

pub(super) use child::{ChildPlan, Cstrings, ReportedError};
pub(super) use perf::{events_of, open_counter, open_task_clock, read_counter};

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::measure::RawUsage;

/// `CLONE_INTO_CGROUP` of `linux/sched.h`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The highest signal number of Linux.
const LAST_SIGNAL: libc::c_int = 64;

/// Forks; the child becomes the bench of the plan, at birth in the cgroup that `cgroup` is the folder of.
pub(super) fn fork_into(plan: &ChildPlan<'_>, cgroup: Option<BorrowedFd<'_>>) -> io::Result<i32> {
    // SAFETY: this program has one thread, so that no lock can be held by another, and the child only runs
    // `become_bench`, which makes system calls until it is gone.
    let result = unsafe { clone_into(cgroup) };
    child_or_pid(plan, result)
}

/// Forks into a cgroup; what the raw call returns.
///
/// # Safety
/// In the child, nothing may be done that relies on other threads or on the C library's own account of processes.
unsafe fn clone_into(cgroup: Option<BorrowedFd<'_>>) -> libc::c_long {
    // SAFETY: all-zero is a valid `clone_args`: no flags, no stack (the child goes on with a copy of ours), no pointers.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    if let Some(cgroup) = cgroup {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the arguments are live; without CLONE_VM this is fork, and the child has a copy of our memory.
    unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) }
}

/// Forks the old way, for kernels and sandboxes without `clone3`.
pub(super) fn fork_plain(plan: &ChildPlan<'_>) -> io::Result<i32> {
    // SAFETY: as in `fork_into`.
    let result = unsafe { libc::fork() };
    child_or_pid(plan, result.into())
}

fn child_or_pid(plan: &ChildPlan<'_>, result: libc::c_long) -> io::Result<i32> {
    match result {
        0 => child::become_bench(plan),
        pid if pid > 0 => i32::try_from(pid).map_err(io::Error::other),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a process is `SCHED_FIFO`; it may have ended, as long as it was not reaped.
pub(super) fn is_fifo(pid: i32) -> bool {
    // SAFETY: plain system call; raw, as some C libraries refuse to make it.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, pid) };
    policy >= 0
        && policy & !libc::c_long::from(libc::SCHED_RESET_ON_FORK) == libc::c_long::from(libc::SCHED_FIFO)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// One child that has ended and is reaped now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reap {
    pub(super) pid: i32,
    pub(super) death: Death,
    pub(super) usage: RawUsage,
}

/// What waiting without blocking found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// A child had ended.
    Ended(Reap),
    /// There are children, and all of them live.
    AllLive,
    /// There is no child at all, and so no descendant: orphans come to us.
    NoChildren,
}

/// Reaps one ended child, if there is one.
pub(super) fn reap_one() -> io::Result<Waited> {
    let mut status = 0;
    // SAFETY: all-zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: both pointers are to live, writable values of the right types.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG | libc::__WALL, &raw mut usage) };
    if pid == 0 {
        return Ok(Waited::AllLive);
    }
    if pid < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(Waited::NoChildren) } else { Err(error) };
    }
    let death = if libc::WIFEXITED(status) {
        Death::Exit(libc::WEXITSTATUS(status))
    } else {
        Death::Signal(libc::WTERMSIG(status))
    };
    Ok(Waited::Ended(Reap { pid, death, usage: raw_usage(&usage) }))
}

fn raw_usage(usage: &libc::rusage) -> RawUsage {
    let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
    let duration = |time: libc::timeval| {
        let micros = count(time.tv_sec).saturating_mul(1_000_000).saturating_add(count(time.tv_usec));
        Duration::from_micros(micros)
    };
    RawUsage {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        max_rss_kib: count(usage.ru_maxrss),
        voluntary_switches: count(usage.ru_nvcsw),
        involuntary_switches: count(usage.ru_nivcsw),
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
    }
}

/// Takes files that came over a socket into ownership.
pub(super) fn own_received(fds: &[RawFd]) -> Vec<OwnedFd> {
    // SAFETY: the kernel has just made these descriptors for us, and nothing else knows their numbers.
    fds.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Gives every signal its default effect, whatever was inherited; a child has it so as well.
pub(super) fn default_signals() {
    // The kernel's `struct sigaction` is four words, all zero for the default. A raw call, as the C library keeps the
    // two signals that it uses itself, which may have been inherited as ignored.
    let default = [0u64; 4];
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: setting a default runs no code of ours; this program has one thread, so that the C library's own
        // signals are never needed. SIGKILL and SIGSTOP are refused with an error that changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
}

/// Whether a process can be born in a cgroup and live. The kernel compares how often the cgroups of parent and child
/// were killed as a whole, and kills the child at birth if the counts differ.
pub(super) fn can_be_born_in(cgroup: BorrowedFd<'_>) -> bool {
    // SAFETY: as in `fork_into`; the child does nothing but end.
    let pid = unsafe { clone_into(Some(cgroup)) };
    if pid == 0 {
        // SAFETY: ends the child without running destructors that belong to the parent.
        unsafe { libc::_exit(0) }
    }
    loop {
        match reap_one() {
            Ok(Waited::Ended(reap)) if pid == libc::c_long::from(reap.pid) => {
                return reap.death == Death::Exit(0);
            }
            Ok(Waited::Ended(_)) => {}
            Ok(Waited::AllLive) => std::thread::yield_now(),
            Ok(Waited::NoChildren) | Err(_) => return false,
        }
    }
}

/// Closes every file above stdin, stdout and stderr but one.
pub(super) fn close_all_but(keep: BorrowedFd<'_>) -> io::Result<()> {
    let keep = keep.as_raw_fd().unsigned_abs();
    for (first, last) in
        [(3, keep - 1), (keep + 1, u32::MAX)].into_iter().filter(|(first, last)| first <= last)
    {
        // SAFETY: called at the start of the launcher, before anything but `keep` owns a descriptor from 3 on.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets the runtime say when a socket has something to read.
pub(super) fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same file as long as it lives, which is as long as the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}
