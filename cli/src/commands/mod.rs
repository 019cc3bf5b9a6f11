//! One module for each command.

pub mod agent;
pub mod check;
pub mod compare;
pub mod demo;
pub mod gate;
pub mod history;
pub mod init;
pub mod job;
pub mod many;
pub mod measure;
pub mod verdict;

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
