//! The sign-flip e-process: a test for jobs without a planned end, such as a soak.
//!
//! For pairs `x_1, x_2, …` (log effect minus the null value) the evidence that they tend to be positive is
//!
//! `E_n = average over lambda in {0.15, 0.3, 0.6, 1.2, 2.4} of  prod_k 2 sigma(2 lambda x_k / s_k)`,
//!
//! with `sigma` the logistic function and `s_k` the root mean square of `x_1..x_k`. Only the sign of a pair is random given
//! the magnitudes, by the coin; each factor has mean 1 over the two signs, so `E_n` is a martingale under the null, and by
//! Ville's inequality it ever reaches `1 / alpha` with probability at most `alpha`, however often one looks. The price is
//! power at a few dozen pairs, where the planned looks of [`crate::bounds`] see more.

use std::f64::consts::LN_2;

/// The bets on the size of the effect, in root mean squares of the pairs; each is twice the one before.
const LAMBDAS: [f64; 5] = [0.15, 0.3, 0.6, 1.2, 2.4];
/// Keeps the scale above zero; far below any log ratio that can be measured.
const TINY: f64 = 1e-12;

/// Evidence, gathered pair by pair, that the log effects lie above a null value. Its memory does not grow.
#[derive(Debug, Clone, PartialEq)]
pub struct SignFlipEvidence {
    null: f64,
    pairs: u64,
    squares: f64,
    /// The logarithm of each bet's product.
    logs: [f64; LAMBDAS.len()],
    /// The largest evidence so far, as a logarithm: what was proven once stays proven.
    largest: f64,
}

impl SignFlipEvidence {
    /// No evidence yet, against the null value `null` (a log effect, positive is worse). The evidence that an effect lies
    /// *below* a value is that of the negated effects above the negated value.
    pub fn against(null: f64) -> Self {
        Self { null, pairs: 0, squares: 0.0, logs: [0.0; LAMBDAS.len()], largest: 0.0 }
    }

    /// Takes in the log effect of the next pair. What is not finite is no pair and changes nothing.
    pub fn push(&mut self, log_effect: f64) {
        let x = log_effect - self.null;
        if !x.is_finite() {
            return;
        }
        self.pairs += 1;
        self.squares += x * x;
        let ratio = x / ((self.squares / self.pairs as f64).sqrt() + TINY);
        // `ln(2 sigma(y)) = ln 2 - max(-y, 0) - ln(1 + e^-|y|)`; as the bets double, each `e^-|y|` is the last one squared.
        let mut decay = (-2.0 * LAMBDAS[0] * ratio.abs()).exp();
        for (log, lambda) in self.logs.iter_mut().zip(LAMBDAS) {
            *log += LN_2 - (-2.0 * lambda * ratio).max(0.0) - decay.ln_1p();
            decay *= decay;
        }
        // An average is never above the best bet, which is the cheaper one to look at.
        if self.best_bet() > self.largest {
            self.largest = self.largest.max(self.log_evidence());
        }
    }

    /// Pairs so far.
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    /// `ln E_n`.
    pub fn log_evidence(&self) -> f64 {
        let most = self.best_bet();
        let sum: f64 = self.logs.iter().map(|log| (log - most).exp()).sum();
        most + (sum / LAMBDAS.len() as f64).ln()
    }

    /// The largest `ln E_n` so far, from before the first pair on, where it is 0.
    pub fn largest_log_evidence(&self) -> f64 {
        self.largest
    }

    /// Whether the evidence has ever reached `1 / alpha`.
    pub fn proves(&self, alpha: f64) -> bool {
        self.largest >= level(alpha)
    }

    /// The logarithm of the bet that has gained most.
    fn best_bet(&self) -> f64 {
        self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// The log evidence that proves at `alpha`: `-ln alpha`.
pub fn level(alpha: f64) -> f64 {
    -alpha.ln()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        x: Vec<f64>,
        log_evidence: Vec<f64>,
    }

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[test]
    fn evidence_equals_the_reference() {
        let golden: Golden = serde_json::from_str(include_str!("../tests/golden/eprocess.json")).unwrap();
        assert!(golden.cases.len() >= 5);
        for Case { name, x, log_evidence } in golden.cases {
            let mut evidence = SignFlipEvidence::against(0.0);
            for (x, want) in x.iter().zip(&log_evidence) {
                evidence.push(*x);
                let got = evidence.log_evidence();
                assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "{name}: {got} != {want}");
            }
        }
    }

    #[test]
    fn an_effect_is_proven_and_stays_so() {
        let mut evidence = SignFlipEvidence::against(0.01);
        for pair in 0..200 {
            evidence.push(0.05 + 0.02 * f64::from(pair % 5 - 2));
        }
        assert!(evidence.proves(0.01));
        for _ in 0..2_000 {
            evidence.push(-0.05);
        }
        assert!(evidence.log_evidence() < 0.0 && evidence.proves(0.01));
        assert!(evidence.largest_log_evidence() >= level(0.01));
        let before = evidence.clone();
        evidence.push(f64::NAN);
        assert_eq!(evidence, before);
    }

    #[test]
    fn a_fair_coin_is_seldom_called_an_effect_however_often_one_looks() {
        // 2,000 endless jobs of heavy-tailed noise, looked at after each of 300 pairs, at 5%: 100 may err, and the bound
        // below is four standard deviations above that. The seed is fixed.
        let mut coin = ChaCha8Rng::seed_from_u64(5);
        let wrong = (0..2_000)
            .filter(|_| {
                let mut evidence = SignFlipEvidence::against(0.0);
                for pair in 1..=300_u32 {
                    let size = f64::from(pair.wrapping_mul(2_654_435_761) % 97 + 1).powi(2);
                    evidence.push(if coin.next_u32() & 1 == 0 { size } else { -size });
                }
                evidence.proves(0.05)
            })
            .count();
        assert!(wrong <= 139, "{wrong} of 2000");
    }
}
