//! Matching: which waiting job goes to which agent.

use darwin_shared::ids::{AgentId, AttemptId, JobId};
use darwin_shared::state::{AttemptOutcome, AttemptRecord, JobState, LossCause, Outcome};

use crate::action::{Action, ToAgent};
use crate::agent::{Agent, Needs};
use crate::event::{Now, Offer};
use crate::live::Live;
use crate::state::Core;

/// Jobs of one project and class that are looked at for one agent: beyond those that the agent declined, the first
/// fits, so more than this many declined ones are left for another turn.
const DECLINED_SKIP_MAX: usize = 32;
/// Attempts that a job may have in all, those included that no one is to blame for: a job that is refused that often
/// will not run.
const ATTEMPTS_RECORDED_MAX: usize = 100;

impl Core {
    /// Grants waiting jobs for as long as an agent wants one that it can take.
    pub(crate) fn dispatch(&mut self, now: Now, out: &mut Vec<Action>) {
        if !std::mem::take(&mut self.dispatch_wanted) || self.queue.len() == 0 {
            return;
        }
        let mut takers: Vec<AgentId> = self.takers();
        while self.queue.len() > 0 && !takers.is_empty() {
            // The emptiest agent first, so that jobs spread over boxes before they queue up on one.
            takers.sort_by_key(|id| self.agents.get(id).map(emptiness));
            let Some((index, job)) =
                takers.iter().enumerate().find_map(|(index, agent)| Some((index, self.pick(agent)?)))
            else {
                return;
            };
            let agent = takers[index].clone();
            self.grant(now, job, &agent, out);
            // Agents before the chosen one found nothing, and only less is waiting now.
            takers.drain(..index);
            takers.retain(|id| self.agents.get(id).is_some_and(Agent::takes_work));
        }
    }

    fn takers(&self) -> Vec<AgentId> {
        self.agents.values().filter(|agent| agent.takes_work()).map(|agent| agent.id.clone()).collect()
    }

    /// The job that should go to this agent first.
    fn pick(&self, agent: &AgentId) -> Option<JobId> {
        let facts = self.agents.get(agent)?.facts.as_ref()?;
        self.queue
            .classes()
            .filter(|needs| needs.matched_by(facts).is_ok())
            .filter_map(|needs| {
                self.queue.first(needs, DECLINED_SKIP_MAX, |job| {
                    self.jobs.get(&job).is_some_and(|job| !job.declined_by.contains(agent))
                })
            })
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
        let live = match Live::granted(&job.submitted.spec, agent.clone(), epoch, lost_at) {
            Ok(live) => live,
            Err(why) => {
                let outcome = Outcome::Parked { why: why.to_string() };
                self.finish(now, id, None, outcome, out);
                return;
            }
        };
        let number = job.record.attempts.last().map_or(1, |attempt| attempt.number + 1);
        job.record.attempts.push(AttemptRecord { number, epoch, agent: agent.clone(), outcome: None });
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
        let why = cause.to_string();
        if let Some(attempt) = job.record.attempts.last_mut() {
            if let LossCause::Refused(_) = *cause {
                job.declined_by.insert(attempt.agent.clone());
            }
            attempt.outcome = Some(AttemptOutcome::Lost(cause.clone()));
        }
        if is_busy(cause) {
            job.declined_by.clear();
        }
        if let Some(by) = job.record.cancel.clone() {
            self.finish(now, id, None, Outcome::Cancelled { by }, out);
            return;
        }
        let needs = Needs::of(&job.submitted.spec);
        let nobody_left = !job.declined_by.is_empty()
            && !self.agents.values().any(|agent| {
                !job.declined_by.contains(&agent.id)
                    && agent.facts.as_ref().is_some_and(|facts| needs.matched_by(facts).is_ok())
            });
        let spent = nobody_left
            || job.attempts_spent() >= job.submitted.spec.attempts
            || job.agents_lost() >= self.settings.agents_lost_max
            || job.record.attempts.len() >= ATTEMPTS_RECORDED_MAX;
        if spent {
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
fn emptiness(agent: &Agent) -> (std::cmp::Reverse<u32>, usize) {
    (std::cmp::Reverse(agent.room().free_cores), agent.attempts.len())
}

fn is_busy(cause: &LossCause) -> bool {
    matches!(cause, LossCause::Refused(darwin_shared::state::RefusalCause::Busy))
}
