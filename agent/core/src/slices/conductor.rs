//! Who goes next in a sliced pair, and what the pair comes to.
//!
//! ```text
//! Gathering -- both at the same bench --> Piloting --> Slicing (30 slices a side or more) --> Gathering -- both gone --> Sliced
//!     |-- the sides differ, first pair, first bench --> Unsliced -- both gone --> Plain
//!     '-- otherwise: Again, Void or Refused
//! ```
//! At every moment at most one side runs; the other one blocks, has ended, or is not started.

use std::time::Duration;

use darwin_gate::{Order, slice_order};
use darwin_shared::spec::Arm;

use super::frame::{BenchFrame, ToBench};

/// Slices of each bench on each side. Thirty of 5 ms are what the spreads in the design were measured with: enough that
/// a slow phase hits both sides alike, few enough that a pair costs no more than one after the other.
pub const SLICES: u16 = 30;
/// The most slices of a bench on each side, where more of them give it calls enough.
pub(super) const SLICES_MOST: u16 = 90;
/// Calls of a bench that each side keeps if it can: a p99 of fewer than 2,000 is not gated.
const ENOUGH_CALLS: u64 = 2_100;
/// How long a slice is: much longer than caches take to warm up again, much shorter than phases of a box.
pub const SLICE: Duration = Duration::from_millis(5);
/// One in so many calls of a slice is left out after the switch.
const LEFT_OUT_SHARE: u32 = 10;
/// With fewer calls in a slice than this none is left out: there would be hardly any left.
const LEFT_OUT_FROM: u32 = 4;
/// The most calls left out: what runs a thousand times has warmed its caches.
const LEFT_OUT_MAX: u32 = 1000;
/// A slice may take so many times its length, and a second at least: beyond it hangs.
const SLICE_BOUND_TIMES: u32 = 100;
/// See [`SLICE_BOUND_TIMES`].
const SLICE_BOUND_LEAST: Duration = Duration::from_secs(1);
/// So many times the longest slice seen is granted on top: calls are long where slices are.
const SEEN_TIMES: u32 = 10;
/// How much of a bench's name goes into a reason.
const MAX_SHOWN_CHARS: usize = 100;

/// Whether an attempt's plan is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// This is its first pair.
    Open {
        /// Whether it must be sliced, or may be plain.
        required: bool,
    },
    /// Earlier pairs were sliced: so must this one be.
    Sliced,
}

/// What a pair is conducted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The job's seed.
    pub seed: u64,
    /// The round.
    pub round: u32,
    /// Which side's process goes first.
    pub order: Order,
    /// Whether the plan is settled.
    pub settled: Settled,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A side said this.
    Said(Arm, BenchFrame),
    /// A side wrote what is no frame.
    Garbled(Arm, String),
    /// A side's process ended well, and all that it had said was told.
    Gone(Arm),
    /// The side that was awaited has not answered in time.
    Late(Arm),
}

/// Something to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Start this side's process.
    Start(Arm),
    /// Tell it this.
    Send(Arm, ToBench),
    /// The pair is over.
    Finish(End),
}

/// What a pair comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Both ended; every bench that answered was sliced.
    Sliced,
    /// Both ended; they ran one after the other, for this reason.
    Plain {
        /// Why.
        why: String,
    },
    /// End both; measure this pair and all later ones one after the other.
    Again {
        /// Why.
        why: String,
    },
    /// End both; measure the pair again.
    Void {
        /// Whose doing it is.
        arm: Arm,
        /// Why.
        why: String,
    },
    /// End both; they must be sliced and cannot be.
    Refused {
        /// Whose doing it is.
        arm: Arm,
        /// Why.
        why: String,
    },
    /// End both; this side took longer than a run may.
    TimedOut(Arm),
}

/// Who is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Await {
    /// The side that runs.
    pub arm: Arm,
    /// How long it may take to answer; none gives it what is left of its run's time.
    pub within: Option<Duration>,
}

/// Where a side stands once it was let go to its next bench.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    Ready(String),
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// A side goes to its next bench or its end; `before` is where the first side stands, once it does.
    Gathering {
        waiting: Arm,
        before: Option<Stand>,
    },
    /// A side makes its pilot slice; `before` is how many calls the first side made in its own.
    Piloting {
        waiting: Arm,
        before: Option<u32>,
    },
    /// A side makes a slice, numbered from 1; `second` says that the other side has made this one.
    Slicing {
        slice: u16,
        skip: u32,
        waiting: Arm,
        second: bool,
    },
    /// A side runs to its end without slices; `then` is the one that follows.
    Unsliced {
        waiting: Arm,
        then: Option<Arm>,
        why: String,
    },
    Over,
}

