//! Blocks in, steps and the verdict out.
//!
//! A [`Gate`] is a pure state machine: the same policy, seed and blocks give the same steps and the same verdict.
//! It decides only at the looks of its policy, at the end of the data, and never twice.
//!
//! ```text
//!            push                    push at a look
//!   waiting ------> waiting (Continue) ------------> waiting (Look)
//!      |                                        \--> decided (Decided)
//!      \-- finish: the last look at what is there, or the few-pairs rule --> a verdict
//! ```

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::anytime::Stopping;
use crate::block::{Block, BlockError};
use crate::bounds::{Boundaries, late_spending, spending};
use crate::eprocess;
use crate::ledger::{Ledger, Roster};
use crate::metric::SeriesKey;
use crate::policy::{FIRST_LOOK_PAIRS, Policy, PolicyError};
use crate::ratio::Ratio;
use crate::report::{judge, judge_few, leading};
use crate::score::Score;
use crate::verdict::{Decision, Reason, Verdict};

/// A REJECT follows when more than this share of the challenger's invocations failed.
const FAILED_SHARE_LIMIT: f64 = 0.10;
/// Nothing is judged when more than this share of the rounds was void.
const VOIDED_SHARE_LIMIT: f64 = 0.20;

/// Why no more blocks will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EndOfData {
    /// There are no more pairs: the policy's maximum, or all files are read.
    MaxPairs,
    /// The job's time is over. Must not depend on what the gate said so far.
    TimeBudget,
    /// Somebody cancelled; perhaps because of what he saw, so nothing is judged.
    Cancelled,
    /// The challenger's invocations fail: REJECT if more than a tenth of them did.
    ChallengerFailed {
        /// Its invocations that failed.
        failed: u32,
        /// Its invocations.
        of: u32,
    },
    /// Something outside the bench voided rounds: nothing is judged if more than a fifth was void.
    Disturbed {
        /// Void rounds.
        voided: u32,
        /// Rounds.
        of: u32,
    },
}

/// The primary series that stands out most so far: news for a progress line, not a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leading {
    /// Which series.
    pub series: SeriesKey,
    /// The change of its value so far: negative is a smaller value.
    pub delta: Ratio,
    /// The interval of `delta` at the boundary of the last look; none while it is unbounded.
    pub interval: Option<(Ratio, Ratio)>,
}

/// What a look that decided nothing saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookReport {
    /// Pairs at this look.
    pub pairs: u32,
    /// The most pairs that will be measured; 0 without a planned end.
    #[serde(default)]
    pub max_pairs: u32,
    /// Pairs at the next look; none after the last.
    pub next_look: Option<u32>,
    /// The series that stands out.
    pub leading: Option<Leading>,
}

/// `latency.p99 of match -18.9% [-22.0%, -15.1%], 14 of 40 pairs, next look at 20`; `14 pairs` without a planned end.
impl fmt::Display for LookReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(leading) = &self.leading {
            write!(f, "{leading}, ")?;
        }
        match self.max_pairs {
            0 => write!(f, "{} pairs", self.pairs)?,
            max_pairs => write!(f, "{} of {max_pairs} pairs", self.pairs)?,
        }
        self.next_look.map_or(Ok(()), |next| write!(f, ", next look at {next}"))
    }
}

/// `latency.p99 of match -18.9% [-22.0%, -15.1%]`; without the interval while it is unbounded.
impl fmt::Display for Leading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.series, Tenths(self.delta))?;
        self.interval.map_or(Ok(()), |(low, high)| write!(f, " [{}, {}]", Tenths(low), Tenths(high)))
    }
}

/// A change with its sign, to a tenth of a percent: what a progress line needs and no more.
struct Tenths(Ratio);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0.get() * 1000.0).round();
        // Zero has no sign, whichever side it was rounded from.
        if tenths == 0.0 { f.write_str("0.0%") } else { write!(f, "{:+.1}%", tenths / 10.0) }
    }
}

/// How far the gate has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Pairs so far.
    pub pairs: u32,
    /// The most pairs that will be measured.
    pub max_pairs: u32,
    /// Pairs at the next look; none when decided or with few pairs.
    pub next_look: Option<u32>,
    /// The series that stands out.
    pub leading: Option<Leading>,
    /// The verdict, once it stands.
    pub decided: Option<Decision>,
}

