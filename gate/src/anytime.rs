//! Jobs without a planned end: judged by the evidence of the sign-flip e-process in place of a score at planned looks.
//!
//! Each null value `t` has two e-processes ([`SignFlipEvidence`]), one for effects above it and one for effects below.
//! What counts is the largest evidence that each had after any pair so far, as a logarithm. Where its null holds it ever
//! reaches `-ln alpha` with probability at most `alpha` (Ville), so a look costs nothing, there may be any number of
//! them, and whoever looks may stop because of what he saw. Shares of alpha are Bonferroni's: `-ln(alpha / tests)`.
//!
//! The interval is what neither of the two excludes. It holds the true effect at all looks at once with probability at
//! least `1 - 2 alpha`: a confidence sequence (Howard et al., "Time-uniform, nonparametric, nonasymptotic confidence
//! sequences", 2021).

use serde::{Deserialize, Serialize};

use crate::eprocess::SignFlipEvidence;
use crate::score::{Pairs, Score};

/// When the gate may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stopping {
    /// At planned looks, over which alpha is spent; the plan has an end.
    #[default]
    Planned,
    /// At any look, by evidence that holds whenever one looks: there need be no end. Sees less in a few dozen pairs.
    Anytime,
}

/// Where the search for the ends of an interval begins, in spreads of the pairs: there all pairs are on one side, and as
/// good as equal.
const FAR: f64 = 1024.0;
/// The spread, as a log ratio, of pairs that are all the same.
const LEAST_SPREAD: f64 = 1e-6;
/// Halvings of the distance from the centre: they reach a thousand-millionth of the spread.
const HALVINGS: u32 = 40;
/// Bisections between the last two distances: an end is then too far out by 1/4096 of its distance at most.
const BISECTIONS: u32 = 12;

/// The log effects of one series' pairs in the order in which they were measured, for what was proven once stays proven.
#[derive(Debug, Clone)]
pub(crate) struct PairsInOrder {
    effects: Vec<f64>,
    sorted: Pairs,
}

impl PairsInOrder {
    /// Takes the log effects of the pairs, which must be finite; `score` is by what their centre is estimated.
    pub(crate) fn new(effects: &[f64], score: Score) -> Self {
        Self { effects: effects.to_vec(), sorted: Pairs::scored(effects, score) }
    }

    /// The largest log evidence so far that the effects lie above `t`, or, negated, that they lie below if that is larger.
    ///
    /// Either alone reaches a level with at most its error, so to count the larger one only is on the safe side. Where
    /// both are the same, worse is taken: that never speaks for the challenger, and is zero where nothing is known.
    pub(crate) fn z(&self, t: f64) -> f64 {
        let (mut above, mut below) = (SignFlipEvidence::against(t), SignFlipEvidence::against(-t));
        for effect in &self.effects {
            above.push(*effect);
            below.push(-effect);
        }
        let (above, below) = (above.largest_log_evidence(), below.largest_log_evidence());
        if above >= below { above } else { -below }
    }

    /// The point estimate: the same robust centre as that of planned looks.
    pub(crate) fn centre(&self) -> f64 {
        self.sorted.centre()
    }

