//! The gate and its peers on synthetic noise: every session is drawn once and serves for all effects and all rules.

use std::collections::BTreeMap;

use darwin_gate::Policy;

use crate::calls::{Calls, add_own, add_peers, ask_peers, call_of};
use crate::gather::gather;
use crate::jury::{Bench, JuryError, MEAN, Margins, P50, P99, judge, mean_only, policy};
use crate::noise::{Model, SLOTS, Session};
use crate::peers::Synthetic;
use crate::scenario::Scenario;
use crate::stream::{Purpose, stream};
use crate::tally::Tally;
use crate::variants::{Effect, Potential, Values};

/// The most pairs of a synthetic job: all that a session has.
const MAX_PAIRS: u32 = 40;
/// Trials in one piece of work.
const CHUNK: u32 = 25;
/// One trial in so many is also put before the peers, whose bootstraps are slow.
pub const PEERS_EVERY: u32 = 2;

/// The changes under which peers are asked.
pub const PEER_SCENARIOS: [Scenario; 4] =
    [Scenario::Same, Scenario::Slower(2), Scenario::Slower(5), Scenario::SlowerTail];

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed of the whole run.
    pub seed: u64,
    /// Sessions of each model.
    pub trials: u32,
    /// Scenarios that the gate is asked under.
    pub scenarios: Vec<Scenario>,
    /// Whether the peers are asked too.
    pub peers: bool,
    /// Whether the values are kept, for families of benches.
    pub keep: bool,
}

/// What is kept of a trial for families: the values of every slot, and the challenger's factor there.
#[derive(Debug, Clone)]
pub struct Kept {
    slots: Vec<[f32; 4]>,
}

impl Kept {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "kept by the thousand, and single precision is ample"
    )]
    fn new(potential: &Potential<'_>) -> Self {
        let of_slot = |slot| {
            let Values { p50, mean, p99 } = potential.baseline(slot);
            let factor = potential.factor(slot, Effect::default());
            [p50 as f32, mean as f32, p99 as f32, factor as f32]
        };
        Self { slots: (0..SLOTS).map(of_slot).collect() }
    }

    /// What a baseline measures in a slot.
    pub fn baseline(&self, slot: usize) -> Values {
        let [p50, mean, p99, _] = self.slots[slot].map(f64::from);
        Values { p50, mean, p99 }
    }

    /// What a challenger measures in a slot whose latencies are all multiplied by `1 + change`.
    pub fn challenger(&self, slot: usize, change: f64) -> Values {
        let [p50, mean, p99, factor] = self.slots[slot].map(f64::from);
        let factor = factor * (1.0 + change);
        Values { p50: p50 * factor, mean: mean * factor, p99: p99 * factor }
    }
}

/// The results on one model.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The gate's verdicts.
    pub verdicts: BTreeMap<Scenario, Tally>,
    /// By scenario: the calls of each rule of [`crate::peers::RULES`].
    pub peers: BTreeMap<Scenario, Vec<Calls>>,
    /// By scenario: the calls of the gate when it is shown the mean and nothing else, like the peers.
    pub mean_only: BTreeMap<Scenario, Calls>,
    /// The values of every trial, if they were to be kept.
    pub kept: Vec<Kept>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        for (scenario, tally) in &other.verdicts {
            self.verdicts.entry(*scenario).or_default().add(tally);
        }
        add_peers(&mut self.peers, other.peers);
        add_own(&mut self.mean_only, other.mean_only);
        self.kept.extend(other.kept);
    }
}

/// Runs all trials of a model, on all threads of the current pool. The result does not depend on their number.
pub fn run(model: Model, plan: &Plan) -> Result<Outcome, JuryError> {
    let court = Court::new(plan)?;
    gather(plan.trials, CHUNK, Outcome::add, |trial, outcome| court.hear(model, trial, plan, outcome))
}

/// The policies, made once.
struct Court {
    policies: Vec<(Scenario, Policy)>,
    bench: Bench,
    mean_policy: Policy,
    mean_bench: Bench,
}

impl Court {
    fn new(plan: &Plan) -> Result<Self, JuryError> {
        let with_policy =
            |scenario: &Scenario| Ok((*scenario, policy(Margins::SYNTHETIC, MAX_PAIRS, scenario.mode())?));
        Ok(Self {
            policies: plan.scenarios.iter().map(with_policy).collect::<Result<_, JuryError>>()?,
            bench: Bench::new("bench", &[P50, MEAN, P99]),
            mean_policy: mean_only(Margins::SYNTHETIC.mean, MAX_PAIRS)?,
            mean_bench: Bench::new("bench", &[MEAN]),
        })
    }

    fn hear(&self, model: Model, trial: u32, plan: &Plan, outcome: &mut Outcome) -> Result<(), JuryError> {
        let rng = |purpose| stream(plan.seed, purpose, model as u8, trial);
        let session = Session::draw(model, &mut rng(Purpose::Noise));
        let potential = Potential::draw(model, &session, &mut rng(Purpose::Variants));
        for (scenario, policy) in &self.policies {
            let rounds = potential.rounds(scenario.effect());
            let verdict = judge(policy, potential.coin(), &self.bench, rounds)?;
            outcome.verdicts.entry(*scenario).or_default().note(&verdict, &scenario.truth());
        }
        if plan.peers && trial.is_multiple_of(PEERS_EVERY) {
            let mut rng = rng(Purpose::Peers);
            for scenario in PEER_SCENARIOS {
                let slots = Synthetic::new(&potential, scenario.effect());
                ask_peers(outcome.peers.entry(scenario).or_default(), &slots, &mut rng);
                let rounds = potential.rounds(scenario.effect());
                let verdict = judge(&self.mean_policy, potential.coin(), &self.mean_bench, rounds)?;
                outcome.mean_only.entry(scenario).or_default().note(call_of(verdict.decision));
            }
        }
        if plan.keep {
            outcome.kept.push(Kept::new(&potential));
        }
        Ok(())
    }
}
