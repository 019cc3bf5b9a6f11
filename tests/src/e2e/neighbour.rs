//! A busy neighbour: a process that computes without end, on whatever CPU the kernel gives it.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Ended when it is dropped.
#[derive(Debug)]
pub(super) struct Neighbour(Child);

impl Neighbour {
    pub(super) fn start() -> Result<Self> {
        let child = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the neighbour")?;
        Ok(Self(child))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have been ended by somebody else.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
