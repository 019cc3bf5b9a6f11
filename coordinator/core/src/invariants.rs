//! What must hold after every step; checked by the property tests.

use std::collections::BTreeSet;

use darwin_shared::state::{JobState, Phase};

use crate::agent::Agent;
use crate::event::Offer;
use crate::state::Core;

impl Core {
    /// The first rule that does not hold, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut queued = 0;
        for job in self.jobs.values() {
            let waits = self.queue.contains(&job.class(), job.spec().priority, &job.spec().project, job.id);
            match &job.record.state {
                JobState::Queued => {
                    queued += 1;
                    ensure(waits, || format!("job {} is queued but not in the queue", job.id))?;
                    ensure(job.live.is_none(), || {
                        format!("job {} is queued but has a live attempt", job.id)
                    })?;
                }
                JobState::Active => {
                    ensure(!waits, || format!("job {} is active and in the queue", job.id))?;
                    let live = job
                        .live
                        .as_ref()
                        .ok_or_else(|| format!("job {} is active without attempt", job.id))?;
                    let record = job
                        .record
                        .live_attempt()
                        .ok_or_else(|| format!("job {} has no open record", job.id))?;
                    ensure(record.epoch == live.epoch, || format!("job {}: epochs differ", job.id))?;
                    ensure(self.lost_timers.contains(&(live.lost_at, job.id)), || {
                        format!("job {} has a lease that never ends", job.id)
                    })?;
                }
                JobState::Finished(_) => {
                    return Err(format!("job {} is finished and among the unfinished", job.id));
                }
            }
            for agent in job.declined_by.keys() {
                let known = self.agents.get(agent).is_some_and(|agent| agent.declined.contains(&job.id));
                ensure(known, || {
                    format!("job {} was declined by {agent}, which does not know of it", job.id)
                })?;
            }
            self.check_epochs(job)?;
        }
        ensure(queued == self.queue.len(), || "the queue's length is off".to_owned())?;
        let live = self.jobs.values().filter(|job| job.live.is_some()).count();
        ensure(self.lost_timers.len() == live, || "a lease timer belongs to no attempt".to_owned())?;
        for agent in self.agents.values() {
            self.check_promises(agent)?;
            for id in &agent.declined {
                let known = self.jobs.get(id).is_some_and(|job| job.declined_by.contains_key(&agent.id));
                ensure(known, || format!("agent {} declined {id}, which does not know of it", agent.id))?;
            }
            for attempt in &agent.attempts {
                let held = self.jobs.get(&attempt.job).is_some_and(|job| job.live_id() == Some(*attempt));
                ensure(held, || format!("agent {} is said to have {attempt}, which is not live", agent.id))?;
            }
        }
        Ok(())
    }

    fn check_promises(&self, agent: &Agent) -> Result<(), String> {
        let promised = agent
            .attempts
            .iter()
            .filter_map(|attempt| self.jobs.get(&attempt.job))
            .filter(|job| job.live.as_ref().is_some_and(|live| live.phase == Phase::Granted))
            .fold(Offer::default(), |sum, job| sum.and(Offer::taken_by(job.spec())));
        ensure(promised == agent.promised, || {
            format!("agent {} was promised {promised:?}, and {:?} is on the books", agent.id, agent.promised)
        })
    }

    fn check_epochs(&self, job: &crate::job::Job) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut last = None;
        for attempt in &job.record.attempts {
            ensure(seen.insert(attempt.number), || {
                format!("job {}: attempt {} twice", job.id, attempt.number)
            })?;
            ensure(last < Some(attempt.epoch), || format!("job {}: epochs do not grow", job.id))?;
            last = Some(attempt.epoch);
            ensure(attempt.epoch <= self.epoch, || format!("job {}: epoch beyond the last granted", job.id))?;
        }
        let open =
            job.record.attempts.iter().rev().skip(1).filter(|attempt| attempt.outcome.is_none()).count();
        ensure(open == 0, || format!("job {}: an older attempt is still open", job.id))
    }
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}
