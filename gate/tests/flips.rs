//! The error of the boundaries under the coin itself: every sign pattern of the scores is equally likely.
//!
//! Bar: at most 1.1 times what was meant to be spent, whatever the magnitudes are.

mod common;

use common::Noise;
use darwin_gate::bounds::{Boundaries, late_spending};
use darwin_gate::policy::default_looks;
use darwin_gate::score::Pairs;

const LIMIT: f64 = 1.1;
/// Scores are multiples of one over this, so that sums of them lie on a lattice and can be counted exactly.
const LATTICE: f64 = 64.0;

/// The chance that a random sign pattern of `scores` crosses a boundary at some look: exact, by counting.
fn crossing_chance(scores: &[u32], looks: &[u32], boundaries: &Boundaries) -> f64 {
    let reach: usize = scores.iter().map(|s| *s as usize).sum();
    let mut chance = vec![0.0; 2 * reach + 1];
    chance[reach] = 1.0;
    let (mut crossed, mut squares, mut look) = (0.0, 0.0, 0);
    for (pair, score) in (1_u32..).zip(scores) {
        let step = *score as usize;
        let mut next = vec![0.0; chance.len()];
        for (at, p) in chance.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            next[at + step] += p / 2.0;
            next[at - step] += p / 2.0;
        }
        squares += f64::from(score * score);
        if looks.get(look) == Some(&pair) {
            for (at, p) in next.iter_mut().enumerate().skip(reach) {
                if (at - reach) as f64 / squares.sqrt() >= boundaries.at(look) {
                    crossed += std::mem::take(p);
                }
            }
            look += 1;
        }
        chance = next;
    }
    crossed
}

fn on_lattice(score: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a score is in 0..=1")]
    let steps = (score * LATTICE).round() as u32;
    steps
}

/// Four shapes of clipped magnitudes: all at the clip, uniform, half of them near zero, a clipped normal.
fn shapes(noise: &mut Noise, pairs: u32) -> [(&'static str, Vec<u32>); 4] {
    let mut fill = |f: &mut dyn FnMut(&mut Noise, u32) -> f64| -> Vec<u32> {
        (0..pairs).map(|k| on_lattice(f(noise, k))).collect()
    };
    [
        ("all equal", fill(&mut |_, _| 1.0)),
        ("uniform", fill(&mut |noise, _| noise.uniform())),
        ("half zero", fill(&mut |_, k| if k % 2 == 1 { 1.0 } else { 0.02 })),
        ("clipped normal", fill(&mut |noise, _| (noise.normal().abs() / 0.74).min(1.0))),
    ]
}

#[test]
fn every_boundary_in_use_keeps_its_error() {
    let mut noise = Noise::new(9);
    let mut worst: f64 = 0.0;
    for max_pairs in [10, 12, 13, 18, 33, 40, 80, 160] {
        let looks = default_looks(max_pairs);
        // The usual alpha, alone and shared by 2 to 49 tests, and stricter ones. At 5%, far from any use of the gate,
        // few pairs are too coarse a lattice for these boundaries: up to 1.2 times alpha at 12 pairs.
        for alpha in
            [0.01, 0.01 / 2.0, 0.01 / 3.0, 0.01 / 4.0, 0.01 / 12.0, 0.01 / 36.0, 0.01 / 49.0, 0.001, 1e-4]
        {
            let boundaries = Boundaries::of_plan(&looks, alpha);
            for (shape, scores) in shapes(&mut noise, max_pairs) {
                let ratio = crossing_chance(&scores, &looks, &boundaries) / alpha;
                assert!(ratio <= LIMIT, "{max_pairs} pairs, alpha {alpha}, {shape}: {ratio:.3} times alpha");
                worst = worst.max(ratio);
            }
        }
    }
    println!("worst boundary: {worst:.3} times its alpha");
    assert!(worst > 0.9, "nothing comes near its alpha: the boundaries are not what was tested");
}

#[test]
fn an_unplanned_last_look_keeps_the_error() {
    // The looks before the end keep what they spent of the plan to 40, and the last one spends the rest.
    let plan = default_looks(40);
    for alpha in [0.01, 0.01 / 3.0, 0.01 / 4.0] {
        let planned = late_spending(&plan, alpha);
        for end in (11..40).filter(|end| !plan.contains(end)) {
            let (mut looks, mut spent): (Vec<u32>, Vec<f64>) =
                plan.iter().copied().zip(planned.iter().copied()).filter(|(look, _)| *look < end).unzip();
            looks.push(end);
            spent.push(alpha);
            let boundaries = Boundaries::with_unplanned_last(&looks, &spent);
            for (shape, scores) in shapes(&mut Noise::new(10), end) {
                let ratio = crossing_chance(&scores, &looks, &boundaries) / alpha;
                assert!(ratio <= 1.0, "end at {end}, alpha {alpha:.1e}, {shape}: {ratio:.3} times alpha");
            }
        }
    }
}

#[test]
fn the_score_keeps_it_though_its_scale_moves_from_look_to_look() {
    // Magnitudes as heavy-tailed as a contended box; the signs alone are random.
    let looks = default_looks(40);
    let boundaries = Boundaries::of_plan(&looks, 0.01);
    let mut noise = Noise::new(11);
    let (trials, mut crossed) = (20_000_u32, 0_u32);
    for _ in 0..trials {
        let d: Vec<f64> = (0..40)
            .map(|_| {
                let magnitude = 0.02 * noise.normal().abs() / noise.uniform().powf(0.4);
                if noise.uniform() < 0.5 { magnitude } else { -magnitude }
            })
            .collect();
        let at =
            |(look, pairs): (usize, &u32)| Pairs::new(&d[..*pairs as usize]).z(0.0) >= boundaries.at(look);
        crossed += u32::from(looks.iter().enumerate().any(at));
    }
    // Nominal 200; above 264 has probability below 1e-5 at 1.0 times nominal.
    println!("{crossed} of {trials} sign patterns crossed; nominal 200");
    assert!(crossed <= 264, "{crossed}");
}
