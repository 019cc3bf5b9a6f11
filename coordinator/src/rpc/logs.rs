//! Live logs: asked for here, written by a process on a box, carried by that box's link.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use darwin_proto::v1;
use tokio::sync::mpsc;

/// Pieces of 64 KiB that may wait for one reader: 4 MiB. A slower one loses the stream and may ask again.
const PIECES: usize = 64;

/// Who reads which log.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogRelay {
    readers: Arc<Mutex<Readers>>,
}

#[derive(Debug, Default)]
struct Readers {
    last: u64,
    open: HashMap<u64, mpsc::Sender<v1::LogPiece>>,
}

impl LogRelay {
    /// A new reader: its number for the agent, and where the pieces will come.
    pub(crate) fn open(&self) -> (u64, mpsc::Receiver<v1::LogPiece>) {
        let (pieces, read) = mpsc::channel(PIECES);
        let mut readers = self.lock();
        readers.open.retain(|_, reader| !reader.is_closed());
        readers.last += 1;
        let number = readers.last;
        readers.open.insert(number, pieces);
        (number, read)
    }

    /// A piece came from an agent.
    pub(crate) fn deliver(&self, piece: v1::LogPiece) {
        let mut readers = self.lock();
        let (number, last) = (piece.request, piece.last);
        let gone = readers.open.get(&number).is_some_and(|reader| reader.try_send(piece).is_err());
        if gone || last {
            readers.open.remove(&number);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Readers> {
        // The map is whole after any panic: every change to it is one call.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
