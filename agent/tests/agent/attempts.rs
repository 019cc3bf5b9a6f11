//! Attempts from assignment to end, on a real agent with a fake coordinator.

use std::time::Duration;

use crate::common::{Agent, Coordinator, News, attempt, epoch, job, lives, pid_in, step};
use darwin_gate::{Metric, SeriesKey};
use darwin_proto::v1;
use darwin_proto::v1::coordinator_message::Body as Said;
use darwin_shared::artifact::{Entry, Manifest, Node};
use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
use darwin_shared::spec::{Arm, Budget, Command, JobSpec, Source, Step, Variant, Work};
use darwin_shared::state::{FailureCause, RefusalCause, Stage};
use nix::sys::signal::Signal;

#[tokio::test]
async fn a_trivial_job_is_accepted_measured_and_released() {
    let state = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let mut agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let facts = session.hello.facts.clone().unwrap();
    assert_eq!((session.hello.agent_id.as_str(), facts.pool.as_str()), ("box", "default"));
    assert!(session.hello.offer.unwrap().credits > facts.lease_cores, "some are staged ahead");

    let spec = JobSpec { steps: steps(Command::Argv(vec!["true".to_owned()])), ..job("") };
    session.assign(attempt(1, 1), 1, &spec, &[]).await;
    let (rounds, events, end) = session.until_end(attempt(1, 1)).await;
    assert_eq!((events, end), (vec!["accepted", "running"], AttemptEnd::Completed { rounds: 1 }));
    let [round] = &rounds[..] else { panic!("{rounds:?}") };
    assert_eq!((round.epoch, round.round, round.invocations.len()), (epoch(1), 0, 1));
    let invocation = &round.invocations[0];
    assert!(invocation.wall > Duration::ZERO && invocation.usage.peak_rss_bytes > 0);
    assert!(invocation.observations.contains_key(&SeriesKey::new("process", Metric::MemoryPeak)));
    session.release(attempt(1, 1)).await;
    session.assign(attempt(2, 1), 2, &spec, &[]).await;
    session.until_end(attempt(2, 1)).await;
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code().await, Some(0));
    let _agent = Agent::start(&coordinator, state.path());
    let held: Vec<String> =
        coordinator.welcome().await.hello.attempts.into_iter().map(|held| held.attempt_id).collect();
    assert_eq!(held, [attempt(2, 1).to_string()], "what was released is forgotten");
}

fn steps(run: Command) -> darwin_shared::spec::Steps {
    darwin_shared::spec::Steps {
        setup: None,
        check: None,
        run: Step { command: run, timeout: Duration::from_secs(9) },
    }
}

#[tokio::test]
async fn what_is_said_of_isolation_is_what_took() {
    use darwin_shared::spec::{CoreRequest, Isolation, Scheduler};
    let state = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let best = session.hello.facts.clone().unwrap().isolation;
    let mut number = 0;
    let mut said = Vec::new();
    for (run, isolation, scheduler) in [
        ("true", Isolation::None, Scheduler::Other),
        ("true", Isolation::Preferred, Scheduler::Other),
        ("exec sleep 1000", Isolation::Preferred, Scheduler::Other),
        ("exec sleep 1000", Isolation::Preferred, Scheduler::Fifo),
        ("exec sleep 1000", Isolation::Required, Scheduler::Other),
    ] {
        number += 1;
        let cores = CoreRequest { isolation, scheduler, ..CoreRequest::default() };
        let mut spec = JobSpec { cores, ..job(run) };
        if scheduler == Scheduler::Fifo {
            // Longer ones are not given it: they would be stopped for a part of every second.
            spec.steps.run.timeout = Duration::from_millis(899);
        }
        session.assign(attempt(number, 1), number, &spec, &[]).await;
        said.push(session.isolation(attempt(number, 1)).await);
        session.cancel(attempt(number, 1), number).await;
    }
    if best == "isolated" {
        assert_eq!(said, ["isolated"; 5]);
        return;
    }
    assert_eq!(said[..3], ["affinity"; 3]);
    if said[3] != "fifo" {
        println!("not run: no SCHED_FIFO here: {}", said[3]);
    }
    if best == "cpuset" {
        assert_eq!(said[4], "cpuset");
    } else {
        assert!(said[4].starts_with("refused: "), "{}", said[4]);
    }
}

#[tokio::test]
async fn many_trivial_jobs_each_end_once() {
    const JOBS: usize = 300;
    let state = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let spec = job("true");
    let (mut ends, mut next) = (std::collections::BTreeSet::new(), 0);
    let began = std::time::Instant::now();
    while ends.len() < JOBS {
        while next < JOBS && next < ends.len() + 20 {
            session.assign(attempt(next as u64, 1), next as u64 + 1, &spec, &[]).await;
            next += 1;
        }
        if let News::Update(AttemptUpdate { attempt, event: AttemptEvent::Ended(end), .. }) =
            session.news().await
        {
            assert_eq!(end, AttemptEnd::Completed { rounds: 1 });
            assert!(ends.insert(attempt), "{attempt} ended twice");
            session.release(attempt).await;
        }
    }
    println!("{:.0} jobs/s", JOBS as f64 / began.elapsed().as_secs_f64());
}

