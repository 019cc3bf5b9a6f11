//! How a person names a side: a git ref, or one of the prefixes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use darwin_shared::image::{ImageName, ImageNameError};
use thiserror::Error;

/// The longest ref that is taken: no shell history holds a longer one on purpose.
const MAX_REFERENCE_BYTES: usize = 4096;
/// What tells an archive's path from an image's name.
const ARCHIVE_ENDING: &str = ".tar";

/// What is under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// A commit, by anything that git resolves.
    Git(String),
    /// A folder on this machine, packed and sent.
    Dir(PathBuf),
    /// A folder on the box, used where it is.
    Path(String),
    /// A container image that the box's Docker daemon has, or may pull.
    Image(ImageName),
    /// A `docker save` archive on this machine, packed and sent.
    ImageArchive(PathBuf),
}

/// Why a text names no side.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ReferenceError {
    /// Nothing at all.
    #[error("it is empty: name a git ref, dir:PATH, image:NAME or path:PATH-ON-THE-BOX")]
    Empty,
    /// A prefix with nothing after it.
    #[error("`{prefix}` wants a path after it, as in `{example}`")]
    NoPath {
        /// The prefix.
        prefix: &'static str,
        /// What would be right.
        example: &'static str,
    },
    /// No name of an image.
    #[error(
        "{0}; an image is named as in image:engine:1.4, an archive of `docker save` as in image:engine.tar"
    )]
    Image(#[from] ImageNameError),
    /// A path on the box that is not absolute.
    #[error(
        "`path:{0}` is not absolute: it names a folder on the box, so it must start with `/`; a folder here is dir:{0}"
    )]
    Relative(String),
    /// Planned and not there.
    #[error("`{what}` is not yet available: {instead}")]
    NotYet {
        /// What was asked for.
        what: &'static str,
        /// What works today.
        instead: &'static str,
    },
    /// Something that git would take for an option, or that is no line of text.
    #[error("`{0}` is not a git ref: a ref does not start with `-` and has no blanks or control characters")]
    NotARef(String),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let no_path = |prefix, example| ReferenceError::NoPath { prefix, example };
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if let Some(path) = text.strip_prefix("dir:") {
            return if path.is_empty() { Err(no_path("dir:", "dir:.")) } else { Ok(Self::Dir(path.into())) };
        }
        if let Some(path) = text.strip_prefix("path:") {
            return match path {
                "" => Err(no_path("path:", "path:/opt/engine")),
                _ if !path.starts_with('/') => Err(ReferenceError::Relative(path.to_owned())),
                _ => Ok(Self::Path(path.to_owned())),
            };
        }
        if let Some(image) = text.strip_prefix("image:") {
            return Ok(if image.ends_with(ARCHIVE_ENDING) {
                Self::ImageArchive(image.into())
            } else {
                Self::Image(ImageName::new(image)?)
            });
        }
        if text == "champion" {
            let instead = "name the baseline as a git ref, such as main";
            return Err(ReferenceError::NotYet { what: "champion", instead });
        }
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if text.starts_with('-') || text.len() > MAX_REFERENCE_BYTES || text.contains(odd) {
            return Err(ReferenceError::NotARef(text.escape_debug().take(100).collect()));
        }
        Ok(Self::Git(text.to_owned()))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git(name) => f.write_str(name),
            Self::Dir(folder) => write!(f, "dir:{}", folder.display()),
            Self::Path(path) => write!(f, "path:{path}"),
            Self::Image(name) => write!(f, "image:{name}"),
            Self::ImageArchive(path) => write!(f, "image:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind() {
        assert_eq!("main~2".parse(), Ok(Reference::Git("main~2".into())));
        assert_eq!("dir:.".parse(), Ok(Reference::Dir(".".into())));
        assert_eq!("path:/opt/x".parse(), Ok(Reference::Path("/opt/x".into())));
        let name = ImageName::new("engine:1.4").unwrap();
        assert_eq!("image:engine:1.4".parse(), Ok(Reference::Image(name)));
        assert_eq!("image:./Engine.tar".parse(), Ok(Reference::ImageArchive("./Engine.tar".into())));
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        let texts: Vec<String> =
            ["", "dir:", "path:", "path:x", "image:", "image:A", "champion", "--all", "a b", "a\u{1b}[2J"]
                .iter()
                .map(|text| text.parse::<Reference>().unwrap_err().to_string())
                .collect();
        insta::assert_snapshot!(texts.join("\n"));
    }
}
