//! The words of Darwin's domain: ids, job specs, states, samples, formats, reports.
//!
//! Everything here is plain data and pure functions over it. Nothing here opens a file, reads a clock or talks
//! to the network: the daemons do that, around these types.

pub mod artifact;
pub mod attempt;
pub mod config;
pub mod cpu;
pub mod exit_code;
pub mod fleet;
pub mod formats;
pub mod ids;
pub mod image;
pub mod probe;
pub mod report;
pub mod round;
pub mod sample;
pub mod spec;
pub mod state;
pub mod text;
pub mod units;
pub mod usage;
pub mod used;
pub mod void;
mod words;
