//! After a restart: the ledger's records become the core's state, and attempts wait for their agents to speak.

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_shared::ids::{AgentId, AttemptId, JobId};
use darwin_shared::state::{JobState, LossCause, Phase};

use crate::action::Action;
use crate::agent::Agent;
use crate::event::Now;
use crate::job::Job;
use crate::live::Live;
use crate::record::{AgentRecord, EpochRecord, JobRecord, SpecRecord};
use crate::settings::Settings;
use crate::state::Core;

/// A job as the ledger has it.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredJob {
    /// Its id.
    pub id: JobId,
    /// What was submitted.
    pub submitted: SpecRecord,
    /// Where it is.
    pub record: JobRecord,
    /// The version of `record` in the ledger.
    pub version: u64,
}

impl From<&Job> for RestoredJob {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id,
            submitted: job.submitted.clone(),
            record: job.record.clone(),
            version: job.version,
        }
    }
}

/// What the ledger has, as far as a restarted coordinator needs it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restored {
    /// Every job that has not finished, and those that finished last.
    pub jobs: Vec<RestoredJob>,
    /// Finished jobs up to this one may have been left out.
    pub left_out: Option<JobId>,
    /// What was decided about agents, with the records' versions.
    pub agents: Vec<(AgentId, u64, AgentRecord)>,
    /// The epochs that were reserved, with the record's version.
    pub epochs: (u64, EpochRecord),
}

impl Core {
    /// A core that goes on where the ledger's last coordinator stopped. Attempts under way are neither lost nor
    /// repeated: their agents have one whole lease to speak.
    pub fn restore(settings: Settings, now: Now, restored: Restored, out: &mut Vec<Action>) -> Self {
        let mut core = Self::new(settings);
        core.epoch = restored.epochs.1.reserved;
        core.epochs = restored.epochs;
        core.newest_forgotten = restored.left_out;
        for (agent, version, record) in restored.agents {
            let known = Agent { drained: record.drained, ..Agent::unheard(agent.clone(), now.mono) };
            core.agents.insert(agent.clone(), known);
            core.agent_records.insert(agent, (version, record));
        }
        for job in restored.jobs {
            core.restore_job(now, job, out);
        }
        if !core.jobs.is_empty() {
            core.fleet_known_at = Some(now.mono + core.settings.lease + core.settings.grace);
        }
        core
    }

    fn restore_job(&mut self, now: Now, restored: RestoredJob, out: &mut Vec<Action>) {
        let RestoredJob { id, submitted, record, version } = restored;
        if !submitted.request_id.is_empty() {
            self.requests.insert(submitted.request_id.clone(), id);
        }
        for attempt in &record.attempts {
            self.epoch = self.epoch.max(attempt.epoch);
        }
        let job = Job {
            id,
            submitted,
            record,
            version,
            waiting_since: Duration::ZERO,
            declined_by: BTreeMap::new(),
            live: None,
        };
        match &job.record.state {
            JobState::Finished(_) => self.remember(job),
            JobState::Queued => {
                self.jobs.insert(id, job);
                self.enqueue(now, id);
            }
            JobState::Active => self.restore_active(now, job, out),
        }
    }

    fn restore_active(&mut self, now: Now, mut job: Job, out: &mut Vec<Action>) {
        let id = job.id;
        let lost_at = now.mono + self.settings.lease + self.settings.grace;
        let live = job.record.live_attempt().cloned().map(|attempt| {
            let live = Live::granted(&job.submitted.spec, attempt.agent.clone(), attempt.epoch, lost_at);
            (attempt, live)
        });
        match live {
            Some((attempt, Ok(mut live))) => {
                // It may have been: what its agent does not know of it, was lost with the agent's own memory.
                live.phase = Phase::Accepted;
                self.queue.attempt_began(&job.submitted.spec.project);
                self.lost_timers.insert((lost_at, id));
                job.live = Some(Box::new(live));
                let attempt_id = AttemptId { job: id, number: attempt.number };
                self.agents
                    .entry(attempt.agent.clone())
                    .or_insert_with(|| Agent::unheard(attempt.agent, now.mono))
                    .attempts
                    .insert(attempt_id);
                self.jobs.insert(id, job);
            }
            Some((_, Err(why))) => {
                self.jobs.insert(id, job);
                self.lose(now, id, &LossCause::Box(why.to_string()), out);
            }
            None => {
                job.record.state = JobState::Queued;
                self.jobs.insert(id, job);
                self.enqueue(now, id);
            }
        }
    }
}
