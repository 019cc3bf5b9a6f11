//! Which hardware counters are wanted, and what the kernel's answers mean.
//!
//! Counters are opened for a bench before it becomes its program, count in user mode from exec on, and are inherited by
//! its threads and children. Each counts by itself: a group would be all or nothing, and cannot be read with what
//! children counted.

use darwin_shared::usage::{Count, Counters, Uncounted};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Where what is counted comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountSource {
    /// The CPU's counters.
    #[default]
    Hardware,
    /// Events that the kernel itself counts, in their place: task clock for instructions, page faults for cycles, context
    /// switches, minor faults and migrations for the rest. Proves the way of a count on a box without counters.
    Kernel,
}

/// An event as the kernel names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// `perf_event_attr.type`.
    pub kind: u32,
    /// `perf_event_attr.config`.
    pub config: u64,
    /// Whether what happens in the kernel is left out: what a program does itself varies less.
    pub user_only: bool,
}

/// One of something for each counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Each<T> {
    /// For instructions retired.
    pub instructions: T,
    /// For CPU cycles.
    pub cycles: T,
    /// For accesses to the last cache.
    pub cache_references: T,
    /// For misses of the last cache.
    pub cache_misses: T,
    /// For branches predicted wrongly.
    pub branch_misses: T,
}

impl<T> Each<T> {
    /// The same with something else for each.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Each<U> {
        Each {
            instructions: f(self.instructions),
            cycles: f(self.cycles),
            cache_references: f(self.cache_references),
            cache_misses: f(self.cache_misses),
            branch_misses: f(self.branch_misses),
        }
    }

    /// References to all of them.
    pub const fn as_ref(&self) -> Each<&T> {
        Each {
            instructions: &self.instructions,
            cycles: &self.cycles,
            cache_references: &self.cache_references,
            cache_misses: &self.cache_misses,
            branch_misses: &self.branch_misses,
        }
    }
}

impl From<Each<Count>> for Counters {
    fn from(each: Each<Count>) -> Self {
        let Each { instructions, cycles, cache_references, cache_misses, branch_misses } = each;
        Self { instructions, cycles, cache_references, cache_misses, branch_misses }
    }
}

/// What opening a counter that is not to be had came to.
pub fn meaning(errno: Errno) -> Uncounted {
    match errno {
        // No driver for the CPU's counters; no such event on this CPU; a kernel without perf.
        Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP | Errno::ENXIO | Errno::ENOSYS => {
            Uncounted::NoCounter
        }
        Errno::EACCES | Errno::EPERM => Uncounted::Forbidden,
        // Somebody has the counters for himself alone.
        Errno::EBUSY => Uncounted::Shared,
        _ => Uncounted::Refused,
    }
}

/// What a counter showed at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// The events that it saw.
    pub value: u64,
    /// How long it was to count, in nanoseconds over all tasks.
    pub enabled_ns: u64,
    /// How long it really had a counter of the CPU.
    pub running_ns: u64,
}

impl Shown {
    /// The count, if it is exact: one that had to share its counter saw a part, and scaling it up is a guess.
    pub const fn count(self) -> Count {
        if self.enabled_ns == 0 {
            return Count::Unknown(Uncounted::Refused);
        }
        if self.running_ns < self.enabled_ns {
            return Count::Unknown(Uncounted::Shared);
        }
        Count::Known(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_counter_that_was_always_there_is_believed() {
        let shown = |value, enabled_ns, running_ns| Shown { value, enabled_ns, running_ns }.count();
        assert_eq!(shown(7, 100, 100), Count::Known(7));
        assert_eq!(shown(0, 100, 100), Count::Known(0));
        assert_eq!(shown(7, 100, 99), Count::Unknown(Uncounted::Shared));
        assert_eq!(shown(0, 100, 0), Count::Unknown(Uncounted::Shared));
        assert_eq!(shown(0, 0, 0), Count::Unknown(Uncounted::Refused));
    }

    #[test]
    fn each_answer_of_the_kernel_has_its_reason() {
        assert_eq!(meaning(Errno::ENOENT), Uncounted::NoCounter);
        assert_eq!(meaning(Errno::EACCES), Uncounted::Forbidden);
        assert_eq!(meaning(Errno::EBUSY), Uncounted::Shared);
        assert_eq!(meaning(Errno::EMFILE), Uncounted::Refused);
    }
}
