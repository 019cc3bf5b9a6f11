//! The gate and its peers on rounds of the recordings.

use std::collections::BTreeMap;

use darwin_gate::{Mode, Policy};

use crate::calls::{Calls, add_own, add_peers, ask_peers, call_of};
use crate::gather::gather;
use crate::jury::{Bench, JuryError, MEAN, Margins, P50, P99, judge, mean_only, policy};
use crate::peers::Recorded;
use crate::recordings::{Arm, Drawn, ROUNDS, Recording};
use crate::stream::{Purpose, stream};
use crate::tally::Tally;
use crate::variants::Round;

/// Trials in one piece of work.
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

    fn rounds(self, drawn: &Drawn<'_>) -> Vec<Round> {
        match self {
            Self::Same => drawn.same().collect(),
            Self::Slower(arm) => drawn.more_work(arm, false).collect(),
            Self::Faster(arm) => drawn.more_work(arm, true).collect(),
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
    /// By case: the calls of each rule of [`crate::peers::RULES`]; none of a rule that needs more than a recording has.
    pub peers: BTreeMap<Case, Vec<Calls>>,
    /// By case: the calls of the gate when it is shown the mean and nothing else, in at most 40 pairs.
    pub mean_only: BTreeMap<Case, Calls>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        for (cell, tally) in &other.verdicts {
            self.verdicts.entry(*cell).or_default().add(tally);
        }
        add_peers(&mut self.peers, other.peers);
        add_own(&mut self.mean_only, other.mean_only);
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
    gather(trials, CHUNK, Outcome::add, |trial, outcome| {
        let drawn = recording.draw(&mut stream(seed, Purpose::Rounds, cell, trial));
        for case in Case::ALL {
            court.hear(&drawn, case, outcome)?;
        }
        if peers {
            for case in Case::PEERS {
                court.compare(&drawn, case, (seed, cell, trial), outcome)?;
            }
        }
        Ok(())
    })
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

    fn hear(&self, drawn: &Drawn<'_>, case: Case, outcome: &mut Outcome) -> Result<(), JuryError> {
        let rounds = case.rounds(drawn);
        for (pairs, policy) in &self.policies {
            let rounds = rounds.iter().take(*pairs as usize).copied();
            let verdict = judge(policy, drawn.coin(), &self.bench, rounds)?;
            outcome.verdicts.entry((*pairs, case)).or_default().note(&verdict, &[]);
        }
        Ok(())
    }

    fn compare(
        &self,
        drawn: &Drawn<'_>,
        case: Case,
        (seed, cell, trial): (u64, u8, u32),
        outcome: &mut Outcome,
    ) -> Result<(), JuryError> {
        let rounds = case.rounds(drawn);
        let slots = Recorded::new(rounds.iter().copied());
        let mut rng = stream(seed, Purpose::Peers, cell, trial);
        ask_peers(outcome.peers.entry(case).or_default(), &slots, &mut rng);
        let rounds = rounds.into_iter().take(MAX_PAIRS[0] as usize);
        let verdict = judge(&self.mean_policy, drawn.coin(), &self.mean_bench, rounds)?;
        outcome.mean_only.entry(case).or_default().note(call_of(verdict.decision));
        Ok(())
    }
}

/// A trial holds every job.
const _: () = assert!(MAX_PAIRS[1] as usize <= ROUNDS);
