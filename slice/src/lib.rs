//! For authors of benches in Rust: makes a bench run in slices of a few milliseconds, taking turns with the
//! other side of a comparison on the same core, so that a slow phase of the box hits both alike.
//!
//! darwin's agent starts the bench with `DARWIN_SLICE` in its environment; docs/sliced.md describes what is
//! spoken. Without the variable the same program is an ordinary bench: it warms up and makes a number of calls.
//!
//! ```no_run
//! use darwin_slice::{Plan, Slices, save};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let output = std::env::args().nth(1).ok_or("usage: mybench OUTPUT")?;
//!     let mut slices = Slices::from_env()?;
//!     let words: Vec<String> = (0..500).map(|number| format!("word {number}")).collect();
//!
//!     let join = slices.run("words/join", &Plan::default(), || words.join(" "))?;
//!     let sort = slices.run("words/sort", &Plan::default().plain_samples(2_000), || {
//!         let mut copy = words.clone();
//!         copy.sort();
//!         copy
//!     })?;
//!     save(output.as_ref(), "mybench", &[join, sort])?;
//!     Ok(())
//! }
//! ```
//! In `darwin.toml`: `run = "target/release/mybench {output}"` and `format = "darwin-samples"`.
//!
//! A harness with a loop of its own asks for the slices one by one: see [`Session`].
//!
//! What it does not do: no thread, no allocation and no system call but the clock's between two calls of a
//! slice. It never exits the process: when the agent is gone, [`SliceError::AgentGone`] comes up, and a bench
//! must end with it.

mod ends;
mod plan;
mod results;
mod samples;
mod session;
mod wire;

pub use ends::{OpenError, VARIABLE};
pub use plan::Plan;
pub use results::{SCHEMA, save, write};
pub use samples::Samples;
pub use session::{Session, Slice, Slices};
pub use wire::{MAX_NAME_BYTES, SliceError};
