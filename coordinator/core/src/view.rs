//! What the core shows to those who ask: jobs, agents, why a job waits.

use std::ops::Bound;
use std::time::Duration;

use darwin_shared::ids::{AgentId, JobId};
use darwin_shared::state::{AgentState, JobState};
use darwin_shared::units::format_utc;

use crate::agent::{Agent, Mismatch, Needs};
use crate::job::Job;
use crate::state::Core;

/// So many agents are named in one reason; a fleet's worth would bury the point.
const AGENTS_TOLD: usize = 3;

impl Core {
    /// A job that is in memory: unfinished, or among those that finished last.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).or_else(|| self.recent.get(&id))
    }

    /// The jobs in memory older than `before`, newest first.
    pub fn jobs_newest_first(&self, before: Option<JobId>) -> impl Iterator<Item = &Job> {
        let older = (Bound::Unbounded, before.map_or(Bound::Unbounded, Bound::Excluded));
        let mut unfinished = self.jobs.range(older).rev().map(|(_, job)| job).peekable();
        let mut finished = self.recent.range(older).rev().map(|(_, job)| job).peekable();
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
            JobState::Queued => self.queue.position(&job.class(), job.spec().priority, job.id),
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
        let (able, not_now): (Vec<&Agent>, Vec<&Agent>) =
            matching.iter().copied().partition(|agent| why_not_now(agent, job).is_none());
        if able.is_empty() {
            let told: Vec<String> =
                not_now.iter().take(AGENTS_TOLD).filter_map(|agent| why_not_now(agent, job)).collect();
            let more = match not_now.len().saturating_sub(AGENTS_TOLD) {
                0 => String::new(),
                more => format!("; and {more} more: see `darwin agent list`"),
            };
            return format!("nobody can take it now: {}{more}", told.join("; "));
        }
        let others = match not_now.len() {
            0 => String::new(),
            others => format!(", {others} more cannot take work now"),
        };
        let agents = if able.len() == 1 { "1 agent".to_owned() } else { format!("{} agents", able.len()) };
        match self.queue_position(job) {
            0 => format!("next in line for {agents}{others}"),
            1 => format!("1 job is before it, for {agents}{others}"),
            jobs => format!("{jobs} jobs are before it, for {agents}{others}"),
        }
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
            Some(Mismatch::Images) => {
                "no agent runs images: `[docker] enabled = true` in an agent.toml lets a box with a Docker daemon do so"
                    .to_owned()
            }
        }
    }

    /// How long nothing was heard of an agent.
    pub fn silent_for(&self, agent: &Agent, now: Duration) -> Duration {
        now.saturating_sub(agent.heard_at)
    }
}

/// Why an agent does not take the job now, with what mends it; none if it does, or will when it has room.
fn why_not_now(agent: &Agent, job: &Job) -> Option<String> {
    let id = &agent.id;
    match agent.state() {
        AgentState::Ready | AgentState::Busy if job.declined_by.contains_key(id) => {
            let cause = job.declined_by.get(id)?;
            Some(format!(
                "{id} declined: {cause}; it is asked again when it reconnects or its sensor changes"
            ))
        }
        AgentState::Ready | AgentState::Busy if agent.unwell.is_some() => {
            let why = agent.unwell.as_ref()?;
            Some(format!(
                "{id} declined: its sensor is not ok: {why}; it is asked again when it offers again"
            ))
        }
        AgentState::Ready | AgentState::Busy => None,
        AgentState::Away => Some(format!("{id} is away since {} UTC", format_utc(agent.heard_unix_ms))),
        AgentState::Draining | AgentState::Drained => {
            Some(format!("{id} is drained, `darwin agent resume {id}` lets it work again"))
        }
        AgentState::Unhealthy => {
            Some(format!("{id} is not fit to measure, `darwin agent show {id}` says why"))
        }
    }
}
