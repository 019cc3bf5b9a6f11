//! What the core shows to those who ask: jobs, agents, why a job waits.

use std::time::Duration;

use darwin_shared::ids::{AgentId, JobId};
use darwin_shared::state::JobState;

use crate::agent::{Agent, Mismatch, Needs};
use crate::job::Job;
use crate::state::Core;

impl Core {
    /// A job that is in memory: unfinished, or among those that finished last.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).or_else(|| self.recent.get(&id))
    }

    /// The jobs in memory older than `before`, newest first.
    pub fn jobs_newest_first(&self, before: Option<JobId>) -> impl Iterator<Item = &Job> {
        let older = move |id: &JobId| before.is_none_or(|before| *id < before);
        let mut unfinished = self.jobs.values().rev().filter(move |job| older(&job.id)).peekable();
        let mut finished = self.recent.values().rev().filter(move |job| older(&job.id)).peekable();
        std::iter::from_fn(move || match (unfinished.peek(), finished.peek()) {
            (Some(a), Some(b)) if a.id > b.id => unfinished.next(),
            (Some(_), None) => unfinished.next(),
            (Some(_) | None, _) => finished.next(),
        })
    }

    /// Finished jobs up to this one may be in the ledger only; all later ones are in memory.
    pub fn newest_forgotten(&self) -> Option<JobId> {
        self.newest_forgotten
    }

    /// The agents, sorted by id.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    /// One agent.
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.get(id)
    }

    /// How many jobs wait, and how many are under way.
    pub fn counts(&self) -> (usize, usize) {
        (self.queue.len(), self.jobs.len() - self.queue.len())
    }

    /// How many jobs of the same needs go before this one; 0 if it does not wait.
    pub fn queue_position(&self, job: &Job) -> usize {
        match job.record.state {
            JobState::Queued => {
                let spec = job.spec();
                self.queue.position(&Needs::of(spec), spec.priority, job.id)
            }
            JobState::Active | JobState::Finished(_) => 0,
        }
    }

    /// Why a job waits, in words; empty if it does not.
    pub fn waits_for(&self, job: &Job) -> String {
        match job.record.state {
            JobState::Queued => {}
            JobState::Active | JobState::Finished(_) => return String::new(),
        }
        let needs = Needs::of(job.spec());
        let agents: Vec<&Agent> = self.agents.values().filter(|agent| agent.facts.is_some()).collect();
        if agents.is_empty() {
            return "no agent has connected".to_owned();
        }
        let matching: Vec<&Agent> = agents
            .iter()
            .copied()
            .filter(|agent| agent.facts.as_ref().is_some_and(|facts| needs.matched_by(facts).is_ok()))
            .collect();
        if matching.is_empty() {
            return Self::nobody_matches(&needs, &agents);
        }
        let away = matching.iter().filter(|agent| agent.link.is_none()).count();
        let drained = matching.iter().filter(|agent| agent.drained).count();
        let unhealthy = matching
            .iter()
            .filter(|agent| agent.sensor.status == darwin_shared::fleet::SensorStatus::Down)
            .count();
        let before = self.queue_position(job);
        let mut parts = vec![match before {
            0 => format!("next in line for {} matching agent(s)", matching.len()),
            1 => format!("1 job is before it; {} matching agent(s)", matching.len()),
            n => format!("{n} jobs are before it; {} matching agent(s)", matching.len()),
        }];
        for (count, what) in [(away, "away"), (drained, "drained"), (unhealthy, "not ok by their sensor")] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        parts.join(", ")
    }

    fn nobody_matches(needs: &Needs, agents: &[&Agent]) -> String {
        let worst: Vec<Mismatch> =
            agents.iter().filter_map(|agent| needs.matched_by(agent.facts.as_ref()?).err()).collect();
        match worst.into_iter().max() {
            Some(Mismatch::Pool) | None => {
                let pool = needs.pool().map_or_else(|| "any".to_owned(), ToString::to_string);
                format!("no agent is in pool `{pool}`")
            }
            Some(Mismatch::Label(label)) => format!("no agent has the wanted value of label `{label}`"),
            Some(Mismatch::Cores) => format!("no agent leases out {} whole core(s)", needs.cores()),
        }
    }

    /// How long nothing was heard of an agent.
    pub fn silent_for(&self, agent: &Agent, now: Duration) -> Duration {
        now.saturating_sub(agent.heard_at)
    }
}
