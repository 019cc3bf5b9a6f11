//! Walking over parsed TOML with every place at hand, and collecting faults instead of stopping at the first.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{Fault, list, meant, shown};
use crate::spec::Command;
use crate::units::Percent;

/// The faults found so far.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// The value, or its fault written down and none.
    pub(super) fn keep<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.add(fault)).ok()
    }

    /// All faults in the order of the file.
    pub(super) fn sorted(mut self) -> Vec<Fault> {
        self.0.sort_by_key(|fault| (fault.span.start, fault.span.end));
        self.0
    }
}

/// A table of the file, with the path by which messages speak of it.
#[derive(Clone)]
pub(super) struct Section<'a> {
    /// `suite.hotpath.gate`; empty for the file itself.
    pub(super) path: String,
    /// Where the table begins: its header or key.
    pub(super) span: Range<usize>,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// The file itself.
    pub(super) fn root(table: &'a DeTable<'a>) -> Self {
        Self { path: String::new(), span: 0..0, table }
    }

    /// What stands under a key.
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        self.table.get_key_value(key).map(|(key, value)| self.item(key, value))
    }

    /// All keys with what stands under them.
    pub(super) fn items(&self) -> impl Iterator<Item = Item<'a>> + use<'a, '_> {
        self.table.iter().map(|(key, value)| self.item(key, value))
    }

    fn item(&self, key: &'a Spanned<toml::de::DeString<'a>>, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        let name: &str = key.get_ref();
        let path = match (self.path.as_str(), is_bare(name)) {
            ("", true) => name.to_owned(),
            ("", false) => format!("\"{}\"", shown(name)),
            (path, true) => format!("{path}.{name}"),
            (path, false) => format!("{path}.\"{}\"", shown(name)),
        };
        Item { path, key: name, key_span: key.span(), value: value.get_ref(), span: value.span() }
    }

    /// Writes down every key that is not one of `known`.
    pub(super) fn only(&self, known: &[&str], faults: &mut Faults) {
        for item in self.items().filter(|item| !known.contains(&item.key)) {
            let place = if self.path.is_empty() { "the file".to_owned() } else { format!("[{}]", self.path) };
            faults.add(Fault::new(
                item.key_span,
                format!("`{}` is not a key of {place}", shown(item.key)),
                "unknown key",
                meant(item.key, known, "its keys are"),
            ));
        }
    }
}

/// Whether a key needs no quotes in TOML.
fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// A key and what stands under it.
#[derive(Clone)]
pub(super) struct Item<'a> {
    /// The dotted path, for messages.
    pub(super) path: String,
    /// The last key of the path.
    pub(super) key: &'a str,
    /// Where the key stands.
    pub(super) key_span: Range<usize>,
    /// The value.
    pub(super) value: &'a DeValue<'a>,
    /// Where the value stands.
    pub(super) span: Range<usize>,
}

impl<'a> Item<'a> {
    /// A fault at the value.
    pub(super) fn fault(&self, why: impl AsRef<str>, label: &str, help: impl Into<String>) -> Fault {
        Fault::new(self.span.clone(), format!("`{}` {}", self.path, why.as_ref()), label, help)
    }

    fn wrong_type(&self, wanted: &str, example: &str) -> Fault {
        let found = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fault(
            format!("is {found}, but must be {wanted}"),
            found,
            format!("write `{} = {example}`", self.key),
        )
    }

