//! The frames, and the pipes that carry them. Integers are little-endian.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

/// Bytes of the longest name of a bench.
pub const MAX_NAME_BYTES: usize = 512;

/// `skip` of a slice whose calls are all left out.
const PILOT: u32 = u32::MAX;
/// `slice_ns` that asks for the bench as it is without slices.
const NO_SLICING: u64 = u64::MAX;

/// Why a slice cannot be had. A bench must end with it, and with an exit code other than 0.
#[derive(Debug)]
pub enum SliceError {
    /// The agent has closed its end.
    AgentGone,
    /// The agent sent what is no frame.
    NoFrame {
        /// The byte where a frame should begin.
        byte: u8,
    },
    /// The name of a bench is empty or too long.
    BadName {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The pipes fail.
    Pipe(io::Error),
}

impl fmt::Display for SliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentGone => write!(f, "the agent that conducts the slices is gone"),
            Self::NoFrame { byte } => {
                write!(f, "the agent sent the byte {byte:#04x} where `G` or `E` should begin a frame")
            }
            Self::BadName { bytes } => {
                write!(f, "a bench's name has 1 to {MAX_NAME_BYTES} bytes, not {bytes}")
            }
            Self::Pipe(_) => write!(f, "the pipes to the agent fail"),
        }
    }
}

impl std::error::Error for SliceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Pipe(error) => Some(error),
            Self::AgentGone | Self::NoFrame { .. } | Self::BadName { .. } => None,
        }
    }
}

impl From<io::Error> for SliceError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Self::AgentGone,
            _ => Self::Pipe(error),
        }
    }
}

/// What the agent asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// A slice of so many nanoseconds, its first `skip` calls left out.
    Slice { slice_ns: u64, skip: u32 },
    /// A slice of so many nanoseconds, all of it left out.
    Pilot { slice_ns: u64 },
    /// The bench as it is without slices.
    NoSlicing,
    /// This bench is over.
    End,
}

/// What a slice came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) kept: u32,
    pub(crate) left_out: u32,
    pub(crate) busy_ns: u64,
}

/// The two pipes.
#[derive(Debug)]
pub(crate) struct Wire {
    go: File,
    done: File,
}

impl Wire {
    pub(crate) fn new((go, done): (File, File)) -> Self {
        Self { go, done }
    }

    pub(crate) fn ready(&mut self, name: &str) -> Result<(), SliceError> {
        let bytes = name.len();
        let length = u16::try_from(bytes).ok().filter(|_| (1..=MAX_NAME_BYTES).contains(&bytes));
        let length = length.ok_or(SliceError::BadName { bytes })?;
        let mut frame = vec![b'R'];
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(name.as_bytes());
        // A frame is smaller than a pipe's atomic writes, so it goes out whole.
        Ok(self.done.write_all(&frame)?)
    }

    pub(crate) fn done(&mut self, done: Done) -> Result<(), SliceError> {
        let mut frame = [0; 17];
        frame[0] = b'D';
        frame[1..5].copy_from_slice(&done.kept.to_le_bytes());
        frame[5..9].copy_from_slice(&done.left_out.to_le_bytes());
        frame[9..].copy_from_slice(&done.busy_ns.to_le_bytes());
        Ok(self.done.write_all(&frame)?)
    }

    /// Blocks until the agent speaks.
    pub(crate) fn order(&mut self) -> Result<Order, SliceError> {
        let mut kind = [0];
        self.go.read_exact(&mut kind)?;
        match kind[0] {
            b'E' => Ok(Order::End),
            b'G' => {
                let (mut slice_ns, mut skip) = ([0; 8], [0; 4]);
                self.go.read_exact(&mut slice_ns)?;
                self.go.read_exact(&mut skip)?;
                Ok(match (u64::from_le_bytes(slice_ns), u32::from_le_bytes(skip)) {
                    (NO_SLICING, _) => Order::NoSlicing,
                    (slice_ns, PILOT) => Order::Pilot { slice_ns },
                    (slice_ns, skip) => Order::Slice { slice_ns, skip },
                })
            }
            byte => Err(SliceError::NoFrame { byte }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::pipe;
    use std::os::fd::OwnedFd;

    use super::*;

    /// A wire whose other ends a test holds: `(wire, go, done)`.
    fn wire() -> (Wire, File, File) {
        let ((go_read, go_write), (done_read, done_write)) = (pipe().unwrap(), pipe().unwrap());
        let file = |fd: OwnedFd| File::from(fd);
        let wire = Wire::new((file(go_read.into()), file(done_write.into())));
        (wire, file(go_write.into()), file(done_read.into()))
    }

    #[test]
    fn frames_are_written_as_the_protocol_says() {
        let (mut wire, _go, mut done) = wire();
        wire.ready("añadir").unwrap();
        wire.done(Done { kept: 1, left_out: 0x0203, busy_ns: 0x0405_0607 }).unwrap();
        drop(wire);
        let mut bytes = Vec::new();
        done.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes[..10], [b'R', 7, 0, b'a', 0xc3, 0xb1, b'a', b'd', b'i', b'r']);
        assert_eq!(bytes[10..], [b'D', 1, 0, 0, 0, 3, 2, 0, 0, 7, 6, 5, 4, 0, 0, 0, 0]);
    }

    #[test]
    fn orders_are_read_whole_or_not_at_all() {
        let (mut wire, mut go, _done) = wire();
        let mut bytes = vec![b'G', 1, 2, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, b'G', 9, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([0xff; 4]);
        bytes.push(b'G');
        bytes.extend([0xff; 12]);
        bytes.extend(*b"EG\x01");
        go.write_all(&bytes).unwrap();
        drop(go);
        assert_eq!(wire.order().unwrap(), Order::Slice { slice_ns: 0x0201, skip: 5 });
        assert_eq!(wire.order().unwrap(), Order::Pilot { slice_ns: 9 });
        assert_eq!(wire.order().unwrap(), Order::NoSlicing);
        assert_eq!(wire.order().unwrap(), Order::End);
        assert!(matches!(wire.order(), Err(SliceError::AgentGone)), "half a frame, then nobody");
    }

    #[test]
    fn garbage_bad_names_and_a_closed_pipe_are_told() {
        let (mut wire, mut go, done) = wire();
        go.write_all(b"?").unwrap();
        assert!(matches!(wire.order(), Err(SliceError::NoFrame { byte: b'?' })));
        assert!(matches!(wire.ready(""), Err(SliceError::BadName { bytes: 0 })));
        for bytes in [MAX_NAME_BYTES + 1, 1 << 17] {
            assert!(matches!(wire.ready(&"x".repeat(bytes)), Err(SliceError::BadName { .. })));
        }
        drop(done);
        assert!(matches!(wire.done(Done::default()), Err(SliceError::AgentGone)));
    }
}
