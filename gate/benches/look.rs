//! What a decision costs: boundaries that are new, one look over many series, ten thousand benches.
//!
//! Prints and never fails: what the numbers should be stands beside them. `cargo bench -p darwin-gate`.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark measures time, prints it, and may stop at what is broken"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use darwin_gate::bounds::Boundaries;
use darwin_gate::policy::default_looks;
use darwin_gate::{
    Block, Builds, EndOfData, Evidence, Gate, LatencyStat, Metric, Observation, Policy, SeriesKey, Unit,
    order,
};

const SEED: u64 = 7;

/// A log ratio without any generator: spread over +-2%, another for every series and round.
fn noise(series: usize, round: u32) -> f64 {
    let mixed = (series as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ u64::from(round + 1).wrapping_mul(0xD1B5_4A32_D192_ED03);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / f64::from(1 << 24) * 0.04
        - 0.02
}

fn block(round: u32, keys: &[SeriesKey]) -> Block {
    let side = |challenger: bool| -> BTreeMap<SeriesKey, Observation> {
        let value = |at: usize| 1_000.0 * if challenger { noise(at, round).exp() } else { 1.0 };
        let seen = |at| Observation {
            value: value(at),
            samples: 5_000,
            evidence: Evidence::A,
            unit: Unit::Nanoseconds,
        };
        keys.iter().enumerate().map(|(at, key)| (key.clone(), seen(at))).collect()
    };
    Block {
        round,
        order: order(SEED, round),
        baseline: side(false),
        challenger: side(true),
        builds: Builds::default(),
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = black_box(work());
    (done, start.elapsed())
}

fn boundaries() {
    for max_pairs in [40, 160, 10_080] {
        let looks = default_looks(max_pairs);
        // An alpha that nothing asked for before.
        let (_, new) = timed(|| Boundaries::new(&looks, 0.0123));
        let (_, again) = timed(|| Boundaries::new(&looks, 0.0123));
        println!(
            "boundaries of {:2} looks: {new:>10.1?} new (at most 50 ms), {again:>8.1?} again",
            looks.len()
        );
    }
}

/// The time of the last push before each look and of the look itself.
fn looks(benches: usize, stats: &[LatencyStat], max_pairs: u32) {
    let bench = |at: usize| format!("bench {at:05}");
    let keys: Vec<SeriesKey> = (0..benches)
        .flat_map(|at| stats.iter().map(move |stat| SeriesKey::new(bench(at), Metric::Latency(*stat))))
        .collect();
    let policy = Policy::default().with_max_pairs(max_pairs);
    for pass in ["first", "second"] {
        let mut gate = Gate::new(policy.clone(), Some(SEED)).unwrap();
        let (mut looks, mut last_look, mut quiet) = (Vec::new(), Duration::ZERO, Duration::ZERO);
        for round in 0..max_pairs {
            let block = block(round, &keys);
            let (_, took) = timed(|| gate.push(&block).unwrap());
            if gate.verdict().is_some() {
                last_look = took;
                break;
            }
            if policy.looks.contains(&(round + 1)) {
                looks.push(took);
            } else {
                quiet = quiet.max(took);
            }
        }
        let (_, asked) = timed(|| gate.finish(EndOfData::TimeBudget));
        looks.sort();
        let (median, slowest) = (looks.get(looks.len() / 2), looks.last());
        println!(
            "{:5} series, {max_pairs:3} pairs, {pass} gate: look {:.1?}, slowest {:.1?}, verdict {last_look:>9.1?}, \
             other pushes {quiet:>9.1?}, asked again {asked:>9.1?}",
            keys.len(),
            median.copied().unwrap_or_default(),
            slowest.copied().unwrap_or_default(),
        );
    }
}

fn main() {
    boundaries();
    println!("a look over 36 series and 160 pairs should take at most 1 ms:");
    looks(12, &[LatencyStat::P50, LatencyStat::P99, LatencyStat::P90], 160);
    println!("ten thousand benches should take seconds, not minutes:");
    looks(10_000, &[LatencyStat::P50], 40);
}
