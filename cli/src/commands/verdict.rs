//! `darwin verdict show`: a past verdict.

use darwin_proto::v1;
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::visible;

use super::job::get;
use crate::args::VerdictCommand;
use crate::failure::Failed;
use crate::job::{Seen, report, state_word};
use crate::session::Session;
use crate::ui::Ui;

/// Shows how the job ended: the verdict, or what kept the gate from speaking. The exit code says whether it could be
/// shown, not what the verdict was.
pub(crate) async fn run(command: &VerdictCommand, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let VerdictCommand::Show(id) = command;
    let job = get(&id.job, session).await?;
    let Some(report) = report(&job, &Seen::default())? else { return Err(none_yet(&job)) };
    ui.report(&report);
    Ok(ExitCode::Success)
}

fn none_yet(job: &v1::Job) -> Failed {
    let why = if job.waits_for.is_empty() { String::new() } else { format!(", {}", visible(&job.waits_for)) };
    let (id, state) = (&job.job_id, state_word(job));
    Failed::usage(format!(
        "job {id} has no verdict yet: it is {state}{why}; darwin job watch {id} follows it"
    ))
    .about(id)
}
