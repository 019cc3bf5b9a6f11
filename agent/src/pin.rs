//! Keeping the agent itself off the cores that it leases.

use std::io;

use darwin_shared::cpu::CpuSet;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

/// Binds every thread of this process to these CPUs; threads made later inherit it from whoever makes them.
pub(crate) fn pin_process(cpus: &CpuSet) -> io::Result<()> {
    let mut mask = nix::sched::CpuSet::new();
    for cpu in cpus.iter() {
        // Beyond what this kernel interface can name there is nothing that it could bind to.
        let _ = mask.set(cpu as usize);
    }
    for task in std::fs::read_dir("/proc/self/task")?.flatten() {
        let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match sched_setaffinity(Pid::from_raw(thread), &mask) {
            // It ended meanwhile.
            Ok(()) | Err(nix::Error::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
