//! Rhythms in gaps: which known period they come in.
//!
//! For a period P the pairs of gaps are counted that lie P apart. Gaps that come by chance make such pairs too, so the
//! count is held against what chance would make, and against the number of periods that were watched. What comes every
//! 4 ms also comes every second: slow periods are looked for among the longest gaps, and chance is then counted at lags
//! that are whole ticks too.

use std::cmp::Reverse;

use darwin_shared::probe::{Gap, Signature};

/// A rhythm is there if this part of its beats is.
const BEATS_LEAST: f64 = 0.6;
/// Fewer beats than this are no rhythm.
const LINKS_LEAST: usize = 4;
/// So many times what chance makes there must be, of the many gaps of a tick.
const OVER_CHANCE: f64 = 1.5;
/// The same of the few gaps of a slow rhythm.
const SLOW_OVER_CHANCE: f64 = 3.0;
/// Fewer periods than this show no slow rhythm.
const SLOW_PERIODS_LEAST: f64 = 4.0;
/// Of the longest gaps so many are looked at, the fewest first: few stand out from the tick, many reach far back.
const SLOW_GAPS: [usize; 3] = [16, 64, 256];
/// How far a beat of a tick may be off, as a part of its period.
const TOLERANCE: f64 = 0.01;
/// The least that a beat may be off.
const TOLERANCE_LEAST_NS: u64 = 5_000;
/// How far a beat of a slow rhythm may be off: a tick of the slowest kernel, in which such work is begun.
const SLOW_TOLERANCE_NS: u64 = 10_000_000;
/// Real-time throttling takes 5% of each second; nothing else comes once a second for so long.
const HOLE_NS: u64 = 20_000_000;
/// Lags beside a slow period where only chance makes pairs, as parts of it.
const BESIDE: [f64; 8] = [0.81, 0.87, 0.91, 0.95, 1.05, 1.09, 1.13, 1.19];

/// Periods of the kernel's tick, and how often that is a second: the rates that kernels are built with.
const TICKS: [(u64, u32); 4] = [(1_000_000, 1_000), (3_333_333, 300), (4_000_000, 250), (10_000_000, 100)];
const SECOND_NS: u64 = 1_000_000_000;
/// Slow periods.
const SLOW: [(u64, Signature); 3] = [
    (SECOND_NS, Signature::Second),
    (10 * SECOND_NS, Signature::TenSeconds),
    (300 * SECOND_NS, Signature::FiveMinutes),
];

/// The rhythms: of `recent` gaps, all of a stretch of time and in order, those of milliseconds; of the `longest`, in any
/// order, those of seconds and minutes.
pub fn signatures(recent: &[Gap], longest: &[Gap]) -> Vec<Signature> {
    let mut found = Vec::new();
    // A kernel has one tick; longer periods in it would be its echoes.
    let tick = TICKS.iter().find(|(period_ns, _)| {
        let tolerance_ns = fast_tolerance(*period_ns);
        let links = links(recent, *period_ns, tolerance_ns);
        is_rhythm(recent, *period_ns, links, by_chance(recent, tolerance_ns))
    });
    found.extend(tick.map(|(_, hz)| Signature::Tick { hz: *hz }));
    let tick = tick.map(|(period_ns, _)| *period_ns);
    let mut by_length = longest.to_vec();
    by_length.sort_by_key(|gap| Reverse(gap.length_ns));
    for period in SLOW {
        let mut subsets = SLOW_GAPS.iter().map(|most| by_length.get(..*most).unwrap_or(&by_length));
        let Some((signature, on_beat)) = subsets.find_map(|subset| slow_rhythm(subset, period, tick)) else {
            continue;
        };
        found.push(signature);
        by_length.retain(|gap| !on_beat.contains(gap));
    }
    found
}