#[tokio::test]
async fn a_failing_check_ends_it_before_anything_is_measured() {
    let state = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let mut spec = job("true");
    spec.steps.check = Some(step("echo 2 of 3 tests passed; echo book is crossed >&2; exit 3"));
    session.assign(attempt(1, 1), 1, &spec, &[]).await;
    let (rounds, events, end) = session.until_end(attempt(1, 1)).await;
    assert_eq!((rounds.len(), events), (0, vec!["accepted", "staging"]));
    let AttemptEnd::Failed(failure) = end else { panic!("{end:?}") };
    assert_eq!((failure.stage, failure.arm, failure.variant.as_str()), (Stage::Check, Arm::Baseline, "main"));
    assert_eq!(failure.cause, FailureCause::ExitCode(3));
    assert_eq!(failure.log_tail, "2 of 3 tests passed\nbook is crossed\n");
}

#[tokio::test]
async fn what_hangs_is_ended_with_its_whole_tree() {
    let state = tempfile::tempdir().unwrap();
    let pid = state.path().join("pid");
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let text = format!("trap '' TERM; sleep 1000 & echo $! > {}; echo waiting; wait", pid.display());
    let mut spec = job(&text);
    spec.steps.run.timeout = Duration::from_millis(300);
    session.assign(attempt(1, 1), 1, &spec, &[]).await;
    let (_, _, end) = session.until_end(attempt(1, 1)).await;
    let AttemptEnd::Failed(failure) = end else { panic!("{end:?}") };
    assert_eq!(failure.cause, FailureCause::TimedOut(Duration::from_millis(300)));
    assert_eq!((failure.stage, failure.log_tail.as_str()), (Stage::Run, "waiting\n"));
    assert!(!lives(&pid_in(&pid).await), "its child is gone too");
}

#[tokio::test]
async fn a_command_that_is_not_there_is_the_candidates_failure() {
    let state = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let spec = JobSpec { steps: steps(Command::Argv(vec!["no-such-program".to_owned()])), ..job("") };
    session.assign(attempt(1, 1), 1, &spec, &[]).await;
    let (_, _, end) = session.until_end(attempt(1, 1)).await;
    assert!(
        matches!(&end, AttemptEnd::Failed(failure) if matches!(failure.cause, FailureCause::NotStarted(_))),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_cancel_ends_what_runs_and_a_stale_grant_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let pid = state.path().join("pid");
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    session
        .assign(attempt(1, 1), 5, &job(&format!("echo $$ > {}; exec sleep 1000", pid.display())), &[])
        .await;
    session.until_running(attempt(1, 1)).await;
    let pid = pid_in(&pid).await;
    session.cancel(attempt(1, 1), 5).await;
    let (rounds, _, end) = session.until_end(attempt(1, 1)).await;
    assert_eq!((rounds.len(), end), (0, AttemptEnd::Cancelled));
    assert!(!lives(&pid));
    session.assign(attempt(1, 2), 4, &job("true"), &[]).await;
    let News::Update(update) = session.news().await else { panic!() };
    assert_eq!(update.event, AttemptEvent::Refused(RefusalCause::StaleEpoch));
}

#[tokio::test]
async fn both_sides_run_in_the_coins_order_with_equal_surroundings() {
    let state = tempfile::tempdir().unwrap();
    let seen = state.path().join("seen");
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let side = |label: &str| Variant { label: label.to_owned(), source: Source::Nothing };
    let mut spec = job(&format!(
        "echo $DARWIN_VARIANT $DARWIN_ROUND {{round}} $(env | wc -c) $(pwd | wc -c) {{seed}} >> {}",
        seen.display()
    ));
    spec.work = Work::Compare { baseline: side("old"), challenger: side("new") };
    spec.budget = Budget { rounds_max: 6, ..spec.budget };
    session.assign(attempt(1, 1), 1, &spec, &[]).await;
    let (rounds, _, end) = session.until_end(attempt(1, 1)).await;
    assert_eq!(end, AttemptEnd::Completed { rounds: 6 });
    let text = std::fs::read_to_string(&seen).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 12);
    for (round, (result, pair)) in rounds.iter().zip(lines.chunks(2)).enumerate() {
        let first = match darwin_gate::order(7, u32::try_from(round).unwrap()) {
            darwin_gate::Order::BaselineFirst => (Arm::Baseline, "a"),
            darwin_gate::Order::ChallengerFirst => (Arm::Challenger, "b"),
        };
        assert_eq!((result.invocations[0].arm, pair[0][0]), first, "round {round}");
        assert_eq!(pair[0][1..], pair[1][1..], "equal but for the side");
        assert_eq!(pair[0][1], round.to_string());
    }
}

