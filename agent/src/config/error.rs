//! Why an agent cannot be configured as it was written.

use std::path::PathBuf;

use darwin_shared::ids::IdError;
use thiserror::Error;

/// Why an agent cannot be configured like this.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or a value is of the wrong kind.
    #[error("{}: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        message: String,
    },
    /// A key that there is not.
    #[error("{}: `{key}` is not a key of {table}{}", path.display(), suggestion(.nearest.as_deref(), known))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The refused key.
        key: String,
        /// Where it stands.
        table: &'static str,
        /// The key that was probably meant.
        nearest: Option<String>,
        /// The keys that there are.
        known: &'static [&'static str],
    },
    /// A check of the sensor that there is not.
    #[error("[sensor]: `{name}` is not a check of the sensor{}", suggestion(.nearest.as_deref(), known))]
    UnknownCheck {
        /// The refused name.
        name: String,
        /// The check that was probably meant.
        nearest: Option<String>,
        /// The checks that there are.
        known: Vec<&'static str>,
    },
    /// A check that is to stop everything and nothing.
    #[error("[sensor]: `{name}` is required and forgiven; it can only be one of them")]
    RequiredAndForgiven {
        /// The check.
        name: String,
    },
    /// A coordinator that cannot be talked to safely.
    #[error("coordinator `{url}` is refused: {why}")]
    Coordinator {
        /// As given.
        url: String,
        /// What is wrong, and what would be right.
        why: &'static str,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] IdError),
    /// A value out of its range.
    #[error("`{key}` is {got}; it must be {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// The refused value.
        got: String,
        /// What would be right.
        range: &'static str,
    },
    /// The host name is no id, and none was set.
    #[error("the box's host name {0} cannot be an agent's id; set `id`, or pass --id")]
    NoId(String),
}

fn suggestion(nearest: Option<&str>, known: &[&str]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; it knows {}", known.join(", ")),
    }
}

impl ConfigError {
    /// A key with a value that it cannot have, and what it can.
    pub(super) fn range(key: &'static str, got: &dyn ToString, range: &'static str) -> Self {
        Self::Range { key, got: got.to_string(), range }
    }
}
