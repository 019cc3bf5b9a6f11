//! An agent in the core's memory.

use std::collections::BTreeSet;
use std::time::Duration;

use darwin_shared::fleet::{AgentFacts, SensorReport, SensorStatus};
use darwin_shared::ids::{AgentId, AttemptId, JobId};
use darwin_shared::spec::JobSpec;
use darwin_shared::state::AgentState;

use crate::event::{LinkId, Offer};

/// An agent that has connected since the coordinator started.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Who it is.
    pub id: AgentId,
    /// What it said of itself; none before it has spoken to this coordinator.
    pub facts: Option<AgentFacts>,
    /// Its sensor's latest report.
    pub sensor: SensorReport,
    /// Its connection, while it has one.
    pub link: Option<LinkId>,
    /// What it said that it could take on, less what it accepted since.
    pub(crate) offer: Offer,
    /// What was granted to it and neither accepted nor declined yet.
    pub(crate) promised: Offer,
    /// Whether an operator drained it.
    pub drained: bool,
    /// The attempts granted to it that have not ended.
    pub attempts: BTreeSet<AttemptId>,
    /// Waiting jobs that it declined.
    pub(crate) declined: BTreeSet<JobId>,
    /// Why its sensor made it decline; none once it offers again.
    pub(crate) unwell: Option<String>,
    /// When it was last heard.
    pub heard_at: Duration,
    /// The same in milliseconds since 1970, for people; 0 if it was not heard yet.
    pub heard_unix_ms: u64,
}

impl Agent {
    /// An agent that the ledger knows to have attempts and that has not spoken since the coordinator started.
    pub(crate) fn unheard(id: AgentId, now: Duration) -> Self {
        Self {
            id,
            facts: None,
            sensor: SensorReport::of(Vec::new()),
            link: None,
            offer: Offer::default(),
            promised: Offer::default(),
            drained: false,
            attempts: BTreeSet::new(),
            declined: BTreeSet::new(),
            unwell: None,
            heard_at: now,
            heard_unix_ms: 0,
        }
    }

    /// What it could take on now.
    pub fn room(&self) -> Offer {
        self.offer.less(self.promised)
    }

    /// Whether it may be granted anything now.
    pub fn takes_work(&self) -> bool {
        self.link.is_some()
            && !self.drained
            && self.room().credits > 0
            && self.sensor.status != SensorStatus::Down
    }

    /// Why its own policy lets nothing be measured on its box until somebody mends it. One that is away may be being
    /// mended.
    pub fn refuses(&self) -> Option<&str> {
        self.link.and(self.sensor.refuses.as_deref())
    }

    /// Its state, for people.
    pub fn state(&self) -> AgentState {
        match (self.link, self.drained, self.sensor.status) {
            (None, _, _) => AgentState::Away,
            (Some(_), true, _) if self.attempts.is_empty() => AgentState::Drained,
            (Some(_), true, _) => AgentState::Draining,
            (Some(_), false, SensorStatus::Down) => AgentState::Unhealthy,
            (Some(_), false, SensorStatus::Ok | SensorStatus::Degraded) if self.room().free_cores == 0 => {
                AgentState::Busy
            }
            (Some(_), false, SensorStatus::Ok | SensorStatus::Degraded) => AgentState::Ready,
        }
    }
}

/// What a job asks of an agent: jobs with equal needs share one queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needs {
    pool: Option<darwin_shared::ids::PoolName>,
    labels: std::collections::BTreeMap<String, String>,
    cores: u32,
    images: bool,
}

/// Why an agent cannot take jobs of these needs, however idle it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mismatch {
    /// It is in another pool.
    Pool,
    /// It lacks a label, or has another value for it.
    Label(String),
    /// It leases out fewer cores.
    Cores,
    /// It runs no images.
    Images,
}

impl Needs {
    /// What this spec asks for.
    pub fn of(spec: &JobSpec) -> Self {
        Self {
            pool: spec.pool.clone(),
            labels: spec.labels.clone(),
            cores: spec.cores.count,
            images: spec.work.has_images(),
        }
    }

    /// Whether the agent could ever take such a job.
    pub fn matched_by(&self, facts: &AgentFacts) -> Result<(), Mismatch> {
        if self.pool.as_ref().is_some_and(|pool| *pool != facts.pool) {
            return Err(Mismatch::Pool);
        }
        for (label, value) in &self.labels {
            if facts.labels.get(label) != Some(value) {
                return Err(Mismatch::Label(label.clone()));
            }
        }
        if self.cores > facts.lease_cores {
            return Err(Mismatch::Cores);
        }
        if self.images && facts.docker.is_none() {
            return Err(Mismatch::Images);
        }
        Ok(())
    }

    /// The pool that is asked for, if one is.
    pub fn pool(&self) -> Option<&darwin_shared::ids::PoolName> {
        self.pool.as_ref()
    }

    /// The cores that are asked for.
    pub fn cores(&self) -> u32 {
        self.cores
    }
}

#[cfg(test)]
impl Needs {
    pub(crate) fn default_for_tests() -> Self {
        Self { pool: None, labels: std::collections::BTreeMap::new(), cores: 1, images: false }
    }
}
