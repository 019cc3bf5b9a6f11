//! Reading a journal that an earlier life left, whatever state it is in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use darwin_proto::v1;
use darwin_shared::attempt::{AttemptEvent, AttemptUpdate};
use prost::Message;

use super::frame::{self, HEAD_BYTES, Kind};
use super::{Entry, Span, Spool};

/// How much of a journal is read at once; a record always fits into half of it.
const CHUNK_BYTES: usize = 4 * darwin_proto::MAX_MESSAGE_BYTES;

impl Spool {
    /// Reads the journal up to the first record that is not whole; sets the rest aside.
    pub(super) fn recover(&mut self) -> io::Result<Option<(PathBuf, u64)>> {
        let size = self.journal.metadata()?.len();
        let mut window = Window { file: self.journal.try_clone()?, bytes: Vec::new(), at: 0, read_to: 0 };
        loop {
            window.fill(size)?;
            let Some((kind, payload)) = frame::read(window.rest(self.written)) else { break };
            let length = payload.len();
            let span = Span {
                at: self.written + HEAD_BYTES as u64,
                length: u32::try_from(length).unwrap_or(u32::MAX),
            };
            let payload = payload.to_vec();
            if self.replay(kind, &payload, span).is_none() {
                break;
            }
            self.written = span.at + length as u64;
            window.drop_before(self.written);
        }
        self.needed = self.held.values().map(frame::size_of_entry).sum();
        self.set_aside(size)
    }

    /// Applies a record; none if it makes no sense, which ends the journal.
    fn replay(&mut self, kind: Kind, payload: &[u8], span: Span) -> Option<()> {
        match kind {
            Kind::Intent | Kind::End => {
                let update = AttemptUpdate::try_from(v1::AttemptUpdate::decode(payload).ok()?).ok()?;
                match update.event {
                    AttemptEvent::Accepted => {
                        let entry = Entry { epoch: update.epoch, rounds: Vec::new(), end: None };
                        self.held.insert(update.attempt, entry);
                    }
                    AttemptEvent::Ended(end) => self.held.get_mut(&update.attempt)?.end = Some(end),
                    AttemptEvent::Refused(_)
                    | AttemptEvent::Staging(_)
                    | AttemptEvent::Ready
                    | AttemptEvent::Running { .. } => return None,
                }
            }
            Kind::Round => {
                let result = v1::RoundResult::decode(payload).ok()?;
                let entry = self.held.get_mut(&result.attempt_id.parse().ok()?)?;
                if result.round as usize != entry.rounds.len() {
                    return None;
                }
                entry.rounds.push(span);
            }
            Kind::Forget => {
                let attempt = v1::Release::decode(payload).ok()?.attempt_id.parse().ok()?;
                let entry = self.held.remove(&attempt)?;
                self.remember_fence(attempt, entry.epoch);
            }
        }
        Some(())
    }

    /// Keeps what could not be read for whoever wants to look, and cuts it off the journal.
    fn set_aside(&mut self, size: u64) -> io::Result<Option<(PathBuf, u64)>> {
        let bad = size.saturating_sub(self.written);
        if bad == 0 {
            return Ok(None);
        }
        let path = self.folder.join("journal.unreadable");
        let mut bytes = vec![0; usize::try_from(bad).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)];
        self.journal.read_exact_at(&mut bytes, self.written)?;
        // Only for people: if there is no room for it, the agent must start all the same.
        let kept = std::fs::write(&path, &bytes).is_ok();
        self.journal.set_len(self.written)?;
        Ok(kept.then_some((path, bad)))
    }
}

/// The part of the journal that is in memory.
struct Window {
    file: File,
    bytes: Vec<u8>,
    /// Where `bytes` begin.
    at: u64,
    read_to: u64,
}

impl Window {
    /// Reads on, so that the next record is in memory as a whole if it is one.
    fn fill(&mut self, size: u64) -> io::Result<()> {
        while self.bytes.len() < CHUNK_BYTES && self.read_to < size {
            let want = usize::try_from(size - self.read_to).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let start = self.bytes.len();
            self.bytes.resize(start + want, 0);
            self.file.read_exact_at(&mut self.bytes[start..], self.read_to)?;
            self.read_to += want as u64;
        }
        Ok(())
    }

    fn rest(&self, from: u64) -> &[u8] {
        let skip = usize::try_from(from - self.at).unwrap_or(usize::MAX);
        self.bytes.get(skip..).unwrap_or_default()
    }

    /// Lets go of what is read, once it is worth the copying.
    fn drop_before(&mut self, to: u64) {
        let done = usize::try_from(to - self.at).unwrap_or(usize::MAX);
        if done >= CHUNK_BYTES / 2 {
            self.bytes.drain(..done.min(self.bytes.len()));
            self.at = to;
        }
    }
}
