//! `make bench`: measures the product and writes what it found.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use darwin_tests::bench::{self, Line, Report};

/// Measures speed and memory of this build, as ratios and counts within one run.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this part: throughput, latency, memory, round, gate, decision, plans, isolation, docker
    #[arg(long)]
    part: Option<String>,
    /// Write the table into this file, between its two marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

type Part = (&'static str, fn() -> Result<Vec<Line>>);

const PARTS: [Part; 9] = [
    ("throughput", bench::throughput),
    ("latency", bench::latency),
    ("memory", bench::queue_memory),
    ("round", bench::agent_cpu_in_a_round),
    ("gate", bench::gate_on_files),
    ("decision", bench::decision),
    ("plans", bench::plans),
    ("isolation", bench::isolation),
    ("docker", bench::containers),
];

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report::default();
    for (name, measure) in PARTS {
        if arguments.part.as_deref().is_none_or(|wanted| wanted == name) {
            eprintln!("measuring {name} …");
            report.add(measure().with_context(|| format!("part {name}"))?);
        }
    }
    let table = report.to_markdown();
    println!("{table}");
    if let Some(path) = arguments.write {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let (before, rest) = text.split_once(BEGIN).context("the file has no begin mark")?;
        let (_, after) = rest.split_once(END).context("the file has no end mark")?;
        std::fs::write(&path, format!("{before}{BEGIN}\n{table}{END}{after}"))?;
    }
    Ok(())
}
