//! The gate audits itself: how many of its verdicts on identical code were wrong, and is that more than it promised?
//!
//! Each A/A verdict is a trial that may be false with a probability of at most `p`, which its policy states. Against that
//! the audit bets that the chance is `m p`, with `m` in {2, 5, 10, 25}:
//!
//! `E_n = average over m of  prod_i (q_i / p_i) if verdict i is false, else (1 - q_i) / (1 - p_i)`, `q_i = min(m p_i, 1/2)`.
//!
//! Each factor has mean at most 1 as long as the promise holds, so `E_n` is a supermartingale and reaches 20 in all time with
//! probability at most 1/20 (Ville; Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference", 2023).

use serde::{Deserialize, Serialize};

use crate::policy::{Mode, Policy};
use crate::verdict::{Decision, Verdict};

/// The bets: how many times too often the gate may be wrong.
const MULTIPLES: [f64; 4] = [2.0, 5.0, 10.0, 25.0];
/// No bet goes beyond this chance.
const CHANCE_MOST: f64 = 0.5;
/// The alarm rings at this much evidence.
pub const ALARM_AT: f64 = 20.0;

/// One verdict on identical code.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AaVerdict {
    /// Whether it called the same code better or worse.
    pub is_false: bool,
    /// The chance of that which the policy allows: above 0, below 1/2.
    pub chance: f64,
}

impl AaVerdict {
    /// What a verdict on identical code says of the gate; none if nothing was tested.
    ///
    /// A REJECT is false, with chance `alpha`. In mode faster an APPROVE is as well, with as much again; in mode no-slower
    /// it is right.
    pub fn of(verdict: &Verdict, policy: &Policy) -> Option<Self> {
        let approve_is_false = policy.mode == Mode::Faster;
        let is_false = match verdict.decision {
            Decision::Reject => true,
            Decision::Approve => approve_is_false,
            Decision::Inconclusive => false,
        };
        let tested = verdict.findings.iter().any(|finding| finding.gated);
        let chance = if approve_is_false { 2.0 * policy.alpha } else { policy.alpha };
        (tested && chance > 0.0 && chance < CHANCE_MOST).then_some(Self { is_false, chance })
    }
}

/// What the verdicts on identical code say of the gate so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    verdicts: u32,
    false_verdicts: u32,
    /// The sum of the chances: so many false ones are allowed.
    allowed: f64,
    logs: [f64; MULTIPLES.len()],
    /// The largest evidence so far, as a logarithm: an alarm does not go away by itself.
    largest: f64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { verdicts: 0, false_verdicts: 0, allowed: 0.0, logs: [0.0; MULTIPLES.len()], largest: 0.0 }
    }
}

impl Audit {
    /// The audit of these verdicts, oldest first.
    pub fn of(verdicts: impl IntoIterator<Item = AaVerdict>) -> Self {
        let mut audit = Self::default();
        for verdict in verdicts {
            audit.push(verdict);
        }
        audit
    }

    /// Takes in the next verdict. One whose chance is no chance changes nothing.
    pub fn push(&mut self, AaVerdict { is_false, chance }: AaVerdict) {
        if !(chance > 0.0 && chance < CHANCE_MOST) {
            return;
        }
        self.verdicts += 1;
        self.false_verdicts += u32::from(is_false);
        self.allowed += chance;
        for (log, multiple) in self.logs.iter_mut().zip(MULTIPLES) {
            let bet = (multiple * chance).min(CHANCE_MOST);
            *log += if is_false { (bet / chance).ln() } else { ((1.0 - bet) / (1.0 - chance)).ln() };
        }
        let most = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.logs.iter().map(|log| (log - most).exp()).sum();
        self.largest = self.largest.max(most + (sum / MULTIPLES.len() as f64).ln());
    }

    /// Verdicts so far.
    pub fn verdicts(&self) -> u32 {
        self.verdicts
    }

    /// How many of them were false.
    pub fn false_verdicts(&self) -> u32 {
        self.false_verdicts
    }

    /// How many false ones the policies allow on average: not a whole number.
    pub fn allowed(&self) -> f64 {
        self.allowed
    }

    /// The largest evidence so far that the gate is wrong more often than it promises; 1 is none. Held below infinity.
    pub fn evidence(&self) -> f64 {
        self.largest.exp().min(f64::MAX)
    }

    /// Whether the gate's promise can no longer be believed.
    pub fn alarms(&self) -> bool {
        self.evidence() >= ALARM_AT
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    fn verdicts(false_ones: &[bool]) -> Audit {
        Audit::of(false_ones.iter().map(|is_false| AaVerdict { is_false: *is_false, chance: 0.02 }))
    }

    #[test]
    fn evidence_by_hand() {
        // One false verdict multiplies the bets by 2, 5, 10, 25; two in a row by their squares.
        assert!((verdicts(&[true]).evidence() - 10.5).abs() < 1e-12);
        let two = verdicts(&[true, true]);
        assert!((two.evidence() - 188.5).abs() < 1e-9);
        assert!(two.alarms() && !verdicts(&[true]).alarms());
        // After 60 right verdicts the same two prove nothing yet: bets of 2 and 5 times 2% are left.
        let late: Vec<bool> = std::iter::repeat_n(false, 60).chain([true, true]).collect();
        let audit = verdicts(&late);
        assert!(!audit.alarms(), "{}", audit.evidence());
        assert_eq!((audit.verdicts(), audit.false_verdicts()), (62, 2));
        assert!((audit.allowed() - 1.24).abs() < 1e-9);
    }

    #[test]
    fn nonsense_changes_nothing() {
        let mut audit = verdicts(&[true]);
        let before = audit.clone();
        for chance in [f64::NAN, 0.0, -1.0, 0.5, f64::INFINITY] {
            audit.push(AaVerdict { is_false: true, chance });
        }
        assert_eq!(audit, before);
        assert!((Audit::default().evidence() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_honest_gate_seldom_alarms_and_a_broken_one_soon_does() {
        // 2,000 gates of 500 verdicts each, the seed fixed: 5% of the honest ones may alarm in all time.
        let mut dice = ChaCha8Rng::seed_from_u64(11);
        let mut alarms = |rate: f64, trials: u32, verdicts: u32| {
            (0..trials)
                .filter(|_| {
                    let mut audit = Audit::default();
                    for _ in 0..verdicts {
                        let is_false = f64::from(dice.next_u32()) < rate * f64::from(u32::MAX);
                        audit.push(AaVerdict { is_false, chance: 0.02 });
                    }
                    audit.alarms()
                })
                .count()
        };
        assert!(alarms(0.02, 2_000, 500) <= 139);
        assert!(alarms(0.20, 200, 60) >= 190);
    }
}
