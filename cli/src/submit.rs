//! Submits a job and, unless it is to be left alone, waits for its end.

use darwin_proto::v1::{JobSpec as WireSpec, SubmitRequest};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::Report;
use darwin_shared::spec::JobSpec;

use crate::failure::{Failed, call};
use crate::follow::{OnInterrupt, Stops, client, follow, submitter};
use crate::pack::Blobs;
use crate::session::Session;
use crate::ui::Ui;
use crate::upload;

/// The request for a job, with an id of its own: sent again, it makes no second job.
pub(crate) fn request(spec: &JobSpec) -> SubmitRequest {
    SubmitRequest {
        request_id: format!("{:032x}", rand::random::<u128>()),
        spec: Some(WireSpec::from(spec.clone())),
        submitter: submitter(),
    }
}

/// Sends what is lacking, then the job; gives its id.
pub(crate) async fn submit(
    session: &Session,
    spec: &JobSpec,
    blobs: &Blobs,
    ui: &Ui,
) -> Result<String, Failed> {
    let sent = upload::send(session.channel(), session.url(), blobs).await?;
    if sent.blobs > 0 {
        ui.hint(&format!("sent {} files, {} KiB", sent.blobs, sent.size_bytes.div_ceil(1024)));
    }
    let answer = client(session.channel()).submit(request(spec)).await.map_err(call(session.url()))?;
    Ok(answer.into_inner().job_id)
}

/// Submits and waits for the report.
pub(crate) async fn submit_and_wait(
    session: &Session,
    spec: &JobSpec,
    blobs: &Blobs,
    ui: &Ui,
) -> Result<Report, Failed> {
    // Before the job exists: from then on Ctrl-C must find somebody who cancels it.
    let mut stops = Stops::listen()?;
    let job_id = submit(session, spec, blobs, ui).await?;
    follow(session, &job_id, ui, &mut stops, OnInterrupt::Cancel).await
}

/// Submits, says the id, and goes.
pub(crate) async fn submit_and_leave(
    session: &Session,
    spec: &JobSpec,
    blobs: &Blobs,
    ui: &Ui,
) -> Result<ExitCode, Failed> {
    let job_id = submit(session, spec, blobs, ui).await?;
    ui.hint(&format!("submitted; darwin job watch {job_id} follows it"));
    ui.submitted(&job_id)?;
    Ok(ExitCode::Success)
}
