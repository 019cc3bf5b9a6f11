//! The archive's own thread: rounds go in through a bounded queue and are written in batches, off the core's path.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use darwin_coordinator_core::action::ArchiveRound;
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::archive::{Archive, ArchiveError, HistoryPoint, HistoryQuery};

/// Rounds that may wait to be written: 64 MiB at 4 KiB a round. Beyond it, rounds are dropped and counted, never waited
/// for: the archive explains verdicts, it does not make them.
const QUEUE_ROUNDS: usize = 16_384;
/// Rounds in one transaction.
const BATCH_ROUNDS: usize = 512;
/// How long a batch is let grow before it is written, so that many small rounds share one transaction.
const GATHER: std::time::Duration = std::time::Duration::from_millis(200);

/// Where rounds go.
#[derive(Debug, Clone)]
pub struct ArchiveQueue {
    rounds: mpsc::Sender<ArchiveRound>,
}

/// Who answers questions about the past.
#[derive(Clone)]
pub struct ArchiveReader {
    archive: Arc<Mutex<Box<dyn Archive>>>,
}

impl std::fmt::Debug for ArchiveReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ArchiveReader")
    }
}

impl ArchiveQueue {
    /// Starts the writer. `writing` and `reading` are two connections to one archive. The thread ends, with all written,
    /// when the last queue is dropped.
    pub fn start(
        mut writing: Box<dyn Archive>,
        reading: Box<dyn Archive>,
    ) -> Result<(Self, ArchiveReader, JoinHandle<()>), std::io::Error> {
        let (rounds, mut queue) = mpsc::channel::<ArchiveRound>(QUEUE_ROUNDS);
        let thread = std::thread::Builder::new().name("archive".to_owned()).spawn(move || {
            let mut batch = Vec::new();
            while queue.blocking_recv_many(&mut batch, BATCH_ROUNDS) > 0 {
                if batch.len() < BATCH_ROUNDS && !queue.is_closed() {
                    std::thread::sleep(GATHER);
                    while batch.len() < BATCH_ROUNDS
                        && let Ok(round) = queue.try_recv()
                    {
                        batch.push(round);
                    }
                }
                if let Err(why) = writing.put(&batch) {
                    error!(rounds = batch.len(), %why, "the archive lost rounds");
                }
                batch.clear();
            }
        })?;
        Ok((Self { rounds }, ArchiveReader { archive: Arc::new(Mutex::new(reading)) }, thread))
    }

    /// Puts a round into the queue, or drops it with a warning if the queue is full.
    pub fn put(&self, round: ArchiveRound) {
        let (attempt, number) = (round.attempt, round.round);
        if self.rounds.try_send(round).is_err() {
            warn!(%attempt, round = number, "the archive is too slow or has stopped: a round is not archived");
        }
    }
}

impl ArchiveReader {
    /// A line over time; blocks on the disk.
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryPoint>, ArchiveError> {
        self.archive.lock().map_err(|_| ArchiveError::Stopped)?.history(query)
    }
}
