//! What is wrong with a `darwin.toml`, where, and what would be right: rendered by miette with the lines themselves.

use std::fmt;
use std::ops::Range;

use crate::text::is_obeyed;
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use thiserror::Error;

/// The most faults that are listed at once: more than fits a screen helps nobody.
pub(super) const MAX_FAULTS: usize = 20;

/// One thing that is wrong, at one place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct Fault {
    /// What is wrong.
    pub what: String,
    /// What stands at the place, in a word or two.
    pub label: String,
    /// What would be right.
    pub help: String,
    /// The place, in bytes of the file.
    pub span: Range<usize>,
}

impl Fault {
    pub(super) fn new(
        span: Range<usize>,
        what: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { what: printable(&what.into()), label: label.into(), help: help.into(), span }
    }

    fn label_span(&self) -> LabeledSpan {
        LabeledSpan::new_with_span(Some(self.label.clone()), self.span.clone())
    }
}

impl Diagnostic for Fault {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(self.label_span())))
    }
}

/// A `darwin.toml` that says nothing that could be run: what is wrong with it, with the lines to point at.
///
/// Nothing of such a file is used. Its `Display` is the first fault; a miette reporter shows all of them.
#[derive(Debug)]
pub struct ConfigError {
    file_name: String,
    /// None where showing it would help nobody: an empty file, a huge one, one with all in one line.
    source: Option<Box<NamedSource<String>>>,
    /// The line of the first fault, from 1, where the source is not shown.
    line: Option<usize>,
    first: Box<Fault>,
    rest: Vec<Fault>,
}

impl ConfigError {
    /// The faults of a file; at least one.
    pub(super) fn new(file_name: &str, text: &str, first: Fault, rest: Vec<Fault>) -> Self {
        /// A longer line would fill the screen and hide the fault in it.
        const MOST_LINE_BYTES: usize = 500;
        let fits = |fault: &Fault| line_around(text, fault.span.start).len() <= MOST_LINE_BYTES;
        let shown = !text.trim().is_empty() && fits(&first) && rest.iter().all(fits);
        let source =
            shown.then(|| Box::new(NamedSource::new(file_name, printable(text)).with_language("toml")));
        let before = text.as_bytes().get(..first.span.start).unwrap_or_default();
        let line = (!shown && !text.is_empty()).then(|| before.split(|&byte| byte == b'\n').count());
        Self { file_name: file_name.to_owned(), source, line, first: Box::new(first), rest }
    }

    /// All that is wrong, in the order of the file.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        std::iter::once(&*self.first).chain(&self.rest)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{} line {line}: {}", self.file_name, self.first),
            None => write!(f, "{}: {}", self.file_name, self.first),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.first.help()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_deref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.first.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        if self.rest.is_empty() {
            return None;
        }
        Some(Box::new(self.rest.iter().map(|fault| fault as &dyn Diagnostic)))
    }
}

/// The line that has the byte at `at`.
fn line_around(text: &str, at: usize) -> &[u8] {
    let bytes = text.as_bytes();
    let (before, after) = bytes.split_at(at.min(bytes.len()));
    let begin = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let length = after.iter().position(|&byte| byte == b'\n').unwrap_or(after.len());
    &bytes[begin..before.len() + length]
}

/// The text with a `?` for each byte of what a terminal would act on, so that every offset stays the same.
fn printable(text: &str) -> String {
    let acts = |c: char| is_obeyed(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(acts) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) {
            shown.extend(std::iter::repeat_n('?', c.len_utf8()));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The word as it may stand in a message: short, and without what a terminal would act on.
pub(super) fn shown(word: &str) -> String {
    const MOST_CHARS: usize = 60;
    let cut: String = word.chars().take(MOST_CHARS).collect();
    let ellipsis = if cut.len() < word.len() { "…" } else { "" };
    format!("{}{ellipsis}", cut.escape_debug())
}

/// A suite that `darwin.toml` does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no suite `{}` in darwin.toml: {}", shown(name), suggestion(name, known))]
pub struct NoSuchSuite {
    /// The name that was asked for.
    pub name: String,
    /// The names that there are, sorted.
    pub known: Vec<String>,
}

impl Diagnostic for NoSuchSuite {}

fn suggestion(name: &str, known: &[String]) -> String {
    match (nearest(name, known.iter().map(String::as_str)), known) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, [only]) => format!("its only suite is `{only}`"),
        (None, _) => format!("its suites are {}", list(known.iter().map(String::as_str))),
    }
}

/// `` `a`, `b`, `c` ``
pub(super) fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The known word that was most likely meant, if one is near enough to be meant at all.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// A word of 7 letters with 2 wrong ones is still told from another; `run` for `env` is not.
    const LEAST_LIKENESS: f64 = 0.65;
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(&word.to_lowercase(), known), known))
        .filter(|(likeness, _)| *likeness >= LEAST_LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// `did you mean …? Known are …`, for a word that must be one of a few.
pub(super) fn meant(word: &str, known: &[&str], what: &str) -> String {
    let all = list(known.iter().copied());
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {what} {all}"),
        None => format!("{what} {all}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["setup", "check", "run", "timeout", "format"];
        for (word, near) in [
            ("timout", Some("timeout")),
            ("Timeout", Some("timeout")),
            ("formta", Some("format")),
            ("chekc", Some("check")),
            ("environment", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), near, "{word}");
        }
    }

    #[test]
    fn a_missing_suite_is_told_with_what_there_is() {
        let known = vec!["hotpath".to_owned(), "orderbook".to_owned()];
        let told = |name: &str| NoSuchSuite { name: name.to_owned(), known: known.clone() }.to_string();
        assert_eq!(told("hotpat"), "there is no suite `hotpat` in darwin.toml: did you mean `hotpath`?");
        assert_eq!(
            told("xyz"),
            "there is no suite `xyz` in darwin.toml: its suites are `hotpath`, `orderbook`"
        );
    }

    #[test]
    fn what_a_terminal_would_act_on_is_not_shown_and_offsets_stay() {
        let text = "a = \"\u{1b}[2J\u{202e}\"\r\n";
        assert_eq!(printable(text), "a = \"?[2J???\"\r\n");
        assert_eq!(printable(text).len(), text.len());
    }
}
