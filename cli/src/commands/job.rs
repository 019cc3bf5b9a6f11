//! `darwin job`: the queue.

use darwin_proto::v1::{
    self, CancelJobRequest, GetJobRequest, ListJobsRequest, LogsRequest, RetryJobRequest,
};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::{Isolation, shorten};
use darwin_shared::units::format_utc;
use serde_json::{Value, json};

use crate::args::{JobCommand, JobListArgs};
use crate::failure::{Failed, call};
use crate::follow::{OnInterrupt, Stops, client, follow, submitter};
use crate::job::{Seen, header, is_unlimited, report, state_word, voids_so_far};
use crate::session::Session;
use crate::ui::{Ui, table, to_stdout};

/// The longest summary in a list; `darwin job show` has the whole of it.
const MAX_SUMMARY_CHARS: usize = 80;

/// Does what is asked.
pub(crate) async fn run(command: &JobCommand, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    match command {
        JobCommand::List(args) => list(args, session, ui).await,
        JobCommand::Show(id) => show(&id.job, session, ui).await,
        JobCommand::Watch(id) => watch(&id.job, session, ui).await,
        JobCommand::Logs { job, follow } => logs(&job.job, *follow, session, ui).await,
        JobCommand::Cancel { jobs } => cancel(jobs, session, ui).await,
        JobCommand::Retry(id) => retry(&id.job, session, ui).await,
        JobCommand::Probe(args) => super::probe::run(args, session, ui).await,
    }
}

/// The job of this id, or of the one id that begins so.
pub(super) async fn get(job: &str, session: &Session) -> Result<v1::Job, Failed> {
    let request = GetJobRequest { job_id: job.to_owned() };
    Ok(client(session.channel()).get(request).await.map_err(call(session.url()))?.into_inner())
}

async fn list(args: &JobListArgs, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let request = ListJobsRequest {
        project: args.project.clone().unwrap_or_default(),
        suite: args.suite.clone().unwrap_or_default(),
        states: args.state.clone(),
        limit: args.limit,
        before: args.before.clone().unwrap_or_default(),
    };
    let page = client(session.channel()).list(request).await.map_err(call(session.url()))?.into_inner();
    let human = || {
        if page.jobs.is_empty() {
            return "no jobs\n".to_owned();
        }
        let rows = page.jobs.iter().map(|job| {
            let what = format!("{}/{}", job.project, job.suite);
            let submitted = format_utc(job.submitted_unix_ms);
            vec![
                job.job_id.clone(),
                job.state.clone(),
                job.kind.clone(),
                what,
                job.variants.join(" -> "),
                job.agent.clone(),
                submitted,
                shorten(&job.summary, MAX_SUMMARY_CHARS),
            ]
        });
        let text = table(
            &["JOB", "STATE", "KIND", "SUITE", "VARIANTS", "BOX", "SUBMITTED (UTC)", ""],
            rows.collect(),
        );
        match page.jobs.last() {
            Some(last) if page.more => format!("{text}more: --before {}\n", last.job_id),
            _ => text,
        }
    };
    let json = || json!({ "schema": "darwin-jobs/1", "more": page.more, "jobs": page.jobs.iter().map(summary_json).collect::<Value>() });
    ui.show("job list", human, json)?;
    Ok(ExitCode::Success)
}

fn summary_json(job: &v1::JobSummary) -> Value {
    json!({
        "job_id": job.job_id,
        "kind": job.kind,
        "project": job.project,
        "suite": job.suite,
        "state": job.state,
        "variants": job.variants,
        "agent": job.agent,
        "submitted_unix_ms": job.submitted_unix_ms,
        "finished_unix_ms": Some(job.finished_unix_ms).filter(|ms| *ms > 0),
        "summary": job.summary,
    })
}

/// A finished job's report in full, or how far it is. The exit code says whether it could be shown, not its end.
async fn show(job: &str, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let job = get(job, session).await?;
    if let Some(report) = report(&job, &Seen::default())? {
        ui.report(&report);
        return Ok(ExitCode::Success);
    }
    ui.show("job show", || human(&job), || job_json(&job))?;
    Ok(ExitCode::Success)
}

