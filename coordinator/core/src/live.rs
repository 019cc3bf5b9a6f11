//! An attempt under way: its phase, its lease, and the rounds folded into the gate so far.

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_gate::mser::WarmUps;
use darwin_gate::{Block, Builds, EndOfData, Gate, Observation, Order, SeriesKey, Step, Verdict, order};
use darwin_shared::ids::{AgentId, Epoch};
use darwin_shared::probe::BoxWatch;
use darwin_shared::round::{Pairing, RoundResult};
use darwin_shared::spec::{Arm, JobSpec, Work};
use darwin_shared::state::{MeasuredSeries, Outcome, Phase};
use darwin_shared::used::UseTally;
use darwin_shared::void::VoidRounds;
use thiserror::Error;

/// Series that one job may have; a suite of 10,000 benches with a dozen metrics fits.
pub const MAX_SERIES: usize = 150_000;

/// Why a round cannot be folded in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FoldError {
    /// An arm is missing, doubled or not wanted.
    #[error("round {round} has the wrong invocations: {why}")]
    Arms {
        /// The round.
        round: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// A value that no bench can have measured, or that fits none before it.
    #[error("{0}")]
    Values(String),
    /// More series than a job may have.
    #[error("the benches report more than {MAX_SERIES} series; split the suite")]
    TooManySeries,
}

/// What a folded round led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Folded {
    /// Go on.
    Continue,
    /// The gate has decided.
    Decided(Box<Verdict>),
}

/// Values of one series, one for each invocation.
#[derive(Debug, Clone)]
struct Column {
    unit: darwin_gate::Unit,
    values: Vec<f64>,
    samples: u64,
}

/// What the rounds go into.
#[derive(Debug, Clone)]
enum Sink {
    /// A comparison.
    Gate(Box<Gate>),
    /// The gate has spoken; further rounds change nothing.
    Decided,
    /// A measurement of one variant.
    Columns(BTreeMap<SeriesKey, Column>),
}

/// An attempt under way.
#[derive(Debug, Clone)]
pub struct Live {
    /// Who has it.
    pub agent: AgentId,
    /// Its fence.
    pub epoch: Epoch,
    /// How far it is.
    pub phase: Phase,
    /// CPUs that the benches run on, once they do.
    pub cpus: String,
    /// The isolation that took effect, once it did.
    pub isolation: String,
    /// What was read back of its benches and done for them.
    pub placement: String,
    /// When it is taken for lost if nothing is heard of it.
    pub lost_at: Duration,
    /// Invocations started, by its last renewal.
    pub invocations: u64,
    /// Rounds folded in.
    pub rounds: u32,
    /// The gate's progress in words, after its last look.
    pub progress: String,
    /// The next look of the gate, in rounds; 0 if there is none.
    pub next_look: u32,
    /// How the pairs are run, by the newest round that told.
    pub pairing: Option<Pairing>,
    /// The images that the benches run in, by the newest round; empty for processes.
    pub images: BTreeMap<Arm, String>,
    /// What the processes used.
    pub used: UseTally,
    /// What probes saw of the box.
    pub probes: BoxWatch,
    /// Void measurements of the rounds that are folded in.
    voids: VoidRounds,
    /// Void measurements of the round in progress, by the newest word of it.
    disturbed: VoidRounds,
    /// What the rounds told of their warm-up.
    warm_ups: WarmUps,
    sink: Sink,
}

impl Live {
    /// An attempt that was just granted.
    pub fn granted(
        spec: &JobSpec,
        agent: AgentId,
        epoch: Epoch,
        lost_at: Duration,
    ) -> Result<Self, FoldError> {
        let sink = match &spec.work {
            Work::Compare { .. } => {
                let gate = Gate::new(spec.policy.clone(), Some(spec.seed))
                    .map_err(|e| FoldError::Values(e.to_string()))?;
                Sink::Gate(Box::new(gate))
            }
            Work::Measure { .. } | Work::Probe { .. } => Sink::Columns(BTreeMap::new()),
        };
        let next_look = match &spec.work {
            Work::Compare { .. } => spec.policy.looks.first().copied().unwrap_or(0),
            Work::Measure { .. } | Work::Probe { .. } => 0,
        };
        Ok(Self {
            agent,
            epoch,
            phase: Phase::Granted,
            cpus: String::new(),
            isolation: String::new(),
            placement: String::new(),
            lost_at,
            invocations: 0,
            rounds: 0,
            progress: String::new(),
            next_look,
            pairing: None,
            images: BTreeMap::new(),
            voids: VoidRounds::default(),
            disturbed: VoidRounds::default(),
            used: UseTally::default(),
            probes: BoxWatch::default(),
            warm_ups: WarmUps::default(),
            sink,
        })
    }

    /// Folds the round that is due. Rounds before it are the caller's to ignore, rounds after it to ask again.
    pub fn fold(&mut self, spec: &JobSpec, result: &RoundResult) -> Result<Folded, FoldError> {
        let mut folded = match &mut self.sink {
            Sink::Gate(gate) => {
                let block = block_of(spec.seed, result)?;
                match gate.push(&block).map_err(|e| FoldError::Values(e.to_string()))? {
                    Step::Continue => Folded::Continue,
                    Step::Look(look) => {
                        self.progress = look.to_string();
                        self.next_look = look.next_look.unwrap_or(0);
                        Folded::Continue
                    }
                    Step::Decided(verdict) => Folded::Decided(verdict),
                }
            }
            Sink::Decided => Folded::Continue,
            Sink::Columns(columns) => {
                fold_columns(columns, result)?;
                Folded::Continue
            }
        };
        self.warm_ups.add_round(&result.warm_ups);
        for invocation in &result.invocations {
            self.used.add(invocation.arm, &invocation.usage);
        }
        if let Folded::Decided(verdict) = &mut folded {
            verdict.notes.extend(self.warm_ups.notes());
            verdict.notes.extend(self.used.notes(&spec.policy));
            self.sink = Sink::Decided;
        }
        for invocation in &result.invocations {
            if let Some(image) = &invocation.image {
                self.images.insert(invocation.arm, image.clone());
            }
        }
        if result.pairing.is_some() {
            self.pairing.clone_from(&result.pairing);
        }
        self.probes.add(&result.probes);
        // It tells all of its own, whatever was told of it before.
        self.voids.merge(result.voids.clone());
        self.disturbed = VoidRounds::default();
        self.rounds += 1;
        self.phase = Phase::Running { round: self.rounds };
        Ok(folded)
    }

