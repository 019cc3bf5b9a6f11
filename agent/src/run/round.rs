//! One round: every side once, in the order that the coin says, on the same cores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use darwin_agent_core::cpu_alloc::Granted;
use darwin_gate::{Observation, Order, SeriesKey, build, order};
use darwin_proto::{MAX_MESSAGE_BYTES, v1};
use darwin_shared::formats::{Format, measured_process, peak_memory, used_series};
use darwin_shared::ids::{AttemptId, Epoch};
use darwin_shared::round::{Invocation, Pairing, RoundResult};
use darwin_shared::spec::{Arm, JobSpec, Work};
use darwin_shared::state::{Failure, FailureCause, Stage};
use darwin_shared::void::{VoidCause, VoidRounds};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::environment::{Folders, Surroundings, fill};
use super::placing::{Placed, Placing};
use super::process::{Outcome, Process, Slot};
use super::result;
use super::warm_up::{ReadSide, without_warm_up};
use super::watch::{Before, Watch};
use crate::config::BenchLimits;
use crate::docker::StagedImage;
use crate::exec::Ended;
use crate::logs::{AttemptLogs, Written};
use crate::measure::keep_counted_on_both;
use crate::probe::{Prober, Probing, SLICE};
use crate::stage::Reserved;

/// What a message takes around a round, its void measurements among it.
const HEAD_BYTES: usize = 4096;

/// A variant that is ready to be measured.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) arm: Arm,
    pub(crate) label: String,
    /// Its builds: several relinked ones where the policy is strict, else one.
    pub(crate) builds: Vec<Built>,
    /// The image that it runs in; none for a process of the box.
    pub(crate) image: Option<Arc<StagedImage>>,
}

/// One build of a variant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Built {
    /// Its files; none leaves it in the slot's empty folder.
    pub(crate) dir: Option<PathBuf>,
    /// Keeps the folder from being given to another attempt or evicted.
    pub(crate) _reserved: Option<Arc<Reserved>>,
}

impl Side {
    /// Which of its builds runs in this round; none if there is one only.
    pub(crate) fn build(&self, round: u32) -> Option<u32> {
        let builds = u32::try_from(self.builds.len()).unwrap_or(u32::MAX);
        (builds > 1).then(|| build(builds, round))
    }

    /// The files that run in this round.
    pub(crate) fn dir(&self, round: u32) -> Option<&Path> {
        let built = self.builds.get(self.build(round).unwrap_or(0) as usize)?;
        built.dir.as_deref()
    }
}

/// Everything about an attempt that has cores.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) attempt: AttemptId,
    pub(crate) epoch: Epoch,
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) sides: Vec<Side>,
    pub(crate) granted: Granted,
    pub(crate) placed: Placed,
    pub(crate) limits: BenchLimits,
    pub(crate) logs: Arc<AttemptLogs>,
    pub(crate) started: Arc<AtomicU64>,
    pub(crate) stop: CancellationToken,
    /// Where pytest finds the plugin that answers the slice protocol; none where it could not be put.
    pub(crate) plugin: Option<Arc<Path>>,
    /// How pairs are run, once the first one has settled it.
    pub(crate) pairing: OnceLock<Pairing>,
    /// What happens on its cores while it measures.
    pub(crate) watch: Watch,
    /// Sliced pairs that were void since a round was measured last.
    pub(crate) broken_pairs: Mutex<VoidRounds>,
    pub(crate) prober: Arc<Prober>,
    /// What probes saw of the box.
    pub(crate) probing: Probing,
}

/// How a round went.
#[derive(Debug)]
pub(crate) enum RoundEnd {
    /// Every side was measured; as it goes into the spool and over the link.
    Measured(v1::RoundResult),
    /// The box disturbed it: by what, the gravest cause first.
    Void(VoidCause),
    /// A side failed.
    Failed(Failure),
    /// The box failed.
    Broken(String),
    /// It was told to stop.
    Stopped,
}

/// Measures a round that was void once more: after a pause, for the box to come to rest.
pub(crate) async fn measure_again(bench: &Bench, round: u32, slot: &mut Slot, after: Duration) -> RoundEnd {
    tokio::select! {
        () = tokio::time::sleep(after) => {}
        () = bench.stop.cancelled() => return RoundEnd::Stopped,
    }
    measure(bench, round, slot).await
}

