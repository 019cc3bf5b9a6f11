//! The decision table: what the tests of all gated series together say.
//!
//! REJECT is a union of tests, so each has its share of alpha. APPROVE is an intersection, so each test keeps
//! the whole alpha; only the gain, which one primary series out of many may bring, is split over the primaries.

use crate::anytime::PairsInOrder;
use crate::metric::SeriesKey;
use crate::policy::{MetricPolicy, Mode};
use crate::ratio::Ratio;
use crate::score::Pairs;
use crate::verdict::{Decision, FindingClass, Reason};

/// Critical values for one series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    /// At alpha split over all gated series.
    pub(crate) reject: f64,
    /// At alpha split over the primary series.
    pub(crate) gain: f64,
    /// At the whole alpha.
    pub(crate) full: f64,
}

impl Levels {
    /// Nothing is proven at these.
    pub(crate) const UNREACHABLE: Self =
        Self { reject: f64::INFINITY, gain: f64::INFINITY, full: f64::INFINITY };
}

/// How far the effect of one series lies from a null value.
#[derive(Debug, Clone)]
pub(crate) enum Yardstick {
    /// The sign-flip score of the pairs.
    Score(Pairs),
    /// The evidence of the pairs, for jobs without a planned end.
    Evidence(PairsInOrder),
    /// A mean effect and its standard error, which is zero for exact counters: few pairs and builds.
    Normal { mean: f64, standard_error: f64 },
}

/// Log ratios closer than this are the same: far below the last digit of any counter.
const SAME_LOG_RATIO: f64 = 1e-12;

impl Yardstick {
    /// The distance from null value `t`, in standard deviations, or as log evidence; positive is worse.
    pub(crate) fn z(&self, t: f64) -> f64 {
        match self {
            Self::Score(pairs) => pairs.z(t),
            Self::Evidence(pairs) => pairs.z(t),
            Self::Normal { mean, .. } if (mean - t).abs() <= SAME_LOG_RATIO => 0.0,
            Self::Normal { mean, standard_error } if *standard_error <= 0.0 => {
                (mean - t).signum() * f64::INFINITY
            }
            Self::Normal { mean, standard_error } => (mean - t) / standard_error,
        }
    }

    /// The point estimate of the log effect.
    pub(crate) fn centre(&self) -> f64 {
        match self {
            Self::Score(pairs) => pairs.centre(),
            Self::Evidence(pairs) => pairs.centre(),
            Self::Normal { mean, .. } => *mean,
        }
    }

    /// The log effects that are not excluded at critical value `z`; none if unbounded.
    pub(crate) fn interval(&self, z: f64) -> Option<(f64, f64)> {
        match self {
            Self::Score(pairs) => pairs.interval(z),
            Self::Evidence(pairs) => pairs.interval(z),
            Self::Normal { mean, standard_error } => {
                let half = z * standard_error;
                half.is_finite().then_some((mean - half, mean + half))
            }
        }
    }
}

/// What the tests of one gated series say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tested {
    pub(crate) primary: bool,
    /// Worse than the floor, and not proven within the margin.
    pub(crate) slower: bool,
    /// Proven not worse than the margin.
    pub(crate) not_worse: bool,
    /// What an APPROVE for a gain asks of every series; the same as `not_worse` but for few pairs.
    pub(crate) acceptable: bool,
    /// Proven better.
    pub(crate) faster: bool,
    /// Proven not better than the margin.
    pub(crate) no_gain: bool,
}

/// Tests one gated series. `min_gain` is what a primary series must gain.
pub(crate) fn test(
    yardstick: &Yardstick,
    levels: Levels,
    policy: MetricPolicy,
    primary: bool,
    min_gain: Ratio,
) -> Tested {
    let (margin, floor) = (policy.margin.ln_1p(), policy.floor.ln_1p());
    let not_worse = yardstick.z(margin) <= -levels.full;
    let faster = if primary {
        yardstick.z(-min_gain.ln_1p()) <= -levels.gain
    } else {
        yardstick.z(-floor) <= -levels.reject
    };
    Tested {
        primary,
        slower: !not_worse && yardstick.z(floor) >= levels.reject,
        not_worse,
        acceptable: not_worse,
        faster,
        no_gain: yardstick.z(-margin) >= levels.full,
    }
}

impl Tested {
    /// What is proven, for the report.
    pub(crate) fn class(self) -> FindingClass {
        if self.slower {
            FindingClass::Slower
        } else if self.faster {
            FindingClass::Faster
        } else if self.not_worse && self.no_gain {
            FindingClass::Same
        } else if self.not_worse {
            FindingClass::NotSlower
        } else {
            FindingClass::Unclear
        }
    }
}

/// The decision on all gated series, or none if more data could still tell.
///
/// `missing` is what must be there and is not: it rules out everything but a REJECT.
pub(crate) fn decide(
    mode: Mode,
    tests: &[(&SeriesKey, Tested)],
    missing: Option<Reason>,
) -> Option<(Decision, Reason)> {
    let count = |what: fn(&Tested) -> bool| saturating(tests.iter().filter(|(_, t)| what(t)).count());
    let of = saturating(tests.len());
    let slower = count(|t| t.slower);
    if slower > 0 {
        return Some((Decision::Reject, Reason::SlowerProven { slower, of }));
    }
    if let Some(reason) = missing {
        return Some((Decision::Inconclusive, reason));
    }
    if tests.is_empty() {
        return Some((Decision::Inconclusive, Reason::NothingComparable));
    }
    let all_not_worse = tests.iter().all(|(_, t)| t.not_worse);
    match mode {
        Mode::NoSlower => {
            all_not_worse.then_some((Decision::Approve, Reason::NotSlowerProven { series: of }))
        }
        Mode::Faster => {
            let primary_faster = tests.iter().any(|(_, t)| t.primary && t.faster);
            if primary_faster && tests.iter().all(|(_, t)| t.acceptable) {
                let faster = count(|t| t.faster);
                return Some((Decision::Approve, Reason::FasterProven { faster, of }));
            }
            let mut primaries = tests.iter().filter(|(_, t)| t.primary).peekable();
            let no_gain = primaries.peek().is_some() && primaries.all(|(_, t)| t.no_gain && !t.faster);
            (all_not_worse && no_gain).then_some((Decision::Inconclusive, Reason::NoChangeProven))
        }
    }
}

/// Why nothing is decided although no more data will come; none if nothing at all is proven.
pub(crate) fn faster_but_unsafe(tests: &[(&SeriesKey, Tested)]) -> Option<Reason> {
    let faster = saturating(tests.iter().filter(|(_, t)| t.primary && t.faster).count());
    let mut open = tests.iter().filter(|(_, t)| !t.acceptable).map(|(key, _)| *key).peekable();
    let unproven = (*open.peek()?).clone();
    let unproven_count = saturating(open.count());
    (faster > 0).then_some(Reason::FasterNotSafe { faster, unproven, unproven_count })
}

fn saturating(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
