//! Runs benches in containers of the box's Docker daemon: what the launcher is for processes, the daemon is for images.
//!
//! ```text
//!   agent ── Unix socket ── dockerd ── containerd-shim ── a fresh container for each invocation
//! ```
//! A container is created before and removed after what is timed; while it runs, the agent waits for its end, takes what
//! it writes, and asks the daemon nothing. Whatever a killed agent leaves, by its label, its guard removes, or else its next
//! start; before that, if both were killed, whoever takes its cores.
//!
//! It must never pull, load or build while a bench runs, give a container more than the bench's user may have, or set a
//! quota on its CPU time: throttling stops it for tens of milliseconds at a time.

mod archive;
mod create;
mod daemon;
mod guard;
mod images;
mod life;
mod output;
mod processes;
mod usage;

pub(crate) use daemon::{Daemon, DaemonError, EMPTY_LOOKS, until_empty};
pub(crate) use guard::{Guard, main_if_asked as guard_main_if_asked};
pub(crate) use images::StagedImage;
pub(crate) use life::{Place, Run};

use std::path::Path;

/// Where a container finds its own folder: `HOME`, and where it puts its result.
pub(crate) const HOME: &str = "/darwin";
/// Where it may put what it does not keep: in memory, gone with the container.
pub(crate) const TMP: &str = "/tmp";

/// The result's path as the container sees it, from the one on the box.
pub(crate) fn output_inside(output: &Path) -> std::path::PathBuf {
    Path::new(HOME).join(output.file_name().unwrap_or_default())
}

/// Why a container did not run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    /// The command cannot be run in this image: trying again or elsewhere does not help.
    #[error("{0}")]
    Command(String),
    /// The box or its daemon failed.
    #[error("{0}")]
    Box(String),
}

impl ContainerError {
    /// The daemon did not do what it was asked to.
    fn daemon(doing: &str, error: &bollard::errors::Error) -> Self {
        Self::Box(format!("the Docker daemon could not {doing}: {error}"))
    }
}
