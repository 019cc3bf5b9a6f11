//! A job in the core's memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use darwin_shared::ids::{AgentId, AttemptId, JobId};
use darwin_shared::spec::JobSpec;
use darwin_shared::state::{AttemptOutcome, LossCause, RefusalCause};

use crate::agent::Needs;
use crate::live::Live;
use crate::queue::Class;
use crate::record::{JobRecord, SpecRecord};

/// A job: what the ledger has of it, and what only memory needs.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What was submitted.
    pub submitted: SpecRecord,
    /// Where it is.
    pub record: JobRecord,
    /// The record's version in the ledger.
    pub version: u64,
    /// When this coordinator began to wait for an agent for it.
    pub waiting_since: Duration,
    /// Agents that declined it, and why: they are asked again when something about them changes.
    pub declined_by: BTreeMap<AgentId, RefusalCause>,
    /// The attempt under way.
    pub live: Option<Box<Live>>,
}

impl Job {
    /// The job's spec.
    pub fn spec(&self) -> &Arc<JobSpec> {
        &self.submitted.spec
    }

    /// The id of the attempt under way.
    pub fn live_id(&self) -> Option<AttemptId> {
        self.record.live_attempt().map(|attempt| AttemptId { job: self.id, number: attempt.number })
    }

    /// Which agents can take it.
    pub(crate) fn class(&self) -> Class {
        Class {
            needs: Needs::of(&self.submitted.spec),
            declined_by: self.declined_by.keys().cloned().collect(),
        }
    }

    /// Attempts that count against the job's budget of attempts: all that were lost but for those that an agent
    /// declined or gave back.
    pub fn attempts_spent(&self) -> u32 {
        count(self.losses().filter(|cause| !is_free(cause)))
    }

    /// Attempts lost to an agent that fell silent or started anew.
    pub fn agents_lost(&self) -> u32 {
        count(self.losses().filter(|cause| match cause {
            LossCause::AgentSilent | LossCause::AgentRestarted => true,
            LossCause::Refused(_) | LossCause::Box(_) | LossCause::Drained => false,
        }))
    }

    fn losses(&self) -> impl Iterator<Item = &LossCause> {
        self.record.attempts.iter().filter_map(|attempt| match &attempt.outcome {
            Some(AttemptOutcome::Lost(cause)) => Some(cause),
            Some(AttemptOutcome::Completed | AttemptOutcome::Failed(_) | AttemptOutcome::Cancelled)
            | None => None,
        })
    }
}

fn is_free(cause: &LossCause) -> bool {
    match cause {
        LossCause::Refused(_) | LossCause::Drained => true,
        LossCause::AgentSilent | LossCause::AgentRestarted | LossCause::Box(_) => false,
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
