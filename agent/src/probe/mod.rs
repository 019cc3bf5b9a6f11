//! Probes: who takes a leased core away, and how much work a CPU second buys there.
//!
//! ```text
//!   prober ── launch, as a bench ──> the agent's own binary as `__probe-loop` ── result file ──> judged, remembered
//! ```
//! The loop runs where and as a bench would: on the leased cores, under their policy, in their cgroup. Whether its numbers
//! are good is decided in `darwin_agent_core::probe`.
//!
//! Unsafe code is confined to `sys`.

mod around;
mod child;
mod plan;
mod prober;
mod sys;

pub(crate) use around::Probing;
pub(crate) use child::{SLICE, main_if_asked};
pub(crate) use prober::{MEMORY_FILE, MEMORY_MAX_BYTES, Prober};
