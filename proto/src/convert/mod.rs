//! Conversions between the wire and the domain.
//!
//! Into the domain by `TryFrom`, which refuses by field what no peer may send: what is absent, an enum value that
//! this version does not know, a negative duration, a text without end. Out of it by `From`, which cuts free text
//! to the bounds that the other side holds it to, so that what one side sends the other always takes.
//!
//! The small functions here ([`attempt_id`], [`epoch`], [`digest`], …) read single fields of messages that have no
//! type in the domain. Nothing here knows a service or a connection.

mod attempt;
mod error;
mod fleet;
mod outcome;
mod probe;
mod round;
mod spec;
mod text;
mod usage;
mod void;

use std::time::Duration;

use darwin_shared::ids::{AgentId, AttemptId, Digest, Epoch, JobId};
use darwin_shared::spec::Arm;
use darwin_shared::state::Stage;

pub use error::ConvertError;
pub use outcome::{POLICY_SCHEMA, VERDICT_SCHEMA};
pub use probe::read_probe;
pub use text::{MAX_LOG_TAIL_BYTES, MAX_PATH_BYTES, MAX_SHORT_CHARS, MAX_WORDS_BYTES};
pub use void::voids_to_wire;

use crate::v1;

/// The message or value of a field that must be there.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is absent; it must be set"))
}

/// A job's id.
pub fn job_id(field: &str, text: &str) -> Result<JobId, ConvertError> {
    text.parse().map_err(|why| ConvertError::because(field, why))
}

/// An attempt's id, as `job.number`.
pub fn attempt_id(field: &str, text: &str) -> Result<AttemptId, ConvertError> {
    text.parse().map_err(|why| ConvertError::because(field, why))
}

/// An agent's id.
pub fn agent_id(field: &str, text: String) -> Result<AgentId, ConvertError> {
    AgentId::new(text).map_err(|why| ConvertError::because(field, why))
}

/// A fence; it must be there.
pub fn epoch(field: &str, epoch: Option<v1::Epoch>) -> Result<Epoch, ConvertError> {
    required(field, epoch).map(Epoch::from)
}

impl From<v1::Epoch> for Epoch {
    fn from(epoch: v1::Epoch) -> Self {
        let v1::Epoch { generation, counter } = epoch;
        Self { generation, counter }
    }
}

impl From<Epoch> for v1::Epoch {
    fn from(epoch: Epoch) -> Self {
        let Epoch { generation, counter } = epoch;
        Self { generation, counter }
    }
}

/// A digest of 32 bytes.
pub fn digest(field: &str, bytes: &[u8]) -> Result<Digest, ConvertError> {
    let why = || ConvertError::new(field, format!("has {} bytes; a BLAKE3 digest has 32", bytes.len()));
    bytes.try_into().map(Digest::from_bytes).map_err(|_| why())
}

/// A digest's bytes for the wire.
pub fn digest_bytes(digest: &Digest) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(digest.as_bytes())
}

/// The longest duration that protobuf's own rules allow: about ten thousand years.
const MAX_SECONDS: u64 = 315_576_000_000;

/// A duration that must be there, and must not be negative.
pub fn duration(field: &str, value: Option<prost_types::Duration>) -> Result<Duration, ConvertError> {
    let value = required(field, value)?;
    let seconds = u64::try_from(value.seconds).ok().filter(|seconds| *seconds <= MAX_SECONDS);
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(ConvertError::new(
            field,
            format!(
                "is {} s and {} ns; a duration is not negative, below ten thousand years, and has at most \
                 999,999,999 ns beside its seconds",
                value.seconds, value.nanos
            ),
        )),
    }
}

/// A duration for the wire; one beyond protobuf's range is held at its end.
pub fn duration_to_wire(value: Duration) -> prost_types::Duration {
    let seconds = value.as_secs().min(MAX_SECONDS);
    prost_types::Duration {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        // Below 1,000,000,000, so it always fits.
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    }
}

/// Which side; it must be said.
pub fn arm(field: &str, value: i32) -> Result<Arm, ConvertError> {
    match v1::Arm::try_from(value) {
        Ok(v1::Arm::Baseline) => Ok(Arm::Baseline),
        Ok(v1::Arm::Challenger) => Ok(Arm::Challenger),
        Ok(v1::Arm::Unspecified) => Err(ConvertError::unspecified(field)),
        Err(_) => Err(ConvertError::unknown_value(field, value)),
    }
}

impl From<Arm> for v1::Arm {
    fn from(arm: Arm) -> Self {
        match arm {
            Arm::Baseline => Self::Baseline,
            Arm::Challenger => Self::Challenger,
        }
    }
}

/// A step of an attempt; it must be said.
pub fn stage(field: &str, value: i32) -> Result<Stage, ConvertError> {
    match v1::Stage::try_from(value) {
        Ok(v1::Stage::Fetch) => Ok(Stage::Fetch),
        Ok(v1::Stage::Setup) => Ok(Stage::Setup),
        Ok(v1::Stage::Check) => Ok(Stage::Check),
        Ok(v1::Stage::Run) => Ok(Stage::Run),
        Ok(v1::Stage::Read) => Ok(Stage::Read),
        Ok(v1::Stage::Unspecified) => Err(ConvertError::unspecified(field)),
        Err(_) => Err(ConvertError::unknown_value(field, value)),
    }
}

impl From<Stage> for v1::Stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Fetch => Self::Fetch,
            Stage::Setup => Self::Setup,
            Stage::Check => Self::Check,
            Stage::Run => Self::Run,
            Stage::Read => Self::Read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_out_of_range_are_refused_by_name() {
        let at = |seconds, nanos| duration("budget.time", Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(at(1, 5).unwrap(), Duration::new(1, 5));
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, i32::MIN)] {
            let refused = at(seconds, nanos).unwrap_err().to_string();
            assert!(refused.starts_with("`budget.time` is "), "{refused}");
        }
        assert_eq!(
            duration("budget.time", None).unwrap_err().to_string(),
            "`budget.time` is absent; it must be set"
        );
        let longest = duration_to_wire(Duration::MAX);
        assert!(duration("x", Some(longest)).is_ok());
    }

    #[test]
    fn a_digest_has_32_bytes() {
        assert_eq!(
            digest("tree", &[0; 31]).unwrap_err().to_string(),
            "`tree` has 31 bytes; a BLAKE3 digest has 32"
        );
        let some = Digest::of(b"x");
        assert_eq!(digest("tree", &digest_bytes(&some)).unwrap(), some);
    }

    #[test]
    fn values_from_the_future_are_refused_by_name() {
        assert_eq!(stage("log.stage", 0).unwrap_err().to_string(), "`log.stage` is not said; it must be set");
        let unknown = arm("log.arm", 77).unwrap_err().to_string();
        assert!(unknown.starts_with("`log.arm` is 77, which this version does not know"), "{unknown}");
    }
}
