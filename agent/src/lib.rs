//! The agent: runs benches pinned on isolated cores and reports what it measured.
//!
//! ```text
//!   link ──── events ───> driver ── step ──> machine (darwin-agent-core, pure)
//!    ^                    │  │  │
//!    └──── messages ──────┘  │  └── tasks: stage/ and run/ ── exec/ ──> launchers ──> benches
//!                            └── spool/
//! ```
//! [`run`] is the whole agent; the `darwin-agent` binary and the embedded agent of `darwin` are thin shells around
//! it. Whoever calls it must call [`exec::launcher_main_if_asked`] first thing in `main`: the launchers are this
//! very program, started anew.

pub mod config;
pub mod cores;
pub mod exec;
pub mod host;
pub mod measure;

mod agent;
mod aside;
mod docker;
mod driver;
mod life;
mod link;
mod logs;
mod pin;
mod probe;
mod run;
mod sense;
mod show;
mod spool;
mod stage;
mod tune;

pub use agent::{AgentError, Shutdown, run, run_with};
pub use config::{AgentConfig, BenchLimits, ConfigError, Overrides, ProbeLengths, Tier};
pub use sense::{SensorView, sensor_report};
pub use show::sensor_table;
pub use tune::{RestoreError, Restored, restore};
