//! How jobs end, and by what they are judged.

use darwin_gate::{Decision, Policy, Verdict};
use darwin_shared::state::{Failure, FailureCause, MeasuredSeries, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::round::{series, unit};
use super::text::{MAX_LOG_TAIL_BYTES, bounded, short, to_log_tail, to_short, to_words, words};
use super::{ConvertError, arm, duration, duration_to_wire, required, stage};
use crate::{MAX_MESSAGE_BYTES, v1};

/// The schema of a policy's JSON.
pub const POLICY_SCHEMA: &str = "darwin-policy/1";
/// The schema of a verdict's JSON.
pub const VERDICT_SCHEMA: &str = "darwin-verdict/1";

/// The largest policy, in bytes of JSON: a rule for each of hundreds of metrics.
const MAX_POLICY_BYTES: usize = 64 << 10;
/// The most series of a measured outcome: more do not fit a message.
const MAX_MEASURED: usize = 40_000;

/// Reads JSON of the one schema that this version knows.
fn read_json<T: DeserializeOwned>(
    json: &str,
    schema: &str,
    known: &str,
    most_bytes: usize,
) -> Result<T, ConvertError> {
    if schema != known {
        let found: String = schema.chars().filter(|c| !c.is_control()).take(40).collect();
        let why = format!("is `{found}`; this version knows `{known}`; is the peer of another version?");
        return Err(ConvertError::new("schema", why));
    }
    if json.len() > most_bytes {
        let why = format!("has {} bytes; at most {most_bytes} are taken", json.len());
        return Err(ConvertError::new("json", why));
    }
    serde_json::from_str(json).map_err(|why| ConvertError::because("json", why))
}

fn write_json<T: Serialize>(value: &T) -> String {
    // It fails for maps with keys that are no text and for a `Serialize` that refuses; the gate's types have neither.
    #[expect(clippy::expect_used, reason = "the line above says why it cannot fail")]
    serde_json::to_string(value).expect("the gate's types can be written as JSON")
}

impl TryFrom<v1::Policy> for Policy {
    type Error = ConvertError;

    fn try_from(message: v1::Policy) -> Result<Self, ConvertError> {
        let policy: Self = read_json(&message.json, &message.schema, POLICY_SCHEMA, MAX_POLICY_BYTES)?;
        policy.validate().map_err(|why| ConvertError::because("json", why))?;
        Ok(policy)
    }
}

impl From<&Policy> for v1::Policy {
    fn from(policy: &Policy) -> Self {
        Self { json: write_json(policy), schema: POLICY_SCHEMA.to_owned() }
    }
}

impl TryFrom<v1::Verdict> for Verdict {
    type Error = ConvertError;

    fn try_from(message: v1::Verdict) -> Result<Self, ConvertError> {
        let verdict: Self = read_json(&message.json, &message.schema, VERDICT_SCHEMA, MAX_MESSAGE_BYTES)?;
        let said = decision("decision", message.decision)?;
        if said != verdict.decision {
            let why = format!("is {said}, but the verdict itself says {}", verdict.decision);
            return Err(ConvertError::new("decision", why));
        }
        Ok(verdict)
    }
}

impl From<&Verdict> for v1::Verdict {
    fn from(verdict: &Verdict) -> Self {
        Self {
            json: write_json(verdict),
            schema: VERDICT_SCHEMA.to_owned(),
            decision: v1::Decision::from(verdict.decision).into(),
        }
    }
}

fn decision(field: &str, value: i32) -> Result<Decision, ConvertError> {
    match v1::Decision::try_from(value) {
        Ok(v1::Decision::Approve) => Ok(Decision::Approve),
        Ok(v1::Decision::Reject) => Ok(Decision::Reject),
        Ok(v1::Decision::Inconclusive) => Ok(Decision::Inconclusive),
        Ok(v1::Decision::Unspecified) => Err(ConvertError::unspecified(field)),
        Err(_) => Err(ConvertError::unknown_value(field, value)),
    }
}

impl From<Decision> for v1::Decision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Approve => Self::Approve,
            Decision::Reject => Self::Reject,
            Decision::Inconclusive => Self::Inconclusive,
        }
    }
}

impl TryFrom<v1::Outcome> for Outcome {
    type Error = ConvertError;

    fn try_from(outcome: v1::Outcome) -> Result<Self, ConvertError> {
        use v1::outcome::Kind;
        Ok(match required("kind", outcome.kind)? {
            Kind::Judged(verdict) => {
                let verdict = Verdict::try_from(verdict).map_err(|error| error.within("judged"))?;
                Self::Judged(Box::new(verdict))
            }
            Kind::Measured(measured) => {
                Self::Measured(measured_series(measured).map_err(|error| error.within("measured"))?)
            }
            Kind::Failed(failure) => {
                Self::Failed(failure.try_into().map_err(|error: ConvertError| error.within("failed"))?)
            }
            Kind::Cancelled(v1::Cancelled { by }) => Self::Cancelled { by: short("cancelled.by", by)? },
            Kind::Expired(v1::Expired {}) => Self::Expired,
            Kind::Parked(v1::Parked { why }) => Self::Parked { why: words("parked.why", why)? },
        })
    }
}