/// What a block led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// No look was due.
    Continue,
    /// A look was taken; more pairs are needed.
    Look(LookReport),
    /// The verdict stands; the gate takes no more blocks.
    Decided(Box<Verdict>),
}

/// The gate of one comparison on one box.
#[derive(Debug, Clone)]
pub struct Gate {
    policy: Policy,
    seed: Option<u64>,
    ledger: Ledger,
    /// Fixed at the first look, for alpha is split over it.
    roster: Option<Roster>,
    looks_taken: u32,
    decided: Option<Verdict>,
}

impl Gate {
    /// A gate without blocks. `seed` is the coin's, none if no coin drew the orders (saved files).
    pub fn new(policy: Policy, seed: Option<u64>) -> Result<Self, PolicyError> {
        policy.validate()?;
        Ok(Self { policy, seed, ledger: Ledger::default(), roster: None, looks_taken: 0, decided: None })
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Pairs so far.
    pub fn pairs(&self) -> u32 {
        self.ledger.blocks
    }

    /// The verdict, once it stands.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.decided.as_ref()
    }

    /// Takes in the next round. A refused block changes nothing.
    pub fn push(&mut self, block: impl Borrow<Block>) -> Result<Step, BlockError> {
        let block = block.borrow();
        let (round, expected) = (block.round, self.ledger.blocks);
        if round < expected {
            return Err(BlockError::Duplicate { round, expected });
        }
        if self.decided.is_some() {
            return Err(BlockError::AlreadyDecided { round, pairs: expected });
        }
        if round > expected {
            return Err(BlockError::Gap { round, expected });
        }
        self.ledger.push(&self.policy, block)?;
        let pairs = self.ledger.blocks;
        if !self.policy.looks.contains(&pairs) {
            if pairs < self.policy.max_pairs {
                return Ok(Step::Continue);
            }
            let verdict = self.finish(EndOfData::MaxPairs);
            return Ok(self.decide(verdict));
        }
        Ok(self.look(pairs))
    }

    fn look(&mut self, pairs: u32) -> Step {
        let index = self.looks_taken as usize;
        self.looks_taken += 1;
        let roster = self.roster.get_or_insert_with(|| Roster::new(&self.policy, &self.ledger));
        let policy = &self.policy;
        let boundary = |alpha| at_look(policy, alpha, index);
        let mut judgement = judge(&self.policy, &self.ledger, roster, boundary);
        let last = pairs >= self.policy.max_pairs;
        if last {
            judgement.guard(&self.policy, &self.ledger, self.seed);
        }
        if judgement.outcome.is_some() || last {
            let verdict = judgement.into_verdict(&self.policy, &self.ledger, self.seed, self.looks_taken);
            return self.decide(verdict);
        }
        let max_pairs = match self.policy.stopping {
            Stopping::Planned => self.policy.max_pairs,
            Stopping::Anytime => 0,
        };
        Step::Look(LookReport { pairs, max_pairs, next_look: self.next_look(), leading: self.leading() })
    }

    fn decide(&mut self, verdict: Verdict) -> Step {
        self.decided = Some(verdict.clone());
        Step::Decided(Box::new(verdict))
    }

    /// How far the gate has come.
    pub fn progress(&self) -> Progress {
        Progress {
            pairs: self.ledger.blocks,
            max_pairs: self.policy.max_pairs,
            next_look: self.next_look(),
            leading: self.leading(),
            decided: self.decided.as_ref().map(|v| v.decision),
        }
    }

    fn next_look(&self) -> Option<u32> {
        if self.decided.is_some() {
            return None;
        }
        self.policy.looks.iter().copied().find(|look| *look > self.ledger.blocks)
    }

    fn leading(&self) -> Option<Leading> {
        let boundary = match self.looks_taken.checked_sub(1) {
            Some(index) => at_look(&self.policy, self.policy.alpha, index as usize),
            None => f64::INFINITY,
        };
        leading(&self.policy, &self.ledger, boundary)
    }

