//! Where a bench's stdout or stderr goes: a file in memory that no slow reader can block.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A capped file in memory. The bench appends; the agent reads whenever it likes, also while the bench runs.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
}

impl OutputFile {
    /// A new one; the name shows in `/proc/PID/fd` only.
    pub fn create(name: &str) -> io::Result<Self> {
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC)?;
        // Several writers of one tree must not overwrite each other.
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
        Ok(Self { file: fd.into() })
    }

    /// Bytes written so far.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Up to `max_bytes` from `offset` on; empty at the end.
    pub fn read_from(&self, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        let there = usize::try_from(self.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; there.min(max_bytes)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// The last `max_bytes`.
    pub fn read_tail(&self, max_bytes: usize) -> io::Result<Vec<u8>> {
        self.read_from(self.len()?.saturating_sub(max_bytes as u64), max_bytes)
    }
}

impl AsFd for OutputFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn appends_and_reads_from_anywhere() {
        let output = OutputFile::create("stdout").unwrap();
        assert!(output.is_empty().unwrap());
        let mut writer = output.file.try_clone().unwrap();
        writer.write_all(b"one two").unwrap();
        writer.write_all(b" three").unwrap();
        assert_eq!(output.len().unwrap(), 13);
        assert_eq!(output.read_from(4, 3).unwrap(), b"two");
        assert_eq!(output.read_from(8, 100).unwrap(), b"three");
        assert_eq!(output.read_from(99, 100).unwrap(), b"");
        assert_eq!(output.read_tail(5).unwrap(), b"three");
        assert_eq!(output.read_tail(100).unwrap(), b"one two three");
    }
}
