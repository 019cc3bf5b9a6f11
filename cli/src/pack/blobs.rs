//! Contents by digest: in memory while small, in a nameless temporary file when not, or on disk where they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use darwin_shared::ids::Digest;

/// A file up to this size stays in memory: source trees are made of such files.
const KEEP_IN_MEMORY_BYTES: u64 = 64 << 10;
/// Together they may take this much; what comes after goes to a temporary file.
const MEMORY_BUDGET_BYTES: u64 = 64 << 20;
/// How much is read at once while hashing.
const READ_BYTES: usize = 128 << 10;

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub(crate) enum BlobSource {
    /// Here.
    Memory(Bytes),
    /// In a temporary file that goes away with the last of its blobs.
    Spooled {
        /// The temporary file.
        spool: Arc<Mutex<File>>,
        /// Where in it, in bytes from its start.
        offset: u64,
        /// How long, in bytes.
        size_bytes: u64,
    },
    /// In a file of the user's. If it changes before it is sent, the coordinator refuses it by its digest.
    Disk {
        /// The file.
        path: PathBuf,
        /// Its size when it was hashed, in bytes.
        size_bytes: u64,
    },
}

impl BlobSource {
    /// How long the blob is, in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Spooled { size_bytes, .. } | Self::Disk { size_bytes, .. } => *size_bytes,
        }
    }

    /// At most `limit` bytes from `offset` on; empty only at the end.
    pub(crate) fn read_at(&self, offset: u64, limit: usize) -> io::Result<Bytes> {
        let left = self.size_bytes().saturating_sub(offset);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(limit);
        match self {
            Self::Memory(bytes) => {
                let start = bytes.len() - usize::try_from(left).unwrap_or(bytes.len());
                Ok(bytes.slice(start..start + want))
            }
            Self::Spooled { spool, offset: start, .. } => {
                read_exactly(&mut spool.lock().unwrap_or_else(PoisonError::into_inner), start + offset, want)
            }
            Self::Disk { path, .. } => read_exactly(&mut File::open(path)?, offset, want),
        }
    }
}

fn read_exactly(file: &mut File, offset: u64, want: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; want];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

/// The contents of an artifact, each once.
#[derive(Debug, Default)]
pub(crate) struct Blobs {
    by_digest: BTreeMap<Digest, BlobSource>,
    in_memory_bytes: u64,
    spool: Option<(Arc<Mutex<File>>, u64)>,
}

impl Blobs {
    /// Takes a blob whose digest is known.
    pub(crate) fn add(&mut self, digest: Digest, source: BlobSource) {
        self.by_digest.entry(digest).or_insert(source);
    }

    /// Reads a stream of `size_bytes` to its end, keeps its bytes and gives its digest.
    pub(crate) fn take_stream(&mut self, stream: &mut impl Read, size_bytes: u64) -> io::Result<Digest> {
        if size_bytes <= KEEP_IN_MEMORY_BYTES && self.in_memory_bytes + size_bytes <= MEMORY_BUDGET_BYTES {
            let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0));
            stream.take(size_bytes).read_to_end(&mut bytes)?;
            let digest = Digest::of(&bytes);
            if !self.by_digest.contains_key(&digest) {
                self.in_memory_bytes += size_bytes;
                self.add(digest, BlobSource::Memory(bytes.into()));
            }
            return Ok(digest);
        }
        self.spool_stream(stream)
    }

    fn spool_stream(&mut self, stream: &mut impl Read) -> io::Result<Digest> {
        let (spool, offset) = match self.spool.take() {
            Some(found) => found,
            None => (Arc::new(Mutex::new(tempfile::tempfile()?)), 0),
        };
        let (digest, size_bytes) = {
            let mut file = spool.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(offset))?;
            copy_hashed(stream, &mut *file)?
        };
        let known = self.by_digest.contains_key(&digest);
        self.spool = Some((Arc::clone(&spool), if known { offset } else { offset + size_bytes }));
        self.add(digest, BlobSource::Spooled { spool, offset, size_bytes });
        Ok(digest)
    }

    /// Hashes a file where it is and remembers where that was.
    pub(crate) fn take_file(&mut self, path: PathBuf) -> io::Result<(Digest, u64)> {
        let (digest, size_bytes) = copy_hashed(&mut File::open(&path)?, &mut io::sink())?;
        self.add(digest, BlobSource::Disk { path, size_bytes });
        Ok((digest, size_bytes))
    }

    /// Both sides' blobs together, each once.
    pub(crate) fn merge(&mut self, other: Self) {
        for (digest, source) in other.by_digest {
            self.add(digest, source);
        }
    }

    /// All digests, in order.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.by_digest.keys()
    }

    /// The blob of this digest.
    pub(crate) fn get(&self, digest: &Digest) -> Option<&BlobSource> {
        self.by_digest.get(digest)
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }
}

fn copy_hashed(from: &mut impl Read, to: &mut impl Write) -> io::Result<(Digest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut size_bytes = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_bytes(*hasher.finalize().as_bytes()), size_bytes)),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size_bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(source: &BlobSource, limit: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while (all.len() as u64) < source.size_bytes() {
            all.extend(source.read_at(all.len() as u64, limit).unwrap());
        }
        all
    }

    #[test]
    fn every_kind_of_blob_reads_back() {
        let mut blobs = Blobs::default();
        let small = b"a small one".to_vec();
        let large: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let other = vec![7; 100_000];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("on-disk");
        std::fs::write(&path, b"stays here").unwrap();

        let digests = [
            blobs.take_stream(&mut small.as_slice(), small.len() as u64).unwrap(),
            blobs.take_stream(&mut large.as_slice(), large.len() as u64).unwrap(),
            blobs.take_stream(&mut large.as_slice(), large.len() as u64).unwrap(),
            blobs.take_stream(&mut other.as_slice(), other.len() as u64).unwrap(),
            blobs.take_file(path).unwrap().0,
        ];
        let contents: [&[u8]; 5] = [&small, &large, &large, &other, b"stays here"];
        for (digest, content) in digests.iter().zip(contents) {
            assert_eq!(*digest, Digest::of(content));
            assert_eq!(read_all(blobs.get(digest).unwrap(), 1000), content);
        }
        assert_eq!(blobs.digests().count(), 4);
    }
}
