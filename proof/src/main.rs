//! `make gate-proof`: runs the proof of the gate, prints every cell, and fails on a miss.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use darwin_proof::bars::{self, Bar};
use darwin_proof::results::{self, Request};
use darwin_proof::{page, plots, tables};

/// Proves the gate: its error, its power and its cost on seeded noise and on recordings, beside other tools' rules.
#[derive(Debug, Parser)]
struct Arguments {
    /// The seed of everything
    #[arg(long, default_value_t = 20_260_401)]
    seed: u64,
    /// Trials of every cell
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(50..=1_000_000))]
    trials: u32,
    /// Threads; all cores if 0
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Only these bars, such as B4; may be given more than once
    #[arg(long, value_name = "BAR", value_parser = bar)]
    only: Vec<Bar>,
    /// Write the tables and plots into this folder: gate.md and gate/*.svg
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

fn bar(text: &str) -> Result<Bar, String> {
    let named = Bar::ALL.into_iter().find(|bar| bar.to_string().eq_ignore_ascii_case(text));
    named.ok_or_else(|| format!("`{text}` is not a bar: they are B1 to B12"))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]
fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let started = Instant::now();
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let request = Request {
        seed: arguments.seed,
        trials: arguments.trials,
        only: arguments.only.into_iter().collect(),
    };
    let found = results::run(&request, |next| {
        eprintln!("{:5.0} s  {next}", started.elapsed().as_secs_f64());
    })?;
    let checks = bars::check(&request, &found);
    let mut last = None;
    for check in &checks {
        if last.replace(check.bar) != Some(check.bar) {
            println!("\n{}  {}", check.bar, check.bar.claim());
        }
        let result = if check.passed() { "PASS" } else { "MISS" };
        println!("  {result}  {}: {}", check.cell, check.measured);
    }
    let tables = tables::all(&request, &found, &checks);
    for table in tables.iter().filter(|table| table.name != "bars") {
        println!("\n{}\n\n{}", table.name, table.text);
    }
    if let Some(folder) = arguments.write {
        page::write_tables(&folder.join("gate.md"), &tables)?;
        let plots_folder = folder.join("gate");
        std::fs::create_dir_all(&plots_folder).with_context(|| plots_folder.display().to_string())?;
        for plot in plots::all(&found)? {
            page::write(&plots_folder.join(plot.file), &plot.svg)?;
        }
    }
    let missed = checks.iter().filter(|check| !check.passed()).count();
    println!(
        "\n{} checks, {missed} missed; seed {}, {} trials a cell, {:.0} s",
        checks.len(),
        request.seed,
        request.trials,
        started.elapsed().as_secs_f64()
    );
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
