//! A round as a sliced pair, where the plan and the benches allow it; see `docs/sliced.md`.

use std::path::Path;

use darwin_agent_core::slices::{End, SLICE, SLICES, Setting, Settled};
use darwin_gate::Order;
use darwin_shared::formats::Format;
use darwin_shared::round::Pairing;
use darwin_shared::spec::{Arm, PairPlan};
use darwin_shared::state::{FailureCause, Stage};

use super::environment::Surroundings;
use super::pair::{PairOutcome, SLICE_VARIABLE, conduct, slice_variable};
use super::plugin;
use super::process::{Process, Slot};
use super::round::{Bench, RoundEnd, Side, failure};
use super::warm_up::ReadSide;

/// How often a pair is measured that is void each time: what breaks the protocol thrice does not keep to it.
const TRIES: u32 = 3;

/// What one try at a pair came to.
enum Try {
    /// Its results count.
    Measured(Vec<ReadSide>),
    /// This pair and all later ones are measured one after the other.
    Plainly,
    /// The pair is void, by this side's doing.
    Void(Arm, String),
}

impl Bench {
    /// Measures a round in slices; none if pairs are to be measured one after the other, which is then settled.
    pub(super) async fn measure_sliced(
        &self,
        sides: &[&Side],
        order: Order,
        round: u32,
        slot: &mut Slot,
    ) -> Option<Result<Vec<ReadSide>, RoundEnd>> {
        let &[first, second] = sides else { return None };
        let settled = self.settled()?;
        let setting = Setting { seed: self.spec.seed, round, order, settled };
        for number in 1..=TRIES {
            match self.try_sliced([first, second], setting, slot).await {
                Ok(Try::Measured(read)) => return Some(Ok(read)),
                Ok(Try::Plainly) => return None,
                Ok(Try::Void(arm, why)) => {
                    tracing::warn!(attempt = %self.attempt, round, number, why, "a sliced pair is void");
                    self.broken_pair(&why);
                    if number < TRIES {
                        continue;
                    }
                    if settled == (Settled::Open { required: false }) {
                        self.settle_plain(why);
                        return None;
                    }
                    let side = if first.arm == arm { first } else { second };
                    return Some(Err(not_sliced(side, why)));
                }
                Err(end) => return Some(Err(end)),
            }
        }
        None
    }

    /// Whether the pair that is due may be sliced, and must be; none if it must not.
    fn settled(&self) -> Option<Settled> {
        match (self.pairing.get(), self.spec.plan) {
            (Some(Pairing::Sliced { .. }), _) => Some(Settled::Sliced),
            (Some(Pairing::Plain { .. }), _) => None,
            (None, PairPlan::Pairs) => {
                self.settle_plain("`plan` says so".to_owned());
                None
            }
            (None, PairPlan::Auto | PairPlan::Sliced) if self.spec.format == Format::Process => {
                self.settle_plain("the format `process` times the whole command".to_owned());
                None
            }
            (None, PairPlan::Auto | PairPlan::Sliced)
                if self.sides.iter().any(|side| side.image.is_some()) =>
            {
                self.settle_plain("containers cannot take turns".to_owned());
                None
            }
            (None, PairPlan::Auto) => Some(Settled::Open { required: false }),
            (None, PairPlan::Sliced) => Some(Settled::Open { required: true }),
        }
    }

    fn settle_plain(&self, why: String) {
        // Rounds of an attempt follow one another: nobody else settles it meanwhile.
        let _ = self.pairing.set(Pairing::Plain { why });
    }

