//! Runs benches: each as its own process tree that starts where it should and that nothing outlives.
//!
//! ```text
//!   agent ── SOCK_SEQPACKET ── launcher (one per slot) ── fork, confine, exec ── bench and its children
//! ```
//! The launcher is the agent's own binary started anew as a small single-threaded program. Forking it costs a
//! fraction of what forking the agent would, and it outlives the agent by just as long as it takes to kill the bench.
//! It must never run two launches at once, parse what a bench wrote, or keep state from one launch to the next.
//!
//! Unsafe code is confined to `sys`.

mod cgroup;
mod client;
mod launcher;
mod output;
mod packet;
mod placement;
mod protocol;
mod sys;

pub(crate) use cgroup::SHIELD_NAME;
pub use cgroup::{CgroupError, CgroupPlace, CgroupRoots, Reaped, reap_leftovers};
pub use client::{LaunchError, Launcher, LauncherConfig, Run};
pub use launcher::launcher_main_if_asked;
pub use output::OutputFile;
pub use placement::{Placement, PlacementError, glance_at_placement, verify_placement};
pub use protocol::{
    Confine, EndStatus, Ended, FIRST_PASSED_FD, Failure, Launch, LaunchLimits, RunAs, Started, Step, Took,
};
