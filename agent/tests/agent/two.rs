//! Two agents of one box: never on one core at once, and neither without end.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::common::{Agent, Coordinator, News, Session, attempt, eventually, job, lives, pid_in};
use darwin_proto::v1;
use darwin_proto::v1::coordinator_message::Body as Said;
use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
use darwin_shared::ids::AttemptId;
use darwin_shared::state::RefusalCause;

fn last_cpu() -> String {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    online.trim().rsplit(['-', ',']).next().unwrap().to_owned()
}

/// Two agents that lease the same core and share a file of locks.
async fn two(coordinator: &mut Coordinator, folder: &Path) -> ([Agent; 2], [Session; 2]) {
    let shared = folder.join("shared");
    let config = format!("core_locks = \"{}\"\nlease_cpus = \"{}\"", shared.display(), last_cpu());
    let first = Agent::start_with(coordinator, &folder.join("first"), "first", &config);
    let first_session = coordinator.welcome().await;
    let second = Agent::start_with(coordinator, &folder.join("second"), "second", &config);
    let second_session = coordinator.welcome().await;
    ([first, second], [first_session, second_session])
}

async fn until_accepted(session: &mut Session, attempt: AttemptId) {
    loop {
        if let News::Update(AttemptUpdate { attempt: id, event: AttemptEvent::Accepted, .. }) =
            session.news().await
            && id == attempt
        {
            return;
        }
    }
}

#[tokio::test]
async fn a_core_that_another_agent_measures_on_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let (_agents, [mut first, mut second]) = two(&mut coordinator, folder.path()).await;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (go, ran) = (file("go"), file("ran"));
    let text = format!("while [ ! -e {go} ]; do sleep 0.01; done; [ ! -e {ran} ]");
    first.assign(attempt(1, 1), 1, &job(&text), &[]).await;
    first.until_running(attempt(1, 1)).await;
    second.assign(attempt(2, 1), 2, &job(&format!("touch {ran}")), &[]).await;
    until_accepted(&mut second, attempt(2, 1)).await;
    // Time for some tries; with less of it the test would only see less.
    tokio::time::sleep(Duration::from_millis(200)).await;
    std::fs::write(&go, "").unwrap();
    let (_, _, end) = first.until_end(attempt(1, 1)).await;
    assert_eq!(end, AttemptEnd::Completed { rounds: 1 }, "the other one measured beside it");
    let (_, _, end) = second.until_end(attempt(2, 1)).await;
    assert_eq!(end, AttemptEnd::Completed { rounds: 1 });
}

#[tokio::test]
async fn the_cores_of_a_killed_agent_are_free_when_nothing_of_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let ([first_agent, _second_agent], [mut first, mut second]) = two(&mut coordinator, folder.path()).await;
    let pid_file = folder.path().join("pid");
    let text = format!("trap '' TERM; echo $$ > {}; while true; do sleep 1; done", pid_file.display());
    first.assign(attempt(1, 1), 1, &job(&text), &[]).await;
    first.until_running(attempt(1, 1)).await;
    let pid = pid_in(&pid_file).await;
    second.assign(attempt(2, 1), 2, &job(&format!("! kill -0 {pid}")), &[]).await;
    until_accepted(&mut second, attempt(2, 1)).await;
    // Time to begin, for one that does not wait; with less of it the test would only see less.
    tokio::time::sleep(Duration::from_millis(200)).await;
    first_agent.signal(nix::sys::signal::Signal::SIGKILL);
    let (_, _, end) = second.until_end(attempt(2, 1)).await;
    assert_eq!(end, AttemptEnd::Completed { rounds: 1 }, "the first one's bench still ran");
    eventually("it is gone", || !lives(&pid)).await;
}

