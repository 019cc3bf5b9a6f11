//! Agents decline: who is asked instead, who is asked again and when, and what becomes of a job that nobody allows.
#![expect(clippy::unwrap_used, reason = "test code: a failed unwrap is a failed test")]

use darwin_coordinator_core::{Core, Event, FromAgent, Offer, Restored, RestoredJob, Settings};
use darwin_shared::attempt::AttemptEnd;
use darwin_shared::fleet::SensorReport;
use darwin_shared::ids::{AgentId, JobId, PoolName};
use darwin_shared::spec::JobSpec;
use darwin_shared::state::{JobState, RefusalCause};

use crate::bench::jobs::{self, Shape, facts, spec};
use crate::bench::{Bench, Grant};

fn quick() -> JobSpec {
    spec(Shape::Measure(1), "a", 0)
}

fn bench() -> Bench {
    Bench::new(Settings::default())
}

fn id(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn policy() -> RefusalCause {
    RefusalCause::Policy("no Docker here; `docker = true` in its agent.toml would allow it".to_owned())
}

fn unsupported() -> RefusalCause {
    RefusalCause::Unsupported("no perf".to_owned())
}

fn finishes(bench: &mut Bench, grant: Grant, job: JobId) {
    assert_eq!(grant.1.job, job);
    bench.measures(grant, 0..1);
    bench.ends(grant, AttemptEnd::Completed { rounds: 1 });
    assert_eq!(bench.outcome(job).0, "measured");
}

#[test]
fn what_no_agents_policy_allows_ends_at_once_and_says_which_policy_of_which_agent() {
    let mut bench = bench();
    bench.agent("box", 1, 1);
    let job = bench.submit(quick());
    let grant = bench.grant();
    bench.refuses(grant, policy());
    let why = "no agent's policy allows it: agent `box`: no Docker here; `docker = true` in its agent.toml would allow it";
    assert_eq!(bench.outcome(job), ("parked", why.to_owned()));
    assert_eq!(bench.grants(), []);
}

/// A sensor whose owner's requirements are not met.
fn refusing() -> SensorReport {
    SensorReport { refuses: Some("cannot verify `governor`: no such file".to_owned()), ..jobs::sensor(false) }
}

#[test]
fn a_box_whose_sensor_refuses_ends_what_nobody_else_may_run_and_only_that() {
    let mut bench = bench();
    let link = bench.agent("box", 1, 1);
    let under_way = bench.submit(quick());
    let grant = bench.grant();
    let waiting = bench.submit(quick());
    bench.says(link, FromAgent::Sensor(jobs::sensor(false)));
    assert_eq!(*bench.state(waiting), JobState::Queued, "what passes by itself is waited for");
    bench.says(link, FromAgent::Sensor(refusing()));
    let why = "no agent's policy allows it: agent `box`: cannot verify `governor`: no such file";
    assert_eq!(bench.outcome(waiting), ("parked", why.to_owned()));
    finishes(&mut bench, grant, under_way);
    let late = bench.submit(quick());
    assert_eq!(bench.outcome(late), ("parked", why.to_owned()));
    bench.says(link, FromAgent::Sensor(jobs::sensor(true)));
    bench.offers(link, 1, 1);
    let mended = bench.submit(quick());
    let grant = bench.grant();
    finishes(&mut bench, grant, mended);
}

#[test]
fn a_box_whose_sensor_refuses_is_waited_for_while_it_is_away_and_asked_nothing_while_another_can() {
    let mut bench = bench();
    let strict = bench.agent("strict", 1, 1);
    let kind = bench.agent("kind", 1, 1);
    bench.says(strict, FromAgent::Sensor(refusing()));
    let job = bench.submit(quick());
    let grant = bench.grant();
    assert_eq!(grant.0, kind);
    finishes(&mut bench, grant, job);
    bench.step(Event::LinkDown { link: kind });
    bench.step(Event::LinkDown { link: strict });
    let waiting = bench.submit(quick());
    assert_eq!(*bench.state(waiting), JobState::Queued, "both may come back mended");
}

#[test]
fn what_one_policy_forbids_another_may_allow() {
    let mut bench = bench();
    bench.agent("one", 2, 2);
    let job = bench.submit(JobSpec { attempts: 1, ..quick() });
    let first = bench.grant();
    let second = bench.agent("two", 1, 1);
    bench.refuses(first, policy());
    let grant = bench.grant();
    assert_eq!(grant.0, second);
    finishes(&mut bench, grant, job);
}

#[test]
fn what_is_forbidden_waits_for_an_agent_that_is_away_but_not_for_one_that_does_not_fit() {
    let mut bench = bench();
    let away = bench.agent("away", 1, 1);
    bench.step(Event::LinkDown { link: away });
    let mut elsewhere = facts(&id("elsewhere"), 4, 0);
    elsewhere.pool = PoolName::new("gpu").unwrap();
    bench.agent_with("elsewhere", elsewhere, Offer { credits: 9, free_cores: 4 }, Vec::new());
    bench.agent("strict", 1, 9);
    let of_pool = |name: &str| JobSpec { pool: Some(PoolName::new(name).unwrap()), ..quick() };
    let job = bench.submit(of_pool("pool"));
    let grant = bench.grant();
    bench.refuses(grant, policy());
    assert_eq!(*bench.state(job), JobState::Queued, "the one that is away may allow it");
    bench.agent("away", 1, 1);
    let grant = bench.grant();
    bench.refuses(grant, policy());
    let (state, why) = bench.outcome(job);
    assert!(state == "parked" && why.contains("agent `away`") && why.contains("agent `strict`"), "{why}");
}

#[test]
fn after_a_restart_nobody_is_judged_by_the_first_agent_that_is_back() {
    let mut before = bench();
    let jobs: [JobId; 2] = [(); 2].map(|()| before.submit(quick()));
    let restored = |bench: &Bench, id| RestoredJob::from(bench.core.job(id).unwrap());
    let restored = Restored { jobs: jobs.map(|id| restored(&before, id)).into(), ..Restored::default() };
    let mut bench = bench();
    bench.core = Core::restore(Settings::default(), bench.now(), restored, &mut bench.actions);
    bench.agent("strict", 2, 2);
    for grant in bench.grants() {
        bench.refuses(grant, policy());
    }
    assert!(jobs.iter().all(|job| *bench.state(*job) == JobState::Queued));
    bench.agent("kind", 1, 1);
    let grant = bench.grant();
    finishes(&mut bench, grant, jobs[0]);
    bench.step(Event::LinkDown { link: grant.0 });
    // The kind one is known now, so that the other job waits for it.
    bench.wait_ms(60_000);
    assert_eq!(*bench.state(jobs[1]), JobState::Queued);
}

#[test]
fn after_a_restart_what_nobody_allows_ends_when_the_agents_had_time_to_come_back() {
    let mut before = bench();
    let job = before.submit(quick());
    let jobs = vec![RestoredJob::from(before.core.job(job).unwrap())];
    let mut bench = bench();
    let restored = Restored { jobs, ..Restored::default() };
    bench.core = Core::restore(Settings::default(), bench.now(), restored, &mut bench.actions);
    bench.agent("strict", 2, 2);
    let grant = bench.grant();
    bench.refuses(grant, policy());
    let Settings { lease, grace, .. } = Settings::default();
    let known_ms = u64::try_from((lease + grace).as_millis()).unwrap();
    bench.wait_ms(known_ms - 1);
    assert_eq!(*bench.state(job), JobState::Queued);
    bench.wait_ms(1);
    assert_eq!(bench.outcome(job).0, "parked");
}

#[test]
fn what_nobody_can_do_waits_with_the_reason_and_is_tried_again_when_something_changes() {
    type Change = fn(&mut Bench, darwin_coordinator_core::LinkId);
    let changes: [(&str, Change); 3] = [
        ("it reconnects", |bench, _| {
            bench.agent("box", 1, 1);
        }),
        ("its sensor changes", |bench, link| {
            bench.says(link, FromAgent::Sensor(jobs::sensor(false)));
            bench.says(link, FromAgent::Sensor(jobs::sensor(true)));
        }),
        ("an operator resumes it", |bench, _| {
            bench.ask(|caller| Event::SetDrained { caller, agent: id("box"), drained: false }).unwrap();
        }),
    ];
    for (what, change) in changes {
        let mut bench = bench();
        let link = bench.agent("box", 1, 1);
        let job = bench.submit(JobSpec { attempts: 1, ..quick() });
        let grant = bench.grant();
        bench.refuses(grant, unsupported());
        assert_eq!(*bench.state(job), JobState::Queued, "to decline is no attempt");
        let waits = bench.waits_for(job);
        assert!(
            waits.starts_with("nobody can take it now: box declined: it cannot do that: no perf"),
            "{waits}"
        );
        bench.offers(link, 1, 1);
        bench.says(link, FromAgent::Sensor(jobs::sensor(true)));
        assert_eq!(bench.grants(), [], "nothing has changed");
        change(&mut bench, link);
        let grant = bench.grant();
        assert_eq!(grant.1.number, 2, "{what}");
        finishes(&mut bench, grant, job);
    }
}

#[test]
fn an_agent_whose_sensor_is_not_ok_is_asked_again_when_it_offers_and_the_job_goes_elsewhere_meanwhile() {
    let mut bench = bench();
    let link = bench.agent("one", 1, 1);
    let job = bench.submit(JobSpec { attempts: 1, ..quick() });
    for _ in 0..5 {
        let grant = bench.grant();
        bench.refuses(grant, RefusalCause::Unhealthy("steal is 12%".to_owned()));
        assert_eq!(bench.grants(), []);
        let waits = bench.waits_for(job);
        assert!(waits.contains("one declined: its sensor is not ok: steal is 12%"), "{waits}");
        bench.offers(link, 1, 1);
    }
    let grant = bench.grant();
    bench.refuses(grant, RefusalCause::Unhealthy("steal is 12%".to_owned()));
    let other = bench.agent("two", 1, 1);
    let grant = bench.grant();
    assert_eq!(grant.0, other);
    finishes(&mut bench, grant, job);
}

#[test]
fn what_an_agent_declined_does_not_keep_it_from_what_is_behind() {
    let mut bench = bench();
    let link = bench.agent("box", 1, 1);
    let declined: Vec<JobId> = (0..100).map(|_| bench.submit(quick())).collect();
    let last = bench.submit(quick());
    for job in &declined {
        let grant = bench.grant();
        assert_eq!(grant.1.job, *job);
        bench.refuses(grant, unsupported());
    }
    let grant = bench.grant();
    finishes(&mut bench, grant, last);
    // Another box takes them all, oldest first; nothing of it is left at the first.
    bench.offers(link, 1, 1);
    assert_eq!(bench.grants(), []);
    bench.agent("other", 1, 100);
    let granted: Vec<JobId> = bench.grants().iter().map(|grant| grant.1.job).collect();
    assert_eq!(granted, declined);
}

#[test]
fn a_job_that_is_cancelled_while_it_is_declined_ends() {
    let mut bench = bench();
    bench.agent("box", 1, 1);
    let job = bench.submit(quick());
    let grant = bench.grant();
    bench.cancel(job).unwrap();
    bench.refuses(grant, unsupported());
    assert_eq!(bench.outcome(job).0, "cancelled");
    let waiting = bench.submit(quick());
    let grant = bench.grant();
    bench.refuses(grant, unsupported());
    bench.cancel(waiting).unwrap();
    assert_eq!(bench.outcome(waiting).0, "cancelled");
}

#[test]
fn an_agent_that_went_away_for_good_is_forgotten_and_a_drained_one_is_not() {
    let mut bench = bench();
    for name in ["gone", "drained"] {
        let link = bench.agent(name, 1, 1);
        bench.step(Event::LinkDown { link });
    }
    bench.ask(|caller| Event::SetDrained { caller, agent: id("drained"), drained: true }).unwrap();
    bench.wait_ms(23 * 3_600_000);
    bench.agent("here", 1, 1);
    assert_eq!(bench.core.agents().count(), 3);
    bench.wait_ms(2 * 3_600_000);
    bench.agent("new", 1, 1);
    let known: Vec<&str> = bench.core.agents().map(|agent| agent.id.as_str()).collect();
    assert_eq!(known, ["drained", "here", "new"]);
}
