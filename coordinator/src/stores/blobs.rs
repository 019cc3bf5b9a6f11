//! Blobs: bytes under their digest. A blob that is there is whole.

use std::io::{self, Read};
use std::path::PathBuf;

use darwin_shared::ids::Digest;
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
    /// A blob that is there could not be read to its end.
    #[error("blob {} cannot be read: {source}", digest.short())]
    Unreadable {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The disk failed.
    #[error("the blob folder {path} failed: {source}")]
    Disk {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A blob that is being read.
pub struct OpenBlob {
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Its bytes.
    pub bytes: Box<dyn Read + Send>,
}

impl std::fmt::Debug for OpenBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenBlob").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

/// A blob that is being written; it is dropped without a trace unless it is finished.
pub trait BlobSink: Send {
    /// Appends bytes; refuses more than were announced.
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError>;

    /// Checks the bytes against digest and length and, if they are right, puts them under their name, durably.
    fn finish(self: Box<Self>) -> Result<(), BlobError>;
}

/// Bytes under their digest. All calls may block on the disk.
pub trait Blobs: Send + Sync + std::fmt::Debug {
    /// Whether the blob is here, whole.
    fn has(&self, digest: &Digest) -> bool;

    /// The blob, to be read piece by piece.
    fn open(&self, digest: &Digest) -> Result<OpenBlob, BlobError>;

    /// Begins a blob of this digest and length.
    fn begin(&self, digest: Digest, size_bytes: u64) -> Result<Box<dyn BlobSink>, BlobError>;

    /// The bytes of a small blob, such as a manifest.
    fn read(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        let mut blob = self.open(digest)?;
        let mut bytes = Vec::new();
        blob.bytes
            .read_to_end(&mut bytes)
            .map_err(|source| BlobError::Unreadable { digest: *digest, source })?;
        Ok(bytes)
    }
}

/// Counts and hashes the bytes of a blob that is being written.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) digest: Digest,
    size_bytes: u64,
    written_bytes: u64,
    hasher: blake3::Hasher,
}

impl Announced {
    pub(super) fn new(digest: Digest, size_bytes: u64) -> Self {
        Self { digest, size_bytes, written_bytes: 0, hasher: blake3::Hasher::new() }
    }

    /// Takes note of bytes; refuses more than were announced.
    pub(super) fn note(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.written_bytes += bytes.len() as u64;
        if self.written_bytes > self.size_bytes {
            return Err(self.mismatch(format!("more than the {} bytes that were announced", self.size_bytes)));
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Whether all came, and what was announced.
    pub(super) fn check(&self) -> Result<(), BlobError> {
        if self.written_bytes != self.size_bytes {
            return Err(self.mismatch(format!("{} bytes instead of {}", self.written_bytes, self.size_bytes)));
        }
        if self.hasher.finalize().as_bytes() != self.digest.as_bytes() {
            return Err(self.mismatch("they have another digest".to_owned()));
        }
        Ok(())
    }

    fn mismatch(&self, why: String) -> BlobError {
        BlobError::Mismatch { digest: self.digest, why }
    }
}
