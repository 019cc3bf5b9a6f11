//! How a command fails: what to say, and the exit code that goes with it.

use std::fmt;

use darwin_shared::config::ConfigError;
use darwin_shared::exit_code::ExitCode;
use tonic::{Code, Status};

use crate::pack::PackError;

/// A command that did not do its work.
#[derive(Debug)]
pub(crate) struct Failed {
    /// What the process ends with.
    pub code: ExitCode,
    /// What the person reads.
    pub message: Message,
    /// The job that it is about, if there is one already.
    pub job_id: Option<String>,
}

/// What the person reads.
#[derive(Debug)]
pub(crate) enum Message {
    /// What, where, and what would be right.
    Text(String),
    /// A `darwin.toml` with lines to point at.
    Config(Box<ConfigError>),
}

impl Failed {
    /// With this code and text.
    pub(crate) fn new(code: ExitCode, text: impl fmt::Display) -> Self {
        Self { code, message: Message::Text(text.to_string()), job_id: None }
    }

    /// The same, about this job.
    #[must_use]
    pub(crate) fn about(self, job_id: &str) -> Self {
        Self { job_id: Some(job_id.to_owned()), ..self }
    }

    /// Wrong usage, or a bad file of the user's.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(ExitCode::Usage, text)
    }

    /// This machine or the coordinator is not fit.
    pub(crate) fn system(text: impl fmt::Display) -> Self {
        Self::new(ExitCode::NotOk, text)
    }

    /// A peer that does not keep to the protocol.
    pub(crate) fn protocol(what: &str, why: impl fmt::Display) -> Self {
        Self::new(
            ExitCode::NotOk,
            format!("the coordinator sent {what} that cannot be read: {why}; is it of another version?"),
        )
    }
}

impl From<PackError> for Failed {
    fn from(error: PackError) -> Self {
        Self::usage(error)
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self { code: ExitCode::Usage, message: Message::Config(Box::new(error)), job_id: None }
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => ExitCode::Usage,
            Code::Unavailable | Code::PermissionDenied | Code::Unauthenticated => ExitCode::Unreachable,
            Code::DeadlineExceeded | Code::Cancelled => ExitCode::Cancelled,
            Code::Ok
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::DataLoss => ExitCode::NotOk,
        };
        let text = match status.code() {
            Code::Unimplemented => {
                "the coordinator does not know this call; is it of an older version?".to_owned()
            }
            _ if status.message().is_empty() => format!("the coordinator answered: {}", status.code()),
            _ => status.message().to_owned(),
        };
        Self::new(code, darwin_shared::report::visible(&text))
    }
}

/// A call that failed: unreachable if nobody answered, else what the coordinator said.
pub(crate) fn call(url: &str) -> impl Fn(Status) -> Failed + '_ {
    move |status| {
        if is_away(&status) {
            return unreachable(url, &status);
        }
        status.into()
    }
}

/// Whether nobody answered, or the answer broke off: worth another try. A status with a source was made on this side,
/// by the connection; what a coordinator says has none.
pub(crate) fn is_away(status: &Status) -> bool {
    use std::error::Error as _;
    status.code() == Code::Unavailable || status.source().is_some()
}

/// Nobody answers at this address.
pub(crate) fn unreachable(url: &str, error: &(dyn std::error::Error + 'static)) -> Failed {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let why = match innermost.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => innermost.to_string(),
    };
    let why = darwin_shared::report::visible(&why);
    Failed::new(
        ExitCode::Unreachable,
        format!(
            "no coordinator answers at {url}: {why}\n  start one with darwin-coordinator, name another one with \
             --coordinator URL, or use the one in this process with --coordinator embedded"
        ),
    )
}