/// Measures a round on this slot.
pub(crate) async fn measure(bench: &Bench, round: u32, slot: &mut Slot) -> RoundEnd {
    let mut sides: Vec<&Side> = bench.sides.iter().collect();
    let step_max = bench.spec.steps.run.timeout;
    let run_max = match bench.spec.work {
        // However long it watches, it leaves its core to others in between.
        Work::Probe { .. } => SLICE,
        Work::Compare { .. } | Work::Measure { .. } => {
            let one = bench.limits.time_max.map_or(step_max, |most| most.min(step_max));
            // The two of a sliced pair have the core between them all the time.
            if bench.sides.len() > 1 && bench.spec.may_be_sliced() { one.saturating_mul(2) } else { one }
        }
    };
    if let Err(why) = bench.placed.stand(slot.lease(), &bench.granted, &bench.spec, run_max).await {
        return RoundEnd::Broken(why);
    }
    if let Work::Probe { length } = bench.spec.work {
        return bench.probe_job(length, round, slot).await;
    }
    let mut probes = match bench.probe_before(round, slot).await {
        Ok(probes) => probes,
        Err(end) => return end,
    };
    let order = order(bench.spec.seed, round);
    match order {
        Order::BaselineFirst => {}
        Order::ChallengerFirst => sides.reverse(),
    }
    let before = bench.watch.before().await;
    let read = match bench.measure_sliced(&sides, order, round, slot).await {
        Some(read) => read,
        None => bench.measure_plainly(&sides, round, slot).await,
    };
    let read = match read {
        Ok(read) => read,
        Err(end) => return end,
    };
    if let Some(cause) = bench.disturbed_by(before, &read, round).await {
        return RoundEnd::Void(cause);
    }
    let (mut invocations, warm_ups): (Vec<Invocation>, _) = match bench.pairing.get() {
        // What the switches left cold is out already; the sides make as many calls as fit into their slices, and to cut
        // the same number from both would take other slices from either.
        Some(Pairing::Sliced { .. }) => (read.into_iter().map(|side| side.invocation).collect(), Vec::new()),
        Some(Pairing::Plain { .. }) | None => without_warm_up(read, &bench.spec.policy),
    };
    keep_counted_on_both(&mut invocations);
    match bench.probe_after(round, slot).await {
        Ok(after) => probes.extend(after),
        Err(end) => return end,
    }
    let result = RoundResult {
        attempt: bench.attempt,
        epoch: bench.epoch,
        round,
        invocations,
        pairing: bench.pairing.get().cloned(),
        warm_ups,
        probes,
        voids: bench.take_broken_pairs(),
    };
    bench.for_the_wire(result)
}

impl Bench {
    /// What disturbed a round that was just measured, first of all; none if it was clean. Judged by what was read outside
    /// the bench and never by what it measured, so that a round that is measured again is as good as any.
    async fn disturbed_by(&self, before: Before, read: &[ReadSide], round: u32) -> Option<VoidCause> {
        let used = read.iter().map(|side| side.invocation.usage);
        let causes = self.watch.after(before, used, self.placed.take_astray()).await;
        let mut causes = causes.into_iter();
        let first = causes.next()?;
        let others: Vec<String> = causes.map(|cause| cause.to_string()).collect();
        tracing::warn!(attempt = %self.attempt, round, cause = %first, also = others.join(", "), "a round is void");
        Some(first)
    }