/// The rhythm of this period in these gaps, and the gaps on its beat.
fn slow_rhythm(
    gaps: &[Gap],
    (period_ns, signature): (u64, Signature),
    tick_ns: Option<u64>,
) -> Option<(Signature, Vec<Gap>)> {
    let mut gaps = gaps.to_vec();
    gaps.sort_by_key(|gap| gap.start_ns);
    let beats = links(&gaps, period_ns, SLOW_TOLERANCE_NS) as f64;
    let chance = slow_chance(&gaps, period_ns, tick_ns);
    let enough = (BEATS_LEAST * periods(&gaps, period_ns)).max(LINKS_LEAST as f64);
    if periods(&gaps, period_ns) < SLOW_PERIODS_LEAST || beats < enough.max(SLOW_OVER_CHANCE * (chance + 1.0))
    {
        return None;
    }
    let is_on = |gap: &Gap| has_partner(&gaps, *gap, period_ns, SLOW_TOLERANCE_NS);
    let on_beat: Vec<Gap> = gaps.iter().copied().filter(is_on).collect();
    let is_hole = signature == Signature::Second && middle_length(&on_beat) >= HOLE_NS;
    Some((if is_hole { Signature::RealTimeHole } else { signature }, on_beat))
}

fn fast_tolerance(period_ns: u64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a hundredth of a period of milliseconds is far within the range"
    )]
    let part = (period_ns as f64 * TOLERANCE) as u64;
    part.max(TOLERANCE_LEAST_NS)
}

/// Whether so many pairs are the rhythm of a tick, where chance makes `chance` of them.
fn is_rhythm(gaps: &[Gap], period_ns: u64, links: usize, chance: f64) -> bool {
    let count = links as f64;
    links >= LINKS_LEAST
        && count >= BEATS_LEAST * periods(gaps, period_ns)
        && count >= OVER_CHANCE * chance + 2.0
}

/// How many periods there are from the first gap to the last.
fn periods(gaps: &[Gap], period_ns: u64) -> f64 {
    let (Some(first), Some(last)) = (gaps.first(), gaps.last()) else { return 0.0 };
    last.start_ns.saturating_sub(first.start_ns) as f64 / period_ns as f64
}

/// How many gaps have another one a period later.
fn links(gaps: &[Gap], period_ns: u64, tolerance_ns: u64) -> usize {
    gaps.iter().filter(|gap| has_at(gaps, gap.start_ns.saturating_add(period_ns), tolerance_ns)).count()
}

/// Whether a gap begins near this time.
fn has_at(gaps: &[Gap], at_ns: u64, tolerance_ns: u64) -> bool {
    let from = gaps.partition_point(|gap| gap.start_ns < at_ns.saturating_sub(tolerance_ns));
    gaps.get(from).is_some_and(|gap| gap.start_ns <= at_ns.saturating_add(tolerance_ns))
}

fn has_partner(gaps: &[Gap], gap: Gap, period_ns: u64, tolerance_ns: u64) -> bool {
    let before = gap.start_ns.checked_sub(period_ns);
    has_at(gaps, gap.start_ns.saturating_add(period_ns), tolerance_ns)
        || before.is_some_and(|before| has_at(gaps, before, tolerance_ns))
}

/// The pairs that gaps at random times make: each finds a partner in a window with the chance that it is not empty.
fn by_chance(gaps: &[Gap], tolerance_ns: u64) -> f64 {
    let (Some(first), Some(last)) = (gaps.first(), gaps.last()) else { return 0.0 };
    let span = last.start_ns.saturating_sub(first.start_ns).max(1) as f64;
    let expected = gaps.len() as f64 * (2 * tolerance_ns + 1) as f64 / span;
    gaps.len() as f64 * (1.0 - (-expected).exp())
}

/// The pairs beside a slow period. Gaps on a tick are not random: of those, lags are taken that are whole ticks too.
fn slow_chance(gaps: &[Gap], period_ns: u64, tick_ns: Option<u64>) -> f64 {
    let mut counts: Vec<usize> = BESIDE
        .iter()
        .map(|part| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a period of at most minutes, a little stretched"
            )]
            let lag = (period_ns as f64 * part) as u64;
            let lag = tick_ns.map_or(lag, |tick| lag / tick * tick);
            links(gaps, lag, SLOW_TOLERANCE_NS)
        })
        .collect();
    counts.sort_unstable();
    counts.get(counts.len() / 2).copied().unwrap_or(0) as f64
}

