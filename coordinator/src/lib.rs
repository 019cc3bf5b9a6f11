//! The coordinator: takes jobs, gives them to agents, keeps the ledger, speaks the verdicts.
//!
//! It is the shell around [`darwin_coordinator_core`]: one loop (`driver.rs`) selects, steps the core, persists, performs.
//! Services turn gRPC into inputs for the loop; stores are traits with an embedded engine each.

mod config;
mod driver;
mod handle;
mod health;
mod rpc;
mod server;
pub mod stores;
#[cfg(test)]
#[path = "../core/tests/sim/jobs.rs"]
#[expect(dead_code, reason = "of these specs and rounds only some are wanted here")]
mod test_jobs;

pub use config::{ConfigError, CoordinatorConfig};
pub use driver::DriverError;
pub use handle::{CallError, Handle, Stopping, Submit};
pub use server::{Server, ServerError};
