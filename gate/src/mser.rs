//! Where a series of latencies is warm: the MSER-5 cut.
//!
//! MSER (White 1997, "An effective truncation heuristic for bias reduction in simulation output", Simulation 69)
//! leaves out as many first values as make the standard error of the mean of the rest smallest; MSER-5 (White, Cobb and
//! Spratt 2000) does so on the means of five values each:
//!
//! `d = argmin over 0 <= d <= m / 2 of  sum_{i > d} (y_i - mean(y_{d+1..m}))^2 / (m - d)^2`,
//!
//! with `y` the `m` whole batches of five; the first such `d` if several are as small. The cut is located on values
//! clipped at their 90th percentile, so that one stall late in a run does not pass for its warm-up; what the cut leaves
//! is not clipped. It is by position alone: no value is ever left out for its size.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::{median, quantile};

/// Values in a batch: MSER-5's five.
pub const BATCH: usize = 5;
/// Fewer batches than this show no course that could be told from noise: nothing is cut.
const BATCHES_MIN: usize = 10;
/// The quantile at which values are clipped for locating the cut.
const CLIP_QUANTILE: f64 = 0.9;
/// A run that needs more than this share of its values to get warm is not steady.
pub const WARM_UP_SHARE_LIMIT: f64 = 0.3;
/// A bench is not steady if more than this share of its invocations is not.
pub const UNSTEADY_SHARE_LIMIT: f64 = 0.2;

/// Benches that are kept account of: more than any suite has.
const BENCHES_MAX: usize = 20_000;
/// Benches named in one note: a note is a line, not a page.
const BENCHES_PER_NOTE: usize = 3;

/// The MSER-5 cut of `values`, which stand in the order of time: so many first values are warm-up.
///
/// A multiple of five, at most half of the values; 0 below 50 values.
pub fn warm_up(values: &[f64]) -> usize {
    let batches = batch_means(values);
    if batches.len() < BATCHES_MIN {
        return 0;
    }
    let statistics = statistics(&batches);
    let mut best = (f64::INFINITY, 0);
    for (cut, statistic) in statistics.iter().enumerate() {
        if *statistic < best.0 {
            best = (*statistic, cut);
        }
    }
    best.1 * BATCH
}

/// Whether what follows the cut stays where it is: the cut is at most 30% of the values, and the medians of the first
/// and second half of the rest differ by at most `tolerance` as a log ratio (Barrett et al., OOPSLA 2017: some processes
/// never settle). Values that have no ratio say nothing against it.
pub fn is_steady(values: &[f64], cut: usize, tolerance: f64) -> bool {
    if cut as f64 > WARM_UP_SHARE_LIMIT * values.len() as f64 {
        return false;
    }
    let rest = values.get(cut..).unwrap_or_default();
    if rest.len() < BATCHES_MIN * BATCH {
        return true;
    }
    let (first, second) = rest.split_at(rest.len() / 2);
    match (median(first), median(second)) {
        (Some(first), Some(second)) if first > 0.0 && second > 0.0 => {
            (second / first).ln().abs() <= tolerance
        }
        _ => true,
    }
}

/// The means of whole batches of five, of values clipped at their 90th percentile.
fn batch_means(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let ceiling = quantile(&sorted, CLIP_QUANTILE).unwrap_or(f64::INFINITY);
    let (batches, _) = values.as_chunks::<BATCH>();
    batches
        .iter()
        .map(|batch| batch.iter().map(|value| value.min(ceiling)).sum::<f64>() / BATCH as f64)
        .collect()
}

/// The MSER statistic of every cut from 0 to half of the batches.
fn statistics(batches: &[f64]) -> Vec<f64> {
    let half = batches.len() / 2;
    // Backward and by Welford's recurrence: one pass, and no difference of large sums.
    let mut statistics = vec![0.0; half + 1];
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for (at, batch) in batches.iter().enumerate().rev() {
        count += 1.0;
        let off = batch - mean;
        mean += off / count;
        squares += off * (batch - mean);
        if let Some(statistic) = statistics.get_mut(at) {
            *statistic = squares / (count * count);
        }
    }
    statistics
}

/// What was cut of one bench in one round, or that it is not steady.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUp {
    /// The bench.
    pub bench: String,
    /// So many first calls of each side were left out.
    pub cut: u64,
    /// Of so many: the side that has fewer.
    pub of: u64,
    /// Whether both sides stay where they are after their warm-up.
    pub steady: bool,
}

/// What the rounds of a comparison told of their warm-up.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WarmUps {
    rounds: u32,
    benches: BTreeMap<String, BenchWarmUp>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct BenchWarmUp {
    unsteady: u32,
    /// The sum over rounds of the share that was cut.
    shares: f64,
    largest_share: f64,
}

impl WarmUps {
    /// Takes in what the next round told; a bench of which it told nothing was cut nowhere and steady.
    pub fn add_round(&mut self, told: &[WarmUp]) {
        self.rounds += 1;
        for WarmUp { bench, cut, of, steady } in told {
            if self.benches.len() >= BENCHES_MAX && !self.benches.contains_key(bench) {
                continue;
            }
            let so_far = self.benches.entry(bench.clone()).or_default();
            let share = (*cut as f64 / (*of).max(1) as f64).min(1.0);
            so_far.shares += share;
            so_far.largest_share = so_far.largest_share.max(share);
            so_far.unsteady += u32::from(!steady);
        }
    }

