//! Error and power of the whole gate on seeded noise. The full proof over all noise models is apart from this.

mod common;

use common::{Noise, P50, P99, binomial_bound, block, key, run};
use darwin_gate::{Block, Decision, Policy};

const TRIALS: u32 = 2_000;

/// One job of 40 pairs: p50 with noise per process and rare slow processes, p99 noisier; both shifted.
fn job(noise: &mut Noise, shift: f64) -> Vec<Block> {
    (0..40)
        .map(|round| {
            let mut process = || 0.02 * noise.normal() + if noise.uniform() < 0.1 { 0.06 } else { 0.0 };
            // Both processes have their noise: a baseline without any would be another build.
            let (a, b) = (process(), process());
            let (a_tail, b_tail) = (a + 0.03 * noise.normal(), b + 0.03 * noise.normal());
            let p50 = (key("b", P50), 1e3 * a.exp(), b - a + shift);
            block(round, &[p50, (key("b", P99), 4e3 * a_tail.exp(), b_tail - a_tail + shift)])
        })
        .collect()
}

fn shares(seed: u64, trials: u32, shift: f64) -> (u32, u32) {
    let mut noise = Noise::new(seed);
    let (mut approved, mut rejected) = (0, 0);
    for _ in 0..trials {
        match run(Policy::default(), &job(&mut noise, shift)).decision {
            Decision::Approve => approved += 1,
            Decision::Reject => rejected += 1,
            Decision::Inconclusive => {}
        }
    }
    (approved, rejected)
}

#[test]
fn identical_builds_are_rarely_judged() {
    // Nominal: 1% wrong APPROVE and 1% wrong REJECT. A gate at exactly that fails this with probability 1e-6.
    let (approved, rejected) = shares(20, TRIALS, 0.0);
    let (each, both) = (binomial_bound(TRIALS, 0.01, 1e-6), binomial_bound(TRIALS, 0.02, 1e-6));
    assert!((20..60).contains(&each) && (40..90).contains(&both), "the bounds are {each} and {both}");
    assert!(approved <= each && rejected <= each, "{approved} approved, {rejected} rejected, bound {each}");
    assert!(approved + rejected <= both, "{approved} + {rejected}, bound {both}");
    println!("identical builds: {approved} approved, {rejected} rejected of {TRIALS}");
}

#[test]
fn five_percent_is_found_and_never_mistaken() {
    let (approved, rejected) = shares(21, 200, 0.05);
    assert_eq!(approved, 0);
    assert!(rejected >= 196, "{rejected} of 200 rejected");
    let (approved, rejected) = shares(22, 200, -0.05);
    assert_eq!(rejected, 0);
    assert!(approved >= 180, "{approved} of 200 approved");
}