/// Conducts one pair. See the [module](super).
#[derive(Debug, Clone)]
pub struct Conductor {
    setting: Setting,
    state: State,
    /// Benches that both sides have finished.
    bench: u32,
    /// The longest slice seen, in nanoseconds, by the benches' own word.
    longest_ns: u64,
    /// Which sides, baseline and challenger, have no more calls to make at this bench.
    spent: (bool, bool),
    /// The calls that the sides, baseline and challenger, have kept at this bench.
    kept: (u64, u64),
    /// Slices of this bench at most: more than [`SLICES`] only if they can give it calls enough.
    slices: u16,
}

impl Conductor {
    /// A pair whose processes are not started, and what is to be done first.
    pub fn begin(setting: Setting) -> (Self, Vec<Do>) {
        let first = arm_first(setting.order);
        let state = State::Gathering { waiting: first, before: None };
        let conductor = Self {
            setting,
            state,
            bench: 0,
            longest_ns: 0,
            spent: (false, false),
            kept: (0, 0),
            slices: SLICES,
        };
        (conductor, vec![Do::Start(first)])
    }

    /// Who is awaited; nobody once the pair is over.
    pub fn awaits(&self) -> Option<Await> {
        let (arm, within) = match &self.state {
            State::Gathering { waiting, .. }
            | State::Piloting { waiting, .. }
            | State::Unsliced { waiting, .. } => (*waiting, None),
            State::Slicing { waiting, .. } => (*waiting, Some(self.slice_bound())),
            State::Over => return None,
        };
        Some(Await { arm, within })
    }

    /// What follows from the news.
    pub fn step(&mut self, news: News) -> Vec<Do> {
        let Some(Await { arm: awaited, within }) = self.awaits() else {
            return Vec::new();
        };
        match news {
            News::Garbled(arm, why) => self.void(arm, &why),
            News::Late(arm) if arm == awaited => match within {
                Some(within) => {
                    let why = format!("did not end a slice within {:.1} s", within.as_secs_f64());
                    self.void(arm, &why)
                }
                None => self.finish(End::TimedOut(arm)),
            },
            News::Late(_) => Vec::new(),
            News::Said(arm, _) if arm != awaited => self.void(arm, "spoke while the other side ran"),
            News::Gone(arm) if arm != awaited => self.void(arm, "ended while the other side ran"),
            News::Said(arm, frame) => self.said(arm, frame),
            News::Gone(arm) => self.gone(arm),
        }
    }

    fn said(&mut self, arm: Arm, frame: BenchFrame) -> Vec<Do> {
        match (std::mem::replace(&mut self.state, State::Over), frame) {
            (State::Gathering { before, .. }, BenchFrame::Ready { name }) => {
                self.gathered(arm, before, Stand::Ready(name))
            }
            (State::Piloting { before, .. }, BenchFrame::Done { kept: 0, left_out, busy_ns }) => {
                self.longest_ns = self.longest_ns.max(busy_ns);
                // A bench that has no call to make at all says nothing of how many fit.
                let calls = if left_out > 0 { left_out } else { self.spend(arm) };
                self.piloted(arm, before, calls)
            }
            (State::Slicing { slice, skip, second, .. }, BenchFrame::Done { kept, left_out, busy_ns })
                if left_out == skip && kept > 0 || left_out <= skip && kept == 0 =>
            {
                self.longest_ns = self.longest_ns.max(busy_ns);
                match arm {
                    Arm::Baseline => self.kept.0 += u64::from(kept),
                    Arm::Challenger => self.kept.1 += u64::from(kept),
                }
                if kept == 0 {
                    self.spend(arm);
                }
                if second { self.slice(slice + 1, skip, false) } else { self.slice(slice, skip, true) }
            }
            (State::Unsliced { then, why, .. }, BenchFrame::Ready { .. }) => {
                // Its next bench goes without slices too.
                self.unslice(arm, then, why)
            }
            (State::Piloting { .. } | State::Slicing { .. }, BenchFrame::Done { kept, left_out, .. }) => {
                let why =
                    format!("kept {kept} calls of a slice and left {left_out} out, which it was not told to");
                self.void(arm, &why)
            }
            (State::Piloting { .. } | State::Slicing { .. }, BenchFrame::Ready { .. }) => {
                self.void(arm, "was at another bench where it was to make a slice")
            }
            (State::Gathering { .. } | State::Unsliced { .. } | State::Over, BenchFrame::Done { .. })
            | (State::Over, BenchFrame::Ready { .. }) => {
                self.void(arm, "ended a slice that it was not to make")
            }
        }
    }

