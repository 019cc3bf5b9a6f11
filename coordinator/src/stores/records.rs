//! The core's records as the ledger's bytes, and back.

use darwin_coordinator_core::record::Value;
use darwin_coordinator_core::{AgentRecord, JobRecord, Restored, RestoredJob, SpecRecord, Write};
use darwin_shared::ids::{AgentId, JobId};
use thiserror::Error;

use super::ledger::{Kind, Ledger, LedgerError, PAGE_MAX, Stored, StoredWrite};

/// Why the ledger's records cannot be used.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A record that this darwin cannot read.
    #[error("the ledger's record {kind:?} {id} cannot be read: {why}")]
    Garbled {
        /// What it is about.
        kind: Kind,
        /// Which.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// A record could not be written down.
    #[error("a record cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

/// The id of the one record of its kind.
const EPOCHS_ID: &str = "granted";

/// A core's write as the ledger takes it.
pub fn encode(write: &Write) -> Result<StoredWrite, RecordError> {
    let (kind, id, value) = match &write.value {
        Value::Spec(job, record) => (Kind::Spec, job.to_string(), serde_json::to_vec(record)?),
        Value::Job(job, record) => (Kind::Job, job.to_string(), serde_json::to_vec(record)?),
        Value::Agent(agent, record) => (Kind::Agent, agent.to_string(), serde_json::to_vec(record)?),
        Value::Epochs(record) => (Kind::Epochs, EPOCHS_ID.to_owned(), serde_json::to_vec(record)?),
    };
    let expected_version = write.expected_version;
    Ok(StoredWrite {
        kind,
        id,
        expected_version,
        new_version: expected_version + 1,
        value,
        live: write.is_live(),
    })
}

fn garbled(kind: Kind, id: &str, why: &dyn std::fmt::Display) -> RecordError {
    RecordError::Garbled { kind, id: id.to_owned(), why: why.to_string() }
}

/// The job that a record is about.
pub(crate) fn job_id(stored: &Stored) -> Result<JobId, RecordError> {
    stored.id.parse().map_err(|e| garbled(Kind::Job, &stored.id, &e))
}

/// A job of the ledger with its spec.
pub fn decode_job(ledger: &mut dyn Ledger, stored: &Stored) -> Result<RestoredJob, RecordError> {
    let id = job_id(stored)?;
    let record: JobRecord =
        serde_json::from_slice(&stored.value).map_err(|e| garbled(Kind::Job, &stored.id, &e))?;
    let spec = ledger
        .get(Kind::Spec, &stored.id)?
        .ok_or_else(|| garbled(Kind::Spec, &stored.id, &"it is missing, though its job is there"))?;
    let submitted: SpecRecord =
        serde_json::from_slice(&spec.value).map_err(|e| garbled(Kind::Spec, &stored.id, &e))?;
    Ok(RestoredJob { id, submitted, record, version: stored.version })
}

/// Takes every live record of a kind, page by page.
fn each_live(
    ledger: &mut dyn Ledger,
    kind: Kind,
    mut take: impl FnMut(&mut dyn Ledger, &Stored) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let mut after: Option<String> = None;
    loop {
        let page = ledger.live(kind, after.as_deref())?;
        for stored in &page {
            take(ledger, stored)?;
        }
        if page.len() < PAGE_MAX {
            return Ok(());
        }
        after = page.last().map(|stored| stored.id.clone());
    }
}

/// All that a restarted coordinator needs: unfinished jobs, the `recent` newest ones, agents' records.
pub fn load(ledger: &mut dyn Ledger, recent: usize) -> Result<Restored, RecordError> {
    let mut restored = Restored::default();
    let newest = ledger.newest(Kind::Job, None, recent)?;
    let oldest_of_newest = newest.last().map(|stored| stored.id.clone());
    if newest.len() >= recent.min(PAGE_MAX)
        && let Some(oldest) = newest.last()
    {
        restored.left_out = Some(job_id(oldest)?);
    }
    for stored in newest.iter().rev() {
        let job = decode_job(ledger, stored)?;
        restored.jobs.push(job);
    }
    // What is live and older than those.
    each_live(ledger, Kind::Job, |ledger, stored| {
        if oldest_of_newest.as_deref().is_none_or(|oldest| stored.id.as_str() < oldest) {
            restored.jobs.push(decode_job(ledger, stored)?);
        }
        Ok(())
    })?;
    each_live(ledger, Kind::Agent, |_, stored| {
        let record: AgentRecord =
            serde_json::from_slice(&stored.value).map_err(|e| garbled(Kind::Agent, &stored.id, &e))?;
        let agent = AgentId::new(&stored.id).map_err(|e| garbled(Kind::Agent, &stored.id, &e))?;
        restored.agents.push((agent, stored.version, record));
        Ok(())
    })?;
    if let Some(stored) = ledger.get(Kind::Epochs, EPOCHS_ID)? {
        let record =
            serde_json::from_slice(&stored.value).map_err(|e| garbled(Kind::Epochs, &stored.id, &e))?;
        restored.epochs = (stored.version, record);
    }
    Ok(restored)
}
