//! The report on a terminal: aligned columns, the decision last, where the eye is.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use darwin_gate::{Decision, Verdict};

use super::hint::failure_hint;
use super::lines::{self, Row, Tone};
use super::model::Report;
use super::text::{log_lines, shorten_apart};
use super::used;
use crate::state::{Failure, FailureCause, MeasuredSeries, Outcome};
use crate::text::visible;

/// The longest bench name in a table: with the other columns it fills a line of 130 characters.
const MAX_BENCH_CHARS: usize = 48;
/// So many of a failed stage's last lines are shown; the whole log is one command away.
const MAX_LOG_LINES: usize = 20;
/// Remarks are sentences: longer lines are hard to read, whatever the terminal has room for.
const MAX_REMARK_CHARS: usize = 110;
/// So many reasons for not gating are told apart; the rest is counted.
const MAX_REASONS: usize = 3;

/// How the human report is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub struct HumanOptions {
    /// Whether to colour the words that decide.
    pub colour: bool,
    /// Whether to show what is not gated, the method, whole names and all of the isolation too.
    pub all: bool,
}

/// The report for a terminal, with a line break at its end.
pub fn human(report: &Report, options: HumanOptions) -> String {
    let mut out = String::new();
    let head = [
        Some(lines::header_line(&report.header)),
        lines::variants_line(&report.header),
        lines::plan_line(&report.header),
        lines::isolation_line(&report.header).filter(|_| options.all),
        lines::probes_line(&report.header),
        lines::voids_line(report),
    ];
    for line in head.into_iter().flatten() {
        if !line.is_empty() {
            push_line(&mut out, &line);
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    match &report.outcome {
        Outcome::Judged(verdict) => judged(&mut out, report, verdict, options),
        Outcome::Measured(series) => measured(&mut out, report, series, options),
        Outcome::Failed(failure) => failed(&mut out, report, failure, options),
        Outcome::Cancelled { by } => {
            ended(&mut out, options, "CANCELLED", &format!("by {}; nothing was judged", visible(by)));
        }
        Outcome::Expired => {
            ended(&mut out, options, "EXPIRED", "it waited longer than it may; nothing was judged");
        }
        Outcome::Parked { why } => ended(&mut out, options, "PARKED", &parked_text(why)),
    }
    out
}

pub(super) fn parked_text(why: &str) -> String {
    format!("nothing was judged: {}", visible(why))
}

fn judged(out: &mut String, report: &Report, verdict: &Verdict, options: HumanOptions) {
    let mut rows = lines::gated_rows(verdict);
    if options.all {
        rows.extend(lines::other_rows(verdict));
    }
    findings_table(out, &rows, options);
    if !options.all {
        not_gated(out, verdict);
    }
    used_by_a_process(out, report, options);
    let tone = match verdict.decision {
        Decision::Approve => Tone::Good,
        Decision::Reject => Tone::Bad,
        Decision::Inconclusive => Tone::Open,
    };
    let word = painted(&verdict.decision.to_string(), tone, true, options.colour);
    push_line(out, &format!("{word}  {}", lines::decision_text(verdict)));
    for (title, text) in lines::remarks(verdict) {
        push_wrapped(out, &format!("{title}: {text}"));
    }
    if options.all {
        push_line(out, &format!("  ({})", lines::method_line(verdict)));
    }
}

fn findings_table(out: &mut String, rows: &[Row], options: HumanOptions) {
    let names: Vec<String> = rows.iter().map(|row| row.bench.clone()).collect();
    let names = if options.all { names } else { shorten_apart(&names, MAX_BENCH_CHARS) };
    let cells = rows.iter().zip(names).map(|(row, name)| {
        let delta = format!("({})", row.delta);
        vec![row.metric.clone(), name, row.values.clone(), delta, row.interval.clone()]
    });
    // The last column is painted after the layout, so that colours do not count as width.
    let last = rows.iter().map(|row| painted(&row.class, row.tone, false, options.colour)).collect();
    table(out, cells.collect(), last);
}

fn not_gated(out: &mut String, verdict: &Verdict) {
    let reasons = lines::not_gated(verdict);
    if reasons.is_empty() {
        return;
    }
    let total: usize = reasons.iter().map(|(count, _)| count).sum();
    let told = if let [(_, why)] = reasons.as_slice() {
        why.clone()
    } else {
        let mut told: Vec<String> =
            reasons.iter().take(MAX_REASONS).map(|(count, why)| format!("{count}: {why}")).collect();
        if reasons.len() > MAX_REASONS {
            told.push("the rest: other reasons".to_owned());
        }
        told.join("; ")
    };
    push_line(out, &format!("  Not gated: {total} series ({told}); --verbose shows them\n"));
}

/// One line of what the processes used; all of it in a table, if all was asked for.
fn used_by_a_process(out: &mut String, report: &Report, options: HumanOptions) {
    let Some(line) = used::line(&report.header) else { return };
    if !options.all {
        push_wrapped(out, &line);
        out.push('\n');
        return;
    }
    push_line(out, "  Used by a process (median):");
    let rows = used::rows(&report.header);
    let last = rows.iter().map(|row| painted(&row[2], Tone::Quiet, false, options.colour)).collect();
    table(out, rows.iter().map(|[what, values, _]| vec![what.clone(), values.clone()]).collect(), last);
}

fn measured(out: &mut String, report: &Report, series: &[MeasuredSeries], options: HumanOptions) {
    let rows: Vec<[String; 5]> = series.iter().map(lines::measured_row).collect();
    let names: Vec<String> = rows.iter().map(|row| row[1].clone()).collect();
    let names = if options.all { names } else { shorten_apart(&names, MAX_BENCH_CHARS) };
    let cells = rows.iter().zip(names).map(|([metric, _, center, range, _], name)| {
        vec![metric.clone(), name, center.clone(), range.clone()]
    });
    let last = rows.iter().map(|row| painted(&row[4], Tone::Quiet, false, options.colour)).collect();
    table(out, cells.collect(), last);
    used_by_a_process(out, report, options);
    ended(
        out,
        options,
        "MEASURED",
        &format!("{} series, the median and range of all invocations", series.len()),
    );
}

fn failed(out: &mut String, report: &Report, failure: &Failure, options: HumanOptions) {
    let word = painted("FAILED", Tone::Bad, true, options.colour);
    push_line(out, &format!("{word}  {}", lines::failure_text(&report.header, failure)));
    let log = log_lines(&failure.log_tail, MAX_LOG_LINES);
    match (log.is_empty(), &failure.cause) {
        (false, _) => push_line(out, "\n  The last of what it wrote:"),
        (true, FailureCause::NotStarted(_) | FailureCause::BadArtifact(_)) => {}
        (true, _) => push_line(out, "  It wrote nothing."),
    }
    for line in &log {
        // The bar keeps a line that looks like a command of the CI's from being one.
        push_line(out, format!("  | {line}").trim_end());
    }
    if let Some(job) = report.header.job.as_deref().filter(|_| !log.is_empty()) {
        push_line(out, &format!("  All that is kept of it: darwin job logs {}", visible(job)));
    }
    if let Some(hint) = failure_hint(failure) {
        push_wrapped(out, &format!("To mend it: {hint}"));
    }
}

fn ended(out: &mut String, options: HumanOptions, word: &str, text: &str) {
    let word = painted(word, Tone::Quiet, true, options.colour);
    push_line(out, &format!("{word}  {text}"));
}

/// Aligned columns, two blanks in, with a blank line after them; nothing for no rows.
fn table(out: &mut String, cells: Vec<Vec<String>>, last: Vec<String>) {
    if cells.is_empty() {
        return;
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).add_rows(cells);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    for (line, last) in table.lines().zip(last) {
        push_line(out, &format!("  {}", format!("{line}{last}").trim_end()));
    }
    out.push('\n');
}

fn push_line(out: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

/// A remark of several lines, each two blanks in and those after the first four.
fn push_wrapped(out: &mut String, text: &str) {
    let mut line = String::from(" ");
    let mut chars = line.len();
    for word in text.split(' ') {
        let more = 1 + word.chars().count();
        if chars + more > MAX_REMARK_CHARS && !line.trim().is_empty() {
            push_line(out, &line);
            line = String::from("   ");
            chars = line.len();
        }
        line.push(' ');
        line.push_str(word);
        chars += more;
    }
    push_line(out, &line);
}

fn painted(text: &str, tone: Tone, bold: bool, colour: bool) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Open => "33",
        Tone::Quiet if bold => "1",
        Tone::Quiet => "2",
    };
    let bold = if bold && tone != Tone::Quiet { "1;" } else { "" };
    format!("\u{1b}[{bold}{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_report_reads_well() {
        for (name, report) in samples::all() {
            insta::assert_snapshot!(format!("human-{name}"), human(&report, HumanOptions::default()));
        }
    }

    #[test]
    fn all_of_it_and_in_colour() {
        let report = samples::rejected();
        insta::assert_snapshot!("human-all", human(&report, HumanOptions { all: true, colour: false }));
        let coloured = human(&report, HumanOptions { all: false, colour: true });
        insta::assert_snapshot!("human-colour", coloured.replace('\u{1b}', "ESC"));
    }

    #[test]
    fn no_control_character_gets_through() {
        let shown = human(&samples::nasty(), HumanOptions { all: true, colour: false });
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    }
}
