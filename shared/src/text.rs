//! Texts of strangers, made fit to be shown: one rule for every reader, report and error.

use std::ffi::OsStr;

/// Whether a character changes how the text around it is shown: terminal escapes, line breaks, reversed writing.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The first `most` characters of `text` without those that are obeyed, so that it can stand in an error.
pub fn plain(text: &str, most: usize) -> String {
    text.chars().filter(|c| !is_obeyed(*c)).take(most).collect()
}

/// `text` on one line, with every character that a terminal would obey written out as an escape.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether text may be coloured for who reads it: on a terminal that can, unless `NO_COLOR` (<https://no-color.org>)
/// asks for none. The caller says what the variables hold.
pub fn may_colour(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_lose_what_a_terminal_would_obey() {
        assert_eq!(plain("a\u{202e}b\u{1b}[2J\u{200b}c", 60), "ab[2Jc");
        assert_eq!(plain("abc", 2), "ab");
    }

    #[test]
    fn colours_are_for_terminals_and_for_those_who_want_them() {
        let os = |text: &'static str| Some(OsStr::new(text));
        assert!(may_colour(true, None, None) && may_colour(true, os(""), os("xterm")));
        assert!(!may_colour(false, None, os("xterm")), "a file");
        assert!(!may_colour(true, os("1"), os("xterm")) && !may_colour(true, None, os("dumb")));
    }
}