    async fn try_sliced(
        &self,
        sides: [&Side; 2],
        setting: Setting,
        slot: &mut Slot,
    ) -> Result<Try, RoundEnd> {
        let Some(twin) = slot.twin() else {
            return Err(RoundEnd::Broken("its slot has no twin for a pair".to_owned()));
        };
        let mut twin = twin.lock().await;
        for slot in [&*slot, &*twin] {
            slot.scratch.empty().map_err(|error| RoundEnd::Broken(format!("the scratch folder: {error}")))?;
        }
        let homes = [slot.scratch.home().to_owned(), twin.scratch.home().to_owned()];
        let outputs = [slot.scratch.output(), twin.scratch.output()];
        let [first, second] =
            [0, 1].map(|at: usize| self.sliced_process(sides[at], setting.round, &homes[at], &outputs[at]));
        let slots = [slot, &mut *twin];
        match conduct([&first, &second], setting, slots, &self.logs, &self.started, &self.stop).await {
            PairOutcome::Measured(end, runs) => {
                self.settle_measured(end);
                let mut read = Vec::with_capacity(sides.len());
                for ((side, output), (ended, written)) in sides.into_iter().zip(outputs).zip(*runs) {
                    read.push(self.read(side, setting.round, &ended, output, written).await?);
                }
                Ok(Try::Measured(read))
            }
            PairOutcome::Undone(End::Again { why }) => {
                self.settle_plain(why);
                Ok(Try::Plainly)
            }
            PairOutcome::Undone(End::Void { arm, why }) => Ok(Try::Void(arm, why)),
            PairOutcome::Undone(End::Refused { arm, why }) => {
                let side = if sides[0].arm == arm { sides[0] } else { sides[1] };
                Err(not_sliced(side, why))
            }
            PairOutcome::Undone(End::Sliced | End::Plain { .. } | End::TimedOut(_)) => {
                Err(RoundEnd::Broken("a pair came to an end that leaves nothing to read".to_owned()))
            }
            PairOutcome::Failed(..) if self.may_be_the_plugin(setting.settled) => {
                self.settle_plain("the run failed with the slice plugin for pytest loaded".to_owned());
                Ok(Try::Plainly)
            }
            PairOutcome::Failed(arm, cause, log_tail) => {
                let side = if sides[0].arm == arm { sides[0] } else { sides[1] };
                Err(RoundEnd::Failed(failure(side, Stage::Run, cause, log_tail)))
            }
            PairOutcome::Broken(why) => Err(RoundEnd::Broken(why)),
            PairOutcome::Stopped => Err(RoundEnd::Stopped),
        }
    }

    /// A pair that counts settles how all later ones are run.
    fn settle_measured(&self, end: End) {
        match end {
            End::Plain { why } => self.settle_plain(why),
            End::Sliced | End::Again { .. } | End::Void { .. } | End::Refused { .. } | End::TimedOut(_) => {
                let _ = self.pairing.set(Pairing::Sliced { slices: u32::from(SLICES), slice: SLICE });
            }
        }
    }

    /// Whether a failure of the first pair may come from our own plugin: a Python that is told to ignore its
    /// environment does not find it, say. Without it the candidate shows what it is worth.
    fn may_be_the_plugin(&self, settled: Settled) -> bool {
        settled == (Settled::Open { required: false }) && self.plugin_to_load().is_some()
    }

    fn plugin_to_load(&self) -> Option<&Path> {
        self.plugin.as_deref().filter(|_| self.spec.format == Format::PytestBenchmark)
    }

    fn sliced_process<'a>(
        &'a self,
        side: &'a Side,
        round: u32,
        home: &'a Path,
        output: &'a Path,
    ) -> Process<'a> {
        let around = Surroundings {
            attempt: self.attempt,
            arm: side.arm,
            dir: side.dir(round).unwrap_or(home),
            home,
            output,
            round,
            build: side.build(round),
            in_image: false,
        };
        let mut process = self.process(side, &around);
        process.env.insert(SLICE_VARIABLE.to_owned(), slice_variable());
        if let Some(folder) = self.plugin_to_load() {
            plugin::load_into(&mut process.env, folder);
        }
        process
    }
}

fn not_sliced(side: &Side, why: String) -> RoundEnd {
    RoundEnd::Failed(failure(side, Stage::Run, FailureCause::NotSliced(why), String::new()))
}
