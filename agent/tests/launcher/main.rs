//! The launcher as a real process: what it starts, how it ends it, and that nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
mod confining;
mod deaths;
mod ending;
mod output;
mod placing;
mod starting;
mod using;
