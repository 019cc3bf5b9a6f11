//! The report for GitHub's workflow: annotations as commands in the log, and a job summary.

use std::fmt::Write as _;

use darwin_gate::{Decision, FindingClass, Verdict};

use super::human::parked_text;
use super::lines;
use super::markdown::markdown;
use super::model::Report;
use crate::state::Outcome;

/// GitHub shows at most ten annotations of a kind for a step; one of them is the verdict's.
const MAX_FINDING_ANNOTATIONS: usize = 9;
/// An annotation is a line or two, not a log.
const MAX_MESSAGE_CHARS: usize = 1_000;

/// What GitHub gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubReport {
    /// Workflow commands, one a line, for the log (standard output).
    pub annotations: String,
    /// Markdown for the job summary; at most [`super::MAX_MARKDOWN_CHARS`].
    pub summary: String,
}

/// The report for GitHub's workflow log and job summary.
pub fn github(report: &Report) -> GithubReport {
    let mut annotations = String::new();
    let suite = report.header.suite.as_deref().unwrap_or("darwin");
    match &report.outcome {
        Outcome::Judged(verdict) => judged(&mut annotations, suite, verdict),
        Outcome::Measured(series) => {
            command(&mut annotations, "notice", suite, &format!("measured {} series", series.len()));
        }
        Outcome::Failed(failure) => {
            command(&mut annotations, "error", suite, &lines::failure_text(&report.header, failure));
        }
        Outcome::Cancelled { by } => {
            command(&mut annotations, "warning", suite, &format!("cancelled by {by}; nothing was judged"));
        }
        Outcome::Expired => {
            command(&mut annotations, "warning", suite, "it waited longer than it may; nothing was judged");
        }
        Outcome::Parked { why } => command(&mut annotations, "error", suite, &parked_text(why)),
    }
    GithubReport { annotations, summary: markdown(report) }
}

fn judged(out: &mut String, suite: &str, verdict: &Verdict) {
    let level = match verdict.decision {
        Decision::Approve => "notice",
        Decision::Reject => "error",
        Decision::Inconclusive => "warning",
    };
    command(out, level, &format!("{suite}: {}", verdict.decision), &lines::decision_text(verdict));
    let slower = lines::sorted(verdict).into_iter().filter(|finding| finding.class == FindingClass::Slower);
    for finding in slower.take(MAX_FINDING_ANNOTATIONS) {
        let row = lines::row(finding);
        let text = format!("{} {} {} ({}) {}", row.metric, row.bench, row.values, row.delta, row.interval);
        command(out, "error", &format!("{suite}: slower"), &text);
    }
}

fn command(out: &mut String, level: &str, title: &str, message: &str) {
    let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "::{level} title={}::{}", property(title), data(&message));
}

/// Escapes as the runner undoes it, so that no text can end the line and begin another command.
fn data(text: &str) -> String {
    crate::text::visible(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_MARKDOWN_CHARS, samples};
    use super::*;

    #[test]
    fn every_report_has_its_annotations() {
        for (name, report) in samples::all() {
            insta::assert_snapshot!(format!("github-{name}"), github(&report).annotations);
        }
    }

    #[test]
    fn no_name_begins_a_command() {
        let report = github(&samples::nasty());
        for line in report.annotations.lines() {
            assert!(
                ["::error ", "::warning ", "::notice "].iter().any(|known| line.starts_with(known)),
                "{line}"
            );
        }
    }

    #[test]
    fn a_huge_report_stays_within_what_github_takes() {
        let report = github(&samples::huge(5_000));
        assert_eq!(report.annotations.lines().count(), 1 + MAX_FINDING_ANNOTATIONS);
        assert!(report.summary.chars().count() <= MAX_MARKDOWN_CHARS);
    }
}
