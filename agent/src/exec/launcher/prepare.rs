//! Turns a request into what the child needs, with everything allocated and looked up before the fork.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use darwin_shared::cpu::CpuSet;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{AccessFlags, access};

use super::super::protocol::{Failure, Launch, Step};
use super::super::sys::Cstrings;

/// How readily the kernel kills a bench when memory runs out, of 1000: before everything that was not raised.
pub(super) const OOM_SCORE: &[u8] = b"800";
/// Real-time priorities that a bench may have: from 50 on are the kernel's interrupt threads.
const FIFO_PRIORITIES: std::ops::RangeInclusive<u8> = 1..=49;

/// A launch, ready to be forked.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) program: CString,
    pub(super) argv: Cstrings,
    pub(super) env: Cstrings,
    pub(super) cwd: CString,
    pub(super) rlimits: Vec<(libc::c_int, libc::rlimit)>,
    pub(super) affinity: Option<nix::sched::CpuSet>,
    /// The kernel's mask of memory nodes.
    pub(super) nodes: Option<Vec<libc::c_ulong>>,
    pub(super) fifo_priority: Option<libc::c_int>,
}

pub(super) fn prepare(launch: &Launch) -> Result<Prepared, Failure> {
    let Some(program) = launch.argv.first().filter(|program| !program.is_empty()) else {
        return Err(refuse("the command is empty; its first word must be a program".to_owned()));
    };
    for name in launch.env.keys() {
        if name.is_empty() || name.contains('=') {
            return Err(refuse(format!("`{name}` cannot be the name of an environment variable")));
        }
    }
    let fifo_priority = match launch.fifo_priority {
        Some(priority) if !FIFO_PRIORITIES.contains(&priority) => {
            return Err(refuse(format!("SCHED_FIFO priority {priority} is outside of 1 to 49")));
        }
        priority => priority.map(libc::c_int::from),
    };
    let nul = |what: &str| refuse(format!("{what} contains a NUL character, which no process can be given"));
    // First: what follows would only say that such a program is not found.
    let argv = Cstrings::new(launch.argv.iter().cloned()).map_err(|_| nul("the command"))?;
    let environment = launch.env.iter().map(|(name, value)| format!("{name}={value}"));
    Ok(Prepared {
        program: CString::new(find(program, launch)?).map_err(|_| nul("the program's path"))?,
        argv,
        env: Cstrings::new(environment).map_err(|_| nul("the environment"))?,
        cwd: CString::new(launch.cwd.as_os_str().as_bytes()).map_err(|_| nul("the working directory"))?,
        rlimits: rlimits(launch)?,
        affinity: launch.cpus.as_ref().map(affinity).transpose().map_err(refuse)?,
        nodes: launch.node.map(nodes).transpose().map_err(refuse)?,
        fifo_priority,
    })
}

/// The kernel's mask for a set of CPUs.
pub(super) fn affinity(cpus: &CpuSet) -> Result<nix::sched::CpuSet, String> {
    if cpus.is_empty() {
        return Err("the set of CPUs is empty".to_owned());
    }
    let mut mask = nix::sched::CpuSet::new();
    for cpu in cpus.iter() {
        mask.set(cpu as usize).map_err(|_| {
            format!("CPU {cpu} is beyond the {} that a mask holds", nix::sched::CpuSet::count())
        })?;
    }
    Ok(mask)
}

/// The kernel's mask with one memory node in it.
fn nodes(node: u32) -> Result<Vec<libc::c_ulong>, String> {
    /// The most nodes that Linux can be built for.
    const NODES_MAX: u32 = 1024;
    if node >= NODES_MAX {
        return Err(format!("memory node {node} is beyond the {NODES_MAX} that Linux knows"));
    }
    let mut mask = vec![0; (node / libc::c_ulong::BITS) as usize + 1];
    if let Some(last) = mask.last_mut() {
        *last = 1 << (node % libc::c_ulong::BITS);
    }
    Ok(mask)
}

fn refuse(message: String) -> Failure {
    Failure { step: Step::Prepare, errno: 0, message }
}

/// The program's path: as it stands if it has a slash, else the first match in the launch's own `PATH`.
fn find(program: &str, launch: &Launch) -> Result<Vec<u8>, Failure> {
    if program.contains('/') {
        return Ok(program.as_bytes().to_vec());
    }
    let not_found = |message| Failure { step: Step::Exec, errno: libc::ENOENT, message };
    let Some(path) = launch.env.get("PATH") else {
        return Err(not_found(format!(
            "`{program}` is not a path, and the environment has no PATH to look in"
        )));
    };
    let runnable = |candidate: &Path| candidate.is_file() && access(candidate, AccessFlags::X_OK).is_ok();
    let mut candidates =
        path.split(':').filter(|dir| !dir.is_empty()).map(|dir| launch.cwd.join(dir).join(program));
    match candidates.find(|candidate| runnable(candidate)) {
        Some(found) => Ok(found.into_os_string().into_encoded_bytes()),
        None => Err(not_found(format!("`{program}` is not found in PATH={path}"))),
    }
}

/// No core dumps; locked memory as far as the agent may have it; real time only where it is asked for; files and
/// descriptors as asked; processes only where the user is the bench's own, as the kernel
/// counts them per user.
fn rlimits(launch: &Launch) -> Result<Vec<(libc::c_int, libc::rlimit)>, Failure> {
    let limits = &launch.limits;
    let file = limits.file_max_bytes.max(limits.output_max_bytes);
    let mut wanted = vec![
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, file),
        (Resource::RLIMIT_NOFILE, limits.open_files_max),
        (Resource::RLIMIT_MEMLOCK, launch.confine.memory_max_bytes.unwrap_or(RLIM_INFINITY)),
        (Resource::RLIMIT_RTPRIO, launch.fifo_priority.map_or(0, u64::from)),
    ];
    if launch.user.is_some() {
        wanted.extend(launch.confine.processes_max.map(|max| (Resource::RLIMIT_NPROC, max)));
    }
    wanted
        .into_iter()
        .map(|(resource, value)| Ok((resource as libc::c_int, capped(resource, value)?)))
        .collect()
}

/// A limit within the one that we have ourselves: raising it takes a capability that even root may lack.
fn capped(resource: Resource, value: u64) -> Result<libc::rlimit, Failure> {
    let (_, hard) = getrlimit(resource).map_err(|errno| {
        let message = format!("a resource limit cannot be read: {}", errno.desc());
        Failure { step: Step::Limits, errno: errno as i32, message }
    })?;
    let value = if hard == RLIM_INFINITY { value } else { value.min(hard) };
    Ok(libc::rlimit { rlim_cur: value, rlim_max: value })
}
