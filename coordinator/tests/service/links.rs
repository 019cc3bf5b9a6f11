//! An agent's link: from the first word to the verdict, over restarts and broken protocols.

use darwin_proto::v1;
use darwin_proto::v1::agent_message::Body as Said;
use darwin_proto::v1::coordinator_message::Body as Told;
use darwin_shared::attempt::{AttemptEnd, AttemptEvent};
use darwin_shared::state::{Failure, FailureCause, RefusalCause, Stage};
use darwin_shared::void::VoidRounds;
use tonic::Code;

use crate::support::jobs::{self, expected_verdict};
use crate::support::{FakeAgent, Place, compare, hello, quick, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_goes_from_submission_to_verdict_and_into_the_archive() {
    let place = Place::new().await;
    let (mut agent, welcome) = FakeAgent::join(&place, hello("box", vec![], 1)).await;
    assert!(welcome.stale_attempts.is_empty() && !welcome.drained && welcome.lease.is_some());
    let job = place.submit(compare()).await;
    let task = agent.task().await;
    assert_eq!((task.attempt.to_string(), &task.spec), (format!("{job}.1"), &compare()));
    agent.updates(&task, AttemptEvent::Accepted).await;
    agent
        .updates(
            &task,
            AttemptEvent::Running {
                cpus: "1".to_owned(),
                isolation: "affinity".to_owned(),
                placement: String::new(),
                voids: VoidRounds::default(),
            },
        )
        .await;
    agent.measures(&task, 0).await;
    assert!(matches!(agent.hears().await, Told::Ack(v1::RoundAck { rounds: 1, stop: false, .. })));
    let shown = place.get(&job).await;
    let progress = shown.progress.unwrap();
    assert_eq!((progress.rounds_done, progress.cpus.as_str(), progress.agent.as_str()), (1, "1", "box"));
    assert_eq!(agent.measures_to_the_end(&task, 1).await, 10);

    let end = place.finished(&job).await;
    assert_eq!(end.attempts.len(), 1);
    assert_eq!(end.attempts[0].ended, "completed");
    let answer =
        place.verdicts().get(v1::GetVerdictRequest { job_id: job.clone() }).await.unwrap().into_inner();
    assert_eq!((answer.baseline.as_str(), answer.challenger.as_str()), ("old", "fast"));
    let verdict: darwin_gate::Verdict = answer.verdict.unwrap().try_into().unwrap();
    assert_eq!(verdict, expected_verdict(&compare()));

    let request = v1::HistoryRequest {
        project: "orders".to_owned(),
        suite: "suite".to_owned(),
        metric: "latency.p50".to_owned(),
        ..v1::HistoryRequest::default()
    };
    // The archive gathers rounds before it writes them: asked until they are there.
    let points = soon("the archive", async {
        loop {
            let history = place.verdicts().history(request.clone()).await.unwrap().into_inner();
            if history.points.len() == 20 {
                return history.points;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(points.iter().all(|point| point.job_id == job && point.agent == "box"));
    let wrong = v1::HistoryRequest { metric: "p99".to_owned(), ..request };
    let refused = place.verdicts().history(wrong).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("p99"), "{refused}");

    let none = place.submit(quick()).await;
    let refused = place.verdicts().get(v1::GetVerdictRequest { job_id: none }).await.unwrap_err();
    assert!(refused.code() == Code::NotFound && refused.message().contains("queued"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_loses_nothing_and_gives_one_verdict() {
    let mut place = Place::new().await;
    let (mut agent, _) = FakeAgent::join(&place, hello("box", vec![], 1)).await;
    let job = place.try_submit("the one", compare()).await.unwrap().job_id;
    let waits = place.submit(quick()).await;
    let task = agent.task().await;
    agent.updates(&task, AttemptEvent::Accepted).await;
    for round in 0..4 {
        agent.measures(&task, round).await;
        assert!(matches!(agent.hears().await, Told::Ack(_)));
    }
    place.restart().await;
    assert!(matches!(agent.try_hears().await, Ok(None) | Err(_)), "the link outlives the coordinator");
    assert_eq!(place.get(&job).await.state(), v1::JobState::Active);

    // It has measured on meanwhile: all of it is wanted again.
    let (mut agent, welcome) = FakeAgent::join(&place, hello("box", vec![task.held(6)], 0)).await;
    assert_eq!(welcome.stale_attempts, [""; 0]);
    match agent.hears().await {
        Told::Replay(v1::Replay { attempt_id, from_round: 0 }) => {
            assert_eq!(attempt_id, task.attempt.to_string());
        }
        other => panic!("{other:?}"),
    }
    for round in 0..6 {
        agent.measures(&task, round).await;
        assert!(matches!(agent.hears().await, Told::Ack(_)));
    }
    assert_eq!(agent.measures_to_the_end(&task, 6).await, 10);
    let end = place.finished(&job).await;
    assert_eq!(end.attempts.len(), 1, "no second attempt");
    let of = |place: &Place| {
        let mut verdicts = place.verdicts();
        let request = v1::GetVerdictRequest { job_id: job.clone() };
        async move { verdicts.get(request).await.unwrap().into_inner().verdict.unwrap() }
    };
    let verdict = of(&place).await;
    assert_eq!(darwin_gate::Verdict::try_from(verdict.clone()).unwrap(), expected_verdict(&compare()));

    place.restart().await;
    assert_eq!(of(&place).await, verdict);
    assert!(place.try_submit("the one", compare()).await.unwrap().known, "the request is remembered");
    // What the verdict has closed is stale, and the job that waited goes on, above all epochs before.
    let (mut agent, welcome) = FakeAgent::join(&place, hello("box", vec![task.held(10)], 1)).await;
    assert_eq!(welcome.stale_attempts, [task.attempt.to_string()]);
    let next = agent.task().await;
    assert_eq!(next.attempt.to_string(), format!("{waits}.1"));
    assert!(next.epoch > task.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_the_protocol_is_refused_by_name() {
    let place = Place::new().await;
    let refused = async |first: Said| match FakeAgent::connect(&place, first).await {
        Err(status) => status,
        Ok(_) => panic!("it was taken"),
    };
    let newer = v1::Hello { protocol_major: darwin_proto::PROTOCOL_MAJOR + 1, ..hello("box", vec![], 1) };
    let status = refused(Said::Hello(newer)).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("protocol 2.0") && status.message().contains("upgrade the coordinator"),
        "{status}"
    );
    let older = v1::Hello { protocol_major: 0, ..hello("box", vec![], 1) };
    let status = refused(Said::Hello(older)).await;
    assert!(status.message().contains("upgrade the agent"), "{status}");

    let status = refused(Said::Offer(v1::Offer::default())).await;
    assert!(status.code() == Code::InvalidArgument && status.message().contains("hello"), "{status}");
    for (hello, what) in [
        (v1::Hello { facts: None, ..hello("box", vec![], 1) }, "facts"),
        (v1::Hello { sensor: None, ..hello("box", vec![], 1) }, "sensor"),
        (v1::Hello { agent_id: "a\u{1b}[2J".to_owned(), ..hello("box", vec![], 1) }, "agent"),
        (v1::Hello { attempts: vec![v1::HeldAttempt::default()], ..hello("box", vec![], 1) }, "attempt"),
    ] {
        let status = refused(Said::Hello(hello)).await;
        assert!(status.code() == Code::InvalidArgument && status.message().contains(what), "{status}");
        assert!(!status.message().contains('\u{1b}'));
    }
    let list = place.agents().list(v1::ListAgentsRequest {}).await.unwrap().into_inner();
    assert_eq!(list.agents, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_messages_of_an_agent_harm_nobody() {
    let place = Place::new().await;
    let (mut agent, _) = FakeAgent::join(&place, hello("box", vec![], 1)).await;
    let job = place.submit(quick()).await;
    let task = agent.task().await;
    agent.says(Said::Round(v1::RoundResult::default())).await;
    agent.says(Said::Hello(hello("box", vec![], 9))).await;
    let mut late = jobs::round(&task.spec, task.attempt, task.epoch, 0);
    late.round = u32::MAX;
    late.attempt.number = 77;
    agent.says(Said::Round(late.into())).await;
    assert!(matches!(agent.hears().await, Told::Ack(v1::RoundAck { stop: true, .. })));
    assert_eq!(agent.measures_to_the_end(&task, 0).await, 1);
    assert_eq!(place.finished(&job).await.attempts.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_link_of_an_agent_closes_the_older_one() {
    let place = Place::new().await;
    let (mut old, _) = FakeAgent::join(&place, hello("box", vec![], 1)).await;
    let (mut new, _) = FakeAgent::join(&place, hello("box", vec![], 1)).await;
    let closed = old.try_hears().await.unwrap_err();
    assert!(closed.code() == Code::Aborted && closed.message().contains("connected anew"), "{closed}");
    drop(old);
    place.submit(quick()).await;
    new.task().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_is_shown_drained_and_resumed_and_remembers_over_a_restart() {
    let mut place = Place::new().await;
    let (agent, _) = FakeAgent::join(&place, hello("box", vec![], 1)).await;
    let name = || "box".to_owned();
    let shown = place.agents().show(v1::ShowAgentRequest { agent_id: name() }).await.unwrap().into_inner();
    assert_eq!((shown.state.as_str(), shown.facts.unwrap().lease_cores), ("ready", 2));
    let drained =
        place.agents().drain(v1::DrainAgentRequest { agent_id: name() }).await.unwrap().into_inner();
    assert_eq!(drained.state, "drained");
    drop(agent);
    let nobody =
        place.agents().show(v1::ShowAgentRequest { agent_id: "nobody".to_owned() }).await.unwrap_err();
    assert!(nobody.code() == Code::NotFound && nobody.message().contains("`nobody`"), "{nobody}");

    place.restart().await;
    let list = place.agents().list(v1::ListAgentsRequest {}).await.unwrap().into_inner();
    assert_eq!(list.agents.iter().map(|agent| agent.state.as_str()).collect::<Vec<_>>(), ["away"]);
    let (mut agent, welcome) = FakeAgent::join(&place, hello("box", vec![], 1)).await;
    assert!(welcome.drained);
    let job = place.submit(quick()).await;
    let status = place.agents().status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.jobs_queued, status.jobs_active), (1, 0));
    assert!(status.parts.iter().any(|part| part.name == "ledger"));
    place.agents().resume(v1::ResumeAgentRequest { agent_id: name() }).await.unwrap();
    assert!(matches!(agent.hears().await, Told::Drain(v1::SetDrain { drained: false })));
    assert_eq!(agent.task().await.attempt.job.to_string(), job);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidates_failure_and_a_refusal_say_why() {
    let place = Place::new().await;
    let (mut agent, _) = FakeAgent::join(&place, hello("box", vec![], 2)).await;
    let job = place.submit(quick()).await;
    let task = agent.task().await;
    let failure = Failure {
        stage: Stage::Run,
        arm: darwin_shared::spec::Arm::Baseline,
        variant: "one".to_owned(),
        cause: FailureCause::ExitCode(3),
        log_tail: "Traceback: no luck".to_owned(),
    };
    agent.updates(&task, AttemptEvent::Ended(AttemptEnd::Failed(failure))).await;
    let end = place.finished(&job).await;
    assert!(end.attempts[0].ended.contains("ended with exit code 3"), "{:?}", end.attempts);
    assert!(matches!(agent.hears().await, Told::Release(_)));
    let request = v1::LogsRequest { job_id: job, follow: false };
    let mut logs = place.jobs().logs(request).await.unwrap().into_inner();
    let chunk = soon("the log", logs.message()).await.unwrap().unwrap();
    assert_eq!(&chunk.data[..], b"Traceback: no luck");

    let job = place.submit(quick()).await;
    let task = agent.task().await;
    agent
        .updates(&task, AttemptEvent::Refused(RefusalCause::Policy("`allow_paths` is not set".to_owned())))
        .await;
    let end = place.finished(&job).await;
    let Some(v1::outcome::Kind::Parked(v1::Parked { why })) = end.outcome.and_then(|outcome| outcome.kind)
    else {
        panic!("not parked")
    };
    assert_eq!(why, "no agent's policy allows it: agent `box`: `allow_paths` is not set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_logs_come_from_the_box_that_writes_them() {
    let place = Place::new().await;
    let job = place.submit(quick()).await;
    let request = v1::LogsRequest { job_id: job.clone(), follow: true };
    let none = place.jobs().logs(request.clone()).await.unwrap_err();
    assert_eq!(none.code(), Code::FailedPrecondition, "{none}");
    let (mut agent, _) = FakeAgent::join(&place, hello("box", vec![], 1)).await;
    let task = agent.task().await;
    let mut logs = place.jobs().logs(request).await.unwrap().into_inner();
    let Told::Tail(tail) = agent.hears().await else { panic!("no question for the log") };
    assert_eq!((tail.attempt_id, tail.follow), (task.attempt.to_string(), true));
    for (data, last) in [("one", false), ("two", true)] {
        let piece =
            v1::LogPiece { request: tail.request, data: data.into(), last, ..v1::LogPiece::default() };
        agent.says(Said::Log(piece)).await;
    }
    for data in ["one", "two"] {
        assert_eq!(soon("a piece", logs.message()).await.unwrap().unwrap().data, data);
    }
    assert_eq!(soon("the log's end", logs.message()).await.unwrap(), None);
}