impl From<Outcome> for v1::Outcome {
    fn from(outcome: Outcome) -> Self {
        use v1::outcome::Kind;
        let kind = match outcome {
            Outcome::Judged(verdict) => Kind::Judged(verdict.as_ref().into()),
            Outcome::Measured(series) => {
                Kind::Measured(v1::Measured { series: series.into_iter().map(Into::into).collect() })
            }
            Outcome::Failed(failure) => Kind::Failed(failure.into()),
            Outcome::Cancelled { by } => Kind::Cancelled(v1::Cancelled { by: to_short(&by) }),
            Outcome::Expired => Kind::Expired(v1::Expired {}),
            Outcome::Parked { why } => Kind::Parked(v1::Parked { why: to_words(why) }),
        };
        Self { kind: Some(kind) }
    }
}

fn measured_series(measured: v1::Measured) -> Result<Vec<MeasuredSeries>, ConvertError> {
    if measured.series.len() > MAX_MEASURED {
        let why = format!("has {} entries; at most {MAX_MEASURED} are taken", measured.series.len());
        return Err(ConvertError::new("series", why));
    }
    let read = |(index, series): (usize, v1::MeasuredSeries)| {
        MeasuredSeries::try_from(series).map_err(|error| error.within(format!("series[{index}]")))
    };
    measured.series.into_iter().enumerate().map(read).collect()
}

impl TryFrom<v1::MeasuredSeries> for MeasuredSeries {
    type Error = ConvertError;

    fn try_from(message: v1::MeasuredSeries) -> Result<Self, ConvertError> {
        let v1::MeasuredSeries { bench, metric, unit: word, center, least, most, invocations, samples } =
            message;
        for (field, value) in [("least", least), ("center", center), ("most", most)] {
            if !value.is_finite() {
                return Err(ConvertError::new(field, format!("is {value}; it must be finite")));
            }
        }
        if !(least <= center && center <= most) {
            let why = format!("is {center}, which is not from the least of {least} to the most of {most}");
            return Err(ConvertError::new("center", why));
        }
        let unit = unit("unit", &word)?;
        Ok(Self { series: series(bench, &metric)?, unit, center, least, most, invocations, samples })
    }
}

impl From<MeasuredSeries> for v1::MeasuredSeries {
    fn from(measured: MeasuredSeries) -> Self {
        let MeasuredSeries { series, unit, center, least, most, invocations, samples } = measured;
        Self {
            bench: series.bench,
            metric: series.metric.to_string(),
            unit: unit.word().to_owned(),
            center,
            least,
            most,
            invocations,
            samples,
        }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = ConvertError;

    fn try_from(failure: v1::Failure) -> Result<Self, ConvertError> {
        let v1::Failure { stage: step, arm: side, variant, log_tail, cause } = failure;
        Ok(Self {
            stage: stage("stage", step)?,
            arm: arm("arm", side)?,
            variant: short("variant", variant)?,
            cause: required("cause", cause)?.try_into()?,
            log_tail: bounded("log_tail", log_tail, MAX_LOG_TAIL_BYTES)?,
        })
    }
}

impl From<Failure> for v1::Failure {
    fn from(failure: Failure) -> Self {
        let Failure { stage, arm, variant, cause, log_tail } = failure;
        Self {
            stage: v1::Stage::from(stage).into(),
            arm: v1::Arm::from(arm).into(),
            variant: to_short(&variant),
            log_tail: to_log_tail(log_tail),
            cause: Some(cause.into()),
        }
    }
}

impl TryFrom<v1::failure::Cause> for FailureCause {
    type Error = ConvertError;

    fn try_from(cause: v1::failure::Cause) -> Result<Self, ConvertError> {
        use v1::failure::Cause;
        Ok(match cause {
            Cause::ExitCode(code) => Self::ExitCode(code),
            Cause::Signal(signal) => Self::Signal(signal),
            Cause::TimedOut(limit) => Self::TimedOut(duration("timed_out", Some(limit))?),
            Cause::OutputLimitBytes(limit_bytes) => Self::OutputTooLarge { limit_bytes },
            Cause::NotStarted(why) => Self::NotStarted(words("not_started", why)?),
            Cause::Unreadable(why) => Self::Unreadable(words("unreadable", why)?),
            Cause::BadArtifact(why) => Self::BadArtifact(words("bad_artifact", why)?),
            Cause::NotSliced(why) => Self::NotSliced(words("not_sliced", why)?),
        })
    }
}

impl From<FailureCause> for v1::failure::Cause {
    fn from(cause: FailureCause) -> Self {
        match cause {
            FailureCause::ExitCode(code) => Self::ExitCode(code),
            FailureCause::Signal(signal) => Self::Signal(signal),
            FailureCause::TimedOut(limit) => Self::TimedOut(duration_to_wire(limit)),
            FailureCause::OutputTooLarge { limit_bytes } => Self::OutputLimitBytes(limit_bytes),
            FailureCause::NotStarted(why) => Self::NotStarted(to_words(why)),
            FailureCause::Unreadable(why) => Self::Unreadable(to_words(why)),
            FailureCause::BadArtifact(why) => Self::BadArtifact(to_words(why)),
            FailureCause::NotSliced(why) => Self::NotSliced(to_words(why)),
        }
    }
}
