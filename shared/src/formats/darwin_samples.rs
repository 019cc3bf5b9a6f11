//! Darwin's own format `darwin-samples/1`: a header, then one line of JSON for each series.
//!
//! ```text
//! {"schema":"darwin-samples/1","tool":"my-harness","tool_version":"2.1","host":{"cpu":"EPYC 9754"}}
//! {"name":"book/add{depth=10}","metric":"latency","unit":"ns","per":"op","order":"time","values":[1681,960,772]}
//! {"name":"book/add","params":{"depth":100},"metric":"latency","unit":"ns","per":"batch","iterations":100,"hist":[[71,3],[72,9]]}
//! {"warning":"ran on battery"}
//! {"error":"queue overflow","name":"book/cancel"}
//! ```
//! An `error` line refuses the whole: a run with a failed bench is not complete.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::names::{Taken, bench_name, excerpt};
use super::{Format, MAX_SERIES, ReadErrorKind, detect, json};
use crate::sample::{Measured, Series, SeriesLine};
use crate::text::visible;

/// The version of the format that is written and read.
pub const SCHEMA: &str = "darwin-samples/1";

#[derive(Serialize, Deserialize)]
struct Header {
    schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_version: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    host: BTreeMap<String, String>,
}

/// Which kind of line it is, by the keys that only that kind has.
#[derive(Deserialize)]
struct Kind {
    schema: Option<IgnoredAny>,
    warning: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WarningLine {
    warning: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorLine {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

pub(super) fn read(text: &str) -> Result<Measured, ReadErrorKind> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let Some((at, first)) = lines.next() else {
        return Err(ReadErrorKind::Empty);
    };
    // A JSON file of another kind, printed over many lines, would seem to be cut off after its first.
    if !detect::candidates(text).contains(&Format::DarwinSamples) {
        let looks_like = detect::looks_like(text);
        let why =
            format!("its first line must say `\"schema\":\"{SCHEMA}\"`, but it looks like {looks_like}");
        return Err(ReadErrorKind::WrongFormat { expected: Format::DarwinSamples, why });
    }
    let header = header(first).map_err(|kind| on_line(kind, at))?;
    let mut reading = Reading::default();
    for (at, line) in lines {
        reading.line(line).map_err(|kind| on_line(kind, at))?;
    }
    if reading.series.is_empty() {
        let why = "it has a header and no series; the harness must write a line for each bench".to_owned();
        return Err(ReadErrorKind::NoSeries { why });
    }
    Ok(Measured {
        format: Format::DarwinSamples,
        tool: header.tool,
        tool_version: header.tool_version,
        host: header.host,
        series: reading.series,
        warnings: reading.warnings,
    })
}

fn header(line: &str) -> Result<Header, ReadErrorKind> {
    let header: Header = json::parse(Format::DarwinSamples, line)?;
    if header.schema == SCHEMA {
        return Ok(header);
    }
    let found = visible(header.schema.strip_prefix("darwin-samples/").unwrap_or(&header.schema));
    Err(ReadErrorKind::UnsupportedVersion { format: Format::DarwinSamples, found, reads: "1" })
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    series: Vec<Series>,
    warnings: Vec<String>,
    taken: Taken,
}

impl Reading {
    fn line(&mut self, line: &str) -> Result<(), ReadErrorKind> {
        if !line.trim_start().starts_with('{') {
            let why = format!("it is no JSON object: it starts with `{}`", excerpt(line.trim_start(), 40));
            return Err(ReadErrorKind::WrongFormat { expected: Format::DarwinSamples, why });
        }
        let kind: Kind = json::parse_line(Format::DarwinSamples, line)?;
        if kind.schema.is_some() {
            let why = "a second header: two results in one file; read them as two".to_owned();
            return Err(ReadErrorKind::WrongFormat { expected: Format::DarwinSamples, why });
        }
        if kind.error.is_some() {
            let ErrorLine { error, name } = json::parse_line(Format::DarwinSamples, line)?;
            return Err(ReadErrorKind::BenchError {
                name: name.as_deref().map(visible),
                message: visible(&error),
            });
        }
        if kind.warning.is_some() {
            let WarningLine { warning } = json::parse_line(Format::DarwinSamples, line)?;
            self.warnings.push(visible(&warning));
            return Ok(());
        }
        self.series_line(line)
    }

    fn series_line(&mut self, line: &str) -> Result<(), ReadErrorKind> {
        if self.series.len() >= MAX_SERIES {
            return Err(ReadErrorKind::TooLarge { what: "series", found: MAX_SERIES + 1, most: MAX_SERIES });
        }
        let mut line: SeriesLine = json::parse_line(Format::DarwinSamples, line)?;
        line.name = bench_name(&line.full_name(), self.series.len() + 1, &mut self.warnings)?;
        line.params.clear();
        let series =
            Series::try_from(line).map_err(|error| ReadErrorKind::of_series(Format::DarwinSamples, error))?;
        self.taken.take(&series.name, &series.metric)?;
        self.series.push(series);
        Ok(())
    }
}

/// The error with the line of the file, where it only knows of the one line that it was given.
fn on_line(kind: ReadErrorKind, at: usize) -> ReadErrorKind {
    let number = at + 1;
    match kind {
        ReadErrorKind::Truncated { column, message, .. } => {
            ReadErrorKind::Truncated { line: number, column, message }
        }
        ReadErrorKind::BadJson { column, message, .. } => {
            ReadErrorKind::BadJson { line: number, column, message }
        }
        ReadErrorKind::WrongFormat { expected, why } => {
            // serde speaks of the only line that it saw, line 1.
            let why = why.replace(" at line 1 column ", " at column ");
            ReadErrorKind::WrongFormat { expected, why: format!("line {number}: {why}") }
        }
        ReadErrorKind::BadValue { place, value } => {
            let place = place.replace("line 1 column ", "column ");
            ReadErrorKind::BadValue { place: format!("line {number}, {place}"), value }
        }
        other => other,
    }
}

/// The result as `darwin-samples/1`, from which [`super::read`] gives back the same series.
pub fn write_samples(measured: &Measured) -> Result<String, serde_json::Error> {
    let header = Header {
        schema: SCHEMA.to_owned(),
        tool: measured.tool.clone(),
        tool_version: measured.tool_version.clone(),
        host: measured.host.clone(),
    };
    let mut text = serde_json::to_string(&header)?;
    text.push('\n');
    for series in &measured.series {
        text.push_str(&serde_json::to_string(series)?);
        text.push('\n');
    }
    for warning in &measured.warnings {
        text.push_str(&serde_json::to_string(&WarningLine { warning: warning.clone() })?);
        text.push('\n');
    }
    Ok(text)
}

/// A line that tells a reader that a bench failed; it is appended to what [`write_samples`] gave.
pub fn write_error_line(name: Option<&str>, message: &str) -> Result<String, serde_json::Error> {
    let line = ErrorLine { error: message.to_owned(), name: name.map(str::to_owned) };
    serde_json::to_string(&line).map(|text| text + "\n")
}
