//! Git, as far as the suites under test need it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs git in this folder.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new("git").args(arguments).current_dir(folder).status();
    ensure!(status.context("git is needed")?.success(), "git {arguments:?} failed");
    Ok(())
}

/// Commits all that is in this folder.
pub(crate) fn commit_all(folder: &Path) -> Result<()> {
    git(folder, &["add", "-A"])?;
    git(folder, &["-c", "user.name=e2e", "-c", "user.email=e2e@localhost", "commit", "-q", "-m", "change"])
}
