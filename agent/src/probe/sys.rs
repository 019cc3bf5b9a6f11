//! What needs the processor or the kernel directly.
#![expect(unsafe_code, reason = "reading the time stamp counter, and system calls that nix does not have")]

use std::io;

/// The kernel's flag beside a policy: children do not inherit it.
const RESET_ON_FORK: libc::c_int = 0x4000_0000;

/// The time stamp counter, once everything before it is done.
#[cfg(target_arch = "x86_64")]
pub(super) fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has both instructions, and neither touches memory.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// The `SCHED_FIFO` priority of this thread; none under any other policy.
pub(super) fn fifo_priority() -> Option<libc::c_int> {
    let mut param = libc::sched_param { sched_priority: 0 };
    // SAFETY: plain numbers, and a live value that the kernel fills in. Raw, as some C libraries refuse these calls.
    let (policy, read) = unsafe {
        (
            libc::syscall(libc::SYS_sched_getscheduler, 0),
            libc::syscall(libc::SYS_sched_getparam, 0, &raw mut param),
        )
    };
    let policy = libc::c_int::try_from(policy).ok().filter(|policy| *policy >= 0)? & !RESET_ON_FORK;
    (policy == libc::SCHED_FIFO && read == 0).then_some(param.sched_priority)
}

/// Puts this thread under `SCHED_FIFO`; threads do not inherit it from a bench's first one.
pub(super) fn set_fifo(sched_priority: libc::c_int) -> io::Result<()> {
    let param = libc::sched_param { sched_priority };
    let policy = libc::SCHED_FIFO | RESET_ON_FORK;
    // SAFETY: the parameter is a live value.
    let set = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const param) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
