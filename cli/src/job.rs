//! Jobs as the coordinator tells them, turned into what people read.

use std::time::Duration;

use darwin_proto::v1::{self, job_spec::Work};
use darwin_shared::report::{Header, Report};
use darwin_shared::spec::MAX_ROUNDS;
use darwin_shared::state::Outcome;
use darwin_shared::used::Used;
use darwin_shared::void::VoidRounds;

use crate::failure::Failed;

/// What was seen of a job while it was followed, and is not told of a finished one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The CPUs of the last attempt.
    pub cpus: String,
    /// The rounds of the last attempt.
    pub rounds: u32,
}

impl Seen {
    /// Remembers what this state of the job tells.
    pub(crate) fn look_at(&mut self, job: &v1::Job) {
        if let Some(progress) = &job.progress {
            if !progress.cpus.is_empty() {
                self.cpus.clone_from(&progress.cpus);
            }
            self.rounds = progress.rounds_done;
        }
    }
}

/// The report on a finished job; none if it has not finished.
pub(crate) fn report(job: &v1::Job, seen: &Seen) -> Result<Option<Report>, Failed> {
    let Some(outcome) = job.outcome.clone() else { return Ok(None) };
    let outcome = Outcome::try_from(outcome).map_err(|e| Failed::protocol("an outcome", e))?;
    let mut header = header(job);
    header.cpus = Some(seen.cpus.clone()).filter(|cpus| !cpus.is_empty());
    header.rounds = match &outcome {
        Outcome::Judged(verdict) => Some(verdict.pairs),
        Outcome::Measured(series) => series.iter().map(|series| series.invocations).max(),
        Outcome::Failed(_) | Outcome::Cancelled { .. } | Outcome::Expired | Outcome::Parked { .. } => {
            Some(seen.rounds).filter(|rounds| *rounds > 0)
        }
    };
    Ok(Some(Report::new(header, outcome)))
}

/// What is known of any job.
pub(crate) fn header(job: &v1::Job) -> Header {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let spec = job.spec.as_ref();
    let (baseline, challenger) = match spec.and_then(|spec| spec.work.as_ref()) {
        Some(Work::Compare(compare)) => (compare.baseline.as_ref(), compare.challenger.as_ref()),
        Some(Work::Measure(measure)) => (measure.variant.as_ref(), None),
        Some(Work::Probe(_)) | None => (None, None),
    };
    let elapsed_ms =
        job.finished_unix_ms.checked_sub(job.submitted_unix_ms).filter(|_| job.finished_unix_ms > 0);
    Header {
        suite: spec.and_then(|spec| some(&spec.suite)),
        project: spec.and_then(|spec| some(&spec.project)),
        pool: spec.and_then(|spec| some(&spec.pool)),
        agent: job.attempts.last().and_then(|attempt| some(&attempt.agent)),
        tier: job.attempts.last().and_then(|attempt| some(&attempt.tier)),
        isolation: job.attempts.last().and_then(|attempt| some(&attempt.placement)),
        cpus: None,
        rounds: None,
        plan: job.attempts.last().and_then(|attempt| some(&attempt.plan)),
        probes: job.attempts.last().and_then(|attempt| some(&attempt.probes)),
        // What another version tells of and this one does not know is left out.
        voids: attempt_voids(job),
        elapsed: elapsed_ms.map(Duration::from_millis),
        baseline: baseline.and_then(|variant| some(&variant.label)),
        challenger: challenger.and_then(|variant| some(&variant.label)),
        baseline_image: job.attempts.last().and_then(|attempt| some(&attempt.baseline_image)),
        challenger_image: job.attempts.last().and_then(|attempt| some(&attempt.challenger_image)),
        used: job.attempts.last().map(used).unwrap_or_default(),
        job: some(&job.job_id),
        url: None,
    }
}

/// What the processes of each side used; a side that this version cannot read is left out, for nothing hangs on it.
fn used(attempt: &v1::Attempt) -> Vec<Used> {
    attempt.used.iter().filter_map(|used| Used::try_from(used.clone()).ok()).collect()
}

fn attempt_voids(job: &v1::Job) -> VoidRounds {
    let told = job.attempts.last().and_then(|attempt| attempt.voids.clone());
    told.and_then(|told| VoidRounds::try_from(told).ok()).unwrap_or_default()
}

/// Whether only the verdict or the time ends the attempt under way, and no number of rounds that is worth telling.
pub(crate) fn is_unlimited(progress: &v1::Progress) -> bool {
    progress.rounds_max > MAX_ROUNDS
}

/// The void rounds of the attempt under way; none if no round was void.
pub(crate) fn voids_so_far(progress: &v1::Progress) -> Option<VoidRounds> {
    let voids = VoidRounds::try_from(progress.voids.clone()?).ok()?;
    Some(voids).filter(|voids| !voids.is_empty())
}

/// The state's word, as lists and filters have it.
pub(crate) fn state_word(job: &v1::Job) -> &'static str {
    use v1::outcome::Kind;
    match job.state() {
        v1::JobState::Unspecified => "unknown",
        v1::JobState::Queued => "queued",
        v1::JobState::Active => "active",
        v1::JobState::Finished => match job.outcome.as_ref().and_then(|outcome| outcome.kind.as_ref()) {
            Some(Kind::Judged(verdict)) => match verdict.decision() {
                v1::Decision::Approve => "approve",
                v1::Decision::Reject => "reject",
                v1::Decision::Inconclusive => "inconclusive",
                v1::Decision::Unspecified => "unknown",
            },
            Some(Kind::Measured(_)) => "measured",
            Some(Kind::Failed(_)) => "failed",
            Some(Kind::Cancelled(_)) => "cancelled",
            Some(Kind::Expired(_)) => "expired",
            Some(Kind::Parked(_)) => "parked",
            None => "unknown",
        },
    }
}
