//! JSON into a format's own types, and serde's errors into the refusals that people read.

use serde::Deserialize;
use serde_json::error::Category;

use super::{Format, ReadErrorKind, detect};

/// Reads `text` as the JSON of `format`.
pub(super) fn parse<'de, T: Deserialize<'de>>(format: Format, text: &'de str) -> Result<T, ReadErrorKind> {
    serde_json::from_str(text).map_err(|error| refusal(format, text, &error))
}

/// Reads one line of a file whose format is beyond doubt.
pub(super) fn parse_line<'de, T: Deserialize<'de>>(
    format: Format,
    line: &'de str,
) -> Result<T, ReadErrorKind> {
    serde_json::from_str(line).map_err(|error| match error.classify() {
        Category::Data => ReadErrorKind::WrongFormat { expected: format, why: error.to_string() },
        Category::Io | Category::Syntax | Category::Eof => refusal(format, line, &error),
    })
}

pub(super) fn refusal(format: Format, text: &str, error: &serde_json::Error) -> ReadErrorKind {
    let (line, column) = (error.line(), error.column());
    let message = || bare_message(error);
    match error.classify() {
        Category::Eof => ReadErrorKind::Truncated { line, column, message: message() },
        Category::Syntax | Category::Io => match impossible_number(text, error) {
            Some(value) => ReadErrorKind::BadValue { place: format!("line {line} column {column}"), value },
            None if is_json(text) => ReadErrorKind::BadJson { line, column, message: message() },
            None => ReadErrorKind::ForeignFormat { looks_like: detect::looks_like(text) },
        },
        Category::Data => wrong_shape(format, text, error),
    }
}

/// Valid JSON of another shape: the name of its true kind says more than the first field that is missing.
fn wrong_shape(format: Format, text: &str, error: &serde_json::Error) -> ReadErrorKind {
    // Criterion's files are inside its folder, so that there is nothing else that they could be.
    if format == Format::Criterion || detect::candidates(text).contains(&format) {
        return ReadErrorKind::WrongFormat { expected: format, why: error.to_string() };
    }
    ReadErrorKind::WrongFormat {
        expected: format,
        why: format!("it looks like {}", detect::looks_like(text)),
    }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// serde's message without the position, which the refusal tells on its own.
fn bare_message(error: &serde_json::Error) -> String {
    let full = error.to_string();
    match full.rfind(" at line ") {
        Some(end) => full[..end].to_owned(),
        None => full,
    }
}

/// Numbers that JSON has no word for, which Python and others write all the same.
const NOT_NUMBERS: &[&str] = &["NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"];

/// The token at the error, where it is a number that is none: `NaN`, `Infinity`, `1e999`.
fn impossible_number(text: &str, error: &serde_json::Error) -> Option<String> {
    let line = text.lines().nth(error.line().checked_sub(1)?)?;
    // The column counts bytes, from 1, and points at the last byte read, which is inside the token.
    let at = error.column().saturating_sub(1).min(line.len());
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
    let start = at - line.as_bytes()[..at].iter().rev().take_while(|byte| in_token(byte)).count();
    let length = line.as_bytes()[start..].iter().take_while(|byte| in_token(byte)).count();
    let token = line.get(start..start + length)?;
    let too_large = token.parse::<f64>().is_ok_and(f64::is_infinite);
    (NOT_NUMBERS.contains(&token) || too_large).then(|| super::names::excerpt(token, 40))
}
