//! The report as Markdown for GitHub and its kin: a table, with what is not gated folded away.
//!
//! Strangers' texts stand in `<code>` with every character that could be markup as an entity: no table breaks,
//! no image loads, nobody is mentioned.

use std::fmt::Write as _;

use darwin_gate::{Decision, Verdict};

use super::hint::failure_hint;
use super::human::parked_text;
use super::lines::{self, Row, Tone};
use super::model::Report;
use super::text::log_lines;
use super::used;
use crate::state::{Failure, MeasuredSeries, Outcome};

/// A comment on GitHub may have 65,536 characters; some room is left for what others put around it.
pub const MAX_MARKDOWN_CHARS: usize = 65_000;
/// So many of a failed stage's last lines are shown.
const MAX_LOG_LINES: usize = 60;
/// Kept free for the closing of a cut report.
const RESERVED_CHARS: usize = 2_000;

/// The report as Markdown, at most [`MAX_MARKDOWN_CHARS`] long: the decision comes first, rows that do not fit are counted.
pub fn markdown(report: &Report) -> String {
    let mut out = Page::default();
    match &report.outcome {
        Outcome::Judged(verdict) => judged(&mut out, report, verdict),
        Outcome::Measured(series) => measured(&mut out, report, series),
        Outcome::Failed(failure) => failed(&mut out, report, failure),
        Outcome::Cancelled { by } => {
            out.title(report, "⚪ CANCELLED", &format!("by {}; nothing was judged", code(by)));
        }
        Outcome::Expired => {
            out.title(report, "⚪ EXPIRED", "it waited longer than it may; nothing was judged");
        }
        Outcome::Parked { why } => out.title(report, "⚪ PARKED", &escaped(&parked_text(why))),
    }
    out.text
}

#[derive(Default)]
struct Page {
    text: String,
    chars: usize,
}

impl Page {
    fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
        self.chars += line.chars().count() + 1;
    }

    fn title(&mut self, report: &Report, word: &str, text: &str) {
        self.line(&format!("### {word} — {text}"));
        self.line("");
        let header = lines::header_line(&report.header);
        if !header.is_empty() {
            self.line(&escaped(&header));
            self.line("");
        }
        if let Some(variants) = lines::variants_line(&report.header) {
            self.line(&code(&variants));
            self.line("");
        }
        if let Some(plan) = lines::plan_line(&report.header) {
            self.line(&escaped(&plan));
            self.line("");
        }
        if let Some(isolation) = lines::isolation_line(&report.header) {
            self.line("<details><summary>Isolation</summary>");
            self.line("");
            self.line(&escaped(&isolation));
            self.line("");
            self.line("</details>");
            self.line("");
        }
        if let Some(probes) = lines::probes_line(&report.header) {
            self.line(&escaped(&probes));
            self.line("");
        }
        if let Some(voids) = lines::voids_line(report) {
            self.line(&escaped(&voids));
            self.line("");
        }
    }

    /// What the processes used, if that is known.
    fn used(&mut self, report: &Report) {
        if let Some(line) = used::line(&report.header) {
            self.line(&escaped(&line.replace("->", "→")));
            self.line("");
        }
    }

    /// A table, as far as it fits.
    fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.line(&format!("| {} |", head.join(" | ")));
        self.line(&format!("|{}", "---|".repeat(head.len())));
        for (at, row) in rows.iter().enumerate() {
            let line = format!("| {} |", row.join(" | "));
            if self.chars + line.chars().count() > MAX_MARKDOWN_CHARS - RESERVED_CHARS {
                self.line("");
                self.line(&format!("… and {} more, left out for length", rows.len() - at));
                break;
            }
            self.line(&line);
        }
        self.line("");
    }
}

