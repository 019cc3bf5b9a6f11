//! Probes before the first round of an attempt and after those that may be the last, and probes that are jobs.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use darwin_agent_core::probe::compare::{Worse, worse};
use darwin_gate::{Better, Evidence, Metric, Observation, SeriesKey, Unit};
use darwin_shared::fleet::Tier;
use darwin_shared::probe::{BoxProbe, CpuProbe, ProbeLevel, ProbeMoment, RoundProbe};
use darwin_shared::round::{Invocation, RoundResult};
use darwin_shared::spec::{Arm, Work};
use darwin_shared::usage::Usage;
use darwin_shared::void::VoidRounds;
use tokio::time::Instant;

use super::SLICE;
use super::prober::NoProbe;
use crate::run::{Bench, RoundEnd, Slot};

/// What is known of the box since before the first round of an attempt.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    /// When the first round was about to begin.
    since: OnceLock<Instant>,
    before: OnceLock<BoxProbe>,
}

impl Bench {
    /// Probes the box before the first round of an attempt that measures in rounds; a box that is not fit ends it. With the
    /// first round comes what it saw, also when that round is measured once more.
    pub(crate) async fn probe_before(
        &self,
        round: u32,
        slot: &mut Slot,
    ) -> Result<Vec<RoundProbe>, RoundEnd> {
        let length = self.prober.lengths().before;
        // Nobody else sets these: rounds of an attempt follow one another.
        if self.probing.since.set(Instant::now()).is_ok()
            && self.is_watched(length)
            && let Some(probe) = self.probed(slot, length).await?
        {
            self.check_fitness(&probe).map_err(RoundEnd::Broken)?;
            let _ = self.probing.before.set(probe);
        }
        let before = self.probing.before.get().filter(|_| round == 0).cloned();
        let told =
            before.map(|probe| RoundProbe { moment: ProbeMoment::Before, probe, worse: String::new() });
        Ok(told.into_iter().collect())
    }

    /// Says why the box is not fit to measure, if it is not and its numbers must stand.
    fn check_fitness(&self, probe: &BoxProbe) -> Result<(), String> {
        let level = probe.level();
        if level > ProbeLevel::Ok {
            tracing::info!(attempt = %self.attempt, %level, reasons = probe.reasons(), "probed before the first round");
        }
        if level == ProbeLevel::Fail && self.is_strict() {
            return Err(format!(
                "a probe before the first round says that the box is not fit to measure: {}",
                probe.reasons()
            ));
        }
        Ok(())
    }

    /// Probes the box again after a round that may be the last. Above `dev`, a box that is worse than before makes it void.
    pub(crate) async fn probe_after(
        &self,
        round: u32,
        slot: &mut Slot,
    ) -> Result<Option<RoundProbe>, RoundEnd> {
        let length = self.prober.lengths().after;
        let Some(before) = self.probing.before.get().filter(|_| self.is_watched(length)) else {
            return Ok(None);
        };
        if !self.may_be_last(round) {
            return Ok(None);
        }
        let Some(probe) = self.probed(slot, length).await? else { return Ok(None) };
        let worse = match worse(before, &probe) {
            None => String::new(),
            Some(Worse { words, cause }) => {
                tracing::warn!(attempt = %self.attempt, round, words, "the box changed while it was measured");
                if self.is_strict() {
                    return Err(RoundEnd::Void(cause));
                }
                words
            }
        };
        Ok(Some(RoundProbe { moment: ProbeMoment::After, probe, worse }))
    }

    /// Whether the box is above `dev`, so that what a probe says has consequences.
    fn is_strict(&self) -> bool {
        match self.prober.tier() {
            Tier::BareMetalIsolated | Tier::Shielded => true,
            Tier::Dev => false,
        }
    }

    /// A job of one round is over before a probe would be.
    fn is_watched(&self, length: Duration) -> bool {
        !length.is_zero() && self.spec.budget.rounds_max > 1
    }

