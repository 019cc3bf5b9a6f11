//! Families: one gate over twelve benches with three metrics each, 36 tests that share alpha.

use darwin_gate::{Mode, Order, order};
use rand::RngCore;
use rand::seq::index;

use crate::gather::gather;
use crate::jury::{Bench, JuryError, MEAN, Margins, P50, P99, block, policy, verdict};
use crate::stream::{Purpose, stream};
use crate::synthetic::Kept;
use crate::tally::Tally;
use crate::variants::Round;

/// Benches in a family.
pub const BENCHES: usize = 12;
/// The most pairs of a family's job.
const MAX_PAIRS: u32 = 40;
/// Families in one piece of work.
const CHUNK: u32 = 10;

/// The verdicts over families of one model.
#[derive(Debug, Default)]
pub struct Families {
    /// Nothing changed.
    pub same: Tally,
    /// One bench of the twelve is 5% slower.
    pub one_slower: Tally,
}

/// Draws families of benches out of kept trials of a model, each with a coin of its own, and asks the gate.
pub fn run(cell: u8, kept: &[Kept], seed: u64, families: u32) -> Result<Families, JuryError> {
    let policy = policy(Margins::SYNTHETIC, MAX_PAIRS, Mode::Faster)?;
    let names: Vec<Bench> =
        (1..=BENCHES).map(|bench| Bench::new(&format!("bench {bench:02}"), &[P50, MEAN, P99])).collect();
    let ask = |number: u32, change: f64| {
        let mut rng = stream(seed, Purpose::Family, cell, number);
        let coin = rng.next_u64();
        let members: Vec<&Kept> =
            index::sample(&mut rng, kept.len(), BENCHES.min(kept.len())).iter().map(|i| &kept[i]).collect();
        let blocks = (0..MAX_PAIRS).filter_map(|round| {
            let rounds: Vec<(&Bench, Round)> = names
                .iter()
                .zip(&members)
                .enumerate()
                .map(|(bench, (name, member))| {
                    // The last bench, so that the others had their turn first.
                    let change = if bench + 1 == BENCHES { change } else { 0.0 };
                    (name, round_of(member, coin, round, change))
                })
                .collect();
            block(round, &rounds)
        });
        verdict(&policy, coin, blocks)
    };
    let add = |sum: &mut Families, other: Families| {
        sum.same.add(&other.same);
        sum.one_slower.add(&other.one_slower);
    };
    gather(families, CHUNK, add, |number, sum| {
        sum.same.note(&ask(number, 0.0)?, &[]);
        sum.one_slower.note(&ask(number, 0.05)?, &[]);
        Ok(())
    })
}

fn round_of(kept: &Kept, coin: u64, round: u32, change: f64) -> Round {
    let first = 2 * round as usize;
    let order = order(coin, round);
    let (baseline, challenger) = match order {
        Order::BaselineFirst => (first, first + 1),
        Order::ChallengerFirst => (first + 1, first),
    };
    Round { order, baseline: kept.baseline(baseline), challenger: kept.challenger(challenger, change) }
}
