//! Container images as variants: how they are named, and where they come from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::Digest;
use crate::spec::{JobSpec, PairPlan, Scheduler, Source, SpecError};

/// The longest name that Docker takes, with room for tag and digest.
pub const MAX_IMAGE_NAME_BYTES: usize = 512;
/// The only file of an image archive's manifest.
pub const ARCHIVE_FILE: &str = "image.tar";
/// What a digest begins with.
const DIGEST_PREFIX: &str = "sha256:";
/// The hexadecimal digits of a digest.
const DIGEST_DIGITS: usize = 64;
/// The longest tag that Docker takes.
const MAX_TAG_BYTES: usize = 128;

/// A container image that is a variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// One that the box's daemon has, or that it may pull.
    Named(ImageName),
    /// A `docker save` archive: the digest of a manifest whose only file is [`ARCHIVE_FILE`].
    Archive(Digest),
}

/// A name that a Docker daemon takes for an image: `NAME[:TAG][@sha256:…]`, or an image's id `sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` names no image: {why}")]
pub struct ImageNameError {
    /// The refused text, shortened and without characters that a terminal obeys.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl ImageName {
    /// The name, if Docker would take it for one (the grammar of its `reference` package).
    pub fn new(text: impl Into<String>) -> Result<Self, ImageNameError> {
        let text = text.into();
        match check_name(&text) {
            Ok(()) => Ok(Self(text)),
            Err(why) => Err(ImageNameError { text: crate::text::plain(&text, 100), why }),
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without tag and digest; an id is its own.
    pub fn repository(&self) -> &str {
        if is_digest(&self.0) { &self.0 } else { split(&self.0).0 }
    }
}

/// Name, tag and digest, as far as they are there.
fn split(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash belongs to a registry's port.
    match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag), digest),
        Some(_) | None => (rest, None, digest),
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix(DIGEST_PREFIX).is_some_and(|digits| {
        digits.len() == DIGEST_DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn check_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty; a name looks like engine:1.4");
    }
    if text.len() > MAX_IMAGE_NAME_BYTES {
        return Err("it is longer than 512 bytes");
    }
    if is_digest(text) {
        return Ok(());
    }
    let (name, tag, digest) = split(text);
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("after `@` stands sha256: and 64 hexadecimal digits, in small letters");
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_tag = |tag: &str| {
        tag.len() <= MAX_TAG_BYTES
            && tag.bytes().next().is_some_and(word)
            && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(
            "a tag has letters, digits, `_`, `.` and `-`, up to 128, and begins with none of the last two",
        );
    }
    let (domain, path) = match name.split_once('/') {
        Some((domain, path)) if domain.contains(['.', ':']) || domain == "localhost" => (Some(domain), path),
        Some(_) | None => (None, name),
    };
    let host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
    if domain.is_some_and(|domain| !domain.bytes().all(host) || domain.starts_with(['-', ':', '.'])) {
        return Err("before the first `/` stands a registry like registry.example.com:5000");
    }
    let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        part.bytes().next().is_some_and(small)
            && part.bytes().last().is_some_and(small)
            && part.bytes().all(|byte| small(byte) || matches!(byte, b'.' | b'_' | b'-'))
    };
    if !path.split('/').all(is_part) {
        return Err("its parts have small letters and digits, and `.`, `_`, `-` between them");
    }
    Ok(())
}

/// Refuses a job with images that asks for what containers do not give, or that would not be fair.
pub(crate) fn check(spec: &JobSpec) -> Result<(), SpecError> {
    if !spec.work.has_images() {
        return Ok(());
    }
    if !spec.work.variants().iter().all(|(_, variant)| matches!(variant.source, Source::Image(_))) {
        return Err(SpecError::ImageOnOneSide);
    }
    let refuse = |what, why| Err(SpecError::NotInImages { what, why });
    if spec.steps.setup.is_some() {
        return refuse(
            "setup",
            "an image is set up when it is built and cannot be written to here; leave it out",
        );
    }
    if spec.cores.scheduler == Scheduler::Fifo {
        return refuse(
            "cores.scheduler",
            "SCHED_FIFO needs a right that no container is given; leave it out",
        );
    }
    if spec.plan == PairPlan::Sliced {
        return refuse("plan", "containers cannot take turns within a pair; leave it out, or say \"pairs\"");
    }
    Ok(())
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for ImageName {
    type Error = ImageNameError;

    fn try_from(text: String) -> Result<Self, ImageNameError> {
        Self::new(text)
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> String {
        format!("sha256:{}", "0123456789abcdef".repeat(4))
    }

    #[test]
    fn names_that_docker_takes() {
        let with_digest = format!("reg.example.com:5000/team/engine:1.4@{}", id());
        for (name, repository) in [
            ("engine", "engine"),
            ("engine:1.4-rc_2", "engine"),
            ("team/engine", "team/engine"),
            ("localhost/engine:x", "localhost/engine"),
            ("reg:5000/engine", "reg:5000/engine"),
            (with_digest.as_str(), "reg.example.com:5000/team/engine"),
            (id().as_str(), id().as_str()),
        ] {
            assert_eq!(
                ImageName::new(name).map(|name| name.repository().to_owned()),
                Ok(repository.to_owned())
            );
        }
    }

    #[test]
    fn names_that_it_does_not_take_are_refused_with_the_reason() {
        let long = "a".repeat(513);
        let short_digest = format!("engine@{}", &id()[..70]);
        for bad in [
            "",
            "Engine",
            "engine:",
            "engine:-x",
            "-engine",
            "engine/",
            "a//b",
            "../engine",
            "engine@sha256:12",
            "a b",
            "engine\u{1b}[2J",
            "engine:a:b",
            short_digest.as_str(),
            long.as_str(),
        ] {
            assert!(ImageName::new(bad).is_err(), "{bad:?}");
        }
        let error = ImageName::new("Engine\u{1b}[2J").unwrap_err().to_string();
        assert!(error.contains("Engine[2J") && error.contains("small letters"), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_is_taken_survives_json_and_has_nothing_odd_in_it(text in "[a-zA-Z0-9:@/._ -]{0,40}") {
            if let Ok(name) = ImageName::new(text) {
                let json = serde_json::to_string(&name).unwrap();
                prop_assert_eq!(serde_json::from_str::<ImageName>(&json).unwrap(), name.clone());
                prop_assert!(!name.as_str().contains([' ', '-']) || !name.as_str().starts_with('-'));
                prop_assert!(name.as_str().starts_with(name.repository()));
            }
        }
    }
}
