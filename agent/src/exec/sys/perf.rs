//! Counters of the kernel's perf subsystem (`man perf_event_open`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use perf_event_open_sys::{bindings, perf_event_open};

use crate::measure::{CountSource, Each, Event, Shown};

/// The events of a source.
pub(in super::super) fn events_of(source: CountSource) -> Each<Event> {
    let (kind, configs, user_only) = match source {
        CountSource::Hardware => (
            bindings::PERF_TYPE_HARDWARE,
            Each {
                instructions: bindings::PERF_COUNT_HW_INSTRUCTIONS,
                cycles: bindings::PERF_COUNT_HW_CPU_CYCLES,
                cache_references: bindings::PERF_COUNT_HW_CACHE_REFERENCES,
                cache_misses: bindings::PERF_COUNT_HW_CACHE_MISSES,
                branch_misses: bindings::PERF_COUNT_HW_BRANCH_MISSES,
            },
            true,
        ),
        CountSource::Kernel => (
            bindings::PERF_TYPE_SOFTWARE,
            Each {
                instructions: bindings::PERF_COUNT_SW_TASK_CLOCK,
                cycles: bindings::PERF_COUNT_SW_PAGE_FAULTS,
                cache_references: bindings::PERF_COUNT_SW_CONTEXT_SWITCHES,
                cache_misses: bindings::PERF_COUNT_SW_PAGE_FAULTS_MIN,
                branch_misses: bindings::PERF_COUNT_SW_CPU_MIGRATIONS,
            },
            false,
        ),
    };
    configs.map(|config| Event { kind, config: config.into(), user_only })
}

/// Opens a counter for a process that has not become its program yet (0 is the caller): it begins to count at exec, on
/// whatever CPU the process and those that it starts are.
pub(in super::super) fn open_counter(event: Event, pid: i32) -> io::Result<OwnedFd> {
    open(event, pid, true)
}

/// Opens a clock that runs from now on while a process, or one that it starts, has a CPU: also while the hypervisor runs
/// something else on that CPU, which the process is not charged for.
pub(in super::super) fn open_task_clock(pid: i32) -> io::Result<OwnedFd> {
    let kind = bindings::PERF_TYPE_SOFTWARE;
    // A clock leaves nothing out; to ask for less is allowed on more boxes.
    open(Event { kind, config: bindings::PERF_COUNT_SW_TASK_CLOCK.into(), user_only: true }, pid, false)
}

fn open(event: Event, pid: i32, from_exec_on: bool) -> io::Result<OwnedFd> {
    let mut attributes = bindings::perf_event_attr {
        type_: event.kind,
        size: u32::try_from(size_of::<bindings::perf_event_attr>()).map_err(io::Error::other)?,
        config: event.config,
        read_format: u64::from(
            bindings::PERF_FORMAT_TOTAL_TIME_ENABLED | bindings::PERF_FORMAT_TOTAL_TIME_RUNNING,
        ),
        ..bindings::perf_event_attr::default()
    };
    attributes.set_disabled(from_exec_on.into());
    attributes.set_enable_on_exec(from_exec_on.into());
    attributes.set_inherit(1);
    attributes.set_exclude_hv(1);
    attributes.set_exclude_kernel(event.user_only.into());
    let flags = u64::from(bindings::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: the attributes are live and say their size; a counter changes nothing but what is counted.
    let fd = unsafe { perf_event_open(&raw mut attributes, pid, -1, -1, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a counter shows now, together with what ended children counted.
pub(in super::super) fn read_counter(counter: BorrowedFd<'_>) -> io::Result<Shown> {
    let mut words = [0u64; 3];
    // SAFETY: the buffer is live and as large as is said.
    let read = unsafe { libc::read(counter.as_raw_fd(), words.as_mut_ptr().cast(), size_of_val(&words)) };
    let [value, enabled_ns, running_ns] = words;
    match usize::try_from(read) {
        Ok(bytes) if bytes == size_of_val(&words) => Ok(Shown { value, enabled_ns, running_ns }),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
