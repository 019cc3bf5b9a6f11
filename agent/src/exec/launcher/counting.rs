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
use nix::unistd::Pid;

use super::super::sys::{events_of, open_counter, read_counter};
use crate::measure::{CountSource, Each, Event, Shown, meaning};

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
    pub(super) fn hold(&self) -> Option<Hold> {
        let Each { instructions, cycles, cache_references, cache_misses, branch_misses } = &self.events;
        let any = [instructions, cycles, cache_references, cache_misses, branch_misses];
        if any.iter().all(|event| event.is_err()) {
            return None;
        }
        EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).ok().map(Hold)
    }

    /// Opens the counters for the child that waits, and lets it go on.
    pub(super) fn start(&self, hold: Option<Hold>, child: Pid) -> Counting {
        let Some(Hold(hold)) = hold else {
            return Counting(
                self.events.as_ref().map(|event| Err(event.err().unwrap_or(Uncounted::Refused))),
            );
        };
        let open = |event: &Result<Event, Uncounted>| {
            event.and_then(|event| open_counter(event, child.as_raw()).map_err(|error| reason(&error)))
        };
        let counting = Counting(self.events.as_ref().map(open));
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
pub(super) struct Counting(Each<Result<OwnedFd, Uncounted>>);

impl Counting {
    /// What they show once everything of the launch has ended.
    pub(super) fn read(&self) -> Counters {
        let count = |counter: &Result<OwnedFd, Uncounted>| match counter {
            Ok(counter) => {
                read_counter(counter.as_fd()).map_or(Count::Unknown(Uncounted::Refused), Shown::count)
            }
            Err(why) => Count::Unknown(*why),
        };
        self.0.as_ref().map(count).into()
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
