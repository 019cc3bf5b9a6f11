//! What a box told on its console.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// The last thing that a box tells.
const END: &str = "end";

/// What was told, by name.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<String, String>);

impl Seen {
    /// Reads what stands between `<<<name` and `>>>`; what else is on a console is left out.
    pub(super) fn read(text: &str) -> Self {
        let mut all = BTreeMap::new();
        let mut current: Option<(String, String)> = None;
        for line in text.lines().map(str::trim_end) {
            match (&mut current, line.find("<<<")) {
                // The firmware leaves its own signs before the first line.
                (None, Some(at)) => current = Some((line[at + 3..].to_owned(), String::new())),
                (Some(_), _) if line == ">>>" => all.extend(current.take()),
                (Some((_, told)), _) => {
                    told.push_str(line);
                    told.push('\n');
                }
                (None, None) => {}
            }
        }
        Self(all)
    }

    /// Whether the box came to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.0.contains_key(END)
    }

    /// What was told under a name, without space around it; none if it was not.
    pub(super) fn told(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|text| text.trim())
    }

    /// The same; nothing if it was not told.
    pub(super) fn text(&self, name: &str) -> &str {
        self.told(name).unwrap_or_default()
    }

    /// The same, as JSON; null if it is none.
    pub(super) fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.text(name)).unwrap_or_default()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in &self.0 {
            writeln!(f, "{name}:\n{text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_found_among_what_a_console_shows() {
        let seen = Seen::read(
            "SeaBIOS\r\n\u{1b}c<<<a\r\n1\r\n\r\n2\r\n>>>\r\nKilled\r\n<<<j\r\n{\"x\": 3}\r\n>>>\r\n<<<torn\r\n4",
        );
        assert_eq!((seen.text("a"), seen.text("torn"), seen.text("b")), ("1\n\n2", "", ""));
        assert_eq!((seen.json("j")["x"].as_u64(), seen.json("a").is_null()), (Some(3), true));
        assert!(!seen.is_whole() && Seen::read("<<<end\n>>>").is_whole());
    }
}
