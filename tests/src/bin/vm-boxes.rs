//! `make test-vm`: the agent on boxes that this machine is not, with kernels of their own.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use darwin_tests::vm;

/// Boots virtual boxes, runs coordinator and agent in them, and looks whether what they did is right.
#[derive(Debug, Parser)]
struct Arguments {
    /// The kernel that they boot: Linux 6.7 or later
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Only the boxes of which the name has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Print all that was seen on the boxes
    #[arg(long)]
    verbose: bool,
}

#[expect(clippy::print_stdout, reason = "a program that prints what it found")]
fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut failed = 0;
    for guest in vm::GUESTS.iter().filter(|guest| guest.name.contains(&arguments.only)) {
        let seen = guest.boot(&arguments.kernel)?;
        if arguments.verbose {
            println!("{seen}");
        }
        println!("{}", guest.name);
        for (what, right) in guest.judge(&seen) {
            failed += u32::from(right.is_err());
            match right {
                Ok(()) => println!("  ok      {what}"),
                Err(found) => {
                    let found = found.trim_end().replace('\n', "\n          ");
                    println!("  FAILED  {what}\n          {found}");
                }
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
