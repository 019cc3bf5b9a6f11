//! The coordinator's settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use darwin_coordinator_core::Settings;
use thiserror::Error;

/// The coordinator: takes jobs, gives them to agents, keeps the ledger, speaks the verdicts.
#[derive(Debug, Clone, Parser)]
#[command(name = "darwin-coordinator", version)]
pub struct CoordinatorConfig {
    /// Where to listen. Only loopback: other addresses need TLS, which this version does not have.
    #[arg(long, env = "DARWIN_LISTEN", default_value = "127.0.0.1:7411", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The folder of ledger, archive and blobs. It belongs to one coordinator at a time.
    #[arg(
        long,
        env = "DARWIN_STATE_DIR",
        default_value = "/var/lib/darwin/coordinator",
        value_name = "FOLDER"
    )]
    pub state_dir: PathBuf,
    /// How long an agent may measure without being heard before it stops by itself.
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub lease: Duration,
    /// How much longer to wait before a silent agent's job is given to another.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub grace: Duration,
    /// The most jobs that may wait.
    #[arg(long, default_value_t = Settings::default().queued_max, value_name = "COUNT")]
    pub queued_max: usize,
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// An address that others could reach.
    #[error(
        "refusing to listen on {0}: without TLS only loopback addresses are allowed, for anybody who could connect \
         could run programs on the agents' boxes; use 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// A lease that would end at once or never.
    #[error("`--{what}` is {}; it must be from 100ms to 1h", humantime::format_duration(*got))]
    Duration {
        /// The flag.
        what: &'static str,
        /// Its value.
        got: Duration,
    },
}

/// The shortest and the longest lease and grace.
const DURATIONS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);

impl CoordinatorConfig {
    /// Checks what clap cannot, and gives the core's settings.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        if !self.listen.ip().is_loopback() {
            return Err(ConfigError::NotLoopback(self.listen));
        }
        for (what, got) in [("lease", self.lease), ("grace", self.grace)] {
            if !DURATIONS.contains(&got) {
                return Err(ConfigError::Duration { what, got });
            }
        }
        Ok(Settings {
            lease: self.lease,
            grace: self.grace,
            // Three renewals in a lease: two may be lost.
            renew_every: self.lease / 3,
            queued_max: self.queued_max,
            ..Settings::default()
        })
    }
}