    fn take_broken_pairs(&self) -> VoidRounds {
        std::mem::take(&mut *self.broken_pairs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a sliced pair that was void.
    pub(super) fn broken_pair(&self, why: &str) {
        self.broken_pairs.lock().unwrap_or_else(PoisonError::into_inner).add(VoidCause::slices(why));
    }

    /// The result as a message, if it fits one.
    fn for_the_wire(&self, result: RoundResult) -> RoundEnd {
        let statistics: usize =
            result.invocations.iter().map(|invocation| invocation.observations.len()).sum();
        let message = v1::RoundResult::from(result);
        let bytes = message.encoded_len() + HEAD_BYTES;
        match self.sides.last() {
            Some(side) if bytes > MAX_MESSAGE_BYTES => {
                let why = format!(
                    "its {statistics} statistics take {bytes} bytes; a round may have {MAX_MESSAGE_BYTES}: split the \
                     suite, or give its benches shorter names"
                );
                RoundEnd::Failed(failure(side, Stage::Read, FailureCause::Unreadable(why), String::new()))
            }
            Some(_) | None => RoundEnd::Measured(message),
        }
    }

    /// One process after the other.
    async fn measure_plainly(
        &self,
        sides: &[&Side],
        round: u32,
        slot: &mut Slot,
    ) -> Result<Vec<ReadSide>, RoundEnd> {
        let mut read = Vec::with_capacity(sides.len());
        for side in sides {
            read.push(self.invoke(side, round, slot).await?);
        }
        Ok(read)
    }

    /// The process of one invocation.
    pub(super) fn process<'a>(&'a self, side: &'a Side, around: &Surroundings<'a>) -> Process<'a> {
        let step = &self.spec.steps.run;
        let mut env = around.environment(&self.spec);
        let dirs = self.sides.iter().map(|side| side.dir(around.round).unwrap_or(around.home));
        around.fill_up(&mut env, &self.spec, dirs);
        Process {
            argv: fill(&step.command, around, self.spec.seed),
            env,
            cwd: around.dir,
            image: side.image.as_ref(),
            attempt: self.attempt,
            placing: Some(Placing {
                granted: &self.granted,
                isolation: self.spec.cores.isolation,
                layout: self.spec.layout,
                placed: &self.placed,
            }),
            fifo: self.placed.fifo(),
            count_stolen: self.watch.counts_stolen(),
            timeout: step.timeout,
            limits: &self.limits,
            stage: Stage::Run,
            arm: around.arm,
        }
    }

    async fn invoke(&self, side: &Side, round: u32, slot: &mut Slot) -> Result<ReadSide, RoundEnd> {
        slot.scratch.empty().map_err(|error| RoundEnd::Broken(format!("the scratch folder: {error}")))?;
        let Folders { dir, home, output, result } =
            Folders::new(&slot.scratch, side.dir(round), side.image.as_deref());
        let around = Surroundings {
            attempt: self.attempt,
            arm: side.arm,
            dir: &dir,
            home: &home,
            output: &output,
            round,
            build: side.build(round),
            in_image: side.image.is_some(),
        };
        let process = self.process(side, &around);
        match process.run(slot, &self.logs, &self.started, &self.stop).await {
            Outcome::Well(ended, written) => self.read(side, round, &ended, result, written).await,
            Outcome::Failed(cause, log_tail) => {
                Err(RoundEnd::Failed(failure(side, Stage::Run, cause, log_tail)))
            }
            Outcome::Broken(why) => Err(RoundEnd::Broken(why)),
            Outcome::Stopped => Err(RoundEnd::Stopped),
        }
    }

    pub(super) async fn read(
        &self,
        side: &Side,
        round: u32,
        ended: &Ended,
        output: PathBuf,
        written: Option<Written>,
    ) -> Result<ReadSide, RoundEnd> {
        let wall = Duration::from_nanos(ended.wall_ns);
        let measured = match self.spec.format {
            Format::Process => Ok(measured_process(wall, &ended.usage)),
            format @ (Format::Auto
            | Format::PytestBenchmark
            | Format::Hyperfine
            | Format::Criterion
            | Format::DarwinSamples) => result::read(format, output, self.limits.output_max_bytes).await,
        };
        let fail = |cause| {
            let log_tail = written.as_ref().map(Written::tail).unwrap_or_default();
            RoundEnd::Failed(failure(side, Stage::Read, cause, log_tail))
        };
        let measured = measured.map_err(fail)?;
        let mut observations: BTreeMap<SeriesKey, Observation> = measured.observations();
        if observations.is_empty() {
            let why = "no statistic in it is above zero, so nothing can be compared".to_owned();
            return Err(fail(FailureCause::Unreadable(why)));
        }
        if let Some(peak) = peak_memory(&ended.usage) {
            observations.extend(peak.observations());
        }
        observations.extend(used_series(&ended.usage, &self.spec.policy));
        let image = side.image.as_deref().map(|image| image.id().to_owned());
        let (arm, usage, build) = (side.arm, ended.usage, side.build(round));
        let invocation = Invocation { arm, observations, wall, usage, samples: None, image, build };
        Ok(ReadSide { invocation, measured })
    }
}

pub(super) fn failure(side: &Side, stage: Stage, cause: FailureCause, log_tail: String) -> Failure {
    Failure { stage, arm: side.arm, variant: side.label.clone(), cause, log_tail }
}
