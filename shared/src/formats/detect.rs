//! Which format a text is in, by its shape alone, and what a foreign one looks like.
//!
//! The shape is the set of keys of the first JSON value and of the first entry of its lists. It is also known of a
//! text that stops in the middle, so that a truncated file is called truncated, and not foreign.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Format;
use super::names::excerpt;

/// Keys kept of one object. No known format needs more to be told apart; benches by the thousand may be keys.
const MAX_KEYS: usize = 64;

/// Lists whose entries tell formats apart.
const TELLING_LISTS: &[&str] = &["benchmarks", "results", "files"];

/// Every format whose shape `bytes` has, by content alone: none, one, or (for a file made to confuse) more.
///
/// Criterion is never among them: its result is a folder.
pub fn detect(bytes: &[u8]) -> Vec<Format> {
    super::input::text_of(bytes).map(candidates).unwrap_or_default()
}

pub(super) fn candidates(text: &str) -> Vec<Format> {
    let shape = Shape::of(text);
    let mut found = Vec::new();
    if shape.has("machine_info") || (shape.has("commit_info") && shape.has("benchmarks")) {
        found.push(Format::PytestBenchmark);
    }
    let versioned = shape.has("schema_version") && shape.has("results");
    let bare =
        shape.has("results") && (shape.entry_has("command") || shape.keys.len() == 1 && shape.no_entry);
    if versioned || bare {
        found.push(Format::Hyperfine);
    }
    if shape.schema.as_deref().is_some_and(|schema| schema.starts_with("darwin-samples")) {
        found.push(Format::DarwinSamples);
    }
    found
}

/// Keys of the first JSON value of a text, as far as they could be read.
#[derive(Debug, Default)]
struct Shape {
    is_list: bool,
    keys: BTreeSet<String>,
    entry_keys: BTreeSet<String>,
    no_entry: bool,
    schema: Option<String>,
}

impl Shape {
    fn of(text: &str) -> Self {
        let mut shape = Self::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        // What was seen before an error is still the shape; the error itself is the reader's to tell.
        let _ = Peek::at(Level::Root, &mut shape).deserialize(&mut deserializer);
        shape
    }

    fn has(&self, key: &str) -> bool {
        !self.is_list && self.keys.contains(key)
    }

    fn entry_has(&self, key: &str) -> bool {
        self.entry_keys.contains(key)
    }
}

/// Where in the text the peek stands.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    /// At the first value.
    Root,
    /// At the value of a telling key.
    List,
    /// At the first entry of a list.
    Entry,
    /// At the value of the key `schema`.
    Schema,
}

/// Takes any value and keeps of it what tells formats apart.
struct Peek<'a> {
    shape: &'a mut Shape,
    level: Level,
}

impl<'a> Peek<'a> {
    const fn at(level: Level, shape: &'a mut Shape) -> Self {
        Self { shape, level }
    }
}

