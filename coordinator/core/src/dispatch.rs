//! Matching: which waiting job goes to which agent.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use darwin_shared::ids::{AgentId, AttemptId, JobId};
use darwin_shared::probe::BoxWatch;
use darwin_shared::state::{AttemptOutcome, AttemptRecord, JobState, LossCause, Outcome};
use darwin_shared::void::VoidRounds;

use crate::action::{Action, ToAgent};
use crate::agent::Agent;
use crate::event::{Now, Offer};
use crate::live::Live;
use crate::state::Core;

/// Attempts that a job may have in all, those included that an agent gave back: a job that comes back that often will
/// not run.
const ATTEMPTS_RECORDED_MAX: usize = 100;

impl Core {
    /// Grants waiting jobs for as long as an agent wants one that it can take.
    pub(crate) fn dispatch(&mut self, now: Now, out: &mut Vec<Action>) {
        if !std::mem::take(&mut self.dispatch_wanted) || self.queue.len() == 0 {
            return;
        }
        // The emptiest agent first, so that jobs spread over boxes before they queue up on one.
        let takers = self.agents.values().filter(|agent| agent.takes_work());
        let mut takers: BTreeSet<(Emptiness, AgentId)> =
            takers.map(|agent| (emptiness(agent), agent.id.clone())).collect();
        while self.queue.len() > 0
            && let Some((_, agent)) = takers.pop_first()
        {
            // Who finds nothing now finds nothing later: only less will be waiting.
            let Some(job) = self.pick(&agent) else { continue };
            self.grant(now, job, &agent, out);
            if let Some(entry) = self.agents.get(&agent).filter(|entry| entry.takes_work()) {
                takers.insert((emptiness(entry), agent));
            }
        }
    }

    /// The job that should go to this agent first.
    fn pick(&self, agent: &AgentId) -> Option<JobId> {
        let facts = self.agents.get(agent)?.facts.as_ref()?;
        self.queue
            .classes()
            .filter(|class| class.needs.matched_by(facts).is_ok() && !class.declined_by.contains(agent))
            .filter_map(|class| self.queue.first(class))
            .min()
            .map(|place| place.job)
    }

    fn grant(&mut self, now: Now, id: JobId, agent: &AgentId, out: &mut Vec<Action>) {
        self.dequeue(id);
        let epoch = self.next_epoch(out);
        let lost_at = now.mono + self.settings.lease + self.settings.grace;
        let (Some(job), Some(entry)) = (self.jobs.get_mut(&id), self.agents.get_mut(agent)) else {
            return;
        };
        let Some(link) = entry.link else { return };
        let tier = entry.facts.as_ref().map(|facts| facts.tier);
        let live = match Live::granted(&job.submitted.spec, agent.clone(), epoch, lost_at) {
            Ok(live) => live,
            Err(why) => {
                let outcome = Outcome::Parked { why: why.to_string() };
                self.finish(now, id, None, outcome, out);
                return;
            }
        };
        let number = job.record.attempts.last().map_or(1, |attempt| attempt.number + 1);
        job.record.attempts.push(AttemptRecord {
            number,
            epoch,
            agent: agent.clone(),
            outcome: None,
            pairing: None,
            tier,
            images: BTreeMap::new(),
            voids: VoidRounds::default(),
            used: Vec::new(),
            probes: BoxWatch::default(),
            placement: String::new(),
        });
        job.record.state = JobState::Active;
        job.live = Some(Box::new(live));
        Self::write_job(job, out);
        let attempt = AttemptId { job: id, number };
        let spec = job.submitted.spec.clone();
        self.queue.attempt_began(&spec.project);
        entry.attempts.insert(attempt);
        entry.promised = entry.promised.and(Offer::taken_by(&spec));
        self.lost_timers.insert((lost_at, id));
        out.push(Action::Send { link, message: ToAgent::Assign { attempt, epoch, spec } });
        out.push(Action::JobChanged(id));
    }

    /// The live attempt was lost: the job waits again, or is parked, or ends as somebody wished.
    pub(crate) fn lose(&mut self, now: Now, id: JobId, cause: &LossCause, out: &mut Vec<Action>) {
        self.detach(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(attempt) = job.record.attempts.last_mut() {
            attempt.outcome = Some(AttemptOutcome::Lost(cause.clone()));
        }
        if let Some(by) = job.record.cancel.clone() {
            self.finish(now, id, None, Outcome::Cancelled { by }, out);
            return;
        }
        let spent = job.attempts_spent() >= job.submitted.spec.attempts
            || job.agents_lost() >= self.settings.agents_lost_max
            || job.record.attempts.len() >= ATTEMPTS_RECORDED_MAX;
        if spent {
            let why = format!("infrastructure failed too often; the last attempt: {cause}");
            self.finish(now, id, None, Outcome::Parked { why }, out);
            return;
        }
        job.record.state = JobState::Queued;
        Self::write_job(job, out);
        out.push(Action::JobChanged(id));
        self.enqueue(now, id);
    }
}

/// Sorts agents: most free cores first, then fewest attempts.
type Emptiness = (Reverse<u32>, usize);

fn emptiness(agent: &Agent) -> Emptiness {
    (Reverse(agent.room().free_cores), agent.attempts.len())
}