    /// What the reader of a verdict should know of it: at most two sentences.
    pub fn notes(&self) -> Vec<String> {
        let rounds = f64::from(self.rounds.max(1));
        let cut = self.benches.iter().filter(|(_, bench)| bench.largest_share > 0.0).map(|(name, bench)| {
            let (mean, most) = (bench.shares / rounds * 100.0, bench.largest_share * 100.0);
            let text = if self.rounds == 1 {
                format!("{name} {most:.0}% of its calls")
            } else {
                format!("{name} {mean:.1}% of its calls (at most {most:.0}%)")
            };
            (bench.largest_share, text)
        });
        let is_unsteady = |bench: &BenchWarmUp| f64::from(bench.unsteady) > UNSTEADY_SHARE_LIMIT * rounds;
        let unsteady = self.benches.iter().filter(|(_, bench)| is_unsteady(bench)).map(|(name, bench)| {
            let text = if self.rounds == 1 {
                name.clone()
            } else {
                format!("{name} in {} of {} rounds", bench.unsteady, self.rounds)
            };
            (f64::from(bench.unsteady), text)
        });
        let cut =
            worst(cut).map(|benches| format!("warm-up left out, the same calls on both sides: {benches}"));
        let unsteady = worst(unsteady).map(|benches| {
            format!(
                "not steady within a process: {benches} (over 30% warm-up, or its halves differ by more than the margin of \
                 latency.p50)"
            )
        });
        cut.into_iter().chain(unsteady).collect()
    }
}

/// The worst few in a line, and how many more there are.
fn worst(told: impl Iterator<Item = (f64, String)>) -> Option<String> {
    let mut told: Vec<(f64, String)> = told.collect();
    told.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let more = told.len().saturating_sub(BENCHES_PER_NOTE);
    let shown: Vec<String> = told.into_iter().take(BENCHES_PER_NOTE).map(|(_, text)| text).collect();
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown.join(", ")),
        (false, more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        values: Vec<f64>,
        statistics: Vec<f64>,
        cut: usize,
    }

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[test]
    fn cuts_and_statistics_equal_the_reference() {
        let golden: Golden = serde_json::from_str(include_str!("../tests/golden/mser.json")).unwrap();
        assert!(golden.cases.len() >= 20);
        for Case { name, values, statistics: want, cut } in golden.cases {
            let got = statistics(&batch_means(&values));
            assert_eq!(got.len(), want.len(), "{name}");
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{name}: {got} != {want}");
            }
            assert_eq!(warm_up(&values), cut, "{name}");
        }
    }

    #[test]
    fn a_slow_start_is_found_and_a_late_stall_is_not_one() {
        let wave = |at: usize| 100.0 + (at * 7 % 11) as f64;
        let warm: Vec<f64> = (0..400).map(|at| if at < 40 { 3.0 * wave(at) } else { wave(at) }).collect();
        assert!((40..=50).contains(&warm_up(&warm)), "{}", warm_up(&warm));
        let stalled: Vec<f64> = (0..400).map(|at| if at == 150 { 1e9 } else { wave(at) }).collect();
        assert!(warm_up(&stalled) <= 10, "{}", warm_up(&stalled));
        assert_eq!((warm_up(&[]), warm_up(&warm[..49])), (0, 0));
    }

    #[test]
    fn what_drifts_or_warms_up_too_long_is_not_steady() {
        let flat = vec![100.0; 1000];
        assert!(is_steady(&flat, 0, 0.01) && is_steady(&flat, 300, 0.01));
        assert!(!is_steady(&flat, 301, 0.01));
        let drifts: Vec<f64> = (0..1000).map(|at| 100.0 + f64::from(at) / 100.0).collect();
        assert!(!is_steady(&drifts, 0, 0.01));
        assert!(is_steady(&drifts, 0, 0.10));
        assert!(is_steady(&[0.0; 1000], 0, 0.01) && is_steady(&[], 0, 0.01));
    }

    #[test]
    fn notes_name_the_worst_benches() {
        let told = |bench: &str, cut, steady| WarmUp { bench: bench.to_owned(), cut, of: 1000, steady };
        let mut warm_ups = WarmUps::default();
        assert_eq!(warm_ups.notes(), Vec::<String>::new());
        for round in 0..10 {
            warm_ups.add_round(&[told("match", 50 + 10 * round, round > 2), told("add", 0, round != 0)]);
        }
        let notes = warm_ups.notes();
        assert_eq!(
            notes[0],
            "warm-up left out, the same calls on both sides: match 9.5% of its calls (at most 14%)"
        );
        // One odd round in ten is no finding, three are.
        assert!(notes[1].starts_with("not steady within a process: match in 3 of 10 rounds ("), "{notes:?}");
        let many: Vec<WarmUp> = (0..6).map(|n| told(&format!("b{n}"), 10 * n, true)).collect();
        let mut warm_ups = WarmUps::default();
        warm_ups.add_round(&many);
        assert!(
            warm_ups.notes()[0]
                .ends_with("b5 5% of its calls, b4 4% of its calls, b3 3% of its calls and 2 more"),
            "{:?}",
            warm_ups.notes()
        );
    }

    proptest! {
        #[test]
        fn a_cut_is_whole_batches_within_the_first_half(values in prop::collection::vec(0.0f64..1e9, 0..400)) {
            let cut = warm_up(&values);
            prop_assert!(cut.is_multiple_of(BATCH) && cut <= values.len() / 2);
        }

        #[test]
        fn a_cut_does_not_depend_on_the_unit(values in prop::collection::vec(1.0f64..1e3, 50..200)) {
            // By a power of two, so that nothing is rounded.
            let scaled: Vec<f64> = values.iter().map(|value| value * 1024.0).collect();
            prop_assert_eq!(warm_up(&values), warm_up(&scaled));
        }
    }
}
