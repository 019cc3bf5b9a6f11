//! The sign-flip score `Z`, its root and the repeated interval.
//!
//! For a null value `t` and the pairs' log ratios `d`: `x = d - t`, `s_c = c * 1.4826 * median|x|`,
//! `u_c = clamp(x / s_c, -1, 1)`. [`Score::Clipped`] is `Z(t) = sum u / sqrt(sum u^2)` with `c = 0.5`. If the
//! challenger is the baseline times `e^t`, the coin makes every sign pattern of `u` equally likely whatever the noise,
//! so `Z` is close to a standard normal, and never beyond `sqrt(n)`.
//!
//! [`Score::Adaptive`] lets the magnitudes choose the clips, which keeps that argument whole: given all `|x|`, the signs
//! are still the coin's. With `v_c = u_c / |u_c|` (unit length), `q = |x| at rank 95% / |x| at the upper median` and
//! `l = clamp(4 - q, 0, 1)`, its scores are `w = (1 - l) v_0.5 + l (v_0.3 + 0.6 v_2.5) / 1.6`, and
//! `Z(t) = sum w / sqrt(sum w^2)`. Heavy tails (`q > 4`) get the clip alone; light tails get a sharp clip, which counts
//! signs where the noise has modes, and a wide one, which is nearly the mean where it is normal. Measured in
//! docs/decisions/0005-a-sharper-score.md.
//!
//! The pairs are kept sorted: any rank of `|x|` is then a binary search, and the clip alone sums only its middle.

use serde::{Deserialize, Serialize};

use crate::stats::MAD_TO_SD;

/// Where scores are clipped, in robust standard deviations of the pairs.
const CLIP: f64 = 0.5;
/// The sharp and the wide clip of light tails.
const LIGHT_CLIPS: [f64; 2] = [0.3, 2.5];
/// What the wide clip weighs beside the sharp one.
const WIDE_WEIGHT: f64 = 0.6;
/// Tails are light below the first and heavy above the second, as the ratio of two ranks of `|x|`.
const LIGHT_TAILS: f64 = 3.0;
const HEAVY_TAILS: f64 = 4.0;
/// Keeps the scale and the norm above zero; far below any log ratio that can be measured.
const TINY: f64 = 1e-12;
/// A score this near zero is zero: rounding leaves no less.
const ROOT: f64 = 1e-10;
/// How far the search for a root starts outside the data.
const BRACKET: f64 = 1e-6;
/// Halvings before false position: they bring the search near one crossing.
const HALVINGS: u32 = 5;
/// Steps of a search: a third of them halve, which alone gives 2^-45 of the bracket.
const STEPS_MAX: u32 = 130;
/// A bracket this small, of its first size, is a point: below 1e-13 for any sane spread.
const RESOLUTION: f64 = 1.0 / (1u64 << 46) as f64;
/// A score this near its level is at it.
const AT_LEVEL: f64 = 1e-13;
/// Doublings of the bracket: outside 2^20 spreads every score is clipped, so more cannot help.
const EXPANSIONS: u32 = 20;

/// How pairs are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// One clip for all noise: the rule of the reference, and of records that do not say.
    #[default]
    Clipped,
    /// Clips by the tails of the pairs.
    Adaptive,
}

/// The log ratios of one series' pairs, ready to be tested at any null value.
#[derive(Debug, Clone)]
pub struct Pairs {
    sorted: Vec<f64>,
    score: Score,
}

/// What each clip contributes to a score: clip width `s`, weight of `clamp(x / s, -1, 1)`.
type Mixture = [(f64, f64); 3];

impl Pairs {
    /// Takes the log ratios of the pairs, which must be finite, to be clipped at one width.
    pub fn new(log_ratios: &[f64]) -> Self {
        Self::scored(log_ratios, Score::Clipped)
    }

