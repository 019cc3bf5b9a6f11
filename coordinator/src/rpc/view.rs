//! The core's state in the wire's words.

use darwin_coordinator_core::agent::Agent;
use darwin_coordinator_core::job::Job;
use darwin_coordinator_core::{Core, Now, RestoredJob, ToAgent};
use darwin_proto::convert::{duration_to_wire, voids_to_wire};
use darwin_proto::v1;
use darwin_shared::ids::Epoch;
use darwin_shared::report::in_a_line;
use darwin_shared::spec::{Arm, JobSpec};
use darwin_shared::state::{AttemptOutcome, AttemptRecord, JobState, Outcome};

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A job as clients see it.
pub(crate) fn job(core: &Core, job: &Job) -> v1::Job {
    let mut seen = stored_job(&job.into());
    seen.queue_position = small(core.queue_position(job));
    seen.waits_for = core.waits_for(job);
    seen.progress = job.live.as_ref().map(|live| v1::Progress {
        phase: live.phase.to_string(),
        rounds_done: live.rounds,
        rounds_max: job.spec().budget.rounds_max,
        next_look: live.next_look,
        gate: live.progress.clone(),
        cpus: live.cpus.clone(),
        agent: live.agent.to_string(),
        voids: voids_to_wire(live.all_voids()),
    });
    if let (Some(live), Some(attempt)) = (job.live.as_ref(), seen.attempts.last_mut()) {
        // It goes into the record when the attempt has ended.
        attempt.placement = live.placed();
    }
    seen
}

/// A job that is in the ledger only.
pub(crate) fn stored_job(job: &RestoredJob) -> v1::Job {
    let record = &job.record;
    v1::Job {
        job_id: job.id.to_string(),
        spec: Some(v1::JobSpec::from(JobSpec::clone(&job.submitted.spec))),
        submitter: job.submitted.submitter.clone(),
        submitted_unix_ms: job.submitted.submitted_unix_ms,
        finished_unix_ms: record.finished_unix_ms,
        state: match record.state {
            JobState::Queued => v1::JobState::Queued,
            JobState::Active => v1::JobState::Active,
            JobState::Finished(_) => v1::JobState::Finished,
        }
        .into(),
        outcome: match &record.state {
            JobState::Finished(outcome) => Some(v1::Outcome::from(outcome.clone())),
            JobState::Queued | JobState::Active => None,
        },
        attempts: record.attempts.iter().map(attempt).collect(),
        progress: None,
        queue_position: 0,
        waits_for: String::new(),
    }
}

fn attempt(record: &AttemptRecord) -> v1::Attempt {
    let image = |arm| record.images.get(&arm).cloned().unwrap_or_default();
    v1::Attempt {
        number: record.number,
        epoch: Some(record.epoch.into()),
        agent: record.agent.to_string(),
        ended: match &record.outcome {
            None => String::new(),
            Some(AttemptOutcome::Completed) => "completed".to_owned(),
            Some(AttemptOutcome::Failed(failure)) => format!("failed: {failure}"),
            Some(AttemptOutcome::Lost(cause)) => format!("lost: {cause}"),
            Some(AttemptOutcome::Cancelled) => "cancelled".to_owned(),
        },
        plan: record.pairing.as_ref().map(ToString::to_string).unwrap_or_default(),
        tier: record.tier.map(|tier| tier.to_string()).unwrap_or_default(),
        baseline_image: image(Arm::Baseline),
        challenger_image: image(Arm::Challenger),
        voids: voids_to_wire(record.voids.clone()),
        used: record.used.iter().cloned().map(v1::Used::from).collect(),
        probes: record.probes.line().unwrap_or_default(),
        placement: record.placement.clone(),
    }
}

/// A line in a list of jobs.
pub(crate) fn summary(job: &RestoredJob) -> v1::JobSummary {
    let spec: &JobSpec = &job.submitted.spec;
    v1::JobSummary {
        job_id: job.id.to_string(),
        kind: spec.work.kind().to_owned(),
        project: spec.project.to_string(),
        suite: spec.suite.to_string(),
        state: job.record.state.name().to_owned(),
        variants: spec.work.variants().into_iter().map(|(_, variant)| variant.label.clone()).collect(),
        agent: job.record.attempts.last().map_or_else(String::new, |attempt| attempt.agent.to_string()),
        submitted_unix_ms: job.submitted.submitted_unix_ms,
        finished_unix_ms: job.record.finished_unix_ms,
        summary: in_short(&job.record.state),
    }
}

fn in_short(state: &JobState) -> String {
    let JobState::Finished(outcome) = state else {
        return String::new();
    };
    match outcome {
        Outcome::Judged(verdict) => in_a_line(verdict),
        Outcome::Measured(series) => format!("{} series", series.len()),
        Outcome::Failed(failure) => failure.to_string(),
        Outcome::Cancelled { by } => format!("by {by}"),
        Outcome::Expired => "waited too long".to_owned(),
        Outcome::Parked { why } => why.clone(),
    }
}

/// An agent as clients see it.
pub(crate) fn agent(core: &Core, agent: &Agent, now: Now) -> v1::Agent {
    let silent_for = core.silent_for(agent, now.mono);
    v1::Agent {
        agent_id: agent.id.to_string(),
        state: agent.state().to_string(),
        facts: agent.facts.clone().map(v1::AgentFacts::from),
        sensor: Some(v1::SensorReport::from(agent.sensor.clone())),
        attempts: agent.attempts.iter().map(ToString::to_string).collect(),
        silent_for: Some(duration_to_wire(silent_for)),
    }
}

/// What the core tells an agent, for the wire.
pub(crate) fn to_agent(message: ToAgent) -> v1::CoordinatorMessage {
    use v1::coordinator_message::Body;
    let epoch = |epoch: Epoch| Some(v1::Epoch::from(epoch));
    let body = match message {
        ToAgent::Welcome { lease, renew_every, stale, drained } => Body::Welcome(v1::Welcome {
            protocol_major: darwin_proto::PROTOCOL_MAJOR,
            protocol_minor: darwin_proto::PROTOCOL_MINOR,
            lease: Some(duration_to_wire(lease)),
            renew_every: Some(duration_to_wire(renew_every)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stale_attempts: stale.iter().map(ToString::to_string).collect(),
            drained,
        }),
        ToAgent::Assign { attempt, epoch: fence, spec } => Body::Assign(v1::Assign {
            attempt_id: attempt.to_string(),
            epoch: epoch(fence),
            looks: spec.policy.looks.clone(),
            spec: Some(v1::JobSpec::from(JobSpec::clone(&spec))),
        }),
        ToAgent::Ack { attempt, epoch: fence, rounds, stop } => {
            Body::Ack(v1::RoundAck { attempt_id: attempt.to_string(), epoch: epoch(fence), rounds, stop })
        }
        ToAgent::Cancel { attempt, epoch: fence } => {
            Body::Cancel(v1::CancelAttempt { attempt_id: attempt.to_string(), epoch: epoch(fence) })
        }
        ToAgent::Release { attempt } => Body::Release(v1::Release { attempt_id: attempt.to_string() }),
        ToAgent::SetDrain { drained } => Body::Drain(v1::SetDrain { drained }),
        ToAgent::Replay { attempt, from_round } => {
            Body::Replay(v1::Replay { attempt_id: attempt.to_string(), from_round })
        }
    };
    v1::CoordinatorMessage { body: Some(body) }
}