    /// The verdict when no more data will come. What was decided before stands.
    ///
    /// From ten pairs on, a last look is taken at all pairs with all of alpha that the earlier looks left (Lan and
    /// `DeMets`: valid because the end does not depend on the effect). Below ten the few-pairs rule decides.
    ///
    /// Evidence that holds whenever one looks is held against the same levels as at any look. Only the guard for rare slow
    /// processes, which has its share of alpha to itself, relies on the end. Below ten pairs nothing is proven: the
    /// few-pairs rule assumes a noise and one look, which is less than such a job promises.
    pub fn finish(&self, why: EndOfData) -> Verdict {
        if let Some(verdict) = &self.decided {
            return verdict.clone();
        }
        let pairs = self.ledger.blocks;
        let roster = self.roster.clone().unwrap_or_else(|| Roster::new(&self.policy, &self.ledger));
        let anytime = self.policy.stopping == Stopping::Anytime;
        let (mut judgement, looks_taken) = if pairs >= FIRST_LOOK_PAIRS {
            let last = LastLook::new(&self.policy, self.looks_taken as usize, pairs);
            (judge(&self.policy, &self.ledger, &roster, |alpha| last.boundary(alpha)), last.count())
        } else if self.policy.is_strict() || anytime {
            // An assumed noise says nothing of layouts, nor whenever one looks: nothing is proven so early.
            (judge(&self.policy, &self.ledger, &roster, |_| f64::INFINITY), self.looks_taken)
        } else {
            (judge_few(&self.policy, &self.ledger, &roster), self.looks_taken)
        };
        match outcome_of(why, pairs) {
            Some(outcome) => judgement.outcome = Some(outcome),
            None if pairs >= FIRST_LOOK_PAIRS => {
                judgement.ended_early = !anytime;
                judgement.guard(&self.policy, &self.ledger, self.seed);
            }
            None => {}
        }
        judgement.into_verdict(&self.policy, &self.ledger, self.seed, looks_taken)
    }
}

/// What the end of the data says by itself, whatever was measured.
fn outcome_of(why: EndOfData, pairs: u32) -> Option<(Decision, Reason)> {
    let over = |part: u32, of: u32, limit: f64| f64::from(part) > limit * f64::from(of);
    match why {
        EndOfData::MaxPairs | EndOfData::TimeBudget => None,
        EndOfData::Cancelled => Some((Decision::Inconclusive, Reason::Cancelled { pairs })),
        EndOfData::ChallengerFailed { failed, of } => over(failed, of, FAILED_SHARE_LIMIT)
            .then_some((Decision::Reject, Reason::ChallengerFailed { failed, of })),
        EndOfData::Disturbed { voided, of } => over(voided, of, VOIDED_SHARE_LIMIT)
            .then_some((Decision::Inconclusive, Reason::Disturbed { voided, of })),
    }
}

/// The critical value at an alpha of the look with this index.
fn at_look(policy: &Policy, alpha: f64, index: usize) -> f64 {
    match policy.stopping {
        Stopping::Planned => planned(policy, alpha).at(index),
        Stopping::Anytime => eprocess::level(alpha),
    }
}

/// The boundaries of a policy's looks. Records of the first rule keep the boundaries that they were judged by.
fn planned(policy: &Policy, alpha: f64) -> Boundaries {
    match policy.score {
        Score::Clipped => Boundaries::new(&policy.looks, alpha),
        Score::Adaptive => Boundaries::of_plan(&policy.looks, alpha),
    }
}

/// An unplanned last look: the looks taken before it keep their spending, it spends the rest.
struct LastLook<'a> {
    policy: &'a Policy,
    earlier: usize,
    pairs: u32,
}

impl<'a> LastLook<'a> {
    fn new(policy: &'a Policy, taken: usize, pairs: u32) -> Self {
        let earlier = policy.looks.iter().take(taken).filter(|look| **look < pairs).count();
        Self { policy, earlier, pairs }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.earlier + 1).unwrap_or(u32::MAX)
    }

    fn boundary(&self, alpha: f64) -> f64 {
        if self.policy.stopping == Stopping::Anytime {
            return eprocess::level(alpha);
        }
        let planned = &self.policy.looks;
        let mut looks: Vec<u32> = planned.iter().take(self.earlier).copied().collect();
        let of_plan = match self.policy.score {
            Score::Clipped => spending(planned, alpha),
            Score::Adaptive => late_spending(planned, alpha),
        };
        let mut spent: Vec<f64> = of_plan.into_iter().take(self.earlier).collect();
        looks.push(self.pairs);
        spent.push(alpha);
        let boundaries = match self.policy.score {
            Score::Clipped => Boundaries::with_spending(&looks, &spent),
            Score::Adaptive => Boundaries::with_unplanned_last(&looks, &spent),
        };
        boundaries.at(self.earlier)
    }
}