    /// Takes the log ratios of the pairs, which must be finite.
    pub fn scored(log_ratios: &[f64], score: Score) -> Self {
        let mut sorted = log_ratios.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self { sorted, score }
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The score `Z(t)`: positive if the pairs lie above `t`. Zero without pairs.
    pub fn z(&self, t: f64) -> f64 {
        match self.score {
            Score::Clipped => self.clipped_z(t),
            Score::Adaptive => match self.lightness(t) {
                light if light <= 0.0 => self.clipped_z(t),
                light => self.mixed(t, light).1,
            },
        }
    }

    /// The scores of these log ratios at null value `t`, scaled so that their squares sum to 1 and they to `Z(t)`.
    ///
    /// Give the log ratios that the pairs were made from, in any order; the scores come in that order.
    pub(crate) fn scores(&self, log_ratios: &[f64], t: f64) -> Vec<f64> {
        let light = match self.score {
            Score::Clipped => 0.0,
            Score::Adaptive => self.lightness(t),
        };
        let (mixture, _) = self.mixed(t, light);
        let score = |x: f64| mixture.iter().map(|(s, weight)| weight * (x / s).clamp(-1.0, 1.0)).sum();
        let mut scores: Vec<f64> = log_ratios.iter().map(|d| score(d - t)).collect();
        let norm = (scores.iter().map(|w| w * w).sum::<f64>() + TINY).sqrt();
        for score in &mut scores {
            *score /= norm;
        }
        scores
    }

    /// 1 where the tails of `|d - t|` are light, 0 where they are heavy.
    fn lightness(&self, t: f64) -> f64 {
        let n = self.sorted.len();
        if n == 0 {
            return 0.0;
        }
        // By place from 0: n * 95% and n / 2, both rounded down.
        let ratio = self.kth_distance(t, n * 19 / 20 + 1) / (self.kth_distance(t, n / 2 + 1) + TINY);
        ((HEAVY_TAILS - ratio) / (HEAVY_TAILS - LIGHT_TAILS)).clamp(0.0, 1.0)
    }

    /// The mixture at null value `t` with tails so light, and its `Z`.
    fn mixed(&self, t: f64, light: f64) -> (Mixture, f64) {
        let scale = self.median_distance(t) * MAD_TO_SD;
        let [sharp, wide] = LIGHT_CLIPS;
        let of_light = light / (1.0 + WIDE_WEIGHT);
        let mut mixture = [
            (scale * CLIP + TINY, 1.0 - light),
            (scale * sharp + TINY, of_light),
            (scale * wide + TINY, of_light * WIDE_WEIGHT),
        ];
        let (mut sums, mut products) = ([0.0; 3], [[0.0; 3]; 3]);
        for d in &self.sorted {
            let u = mixture.map(|(s, _)| ((d - t) / s).clamp(-1.0, 1.0));
            for i in 0..3 {
                sums[i] += u[i];
                for j in 0..=i {
                    products[i][j] += u[i] * u[j];
                }
            }
        }
        for (i, (_, weight)) in mixture.iter_mut().enumerate() {
            *weight /= (products[i][i] + TINY).sqrt();
        }
        let (mut sum, mut squares) = (0.0, 0.0);
        for (i, (_, a)) in mixture.iter().enumerate() {
            sum += a * sums[i];
            squares += a * a * products[i][i];
            squares += mixture
                .iter()
                .take(i)
                .enumerate()
                .map(|(j, (_, b))| 2.0 * a * b * products[i][j])
                .sum::<f64>();
        }
        (mixture, sum / (squares + TINY).sqrt())
    }

    fn clipped_z(&self, t: f64) -> f64 {
        let d = &self.sorted;
        let s = self.median_distance(t) * MAD_TO_SD * CLIP + TINY;
        let low = d.partition_point(|v| v - t <= -s);
        let high = low + d[low..].partition_point(|v| v - t < s);
        let per_s = s.recip();
        let (mut sum, mut squares) = (0.0, 0.0);
        for v in &d[low..high] {
            let u = (v - t) * per_s;
            sum += u;
            squares += u * u;
        }
        let above = (d.len() - high) as f64;
        let below = low as f64;
        (above - below + sum) / (above + below + squares + TINY).sqrt()
    }

    /// The point estimate: the root of `Z`, or the middle of its roots where `Z` is flat. Zero without pairs.
    pub fn centre(&self) -> f64 {
        let (Some(low), Some(high)) = (self.sorted.first(), self.sorted.last()) else {
            return 0.0;
        };
        let (from, to) = (low - BRACKET, high + BRACKET);
        f64::midpoint(self.crossing(from, to, ROOT), self.crossing(from, to, -ROOT))
    }

    /// The repeated interval `{t : |Z(t)| < z}`; none while it is unbounded, that is while `z >= sqrt(n)`.
    pub fn interval(&self, z: f64) -> Option<(f64, f64)> {
        let (low, high) = (*self.sorted.first()?, *self.sorted.last()?);
        // A hair of slack: at z = sqrt(n) only the infinite null value is excluded.
        if !z.is_finite() || z * (1.0 + 1e-9) >= (self.len() as f64).sqrt() {
            return None;
        }
        let (mut from, mut to) = (low - BRACKET, high + BRACKET);
        let mut step = to - from;
        for _ in 0..EXPANSIONS {
            let (reach_from, reach_to) = (self.z(from) <= z, self.z(to) >= -z);
            if !reach_from && !reach_to {
                let centre = self.centre();
                let lower = self.crossing(from, to, z).min(centre);
                let upper = self.crossing(from, to, -z).max(centre);
                return Some((lower, upper));
            }
            from -= if reach_from { step } else { 0.0 };
            to += if reach_to { step } else { 0.0 };
            step *= 2.0;
        }
        None
    }

    /// Where `Z` falls through `level` between `a` (above it) and `b` (not above it).
    ///
    /// A few halvings find the place, then false position (Illinois) closes in, with a halving every third step
    /// so that no shape of `Z` can stall it.
    fn crossing(&self, mut a: f64, mut b: f64, level: f64) -> f64 {
        let close = (b - a) * RESOLUTION;
        let (mut above, mut below) = (1.0, -1.0);
        let mut moved_a = None;
        for step in 0..STEPS_MAX {
            if b - a <= close {
                break;
            }
            let halve = step < HALVINGS || step % 3 == 0;
            let secant = b - below * (b - a) / (below - above);
            let at = if halve || !(a < secant && secant < b) { f64::midpoint(a, b) } else { secant };
            let height = self.z(at) - level;
            if !halve && height.abs() < AT_LEVEL {
                return at;
            }
            if height > 0.0 {
                (a, above) = (at, height);
                below *= if moved_a == Some(true) { 0.5 } else { 1.0 };
                moved_a = Some(true);
            } else {
                (b, below) = (at, height.min(-f64::MIN_POSITIVE));
                above *= if moved_a == Some(false) { 0.5 } else { 1.0 };
                moved_a = Some(false);
            }
        }
        f64::midpoint(a, b)
    }

    /// `median |d - t|`, the mean of the two middle distances if their number is even.
    fn median_distance(&self, t: f64) -> f64 {
        let n = self.sorted.len();
        if n == 0 {
            return 0.0;
        }
        let k = n.div_ceil(2);
        let from = self.nearest(t, k);
        let kth = self.farthest_of(t, from, k);
        if n % 2 == 1 {
            return kth;
        }
        let d = &self.sorted;
        let left = if from > 0 { (t - d[from - 1]).abs() } else { f64::INFINITY };
        let right = d.get(from + k).map_or(f64::INFINITY, |v| (v - t).abs());
        f64::midpoint(kth, left.min(right))
    }

    /// The `k`-th smallest of `|d - t|`, `k` from 1 to the number of pairs.
    fn kth_distance(&self, t: f64, k: usize) -> f64 {
        let k = k.clamp(1, self.sorted.len());
        self.farthest_of(t, self.nearest(t, k), k)
    }

    fn farthest_of(&self, t: f64, from: usize, k: usize) -> f64 {
        (t - self.sorted[from]).abs().max((self.sorted[from + k - 1] - t).abs())
    }

    /// Where the `k` pairs nearest to `t` begin: they are neighbours in the sorted pairs.
    fn nearest(&self, t: f64, k: usize) -> usize {
        let d = &self.sorted;
        let (mut from, mut to) = (0, d.len() - k);
        while from < to {
            let middle = usize::midpoint(from, to);
            if t - d[middle] > d[middle + k] - t {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;
    use proptest::prelude::*;

    /// The formula of the module's head, written out plainly.
    fn plain_z(d: &[f64], t: f64) -> f64 {
        let distances: Vec<f64> = d.iter().map(|v| (v - t).abs()).collect();
        let s = stats::median(&distances).unwrap() * 1.4826 * 0.5 + 1e-12;
        let u: Vec<f64> = d.iter().map(|v| ((v - t) / s).clamp(-1.0, 1.0)).collect();
        u.iter().sum::<f64>() / (u.iter().map(|v| v * v).sum::<f64>() + 1e-12).sqrt()
    }

    #[test]
    fn by_hand() {
        // d = 1, 2, 3 at t = 0: median 2, s = 1.4826, u = 0.67449, 1, 1.
        let z = Pairs::new(&[1.0, 2.0, 3.0]).z(0.0);
        assert!((z - 2.674_490_760_8 / (2.0 + 0.454_937_787f64).sqrt()).abs() < 1e-6, "{z}");
        assert!((Pairs::new(&[0.5; 16]).z(0.0) - 4.0).abs() < 1e-9);
        assert!(Pairs::new(&[0.0; 9]).z(0.0).abs() < 1e-12);
        assert!(Pairs::new(&[]).z(0.0).abs() < 1e-12);
    }

    #[test]
    fn all_equal_pairs_have_a_point_for_an_interval() {
        let pairs = Pairs::new(&[0.25; 20]);
        let (low, high) = pairs.interval(2.5).unwrap();
        assert!((low - 0.25).abs() < 1e-9 && (high - 0.25).abs() < 1e-9);
        assert!((pairs.centre() - 0.25).abs() < 1e-9);
        assert_eq!(Pairs::new(&[0.25; 10]).interval(3.23), None);
        assert_eq!(Pairs::new(&[0.25; 9]).interval(3.0), None);
        assert_eq!(Pairs::new(&[]).interval(0.0), None);
    }

    /// The formula of [`Score::Adaptive`], written out plainly.
    fn plain_adaptive(d: &[f64], t: f64) -> Vec<f64> {
        let away: Vec<f64> = d.iter().map(|v| v - t).collect();
        let mut ranked: Vec<f64> = away.iter().map(|v| v.abs()).collect();
        let scale = stats::median(&ranked).unwrap() * 1.4826;
        ranked.sort_by(f64::total_cmp);
        let (tail, middle) = (ranked[d.len() * 19 / 20], ranked[d.len() / 2]);
        let light = (4.0 - tail / (middle + 1e-12)).clamp(0.0, 1.0);
        let unit = |scores: Vec<f64>| -> Vec<f64> {
            let norm = (scores.iter().map(|v| v * v).sum::<f64>() + 1e-12).sqrt();
            scores.iter().map(|v| v / norm).collect()
        };
        let clipped =
            |width: f64| unit(away.iter().map(|v| (v / (width * scale + 1e-12)).clamp(-1.0, 1.0)).collect());
        let (clip, sharp, wide) = (clipped(0.5), clipped(0.3), clipped(2.5));
        let mixed = |((clip, sharp), wide)| (1.0 - light) * clip + light * (sharp + 0.6 * wide) / 1.6;
        unit(clip.iter().zip(&sharp).zip(&wide).map(mixed).collect())
    }

    fn log_ratios() -> impl Strategy<Value = Vec<f64>> {
        prop_oneof![
            prop::collection::vec(-1.0f64..1.0, 1..80),
            prop::collection::vec((-4i32..5).prop_map(|v| f64::from(v) / 50.0), 1..40),
        ]
    }

    proptest! {
        #[test]
        fn equals_the_plain_formula(d in log_ratios(), t in -1.5f64..1.5) {
            prop_assert!((Pairs::new(&d).z(t) - plain_z(&d, t)).abs() < 1e-9);
        }

        #[test]
        fn the_adaptive_score_equals_its_plain_formula(d in log_ratios(), t in -1.5f64..1.5) {
            let pairs = Pairs::scored(&d, Score::Adaptive);
            let plain = plain_adaptive(&d, t);
            prop_assert!((pairs.z(t) - plain.iter().sum::<f64>()).abs() < 1e-8);
            for (got, want) in pairs.scores(&d, t).iter().zip(&plain) {
                prop_assert!((got - want).abs() < 1e-8);
            }
            // Only magnitudes choose the scores: with other signs they are the same but for those.
            let mirrored: Vec<f64> = d.iter().enumerate().map(|(i, v)| if i % 3 == 0 { 2.0 * t - v } else { *v }).collect();
            let other = Pairs::scored(&mirrored, Score::Adaptive).scores(&mirrored, t);
            for (i, (a, b)) in plain.iter().zip(&other).enumerate() {
                let sign = if i % 3 == 0 { -1.0 } else { 1.0 };
                prop_assert!((a - sign * b).abs() < 1e-6);
            }
        }

        #[test]
        fn flips_with_the_signs_and_ignores_the_scale(d in log_ratios(), t in -0.5f64..0.5, scale in 0.01f64..100.0) {
            let z = Pairs::new(&d).z(t);
            let flipped: Vec<f64> = d.iter().map(|v| -v).collect();
            let scaled: Vec<f64> = d.iter().map(|v| v * scale).collect();
            prop_assert!((Pairs::new(&flipped).z(-t) + z).abs() < 1e-9);
            // Not at ties with t: there the scale is the tiny constant, on purpose.
            prop_assume!(d.iter().all(|v| (v - t).abs() > 1e-4));
            prop_assert!((Pairs::new(&scaled).z(t * scale) - z).abs() < 1e-4);
            prop_assert!(z.abs() <= (d.len() as f64).sqrt() + 1e-9);
        }

        #[test]
        fn the_interval_holds_the_estimate_and_excludes_what_is_outside(d in log_ratios(), z in 0.5f64..4.0) {
            for pairs in [Pairs::new(&d), Pairs::scored(&d, Score::Adaptive)] {
            if let Some((low, high)) = pairs.interval(z) {
                prop_assert!(low <= pairs.centre() && pairs.centre() <= high);
                prop_assert!(pairs.z(low - 1e6) > z && pairs.z(high + 1e6) < -z);
            }
            }
        }
    }
}