    fn gone(&mut self, arm: Arm) -> Vec<Do> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Gathering { before, .. } => self.gathered(arm, before, Stand::Gone),
            State::Unsliced { then: Some(then), why, .. } => self.unslice(then, None, why),
            State::Unsliced { then: None, why, .. } => self.finish(End::Plain { why }),
            State::Piloting { .. } | State::Slicing { .. } | State::Over => {
                self.void(arm, "ended where it was to make a slice")
            }
        }
    }

    /// A side has come to its next bench, or to its end.
    fn gathered(&mut self, arm: Arm, before: Option<Stand>, stand: Stand) -> Vec<Do> {
        let Some(before) = before else {
            let next = other(arm);
            self.state = State::Gathering { waiting: next, before: Some(stand) };
            return vec![if self.bench == 0 { Do::Start(next) } else { Do::Send(next, ToBench::Over) }];
        };
        let (first, second) = (other(arm), arm);
        match (&before, &stand) {
            (Stand::Ready(a), Stand::Ready(b)) if a == b => {
                let leads = self.leads(0);
                self.state = State::Piloting { waiting: leads, before: None };
                vec![Do::Send(leads, pilot())]
            }
            (Stand::Gone, Stand::Gone) if self.bench > 0 => self.finish(End::Sliced),
            (Stand::Gone, Stand::Gone) => {
                let why = "the harness does not answer the slice protocol".to_owned();
                match self.setting.settled {
                    Settled::Open { required: false } => self.finish(End::Plain { why }),
                    Settled::Open { required: true } => {
                        self.finish(End::Refused { arm: Arm::Challenger, why })
                    }
                    Settled::Sliced => self.void(arm, &why),
                }
            }
            (before, stand) => {
                let (to_blame, why) = self.difference((first, before), (second, stand));
                self.differ(to_blame, why, before == &Stand::Gone, stand == &Stand::Gone, first)
            }
        }
    }

    /// The sides are not at the same bench.
    fn differ(
        &mut self,
        to_blame: Arm,
        why: String,
        first_gone: bool,
        second_gone: bool,
        first: Arm,
    ) -> Vec<Do> {
        let second = other(first);
        match self.setting.settled {
            Settled::Sliced => self.finish(End::Void { arm: to_blame, why }),
            Settled::Open { required: true } => self.finish(End::Refused { arm: to_blame, why }),
            // Only here nothing was sliced yet and the order stays the one that was drawn.
            Settled::Open { required: false } if self.bench == 0 && !second_gone => {
                if first_gone {
                    self.unslice(second, None, why)
                } else {
                    self.unslice(first, Some(second), why)
                }
            }
            Settled::Open { required: false } => self.finish(End::Again { why }),
        }
    }

    /// In words, how the sides differ, and which of them is the odd one.
    fn difference(&self, first: (Arm, &Stand), second: (Arm, &Stand)) -> (Arm, String) {
        match (first, second) {
            ((here, Stand::Ready(name)), (gone, Stand::Gone))
            | ((gone, Stand::Gone), (here, Stand::Ready(name))) => {
                if self.bench == 0 {
                    (gone, format!("the {gone}'s harness does not answer the slice protocol"))
                } else {
                    (gone, format!("only the {here} has the bench `{}`", shown(name)))
                }
            }
            ((_, Stand::Ready(a)), (_, Stand::Ready(b))) => {
                let (baseline, challenger) = if first.0 == Arm::Baseline { (a, b) } else { (b, a) };
                let why = format!(
                    "where the baseline has the bench `{}`, the challenger has `{}`",
                    shown(baseline),
                    shown(challenger)
                );
                (Arm::Challenger, why)
            }
            ((_, Stand::Gone), (arm, Stand::Gone)) => (arm, "both have ended".to_owned()),
        }
    }

    fn piloted(&mut self, arm: Arm, before: Option<u32>, calls: u32) -> Vec<Do> {
        let Some(before) = before else {
            let next = other(arm);
            self.state = State::Piloting { waiting: next, before: Some(calls) };
            return vec![Do::Send(next, pilot())];
        };
        let calls = match before.min(calls) {
            u32::MAX => 0,
            calls => calls,
        };
        let skip = skip_of(calls);
        let within_reach = u64::from(calls - skip) * u64::from(SLICES_MOST) >= ENOUGH_CALLS;
        self.slices = if within_reach { SLICES_MOST } else { SLICES };
        self.slice(1, skip, false)
    }

    /// This side has no more calls to make at this bench. As the size of its pilot it bounds nothing.
    fn spend(&mut self, arm: Arm) -> u32 {
        match arm {
            Arm::Baseline => self.spent.0 = true,
            Arm::Challenger => self.spent.1 = true,
        }
        u32::MAX
    }

    const fn is_spent(&self, arm: Arm) -> bool {
        match arm {
            Arm::Baseline => self.spent.0,
            Arm::Challenger => self.spent.1,
        }
    }

    /// Goes on with the slice of this number, with the side that leads it or with the `second` one; after the last slice,
    /// and where nobody has more calls to make, ends the bench.
    fn slice(&mut self, mut slice: u16, skip: u32, mut second: bool) -> Vec<Do> {
        while self.wants(slice, second) && self.spent != (true, true) {
            let leads = self.leads(slice);
            let arm = if second { other(leads) } else { leads };
            if !self.is_spent(arm) {
                self.state = State::Slicing { slice, skip, waiting: arm, second };
                return vec![Do::Send(arm, ToBench::Go { slice_ns: slice_ns(), skip })];
            }
            slice += u16::from(second);
            second = !second;
        }
        self.bench = self.bench.saturating_add(1);
        (self.longest_ns, self.spent, self.kept) = (0, (false, false), (0, 0));
        let first = arm_first(self.setting.order);
        self.state = State::Gathering { waiting: first, before: None };
        vec![Do::Send(first, ToBench::Over)]
    }

    /// Whether the slice of this number is made: by the second side whenever the first one has made it.
    const fn wants(&self, slice: u16, second: bool) -> bool {
        let lacks_calls =
            (!self.spent.0 && self.kept.0 < ENOUGH_CALLS) || (!self.spent.1 && self.kept.1 < ENOUGH_CALLS);
        slice <= SLICES || second || (slice <= self.slices && lacks_calls)
    }

    fn unslice(&mut self, arm: Arm, then: Option<Arm>, why: String) -> Vec<Do> {
        self.state = State::Unsliced { waiting: arm, then, why };
        vec![Do::Send(arm, ToBench::Unsliced)]
    }

    /// Which side goes first in this slice; the pilot is 0.
    fn leads(&self, slice: u16) -> Arm {
        arm_first(slice_order(self.setting.seed, self.setting.round, self.bench, slice))
    }

    fn slice_bound(&self) -> Duration {
        let seen = Duration::from_nanos(self.longest_ns).saturating_mul(SEEN_TIMES);
        SLICE.saturating_mul(SLICE_BOUND_TIMES).max(SLICE_BOUND_LEAST).saturating_add(seen)
    }

    fn void(&mut self, arm: Arm, why: &str) -> Vec<Do> {
        self.finish(End::Void { arm, why: format!("the {arm} {why}") })
    }

    fn finish(&mut self, end: End) -> Vec<Do> {
        self.state = State::Over;
        vec![Do::Finish(end)]
    }
}

/// The calls to leave out of a slice in which this many fit.
fn skip_of(calls: u32) -> u32 {
    if calls < LEFT_OUT_FROM { 0 } else { calls.div_ceil(LEFT_OUT_SHARE).min(LEFT_OUT_MAX) }
}

fn slice_ns() -> u64 {
    // Some milliseconds fit.
    u64::try_from(SLICE.as_nanos()).unwrap_or(u64::MAX - 1)
}

fn pilot() -> ToBench {
    ToBench::Pilot { slice_ns: slice_ns() }
}

const fn arm_first(order: Order) -> Arm {
    match order {
        Order::BaselineFirst => Arm::Baseline,
        Order::ChallengerFirst => Arm::Challenger,
    }
}

const fn other(arm: Arm) -> Arm {
    match arm {
        Arm::Baseline => Arm::Challenger,
        Arm::Challenger => Arm::Baseline,
    }
}

fn shown(name: &str) -> String {
    name.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_tenth_is_left_out_where_there_are_calls_enough() {
        let told = [0, 1, 3, 4, 10, 11, 9_999, 10_001, u32::MAX].map(skip_of);
        assert_eq!(told, [0, 0, 0, 1, 1, 2, 1000, 1000, 1000]);
    }
}