    /// Void measurements of the round in progress, which tells them again once it is measured.
    pub fn disturbed(&mut self, voids: VoidRounds) {
        self.disturbed = voids;
    }

    /// The isolation that took effect and what was read back of the benches, in a line; empty before that was told.
    pub fn placed(&self) -> String {
        match (self.isolation.as_str(), self.placement.as_str()) {
            ("", _) => String::new(),
            (isolation, "") => isolation.to_owned(),
            (isolation, placement) => format!("{isolation}: {placement}"),
        }
    }

    /// All void measurements so far.
    pub fn all_voids(&self) -> VoidRounds {
        let mut all = self.voids.clone();
        all.merge(self.disturbed.clone());
        all
    }

    /// What the job comes to if the box did not come to rest; none if nothing came of it.
    ///
    /// That does not depend on what was measured: the rounds that count are judged, if few enough were void.
    pub fn give_up(&self) -> Option<Outcome> {
        match &self.sink {
            Sink::Gate(gate) => {
                let voids = self.all_voids();
                let voided = voids.by_the_box();
                let mut verdict =
                    gate.finish(EndOfData::Disturbed { voided, of: self.rounds.saturating_add(voided) });
                verdict.notes.extend(self.warm_ups.notes());
                verdict
                    .notes
                    .push(format!("no more rounds were measured, for the box did not come to rest: {voids}"));
                Some(Outcome::Judged(Box::new(verdict)))
            }
            Sink::Decided => None,
            Sink::Columns(_) if self.rounds == 0 => None,
            Sink::Columns(columns) => Some(Outcome::Measured(columns.iter().map(summed_up).collect())),
        }
    }

    /// What the job comes to when no more rounds will come: by their number, or because time ran out.
    pub fn conclude(&self, spec: &JobSpec) -> Option<Outcome> {
        match &self.sink {
            Sink::Gate(gate) => {
                let why = if self.rounds >= spec.budget.rounds_max {
                    EndOfData::MaxPairs
                } else {
                    EndOfData::TimeBudget
                };
                let mut verdict = gate.finish(why);
                verdict.notes.extend(self.warm_ups.notes());
                verdict.notes.extend(self.used.notes(&spec.policy));
                Some(Outcome::Judged(Box::new(verdict)))
            }
            Sink::Decided => None,
            Sink::Columns(columns) => Some(Outcome::Measured(columns.iter().map(summed_up).collect())),
        }
    }
}

fn block_of(seed: u64, result: &RoundResult) -> Result<Block, FoldError> {
    let refuse = |why| FoldError::Arms { round: result.round, why };
    let [first, second] = result.invocations.as_slice() else {
        return Err(refuse("a comparison has one of each variant"));
    };
    let order = order(seed, result.round);
    let (baseline, challenger) = match (order, first.arm, second.arm) {
        (Order::BaselineFirst, Arm::Baseline, Arm::Challenger) => (first, second),
        (Order::ChallengerFirst, Arm::Challenger, Arm::Baseline) => (second, first),
        (_, Arm::Baseline, Arm::Baseline) | (_, Arm::Challenger, Arm::Challenger) => {
            return Err(refuse("the same variant ran twice"));
        }
        (Order::BaselineFirst | Order::ChallengerFirst, Arm::Baseline | Arm::Challenger, _) => {
            return Err(refuse("the variants did not run in the order that was drawn"));
        }
    };
    Ok(Block {
        round: result.round,
        order,
        baseline: baseline.observations.clone(),
        challenger: challenger.observations.clone(),
        builds: Builds { baseline: baseline.build, challenger: challenger.build },
    })
}

fn fold_columns(columns: &mut BTreeMap<SeriesKey, Column>, result: &RoundResult) -> Result<(), FoldError> {
    let [invocation] = result.invocations.as_slice() else {
        return Err(FoldError::Arms { round: result.round, why: "a measurement has one invocation in each" });
    };
    for (key, Observation { value, samples, unit, evidence: _ }) in &invocation.observations {
        if columns.len() >= MAX_SERIES && !columns.contains_key(key) {
            return Err(FoldError::TooManySeries);
        }
        let column = columns.entry(key.clone()).or_insert_with(|| Column {
            unit: *unit,
            values: Vec::with_capacity(1),
            samples: 0,
        });
        column.values.push(*value);
        column.samples = column.samples.saturating_add(*samples);
    }
    Ok(())
}

fn summed_up((series, column): (&SeriesKey, &Column)) -> MeasuredSeries {
    let mut sorted = column.values.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().div_ceil(2).saturating_sub(1);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    MeasuredSeries {
        series: series.clone(),
        unit: column.unit,
        center: at(middle),
        least: at(0),
        most: at(sorted.len().saturating_sub(1)),
        invocations: u32::try_from(sorted.len()).unwrap_or(u32::MAX),
        samples: column.samples,
    }
}
