//! What is changed on a box while benches run, and how it is put back.
//!
//! ```text
//!   wish --(the value now)--> planned --> written --> read back --+--> undone
//!                                |           |            |       +--> changed by someone else: left alone
//!                                '-----------+------------+-----> impossible
//! ```
//! [`Journal`] knows what was changed and decides what is done next; the caller reads, writes, and keeps the records on
//! disk, each before what it is about. Decisions are values; nothing here touches a box.

mod fifo;
mod journal;
#[cfg(test)]
mod property_tests;
mod value;
mod wish;

pub use fifo::{FifoFacts, FifoRefusal, FifoUse, may_use_fifo, rest_after};
pub use journal::{Back, Entry, Journal, Reading, Record, Stage, Undo, Wrong};
pub use value::{Form, Knob};
pub use wish::{Choices, HugePages, Place, Want, Wish, wishes};
