//! From fork to exec, in the child.
//!
//! Only system calls: no allocation, no locks, no destructors. Everything that needs memory was made before the fork.
//! The order matters, and why is said at each step. A step that fails reports itself over a pipe that exec closes.

use std::ffi::{CString, NulError};
use std::os::fd::RawFd;
use std::ptr;

use super::super::protocol::{FIRST_PASSED_FD, Step};

/// What a process writes into `cgroup.procs` to move itself.
const JOIN_SELF: &[u8] = b"0";
/// The most cgroups that are joined by writing: v1's pids, memory and cpuset, and v2 where `clone3` is missing.
const MAX_JOINS: usize = 4;
/// What the shell, too, exits with when it cannot start a program.
const EXIT_NOT_STARTED: libc::c_int = 127;
/// Files that a bench makes are readable, and writable by itself.
const UMASK: libc::mode_t = 0o022;
/// `ADDR_NO_RANDOMIZE` of `linux/personality.h`, with everything else as Linux has it.
const ADDR_NO_RANDOMIZE: libc::c_ulong = 0x004_0000;

/// Strings for exec, and the array of pointers to them that it wants.
#[derive(Debug)]
pub(in super::super) struct Cstrings {
    pointers: Vec<*const libc::c_char>,
    /// Owns what the pointers point to.
    _strings: Vec<CString>,
}

impl Cstrings {
    pub(in super::super) fn new(strings: impl IntoIterator<Item = String>) -> Result<Self, NulError> {
        let strings: Vec<CString> = strings.into_iter().map(CString::new).collect::<Result<_, _>>()?;
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { pointers, _strings: strings })
    }
}

/// Everything that the child needs, ready to use.
#[derive(Debug)]
pub(in super::super) struct ChildPlan<'a> {
    pub(in super::super) program: &'a CString,
    pub(in super::super) argv: &'a Cstrings,
    pub(in super::super) env: &'a Cstrings,
    pub(in super::super) cwd: &'a CString,
    pub(in super::super) stdio: [RawFd; 3],
    /// Files that the bench finds from `FIRST_PASSED_FD` on.
    pub(in super::super) passed: &'a [RawFd],
    /// Where a failed step is reported; closed by exec.
    pub(in super::super) report: RawFd,
    /// Where it waits until its counters are open, if there are any.
    pub(in super::super) hold: Option<RawFd>,
    /// Open `cgroup.procs` files to write oneself into.
    pub(in super::super) joins: &'a [RawFd],
    pub(in super::super) rlimits: &'a [(libc::c_int, libc::rlimit)],
    pub(in super::super) oom_score: &'a [u8],
    pub(in super::super) affinity: Option<&'a nix::sched::CpuSet>,
    pub(in super::super) user: Option<(libc::uid_t, libc::gid_t)>,
    /// The mask of memory nodes that it is bound to.
    pub(in super::super) nodes: Option<&'a [libc::c_ulong]>,
    pub(in super::super) no_huge_pages: bool,
    pub(in super::super) fixed_layout: bool,
    pub(in super::super) fifo_priority: Option<libc::c_int>,
    /// Whether a node or a class that cannot be had is an error.
    pub(in super::super) strict: bool,
    /// Where it waits to be looked at.
    pub(in super::super) gate: Option<RawFd>,
    /// The launcher's own pid.
    pub(in super::super) parent: libc::pid_t,
}

/// A step that failed, as it travels through the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct ReportedError {
    pub(in super::super) step: Step,
    pub(in super::super) errno: i32,
}

impl ReportedError {
    /// The size on the pipe: far below what a pipe takes in one piece.
    pub(in super::super) const BYTES: usize = 8;

    fn encode(self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.step as u8, 0, 0, 0, a, b, c, d]
    }

    pub(in super::super) fn decode(bytes: [u8; Self::BYTES]) -> Self {
        let [step, _, _, _, a, b, c, d] = bytes;
        let step = Step::ALL.get(usize::from(step)).copied().unwrap_or(Step::Fork);
        Self { step, errno: i32::from_ne_bytes([a, b, c, d]) }
    }
}

