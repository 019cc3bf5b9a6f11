//! `darwin verdict show`: a past verdict.

use darwin_gate::Verdict;
use darwin_proto::MAX_MESSAGE_BYTES;
use darwin_proto::v1::verdicts_client::VerdictsClient;
use darwin_proto::v1::{GetVerdictRequest, GetVerdictResponse};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::{Header, Report};
use darwin_shared::state::Outcome;

use super::job::get;
use crate::args::VerdictCommand;
use crate::failure::{Failed, call};
use crate::session::Session;
use crate::ui::Ui;

/// Does what is asked. The exit code says whether it could be shown, not what the verdict was.
pub(crate) async fn run(command: &VerdictCommand, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let VerdictCommand::Show(id) = command;
    let mut client = VerdictsClient::new(session.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    // Its first characters will do, as everywhere.
    let job_id = get(&id.job, session).await?.job_id;
    let request = GetVerdictRequest { job_id };
    let answer = client.get(request).await.map_err(call(session.url()))?.into_inner();
    ui.report(&report(answer)?);
    Ok(ExitCode::Success)
}

fn report(answer: GetVerdictResponse) -> Result<Report, Failed> {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let verdict = answer.verdict.ok_or_else(|| Failed::protocol("an answer", "it has no verdict"))?;
    let verdict = Verdict::try_from(verdict).map_err(|e| Failed::protocol("a verdict", e))?;
    let header = Header {
        suite: some(answer.suite),
        project: some(answer.project),
        agent: some(answer.agent),
        rounds: Some(verdict.pairs),
        baseline: some(answer.baseline),
        challenger: some(answer.challenger),
        job: some(answer.job_id),
        ..Header::default()
    };
    Ok(Report { header, outcome: Outcome::Judged(Box::new(verdict)) })
}
