//! What an attempt's processes wrote: while they run, in memory; of a failed or staged one, on disk until released.
//!
//! A log is read only when somebody asks for it or when its process has failed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use darwin_shared::spec::Arm;
use darwin_shared::state::Stage;

use crate::exec::OutputFile;
use crate::run::LOG_TAIL_BYTES;

/// Logs kept of one attempt: set-up and check of both sides, and the two newest invocations.
const MAX_ENTRIES: usize = 6;
/// How much of stdout, and of stderr, goes to disk: their ends, written while another attempt may be measuring.
const KEPT_BYTES: usize = 1 << 20;

/// Where a log's bytes are.
#[derive(Debug, Clone)]
enum Bytes {
    Memory(Written),
    /// On disk: stdout, then stderr.
    Disk(Arc<File>),
}

/// What a process writes to stdout and stderr.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) stdout: Arc<OutputFile>,
    pub(crate) stderr: Arc<OutputFile>,
}

impl Written {
    /// Nothing yet.
    pub(crate) fn nothing() -> io::Result<Self> {
        let create = |name| OutputFile::create(name).map(Arc::new);
        Ok(Self { stdout: create("stdout")?, stderr: create("stderr")? })
    }

    /// Itself, if nobody else holds it.
    pub(crate) fn alone(self) -> Option<Self> {
        (Arc::strong_count(&self.stdout) == 1 && Arc::strong_count(&self.stderr) == 1).then_some(self)
    }

    fn is_empty(&self) -> bool {
        // What cannot be read is not worth keeping.
        let empty = |file: &OutputFile| file.is_empty().unwrap_or(true);
        empty(&self.stdout) && empty(&self.stderr)
    }

    /// The last lines of both, for a failure.
    pub(crate) fn tail(&self) -> String {
        let read = |file: &OutputFile, most| file.read_tail(most).unwrap_or_default();
        // stderr says why; stdout has what a test runner found. Each may use what the other leaves.
        let err = read(&self.stderr, LOG_TAIL_BYTES);
        let out = read(&self.stdout, LOG_TAIL_BYTES.saturating_sub(err.len().min(LOG_TAIL_BYTES / 2)));
        let err = &err[err.len().saturating_sub(LOG_TAIL_BYTES - out.len())..];
        readable(&[&out, err].concat())
    }
}

/// What one process wrote.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// Counts the processes of the attempt, from 0.
    pub(crate) number: u64,
    pub(crate) stage: Stage,
    pub(crate) arm: Arm,
    /// Whether nothing will be added.
    pub(crate) finished: bool,
    bytes: Bytes,
}

/// How far a log was read: bytes of stdout and of stderr, or of both in one file.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    first: u64,
    second: u64,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    logs: Vec<Log>,
    over: bool,
}

/// The logs of one attempt.
#[derive(Debug)]
pub(crate) struct AttemptLogs {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

impl AttemptLogs {
    /// No logs yet; what must go to disk goes into `folder`, which is made when it is needed.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked while it held the lock left the list whole: every change is one push or assignment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process starts; its outputs take the place of an older process of the same stage and side.
    pub(crate) fn begin(&self, stage: Stage, arm: Arm, written: Written) {
        let mut inner = self.lock();
        inner.logs.retain(|log| (log.stage, log.arm) != (stage, arm));
        if inner.logs.len() >= MAX_ENTRIES {
            inner.logs.remove(0);
        }
        let number = inner.next;
        inner.next += 1;
        inner.logs.push(Log { number, stage, arm, finished: false, bytes: Bytes::Memory(written) });
    }

    /// The process that writes there is gone. Says whether it wrote anything; if not, its log is dropped.
    pub(crate) fn finish(&self, written: &Written) -> bool {
        let empty = written.is_empty();
        let mut inner = self.lock();
        let at = inner.logs.iter().rposition(|log| match &log.bytes {
            Bytes::Memory(other) => Arc::ptr_eq(&other.stdout, &written.stdout),
            Bytes::Disk(_) => false,
        });
        match at {
            Some(at) if empty => {
                inner.logs.remove(at);
            }
            Some(at) => {
                if let Some(log) = inner.logs.get_mut(at) {
                    log.finished = true;
                }
            }
            None => {}
        }
        !empty
    }

    /// Nothing will be begun any more. Moves to disk what is worth keeping until the attempt is released.
    pub(crate) fn close(&self) {
        self.keep();
        let mut inner = self.lock();
        inner.over = true;
        inner.logs.retain(|log| matches!(log.bytes, Bytes::Disk(_)));
    }

    /// Whether nothing will be begun any more.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Whether there is anything on disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.lock().logs.iter().any(|log| matches!(log.bytes, Bytes::Disk(_)))
    }

