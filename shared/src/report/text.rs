//! Names and logs of strangers, made fit to be shown.

use std::collections::BTreeSet;

use crate::text::visible;

/// At most `most` characters of `text`: a long one loses its middle, for benches differ at their ends.
pub fn shorten(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most || most < 3 {
        return text.to_owned();
    }
    let tail = (most - 1) / 2;
    let head = most - 1 - tail;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{start}…{end}")
}

/// Shortened names, unless two different ones would then read the same: those stay whole.
pub(super) fn shorten_apart(names: &[String], most: usize) -> Vec<String> {
    let distinct: BTreeSet<&String> = names.iter().collect();
    let short: BTreeSet<String> = distinct.iter().map(|name| shorten(name, most)).collect();
    let apart = short.len() == distinct.len();
    names.iter().map(|name| if apart { shorten(name, most) } else { name.clone() }).collect()
}

/// The last `most` lines of a log, without colours, each on one line and fit for a terminal.
pub(super) fn log_lines(log: &str, most: usize) -> Vec<String> {
    let lines: Vec<&str> = log.lines().collect();
    let skipped = lines.len().saturating_sub(most);
    lines.iter().skip(skipped).map(|line| visible(&without_colours(line).replace('\t', "    "))).collect()
}

/// Drops the escape sequences (`ESC [ … letter`) with which programs colour their output.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {}
        } else if c != '\r' {
            plain.push(c);
        }
    }
    plain
}

/// `1 pair`, `14 pairs`.
pub(super) fn counted(count: impl Into<u64>, word: &str) -> String {
    let count = count.into();
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// A duration to the second, below a minute to three digits: `2m 10s`, `12.3s`, `850ms`.
pub(super) fn elapsed(duration: std::time::Duration) -> String {
    if duration.as_secs() >= 60 {
        return humantime::format_duration(std::time::Duration::from_secs(duration.as_secs())).to_string();
    }
    if duration.as_millis() >= 1000 {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(visible("a\u{1b}[2J\nb\u{202e}c"), "a\\u{1b}[2J\\nb\\u{202e}c");
        assert_eq!(visible("стакан[1000] 🚀"), "стакан[1000] 🚀");
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shorten("abcdefghij", 10), "abcdefghij");
        assert_eq!(shorten("abcdefghijk", 5), "ab…jk");
        assert_eq!(shorten("abc", 2), "abc");
    }

    #[test]
    fn names_that_would_read_the_same_stay_whole() {
        let names = ["aaaaaaaXaaaaaaa".to_owned(), "aaaaaaaYaaaaaaa".to_owned()];
        assert_eq!(shorten_apart(&names, 7), names);
        assert_eq!(shorten_apart(&names[..1], 7), ["aaa…aaa"]);
    }

    #[test]
    fn logs_lose_colours_and_keep_lines() {
        let log = "one\n\u{1b}[31;1mFAILED\u{1b}[0m\ttest_x\r\nthree\u{7}\n";
        assert_eq!(log_lines(log, 2), ["FAILED    test_x", "three\\u{7}"]);
        assert_eq!(log_lines("\u{1b}[", 5), [""]);
    }

    #[test]
    fn durations_read_well() {
        let shown = [850, 12_340, 130_900, 3_600_000].map(|ms| elapsed(Duration::from_millis(ms)));
        assert_eq!(shown, ["850ms", "12.3s", "2m 10s", "1h"]);
    }
}
