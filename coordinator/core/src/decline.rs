//! Agents decline: whom a job is not offered again, until when, and what becomes of one that nobody allows.
//!
//! To decline is no attempt. What concerns the agent (it is busy, its sensor is not ok) keeps it from all work until it
//! offers again; what concerns the job (the box's policy, what the box can do) keeps the two apart until the agent
//! reconnects, its sensor's state changes or an operator drains or resumes it.

use std::time::Duration;

use darwin_shared::ids::{AgentId, JobId};
use darwin_shared::state::{AttemptOutcome, AttemptRecord, JobState, LossCause, Outcome, RefusalCause};

use crate::action::Action;
use crate::agent::Needs;
use crate::event::{Now, Offer};
use crate::state::Core;

/// Refusals that a job's record keeps, the newest: enough to tell why it waits.
const REFUSALS_RECORDED_MAX: usize = 16;
/// Agents whose reasons are told; of more only the number.
const REASONS_TOLD: usize = 3;
/// How long an agent is remembered that went away with nothing under way.
const AWAY_MAX: Duration = Duration::from_hours(24);

impl Core {
    /// The agent declined the job's live attempt: the job waits on, or ends because nobody allows it.
    pub(crate) fn declined(
        &mut self,
        now: Now,
        agent: &AgentId,
        id: JobId,
        cause: RefusalCause,
        out: &mut Vec<Action>,
    ) {
        self.detach(id);
        let (Some(job), Some(entry)) = (self.jobs.get_mut(&id), self.agents.get_mut(agent)) else { return };
        if let Some(attempt) = job.record.attempts.last_mut() {
            attempt.outcome = Some(AttemptOutcome::Lost(LossCause::Refused(cause.clone())));
        }
        drop_old_refusals(&mut job.record.attempts);
        match cause {
            RefusalCause::Busy => entry.offer = Offer::default(),
            RefusalCause::Unhealthy(why) => {
                entry.offer = Offer::default();
                entry.unwell = Some(why);
            }
            RefusalCause::Policy(_) | RefusalCause::Unsupported(_) => {
                job.declined_by.insert(agent.clone(), cause);
                entry.declined.insert(id);
            }
            // An echo of a grant that it has answered: the next one is new to it.
            RefusalCause::StaleEpoch => {}
        }
        if let Some(by) = job.record.cancel.clone() {
            self.finish(now, id, None, Outcome::Cancelled { by }, out);
            return;
        }
        if let Some(why) = self.forbidden(id) {
            self.finish(now, id, None, Outcome::Parked { why }, out);
            return;
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.record.state = JobState::Queued;
        Self::write_job(job, out);
        out.push(Action::JobChanged(id));
        self.enqueue_again(id);
    }

    /// Something about the agent changed: what it declined may go to it again.
    pub(crate) fn ask_again(&mut self, agent: &AgentId) {
        self.dispatch_wanted = true;
        let Some(entry) = self.agents.get_mut(agent) else { return };
        for id in std::mem::take(&mut entry.declined) {
            let waited = self.dequeue(id);
            if let Some(job) = self.jobs.get_mut(&id) {
                job.declined_by.remove(agent);
            }
            if waited {
                self.enqueue_again(id);
            }
        }
    }

    /// Ends the jobs that every agent forbids, once it is known which agents there are.
    pub(crate) fn end_what_nobody_allows(&mut self, now: Now, out: &mut Vec<Action>) {
        let waiting = self.jobs.values().filter(|job| job.record.state == JobState::Queued);
        let forbidden: Vec<(JobId, String)> =
            waiting.filter_map(|job| Some((job.id, self.forbidden(job.id)?))).collect();
        for (id, why) in forbidden {
            self.finish(now, id, None, Outcome::Parked { why }, out);
        }
    }

    /// The agent's sensor may let nothing be measured there: what nobody else allows ends.
    pub(crate) fn refused(&mut self, now: Now, agent: &AgentId, out: &mut Vec<Action>) {
        if self.agents.get(agent).is_some_and(|agent| agent.refuses().is_some()) {
            self.end_what_nobody_allows(now, out);
        }
    }

    /// Ends the job if no agent allows it that could take it.
    pub(crate) fn end_if_nobody_allows(&mut self, now: Now, id: JobId, out: &mut Vec<Action>) {
        if let Some(why) = self.forbidden(id) {
            self.finish(now, id, None, Outcome::Parked { why }, out);
        }
    }

    /// Why nobody may run the job: the policy of every agent that could take it forbids it, or its sensor lets nothing be
    /// measured. None while there is one, connected or away, that may allow it.
    fn forbidden(&self, id: JobId) -> Option<String> {
        let job = self.jobs.get(&id)?;
        let nobody_minds =
            job.declined_by.is_empty() && self.agents.values().all(|agent| agent.refuses().is_none());
        if nobody_minds || self.fleet_known_at.is_some() {
            return None;
        }
        let needs = Needs::of(job.spec());
        let mut reasons = Vec::new();
        for agent in self.agents.values() {
            if agent.facts.as_ref().is_none_or(|facts| needs.matched_by(facts).is_err()) {
                continue;
            }
            if let Some(why) = agent.refuses() {
                reasons.push(format!("agent `{}`: {why}", agent.id));
                continue;
            }
            match job.declined_by.get(&agent.id)? {
                RefusalCause::Policy(why) => reasons.push(format!("agent `{}`: {why}", agent.id)),
                RefusalCause::Busy
                | RefusalCause::Unsupported(_)
                | RefusalCause::Unhealthy(_)
                | RefusalCause::StaleEpoch => return None,
            }
        }
        (!reasons.is_empty()).then(|| format!("no agent's policy allows it: {}", listed(&reasons)))
    }

    /// Forgets agents that have been away for long and hold nothing: boxes that come under a new name each time would
    /// fill the memory. What an operator decided about one stays in the ledger and is kept in sight.
    pub(crate) fn forget_the_long_gone(&mut self, now: Now) {
        let gone: Vec<AgentId> = self
            .agents
            .values()
            .filter(|agent| agent.link.is_none() && agent.attempts.is_empty() && !agent.drained)
            .filter(|agent| self.silent_for(agent, now.mono) > AWAY_MAX)
            .map(|agent| agent.id.clone())
            .collect();
        for agent in gone {
            self.ask_again(&agent);
            self.agents.remove(&agent);
        }
    }
}

/// The first reasons in words, and how many more there are.
fn listed(reasons: &[String]) -> String {
    let told = reasons.iter().take(REASONS_TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    match reasons.len().saturating_sub(REASONS_TOLD) {
        0 => told,
        more => format!("{told}; and {more} more"),
    }
}

/// Keeps the record of a job small that is declined again and again. The newest attempt stays: numbers go on from it.
fn drop_old_refusals(attempts: &mut Vec<AttemptRecord>) {
    let declined = |attempt: &AttemptRecord| {
        matches!(attempt.outcome, Some(AttemptOutcome::Lost(LossCause::Refused(_))))
    };
    let count = attempts.iter().filter(|attempt| declined(attempt)).count();
    let mut surplus = count.saturating_sub(REFUSALS_RECORDED_MAX);
    attempts.retain(|attempt| {
        let dropped = surplus > 0 && declined(attempt);
        surplus -= usize::from(dropped);
        !dropped
    });
}
