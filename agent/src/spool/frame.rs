//! A record of the journal: length, checksum, kind, and a message of the wire as its payload.
//!
//! ```text
//! length of the payload: u32 | first 8 bytes of BLAKE3(kind, payload) | kind: u8 | payload      (little endian)
//! ```

use darwin_proto::v1;
use darwin_shared::ids::{AttemptId, Epoch};
use prost::Message;

use super::{Entry, Span};

/// The bytes before a payload.
pub(super) const HEAD_BYTES: usize = 4 + 8 + 1;
/// The largest payload: a message of the wire.
const MAX_PAYLOAD_BYTES: usize = darwin_proto::MAX_MESSAGE_BYTES;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An attempt was taken: an `AttemptUpdate`.
    Intent,
    /// A round was measured: a `RoundResult`.
    Round,
    /// An attempt ended: an `AttemptUpdate`.
    End,
    /// An attempt is forgotten: a `Release`.
    Forget,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Intent => 1,
            Self::Round => 2,
            Self::End => 3,
            Self::Forget => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Intent, Self::Round, Self::End, Self::Forget].into_iter().find(|kind| kind.code() == code)
    }
}

/// Appends a record; says where its payload lies in `bytes`.
pub(super) fn write(bytes: &mut Vec<u8>, kind: Kind, message: &impl Message) -> Span {
    write_raw(bytes, kind, &message.encode_to_vec())
}

/// Appends a record whose payload is encoded already.
pub(super) fn write_raw(bytes: &mut Vec<u8>, kind: Kind, payload: &[u8]) -> Span {
    // What can be sent fits: the wire's own limit is far below 4 GiB.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(kind.code(), payload));
    bytes.push(kind.code());
    let at = bytes.len() as u64;
    bytes.extend_from_slice(payload);
    Span { at, length }
}

/// The record that `bytes` begin with; none if it is not whole or not one.
pub(super) fn read(bytes: &[u8]) -> Option<(Kind, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let length = u32::from_le_bytes(head.get(..4)?.try_into().ok()?) as usize;
    if length > MAX_PAYLOAD_BYTES {
        return None;
    }
    let payload = rest.get(..length)?;
    let code = *head.last()?;
    (head.get(4..12)? == checksum(code, payload)).then_some(())?;
    Some((Kind::from_code(code)?, payload))
}

fn checksum(code: u8, payload: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[code]).update(payload);
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// An attempt's news as a message of the wire.
pub(super) fn update(
    attempt: AttemptId,
    epoch: Epoch,
    event: v1::attempt_update::Event,
) -> v1::AttemptUpdate {
    v1::AttemptUpdate { attempt_id: attempt.to_string(), epoch: Some(epoch.into()), event: Some(event) }
}

/// About what an attempt's records take in the journal, in bytes.
pub(super) fn size_of_entry(entry: &Entry) -> u64 {
    /// An intent, an end without a log, and a forget with their heads.
    const SMALL_RECORDS_BYTES: u64 = 200;
    let rounds: u64 = entry.rounds.iter().map(|span| u64::from(span.length) + HEAD_BYTES as u64).sum();
    rounds + SMALL_RECORDS_BYTES
}
