//! Measuring: rounds of invocations, each a process tree of its own on leased cores.
//!
//! Nothing here decides whether a round is wanted or what its numbers mean. While a bench runs, nothing is read,
//! parsed or written: its result is read once its processes are gone.

mod environment;
mod pair;
mod placing;
mod plugin;
mod process;
mod result;
mod round;
mod running;
mod scratch;
mod sliced;
mod warm_up;
mod watch;

pub(crate) use environment::{Folders, Surroundings, fill};
pub(crate) use placing::{Placed, Placing};
pub(crate) use plugin::install as install_plugin;
pub(crate) use process::{Outcome, Process, Slot};
pub(crate) use round::{Bench, Built, RoundEnd, Side, measure, measure_again};
pub(crate) use scratch::{Scratch, remove_all, scratch_name, scratch_root, short_name};
pub(crate) use watch::Watch;

/// The most of a log that goes into a failure.
pub(crate) const LOG_TAIL_BYTES: usize = 16 << 10;
