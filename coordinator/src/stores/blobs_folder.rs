//! Blobs in a folder: each in a file of its own, written aside and renamed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use darwin_shared::ids::Digest;
use tempfile::NamedTempFile;

use super::blobs::{Announced, BlobError, BlobSink, Blobs, OpenBlob};

/// A folder of blobs.
#[derive(Debug, Clone)]
pub struct FolderBlobs {
    folder: PathBuf,
}

struct FolderSink {
    blobs: FolderBlobs,
    announced: Announced,
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

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (front, rest) = name.split_at(2);
        self.folder.join(front).join(rest)
    }
}

impl Blobs for FolderBlobs {
    fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    fn open(&self, digest: &Digest) -> Result<OpenBlob, BlobError> {
        let file = File::open(self.path(digest)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => BlobError::Missing(*digest),
            _ => self.disk(e),
        })?;
        let size_bytes = file.metadata().map_err(|e| self.disk(e))?.len();
        Ok(OpenBlob { size_bytes, bytes: Box::new(file) })
    }

    fn begin(&self, digest: Digest, size_bytes: u64) -> Result<Box<dyn BlobSink>, BlobError> {
        let file = NamedTempFile::new_in(self.folder.join("incoming")).map_err(|e| self.disk(e))?;
        Ok(Box::new(FolderSink { blobs: self.clone(), announced: Announced::new(digest, size_bytes), file }))
    }
}

impl BlobSink for FolderSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.announced.note(bytes)?;
        self.file.write_all(bytes).map_err(|e| self.blobs.disk(e))
    }

    fn finish(self: Box<Self>) -> Result<(), BlobError> {
        let Self { blobs, announced, file } = *self;
        announced.check()?;
        let path = blobs.path(&announced.digest);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| blobs.disk(e))?;
        }
        // A job is accepted only once its artifacts are here: they must survive a power cut as the job does.
        file.as_file().sync_data().map_err(|e| blobs.disk(e))?;
        file.persist(&path).map_err(|e| blobs.disk(e.error))?;
        Ok(())
    }
}
