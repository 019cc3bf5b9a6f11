//! Counts a launch: its counters, opened while it waits to become its program, and its cgroup's peak.
//!
//! What a box has is found out once for each launcher. Where it has no counters, a launch makes no call for them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use darwin_shared::usage::{Count, Counters, Uncounted};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::super::sys::{events_of, open_counter, open_task_clock, read_counter};
use crate::measure::{CountSource, Each, Event, Shown, meaning, nanoseconds};

/// The counters that this box has.
#[derive(Debug)]
pub(super) struct Meter {
    events: Each<Result<Event, Uncounted>>,
}

impl Meter {
    /// None, before anybody asked.
    pub(super) fn none() -> Self {
        Self { events: events_of(CountSource::Hardware).map(|_| Err(Uncounted::NotTold)) }
    }

    /// Finds them out, by opening each once for ourselves.
    pub(super) fn of_this_box(source: CountSource) -> Self {
        let tried = |event| match open_counter(event, 0) {
            Ok(_) => Ok(event),
            Err(error) => Err(reason(&error)),
        };
        Self { events: events_of(source).map(tried) }
    }

    /// What the child of the next launch waits on; none if there is nothing to count, or no way to hold it.
    pub(super) fn hold(&self, count_stolen: bool) -> Option<Hold> {
        let Each { instructions, cycles, cache_references, cache_misses, branch_misses } = &self.events;
        let any = [instructions, cycles, cache_references, cache_misses, branch_misses];
        if !count_stolen && any.iter().all(|event| event.is_err()) {
            return None;
        }
        EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).ok().map(Hold)
    }

    /// Opens the counters for the child that waits, and lets it go on.
    pub(super) fn start(&self, hold: Option<Hold>, child: Pid, count_stolen: bool) -> Counting {
        let Some(Hold(hold)) = hold else {
            let counters = self.events.as_ref().map(|event| Err(event.err().unwrap_or(Uncounted::Refused)));
            return Counting { counters, stolen: Err(Uncounted::NotTold) };
        };
        let open = |event: &Result<Event, Uncounted>| {
            event.and_then(|event| open_counter(event, child.as_raw()).map_err(|error| reason(&error)))
        };
        let stolen = if count_stolen { StolenClock::start(child) } else { Err(Uncounted::NotTold) };
        let counting = Counting { counters: self.events.as_ref().map(open), stolen };
        if hold.write(1).is_err() {
            // It would wait for ever. That it was killed shows at its end.
            let _ = kill(child, Signal::SIGKILL);
        }
        counting
    }
}

fn reason(error: &io::Error) -> Uncounted {
    meaning(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// Holds a child until its counters are open.
#[derive(Debug)]
pub(super) struct Hold(EventFd);

impl Hold {
    /// The file that the child reads.
    pub(super) fn fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The counters of a launch.
#[derive(Debug)]
pub(super) struct Counting {
    counters: Each<Result<OwnedFd, Uncounted>>,
    stolen: Result<StolenClock, Uncounted>,
}

impl Counting {
    /// What the hypervisor took from the launch, which used so much CPU time, once everything of it has ended.
    pub(super) fn stolen_ns(&self, used_ns: u64) -> Count {
        let stolen = self.stolen.as_ref().map_err(|why| *why).and_then(|clock| clock.stolen_ns(used_ns));
        stolen.map_or_else(Count::Unknown, Count::Known)
    }

    /// What they show once everything of the launch has ended.
    pub(super) fn read(&self) -> Counters {
        let count = |counter: &Result<OwnedFd, Uncounted>| match counter {
            Ok(counter) => {
                read_counter(counter.as_fd()).map_or(Count::Unknown(Uncounted::Refused), Shown::count)
            }
            Err(why) => Count::Unknown(*why),
        };
        self.counters.as_ref().map(count).into()
    }
}

/// Tells what the hypervisor took: the kernel does not charge a process for it, and the task clock runs on meanwhile. Where
/// the kernel does not charge interrupts either (`CONFIG_IRQ_TIME_ACCOUNTING`), they count as well.
#[derive(Debug)]
struct StolenClock {
    clock: OwnedFd,
    /// The CPU time that the process had when the clock began.
    before_ns: u64,
}

impl StolenClock {
    fn start(child: Pid) -> Result<Self, Uncounted> {
        let of_child = clock_getcpuclockid(child).map_err(meaning)?;
        let before = clock_gettime(of_child).map_err(meaning)?;
        let clock = open_task_clock(child.as_raw()).map_err(|error| reason(&error))?;
        Ok(Self { clock, before_ns: nanoseconds(before.into()) })
    }

    fn stolen_ns(&self, used_ns: u64) -> Result<u64, Uncounted> {
        let shown = read_counter(self.clock.as_fd()).map_err(|error| reason(&error))?;
        match shown.count() {
            Count::Known(had_ns) => Ok(had_ns.saturating_sub(used_ns.saturating_sub(self.before_ns))),
            Count::Unknown(why) => Err(why),
        }
    }
}

/// The peak of a cgroup's memory since it was set back.
#[derive(Debug)]
pub(super) struct MemoryPeak(File);

impl MemoryPeak {
    /// Sets the peak back; none where the cgroup does not count memory or cannot be set back (v2 before Linux 6.12).
    pub(super) fn set_back(leaf: &Path) -> Option<Self> {
        ["memory.peak", "memory.max_usage_in_bytes"].iter().find_map(|name| {
            let mut file = OpenOptions::new().read(true).write(true).open(leaf.join(name)).ok()?;
            // On v2 any text sets it back, for those who read through this very file; v1 wants a 0.
            file.write_all(b"0").ok()?;
            Some(Self(file))
        })
    }

    /// The peak, in bytes.
    pub(super) fn read(&mut self) -> Count {
        let mut text = String::new();
        let read = self.0.rewind().and_then(|()| self.0.read_to_string(&mut text));
        let bytes = read.ok().and_then(|_| text.trim().parse().ok());
        bytes.map_or(Count::Unknown(Uncounted::Refused), Count::Known)
    }
}