fn judged(out: &mut Page, report: &Report, verdict: &Verdict) {
    let mark = match verdict.decision {
        Decision::Approve => "🟢",
        Decision::Reject => "🔴",
        Decision::Inconclusive => "🟡",
    };
    out.title(report, &format!("{mark} {}", verdict.decision), &escaped(&lines::decision_text(verdict)));
    // These come before the table: they are what must not be cut.
    for (title, text) in lines::remarks(verdict) {
        out.line(&format!("**{title}:** {}", escaped(&text)));
        out.line("");
    }
    let gated = lines::gated_rows(verdict);
    if !gated.is_empty() {
        out.table(FINDING_HEAD, &gated.iter().map(finding_cells).collect::<Vec<_>>());
    }
    let others = lines::other_rows(verdict);
    if !others.is_empty() {
        out.line(&format!("<details><summary>Not gated: {} series</summary>", others.len()));
        out.line("");
        out.table(FINDING_HEAD, &others.iter().map(finding_cells).collect::<Vec<_>>());
        out.line("</details>");
        out.line("");
    }
    out.used(report);
    out.line(&format!("<sub>{}</sub>", escaped(&lines::method_line(verdict))));
}

const FINDING_HEAD: &[&str] = &["Metric", "Bench", "Baseline → challenger", "Change", "Interval", "Finding"];

fn finding_cells(row: &Row) -> Vec<String> {
    let class = match row.tone {
        Tone::Good => format!("🟢 **{}**", escaped(&row.class)),
        Tone::Bad => format!("🔴 **{}**", escaped(&row.class)),
        Tone::Open => format!("🟡 {}", escaped(&row.class)),
        Tone::Quiet => escaped(&row.class),
    };
    let values = row.values.replace("->", "→");
    vec![
        escaped(&row.metric),
        code(&row.bench),
        values,
        format!("**{}**", row.delta),
        escaped(&row.interval),
        class,
    ]
}

fn measured(out: &mut Page, report: &Report, series: &[MeasuredSeries]) {
    out.title(report, "⚪ MEASURED", &format!("{} series", series.len()));
    let rows: Vec<Vec<String>> = series
        .iter()
        .map(|series| {
            let [metric, bench, center, range, effort] = lines::measured_row(series);
            vec![escaped(&metric), code(&bench), center, escaped(&range), effort]
        })
        .collect();
    out.table(&["Metric", "Bench", "Median", "Range", "From"], &rows);
    out.used(report);
}

fn failed(out: &mut Page, report: &Report, failure: &Failure) {
    out.title(report, "🔴 FAILED", &escaped(&lines::failure_text(&report.header, failure)));
    if let Some(hint) = failure_hint(failure) {
        out.line(&escaped(&format!("To mend it: {hint}")));
        out.line("");
    }
    let log = log_lines(&failure.log_tail, MAX_LOG_LINES);
    if log.is_empty() {
        return;
    }
    out.line("The last of what it wrote:");
    out.line("");
    out.line("<pre>");
    for line in log {
        let line = escaped(&line);
        if out.chars + line.chars().count() > MAX_MARKDOWN_CHARS - RESERVED_CHARS {
            out.line("…");
            break;
        }
        // An empty line would end the block of HTML, and Markdown would begin again in the middle of the log.
        out.line(if line.trim().is_empty() { "&#32;" } else { &line });
    }
    out.line("</pre>");
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// `text` with all that Markdown or HTML could act on as entities.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in crate::text::visible(text).chars() {
        match c {
            '<' | '>' | '&' | '"' | '\'' | '|' | '`' | '*' | '_' | '[' | ']' | '!' | '#' | '~' | '\\'
            | '@' | '$' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            // A bare address would become a link by itself.
            ':' => out.push_str("&#58;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_report_reads_well() {
        for (name, report) in samples::all() {
            insta::assert_snapshot!(format!("markdown-{name}"), markdown(&report));
        }
    }

    #[test]
    fn no_name_becomes_markup() {
        let text = markdown(&samples::nasty());
        assert!(!text.contains("<img") && !text.contains("@everyone") && !text.contains("](http"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(rows.iter().all(|row| row.matches('|').count() == 7), "{rows:#?}");
    }

    #[test]
    fn a_huge_report_fits_and_keeps_the_decision() {
        let text = markdown(&samples::huge(5_000));
        assert!(text.chars().count() <= MAX_MARKDOWN_CHARS);
        assert!(text.starts_with("### 🔴 REJECT"), "{}", &text[..100]);
        assert!(text.contains("more, left out for length"));
        assert!(text.contains("**Note&#58;**") || text.contains("**Note:**"));
    }
}