    /// The log effects that are not excluded at `level`, a log evidence; none while either side is unbounded. The centre
    /// is always among them.
    pub(crate) fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let centre = self.centre();
        let (down, up) = (self.reach(centre, 1.0, level)?, self.reach(centre, -1.0, level)?);
        Some((centre - down, centre + up))
    }

    /// How far from the centre the effects begin that are excluded: below it for `turn` 1, above it for -1. None if even
    /// the farthest is not.
    ///
    /// The evidence against ever farther effects need not grow all the way. So the search goes from the outside inward and
    /// stops at the first distance that is not excluded: the widest interval that it can find.
    fn reach(&self, centre: f64, turn: f64, level: f64) -> Option<f64> {
        let excluded = |distance: f64| {
            let mut evidence = SignFlipEvidence::against(turn * centre - distance);
            self.effects.iter().any(|effect| {
                evidence.push(turn * effect);
                evidence.largest_log_evidence() >= level
            })
        };
        let spread = self.effects.iter().map(|effect| (effect - centre).abs()).fold(LEAST_SPREAD, f64::max);
        let mut outside = FAR * spread;
        if !excluded(outside) {
            return None;
        }
        let mut inside = outside / 2.0;
        for _ in 0..HALVINGS {
            if !excluded(inside) {
                break;
            }
            (outside, inside) = (inside, inside / 2.0);
        }
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(inside, outside);
            if excluded(middle) {
                outside = middle;
            } else {
                inside = middle;
            }
        }
        Some(outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eprocess::level;
    use proptest::prelude::*;

    fn pairs(effects: &[f64]) -> PairsInOrder {
        PairsInOrder::new(effects, Score::Adaptive)
    }

    #[test]
    fn evidence_by_hand() {
        // One pair above the null: its ratio to the root mean square is 1, and each bet gains 2 sigma(2 lambda).
        let sigma = |y: f64| 1.0 / (1.0 + (-y).exp());
        let gains = [0.15, 0.3, 0.6, 1.2, 2.4].map(|lambda: f64| 2.0 * sigma(2.0 * lambda));
        let gain = gains.iter().sum::<f64>() / 5.0;
        assert!((pairs(&[0.05]).z(0.0) - gain.ln()).abs() < 1e-9);
        assert!((pairs(&[0.05]).z(0.1) + gain.ln()).abs() < 1e-9);
        // Nothing is known of a null that every pair hits, nor without pairs.
        assert!(pairs(&[0.05; 20]).z(0.05).abs() < 1e-12 && pairs(&[]).z(0.0).abs() < 1e-12);
    }

    #[test]
    fn what_was_proven_stays_proven_as_long_as_nothing_else_is() {
        let mut effects = vec![0.05; 20];
        let proven = pairs(&effects).z(0.0);
        assert!(proven >= level(0.01));
        effects.extend([-0.05; 15]);
        assert!((pairs(&effects).z(0.0) - proven).abs() < 1e-12);
        // In the end there is more evidence for the opposite.
        effects.extend([-0.05; 500]);
        assert!(pairs(&effects).z(0.0) <= -proven);
    }

    #[test]
    fn all_equal_pairs_have_a_point_for_an_interval() {
        let (low, high) = pairs(&[0.25; 20]).interval(level(0.01)).unwrap();
        assert!(low <= high && (low - 0.25).abs() < 1e-9 && (high - 0.25).abs() < 1e-9, "{low} {high}");
        assert_eq!(pairs(&[0.25; 5]).interval(level(0.01)), None);
        assert_eq!(pairs(&[0.25; 50]).interval(f64::INFINITY), None);
        assert_eq!(pairs(&[]).interval(level(0.01)), None);
    }

    proptest! {
        #[test]
        fn it_turns_with_the_signs(d in prop::collection::vec(-1.0f64..1.0, 1..60), t in -1.0f64..1.0) {
            let turned: Vec<f64> = d.iter().map(|effect| -effect).collect();
            let (z, back) = (pairs(&d).z(t), pairs(&turned).z(-t));
            // Where both sides have the same evidence, both are called worse.
            prop_assert!((z + back).abs() < 1e-9 || (z - back).abs() < 1e-9);
        }

        #[test]
        fn what_is_far_beyond_the_interval_is_excluded(d in prop::collection::vec(-1.0f64..1.0, 8..60), far in 1.01f64..9.0) {
            let pairs = pairs(&d);
            let level = level(0.01);
            if let Some((low, high)) = pairs.interval(level) {
                let centre = pairs.centre();
                prop_assert!(low <= centre && centre <= high);
                prop_assert!(pairs.z(centre + far * (low - centre)) >= level);
                prop_assert!(pairs.z(centre + far * (high - centre)) <= -level);
            }
        }
    }
}