    /// Whether the gate may end the attempt after this round, or the round is the last by number or by time.
    fn may_be_last(&self, round: u32) -> bool {
        let rounds = round.saturating_add(1);
        let looks: &[u32] = match &self.spec.work {
            Work::Compare { .. } => &self.spec.policy.looks,
            Work::Measure { .. } | Work::Probe { .. } => &[],
        };
        let is_late = self.probing.since.get().is_some_and(|since| since.elapsed() >= self.spec.budget.time);
        rounds >= self.spec.budget.rounds_max || is_late || looks.contains(&rounds)
    }

    /// The probe; none if it did not work, which is told and no reason to stop.
    async fn probed(&self, slot: &mut Slot, length: Duration) -> Result<Option<BoxProbe>, RoundEnd> {
        self.placed.rest().await;
        let probed = self.prober.probe(self, slot, length).await;
        // A longer one rests by itself.
        self.placed.ran(length.min(SLICE));
        match probed {
            Ok(probe) => Ok(Some(probe)),
            Err(NoProbe::Stopped) => Err(RoundEnd::Stopped),
            Err(NoProbe::Failed(why)) => {
                tracing::warn!(attempt = %self.attempt, why, "the box could not be probed");
                Ok(None)
            }
        }
    }

    /// The one round of a job that is a probe.
    pub(crate) async fn probe_job(&self, length: Duration, round: u32, slot: &mut Slot) -> RoundEnd {
        let begin = Instant::now();
        match self.prober.probe(self, slot, length).await {
            Ok(probe) => {
                let invocation = Invocation {
                    arm: Arm::Baseline,
                    observations: observations(&probe),
                    wall: begin.elapsed(),
                    usage: Usage::default(),
                    samples: None,
                    image: None,
                    build: None,
                };
                let probe = RoundProbe { moment: ProbeMoment::Job, probe, worse: String::new() };
                RoundEnd::Measured(
                    RoundResult {
                        attempt: self.attempt,
                        epoch: self.epoch,
                        round,
                        invocations: vec![invocation],
                        pairing: None,
                        warm_ups: Vec::new(),
                        voids: VoidRounds::default(),
                        probes: vec![probe],
                    }
                    .into(),
                )
            }
            Err(NoProbe::Stopped) => RoundEnd::Stopped,
            Err(NoProbe::Failed(why)) => RoundEnd::Broken(why),
        }
    }
}

/// A probe as statistics, so that history has their lines. What is zero is left out: a statistic is above it.
fn observations(probe: &BoxProbe) -> BTreeMap<SeriesKey, Observation> {
    let mut all = BTreeMap::new();
    for CpuProbe { cpu, gaps, capacity, .. } in &probe.cpus {
        let capacity = capacity.as_ref();
        let values = [
            ("gaps", gaps.rate_per_s, Unit::Count, gaps.count),
            ("gap-p99", gaps.p99_ns as f64, Unit::Nanoseconds, gaps.count),
            ("gap-max", gaps.max_ns as f64, Unit::Nanoseconds, gaps.count),
            ("stolen", gaps.stolen_share, Unit::Ratio, gaps.count),
            ("width", capacity.map_or(0.0, |c| c.width.median_ns as f64), Unit::Nanoseconds, runs(capacity)),
            (
                "latency",
                capacity.map_or(0.0, |c| c.latency.median_ns as f64),
                Unit::Nanoseconds,
                runs(capacity),
            ),
        ];
        for (name, value, unit, samples) in values {
            let Ok(metric) = Metric::custom(name, Better::Smaller) else { continue };
            if value > 0.0 && samples > 0 {
                let observation = Observation { value, samples, evidence: Evidence::A, unit };
                all.insert(SeriesKey { bench: format!("cpu {cpu}"), metric }, observation);
            }
        }
    }
    all
}

fn runs(capacity: Option<&darwin_shared::probe::CapacitySummary>) -> u64 {
    capacity.map_or(0, |capacity| u64::from(capacity.width.runs))
}