fn middle_length(gaps: &[Gap]) -> u64 {
    let mut lengths: Vec<u64> = gaps.iter().map(|gap| gap.length_ns).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A generator of numbers that look random and are the same each time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    /// Gaps of this period over this time, a little off each, and `per_s` others a second anywhere.
    fn gaps(period_ns: Option<u64>, length_ns: u64, per_s: u64, span_ns: u64, seed: u64) -> Vec<Gap> {
        let mut dice = Dice(seed * 2 + 1);
        let beats = period_ns.map_or(0, |period| span_ns / period);
        let mut all: Vec<Gap> = (0..beats)
            .map(|n| Gap { start_ns: n * period_ns.unwrap_or(0) + 3_000 + dice.below(3_000), length_ns })
            .collect();
        for _ in 0..per_s * span_ns / SECOND_NS {
            all.push(Gap { start_ns: dice.below(span_ns), length_ns: 1_000 + dice.below(60_000) });
        }
        all.sort_by_key(|gap| gap.start_ns);
        all
    }

    fn found(all: &[Gap]) -> Vec<String> {
        let mut longest = all.to_vec();
        longest.sort_by_key(|gap| Reverse(gap.length_ns));
        longest.truncate(256);
        let recent = &all[all.len().saturating_sub(16_384)..];
        signatures(recent, &longest).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ticks_are_known_by_their_rate() {
        for (period_ns, hz) in TICKS {
            let told = format!("tick at {hz} Hz");
            assert_eq!(found(&gaps(Some(period_ns), 5_000, 0, 2 * SECOND_NS, 1)), [told.as_str()]);
            assert_eq!(found(&gaps(Some(period_ns), 5_000, 600, 5 * SECOND_NS, 2)), [told]);
        }
    }

    #[test]
    fn a_hole_each_second_is_known_beside_a_tick() {
        let mut all = gaps(Some(4_000_000), 5_000, 300, 8 * SECOND_NS, 3);
        all.extend((0..8).map(|n| Gap { start_ns: n * SECOND_NS + 950_000_000, length_ns: 50_000_000 }));
        all.sort_by_key(|gap| gap.start_ns);
        assert_eq!(found(&all), ["tick at 250 Hz", "real-time throttling each second"]);
    }

    #[test]
    fn slow_rhythms_of_a_quiet_core_are_known() {
        assert_eq!(found(&gaps(Some(SECOND_NS), 3_000, 0, 20 * SECOND_NS, 4)), ["once a second"]);
        assert_eq!(found(&gaps(Some(10 * SECOND_NS), 9_000, 0, 90 * SECOND_NS, 5)), ["every 10 s"]);
        assert_eq!(found(&gaps(Some(300 * SECOND_NS), 9_000, 0, 3_000 * SECOND_NS, 6)), ["every 5 min"]);
    }

    #[test]
    fn a_tick_alone_is_not_a_rhythm_of_seconds() {
        let mut dice = Dice(77);
        let ticks = (0..2_500)
            .map(|n| Gap { start_ns: n * 4_000_000 + 2_000, length_ns: 2_000 + dice.below(40_000) });
        assert_eq!(found(&ticks.collect::<Vec<_>>()), ["tick at 250 Hz"]);
    }

    #[test]
    fn chance_makes_no_rhythm() {
        // The same numbers each time: chance itself must not decide a test.
        for seed in 1..120 {
            for per_s in [2, 30, 400, 1_400] {
                let all = gaps(None, 0, per_s, (1 + seed % 9) * SECOND_NS, seed);
                assert_eq!(found(&all), Vec::<String>::new(), "{seed} {per_s}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_gaps_make_it_panic(starts in prop::collection::vec(any::<u64>(), 0..60), length in any::<u64>()) {
            let mut all: Vec<Gap> = starts.into_iter().map(|start_ns| Gap { start_ns, length_ns: length }).collect();
            all.sort_by_key(|gap| gap.start_ns);
            let _ = found(&all);
        }
    }
}
