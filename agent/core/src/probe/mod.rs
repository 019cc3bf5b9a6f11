//! What a probe's raw readings come to. Pure: the clock, the counters and the loop are the agent's.
//!
//! ```text
//! gaps ─> recorder (bounded) ─┐
//! counters before and after ──┼─> GapSummary ────┐
//!                             └─ signature        ├─> judge(tier, usual) ─> ok | warn | fail, and why
//! kernels, timed ─────────────> CapacitySummary ─┘                └─> compare(before, after)
//! ```

pub mod capacity;
pub mod causes;
pub mod compare;
pub mod interrupts;
pub mod judge;
pub mod memory;
pub mod recorder;
pub mod signature;
pub mod watch;
