//! The gate and its peers on windows of the recordings.

use std::collections::BTreeMap;

use darwin_gate::{Mode, Policy};
use rayon::prelude::*;

use crate::jury::{Bench, JuryError, MEAN, Margins, P50, P99, judge, mean_only, policy};
use crate::peers::{RULES, Recorded};
use crate::recordings::{Arm, Recording, WINDOW, Window};
use crate::stream::{Purpose, stream};
use crate::synthetic::{Calls, call_of};
use crate::tally::Tally;
use crate::variants::Round;

/// Windows in one piece of work.
const CHUNK: u32 = 50;

/// What differed in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Nothing.
    Same,
    /// The challenger did more work.
    Slower(Arm),
    /// The baseline did more work.
    Faster(Arm),
}

impl Case {
    /// Every case.
    pub const ALL: [Self; 7] = [
        Self::Same,
        Self::Slower(Arm::More1),
        Self::Slower(Arm::More2),
        Self::Slower(Arm::More5),
        Self::Faster(Arm::More1),
        Self::Faster(Arm::More2),
        Self::Faster(Arm::More5),
    ];

    /// The cases that peers are asked under.
    pub const PEERS: [Self; 3] = [Self::Same, Self::Slower(Arm::More2), Self::Slower(Arm::More5)];

    /// The name in tables.
    pub fn name(self) -> String {
        let percent = |arm| match arm {
            Arm::SameA | Arm::SameB => 0,
            Arm::More1 => 1,
            Arm::More2 => 2,
            Arm::More5 => 5,
        };
        match self {
            Self::Same => "identical".to_owned(),
            Self::Slower(arm) => format!("{}% more work", percent(arm)),
            Self::Faster(arm) => format!("{}% less work", percent(arm)),
        }
    }

    fn rounds(self, window: Window<'_>) -> Vec<Round> {
        match self {
            Self::Same => window.same().collect(),
            Self::Slower(arm) => window.more_work(arm, false).collect(),
            Self::Faster(arm) => window.more_work(arm, true).collect(),
        }
    }
}

/// The numbers of pairs that jobs are allowed.
pub const MAX_PAIRS: [u32; 2] = [40, 80];

/// The results on one recording.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The gate's verdicts, by the most pairs and the case.
    pub verdicts: BTreeMap<(u32, Case), Tally>,
    /// By case: the calls of each rule of [`RULES`]; none of a rule that needs more than a recording has.
    pub peers: BTreeMap<Case, Vec<Calls>>,
    /// By case: the calls of the gate when it is shown the mean and nothing else, in at most 40 pairs.
    pub mean_only: BTreeMap<Case, Calls>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        for (cell, tally) in &other.verdicts {
            self.verdicts.entry(*cell).or_default().add(tally);
        }
        for (case, calls) in other.peers {
            let sums = self.peers.entry(case).or_insert_with(|| vec![Calls::default(); calls.len()]);
            for (sum, more) in sums.iter_mut().zip(calls) {
                sum.add(more);
            }
        }
        for (case, calls) in other.mean_only {
            self.mean_only.entry(case).or_default().add(calls);
        }
    }
}

/// Runs all trials of a recording, on all threads of the current pool.
pub fn run(
    cell: u8,
    recording: &Recording,
    seed: u64,
    trials: u32,
    peers: bool,
) -> Result<Outcome, JuryError> {
    let court = Court::new()?;
    let chunks: Vec<Outcome> = (0..trials.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| {
            let mut outcome = Outcome::default();
            for trial in (chunk * CHUNK..trials).take(CHUNK as usize) {
                let window = recording.window(&mut stream(seed, Purpose::Window, cell, trial));
                for case in Case::ALL {
                    court.hear(window, case, &mut outcome)?;
                }
                if peers {
                    for case in Case::PEERS {
                        court.compare(window, case, (seed, cell, trial), &mut outcome)?;
                    }
                }
            }
            Ok(outcome)
        })
        .collect::<Result<_, JuryError>>()?;
    let mut sum = Outcome::default();
    for chunk in chunks {
        sum.add(chunk);
    }
    Ok(sum)
}

/// The policies, made once.
struct Court {
    policies: Vec<(u32, Policy)>,
    bench: Bench,
    mean_policy: Policy,
    mean_bench: Bench,
}

impl Court {
    fn new() -> Result<Self, JuryError> {
        let with_policy = |pairs| Ok((pairs, policy(Margins::RECORDED, pairs, Mode::Faster)?));
        Ok(Self {
            policies: MAX_PAIRS.into_iter().map(with_policy).collect::<Result<_, JuryError>>()?,
            bench: Bench::new("bench", &[P50, MEAN, P99]),
            mean_policy: mean_only(Margins::RECORDED.mean, MAX_PAIRS[0])?,
            mean_bench: Bench::new("bench", &[MEAN]),
        })
    }

    fn hear(&self, window: Window<'_>, case: Case, outcome: &mut Outcome) -> Result<(), JuryError> {
        let rounds = case.rounds(window);
        for (pairs, policy) in &self.policies {
            let rounds = rounds.iter().take(*pairs as usize).copied();
            let verdict = judge(policy, window.coin(), &self.bench, rounds)?;
            outcome.verdicts.entry((*pairs, case)).or_default().note(&verdict, &[]);
        }
        Ok(())
    }

    fn compare(
        &self,
        window: Window<'_>,
        case: Case,
        (seed, cell, trial): (u64, u8, u32),
        outcome: &mut Outcome,
    ) -> Result<(), JuryError> {
        let rounds = case.rounds(window);
        let slots = Recorded::new(rounds.iter().copied());
        let mut rng = stream(seed, Purpose::Peers, cell, trial);
        let sums = outcome.peers.entry(case).or_insert_with(|| vec![Calls::default(); RULES.len()]);
        for (sum, rule) in sums.iter_mut().zip(&RULES) {
            if let Some(call) = (rule.call)(&slots, &mut rng) {
                sum.note(call);
            }
        }
        let rounds = rounds.into_iter().take(MAX_PAIRS[0] as usize);
        let verdict = judge(&self.mean_policy, window.coin(), &self.mean_bench, rounds)?;
        outcome.mean_only.entry(case).or_default().note(call_of(verdict.decision));
        Ok(())
    }
}

/// A window holds every job.
const _: () = assert!(MAX_PAIRS[1] as usize <= WINDOW);
