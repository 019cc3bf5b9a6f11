//! How often a gate finds a change, rehearsed on pairs of the same code.
//!
//! The formula of [`crate::plan`] knows one number of a box's noise and takes it for normal. A box with two speeds, or with
//! stalls now and then, is not: its spread is wide, and still most pairs tell a change well. So the gate itself is asked:
//! pairs of a calibration are drawn anew with replacement, in blocks of neighbours so that what lasts some rounds goes on
//! lasting (the moving-block bootstrap, Künsch 1989; the length by the cube root of their number, Hall, Horowitz and Jing
//! 1995). A coin says which side of a pair is the challenger, for both are the same code; then the challenger is made
//! slower, and the gate judges.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::block::{Block, BlockError, Builds, Observation};
use crate::coin::Order;
use crate::gate::{EndOfData, Gate};
use crate::metric::{Better, SeriesKey};
use crate::policy::{Policy, PolicyError};
use crate::verdict::Decision;

/// Rehearsals of one change: the chance is then known within 5 points (two standard deviations, at a half).
pub const TRIALS: u32 = 400;
/// Fewer are not worth a number: 10 points.
pub const TRIALS_MIN: u32 = 100;
/// How many series of how many pairs are drawn for one change, over all trials.
const WORK_MAX: u64 = 4_000_000;

/// What the gate said in the trials of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rehearsed {
    /// How many jobs were rehearsed.
    pub trials: u32,
    /// How many of them came to APPROVE.
    pub approved: u32,
    /// How many of them came to REJECT.
    pub rejected: u32,
}

impl Rehearsed {
    /// The share of jobs that came to REJECT, from 0 to 1.
    pub fn rejects(&self) -> f64 {
        f64::from(self.rejected) / f64::from(self.trials.max(1))
    }
}

/// Why nothing can be rehearsed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RehearsalError {
    /// There is nothing to draw from.
    #[error("there is no pair to draw from")]
    NoPairs,
    /// Builds are judged, and a calibration has one.
    #[error("relinked builds cannot be rehearsed on pairs of a single one")]
    Builds,
    /// So many series in so many pairs would take too long.
    #[error("{series} series in {pairs} pairs are too many to be rehearsed")]
    TooLarge {
        /// The series.
        series: usize,
        /// The pairs of a job.
        pairs: u32,
    },
    /// The policy judges nothing.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A pair that no gate takes.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// Rehearses jobs of this policy in which the challenger is worse by `log_effect` (a log ratio; negative is better) in every
/// series, on pairs of the same code. The same seed gives the same answer.
pub fn rehearse(
    policy: &Policy,
    pairs: &[Block],
    log_effect: f64,
    seed: u64,
) -> Result<Rehearsed, RehearsalError> {
    if policy.is_strict() {
        return Err(RehearsalError::Builds);
    }
    let series = pairs.first().ok_or(RehearsalError::NoPairs)?.baseline.len();
    let a_trial = u64::from(policy.max_pairs).saturating_mul(series.max(1) as u64);
    let trials = u32::try_from(WORK_MAX / a_trial.max(1)).unwrap_or(u32::MAX).min(TRIALS);
    if trials < TRIALS_MIN {
        return Err(RehearsalError::TooLarge { series, pairs: policy.max_pairs });
    }
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut rehearsed = Rehearsed { trials, approved: 0, rejected: 0 };
    for trial in 0..trials {
        match one_job(policy, pairs, log_effect, u64::from(trial), &mut dice)? {
            Decision::Approve => rehearsed.approved += 1,
            Decision::Reject => rehearsed.rejected += 1,
            Decision::Inconclusive => {}
        }
    }
    Ok(rehearsed)
}

fn one_job(
    policy: &Policy,
    pairs: &[Block],
    log_effect: f64,
    seed: u64,
    dice: &mut ChaCha8Rng,
) -> Result<Decision, RehearsalError> {
    let mut gate = Gate::new(policy.clone(), Some(seed))?;
    let neighbours = neighbours(pairs.len());
    let mut next = 0;
    for round in 0..policy.max_pairs {
        if (round as usize).is_multiple_of(neighbours) {
            next = below(dice, pairs.len() + 1 - neighbours);
        }
        gate.push(shifted(&pairs[next], round, dice.next_u32() & 1 == 1, log_effect))?;
        next += 1;
        if gate.verdict().is_some() {
            break;
        }
    }
    Ok(gate.finish(EndOfData::MaxPairs).decision)
}

/// How many neighbours are drawn together: the cube root of all, rounded; at least one, and never more than there are.
fn neighbours(pairs: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cube root of a count is a small positive number"
    )]
    let root = (pairs as f64).cbrt().round() as usize;
    root.clamp(1, pairs.max(1))
}

/// A number below `end`, which is at least 1. The excess of the lowest numbers is one in billions.
fn below(dice: &mut ChaCha8Rng, end: usize) -> usize {
    let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
    usize::try_from(dice.next_u64() % end).unwrap_or(0)
}

