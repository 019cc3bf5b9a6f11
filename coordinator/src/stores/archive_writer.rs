//! The archive's own thread: rounds go in through a bounded queue and are written in batches, off the core's path.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use darwin_coordinator_core::action::ArchiveRound;
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::archive::{
    AaJob, Archive, ArchiveError, ArchivedProbe, CalibrationQuery, Calibrations, HistoryPoint, HistoryQuery,
    ProbeQuery,
};

/// Rounds that may wait to be written: 64 MiB at 4 KiB a round. Beyond it, rounds are dropped and counted, never waited
/// for: the archive explains verdicts, it does not make them.
const QUEUE_ROUNDS: usize = 16_384;
/// Rounds in one transaction.
const BATCH_ROUNDS: usize = 512;
/// How long a batch is let grow before it is written, so that many small rounds share one transaction.
const GATHER: std::time::Duration = std::time::Duration::from_millis(200);

/// Where rounds go, and A/A verdicts after theirs.
#[derive(Debug, Clone)]
pub struct ArchiveQueue {
    entries: mpsc::Sender<Entry>,
}

/// Something to be written.
#[derive(Debug)]
enum Entry {
    Round(Box<ArchiveRound>),
    Aa(Box<AaJob>),
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
        let (entries, mut queue) = mpsc::channel::<Entry>(QUEUE_ROUNDS);
        let thread = std::thread::Builder::new().name("archive".to_owned()).spawn(move || {
            let mut batch = Vec::new();
            while queue.blocking_recv_many(&mut batch, BATCH_ROUNDS) > 0 {
                if batch.len() < BATCH_ROUNDS && !queue.is_closed() {
                    std::thread::sleep(GATHER);
                    while batch.len() < BATCH_ROUNDS
                        && let Ok(entry) = queue.try_recv()
                    {
                        batch.push(entry);
                    }
                }
                write(writing.as_mut(), batch.drain(..));
            }
        })?;
        Ok((Self { entries }, ArchiveReader { archive: Arc::new(Mutex::new(reading)) }, thread))
    }

    /// Puts a round into the queue, or drops it with a warning if the queue is full.
    pub fn put(&self, round: ArchiveRound) {
        let (attempt, number) = (round.attempt, round.round);
        if self.entries.try_send(Entry::Round(Box::new(round))).is_err() {
            warn!(%attempt, round = number, "the archive is too slow or has stopped: a round is not archived");
        }
    }

    /// Puts an A/A verdict into the queue, behind its rounds, or drops it with a warning if the queue is full.
    pub fn put_aa(&self, job: AaJob) {
        let attempt = job.attempt;
        if self.entries.try_send(Entry::Aa(Box::new(job))).is_err() {
            warn!(%attempt, "the archive is too slow or has stopped: a calibration is lost, run it again");
        }
    }
}

/// Writes entries in their order, rounds that follow each other in one transaction.
fn write(archive: &mut dyn Archive, entries: impl Iterator<Item = Entry>) {
    let mut rounds = Vec::new();
    for entry in entries {
        match entry {
            Entry::Round(round) => rounds.push(*round),
            Entry::Aa(job) => {
                write_rounds(archive, &mut rounds);
                if let Err(why) = archive.put_aa(&job) {
                    error!(attempt = %job.attempt, %why, "the archive lost a calibration");
                }
            }
        }
    }
    write_rounds(archive, &mut rounds);
}

fn write_rounds(archive: &mut dyn Archive, rounds: &mut Vec<ArchiveRound>) {
    if rounds.is_empty() {
        return;
    }
    if let Err(why) = archive.put(rounds) {
        error!(rounds = rounds.len(), %why, "the archive lost rounds");
    }
    rounds.clear();
}

impl ArchiveReader {
    /// How noisy the boxes are; blocks on the disk.
    pub fn calibrations(&self, query: &CalibrationQuery) -> Result<Calibrations, ArchiveError> {
        self.archive.lock().map_err(|_| ArchiveError::Stopped)?.calibrations(query)
    }

    /// What probes saw of the boxes; blocks on the disk.
    pub fn probes(&self, query: &ProbeQuery) -> Result<Vec<ArchivedProbe>, ArchiveError> {
        self.archive.lock().map_err(|_| ArchiveError::Stopped)?.probes(query)
    }

    /// A line over time; blocks on the disk.
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryPoint>, ArchiveError> {
        self.archive.lock().map_err(|_| ArchiveError::Stopped)?.history(query)
    }
}
