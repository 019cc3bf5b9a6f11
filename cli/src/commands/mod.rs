//! One module for each command.

pub(crate) mod agent;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod gate;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod job;
pub(crate) mod many;
pub(crate) mod measure;
pub(crate) mod verdict;

use darwin_gate::Decision;
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::Report;

use crate::args::Inconclusive;

/// The report's code, with INCONCLUSIVE taken for what the user wants.
fn judged_code(report: &Report, inconclusive: Option<Inconclusive>) -> ExitCode {
    match (report.decision(), inconclusive) {
        (Some(Decision::Inconclusive), Some(Inconclusive::Pass)) => ExitCode::Success,
        (Some(Decision::Inconclusive), Some(Inconclusive::Fail)) => ExitCode::Rejected,
        _ => report.exit_code(),
    }
}