#[tokio::test]
async fn two_busy_agents_take_turns_and_never_overlap() {
    const JOBS: u64 = 150;
    let folder = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let (_agents, mut sessions) = two(&mut coordinator, folder.path()).await;
    let alone = folder.path().join("alone").display().to_string();
    let spec = job(&format!("mkdir {alone} && sleep 0.001 && rmdir {alone}"));
    let mut order = Vec::new();
    let mut given = [0; 2];
    let mut done = [BTreeSet::new(), BTreeSet::new()];
    let id = |agent: usize, number: u64| attempt(1 + agent as u64 * 10_000 + number, 1);
    while done.iter().any(|done| (done.len() as u64) < JOBS) {
        for agent in 0..2 {
            while given[agent] < JOBS && given[agent] < done[agent].len() as u64 + 10 {
                sessions[agent].assign(id(agent, given[agent]), given[agent] + 1, &spec, &[]).await;
                given[agent] += 1;
            }
        }
        let [first, second] = &mut sessions;
        let (agent, news) = tokio::select! {
            news = first.news(), if (done[0].len() as u64) < JOBS => (0, news),
            news = second.news(), if (done[1].len() as u64) < JOBS => (1, news),
        };
        if let News::Update(AttemptUpdate { attempt, event: AttemptEvent::Ended(end), .. }) = news {
            assert_eq!(end, AttemptEnd::Completed { rounds: 1 }, "two at once");
            assert!(done[agent].insert(attempt));
            order.push(agent);
            sessions[agent].release(attempt).await;
        }
    }
    order.dedup();
    assert!(order.len() > 2, "each had one long turn: {order:?}");
    println!("{} turns", order.len());
}

#[tokio::test]
async fn what_has_no_cores_yet_is_given_back_by_a_drained_agent() {
    let folder = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let (_agents, [mut first, mut second]) = two(&mut coordinator, folder.path()).await;
    let go = folder.path().join("go");
    let text = format!("while [ ! -e {} ]; do sleep 0.01; done", go.display());
    first.assign(attempt(1, 1), 1, &job(&text), &[]).await;
    first.until_running(attempt(1, 1)).await;
    first.assign(attempt(2, 1), 2, &job("true"), &[]).await;
    second.assign(attempt(3, 1), 3, &job("true"), &[]).await;
    until_accepted(&mut second, attempt(3, 1)).await;
    for (session, waits) in [(&mut first, attempt(2, 1)), (&mut second, attempt(3, 1))] {
        session.say(Said::Drain(v1::SetDrain { drained: true })).await;
        let (_, events, end) = session.until_end(waits).await;
        assert_eq!(end, AttemptEnd::Cancelled, "{events:?}");
    }
    std::fs::write(&go, "").unwrap();
    let (_, _, end) = first.until_end(attempt(1, 1)).await;
    assert_eq!(end, AttemptEnd::Completed { rounds: 1 }, "what had cores is finished");
}

#[tokio::test]
async fn a_busy_core_keeps_a_shielded_box_from_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let config = format!("tier = \"shielded\"\nlease_cpus = \"{}\"\n[tune]\nknobs = false", last_cpu());
    let _strict = Agent::start_with(&coordinator, &folder.path().join("strict"), "strict", &config);
    let mut session = coordinator.welcome().await;
    let sensor = session.hello.sensor.clone().unwrap();
    if sensor.status == "down" {
        return println!("not run: this box is down for other reasons: {sensor:?}");
    }
    let _busy = tokio::process::Command::new("taskset")
        .args(["-c", &last_cpu(), "sh", "-c", "while :; do :; done"])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // Longer than a reading may be old that speaks for an attempt to begin.
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    session.assign(attempt(1, 1), 1, &job("true"), &[]).await;
    // By its latest reading it refuses; by one that it makes when the cores are taken it gives up.
    let why = loop {
        match session.news().await {
            News::Update(update) => match update.event {
                AttemptEvent::Refused(RefusalCause::Unhealthy(why))
                | AttemptEvent::Ended(AttemptEnd::Box(why)) => {
                    break why;
                }
                AttemptEvent::Accepted => {}
                other => panic!("{other:?}"),
            },
            News::Round(round) => panic!("measured beside a busy loop: {round:?}"),
            News::Log(_) => {}
        }
    };
    assert!(why.contains("competition"), "{why}");
}
