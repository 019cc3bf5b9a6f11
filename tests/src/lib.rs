//! End-to-end tests and benchmarks over the real binaries.
//!
//! [`World`] starts a coordinator and agents as processes of their own, in folders of their own, on loopback ports of
//! their own; the tests in `tests/` and the program `darwin-bench` drive them as a user would.

pub mod bench;
pub mod chaos;
pub mod e2e;
mod git;
pub mod images;
pub mod proc_fs;
mod suite;
pub mod vm;
mod world;

pub use suite::Suite;
pub use world::{Daemon, Finished, World, finish};