fn human(job: &v1::Job) -> String {
    let header = header(job);
    let mut rows = vec![
        ("job", job.job_id.clone()),
        ("state", state_word(job).to_owned()),
        ("suite", format!("{}/{}", header.project.unwrap_or_default(), header.suite.unwrap_or_default())),
        ("baseline", header.baseline.unwrap_or_default()),
        ("challenger", header.challenger.unwrap_or_default()),
        ("submitted", format!("{} UTC by {}", format_utc(job.submitted_unix_ms), job.submitter)),
        ("waits", job.waits_for.clone()),
        (
            "before it",
            Some(job.queue_position).filter(|jobs| *jobs > 0).map(|n| n.to_string()).unwrap_or_default(),
        ),
    ];
    if let Some(progress) = &job.progress {
        rows.push(("phase", progress.phase.clone()));
        let most = Some(progress.rounds_max).filter(|_| !is_unlimited(progress));
        let most = most.map(|most| format!(" of at most {most}")).unwrap_or_default();
        rows.push(("rounds", format!("{}{most}", progress.rounds_done)));
        rows.push(("gate", progress.gate.clone()));
        rows.push(("cores", progress.cpus.clone()));
        let voids = voids_so_far(progress).map(|voids| voids.to_string()).unwrap_or_default();
        rows.push(("void rounds", voids));
    }
    for attempt in &job.attempts {
        let end = if attempt.ended.is_empty() { "under way" } else { &attempt.ended };
        rows.push(("attempt", format!("{} at {}: {end}", attempt.number, attempt.agent)));
        // What another version says otherwise is shown in its own words.
        let told = Isolation::read(&attempt.placement).map(|isolation| isolation.to_string());
        rows.push(("isolation", told.unwrap_or_else(|| attempt.placement.clone())));
    }
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    table(&["", ""], rows.map(|(name, value)| vec![name.to_owned(), value]).collect())
        .trim_start_matches('\n')
        .to_owned()
}

fn job_json(job: &v1::Job) -> Value {
    let header = header(job);
    json!({
        "schema": "darwin-job/1",
        "job_id": job.job_id,
        "state": state_word(job),
        "project": header.project,
        "suite": header.suite,
        "baseline": header.baseline,
        "challenger": header.challenger,
        "submitter": job.submitter,
        "submitted_unix_ms": job.submitted_unix_ms,
        "queue_position": job.queue_position,
        "waits_for": job.waits_for,
        "attempts": job.attempts.iter().map(|attempt| json!({
            "number": attempt.number,
            "agent": attempt.agent,
            "ended": Some(&attempt.ended).filter(|ended| !ended.is_empty()),
            "isolation": Isolation::read(&attempt.placement).map(|isolation| isolation.level.as_str()),
            "isolation_facts": isolation_facts(attempt),
        })).collect::<Value>(),
        "progress": job.progress.as_ref().map(|progress| json!({
            "phase": progress.phase,
            "rounds_done": progress.rounds_done,
            "rounds_max": progress.rounds_max,
            "next_look_rounds": progress.next_look,
            "gate": progress.gate,
            "cpus": progress.cpus,
            "agent": progress.agent,
            "void_rounds": voids_so_far(progress).map_or(0, |voids| voids.total()),
            "void_rounds_text": voids_so_far(progress).map(|voids| voids.to_string()),
        })),
    })
}

/// What was read back of an attempt's benches and done for them; empty before that was told.
fn isolation_facts(attempt: &v1::Attempt) -> Vec<&str> {
    Isolation::read(&attempt.placement).map(|isolation| isolation.facts().collect()).unwrap_or_default()
}

/// Follows a job and ends as `compare` would have.
async fn watch(job: &str, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let mut stops = Stops::listen()?;
    let job_id = get(job, session).await?.job_id;
    let report = follow(session, &job_id, ui, &mut stops, OnInterrupt::Leave).await?;
    ui.report(&report);
    Ok(report.exit_code())
}

/// The bytes as they were written: a log may be anything, and may be piped to a file.
async fn logs(job: &str, follow: bool, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let job = get(job, session).await?;
    let failed = call(session.url());
    let request = LogsRequest { job_id: job.job_id.clone(), follow };
    let mut chunks = client(session.channel()).logs(request).await.map_err(&failed)?.into_inner();
    let mut size_bytes = 0;
    while let Some(chunk) = chunks.message().await.map_err(&failed)? {
        size_bytes += chunk.data.len();
        to_stdout(&chunk.data)?;
    }
    if size_bytes == 0 {
        ui.hint(&no_log(&job));
    }
    Ok(ExitCode::Success)
}

