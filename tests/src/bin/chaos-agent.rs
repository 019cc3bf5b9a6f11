//! `make chaos-agent`: kills at random, and looks what is left.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use darwin_tests::chaos::{self, Settings};

/// Kills the agent, its launchers, containers and benches at every step of a lease, and looks what is left.
#[derive(Debug, Parser)]
struct Arguments {
    /// Draws what is killed and when; drawn itself without it
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// How many kills
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: u32,
    /// Leave containers out
    #[arg(long)]
    no_docker: bool,
    /// Where the agent's log is put if anything was left
    #[arg(long, value_name = "FILE", default_value = "target/chaos-agent.log")]
    log: PathBuf,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]
fn main() -> Result<ExitCode> {
    if chaos::look_if_asked()? {
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let settings = Settings {
        seed,
        kills: arguments.kills,
        docker: !arguments.no_docker,
        look_by: std::env::current_exe()?,
        keep_log: Some(arguments.log.clone()),
    };
    let report = chaos::run(&settings, &mut |line| eprintln!("{line}"))?;
    println!("{report}");
    if report.problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "the same dice again: --seed {seed} --kills {}; the agent's log: {}",
        arguments.kills,
        arguments.log.display()
    );
    Ok(ExitCode::FAILURE)
}
