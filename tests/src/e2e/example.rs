//! The shipped example as a git repository with a branch for each change.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::git::{commit_all, git};

/// The branch whose benches are those of `main`: only a line of its README is other.
pub(super) const SAME: &str = "same";
const CHANGES: [&str; 2] = ["slower-20", "slower-5"];

/// A repository of `examples/orderbook` whose suite names this plan.
#[derive(Debug)]
pub struct Example {
    /// Its folder.
    pub folder: PathBuf,
}

impl Example {
    /// Copies the example from the product's sources at `sources`, with the branches `main`, `same` and one for each
    /// change.
    pub fn create(sources: &Path, folder: PathBuf, plan: &str) -> Result<Self> {
        let from = sources.join("examples/orderbook");
        ensure!(from.is_dir(), "{} is not there: run this from the repository's root", from.display());
        let example = Self { folder };
        std::fs::create_dir_all(&example.folder)?;
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(format!("{}/.", from.display())).arg(&example.folder);
        ensure!(copy.status()?.success(), "cannot copy the example");
        let toml = example.folder.join("darwin.toml");
        let text = std::fs::read_to_string(&toml)?;
        let suite = "[suite.hotpath]\n";
        ensure!(text.contains(suite), "the example's darwin.toml has no suite hotpath");
        std::fs::write(&toml, text.replace(suite, &format!("{suite}plan = \"{plan}\"\n")))?;
        git(&example.folder, &["init", "-q", "-b", "main"])?;
        commit_all(&example.folder)?;
        git(&example.folder, &["switch", "-q", "-c", SAME])?;
        let readme = example.folder.join("README.md");
        let text = std::fs::read_to_string(&readme)?;
        std::fs::write(&readme, format!("{text}\nNothing else is different on this branch.\n"))?;
        commit_all(&example.folder)?;
        for change in CHANGES {
            git(&example.folder, &["switch", "-q", "-c", change, "main"])?;
            git(&example.folder, &["apply", &format!("changes/{change}.patch")])?;
            commit_all(&example.folder)?;
        }
        git(&example.folder, &["switch", "-q", "main"])?;
        Ok(example)
    }
}
