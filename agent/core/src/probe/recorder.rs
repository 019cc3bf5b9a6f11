//! Takes gaps in while a probe watches, in memory that does not grow, and sums them up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use darwin_shared::probe::{CauseShare, Gap, GapSummary};
use hdrhistogram::Histogram;

use super::signature::signatures;

/// The longest gap that is told apart from longer ones.
const LONGEST_NS: u64 = 100_000_000_000;
/// The newest gaps, for rhythms of some milliseconds: a few seconds of them on a busy box.
const RECENT: usize = 16_384;
/// The longest gaps, for rhythms of seconds and minutes.
const LONGEST: usize = 256;
/// The longest gaps that are told of.
const TOP: usize = 10;
/// What limits for isolated cores count, whatever the threshold.
const MICROSECOND_NS: u64 = 1_000;

/// Gaps so far.
#[derive(Debug, Clone)]
pub struct GapRecorder {
    lengths: Histogram<u64>,
    count_over_1us: u64,
    stolen_ns: u64,
    recent: VecDeque<Gap>,
    /// By length, the shortest on top, to make room.
    longest: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Default for GapRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl GapRecorder {
    /// An empty one that has all the memory that it will ever need, and has touched it: a page fault would be a gap.
    pub fn new() -> Self {
        // Lengths to 0.1%. The bounds are constants that the crate takes.
        let mut lengths = Histogram::new_with_bounds(1, LONGEST_NS, 3).unwrap_or_else(|_| smallest());
        // Writes to every counter.
        lengths.reset();
        let mut recent = VecDeque::from(vec![Gap { start_ns: 1, length_ns: 1 }; RECENT]);
        recent.clear();
        let mut longest: BinaryHeap<_> = vec![Reverse((1, 1)); LONGEST].into();
        longest.clear();
        Self { lengths, count_over_1us: 0, stolen_ns: 0, recent, longest }
    }

    /// Takes a gap in. Gaps come in the order of their starts.
    pub fn record(&mut self, gap: Gap) {
        self.lengths.saturating_record(gap.length_ns.max(1));
        self.count_over_1us += u64::from(gap.length_ns > MICROSECOND_NS);
        self.stolen_ns = self.stolen_ns.saturating_add(gap.length_ns);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(gap);
        let entry = Reverse((gap.length_ns, gap.start_ns));
        if self.longest.len() < LONGEST {
            self.longest.push(entry);
        } else if let Some(mut shortest) = self.longest.peek_mut()
            && gap.length_ns > shortest.0.0
        {
            *shortest = entry;
        }
    }

    /// What the gaps come to, of `observed_ns` in which it was watched.
    pub fn summary(&self, observed_ns: u64, threshold_ns: u64, around: Around) -> GapSummary {
        let Around { involuntary_switches, steal_share, causes } = around;
        let seconds = observed_ns as f64 / 1e9;
        let per_s = |count: u64| if observed_ns == 0 { 0.0 } else { count as f64 / seconds };
        let at = |quantile: f64| {
            if self.lengths.is_empty() { 0 } else { self.lengths.value_at_quantile(quantile) }
        };
        let mut by_length: Vec<Gap> = self.longest().collect();
        by_length.sort_by_key(|gap| Reverse((gap.length_ns, Reverse(gap.start_ns))));
        let max_ns = by_length.first().map_or(0, |gap| gap.length_ns);
        by_length.truncate(TOP);
        let recent: Vec<Gap> = self.recent.iter().copied().collect();
        let longest: Vec<Gap> = self.longest().collect();
        GapSummary {
            observed_ns,
            threshold_ns,
            count: self.lengths.len(),
            count_over_1us: self.count_over_1us,
            rate_per_s: per_s(self.lengths.len()),
            rate_over_1us_per_s: per_s(self.count_over_1us),
            p50_ns: at(0.5).min(max_ns),
            p90_ns: at(0.9).min(max_ns),
            p99_ns: at(0.99).min(max_ns),
            p99_9_ns: at(0.999).min(max_ns),
            max_ns,
            stolen_share: if observed_ns == 0 {
                0.0
            } else {
                (self.stolen_ns as f64 / observed_ns as f64).min(1.0)
            },
            top: by_length,
            signatures: signatures(&recent, &longest),
            involuntary_switches,
            steal_share,
            causes,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.lengths.len()
    }

    fn longest(&self) -> impl Iterator<Item = Gap> {
        self.longest
            .iter()
            .map(|Reverse((length_ns, start_ns))| Gap { start_ns: *start_ns, length_ns: *length_ns })
    }
}

/// A histogram with bounds that nothing can refuse.
fn smallest() -> Histogram<u64> {
    // One digit, growing as it must: the crate refuses only more than five digits.
    #[expect(clippy::expect_used, reason = "the line above says why it cannot fail")]
    Histogram::new(1).expect("one digit is within the bounds")
}

/// What was counted around the gaps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Around {
    /// How often the probe was put off its CPU for somebody else.
    pub involuntary_switches: u64,
    /// What the hypervisor says to have taken, 0 to 1.
    pub steal_share: Option<f64>,
    /// Who it was.
    pub causes: Vec<CauseShare>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(lengths: &[u64]) -> GapRecorder {
        let mut recorder = GapRecorder::new();
        let mut start_ns = 0;
        for &length_ns in lengths {
            recorder.record(Gap { start_ns, length_ns });
            start_ns += length_ns + 1_000;
        }
        recorder
    }

    #[test]
    fn a_hundred_gaps_have_their_quantiles() {
        let lengths: Vec<u64> = (1..=100).map(|n| n * 1_000).collect();
        let summary = recorded(&lengths).summary(1_000_000_000, 1_000, Around::default());
        let near =
            |got: u64, wanted: u64| assert!(got.abs_diff(wanted) <= wanted / 500, "{got} for {wanted}");
        near(summary.p50_ns, 50_000);
        near(summary.p90_ns, 90_000);
        near(summary.p99_ns, 99_000);
        assert_eq!((summary.max_ns, summary.count, summary.count_over_1us), (100_000, 100, 99));
        assert!((summary.rate_per_s - 100.0).abs() < 1e-9);
        assert!((summary.stolen_share - 0.005_05).abs() < 1e-9);
        let top: Vec<u64> = summary.top.iter().map(|gap| gap.length_ns).collect();
        assert_eq!(top, (91..=100).rev().map(|n| n * 1_000).collect::<Vec<u64>>());
    }

    #[test]
    fn no_gap_and_no_time_are_no_trouble() {
        let summary = GapRecorder::new().summary(0, 1_000, Around::default());
        assert_eq!((summary.count, summary.max_ns, summary.p99_9_ns, summary.top.len()), (0, 0, 0, 0));
        assert!(summary.rate_per_s.abs() < f64::EPSILON && summary.stolen_share.abs() < f64::EPSILON);
    }

    #[test]
    fn a_million_gaps_take_no_more_memory_than_some() {
        let mut recorder = GapRecorder::new();
        for n in 0..100_000 {
            recorder.record(Gap { start_ns: n * 1_000, length_ns: 500 + n % 7 });
        }
        assert_eq!((recorder.recent.len(), recorder.longest.len()), (RECENT, LONGEST));
        assert_eq!(recorder.count(), 100_000);
    }

    proptest! {
        #[test]
        fn quantiles_rise_and_shares_are_shares(lengths in prop::collection::vec(1u64..200_000_000_000, 0..400)) {
            let observed: u64 = lengths.iter().sum::<u64>() + 1_000;
            let summary = recorded(&lengths).summary(observed, 1, Around::default());
            let quantiles = [summary.p50_ns, summary.p90_ns, summary.p99_ns, summary.p99_9_ns, summary.max_ns];
            prop_assert!(quantiles.is_sorted());
            prop_assert_eq!(summary.max_ns, lengths.iter().copied().max().unwrap_or(0));
            prop_assert!((0.0..=1.0).contains(&summary.stolen_share));
            prop_assert_eq!(summary.count, lengths.len() as u64);
            prop_assert!(summary.top.is_sorted_by(|a, b| a.length_ns >= b.length_ns));
        }
    }
}
