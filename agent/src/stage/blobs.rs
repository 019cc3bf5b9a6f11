//! Files by their digest: fetched once, kept until space is needed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use darwin_shared::ids::Digest;
use tempfile::NamedTempFile;

/// A folder of blobs; those of one first byte share a folder.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    root: PathBuf,
}

/// A blob that is being written.
#[derive(Debug)]
pub(super) struct Incoming {
    file: NamedTempFile,
    hasher: blake3::Hasher,
    digest: Digest,
    left_bytes: u64,
    path: PathBuf,
}

/// Why a blob did not come whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum BlobError {
    /// More or fewer bytes than said.
    #[error("blob {} came with another length than its header said", .0.short())]
    Length(Digest),
    /// Other bytes than its digest says.
    #[error("blob {} came with other bytes than its digest says", .0.short())]
    Content(Digest),
    /// The disk.
    #[error("cannot keep blob: {0}")]
    Io(#[from] io::Error),
}

impl Blobs {
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        let (folder, rest) = name.split_at(2);
        self.root.join(folder).join(rest)
    }

    pub(super) fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// A blob's bytes, for the small ones (manifests); checked, for a disk may lie. A wrong one is dropped.
    pub(super) fn read(&self, digest: Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let bytes = fs::read(&path).ok()?;
        if Digest::of(&bytes) == digest {
            return Some(bytes);
        }
        // It is fetched again: that it cannot be removed shows when it cannot be replaced.
        let _ = fs::remove_file(path);
        None
    }

    pub(super) fn receive(&self, digest: Digest, size_bytes: u64) -> io::Result<Incoming> {
        let path = self.path(digest);
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)?;
        let file = NamedTempFile::new_in(folder)?;
        Ok(Incoming { file, hasher: blake3::Hasher::new(), digest, left_bytes: size_bytes, path })
    }

    /// Marks a blob as used now, for whoever looks for the least recently used ones.
    pub(super) fn touch(path: &Path) {
        // At worst it is evicted early.
        let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Every blob with its size and when it was used last.
    pub(super) fn list(&self) -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.root)?.flatten() {
            let Ok(entries) = fs::read_dir(folder.path()) else { continue };
            for entry in entries.flatten() {
                if let Ok(metadata) = entry.metadata() {
                    found.push((
                        entry.path(),
                        metadata.len(),
                        metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    ));
                }
            }
        }
        Ok(found)
    }
}

impl Incoming {
    pub(super) fn write(&mut self, chunk: &[u8]) -> Result<(), BlobError> {
        self.left_bytes =
            self.left_bytes.checked_sub(chunk.len() as u64).ok_or(BlobError::Length(self.digest))?;
        self.hasher.update(chunk);
        self.file.write_all(chunk)?;
        Ok(())
    }

    /// Puts the blob in its place, if it is what it was said to be.
    pub(super) fn finish(self) -> Result<Digest, BlobError> {
        if self.left_bytes != 0 {
            return Err(BlobError::Length(self.digest));
        }
        if self.hasher.finalize().as_bytes() != self.digest.as_bytes() {
            return Err(BlobError::Content(self.digest));
        }
        self.file.persist(&self.path).map_err(|error| error.error)?;
        Ok(self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_and_true_blobs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().join("blobs")).unwrap();
        let digest = Digest::of(b"book");
        let mut short = blobs.receive(digest, 4).unwrap();
        short.write(b"boo").unwrap();
        assert!(matches!(short.finish(), Err(BlobError::Length(_))));
        let mut long = blobs.receive(digest, 4).unwrap();
        assert!(matches!(long.write(b"books"), Err(BlobError::Length(_))));
        let mut wrong = blobs.receive(digest, 4).unwrap();
        wrong.write(b"cook").unwrap();
        assert!(matches!(wrong.finish(), Err(BlobError::Content(_))));
        assert!(!blobs.has(digest));
        let mut right = blobs.receive(digest, 4).unwrap();
        right.write(b"bo").unwrap();
        right.write(b"ok").unwrap();
        right.finish().unwrap();
        assert_eq!(blobs.read(digest).unwrap(), b"book");
        fs::write(blobs.path(digest), "b00k").unwrap();
        assert_eq!((blobs.read(digest), blobs.has(digest)), (None, false));
    }
}
