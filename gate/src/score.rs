//! The clipped sign-flip score `Z`, its root and the repeated interval.
//!
//! For a null value `t` and the pairs' log ratios `d`: `x = d - t`, `s = c * 1.4826 * median|x|` with
//! `c = 0.5`, `u = clamp(x / s, -1, 1)`, `Z(t) = sum u / sqrt(sum u^2)`. If the challenger is the baseline
//! times `e^t`, the coin makes every sign pattern of `u` equally likely whatever the noise, so `Z` is close
//! to a standard normal, and never beyond `sqrt(n)`.
//!
//! The pairs are kept sorted: `median|x|` is then two binary searches, and only the unclipped middle is summed.

use crate::stats::MAD_TO_SD;

/// Where scores are clipped, in robust standard deviations of the pairs.
const CLIP: f64 = 0.5;
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

/// The log ratios of one series' pairs, ready to be tested at any null value.
#[derive(Debug, Clone)]
pub struct Pairs {
    sorted: Vec<f64>,
}

impl Pairs {
    /// Takes the log ratios of the pairs, which must be finite.
    pub fn new(log_ratios: &[f64]) -> Self {
        let mut sorted = log_ratios.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
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
        let d = &self.sorted;
        let n = d.len();
        if n == 0 {
            return 0.0;
        }
        // The k smallest distances belong to k neighbours in the sorted pairs: find where they begin.
        let k = n.div_ceil(2);
        let (mut from, mut to) = (0, n - k);
        while from < to {
            let middle = usize::midpoint(from, to);
            if t - d[middle] > d[middle + k] - t {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        let kth = (t - d[from]).abs().max((d[from + k - 1] - t).abs());
        if n % 2 == 1 {
            return kth;
        }
        let left = if from > 0 { (t - d[from - 1]).abs() } else { f64::INFINITY };
        let right = d.get(from + k).map_or(f64::INFINITY, |v| (v - t).abs());
        f64::midpoint(kth, left.min(right))
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
            let pairs = Pairs::new(&d);
            if let Some((low, high)) = pairs.interval(z) {
                prop_assert!(low <= pairs.centre() && pairs.centre() <= high);
                prop_assert!(pairs.z(low - 1e6) > z && pairs.z(high + 1e6) < -z);
            }
        }
    }
}
