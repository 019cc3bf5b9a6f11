//! Names and numbers by which things are known: one type for each, so that none can be taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use ulid::Ulid;

/// The longest name of a project, suite, pool, agent or label: fits a file name and a terminal line.
pub const MAX_NAME_CHARS: usize = 100;

/// Why a text is not an id of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// A job id that is not a ULID.
    #[error("`{0}` is not a job id: it should be 26 letters and digits, like 01J9ZQ4T7M2N8X3V5B6C7D8E9F")]
    Job(String),
    /// A digest that is not 64 hexadecimal digits.
    #[error("`{0}` is not a digest: it should be 64 hexadecimal digits")]
    Digest(String),
    /// An attempt id without its two parts.
    #[error(
        "`{0}` is not an attempt: it should be a job id, a dot and a number, like 01J9ZQ4T7M2N8X3V5B6C7D8E9F.1"
    )]
    Attempt(String),
    /// A name that is empty, too long or has characters that do not belong into it.
    #[error("`{text}` is not a name for {} {what}: {why}", if what.starts_with('a') { "an" } else { "a" })]
    Name {
        /// What the name was meant for.
        what: &'static str,
        /// The refused text, shortened and without characters that a terminal obeys.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Shortens a text and drops what a terminal would act on, so that it can stand in an error.
fn for_display(text: &str) -> String {
    crate::text::plain(text, 60)
}

/// A job: a ULID, so that ids sort by the time of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Ulid);

impl JobId {
    /// The id made of a submission time in milliseconds since 1970 and 80 random bits.
    pub fn from_parts(unix_ms: u64, random: u128) -> Self {
        Self(Ulid::from_parts(unix_ms, random))
    }

    /// The next id: sorts right after this one.
    #[must_use]
    pub fn successor(self) -> Self {
        Self(Ulid(self.0.0.wrapping_add(1)))
    }

    /// When the job was submitted, in milliseconds since 1970.
    pub fn unix_ms(self) -> u64 {
        self.0.timestamp_ms()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Ulid::from_string(text).map(Self).map_err(|_| IdError::Job(for_display(text)))
    }
}

/// Fences attempts: it only grows. The generation rises when the ledger may have forgotten something (a failover,
/// a restore), so that a counter that went backwards is never taken for new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// How often the ledger was replaced.
    pub generation: u32,
    /// Counts grants within a generation.
    pub counter: u64,
}

impl Epoch {
    /// The next epoch of the same generation.
    #[must_use]
    pub fn next(self) -> Self {
        Self { generation: self.generation, counter: self.counter + 1 }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.counter)
    }
}

/// One try at a job: the job and the number of the try, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The job that is tried.
    pub job: JobId,
    /// 1 for the first try.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.number)
    }
}

impl FromStr for AttemptId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Attempt(for_display(text));
        let (job, number) = text.split_once('.').ok_or_else(bad)?;
        Ok(Self { job: job.parse().map_err(|_| bad())?, number: number.parse().map_err(|_| bad())? })
    }
}

/// The BLAKE3 digest of some bytes; how artifacts are addressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest made of its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| IdError::Digest(for_display(text)))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Checks what every name must keep to: visible, short, safe in a path, a URL and a terminal.
fn check_name(what: &'static str, text: &str) -> Result<(), IdError> {
    let refuse = |why| Err(IdError::Name { what, text: for_display(text), why });
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.chars().count() > MAX_NAME_CHARS {
        return refuse("it is longer than 100 characters");
    }
    if text.starts_with(['-', '.']) {
        return refuse("it must start with a letter, a digit or `_`");
    }
    if !text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')) {
        return refuse("only letters, digits and `-`, `_`, `.`, `/` may stand in it");
    }
    if text.split('/').any(|part| part.is_empty() || part == "..") {
        return refuse("it must not have `..`, `//` or a `/` at its end");
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name, if it keeps to the rules for names.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check_name($what, &text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// A user's project, as `darwin.toml` names it.
    ProjectName,
    "project"
);
name_type!(
    /// A suite of benches in a project.
    SuiteName,
    "suite"
);
name_type!(
    /// Agents whose boxes are interchangeable.
    PoolName,
    "pool"
);
name_type!(
    /// One agent; stays the same over restarts of its box.
    AgentId,
    "agent"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let job = JobId::from_parts(1_764_000_000_000, 42);
        assert_eq!(job.to_string().parse(), Ok(job));
        assert_eq!(job.unix_ms(), 1_764_000_000_000);
        let attempt = AttemptId { job, number: 3 };
        assert_eq!(attempt.to_string().parse(), Ok(attempt));
        let digest = Digest::of(b"orders");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn refused_ids_say_what_would_be_right() {
        assert!("nonsense".parse::<JobId>().unwrap_err().to_string().contains("26 letters"));
        assert!("01J.x".parse::<AttemptId>().is_err());
        assert!("abc".parse::<Digest>().is_err());
    }

    #[test]
    fn names_refuse_what_would_hurt_a_path_or_a_terminal() {
        for bad in ["", "../etc", "a//b", "a/", "a b", "x\u{1b}[2J", "-rf", ".git", &"x".repeat(101)] {
            assert!(SuiteName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["hotpath", "matching-engine", "core/book_v2.1", "стакан"] {
            assert!(SuiteName::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_newer_generation_beats_any_counter() {
        let old = Epoch { generation: 1, counter: 900 };
        let new = Epoch { generation: 2, counter: 1 };
        assert!(new > old && old.next() > old);
    }
}