/// Why there is nothing to show, which a person would else take for a fault.
fn no_log(job: &v1::Job) -> String {
    let (id, state) = (&job.job_id, state_word(job));
    match (job.state(), state) {
        (v1::JobState::Finished, "failed") => format!("what failed of job {id} wrote nothing"),
        (v1::JobState::Finished, _) => format!(
            "job {id} has ended ({state}), and its log is gone: logs are shown while a job runs, and kept only of a stage \
             that failed"
        ),
        _ => format!("job {id} has written nothing yet; --follow waits for it"),
    }
}

async fn cancel(jobs: &[String], session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let mut told = Vec::new();
    let mut failures = Vec::new();
    for job in jobs {
        // One that cannot be cancelled keeps none of the others.
        match cancel_one(job, session).await {
            Ok(cancelled) => told.push(cancelled),
            Err(failed) => failures.push(failed),
        }
    }
    let human = || {
        let how = |was_queued: bool| if was_queued { "cancelled" } else { "is being ended by its agent" };
        told.iter()
            .fold(String::new(), |text, (job_id, was_queued)| text + job_id + " " + how(*was_queued) + "\n")
    };
    let json = || {
        let jobs: Value = told
            .iter()
            .map(|(job_id, was_queued)| json!({ "job_id": job_id, "was_queued": was_queued }))
            .collect();
        json!({ "schema": "darwin-cancelled/1", "jobs": jobs })
    };
    ui.show("job cancel", human, json)?;
    let last = failures.pop();
    for failed in failures {
        ui.failed(failed);
    }
    last.map_or(Ok(ExitCode::Success), Err)
}

/// The job's whole id, and whether it was waiting.
async fn cancel_one(job: &str, session: &Session) -> Result<(String, bool), Failed> {
    let job_id = get(job, session).await?.job_id;
    let request = CancelJobRequest { job_id: job_id.clone(), by: submitter() };
    let answer = client(session.channel()).cancel(request).await.map_err(call(session.url()))?.into_inner();
    Ok((job_id, answer.was_queued))
}

async fn retry(job: &str, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let job_id = get(job, session).await?.job_id;
    let request_id = format!("{:032x}", rand::random::<u128>());
    let request = RetryJobRequest { job_id, request_id, submitter: submitter() };
    let answer = client(session.channel()).retry(request).await.map_err(call(session.url()))?.into_inner();
    ui.hint(&format!("submitted anew; darwin job watch {} follows it", answer.job_id));
    ui.submitted(&answer.job_id)?;
    Ok(ExitCode::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: v1::JobState, kind: Option<v1::outcome::Kind>) -> v1::Job {
        let outcome = Some(v1::Outcome { kind });
        v1::Job { job_id: "01J".into(), state: state.into(), outcome, ..v1::Job::default() }
    }

    #[test]
    fn a_log_that_is_not_there_says_why() {
        let measured = v1::outcome::Kind::Measured(v1::Measured::default());
        let told = no_log(&job(v1::JobState::Finished, Some(measured)));
        assert!(told.contains("(measured)") && told.contains("kept only of a stage that failed"), "{told}");
        let failed = v1::outcome::Kind::Failed(v1::Failure::default());
        assert!(no_log(&job(v1::JobState::Finished, Some(failed))).contains("wrote nothing"));
        assert!(no_log(&job(v1::JobState::Active, None)).contains("--follow"));
    }

    #[test]
    fn an_attempt_says_how_its_benches_were_kept_apart() {
        let attempt = |placement: &str| v1::Attempt {
            number: 1,
            agent: "ny4-07".into(),
            placement: placement.into(),
            ..v1::Attempt::default()
        };
        let told = |placement| {
            let job = v1::Job { attempts: vec![attempt(placement)], ..job(v1::JobState::Active, None) };
            (human(&job), job_json(&job)["attempts"][0].clone())
        };
        let (text, json) = told("cpuset: CPUs 6 of node 0; ordinary class");
        assert!(text.contains("cpuset; CPUs 6 of node 0; ordinary class"), "{text}");
        assert_eq!(json["isolation"], "cpuset");
        assert_eq!(json["isolation_facts"], json!(["CPUs 6 of node 0", "ordinary class"]));
        let (text, json) = told("enclave: of a later version");
        assert!(text.contains("enclave: of a later version") && json["isolation"].is_null(), "{text}");
        let (text, json) = told("");
        assert!(!text.contains("isolation") && json["isolation_facts"] == json!([]), "{text}");
    }
}