    /// Text; `example` is shown if it is none.
    pub(super) fn text(&self, example: &str) -> Result<&'a str, Fault> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type("text", example)),
        }
    }

    pub(super) fn yes_or_no(&self) -> Result<bool, Fault> {
        match self.value {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.wrong_type("true or false", "true")),
        }
    }

    /// A table under this key.
    pub(super) fn section(&self, example: &str) -> Result<Section<'a>, Fault> {
        match self.value {
            DeValue::Table(table) => {
                Ok(Section { path: self.path.clone(), span: self.key_span.clone(), table })
            }
            _ => Err(self.wrong_type("a table", example)),
        }
    }

    fn list(&self, example: &str) -> Result<&'a DeArray<'a>, Fault> {
        match self.value {
            DeValue::Array(list) => Ok(list),
            _ => Err(self.wrong_type("a list of texts", example)),
        }
    }

    /// A list of texts, each with its own place.
    pub(super) fn texts(&self, example: &str) -> Result<Vec<(String, Item<'a>)>, Fault> {
        let element = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| {
            let item = Item {
                path: format!("{}[{index}]", self.path),
                key: self.key,
                key_span: self.key_span.clone(),
                value: value.get_ref(),
                span: value.span(),
            };
            let text = match item.value {
                DeValue::String(text) => text.to_string(),
                _ => return Err(item.wrong_type("text", example)),
            };
            Ok((text, item))
        };
        self.list(example)?.iter().enumerate().map(element).collect()
    }

    /// A whole number from `least` to `most`.
    pub(super) fn whole(&self, least: i64, most: i64, help: &str) -> Result<i64, Fault> {
        let DeValue::Integer(number) = self.value else {
            return Err(self.wrong_type("a whole number", &least.max(1).to_string()));
        };
        // What does not even fit is out of every range.
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
        value.filter(|value| (least..=most).contains(value)).ok_or_else(|| {
            self.fault(
                format!("is {}; it must be from {least} to {most}", shown(&number.to_string())),
                "out of range",
                help,
            )
        })
    }

    /// As [`Item::whole`], for counts.
    pub(super) fn count(&self, least: u32, most: u32, help: &str) -> Result<u32, Fault> {
        let value = self.whole(i64::from(least), i64::from(most), help)?;
        u32::try_from(value).map_err(|_| self.fault("is not a count", "out of range", help))
    }

    /// A number above `above` and below `below`; never one that is none.
    pub(super) fn number_between(&self, above: f64, below: f64, help: &str) -> Result<f64, Fault> {
        let text = match self.value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => return Err(self.wrong_type("a number", "0.01")),
        };
        let value = text.parse::<f64>().ok();
        value.filter(|value| *value > above && *value < below).ok_or_else(|| {
            self.fault(
                format!("is {}; it must be above {above} and below {below}", shown(text)),
                "out of range",
                help,
            )
        })
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Result<T, Fault> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let text = self.text(&format!("\"{}\"", names.first().copied().unwrap_or_default()))?;
        words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            self.fault(
                format!("is `{}`, which it cannot be", shown(text)),
                "unknown word",
                meant(text, &names, "it is one of"),
            )
        })
    }

    /// A span of time like `"90s"` or `"1h 30m"`.
    pub(super) fn duration(&self, least: Duration, most: Duration) -> Result<Duration, Fault> {
        let text = match self.value {
            DeValue::Integer(number) => {
                let seconds = shown(&number.to_string());
                return Err(self.fault(
                    format!("is the number {seconds}, which has no unit"),
                    "seconds? minutes?",
                    format!(
                        "write `{} = \"{seconds}s\"` for seconds, or `\"{seconds}m\"` for minutes",
                        self.key
                    ),
                ));
            }
            _ => self.text("\"10m\"")?,
        };
        let value = humantime::parse_duration(text.trim()).map_err(|why| {
            self.fault(
                format!("is `{}`, which is no span of time: {why}", shown(text)),
                "no span of time",
                "write a number and its unit, such as \"500ms\", \"90s\", \"10m\" or \"1h 30m\"",
            )
        })?;
        if (least..=most).contains(&value) {
            return Ok(value);
        }
        let human = humantime::format_duration;
        Err(self.fault(
            format!("is {}; it must be from {} to {}", human(value), human(least), human(most)),
            "out of range",
            "nothing may hold a box for ever, and nothing can be done in no time",
        ))
    }

    /// A share like `"1%"`.
    pub(super) fn percent(&self) -> Result<Percent, Fault> {
        let text = match self.value {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            _ => self.text("\"1%\"")?.to_owned(),
        };
        text.parse().map_err(|why| {
            self.fault(
                format!("cannot be used: {why}"),
                "no percentage",
                "write a percentage in quotes, such as \"1%\" or \"0.5%\"",
            )
        })
    }

    /// A string for a shell, or a list for none; never empty.
    pub(super) fn command(&self) -> Result<Command, Fault> {
        const EXAMPLE: &str = "\"./bench --json {output}\"";
        let command = match self.value {
            DeValue::String(text) => Command::Shell(text.to_string()),
            DeValue::Array(_) => Command::Argv(
                self.texts("[\"./bench\", \"--json\", \"{output}\"]")?.into_iter().map(|(t, _)| t).collect(),
            ),
            _ => return Err(self.wrong_type("text for a shell or a list of texts", EXAMPLE)),
        };
        let empty = match &command {
            Command::Shell(text) => text.trim().is_empty(),
            Command::Argv(argv) => argv.first().is_none_or(|program| program.trim().is_empty()),
        };
        if empty {
            return Err(self.fault(
                "is empty: there is nothing to run",
                "empty",
                format!("write the command, such as `{} = {EXAMPLE}`, or leave the key out", self.key),
            ));
        }
        Ok(command)
    }

    /// A table of texts.
    pub(super) fn map_of_texts(&self, example: &str) -> Result<Vec<(String, String, Item<'a>)>, Fault> {
        let section = self.section(example)?;
        let entry = |item: Item<'a>| match item.value {
            DeValue::String(text) => Ok((item.key.to_owned(), text.to_string(), item)),
            _ => Err(item.wrong_type("text", "\"1\"")),
        };
        section.items().map(entry).collect()
    }
}

/// TOML's own complaint, as a fault.
pub(super) fn syntax_fault(error: &toml::de::Error, text: &str) -> Fault {
    let span = error.span().unwrap_or(text.len()..text.len());
    let message = error.message();
    if message == "duplicate key" {
        let key = text.get(span.clone()).unwrap_or_default().trim();
        return Fault::new(
            span,
            format!("`{}` stands twice in the same table", shown(key)),
            "the second one",
            "keep one of them; TOML does not say which would hold",
        );
    }
    let before = text.get(..span.start).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default().trim();
    if let Some(key) = line.strip_suffix('=') {
        return Fault::new(
            span,
            format!("`{}` has no value", shown(key.trim())),
            "nothing stands here",
            "write the value behind the `=`, texts in quotes, or leave the key out",
        );
    }
    Fault::new(span, format!("the file is not TOML: {message}"), "here", syntax_help(message))
}

fn syntax_help(message: &str) -> String {
    if message.contains("string") {
        return "texts stand in quotes: key = \"value\"; a backslash in them is written `\\\\`, or use single quotes"
            .to_owned();
    }
    format!(
        "a line is {}, {} or a comment that begins with `#`; https://toml.io shows the rest",
        list(std::iter::once("key = value")),
        list(std::iter::once("[table]"))
    )
}
