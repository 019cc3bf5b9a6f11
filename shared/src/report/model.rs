//! What a report is about: where a job ran, and how it ended.

use std::time::Duration;

use darwin_gate::Decision;

use super::isolation::Isolation;
use crate::exit_code::ExitCode;
use crate::state::Outcome;
use crate::used::Used;
use crate::void::VoidRounds;

/// Where, on what and for how long. What is not known is left out of every report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The suite.
    pub suite: Option<String>,
    /// The project.
    pub project: Option<String>,
    /// The pool.
    pub pool: Option<String>,
    /// The agent that measured, which is how people know the box.
    pub agent: Option<String>,
    /// What the agent's numbers are good for: `bare-metal-isolated`, `shielded`, `dev`.
    pub tier: Option<String>,
    /// The isolation that took effect, what was read back of the benches and done for them, in the agent's line:
    /// `cpuset: CPUs 6 of node 0; …`.
    pub isolation: Option<String>,
    /// The CPUs that the benches ran on, as a list like `1,3-4`.
    pub cpus: Option<String>,
    /// Rounds that were measured.
    pub rounds: Option<u32>,
    /// How the pairs were run, in words: `sliced pairs: 30 slices of 5ms or more`.
    pub plan: Option<String>,
    /// What probes saw of the box before and after the rounds, in a line.
    pub probes: Option<String>,
    /// Rounds that were void.
    pub voids: VoidRounds,
    /// From submission to the end.
    pub elapsed: Option<Duration>,
    /// What is there today.
    pub baseline: Option<String>,
    /// What would take its place.
    pub challenger: Option<String>,
    /// The id of the image that the baseline ran in, `sha256:…`; none for processes.
    pub baseline_image: Option<String>,
    /// That of the challenger, likewise.
    pub challenger_image: Option<String>,
    /// What the processes of each side used; empty if that is not known.
    pub used: Vec<Used>,
    /// The job's id.
    pub job: Option<String>,
    /// Where the job can be looked at.
    pub url: Option<String>,
}

/// What the user takes INCONCLUSIVE for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenFor {
    /// The change may pass.
    Pass,
    /// The change may not.
    Fail,
}

/// How a job ended, with all that a reader needs to know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Where, on what and for how long.
    pub header: Header,
    /// How it ended.
    pub outcome: Outcome,
    /// What INCONCLUSIVE is taken for, if the user said.
    pub inconclusive: Option<TakenFor>,
}

impl Header {
    /// How the benches were kept apart; none if that is not known.
    pub(super) fn isolation(&self) -> Option<Isolation<'_>> {
        Isolation::read(self.isolation.as_deref()?)
    }
}

impl Report {
    /// What became of a job, with nothing said about INCONCLUSIVE.
    pub const fn new(header: Header, outcome: Outcome) -> Self {
        Self { header, outcome, inconclusive: None }
    }

    /// The same, with INCONCLUSIVE taken for what the user said.
    #[must_use]
    pub fn taking(self, inconclusive: Option<TakenFor>) -> Self {
        Self { inconclusive, ..self }
    }

    /// What an INCONCLUSIVE verdict is taken for; none for every other end.
    fn taken_for(&self) -> Option<TakenFor> {
        self.inconclusive.filter(|_| self.decision() == Some(Decision::Inconclusive))
    }

    /// What the command ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self.taken_for() {
            Some(TakenFor::Pass) => return ExitCode::Success,
            Some(TakenFor::Fail) => return ExitCode::Rejected,
            None => {}
        }
        match &self.outcome {
            Outcome::Judged(verdict) => verdict.decision.into(),
            Outcome::Measured(_) => ExitCode::Success,
            Outcome::Failed(_) => ExitCode::JobFailed,
            Outcome::Cancelled { .. } | Outcome::Expired => ExitCode::Cancelled,
            Outcome::Parked { .. } => ExitCode::NotOk,
        }
    }

    /// The decision, if the gate spoke.
    pub fn decision(&self) -> Option<Decision> {
        match &self.outcome {
            Outcome::Judged(verdict) => Some(verdict.decision),
            Outcome::Measured(_)
            | Outcome::Failed(_)
            | Outcome::Cancelled { .. }
            | Outcome::Expired
            | Outcome::Parked { .. } => None,
        }
    }

    /// The line for machines: `verdict=REJECT job=… url=…`, without a line break.
    ///
    /// Where the gate did not speak the verdict is `NONE`, and one more key says what happened: `measured=4`,
    /// `failed=check`, `ended=cancelled`. An INCONCLUSIVE that is taken for something else has `inconclusive=pass` or
    /// `fail`, which says why the exit code is not its own.
    pub fn machine_line(&self) -> String {
        let job = self.header.job.as_deref().unwrap_or_default();
        let url = self.header.url.as_deref().unwrap_or_default();
        let (verdict, more) = match &self.outcome {
            Outcome::Judged(verdict) => {
                let taken = match self.taken_for() {
                    Some(TakenFor::Pass) => " inconclusive=pass",
                    Some(TakenFor::Fail) => " inconclusive=fail",
                    None => "",
                };
                (verdict.decision.to_string(), taken.to_owned())
            }
            Outcome::Measured(series) => ("NONE".to_owned(), format!(" measured={}", series.len())),
            Outcome::Failed(failure) => ("NONE".to_owned(), format!(" failed={}", failure.stage)),
            Outcome::Cancelled { .. } => ("NONE".to_owned(), " ended=cancelled".to_owned()),
            Outcome::Expired => ("NONE".to_owned(), " ended=expired".to_owned()),
            Outcome::Parked { .. } => ("NONE".to_owned(), " ended=parked".to_owned()),
        };
        format!("verdict={verdict} job={job}{more} url={url}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{json, samples};
    use super::*;

    #[test]
    fn code_line_and_json_agree_on_what_inconclusive_is_taken_for() {
        for (name, report) in samples::all() {
            for taken in [None, Some(TakenFor::Pass), Some(TakenFor::Fail)] {
                let report = report.clone().taking(taken);
                let code = report.exit_code().number();
                assert_eq!(json(&report)["exit_code"], code, "{name}");
                let (wanted, word) = match (name, taken) {
                    ("inconclusive", Some(TakenFor::Pass)) => (0, Some("inconclusive=pass")),
                    ("inconclusive", Some(TakenFor::Fail)) => (1, Some("inconclusive=fail")),
                    _ => (report.clone().taking(None).exit_code().number(), None),
                };
                assert_eq!(code, wanted, "{name}");
                let line = report.machine_line();
                assert_eq!(line.split(' ').find(|word| word.starts_with("inconclusive")), word, "{line}");
            }
        }
    }

    #[test]
    fn every_end_has_its_code_and_line() {
        let lines: Vec<String> = samples::all()
            .iter()
            .map(|(name, report)| {
                format!("{name}: {} -> {}", report.machine_line(), report.exit_code().number())
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
