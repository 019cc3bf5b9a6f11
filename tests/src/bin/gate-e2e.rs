//! `make gate-e2e`: how often the verdict of a real compare is right, beside a busy neighbour.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Parser;
use darwin_tests::e2e::{self, Counts, Kind, Settings};
use statrs::distribution::{Binomial, DiscreteCDF};

/// Compares the shipped example under a real agent beside a busy neighbour, and counts the verdicts.
#[derive(Debug, Parser)]
struct Arguments {
    /// The repository that holds examples/orderbook
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    sources: PathBuf,
    /// Compares of the same benches
    #[arg(long, value_name = "N", default_value_t = 40)]
    same: u32,
    /// Compares of each slower change
    #[arg(long, value_name = "N", default_value_t = 20)]
    slower: u32,
    /// Only this kind: same, slower-20, slower-5-sliced, slower-5-plain
    #[arg(long, value_name = "KIND")]
    only: Option<String>,
}

/// What a kind must show of so many compares; the text says it.
fn miss(kind: Kind, counts: &Counts) -> (String, bool) {
    let total = counts.total();
    match kind {
        Kind::Same => {
            let wrong = counts.approved + counts.rejected;
            ("at most 1 of 40 wrong".to_owned(), wrong * 40 > total.max(40))
        }
        Kind::Slower20 => ("REJECT in 19 of 20".to_owned(), counts.rejected * 20 < total * 19),
        Kind::Slower5Sliced => (
            "REJECT in 18 of 20, never APPROVE".to_owned(),
            counts.approved > 0 || counts.rejected * 20 < total * 18,
        ),
        Kind::Slower5Plain => {
            let chance = counts.predicted.unwrap_or(0.0);
            let least = least_of(total, chance);
            let text = format!(
                "REJECT in {least} or more (the planner gives each a chance of {:.0}%), never APPROVE",
                100.0 * chance
            );
            (text, counts.approved > 0 || u64::from(counts.rejected) < least)
        }
    }
}

/// The fewest successes of so many tries with this chance that are no surprise: fewer have a chance below 5%.
fn least_of(tries: u32, chance: f64) -> u64 {
    Binomial::new(chance, u64::from(tries)).map_or(0, |successes| successes.inverse_cdf(0.05))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wanted = |kind: &Kind| arguments.only.as_deref().is_none_or(|only| only == kind.name());
    let counts: BTreeMap<Kind, u32> = Kind::ALL
        .into_iter()
        .filter(wanted)
        .map(|kind| (kind, if kind == Kind::Same { arguments.same } else { arguments.slower }))
        .collect();
    if counts.is_empty() {
        bail!("there is no such kind: same, slower-20, slower-5-sliced or slower-5-plain");
    }
    let settings = Settings { sources: arguments.sources, counts };
    let mut number = 0_u32;
    let all = e2e::run(&settings, |kind, line| {
        number += 1;
        eprintln!("{number} {}: {line}", kind.name());
    })?;
    println!(
        "| compare | APPROVE | REJECT | INCONCLUSIVE | pairs, mean | seconds, mean | must be | reached |"
    );
    println!("|---|---:|---:|---:|---:|---:|---|---|");
    let mut missed = false;
    for (kind, counts) in &all {
        let (bar, missed_here) = miss(*kind, counts);
        missed |= missed_here;
        println!(
            "| {} | {} | {} | {} | {:.1} | {:.1} | {bar} | {} |",
            kind.name(),
            counts.approved,
            counts.rejected,
            counts.inconclusive,
            counts.mean_pairs(),
            counts.mean_seconds(),
            if missed_here { "**no**" } else { "yes" }
        );
    }
    if missed {
        bail!("a bar was missed");
    }
    Ok(())
}