/// Becomes the bench. Runs in the child only.
pub(super) fn become_bench(plan: &ChildPlan<'_>) -> ! {
    // Cgroups first: the cpuset decides which CPUs may be asked for below.
    for &join in plan.joins.iter().take(MAX_JOINS) {
        // SAFETY: `join` is an open file and the bytes are static.
        let written = unsafe { libc::write(join, JOIN_SELF.as_ptr().cast(), JOIN_SELF.len()) };
        plan.check(Step::Cgroup, written == 1);
    }
    // SAFETY: plain system call. A session of its own: no terminal, and a process group that can be signalled.
    plan.check(Step::Session, unsafe { libc::setsid() } >= 0);
    plan.set_memory();
    for (resource, limit) in plan.rlimits {
        // SAFETY: the limit is a live value. A raw call, for the C library's takes differing types for the resource.
        let set = unsafe { libc::syscall(libc::SYS_prlimit64, 0, *resource, ptr::from_ref(limit), 0usize) };
        plan.check(Step::Limits, set == 0);
    }
    plan.set_oom_score();
    plan.set_layout();
    if let Some(cpus) = plan.affinity {
        // nix's call makes the one system call and allocates nothing.
        let set = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), cpus);
        if let Err(errno) = set {
            plan.fail(Step::Affinity, errno as i32);
        }
    }
    plan.become_user();
    plan.give_up_privileges();
    plan.redirect();
    // After becoming the user, so that its rights decide.
    // SAFETY: a C string that lives in the plan; umask cannot fail.
    let changed = unsafe {
        libc::umask(UMASK);
        libc::chdir(plan.cwd.as_ptr())
    };
    plan.check(Step::Directory, changed == 0);
    plan.unblock_signals();
    // Marked, not closed: the report pipe must live until exec. Every file here was opened close-on-exec anyway, so a
    // kernel without the call (before 5.11) is no reason to stop.
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    plan.pass_files();
    // Last: whatever came after it would run in real time.
    plan.set_scheduler();
    plan.wait_at_gate();
    plan.wait_for_counters();
    // SAFETY: C strings and null-terminated arrays of them, all living in the plan.
    unsafe { libc::execve(plan.program.as_ptr(), plan.argv.pointers.as_ptr(), plan.env.pointers.as_ptr()) };
    plan.fail(Step::Exec, errno())
}

