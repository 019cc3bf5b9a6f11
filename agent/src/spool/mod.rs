//! What the agent remembers over its own death: the attempts that it took, their rounds and ends.
//!
//! One append-only journal of small records. A record is written before anything is said or started because of it,
//! and it is not synced to disk: the page cache survives the process, and after a power cut nothing runs here any
//! more. Everything of an attempt stays until it is forgotten. A record that is half written ends the journal: what
//! follows it is set aside, and the agent goes on with what is whole.

mod frame;
mod recover;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use darwin_agent_core::machine::Remembered;
use darwin_proto::v1;
use darwin_shared::attempt::AttemptEnd;
use darwin_shared::ids::{AttemptId, Epoch};
use prost::Message;
use thiserror::Error;

use frame::Kind;

/// Below this a journal is never written anew.
const COMPACT_FROM_BYTES: u64 = 8 << 20;
/// Forgotten attempts whose epochs are kept over a compaction, so that an old grant is still refused.
const FENCES_KEPT: usize = 4096;
/// What need not be written at once waits until there is this much of it, or something that must be.
const LAZY_BYTES: usize = 16 << 10;
/// What may wait in memory while the disk takes nothing; beyond it the agent must stop measuring.
const MAX_PENDING_BYTES: usize = 64 << 20;

/// Why the spool cannot be used.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// A folder or file cannot be used.
    #[error("cannot use the spool at {}: {source}; `state_dir` must be a folder that the agent may write to", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Records wait in memory and no more fit.
    #[error("the spool has {0} bytes that the disk does not take; free some space under `state_dir`")]
    Full(usize),
}

/// Where a record's payload lies in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    at: u64,
    length: u32,
}

/// What the journal holds of an attempt.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    epoch: Epoch,
    rounds: Vec<Span>,
    end: Option<AttemptEnd>,
}

/// The spool. Only the driver writes to it.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    journal: File,
    held: BTreeMap<AttemptId, Entry>,
    forgotten: VecDeque<(AttemptId, Epoch)>,
    /// Bytes in the file.
    written: u64,
    /// Records that are not in the file yet.
    pending: Vec<u8>,
    /// Whether something is said or started because of them. That an attempt is forgotten may as well be forgotten.
    urgent: bool,
    /// Bytes of records of attempts that are held, in the file or pending.
    needed: u64,
}

/// What a journal gave on opening.
#[derive(Debug, PartialEq)]
pub(crate) struct Recovered {
    /// The attempts that it holds.
    pub(crate) attempts: Vec<Remembered>,
    /// Epochs of attempts that are gone.
    pub(crate) seen: Vec<(AttemptId, Epoch)>,
    /// Where the part that could not be read was set aside, with its size in bytes.
    pub(crate) quarantined: Option<(PathBuf, u64)>,
}

impl Spool {
    /// Opens the spool under this folder, or makes it.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Recovered), SpoolError> {
        let path = folder.join("journal");
        let failed = |source| SpoolError::Io { path: path.clone(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let journal = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let mut spool = Self {
            folder: folder.to_owned(),
            journal,
            held: BTreeMap::new(),
            forgotten: VecDeque::new(),
            written: 0,
            pending: Vec::new(),
            urgent: false,
            needed: 0,
        };
        let quarantined = spool.recover().map_err(failed)?;
        let attempts = spool.held.iter().map(|(&attempt, entry)| Remembered {
            attempt,
            epoch: entry.epoch,
            rounds: u32::try_from(entry.rounds.len()).unwrap_or(u32::MAX),
            end: entry.end.clone(),
        });
        let recovered = Recovered {
            attempts: attempts.collect(),
            seen: spool.forgotten.iter().copied().collect(),
            quarantined,
        };
        Ok((spool, recovered))
    }

    /// Remembers that an attempt was taken.
    pub(crate) fn intent(&mut self, attempt: AttemptId, epoch: Epoch) {
        let record =
            frame::update(attempt, epoch, v1::attempt_update::Event::Accepted(v1::AttemptAccepted {}));
        self.append(Kind::Intent, &record);
        self.held.insert(attempt, Entry { epoch, rounds: Vec::new(), end: None });
    }

    /// Remembers a round's result. It must be the next one of an attempt that is held.
    pub(crate) fn round(&mut self, attempt: AttemptId, result: &v1::RoundResult) {
        let span = self.append(Kind::Round, result);
        if let Some(entry) = self.held.get_mut(&attempt) {
            entry.rounds.push(span);
        }
    }

    /// Remembers how an attempt ended.
    pub(crate) fn end(&mut self, attempt: AttemptId, end: AttemptEnd) {
        let Some(entry) = self.held.get_mut(&attempt) else { return };
        let event = v1::attempt_update::Event::Ended(end.clone().into());
        let record = frame::update(attempt, entry.epoch, event);
        entry.end = Some(end);
        self.append(Kind::End, &record);
    }

    /// Drops an attempt, with its logs.
    pub(crate) fn forget(&mut self, attempt: AttemptId) {
        let Some(entry) = self.held.remove(&attempt) else { return };
        self.append(Kind::Forget, &v1::Release { attempt_id: attempt.to_string() });
        self.remember_fence(attempt, entry.epoch);
        self.needed = self.needed.saturating_sub(frame::size_of_entry(&entry));
    }

    /// Puts what was remembered into the file. What the disk does not take stays in memory for the next call.
    pub(crate) fn flush(&mut self) -> Result<(), SpoolError> {
        if self.urgent || self.pending.len() >= LAZY_BYTES { self.write_out() } else { Ok(()) }
    }

    /// Puts everything into the file, also what need not be there at once.
    pub(crate) fn write_out(&mut self) -> Result<(), SpoolError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let result = self.journal.write_all_at(&self.pending, self.written);
        match result {
            Ok(()) => {
                self.written += self.pending.len() as u64;
                self.pending.clear();
                self.urgent = false;
            }
            Err(_) if self.pending.len() > MAX_PENDING_BYTES => {
                return Err(SpoolError::Full(self.pending.len()));
            }
            // The next call writes to the same place again, so nothing half-written stays in the middle.
            Err(source) => return Err(SpoolError::Io { path: self.folder.join("journal"), source }),
        }
        if self.written > COMPACT_FROM_BYTES && self.needed < self.written / 2 {
            self.compact().map_err(|source| SpoolError::Io { path: self.folder.clone(), source })?;
        }
        Ok(())
    }

