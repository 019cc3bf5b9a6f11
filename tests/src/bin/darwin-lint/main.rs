//! Checks of this repository that no compiler makes: which crate may depend on which, whether the protocol still
//! means what it meant, and the house rules for files.
//!
//! `darwin-lint edges | proto [--update] | files | all`. What it finds goes to standard error, one finding a line
//! with what would be right; the exit code is 1 if there is any, 2 if it could not look.

mod edges;
mod files;
mod proto;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Checks of the repository that no compiler makes")]
struct Args {
    /// The repository's root; found from where this program was built, unless given.
    #[arg(long, global = true)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    check: Check,
}

#[derive(Subcommand)]
enum Check {
    /// Which crate may depend on which, and on what from outside.
    Edges,
    /// Whether the protocol still means what proto/darwin-v1.lock says.
    Proto {
        /// Write what was added into the lock file. What broke stays an error.
        #[arg(long)]
        update: bool,
    },
    /// The house rules for files.
    Files,
    /// All of them.
    All,
}

/// Something that is not as it should be: what, where, what would be right.
type Finding = String;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            say(&findings.join("\n"));
            say(&format!("darwin-lint: {} to mend", findings.len()));
            ExitCode::from(1)
        }
        Err(error) => {
            say(&format!("darwin-lint could not look: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) {
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn run(args: &Args) -> anyhow::Result<Vec<Finding>> {
    let root = match &args.root {
        Some(root) => root.clone(),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the tests crate has no folder above it")?
            .to_path_buf(),
    };
    match args.check {
        Check::Edges => edges::check(&root),
        Check::Proto { update } => proto::check(&root, update),
        Check::Files => files::check(&root),
        Check::All => {
            let mut findings = edges::check(&root)?;
            findings.extend(proto::check(&root, false)?);
            findings.extend(files::check(&root)?);
            Ok(findings)
        }
    }
}
