//! What runs, whatever runs it: the one door through which both executors are used.

use std::time::Duration;

use crate::docker;
use crate::exec::{Ended, Run, Started};

/// A process tree of the slot's launcher, or a container. Dropping it ends it.
#[derive(Debug)]
pub(super) enum Running<'a> {
    /// By the launcher.
    Process(Run<'a>),
    /// By the Docker daemon.
    Container(docker::Run),
}

impl Running<'_> {
    /// Its process, when it started, and what took effect.
    pub(super) const fn started(&self) -> &Started {
        match self {
            Self::Process(run) => run.started(),
            Self::Container(run) => run.started(),
        }
    }

    /// Waits until it and everything that it started are gone; or why that is not known. Giving up waiting loses nothing.
    pub(super) async fn wait(&mut self) -> Result<Ended, String> {
        match self {
            Self::Process(run) => run.wait().await.map_err(|error| error.to_string()),
            Self::Container(run) => run.wait().await.map_err(|error| error.to_string()),
        }
    }

    /// Ends it: SIGTERM, and after the grace SIGKILL to all of it; a grace of zero kills at once. `wait` says when it is
    /// gone.
    pub(super) async fn kill(&mut self, grace: Duration) -> Result<(), String> {
        match self {
            Self::Process(run) => run.kill(grace).await.map_err(|error| error.to_string()),
            Self::Container(run) => {
                run.kill(grace);
                Ok(())
            }
        }
    }
}
