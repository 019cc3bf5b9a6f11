//! The coordinator's own sensor: its ledger, archive and blobs, and the disk under them.

use std::path::{Path, PathBuf};

use darwin_shared::fleet::{Reading, ReadingStatus};

/// Below this much free space nothing new is accepted: what is under way must still be written down.
pub(crate) const FREE_BYTES_MIN: u64 = 64 << 20;
/// Below this much free space the sensor warns.
const FREE_BYTES_WARN: u64 = 1 << 30;

/// Looks at the folder that holds all three stores.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    folder: PathBuf,
}

impl Health {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Bytes that may still be written, if the file system says.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.folder).ok()?;
        Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    /// What there is to say of each part.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let folder = self.folder.display();
        let part = |name: &str, value: String, why: &str| Reading {
            name: name.to_owned(),
            status: ReadingStatus::Ok,
            value,
            why: why.to_owned(),
            remedy: String::new(),
        };
        vec![
            part("ledger", format!("SQLite in {folder}, synced to disk"), "jobs and verdicts are kept there"),
            part("archive", format!("SQLite in {folder}"), "what was measured is kept there"),
            part("blobs", format!("folder {folder}/blobs"), "artifacts are kept there"),
            self.disk(),
        ]
    }

    fn disk(&self) -> Reading {
        let folder = self.folder.display();
        let (status, value) = match self.free_bytes() {
            None => (ReadingStatus::Unknown, String::new()),
            Some(free) if free < FREE_BYTES_MIN => (ReadingStatus::Fail, format!("{} MiB free", free >> 20)),
            Some(free) if free < FREE_BYTES_WARN => (ReadingStatus::Warn, format!("{} MiB free", free >> 20)),
            Some(free) => (ReadingStatus::Ok, format!("{} GiB free", free >> 30)),
        };
        let remedy = match status {
            ReadingStatus::Ok | ReadingStatus::Unknown => String::new(),
            ReadingStatus::Warn | ReadingStatus::Fail => format!("free space on the file system of {folder}"),
        };
        Reading {
            name: "disk".to_owned(),
            status,
            value,
            why: "without room nothing can be promised: submissions are refused".to_owned(),
            remedy,
        }
    }
}
