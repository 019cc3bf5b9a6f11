//! What agents tell of attempts.

use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::IsolationLevel;
use darwin_shared::state::RefusalCause;

use super::text::{to_words, words};
use super::void::{voids, voids_to_wire};
use super::{ConvertError, attempt_id, epoch, required, stage};
use crate::v1;

impl TryFrom<v1::AttemptUpdate> for AttemptUpdate {
    type Error = ConvertError;

    fn try_from(message: v1::AttemptUpdate) -> Result<Self, ConvertError> {
        let v1::AttemptUpdate { attempt_id: id, epoch: fence, event } = message;
        Ok(Self {
            attempt: attempt_id("attempt_id", &id)?,
            epoch: epoch("epoch", fence)?,
            event: required("event", event)?.try_into()?,
        })
    }
}

impl From<AttemptUpdate> for v1::AttemptUpdate {
    fn from(update: AttemptUpdate) -> Self {
        let AttemptUpdate { attempt, epoch, event } = update;
        Self { attempt_id: attempt.to_string(), epoch: Some(epoch.into()), event: Some(event.into()) }
    }
}

impl TryFrom<v1::attempt_update::Event> for AttemptEvent {
    type Error = ConvertError;

    fn try_from(event: v1::attempt_update::Event) -> Result<Self, ConvertError> {
        use v1::attempt_update::Event;
        Ok(match event {
            Event::Accepted(v1::AttemptAccepted {}) => Self::Accepted,
            Event::Refused(refusal) => {
                Self::Refused(refusal.try_into().map_err(|e: ConvertError| e.within("refused"))?)
            }
            Event::Staging(value) => Self::Staging(stage("staging", value)?),
            Event::Ready(v1::AttemptReady {}) => Self::Ready,
            Event::Running(running) => running_event(running).map_err(|e| e.within("running"))?,
            Event::Ended(end) => Self::Ended(end.try_into().map_err(|e: ConvertError| e.within("ended"))?),
        })
    }
}

fn running_event(running: v1::AttemptRunning) -> Result<AttemptEvent, ConvertError> {
    let v1::AttemptRunning { cpus, isolation, voids: void, placement } = running;
    cpu_list("cpus", &cpus)?;
    isolation.parse::<IsolationLevel>().map_err(|why| ConvertError::because("isolation", why))?;
    let placement = words("placement", placement)?;
    Ok(AttemptEvent::Running { cpus, isolation, placement, voids: voids("voids", void)? })
}

/// The longest list of CPUs, in bytes: every second of 1,024 CPUs, written one by one, takes less.
const MAX_CPU_LIST_BYTES: usize = 4096;

/// A list of CPUs that can be read; may be empty.
pub(super) fn cpu_list(field: &str, text: &str) -> Result<(), ConvertError> {
    if text.len() > MAX_CPU_LIST_BYTES {
        let why = format!("has {} bytes; at most {MAX_CPU_LIST_BYTES} are taken", text.len());
        return Err(ConvertError::new(field, why));
    }
    text.parse::<CpuSet>().map(drop).map_err(|why| ConvertError::because(field, why))
}

impl From<AttemptEvent> for v1::attempt_update::Event {
    fn from(event: AttemptEvent) -> Self {
        match event {
            AttemptEvent::Accepted => Self::Accepted(v1::AttemptAccepted {}),
            AttemptEvent::Refused(cause) => Self::Refused(cause.into()),
            AttemptEvent::Staging(stage) => Self::Staging(v1::Stage::from(stage).into()),
            AttemptEvent::Ready => Self::Ready(v1::AttemptReady {}),
            AttemptEvent::Running { cpus, isolation, placement, voids } => {
                let (placement, voids) = (to_words(placement), voids_to_wire(voids));
                Self::Running(v1::AttemptRunning { cpus, isolation, voids, placement })
            }
            AttemptEvent::Ended(end) => Self::Ended(end.into()),
        }
    }
}

impl TryFrom<v1::Refusal> for RefusalCause {
    type Error = ConvertError;

    fn try_from(refusal: v1::Refusal) -> Result<Self, ConvertError> {
        use v1::refusal::Cause;
        Ok(match required("cause", refusal.cause)? {
            Cause::Busy(said) => truly("busy", said, Self::Busy)?,
            Cause::Policy(why) => Self::Policy(words("policy", why)?),
            Cause::Unsupported(why) => Self::Unsupported(words("unsupported", why)?),
            Cause::Unhealthy(why) => Self::Unhealthy(words("unhealthy", why)?),
            Cause::StaleEpoch(said) => truly("stale_epoch", said, Self::StaleEpoch)?,
        })
    }
}

/// A cause that is said by `true`: `false` would say that it is not what is said.
fn truly<T>(field: &str, said: bool, value: T) -> Result<T, ConvertError> {
    if said {
        Ok(value)
    } else {
        Err(ConvertError::new(field, "is false; it is said by true, or not at all"))
    }
}

impl From<RefusalCause> for v1::Refusal {
    fn from(cause: RefusalCause) -> Self {
        use v1::refusal::Cause;
        let cause = match cause {
            RefusalCause::Busy => Cause::Busy(true),
            RefusalCause::Policy(why) => Cause::Policy(to_words(why)),
            RefusalCause::Unsupported(why) => Cause::Unsupported(to_words(why)),
            RefusalCause::Unhealthy(why) => Cause::Unhealthy(to_words(why)),
            RefusalCause::StaleEpoch => Cause::StaleEpoch(true),
        };
        Self { cause: Some(cause) }
    }
}

impl TryFrom<v1::AttemptEnd> for AttemptEnd {
    type Error = ConvertError;

    fn try_from(end: v1::AttemptEnd) -> Result<Self, ConvertError> {
        use v1::attempt_end::How;
        Ok(match required("how", end.how)? {
            How::CompletedRounds(rounds) => match end.disturbed {
                Some(_) => Self::Disturbed { rounds, voids: voids("disturbed", end.disturbed)? },
                None => Self::Completed { rounds },
            },
            How::Failed(failure) => {
                Self::Failed(failure.try_into().map_err(|e: ConvertError| e.within("failed"))?)
            }
            How::Box(why) => Self::Box(words("box", why)?),
            How::Cancelled(said) => truly("cancelled", said, Self::Cancelled)?,
        })
    }
}

impl From<AttemptEnd> for v1::AttemptEnd {
    fn from(end: AttemptEnd) -> Self {
        use v1::attempt_end::How;
        let how = match end {
            AttemptEnd::Completed { rounds } => How::CompletedRounds(rounds),
            // Whoever does not know of void rounds judges by those that were measured.
            AttemptEnd::Disturbed { rounds, voids } => {
                let how = Some(How::CompletedRounds(rounds));
                return Self { how, disturbed: Some(voids.into()) };
            }
            AttemptEnd::Failed(failure) => How::Failed(failure.into()),
            AttemptEnd::Box(why) => How::Box(to_words(why)),
            AttemptEnd::Cancelled => How::Cancelled(true),
        };
        Self { how: Some(how), disturbed: None }
    }
}
