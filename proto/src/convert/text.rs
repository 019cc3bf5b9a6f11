//! Texts with an end: what a peer may send, and what is cut before it is sent.

use std::collections::{BTreeMap, HashMap};

use darwin_shared::fleet::{MAX_LABEL_CHARS, MAX_LABELS};

use super::ConvertError;

/// The longest short text, in characters: a version, a host's name, a kernel's release, a variant's label.
pub const MAX_SHORT_CHARS: usize = 300;
/// The longest explanation in words, in bytes: a compiler's message fits, a log does not.
pub const MAX_WORDS_BYTES: usize = 4 << 10;
/// The longest tail of a log, in bytes: a screenful or two.
pub const MAX_LOG_TAIL_BYTES: usize = 16 << 10;
/// The longest path, in bytes, as Linux takes it.
pub const MAX_PATH_BYTES: usize = 4096;

/// A short text of one line; may be empty.
pub(super) fn short(field: &str, text: String) -> Result<String, ConvertError> {
    one_line(field, &text, MAX_SHORT_CHARS)?;
    Ok(text)
}

fn one_line(field: &str, text: &str, most_chars: usize) -> Result<(), ConvertError> {
    let chars = text.chars().count();
    if chars > most_chars {
        return Err(ConvertError::new(
            field,
            format!("has {chars} characters; at most {most_chars} are taken"),
        ));
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        let why = format!(
            "has the control character {}; it must be one line of plain text",
            control.escape_default()
        );
        return Err(ConvertError::new(field, why));
    }
    Ok(())
}

/// A short text, cut and made one line for the wire.
pub(super) fn to_short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SHORT_CHARS).collect()
}

/// A text of at most so many bytes.
pub(super) fn bounded(field: &str, text: String, most_bytes: usize) -> Result<String, ConvertError> {
    if text.len() <= most_bytes {
        return Ok(text);
    }
    Err(ConvertError::new(field, format!("has {} bytes; at most {most_bytes} are taken", text.len())))
}

/// An explanation in words.
pub(super) fn words(field: &str, text: String) -> Result<String, ConvertError> {
    bounded(field, text, MAX_WORDS_BYTES)
}

/// An explanation for the wire: its beginning, if it is too long.
pub(super) fn to_words(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_WORDS_BYTES));
    text
}

/// A log's tail for the wire: its end, if it is too long.
pub(super) fn to_log_tail(mut text: String) -> String {
    let excess = text.len().saturating_sub(MAX_LOG_TAIL_BYTES);
    text.drain(..text.ceil_char_boundary(excess));
    text
}

/// Labels with names and values that can be shown.
pub(super) fn labels(
    field: &str,
    labels: HashMap<String, String>,
) -> Result<BTreeMap<String, String>, ConvertError> {
    if labels.len() > MAX_LABELS {
        let why = format!("has {} entries; at most {MAX_LABELS} are taken", labels.len());
        return Err(ConvertError::new(field, why));
    }
    for (name, value) in &labels {
        if name.is_empty() {
            return Err(ConvertError::new(field, "has an entry without a name"));
        }
        one_line(field, name, MAX_LABEL_CHARS)?;
        one_line(field, value, MAX_LABEL_CHARS)?;
    }
    Ok(labels.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_for_the_wire_is_taken_there() {
        let long = "é".repeat(MAX_LOG_TAIL_BYTES);
        assert!(words("why", long.clone()).is_err());
        assert_eq!(words("why", to_words(long.clone())).unwrap().len(), MAX_WORDS_BYTES);
        let odd = format!("{long}x");
        let tail = to_log_tail(odd);
        assert!(tail.ends_with('x') && tail.len() <= MAX_LOG_TAIL_BYTES);
        bounded("log_tail", tail, MAX_LOG_TAIL_BYTES).unwrap();
        short("label", to_short(&format!("a\u{1b}[2J\n{long}"))).unwrap();
    }

    #[test]
    fn labels_are_few_and_plain() {
        let one = |name: &str, value: &str| HashMap::from([(name.to_owned(), value.to_owned())]);
        assert!(labels("labels", one("cpu", "xeon-6")).is_ok());
        for (name, value) in [("", "x"), ("a\nb", "x"), ("a", "\u{1b}[2J"), ("a", &*"x".repeat(101))] {
            assert!(labels("labels", one(name, value)).is_err(), "{name:?} {value:?}");
        }
        let many = (0..=MAX_LABELS).map(|n| (n.to_string(), String::new())).collect();
        assert!(labels("labels", many).is_err());
    }
}