impl ChildPlan<'_> {
    /// The first to go when memory runs out is the bench, never the agent.
    fn set_oom_score(&self) {
        // SAFETY: static path and live bytes; the file is closed by exec.
        let written = unsafe {
            let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            file >= 0 && libc::write(file, self.oom_score.as_ptr().cast(), self.oom_score.len()) >= 0
        };
        self.check(Step::OomScore, written);
    }

    /// After the cgroups, which say what nodes there are. Kernels without nodes do not know the call.
    fn set_memory(&self) {
        if let Some(nodes) = self.nodes {
            // One more than there are: the kernel leaves the last one out.
            let bits = nodes.len() * libc::c_ulong::BITS as usize + 1;
            // SAFETY: the mask is live and has that many bits, but for the one that the kernel leaves out.
            let set =
                unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_BIND, nodes.as_ptr(), bits) };
            self.check(Step::Memory, set == 0 || !self.strict || errno() == libc::ENOSYS);
        }
        if self.no_huge_pages {
            // SAFETY: prctl with plain numbers.
            let set = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
            // A kernel without huge pages does not know it, which is as good.
            self.check(Step::Memory, set == 0 || errno() == libc::EINVAL);
        }
    }

    /// Takes effect at exec.
    fn set_layout(&self) {
        if self.fixed_layout {
            // SAFETY: plain system call.
            let set = unsafe { libc::personality(ADDR_NO_RANDOMIZE) };
            self.check(Step::Layout, set >= 0);
        }
    }

    /// Says that all is set, and waits for a byte. Without one the launcher, or its agent, does not want it to go on.
    fn wait_at_gate(&self) {
        let Some(gate) = self.gate else { return };
        let bytes = ReportedError { step: Step::Held, errno: 0 }.encode();
        let mut byte = 0u8;
        // SAFETY: both pipes are open and the bytes are live.
        let read = unsafe {
            libc::write(self.report, bytes.as_ptr().cast(), bytes.len());
            libc::read(gate, (&raw mut byte).cast(), 1)
        };
        if read != 1 {
            self.fail(Step::Held, libc::ECANCELED);
        }
    }

    /// Groups before the user: afterwards there is no right to change them.
    fn become_user(&self) {
        let Some((uid, gid)) = self.user else { return };
        // SAFETY: plain system calls, raw, as this process has one thread; no list of groups is read for a count of 0.
        let changed = unsafe {
            libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()) == 0
                && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
                && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
        };
        self.check(Step::User, changed);
    }

    /// After becoming the user, which would clear the parent-death signal again.
    fn give_up_privileges(&self) {
        // SAFETY: prctl with plain numbers.
        let (privileges, death) = unsafe {
            (
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0),
            )
        };
        self.check(Step::Privileges, privileges == 0);
        self.check(Step::ParentDeath, death == 0);
        // The launcher may have died before the signal was armed; then we belong to someone else already.
        // SAFETY: plain system call.
        if unsafe { libc::getppid() } != self.parent {
            self.fail(Step::ParentDeath, libc::ESRCH);
        }
    }

    fn redirect(&self) {
        for (target, &fd) in (0..).zip(&self.stdio) {
            // SAFETY: open descriptors above 2, so that none is overwritten before its turn.
            self.check(Step::Stdio, unsafe { libc::dup2(fd, target) } >= 0);
        }
    }

    /// After everything else was marked to be closed: a duplicate is not.
    fn pass_files(&self) {
        for (target, &fd) in (FIRST_PASSED_FD..).zip(self.passed) {
            // SAFETY: open descriptors below the targets, as the launcher has but a few open; none is overwritten.
            self.check(Step::Descriptors, unsafe { libc::dup2(fd, target) } >= 0);
        }
    }

    /// Last, so that the launcher opens them meanwhile. A launcher that dies takes the child with it.
    fn wait_for_counters(&self) {
        let Some(hold) = self.hold else { return };
        let mut word = 0u64;
        // SAFETY: an open eventfd, from which 8 bytes are read into a live value.
        let read = unsafe { libc::read(hold, (&raw mut word).cast(), size_of::<u64>()) };
        self.check(Step::Descriptors, read > 0);
    }

    /// A user who is not root has the right by the limit that was set. Children get the ordinary class back, or one that
    /// spins could hold the core for good.
    fn set_scheduler(&self) {
        let Some(sched_priority) = self.fifo_priority else {
            return;
        };
        let param = libc::sched_param { sched_priority };
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        // SAFETY: the parameter is a live value. Raw, as some C libraries refuse to make this call.
        let set = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const param) };
        self.check(Step::Scheduler, set == 0 || !self.strict);
    }

    /// The launcher blocks every signal and ignores none.
    fn unblock_signals(&self) {
        let none: u64 = 0;
        // SAFETY: the kernel's signal mask is 64 bits, which is what it is told.
        let set = unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const none,
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
        self.check(Step::Signals, set == 0);
    }

    fn check(&self, step: Step, fine: bool) {
        if !fine {
            self.fail(step, errno());
        }
    }

    fn fail(&self, step: Step, errno: i32) -> ! {
        let bytes = ReportedError { step, errno }.encode();
        // SAFETY: the pipe is open and the bytes are live; then this process is gone, without running destructors.
        unsafe {
            libc::write(self.report, bytes.as_ptr().cast(), bytes.len());
            libc::_exit(EXIT_NOT_STARTED)
        }
    }
}

fn errno() -> i32 {
    nix::errno::Errno::last_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_pipe() {
        for step in Step::ALL {
            let error = ReportedError { step, errno: libc::ENOENT };
            assert_eq!(ReportedError::decode(error.encode()), error);
        }
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(Cstrings::new(["a\0b".to_owned()]).is_err());
        assert_eq!(Cstrings::new(["a".to_owned()]).unwrap().pointers.len(), 2);
    }
}
