//! Jobs are submitted, listed, shown, watched, cancelled and retried.

use darwin_proto::v1;
use darwin_shared::spec::JobSpec;
use tonic::Code;

use crate::support::{Place, compare, quick, soon, submission};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_makes_no_second_job() {
    let place = Place::new().await;
    let first = place.try_submit("one", quick()).await.unwrap();
    assert!(!first.known);
    let again = place.try_submit("one", quick()).await.unwrap();
    assert_eq!((again.job_id.as_str(), again.known), (first.job_id.as_str(), true));

    let other = place.try_submit("one", compare()).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    assert!(other.message().contains("`one` was used for another spec"), "{other}");

    // Without an id every call is a job of its own.
    assert_ne!(place.submit(quick()).await, place.submit(quick()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_from_many_sides_at_once_is_one_job() {
    let place = Place::new().await;
    let calls = (0..64).map(|_| place.try_submit("the one", quick()));
    let answers = futures::future::join_all(calls).await;
    let ids: std::collections::BTreeSet<String> =
        answers.iter().map(|answer| answer.as_ref().unwrap().job_id.clone()).collect();
    let new = answers.iter().filter(|answer| !answer.as_ref().unwrap().known).count();
    assert_eq!((ids.len(), new), (1, 1));
    let list = place.jobs().list(v1::ListJobsRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.jobs.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_jobs_over_one_stream_are_answered_in_order() {
    let place = Place::new().await;
    let requests: Vec<_> =
        (0..200).map(|n| submission(&format!("request {}", n / 2), Some(quick().into()))).collect();
    let answers = place.jobs().submit_many(futures::stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<v1::SubmitResponse> = futures::TryStreamExt::try_collect(answers).await.unwrap();
    assert_eq!(answers.len(), 200);
    for pair in answers.chunks(2) {
        assert_eq!((pair[0].known, pair[1].known), (false, true));
        assert_eq!(pair[0].job_id, pair[1].job_id);
    }
    assert!(answers.windows(2).all(|pair| pair[0].job_id <= pair[1].job_id), "ids grow in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_submission_is_named() {
    let place = Place::new().await;
    let wire = |spec: JobSpec| v1::JobSpec::from(spec);
    let no_cores = JobSpec { attempts: 0, ..quick() };
    let mut no_command = quick();
    no_command.steps.run.command = darwin_shared::spec::Command::Shell(" ".to_owned());
    let bad = [
        ("id", None, "`spec`"),
        ("id", Some(v1::JobSpec { project: "../etc".to_owned(), ..wire(quick()) }), "project"),
        ("id", Some(v1::JobSpec { work: None, ..wire(quick()) }), "work"),
        ("id", Some(v1::JobSpec { format: "xml".to_owned(), ..wire(quick()) }), "format"),
        ("id", Some(v1::JobSpec { policy: None, ..wire(quick()) }), "policy"),
        ("id", Some(wire(no_cores)), "attempts"),
        ("id", Some(wire(no_command)), "`run`"),
        ("with\nline", Some(wire(quick())), "`request_id`"),
    ];
    for (request_id, spec, field) in bad {
        let refused = place.jobs().submit(submission(request_id, spec)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(field), "{field} is not in: {}", refused.message());
    }
    let list = place.jobs().list(v1::ListJobsRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.jobs, [], "a refused job was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_listed_shown_watched_cancelled_and_retried() {
    let place = Place::new().await;
    let mut jobs = place.jobs();
    let mut finished = jobs
        .watch_finished(v1::WatchFinishedRequest { project: "orders".to_owned() })
        .await
        .unwrap()
        .into_inner();
    let [a, b, c] = [place.submit(quick()).await, place.submit(compare()).await, place.submit(quick()).await];

    let page = |before: &str, limit, states: &[&str]| v1::ListJobsRequest {
        project: "orders".to_owned(),
        before: before.to_owned(),
        limit,
        states: states.iter().map(|state| (*state).to_owned()).collect(),
        ..v1::ListJobsRequest::default()
    };
    let ids = |list: v1::ListJobsResponse| -> (Vec<String>, bool) {
        (list.jobs.into_iter().map(|job| job.job_id).collect(), list.more)
    };
    let first = jobs.list(page("", 2, &[])).await.unwrap().into_inner();
    assert_eq!(first.jobs[1].kind, "compare");
    assert_eq!(first.jobs[1].variants, ["old", "fast"]);
    assert_eq!(ids(first), (vec![c.clone(), b.clone()], true));
    assert_eq!(ids(jobs.list(page(&b, 2, &[])).await.unwrap().into_inner()), (vec![a.clone()], false));
    let nothing = v1::ListJobsRequest { project: "another".to_owned(), ..v1::ListJobsRequest::default() };
    assert_eq!(ids(jobs.list(nothing).await.unwrap().into_inner()), (vec![], false));
    assert_eq!(jobs.list(page("", 1001, &[])).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(jobs.list(page("nonsense", 1, &[])).await.unwrap_err().code(), Code::InvalidArgument);

    // All ids of one moment begin alike; in full and in lower case one is found.
    let shown = place.get(&b.to_lowercase()).await;
    assert_eq!((shown.job_id.as_str(), shown.state()), (b.as_str(), v1::JobState::Queued));
    assert_eq!((shown.queue_position, shown.waits_for.as_str()), (1, "no agent has connected"));
    let ambiguous = jobs.get(v1::GetJobRequest { job_id: a[..4].to_owned() }).await.unwrap_err();
    assert_eq!(ambiguous.code(), Code::InvalidArgument, "{ambiguous}");
    let unknown = v1::GetJobRequest { job_id: "01J9ZQ4T7M2N8X3V5B6C7D8E9F".to_owned() };
    assert_eq!(jobs.get(unknown).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        jobs.get(v1::GetJobRequest { job_id: "../x".to_owned() }).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let mut events = jobs.watch(v1::WatchJobRequest { job_id: b.clone() }).await.unwrap().into_inner();
    let now = soon("the state now", events.message()).await.unwrap().unwrap().job.unwrap();
    assert_eq!(now.state(), v1::JobState::Queued);
    assert!(now.spec.is_some());
    let cancel = v1::CancelJobRequest { job_id: b.clone(), by: "somebody".to_owned() };
    assert!(jobs.cancel(cancel.clone()).await.unwrap().into_inner().was_queued);
    let end = soon("the end", events.message()).await.unwrap().unwrap().job.unwrap();
    assert_eq!(end.state(), v1::JobState::Finished);
    assert!(end.spec.is_none() && end.finished_unix_ms > 0);
    let cancelled = v1::outcome::Kind::Cancelled(v1::Cancelled { by: "somebody".to_owned() });
    assert_eq!(end.outcome.and_then(|outcome| outcome.kind), Some(cancelled));
    assert_eq!(soon("the stream's end", events.message()).await.unwrap(), None);
    let told = soon("the news", finished.message()).await.unwrap().unwrap();
    assert_eq!((told.job_id.as_str(), told.state.as_str()), (b.as_str(), "cancelled"));

    let twice = jobs.cancel(cancel).await.unwrap_err();
    assert_eq!(twice.code(), Code::FailedPrecondition);
    assert!(twice.message().contains("has finished already: cancelled"), "{twice}");
    assert_eq!(
        ids(jobs.list(page("", 9, &["cancelled"])).await.unwrap().into_inner()).0,
        std::slice::from_ref(&b)
    );
    assert_eq!(ids(jobs.list(page("", 9, &["queued"])).await.unwrap().into_inner()).0, [c, a.clone()]);

    let retry = |job_id: &str| v1::RetryJobRequest {
        job_id: job_id.to_owned(),
        request_id: "again".to_owned(),
        submitter: "tester".to_owned(),
    };
    assert_eq!(jobs.retry(retry(&a)).await.unwrap_err().code(), Code::FailedPrecondition);
    let new = jobs.retry(retry(&b)).await.unwrap().into_inner();
    assert_ne!(new.job_id, b);
    assert_eq!(place.get(&new.job_id).await.spec, place.get(&b).await.spec);
    assert!(jobs.retry(retry(&b)).await.unwrap().into_inner().known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_jobs_are_listed_and_watched_after_they_have_left_memory() {
    let place = Place::new().await;
    let handle = place.handle();
    let submit = async || match handle
        .submit(darwin_coordinator::Submit {
            request_id: String::new(),
            spec: quick(),
            submitter: String::new(),
        })
        .await
        .unwrap()
    {
        darwin_coordinator_core::Answer::Submitted { job, .. } => job,
        other => panic!("{other:?}"),
    };
    // The oldest jobs stay, then more finish than memory keeps, then one more stays.
    let oldest = submit().await;
    let old = submit().await;
    let finish = async |_| {
        let job = submit().await;
        handle.cancel(job, "tester".to_owned()).await.unwrap();
        job
    };
    let many = darwin_coordinator_core::Settings::default().recent_max + 150;
    let mut all = Vec::new();
    for _ in 0..many / 50 {
        all.extend(futures::future::join_all((0..50).map(finish)).await);
    }
    let newest = submit().await;
    all.extend([oldest, old, newest]);
    all.sort_unstable_by(|a, b| b.cmp(a));

    let mut listed: Vec<String> = Vec::new();
    loop {
        let before = listed.last().cloned().unwrap_or_default();
        let request = v1::ListJobsRequest { before, limit: 700, ..v1::ListJobsRequest::default() };
        let page = place.jobs().list(request).await.unwrap().into_inner();
        listed.extend(page.jobs.into_iter().map(|job| job.job_id));
        if !page.more {
            break;
        }
    }
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(listed.len(), all.len());
    assert!(listed == all, "the list is not all jobs, newest first");

    // The old job finishes when 2,000 younger ones have: it is out of memory at once, its watcher hears of it.
    let request = v1::WatchJobRequest { job_id: old.to_string() };
    let mut events = place.jobs().watch(request).await.unwrap().into_inner();
    assert!(soon("the state now", events.message()).await.unwrap().is_some());
    let request = v1::WatchFinishedRequest { project: "orders".to_owned() };
    let mut finished = place.jobs().watch_finished(request).await.unwrap().into_inner();
    handle.cancel(old, "tester".to_owned()).await.unwrap();
    let end = soon("the end", events.message()).await.unwrap().unwrap().job.unwrap();
    assert_eq!(end.state(), v1::JobState::Finished);
    assert_eq!(soon("the stream's end", events.message()).await.unwrap(), None);
    assert_eq!(soon("the news", finished.message()).await.unwrap().unwrap().job_id, old.to_string());
    assert_eq!(place.finished(&old.to_string()).await.state(), v1::JobState::Finished);
    assert_eq!(place.get(&all[all.len() - 3]).await.state(), v1::JobState::Finished);
}
