//! What survives what: links that break, coordinators that go, agents that are killed.

use std::time::Duration;

use crate::common::{Agent, Coordinator, News, attempt, eventually, job, lives, pid_in};
use darwin_proto::v1;
use darwin_proto::v1::coordinator_message::Body as Said;
use darwin_shared::attempt::AttemptEnd;
use darwin_shared::spec::Budget;
use nix::sys::signal::Signal;

#[tokio::test]
async fn measuring_goes_on_without_a_link_and_rounds_are_replayed() {
    let state = tempfile::tempdir().unwrap();
    let go = state.path().join("go");
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    // The last round waits for the file.
    let text = format!("[ $DARWIN_ROUND -lt 2 ] || while [ ! -e {} ]; do sleep 0.01; done", go.display());
    let mut spec = job(&text);
    spec.budget = Budget { rounds_max: 3, ..spec.budget };
    session.assign(attempt(1, 1), 1, &spec, &[]).await;
    loop {
        if let News::Round(_) = session.news().await {
            break;
        }
    }
    drop(session);

    let mut session = coordinator.welcome().await;
    let [held] = &session.hello.attempts[..] else { panic!("{:?}", session.hello) };
    assert!(held.live && held.rounds >= 1 && held.attempt_id == attempt(1, 1).to_string(), "{held:?}");
    session.say(Said::Replay(v1::Replay { attempt_id: attempt(1, 1).to_string(), from_round: 0 })).await;
    // What is measured meanwhile may come before what is replayed.
    let mut numbers = std::collections::BTreeSet::new();
    while !(numbers.contains(&0) && numbers.contains(&1)) {
        if let News::Round(round) = session.news().await {
            numbers.insert(round.round);
        }
    }
    std::fs::write(&go, "").unwrap();
    let (rounds, _, end) = session.until_end(attempt(1, 1)).await;
    assert_eq!(end, AttemptEnd::Completed { rounds: 3 });
    numbers.extend(rounds.iter().map(|round| round.round));
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn past_its_lease_an_agent_ends_what_it_runs_by_itself() {
    let state = tempfile::tempdir().unwrap();
    let pid = state.path().join("pid");
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome_with(Duration::from_secs(1), &[]).await;
    session
        .assign(attempt(1, 1), 1, &job(&format!("echo $$ > {}; exec sleep 1000", pid.display())), &[])
        .await;
    session.until_running(attempt(1, 1)).await;
    let pid = pid_in(&pid).await;
    drop(session);
    coordinator.stop();
    eventually("the bench is ended", || !lives(&pid)).await;
}

#[tokio::test]
async fn a_killed_agent_leaves_nothing_running_and_its_next_life_says_so() {
    let state = tempfile::tempdir().unwrap();
    let pid = state.path().join("pid");
    let mut coordinator = Coordinator::start().await;
    let mut agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let text = format!("trap '' TERM; echo $$ > {}; while true; do sleep 1; done", pid.display());
    session.assign(attempt(1, 1), 1, &job("true"), &[]).await;
    session.until_end(attempt(1, 1)).await;
    session.assign(attempt(2, 1), 2, &job(&text), &[]).await;
    let pid = pid_in(&pid).await;
    agent.signal(Signal::SIGKILL);
    agent.exit_code().await;
    session.until_gone().await;
    eventually("the bench dies with its agent", || !lives(&pid)).await;

    // A record that was being written when the agent died.
    let journal = state.path().join("spool/journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend([40, 0, 0, 0, 1, 2, 3]);
    std::fs::write(&journal, bytes).unwrap();

    let _agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome_with(Duration::from_secs(15), &[attempt(2, 1)]).await;
    let ends: Vec<Option<AttemptEnd>> = session
        .hello
        .attempts
        .iter()
        .map(|held| held.end.clone().map(|end| end.try_into().unwrap()))
        .collect();
    assert_eq!(ends[0], Some(AttemptEnd::Completed { rounds: 1 }), "what had ended stays as it was");
    assert_eq!(ends.len(), 1, "what was under way is lost: the coordinator knows it by its absence");
    assert_eq!(session.hello.attempts[0].rounds, 1);
    session.say(Said::Replay(v1::Replay { attempt_id: attempt(1, 1).to_string(), from_round: 0 })).await;
    let News::Round(round) = session.news().await else { panic!() };
    assert_eq!((round.attempt, round.round), (attempt(1, 1), 0));
    assert!(state.path().join("spool/journal.unreadable").exists());
}

#[tokio::test]
async fn a_second_agent_on_the_same_folder_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let _agent = Agent::start(&coordinator, state.path());
    let _session = coordinator.welcome().await;
    let mut second = Agent::start(&coordinator, state.path());
    assert_eq!(second.exit_code().await, Some(4));
}

#[tokio::test]
async fn a_drained_agent_finishes_what_has_cores_and_a_second_signal_ends_it() {
    let state = tempfile::tempdir().unwrap();
    let go = state.path().join("go");
    let mut coordinator = Coordinator::start().await;
    let mut agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    let waits = format!("while [ ! -e {} ]; do sleep 0.01; done", go.display());
    session.assign(attempt(1, 1), 1, &job(&waits), &[]).await;
    session.until_running(attempt(1, 1)).await;
    agent.signal(Signal::SIGTERM);
    session.assign(attempt(2, 1), 2, &job("true"), &[]).await;
    std::fs::write(&go, "").unwrap();
    let (_, _, end) = session.until_end(attempt(1, 1)).await;
    assert_eq!(end, AttemptEnd::Completed { rounds: 1 });
    assert_eq!(agent.exit_code().await, Some(0));

    let mut agent = Agent::start(&coordinator, state.path());
    let mut session = coordinator.welcome().await;
    session.assign(attempt(3, 1), 9, &job("sleep 1000"), &[]).await;
    session.until_running(attempt(3, 1)).await;
    agent.signal(Signal::SIGTERM);
    agent.signal(Signal::SIGINT);
    let (_, _, end) = session.until_end(attempt(3, 1)).await;
    assert_eq!(end, AttemptEnd::Cancelled, "nobody is to blame, some other box will do it");
    assert_eq!(agent.exit_code().await, Some(0));
}
