//! Sliced pairs: the two processes of a pair, alive at once, take turns on one core.
//!
//! [`Conductor`] decides who goes next and what the pair comes to; [`FrameReader`] and [`encode`] are the protocol's
//! frames (`docs/sliced.md`). Nothing here knows pipes, processes or clocks.

mod conductor;
mod frame;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

pub use conductor::{Await, Conductor, Do, End, News, SLICE, SLICES, Setting, Settled};
pub use frame::{BenchFrame, FrameError, FrameReader, MAX_NAME_BYTES, ToBench, encode};