#[tokio::test]
async fn a_tree_is_fetched_and_set_up_once_and_checked_every_time() {
    let state = tempfile::tempdir().unwrap();
    let seen = state.path().join("seen");
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let digest = coordinator.keep(b"#!/bin/sh\necho run $(cat made) >> $SEEN\n");
    let bench = Node::File { digest, size_bytes: 40, executable: true };
    let manifest = Manifest::new(vec![Entry { path: "bin/bench".to_owned(), node: bench }]).unwrap();
    let tree = coordinator.keep(&manifest.to_bytes());
    let mut spec = job("{variant_dir}/bin/bench");
    spec.work = Work::Measure { variant: Variant { label: "main".to_owned(), source: Source::Tree(tree) } };
    spec.steps.setup = Some(step("echo set-up >> $SEEN; echo it > made"));
    spec.steps.check = Some(step("echo check >> $SEEN; test -e made"));
    spec.env.insert("SEEN".to_owned(), seen.display().to_string());
    for number in 1..=2 {
        session.assign(attempt(number, 1), number, &spec, &[]).await;
        let (_, events, end) = session.until_end(attempt(number, 1)).await;
        assert_eq!(end, AttemptEnd::Completed { rounds: 1 });
        let stages = events.iter().filter(|event| **event == "staging").count();
        assert_eq!(stages, if number == 1 { 3 } else { 1 }, "{events:?}");
    }
    let lines = std::fs::read_to_string(&seen).unwrap();
    assert_eq!(lines, "set-up\ncheck\nrun it\ncheck\nrun it\n");

    // A manifest that is none, and one that the coordinator does not have.
    let bad = coordinator.keep(b"[{\"path\":\"../up\",\"node\":{\"link\":{\"target\":\"x\"}}}]");
    spec.work = Work::Measure { variant: Variant { label: "main".to_owned(), source: Source::Tree(bad) } };
    session.assign(attempt(3, 1), 3, &spec, &[]).await;
    let (_, _, end) = session.until_end(attempt(3, 1)).await;
    assert!(matches!(&end, AttemptEnd::Failed(failure) if failure.stage == Stage::Fetch), "{end:?}");
    let lacking = darwin_shared::ids::Digest::of(b"nobody has this");
    spec.work =
        Work::Measure { variant: Variant { label: "main".to_owned(), source: Source::Tree(lacking) } };
    session.assign(attempt(4, 1), 4, &spec, &[]).await;
    let (_, _, end) = session.until_end(attempt(4, 1)).await;
    assert!(matches!(&end, AttemptEnd::Box(why) if why.contains("no longer has")), "{end:?}");
}

#[tokio::test]
async fn results_are_read_and_what_is_none_says_why() {
    let state = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let result = r#"{"results":[{"command":"x","times":[0.5,0.25]}]}"#;
    let mut spec = job(&format!("echo '{result}' > {{output}}"));
    spec.format = darwin_shared::formats::Format::Hyperfine;
    session.assign(attempt(1, 1), 1, &spec, &[]).await;
    let (rounds, _, end) = session.until_end(attempt(1, 1)).await;
    assert_eq!(end, AttemptEnd::Completed { rounds: 1 });
    let benches: Vec<&str> =
        rounds[0].invocations[0].observations.keys().map(|key| key.bench.as_str()).collect();
    assert!(benches.contains(&"x") && benches.contains(&"process"), "{benches:?}");

    spec.steps.run = step("echo half of it > {output}; echo trouble");
    session.assign(attempt(2, 1), 2, &spec, &[]).await;
    let (_, _, end) = session.until_end(attempt(2, 1)).await;
    let AttemptEnd::Failed(failure) = end else { panic!("{end:?}") };
    assert!(matches!(failure.cause, FailureCause::Unreadable(_)));
    assert_eq!((failure.stage, failure.log_tail.as_str()), (Stage::Read, "trouble\n"));
}

#[tokio::test]
async fn a_log_can_be_followed_while_it_is_written() {
    let state = tempfile::tempdir().unwrap();
    let go = state.path().join("go");
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let text = format!("echo first; while [ ! -e {} ]; do sleep 0.01; done; echo second", go.display());
    session.assign(attempt(1, 1), 1, &job(&text), &[]).await;
    session.until_running(attempt(1, 1)).await;
    let tail = v1::TailLog { attempt_id: attempt(1, 1).to_string(), request: 9, follow: true, stop: false };
    session.say(Said::Tail(tail)).await;
    let mut seen = Vec::new();
    loop {
        let News::Log(piece) = session.news().await else { continue };
        assert_eq!(piece.request, 9);
        seen.extend(piece.data);
        if seen == b"first\n" {
            std::fs::write(&go, "").unwrap();
        }
        if piece.last {
            break;
        }
    }
    assert_eq!(String::from_utf8(seen).unwrap(), "first\nsecond\n");
}