impl<'de> DeserializeSeed<'de> for Peek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Peek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let next = match self.level {
                Level::Root if TELLING_LISTS.contains(&key.as_str()) => Some(Level::List),
                Level::Root if key == "schema" => Some(Level::Schema),
                Level::Root | Level::List | Level::Entry | Level::Schema => None,
            };
            let keys = match self.level {
                Level::Root => Some(&mut self.shape.keys),
                Level::Entry => Some(&mut self.shape.entry_keys),
                Level::List | Level::Schema => None,
            };
            if let Some(keys) = keys.filter(|keys| keys.len() < MAX_KEYS) {
                keys.insert(key);
            }
            match next {
                Some(level) => map.next_value_seed(Peek::at(level, self.shape))?,
                None => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.level == Level::Root {
            self.shape.is_list = true;
        }
        if matches!(self.level, Level::Root | Level::List) {
            let first = seq.next_element_seed(Peek::at(Level::Entry, self.shape))?;
            self.shape.no_entry = first.is_none();
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.level == Level::Schema {
            self.shape.schema = Some(text.to_owned());
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// What a foreign text most likely is, in words.
pub(super) fn looks_like(text: &str) -> String {
    let shape = Shape::of(text);
    if let Some(known) = known_json(&shape).or_else(|| known_text(text)) {
        return known.to_owned();
    }
    if !shape.keys.is_empty() {
        let keys: Vec<String> =
            shape.keys.iter().take(4).map(|key| format!("`{}`", excerpt(key, 30))).collect();
        return format!("JSON with the keys {}", keys.join(", "));
    }
    format!("text that starts with `{}`", excerpt(text.trim_start().lines().next().unwrap_or_default(), 40))
}

fn known_json(shape: &Shape) -> Option<&'static str> {
    let has = |key| shape.has(key);
    let entry = |key| shape.entry_has(key);
    let known: &[(bool, &'static str)] = &[
        (has("machine_info"), "pytest-benchmark JSON"),
        (has("results") && entry("command"), "hyperfine JSON"),
        (
            shape.schema.as_deref().is_some_and(|schema| schema.starts_with("darwin-samples")),
            "darwin-samples",
        ),
        (has("context") && has("benchmarks") && entry("run_type"), "google-benchmark JSON"),
        (has("full_id") || has("sampling_mode"), "one file of criterion's: give the folder target/criterion"),
        (
            has("median_abs_dev") && has("std_dev"),
            "one file of criterion's: give the folder target/criterion",
        ),
        (shape.is_list && entry("jmhVersion"), "JMH JSON"),
        (has("benchmarks") && entry("runs") && has("layout"), "mitata JSON"),
        (has("benchmarks") && entry("runs"), "pyperf JSON"),
        (has("instrument") && has("benchmarks"), "pytest-codspeed JSON"),
        (has("results") && entry("median(elapsed)"), "nanobench JSON"),
        (has("files") && entry("groups"), "vitest bench JSON"),
        (shape.is_list && entry("result") && entry("name"), "tinybench JSON"),
        (has("result_columns"), "an asv result"),
        (has("HostEnvironmentInfo"), "BenchmarkDotNet JSON"),
        (has("benchmark_exe"), "gungraun JSON lines"),
        (has("Action") && has("Package"), "`go test -json` output"),
        (has("$schema") && has("shared"), "a speedscope profile"),
        (has("type") && has("metric") && has("data"), "k6 JSON lines"),
        (has("type") && has("event"), "libtest JSON lines"),
    ];
    known.iter().find(|(fits, _)| *fits).map(|(_, what)| *what)
}

/// How far into a text its kind is looked for, in lines: headers come first.
const HEADER_LINES: usize = 40;

fn known_text(text: &str) -> Option<&'static str> {
    const KNOWN: &[(&str, &str)] = &[
        ("goos: ", "`go test -bench` output"),
        ("time:   [", "criterion's console output: give the folder target/criterion"),
        (" ns/iter (+/- ", "libtest bench output"),
        ("<html", "a web page"),
        ("<!DOCTYPE", "a web page"),
        ("<Catch", "catch2 XML"),
        ("<?xml", "XML"),
        ("HISTF", "an HdrHistogram log"),
        ("Percentile TotalCount", "an HdrHistogram percentile table"),
        ("Thread Stats", "wrk output"),
        ("╰─ ", "divan output"),
        ("ops/sec", "benchmark.js output"),
        ("name,iterations,real_time", "google-benchmark CSV"),
        ("| Command |", "hyperfine's Markdown table: use --export-json"),
        ("command,mean,stddev", "hyperfine's CSV table: use --export-json"),
        ("Traceback (most recent call last)", "a Python error"),
        ("benchmark: ", "pytest-benchmark's console output: use --benchmark-json"),
        ("Instructions: ", "gungraun output"),
    ];
    let header: Vec<&str> = text.lines().take(HEADER_LINES).collect();
    let fits = |mark: &str| header.iter().any(|line| line.contains(mark));
    KNOWN.iter().find(|(mark, _)| fits(mark)).map(|(_, what)| *what)
}

/// The refusal of a text that no reader knows: a JSON text without an end says so before it says what it is not.
pub(super) fn foreign(text: &str) -> super::ReadErrorKind {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text)
        && error.is_eof()
    {
        return super::json::refusal(Format::Auto, text, &error);
    }
    super::ReadErrorKind::ForeignFormat { looks_like: looks_like(text) }
}
