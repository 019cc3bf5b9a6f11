//! Blobs in memory: the model that the engines are held against.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use darwin_shared::ids::Digest;

use super::blobs::{Announced, BlobError, BlobSink, Blobs, OpenBlob};

type Kept = Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>;

/// Blobs that are forgotten when the last handle is dropped.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs {
    kept: Kept,
}

struct MemorySink {
    kept: Kept,
    announced: Announced,
    bytes: Vec<u8>,
}

fn lock(kept: &Kept) -> MutexGuard<'_, BTreeMap<Digest, Vec<u8>>> {
    // The map is whole after any panic: every change to it is one call.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Blobs for MemoryBlobs {
    fn has(&self, digest: &Digest) -> bool {
        lock(&self.kept).contains_key(digest)
    }

    fn open(&self, digest: &Digest) -> Result<OpenBlob, BlobError> {
        let bytes = lock(&self.kept).get(digest).cloned().ok_or(BlobError::Missing(*digest))?;
        Ok(OpenBlob { size_bytes: bytes.len() as u64, bytes: Box::new(Cursor::new(bytes)) })
    }

    fn begin(&self, digest: Digest, size_bytes: u64) -> Result<Box<dyn BlobSink>, BlobError> {
        let announced = Announced::new(digest, size_bytes);
        Ok(Box::new(MemorySink { kept: self.kept.clone(), announced, bytes: Vec::new() }))
    }
}

impl BlobSink for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.announced.note(bytes)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), BlobError> {
        self.announced.check()?;
        lock(&self.kept).insert(self.announced.digest, self.bytes);
        Ok(())
    }
}