/// A pair as one of another job: perhaps with its sides exchanged, and with the challenger worse.
fn shifted(pair: &Block, round: u32, exchanged: bool, log_effect: f64) -> Block {
    let (baseline, challenger, order) = if exchanged {
        let order = match pair.order {
            Order::BaselineFirst => Order::ChallengerFirst,
            Order::ChallengerFirst => Order::BaselineFirst,
        };
        (&pair.challenger, &pair.baseline, order)
    } else {
        (&pair.baseline, &pair.challenger, pair.order)
    };
    let worse = |(series, seen): (&SeriesKey, &Observation)| {
        let factor = match series.metric.better() {
            Better::Smaller => log_effect.exp(),
            Better::Bigger => (-log_effect).exp(),
        };
        (series.clone(), Observation { value: seen.value * factor, ..*seen })
    };
    let challenger: BTreeMap<SeriesKey, Observation> = challenger.iter().map(worse).collect();
    Block { round, order, baseline: baseline.clone(), challenger, builds: Builds::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Evidence;
    use crate::metric::{LatencyStat, Metric, Unit};
    use crate::plan::{Question, robust_sd};

    /// Pairs of one series with these log ratios.
    fn pairs(log_ratios: &[f64]) -> Vec<Block> {
        let seen =
            |value| Observation { value, samples: 5_000, evidence: Evidence::A, unit: Unit::Nanoseconds };
        let side =
            |value| BTreeMap::from([(SeriesKey::new("b", Metric::Latency(LatencyStat::P50)), seen(value))]);
        (0..)
            .zip(log_ratios)
            .map(|(round, d)| Block {
                round,
                order: Order::BaselineFirst,
                baseline: side(1_000.0),
                challenger: side(1_000.0 * d.exp()),
                builds: Builds::default(),
            })
            .collect()
    }

    /// Sixty numbers that lie as normal ones do, in no order that means anything.
    fn normal(sd: f64) -> Vec<f64> {
        use statrs::distribution::{ContinuousCDF, Normal};
        (0..60_u32)
            .map(|at| sd * Normal::standard().inverse_cdf((f64::from(at * 37 % 60) + 0.5) / 60.0))
            .collect()
    }

    fn policy() -> Policy {
        Policy { guard_slow_processes: false, ..Policy::default() }
    }

    #[test]
    fn on_normal_noise_it_says_what_the_formula_says() {
        let noise = normal(0.03);
        for percent in [1.0_f64, 1.5, 2.0, 5.0] {
            let log_effect = (percent / 100.0).ln_1p();
            let chance = Question::usual(0.01, 1).chance(robust_sd(&noise), log_effect, 40);
            let rehearsed = rehearse(&policy(), &pairs(&noise), log_effect, 1).unwrap();
            assert_eq!(rehearsed.trials, TRIALS);
            // Five points for the number of trials, and as many for a formula with two digits.
            assert!((rehearsed.rejects() - chance).abs() < 0.1, "{percent}%: {rehearsed:?} for {chance}");
        }
    }

    #[test]
    fn a_box_with_two_speeds_sees_more_than_its_spread_says() {
        // Half of the pairs met the box in its two speeds, one way or the other; to the rest a change of 5% is plain.
        let two_speeds: Vec<f64> = normal(0.005)
            .iter()
            .zip(0_u32..)
            .map(|(d, at)| d + [0.0, 0.3, 0.0, -0.3][at as usize % 4])
            .collect();
        let log_effect = 0.05_f64.ln_1p();
        let by_formula = Question::usual(0.01, 1).chance(robust_sd(&two_speeds), log_effect, 40);
        let rehearsed = rehearse(&policy(), &pairs(&two_speeds), log_effect, 2).unwrap();
        assert!(rehearsed.rejects() > 2.0 * by_formula, "{rehearsed:?}, {by_formula} by formula");
    }

    #[test]
    fn the_same_code_is_rarely_rejected_and_the_answer_replays() {
        let pairs = pairs(&normal(0.03));
        let same = rehearse(&policy(), &pairs, 0.0, 3).unwrap();
        // 1% is promised; 14 of 400 have a chance of one in ten thousand at exactly that.
        assert!(same.rejected <= 14 && same.approved <= 14, "{same:?}");
        assert_eq!(rehearse(&policy(), &pairs, 0.0, 3).unwrap(), same);
        let faster = rehearse(&policy(), &pairs, -0.1, 3).unwrap();
        assert_eq!((faster.approved, faster.rejected), (TRIALS, 0));
    }

    #[test]
    fn what_cannot_be_rehearsed_says_why() {
        let few = pairs(&[0.01; 3]);
        assert_eq!(rehearse(&policy(), &[], 0.0, 1), Err(RehearsalError::NoPairs));
        let strict = Policy { builds: 4, ..policy() };
        assert_eq!(rehearse(&strict, &few, 0.0, 1), Err(RehearsalError::Builds));
        let endless = policy().with_max_pairs(crate::policy::MAX_PAIRS_LIMIT);
        let all = rehearse(&endless, &few, 0.5, 1).unwrap();
        assert_eq!(all.trials, 396, "as many as the work allows");
        assert_eq!((neighbours(1), neighbours(60), neighbours(1_200)), (1, 4, 11));
        let mut bad = pairs(&[0.01; 3]);
        for seen in bad[1].baseline.values_mut() {
            seen.value = f64::NAN;
        }
        assert!(matches!(rehearse(&policy(), &bad, 0.0, 1), Err(RehearsalError::Block(_))));
    }
}
