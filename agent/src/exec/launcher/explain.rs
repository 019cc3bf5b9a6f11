//! Turns a failed step into a sentence that says what would be right.

use std::ffi::CString;
use std::path::Path;

use nix::errno::Errno;

use super::super::protocol::{Failure, Launch, Step};
use super::super::sys::ReportedError;

pub(super) fn explain(error: ReportedError, launch: &Launch, program: &CString) -> Failure {
    let ReportedError { step, errno } = error;
    let reason = Errno::from_raw(errno);
    let why = reason.desc();
    let program = program.to_string_lossy();
    let message = match step {
        Step::Exec => exec(&program, launch, reason),
        Step::Directory => format!("the working directory {} cannot be entered: {why}", launch.cwd.display()),
        Step::Affinity => {
            let cpus = launch.cpus.as_ref().map(ToString::to_string).unwrap_or_default();
            format!(
                "the bench cannot be bound to CPUs {cpus}: {why}; they must be online and in the agent's cpuset"
            )
        }
        Step::Scheduler => format!(
            "SCHED_FIFO was refused: {why}; it needs CAP_SYS_NICE, and with real-time group scheduling a budget for \
             the agent's cgroup"
        ),
        Step::User => format!("the bench cannot become another user: {why}; only root can do that"),
        Step::Cgroup => format!("the slot's cgroup cannot be joined: {why}"),
        Step::Fork => format!("no process can be made: {why}; look at the limits on processes and memory"),
        Step::Memory => format!(
            "the bench cannot be bound to memory node {}: {why}; sandboxes may forbid `set_mempolicy`",
            launch.node.unwrap_or_default()
        ),
        Step::Layout => {
            format!("`layout = \"fixed\"` cannot be had here: {why}; sandboxes may forbid `personality`")
        }
        Step::Prepare
        | Step::Session
        | Step::Limits
        | Step::OomScore
        | Step::Privileges
        | Step::ParentDeath
        | Step::Stdio
        | Step::Signals
        | Step::Descriptors
        | Step::Held => format!("the launcher could not start `{program}`: {step:?} failed: {why}"),
    };
    Failure { step, errno, message }
}

fn exec(program: &str, launch: &Launch, reason: Errno) -> String {
    let exists = launch.cwd.join(Path::new(program)).exists();
    match reason {
        Errno::ENOENT if exists => {
            format!(
                "`{program}` exists, but its interpreter does not: check its #! line or its dynamic loader"
            )
        }
        Errno::ENOENT => format!("`{program}` does not exist"),
        Errno::EACCES => {
            format!("`{program}` may not be executed: it lacks the permission, or is no regular file")
        }
        Errno::ENOEXEC => {
            format!("`{program}` is neither a program for this box nor a script with a #! line")
        }
        Errno::E2BIG => {
            format!("`{program}` cannot be given that much: its arguments and environment are too long")
        }
        other => format!("`{program}` cannot be executed: {}", other.desc()),
    }
}