    /// The rounds of an attempt from `from` on, as they were measured. Call [`Spool::flush`] first.
    pub(crate) fn rounds(&self, attempt: AttemptId, from: u32) -> io::Result<Vec<v1::RoundResult>> {
        let Some(entry) = self.held.get(&attempt) else { return Ok(Vec::new()) };
        let spans = entry.rounds.iter().skip(from as usize);
        spans
            .map(|span| {
                let payload = self.payload(*span)?;
                v1::RoundResult::decode(&payload[..]).map_err(io::Error::other)
            })
            .collect()
    }

    /// The folder for the logs of an attempt; there may be none yet.
    pub(crate) fn log_folder(&self, attempt: AttemptId) -> PathBuf {
        self.folder.join("logs").join(attempt.to_string())
    }

    fn payload(&self, span: Span) -> io::Result<Vec<u8>> {
        let mut payload = vec![0; span.length as usize];
        match span.at.checked_sub(self.written) {
            // It is not in the file yet.
            Some(offset) => {
                let start = usize::try_from(offset).map_err(io::Error::other)?;
                let bytes = self.pending.get(start..start + payload.len());
                payload.copy_from_slice(
                    bytes.ok_or_else(|| io::Error::other("a record lies past the journal's end"))?,
                );
            }
            None => self.journal.read_exact_at(&mut payload, span.at)?,
        }
        Ok(payload)
    }

    fn append(&mut self, kind: Kind, message: &impl Message) -> Span {
        let before = self.pending.len();
        let span = frame::write(&mut self.pending, kind, message);
        self.urgent |= kind != Kind::Forget;
        self.needed += (self.pending.len() - before) as u64;
        Span { at: self.written + span.at, length: span.length }
    }

    fn remember_fence(&mut self, attempt: AttemptId, epoch: Epoch) {
        self.forgotten.push_back((attempt, epoch));
        if self.forgotten.len() > FENCES_KEPT {
            self.forgotten.pop_front();
        }
    }

    /// Writes the journal anew with what is held and the fences, aside first.
    fn compact(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (attempt, epoch) in &self.forgotten {
            let accepted = v1::attempt_update::Event::Accepted(v1::AttemptAccepted {});
            frame::write(&mut bytes, Kind::Intent, &frame::update(*attempt, *epoch, accepted));
            frame::write(&mut bytes, Kind::Forget, &v1::Release { attempt_id: attempt.to_string() });
        }
        let fences = bytes.len() as u64;
        let mut held = BTreeMap::new();
        for (&attempt, entry) in &self.held {
            let accepted = v1::attempt_update::Event::Accepted(v1::AttemptAccepted {});
            frame::write(&mut bytes, Kind::Intent, &frame::update(attempt, entry.epoch, accepted));
            let mut rounds = Vec::with_capacity(entry.rounds.len());
            for span in &entry.rounds {
                rounds.push(frame::write_raw(&mut bytes, Kind::Round, &self.payload(*span)?));
            }
            if let Some(end) = &entry.end {
                let ended = v1::attempt_update::Event::Ended(end.clone().into());
                frame::write(&mut bytes, Kind::End, &frame::update(attempt, entry.epoch, ended));
            }
            held.insert(attempt, Entry { rounds, ..entry.clone() });
        }
        let aside = self.folder.join("journal.new");
        let journal = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&aside)?;
        journal.write_all_at(&bytes, 0)?;
        std::fs::rename(&aside, self.folder.join("journal"))?;
        (self.journal, self.held, self.written) = (journal, held, bytes.len() as u64);
        self.needed = self.written - fences;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
