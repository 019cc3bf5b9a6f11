//! The frames of the slice protocol, version 1. Integers are little-endian; frames follow one another without padding.

use thiserror::Error;

/// The longest name of a bench, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

const READY: u8 = b'R';
const DONE: u8 = b'D';
const GO: u8 = b'G';
const OVER: u8 = b'E';
/// `D` and its three numbers.
const DONE_BYTES: usize = 17;
/// `R` and the length of the name.
const READY_HEAD_BYTES: usize = 3;

/// What a bench says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BenchFrame {
    /// The bench of this name is set up and blocks.
    Ready {
        /// Its name: 1 to 512 bytes.
        name: String,
    },
    /// A slice is done; it blocks again.
    Done {
        /// Calls kept as samples.
        kept: u32,
        /// Calls made and left out, by their position.
        left_out: u32,
        /// From the start of the first call to the end of the last, in nanoseconds.
        busy_ns: u64,
    },
}

/// What a bench is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToBench {
    /// Run a slice.
    Go {
        /// How long, in nanoseconds, from the start of the first call.
        slice_ns: u64,
        /// Calls to leave out after the switch.
        skip: u32,
    },
    /// Run a slice of which every call is left out.
    Pilot {
        /// How long, in nanoseconds.
        slice_ns: u64,
    },
    /// Run this bench to its normal end, without slices.
    Unsliced,
    /// This bench is over.
    Over,
}

/// Why what a bench wrote is no frame.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A byte that begins none.
    #[error("wrote byte {0:#04x} where a frame begins with `R` or `D`")]
    Kind(u8),
    /// A name that is none.
    #[error("named its bench in {0} bytes; a name has 1 to {MAX_NAME_BYTES}")]
    NameLength(usize),
    /// A name that is not UTF-8.
    #[error("named its bench in bytes that are not UTF-8")]
    NameText,
}

/// The bytes of a frame.
pub fn encode(frame: ToBench) -> Vec<u8> {
    let go = |slice_ns: u64, skip: u32| {
        let mut bytes = vec![GO];
        bytes.extend_from_slice(&slice_ns.to_le_bytes());
        bytes.extend_from_slice(&skip.to_le_bytes());
        bytes
    };
    match frame {
        ToBench::Go { slice_ns, skip } => go(slice_ns, skip),
        ToBench::Pilot { slice_ns } => go(slice_ns, u32::MAX),
        ToBench::Unsliced => go(u64::MAX, 0),
        ToBench::Over => vec![OVER],
    }
}

/// Puts frames together from bytes as they come. It never holds more than one frame and what came with it.
#[derive(Debug, Clone, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
}

impl FrameReader {
    /// Takes bytes in.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether a frame has begun and not ended.
    pub fn is_amid(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<BenchFrame>, FrameError> {
        match self.bytes.first() {
            None => Ok(None),
            Some(&READY) => self.ready(),
            Some(&DONE) => Ok(self.done()),
            Some(&other) => Err(FrameError::Kind(other)),
        }
    }

    fn ready(&mut self) -> Result<Option<BenchFrame>, FrameError> {
        let Some(&[_, low, high]) = self.bytes.first_chunk::<READY_HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        if !(1..=MAX_NAME_BYTES).contains(&length) {
            return Err(FrameError::NameLength(length));
        }
        let end = READY_HEAD_BYTES + length;
        let Some(name) = self.bytes.get(READY_HEAD_BYTES..end) else {
            return Ok(None);
        };
        let name = std::str::from_utf8(name).map_err(|_| FrameError::NameText)?.to_owned();
        self.bytes.drain(..end);
        Ok(Some(BenchFrame::Ready { name }))
    }

    fn done(&mut self) -> Option<BenchFrame> {
        let frame: [u8; DONE_BYTES] = *self.bytes.first_chunk()?;
        self.bytes.drain(..DONE_BYTES);
        let (numbers, busy_ns) = frame[1..].split_at(2 * size_of::<u32>());
        let (kept, left_out) = numbers.split_at(size_of::<u32>());
        Some(BenchFrame::Done {
            kept: u32::from_le_bytes(kept.try_into().ok()?),
            left_out: u32::from_le_bytes(left_out.try_into().ok()?),
            busy_ns: u64::from_le_bytes(busy_ns.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(frame: &BenchFrame) -> Vec<u8> {
        match frame {
            BenchFrame::Ready { name } => {
                let length = u16::try_from(name.len()).unwrap().to_le_bytes();
                [&[READY][..], &length, name.as_bytes()].concat()
            }
            BenchFrame::Done { kept, left_out, busy_ns } => {
                [&[DONE][..], &kept.to_le_bytes(), &left_out.to_le_bytes(), &busy_ns.to_le_bytes()].concat()
            }
        }
    }

    fn frame() -> impl Strategy<Value = BenchFrame> {
        prop_oneof![
            "[a-zé\\[\\]]{1,200}".prop_map(|name| BenchFrame::Ready { name }),
            any::<(u32, u32, u64)>().prop_map(|(kept, left_out, busy_ns)| BenchFrame::Done {
                kept,
                left_out,
                busy_ns
            }),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(frames in prop::collection::vec(frame(), 0..6), piece in 1usize..40) {
            let bytes: Vec<u8> = frames.iter().flat_map(bytes_of).collect();
            let (mut reader, mut read) = (FrameReader::default(), Vec::new());
            for piece in bytes.chunks(piece) {
                reader.feed(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
            prop_assert!(!reader.is_amid());
        }

        #[test]
        fn garbage_is_told_apart_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut reader = FrameReader::default();
            reader.feed(&bytes);
            // Each frame takes bytes away, so that this ends.
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }

    #[test]
    fn what_is_no_frame_is_told_in_words() {
        let told = |bytes: &[u8]| {
            let mut reader = FrameReader::default();
            reader.feed(bytes);
            reader.next_frame().unwrap_err().to_string()
        };
        assert_eq!(told(b"hello"), "wrote byte 0x68 where a frame begins with `R` or `D`");
        assert_eq!(told(&[READY, 0, 0]), "named its bench in 0 bytes; a name has 1 to 512");
        assert_eq!(told(&[READY, 1, 2]), "named its bench in 513 bytes; a name has 1 to 512");
        assert_eq!(told(&[READY, 1, 0, 0xff]), "named its bench in bytes that are not UTF-8");
    }

    #[test]
    fn what_is_said_has_the_bytes_of_the_protocol() {
        let go = encode(ToBench::Go { slice_ns: 5_000_000, skip: 3 });
        assert_eq!(go, [&b"G"[..], &[0x40, 0x4b, 0x4c, 0, 0, 0, 0, 0], &[3, 0, 0, 0]].concat());
        let pilot = encode(ToBench::Pilot { slice_ns: 1 });
        assert_eq!(pilot, [&b"G"[..], &[1, 0, 0, 0, 0, 0, 0, 0], &[0xff; 4]].concat());
        assert_eq!(encode(ToBench::Unsliced), [&b"G"[..], &[0xff; 8], &[0; 4]].concat());
        assert_eq!(encode(ToBench::Over), b"E");
    }
}
