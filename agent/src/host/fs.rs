//! The one door to `/proc` and `/sys`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// The most that is read of one file: `/proc/interrupts` of a box with 256 CPUs stays well below.
const MAX_FILE_BYTES: u64 = 1 << 20;

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
