//! What the ledger keeps: small versioned records.

use std::sync::Arc;

use darwin_shared::ids::{AgentId, Epoch, JobId};
use darwin_shared::spec::JobSpec;
use darwin_shared::state::{AttemptRecord, JobState};
use serde::{Deserialize, Serialize};

/// Names a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// What was submitted; written once.
    Spec(JobId),
    /// Where the job is.
    Job(JobId),
    /// What an operator decided about an agent.
    Agent(AgentId),
    /// The reserved epochs.
    Epochs,
}

/// What was submitted; written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpecRecord {
    /// The client's own id of the call.
    pub request_id: String,
    /// Who submitted.
    pub submitter: String,
    /// When, in milliseconds since 1970.
    pub submitted_unix_ms: u64,
    /// What is to be run.
    pub spec: Arc<JobSpec>,
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Where it is.
    pub state: JobState,
    /// Its attempts, oldest first; the last one lives if it has no outcome.
    pub attempts: Vec<AttemptRecord>,
    /// Who wants it ended, if somebody does.
    pub cancel: Option<String>,
    /// When it finished, in milliseconds since 1970; 0 if it has not.
    pub finished_unix_ms: u64,
}

impl JobRecord {
    /// A job that was just accepted.
    pub fn queued() -> Self {
        Self { state: JobState::Queued, attempts: Vec::new(), cancel: None, finished_unix_ms: 0 }
    }

    /// The attempt that lives, if one does.
    pub fn live_attempt(&self) -> Option<&AttemptRecord> {
        self.attempts.last().filter(|attempt| attempt.outcome.is_none())
    }
}

/// What an operator decided about an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Whether it is drained.
    pub drained: bool,
}

/// The epochs that may have been granted: reserved in blocks, so that a restarted coordinator begins beyond all of
/// them without reading every job, and a grant costs no write of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EpochRecord {
    /// No epoch beyond this one has been granted.
    pub reserved: Epoch,
}

/// A record to put into the ledger, if the ledger still has the version that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Which version the ledger has; 0 if it has none.
    pub expected_version: u64,
    /// What it becomes.
    pub value: Value,
}

/// A record's key and content.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// What was submitted.
    Spec(JobId, SpecRecord),
    /// Where a job is.
    Job(JobId, JobRecord),
    /// What was decided about an agent.
    Agent(AgentId, AgentRecord),
    /// The reserved epochs.
    Epochs(EpochRecord),
}

impl Write {
    /// The record's key.
    pub fn key(&self) -> RecordKey {
        match &self.value {
            Value::Spec(job, _) => RecordKey::Spec(*job),
            Value::Job(job, _) => RecordKey::Job(*job),
            Value::Agent(agent, _) => RecordKey::Agent(agent.clone()),
            Value::Epochs(_) => RecordKey::Epochs,
        }
    }

    /// Whether a restarted coordinator must load it.
    pub fn is_live(&self) -> bool {
        match &self.value {
            Value::Spec(..) => false,
            Value::Job(_, record) => !record.state.is_finished(),
            Value::Agent(..) | Value::Epochs(_) => true,
        }
    }
}