    /// Moves what finished processes wrote from memory to disk; what wrote nothing needs no file.
    pub(crate) fn keep(&self) {
        let waiting: Vec<Log> = self.lock().logs.iter().filter(|log| log.finished).cloned().collect();
        for log in waiting {
            let Bytes::Memory(written) = &log.bytes else { continue };
            match save(&self.folder, &log, [&written.stdout, &written.stderr]) {
                Ok(file) => {
                    let mut inner = self.lock();
                    if let Some(kept) = inner.logs.iter_mut().find(|kept| kept.number == log.number) {
                        kept.bytes = Bytes::Disk(Arc::new(file));
                    }
                }
                Err(error) => {
                    tracing::warn!(folder = %self.folder.display(), %error, "a log could not be kept");
                }
            }
        }
    }

    /// The oldest log from `number` on.
    pub(crate) fn next_from(&self, number: u64) -> Option<Log> {
        self.lock().logs.iter().find(|log| log.number >= number).cloned()
    }
}

impl Log {
    /// What was written since the cursor, at most so much; empty if there is nothing at the moment.
    pub(crate) fn read(&self, cursor: &mut Cursor, max_bytes: usize) -> io::Result<Vec<u8>> {
        match &self.bytes {
            Bytes::Memory(Written { stdout, stderr }) => {
                let bytes = stdout.read_from(cursor.first, max_bytes)?;
                cursor.first += bytes.len() as u64;
                if !bytes.is_empty() {
                    return Ok(bytes);
                }
                let bytes = stderr.read_from(cursor.second, max_bytes)?;
                cursor.second += bytes.len() as u64;
                Ok(bytes)
            }
            Bytes::Disk(file) => {
                let mut bytes = vec![0; max_bytes];
                let read = file.read_at(&mut bytes, cursor.first + cursor.second)?;
                cursor.first += read as u64;
                bytes.truncate(read);
                Ok(bytes)
            }
        }
    }
}

/// Text that a terminal only shows: control characters other than line breaks and tabs are dropped.
fn readable(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    // Replacement characters are longer than the bytes that they stand for.
    let mut start = text.len().saturating_sub(LOG_TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default().to_owned()
}

/// Writes the end of both outputs into one file.
fn save(folder: &Path, log: &Log, outputs: [&OutputFile; 2]) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{:04}-{}-{}.log", log.number, log.stage, log.arm));
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    for output in outputs {
        let left_out = output.len()?.saturating_sub(KEPT_BYTES as u64);
        if left_out > 0 {
            writeln!(file, "[{left_out} bytes before this are left out]")?;
        }
        file.write_all(&output.read_tail(KEPT_BYTES)?)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn output(text: &str) -> Arc<OutputFile> {
        let output = OutputFile::create("test").unwrap();
        let fd = output.as_fd().try_clone_to_owned().unwrap();
        File::from(fd).write_all(text.as_bytes()).unwrap();
        Arc::new(output)
    }

    fn all(log: &Log) -> String {
        let (mut cursor, mut bytes) = (Cursor::default(), Vec::new());
        loop {
            let piece = log.read(&mut cursor, 4).unwrap();
            if piece.is_empty() {
                return String::from_utf8(bytes).unwrap();
            }
            bytes.extend(piece);
        }
    }

    #[test]
    fn logs_outlive_their_processes_only_if_they_say_something() {
        let folder = tempfile::tempdir().unwrap();
        let logs = AttemptLogs::new(folder.path().join("a"));
        let said = Written { stdout: output("installing"), stderr: output(" and warning") };
        logs.begin(Stage::Setup, Arm::Baseline, said.clone());
        assert!(logs.finish(&said));
        let nothing = Written::nothing().unwrap();
        logs.begin(Stage::Run, Arm::Baseline, nothing.clone());
        assert_eq!(all(&logs.next_from(0).unwrap()), "installing and warning");
        assert!(!logs.finish(&nothing));
        logs.close();
        assert!(logs.is_over());
        assert_eq!(all(&logs.next_from(0).unwrap()), "installing and warning");
        assert!(logs.next_from(1).is_none(), "an empty log is not kept");
    }

    #[test]
    fn of_two_processes_that_run_at_once_each_has_its_own_log() {
        let logs = AttemptLogs::new(PathBuf::new());
        let (nothing, said) =
            (Written::nothing().unwrap(), Written { stdout: output("b"), stderr: output("") });
        logs.begin(Stage::Run, Arm::Baseline, nothing.clone());
        logs.begin(Stage::Run, Arm::Challenger, said.clone());
        assert!(!logs.finish(&nothing));
        assert!(logs.next_from(0).is_some_and(|log| log.arm == Arm::Challenger && !log.finished));
        assert!(logs.finish(&said));
        assert!(logs.next_from(0).is_some_and(|log| log.arm == Arm::Challenger && log.finished));
    }

    #[test]
    fn a_tail_is_short_and_harmless() {
        let long = format!("{}\u{1b}[2Jend", "\u{ff}".repeat(LOG_TAIL_BYTES));
        let tail = Written { stdout: output(&long), stderr: output("why\n") }.tail();
        assert!(
            tail.len() <= LOG_TAIL_BYTES && tail.ends_with("[2Jendwhy\n"),
            "{}",
            &tail[tail.len() - 20..]
        );
    }
}
