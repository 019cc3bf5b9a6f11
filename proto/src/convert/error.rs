//! Why a message is no value of the domain: which field, and what would be right.

use std::fmt;

use thiserror::Error;

/// A field of a message that no peer may send so. Its `Display` names the field by its path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{field}` {why}")]
pub struct ConvertError {
    /// The path of the field, like `spec.steps.run.timeout`.
    pub field: String,
    /// What is wrong and what would be right, to be read after the field's name.
    pub why: String,
}

impl ConvertError {
    /// The field is refused for this reason.
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }

    /// The field is refused for what another error says.
    pub fn because(field: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(field, format!("is refused: {why}"))
    }

    /// The same error, seen from the message that has the message of the field under `outer`.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.field =
            if self.field.is_empty() { outer.to_string() } else { format!("{outer}.{}", self.field) };
        self
    }

    pub(super) fn unspecified(field: &str) -> Self {
        Self::new(field, "is not said; it must be set")
    }

    pub(super) fn unknown_value(field: &str, value: i32) -> Self {
        Self::new(field, format!("is {value}, which this version does not know; is the peer newer?"))
    }
}

/// A refused message is the sender's fault: `INVALID_ARGUMENT`.
impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_grows_from_the_inside() {
        let inner = ConvertError::new("timeout", "is absent").within("run").within("steps");
        assert_eq!(inner.clone().within("spec").to_string(), "`spec.steps.run.timeout` is absent");
        assert_eq!(ConvertError::new("", "is odd").within("spec").field, "spec");
        let status = tonic::Status::from(inner);
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::InvalidArgument, "`steps.run.timeout` is absent")
        );
    }
}
