//! What must hold of the world as a whole, at every step and in the end.

use std::collections::BTreeMap;

use darwin_shared::ids::{AgentId, AttemptId, JobId};
use darwin_shared::state::{JobState, Outcome};

use super::world::World;
use super::{Tally, jobs};

impl World {
    pub(super) fn what_hangs(&self) -> String {
        let jobs: Vec<String> = self
            .ledger
            .jobs()
            .filter(|(_, _, record)| !record.state.is_finished())
            .map(|(id, _, record)| {
                let waits = self
                    .core
                    .as_ref()
                    .and_then(|core| Some(core.waits_for(core.job(id)?)))
                    .unwrap_or_default();
                format!("{id}: {record:?} ({waits})")
            })
            .collect();
        let live: Vec<(&AgentId, Vec<AttemptId>)> = self
            .agents
            .iter()
            .map(|agent| (&agent.id, agent.live().map(|(attempt, _)| attempt).collect()))
            .collect();
        format!("long after the faults stopped: unfinished {jobs:#?}, live on agents {live:?}")
    }

    /// Nothing is measured twice at once.
    pub(super) fn no_job_runs_twice(&self) -> Result<(), String> {
        let mut seen: BTreeMap<JobId, (&AgentId, AttemptId)> = BTreeMap::new();
        for agent in self.agents.iter().filter(|agent| agent.up) {
            for (attempt, _) in agent.live() {
                if let Some(other) = seen.insert(attempt.job, (&agent.id, attempt)) {
                    return Err(format!(
                        "{attempt} runs on {} while {} runs on {}",
                        agent.id, other.1, other.0
                    ));
                }
            }
        }
        Ok(())
    }

    /// What the ledger says in the end must be what the clients were promised.
    pub(super) fn reckon(mut self) -> Result<Tally, String> {
        let mut of_request: BTreeMap<&str, u32> = BTreeMap::new();
        for (id, _, record) in self.ledger.jobs() {
            let submitted = self.ledger.spec(id).ok_or("a job without spec")?;
            *of_request.entry(&submitted.request_id).or_default() += 1;
            let JobState::Finished(outcome) = &record.state else {
                return Err(format!("job {id} has not finished"));
            };
            self.tally.jobs += 1;
            self.tally.attempts += record.attempts.len() as u64;
            let spec = &submitted.spec;
            match outcome {
                Outcome::Judged(verdict) => {
                    self.tally.judged += 1;
                    if **verdict != jobs::expected_verdict(spec) {
                        return Err(format!(
                            "job {id} has another verdict than its rounds lead to: {verdict:?}"
                        ));
                    }
                }
                Outcome::Measured(series) => {
                    self.tally.measured += 1;
                    let rounds: Vec<u32> = series.iter().map(|series| series.invocations).collect();
                    if rounds != [spec.budget.rounds_max] {
                        return Err(format!("job {id} counts its rounds wrongly: {rounds:?}"));
                    }
                }
                Outcome::Failed(_) => self.tally.failed += 1,
                Outcome::Cancelled { .. } => {
                    self.tally.cancelled += 1;
                    if !self.cancel_asked.contains(&id) {
                        return Err(format!("job {id} is cancelled and nobody asked for it"));
                    }
                }
                Outcome::Expired => return Err(format!("job {id} expired within an hour")),
                Outcome::Parked { why } => {
                    self.tally.parked += 1;
                    if why.contains("declined") || (why.contains("policy") && !self.scenario.declines) {
                        return Err(format!("job {id} is parked because it was declined: {why}"));
                    }
                    if self.scenario.is_harmless() {
                        return Err(format!("job {id} is parked though nothing failed: {why}"));
                    }
                }
            }
        }
        if self.scenario.recent_max >= 10 && of_request.values().any(|count| *count != 1) {
            return Err(format!("a request made more than one job: {of_request:?}"));
        }
        if of_request.len() != self.requests.len() {
            return Err("an acknowledged request has no job".to_owned());
        }
        Ok(self.tally)
    }
}
