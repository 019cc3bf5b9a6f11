//! Names of benches: what a harness wrote, made safe to print, and never two of the same.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};

use serde::Deserialize;

use super::ReadErrorKind;
use crate::sample::MetricKind;
use crate::text::visible;

/// The longest name of a bench, in characters. A name stands in every table, file name and key of the archive;
/// the longest that real suites make (parametrised pytest ids) stay under 300.
pub const MAX_NAME_CHARS: usize = 1_000;

/// At most `most` characters of `text`, plain, with an ellipsis where it was cut.
pub(super) fn excerpt(text: &str, most: usize) -> String {
    let cut: String = text.chars().take(most).collect();
    let ellipsis = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{ellipsis}", visible(&cut))
}

/// The names or things joined, the first three of them and the number of the rest.
pub(super) fn some_of<T: Display>(things: impl ExactSizeIterator<Item = T>, joint: &str) -> String {
    const SHOWN: usize = 3;
    let more = things.len().saturating_sub(SHOWN);
    let shown: Vec<String> = things.take(SHOWN).map(|thing| format!("`{thing}`")).collect();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(joint))
}

/// The name of a bench as Darwin keeps it, with a warning where it had to be changed to be safe to print.
///
/// `place` is the bench's number in its file, from 1, for the messages.
pub(super) fn bench_name(
    raw: &str,
    place: usize,
    warnings: &mut Vec<String>,
) -> Result<String, ReadErrorKind> {
    let chars = raw.chars().count();
    if chars > MAX_NAME_CHARS {
        return Err(ReadErrorKind::BadName {
            whose: format!("bench {place} (`{}`)", excerpt(raw, 40)),
            why: format!(
                "has a name of {chars} characters: at most {MAX_NAME_CHARS} are taken; give it an id"
            ),
        });
    }
    if raw.trim().is_empty() {
        return Err(ReadErrorKind::BadName {
            whose: format!("bench {place}"),
            why: "has no name: every bench needs one, to be found again".to_owned(),
        });
    }
    let name = visible(raw);
    if name != raw {
        warnings.push(format!(
            "the name of bench {place} has characters that a terminal would obey; it is kept as `{name}`"
        ));
    }
    Ok(name)
}

/// `name` with its parameters, in the order of their names: `parse{depth=10,venue=sim}`.
pub(crate) fn with_params<'a>(name: &str, params: impl Iterator<Item = (&'a str, &'a Param)>) -> String {
    let mut full = name.to_owned();
    for (place, (key, value)) in params.enumerate() {
        let opening = if place == 0 { '{' } else { ',' };
        // Writing to a String cannot fail.
        let _ = write!(full, "{opening}{key}={value}");
    }
    if full.len() > name.len() {
        full.push('}');
    }
    full
}

/// The names that a file has used so far.
#[derive(Default)]
pub(super) struct Taken {
    names: BTreeSet<(String, MetricKind)>,
}

impl Taken {
    /// Takes a name, or says that it is taken.
    pub(super) fn take(&mut self, name: &str, metric: &MetricKind) -> Result<(), ReadErrorKind> {
        if self.names.insert((name.to_owned(), metric.clone())) {
            return Ok(());
        }
        Err(ReadErrorKind::DuplicateName { name: name.to_owned(), metric: metric.clone() })
    }
}

/// A parameter's value as files write it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Param {
    Text(String),
    Flag(bool),
    Whole(i64),
    Number(f64),
}

impl Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}
