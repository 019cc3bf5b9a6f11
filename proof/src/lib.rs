//! The proof of the gate: how often it is wrong, what it finds, and what other tools' rules do on the same data.
//!
//! Everything is seeded; the product's own [`darwin_gate::Gate`] is asked, never an imitation. `make gate-proof` runs
//! it and writes the tables and plots of `docs/gate.md`.
//!
//! | module | holds |
//! |---|---|
//! | [`noise`] | sessions of synthetic noise |
//! | [`recordings`] | recorded sessions of real benches |
//! | [`variants`] | what a challenger changes, and the rounds of a job |
//! | [`scenario`] | the true changes under which the gate is asked |
//! | [`jury`] | the gate under test |
//! | [`peers`] | the rules of other tools |
//! | [`synthetic`], [`recorded`], [`family`] | the trials |
//! | [`gather`], [`calls`] | trials on all threads, and what rules call in them |
//! | [`flips`] | the exact error of the boundaries |
//! | [`extras`] | rare slow processes, rebuilt binaries, peeking |
//! | [`golden`] | equality with the reference |
//! | [`results`] | one run of all of it |
//! | [`bars`] | what must be reached |
//! | [`tables`], [`plots`], [`page`] | what people see |
//! | [`tally`] | counts and their exact bounds |
//! | [`stream`] | seeded random numbers |

pub mod bars;
pub mod calls;
pub mod extras;
pub mod family;
pub mod flips;
pub mod gather;
pub mod golden;
pub mod jury;
pub mod noise;
pub mod page;
pub mod peers;
pub mod plots;
pub mod recorded;
pub mod recordings;
pub mod results;
pub mod scenario;
pub mod stream;
pub mod synthetic;
pub mod tables;
pub mod tally;
pub mod variants;
