//! What a report is about: where a job ran, and how it ended.

use std::time::Duration;

use darwin_gate::Decision;

use crate::exit_code::ExitCode;
use crate::state::Outcome;

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
    /// The CPUs that the benches ran on, as a list like `1,3-4`.
    pub cpus: Option<String>,
    /// Rounds that were measured.
    pub rounds: Option<u32>,
    /// From submission to the end.
    pub elapsed: Option<Duration>,
    /// What is there today.
    pub baseline: Option<String>,
    /// What would take its place.
    pub challenger: Option<String>,
    /// The job's id.
    pub job: Option<String>,
    /// Where the job can be looked at.
    pub url: Option<String>,
}

/// How a job ended, with all that a reader needs to know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Where, on what and for how long.
    pub header: Header,
    /// How it ended.
    pub outcome: Outcome,
}

impl Report {
    /// What the command ends with, before any wish to take INCONCLUSIVE for something else.
    pub fn exit_code(&self) -> ExitCode {
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
    /// `failed=check`, `ended=cancelled`.
    pub fn machine_line(&self) -> String {
        let job = self.header.job.as_deref().unwrap_or_default();
        let url = self.header.url.as_deref().unwrap_or_default();
        let (verdict, more) = match &self.outcome {
            Outcome::Judged(verdict) => (verdict.decision.to_string(), String::new()),
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
    use super::super::samples;

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
