//! Blobs in a folder: each under its digest, written aside and renamed, so that a name means whole bytes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use darwin_shared::ids::Digest;
use tempfile::NamedTempFile;
use thiserror::Error;

/// Why a blob cannot be kept or given.
#[derive(Debug, Error)]
pub enum BlobError {
    /// The bytes are not those that were announced.
    #[error("blob {} arrived with other bytes than announced: {why}", digest.short())]
    Mismatch {
        /// What was announced.
        digest: Digest,
        /// What differs.
        why: String,
    },
    /// There is no such blob.
    #[error("there is no blob {0}")]
    Missing(Digest),
    /// The disk failed.
    #[error("the blob folder {path} failed: {source}")]
    Disk {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A folder of blobs.
#[derive(Debug, Clone)]
pub struct FolderBlobs {
    folder: PathBuf,
}

/// A blob that is being written.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: FolderBlobs,
    digest: Digest,
    size_bytes: u64,
    written_bytes: u64,
    hasher: blake3::Hasher,
    file: NamedTempFile,
}

impl FolderBlobs {
    /// Opens or makes the folder.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        let blobs = Self { folder: folder.to_owned() };
        std::fs::create_dir_all(folder.join("incoming")).map_err(|e| blobs.disk(e))?;
        Ok(blobs)
    }

    fn disk(&self, source: io::Error) -> BlobError {
        BlobError::Disk { path: self.folder.clone(), source }
    }

    /// Where the blob is, if it is here.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (front, rest) = name.split_at(2);
        self.folder.join(front).join(rest)
    }

    /// Whether the blob is here, whole.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The bytes of a small blob, such as a manifest.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        std::fs::read(self.path(digest)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => BlobError::Missing(*digest),
            _ => self.disk(e),
        })
    }

    /// Begins a blob of this digest and length.
    pub fn begin(&self, digest: Digest, size_bytes: u64) -> Result<BlobWriter, BlobError> {
        let file = NamedTempFile::new_in(self.folder.join("incoming")).map_err(|e| self.disk(e))?;
        Ok(BlobWriter {
            blobs: self.clone(),
            digest,
            size_bytes,
            written_bytes: 0,
            hasher: blake3::Hasher::new(),
            file,
        })
    }
}

impl BlobWriter {
    /// Appends bytes; refuses more than were announced.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.written_bytes += bytes.len() as u64;
        if self.written_bytes > self.size_bytes {
            let why = format!("more than the {} bytes that were announced", self.size_bytes);
            return Err(BlobError::Mismatch { digest: self.digest, why });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|e| self.blobs.disk(e))
    }

    /// Checks the bytes and gives them their name.
    pub fn finish(self) -> Result<(), BlobError> {
        let Self { blobs, digest, size_bytes, written_bytes, hasher, file } = self;
        if written_bytes != size_bytes {
            let why = format!("{written_bytes} bytes instead of {size_bytes}");
            return Err(BlobError::Mismatch { digest, why });
        }
        if hasher.finalize().as_bytes() != digest.as_bytes() {
            return Err(BlobError::Mismatch { digest, why: "they have another digest".to_owned() });
        }
        let path = blobs.path(&digest);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| blobs.disk(e))?;
        }
        // A job is accepted only once its artifacts are here: they must survive a power cut as the job does.
        file.as_file().sync_data().map_err(|e| blobs.disk(e))?;
        file.persist(&path).map_err(|e| blobs.disk(e.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_and_right_bytes_get_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(folder.path()).unwrap();
        let digest = Digest::of(b"hello");

        let mut short = blobs.begin(digest, 5).unwrap();
        short.write(b"hell").unwrap();
        assert!(matches!(short.finish(), Err(BlobError::Mismatch { .. })));

        let mut wrong = blobs.begin(digest, 5).unwrap();
        wrong.write(b"hallo").unwrap();
        assert!(matches!(wrong.finish(), Err(BlobError::Mismatch { .. })));

        let mut long = blobs.begin(digest, 5).unwrap();
        assert!(long.write(b"hello!").is_err());
        assert!(!blobs.has(&digest));

        let mut right = blobs.begin(digest, 5).unwrap();
        right.write(b"hel").unwrap();
        right.write(b"lo").unwrap();
        right.finish().unwrap();
        assert_eq!(blobs.read(&digest).unwrap(), b"hello");
        assert!(matches!(blobs.read(&Digest::of(b"x")), Err(BlobError::Missing(_))));
        drop((wrong_is_gone(folder.path()), long));
    }

    fn wrong_is_gone(folder: &Path) -> usize {
        std::fs::read_dir(folder.join("incoming")).unwrap().count()
    }
}
