//! The one door to `/proc` and `/sys`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// The most that is read of one file: `/proc/interrupts` of a box with 256 CPUs stays well below.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The longest record of the kernel's log, with what stands before its text.
const RECORD_MAX_BYTES: usize = 8 << 10;

/// Why a file of the kernel's gave nothing.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The kernel or the hardware does not have it.
    #[error("{} does not exist on this box", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It was read and is not what it should be.
    #[error("{} says `{text}`, which is not {expected}", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
        /// What was read, shortened.
        text: String,
        /// What would have been understood.
        expected: &'static str,
    },
}

/// The file system of a box, real or recorded.
#[derive(Debug, Clone)]
pub struct HostFs {
    root: PathBuf,
    /// Files that stand in for those of the root.
    over: Option<PathBuf>,
}

impl Default for HostFs {
    fn default() -> Self {
        Self::new("/")
    }
}

impl HostFs {
    /// The box whose `/` is at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), over: None }
    }

    /// The same box at another time: what lies below `over` stands in for what the box had there before.
    #[must_use]
    pub fn with(&self, over: impl Into<PathBuf>) -> Self {
        Self { root: self.root.clone(), over: Some(over.into()) }
    }

    /// Where a path of the box lies for us.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let path = path.strip_prefix("/").unwrap_or(path);
        let over = self.over.as_ref().map(|over| over.join(path)).filter(|over| over.is_file());
        over.unwrap_or_else(|| self.root.join(path))
    }

    /// Whether there is such a file or folder.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// The text of a file, without white space around it; what is not UTF-8 is replaced.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String, ReadError> {
        self.read_head(path, MAX_FILE_BYTES)
    }

    /// The first bytes of a file that grows with the number of CPUs.
    pub fn read_head(&self, path: impl AsRef<Path>, max_bytes: u64) -> Result<String, ReadError> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        File::open(self.path(path))
            .and_then(|file| file.take(max_bytes).read_to_end(&mut bytes))
            .map_err(|source| failure(path, source))?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// What a file holds now that gives a record at each reading, as the kernel's log does; it is never waited for more. None
    /// if that is more than `max_bytes` or takes more than `max_reads`.
    pub fn read_records(
        &self,
        path: impl AsRef<Path>,
        max_bytes: usize,
        max_reads: usize,
    ) -> Result<Option<String>, ReadError> {
        let path = path.as_ref();
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(self.path(path));
        let mut file = file.map_err(|source| failure(path, source))?;
        let mut record = vec![0; RECORD_MAX_BYTES];
        let mut bytes = Vec::new();
        for _ in 0..max_reads {
            let all_read = match file.read(&mut record) {
                Ok(length) => {
                    bytes.extend_from_slice(&record[..length]);
                    length == 0
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => true,
                    // The oldest records were overwritten meanwhile: the next reading gives the oldest that is left.
                    io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted => false,
                    _ => return Err(failure(path, error)),
                },
            };
            if bytes.len() > max_bytes {
                break;
            }
            if all_read {
                return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        Ok(None)
    }

    /// Eight bytes of a file from `offset` on, the lowest first: a register of a CPU that is read like a file.
    pub fn register(&self, path: impl AsRef<Path>, offset: u64) -> Result<u64, ReadError> {
        let path = path.as_ref();
        let mut bytes = [0; 8];
        File::open(self.path(path))
            .and_then(|file| file.read_exact_at(&mut bytes, offset))
            .map_err(|source| failure(path, source))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The text of a file, understood.
    pub fn parse<T: FromStr>(&self, path: impl AsRef<Path>, expected: &'static str) -> Result<T, ReadError> {
        let path = path.as_ref();
        let text = self.read(path)?;
        text.parse().map_err(|_| ReadError::Odd {
            path: path.to_owned(),
            text: text.chars().take(60).collect(),
            expected,
        })
    }

    /// The names in a folder, sorted.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<String>, ReadError> {
        let path = path.as_ref();
        let entries = fs::read_dir(self.path(path)).map_err(|source| failure(path, source))?;
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Bytes that can still be written under a path, to someone without privileges.
    pub fn free_bytes(&self, path: impl AsRef<Path>) -> Result<u64, ReadError> {
        let path = path.as_ref();
        let space = nix::sys::statvfs::statvfs(&self.path(path))
            .map_err(|errno| failure(path, io::Error::from(errno)))?;
        Ok(space.blocks_available().saturating_mul(space.fragment_size()))
    }
}

fn failure(path: &Path, source: io::Error) -> ReadError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ReadError::Absent { path },
        _ => ReadError::Io { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostFs::new(dir.path());
        fs::write(dir.path().join("log"), "x".repeat(3 * RECORD_MAX_BYTES)).unwrap();
        let length = |max_bytes, max_reads| {
            host.read_records("/log", max_bytes, max_reads).unwrap().map(|text| text.len())
        };
        assert_eq!(length(usize::MAX, 4), Some(3 * RECORD_MAX_BYTES), "the fourth reading gives no more");
        assert_eq!((length(usize::MAX, 3), length(2 * RECORD_MAX_BYTES, 9)), (None, None));
        assert!(matches!(host.read_records("/nothing", 1, 1), Err(ReadError::Absent { .. })));
    }

    #[test]
    fn a_log_that_gives_no_more_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("log");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Who opens a pipe to write waits for its reader, but for one who opens it both ways.
        let mut end = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        io::Write::write_all(&mut end, b"a record").unwrap();
        let text = HostFs::new(dir.path()).read_records("/log", 1 << 10, 9).unwrap();
        assert_eq!(text.as_deref(), Some("a record"));
    }

    #[test]
    fn a_register_lies_at_its_offset() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("msr"), [0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0]).unwrap();
        let host = HostFs::new(dir.path());
        assert_eq!(host.register("/msr", 2).unwrap(), 0x1234);
        assert!(matches!(host.register("/msr", 3), Err(ReadError::Io { .. })), "it ends too soon");
        assert!(matches!(host.register("/nothing", 0), Err(ReadError::Absent { .. })));
    }
}
