//! The ledger's model: what the engines must do, in a map. Tests hold the engines against it.

use std::collections::BTreeMap;

use super::ledger::{
    Change, CommitError, Kind, Ledger, LedgerError, PAGE_MAX, Stored, StoredWrite, cut_to_commits,
};

#[derive(Debug, Clone)]
struct Entry {
    record: Stored,
    live: bool,
    revision: u64,
}

/// A ledger that forgets everything when it is dropped.
#[derive(Debug, Clone, Default)]
pub struct MemoryLedger {
    records: BTreeMap<(Kind, String), Entry>,
    revision: u64,
}

impl Ledger for MemoryLedger {
    fn commit(&mut self, writes: &[StoredWrite]) -> Result<(), CommitError> {
        let mut records = self.records.clone();
        let revision = self.revision + 1;
        for write in writes {
            let key = (write.kind, write.id.clone());
            let found = records.get(&key).map_or(0, |entry| entry.record.version);
            if found != write.expected_version {
                let StoredWrite { kind, id, expected_version: expected, .. } = write.clone();
                return Err(CommitError::Conflict { kind, id, expected, found });
            }
            let record =
                Stored { id: write.id.clone(), version: write.new_version, value: write.value.clone() };
            records.insert(key, Entry { record, live: write.live, revision });
        }
        self.records = records;
        self.revision = revision;
        Ok(())
    }

    fn get(&mut self, kind: Kind, id: &str) -> Result<Option<Stored>, LedgerError> {
        Ok(self.records.get(&(kind, id.to_owned())).map(|entry| entry.record.clone()))
    }

    fn live(&mut self, kind: Kind, after: Option<&str>) -> Result<Vec<Stored>, LedgerError> {
        let wanted = |(key, entry): &(&(Kind, String), &Entry)| {
            key.0 == kind && entry.live && after.is_none_or(|after| key.1.as_str() > after)
        };
        Ok(self.records.iter().filter(wanted).take(PAGE_MAX).map(|(_, entry)| entry.record.clone()).collect())
    }

    fn newest(&mut self, kind: Kind, before: Option<&str>, limit: usize) -> Result<Vec<Stored>, LedgerError> {
        let wanted = |(key, _): &(&(Kind, String), &Entry)| {
            key.0 == kind && before.is_none_or(|before| key.1.as_str() < before)
        };
        let records = self.records.iter().rev().filter(wanted);
        Ok(records.take(limit.min(PAGE_MAX)).map(|(_, entry)| entry.record.clone()).collect())
    }

    fn changes(&mut self, after_revision: u64) -> Result<Vec<Change>, LedgerError> {
        let mut changes: Vec<Change> = self
            .records
            .iter()
            .filter(|(_, entry)| entry.revision > after_revision)
            .map(|((kind, _), entry)| Change {
                revision: entry.revision,
                kind: *kind,
                record: entry.record.clone(),
            })
            .collect();
        changes.sort_by(|a, b| (a.revision, a.kind, &a.record.id).cmp(&(b.revision, b.kind, &b.record.id)));
        if let Some(large) = cut_to_commits(&mut changes) {
            changes.retain(|change| change.revision == large);
        }
        Ok(changes)
    }
}
