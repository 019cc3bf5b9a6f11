//! Which job goes to which agent, and what becomes of a job that nobody takes or that comes back.

mod bench;
mod declining;
mod voids;

use bench::Bench;
use bench::jobs::{self, Shape, facts, spec};
use darwin_coordinator_core::{
    Action, AgentRecord, Answer, Core, Event, FromAgent, HeldAttempt, Offer, Refusal, Restored, Settings,
    ToAgent,
};
use darwin_shared::attempt::{AttemptEnd, AttemptEvent};
use darwin_shared::ids::{AgentId, JobId, PoolName};
use darwin_shared::spec::JobSpec;
use darwin_shared::state::{JobState, Outcome, RefusalCause};

fn quick() -> JobSpec {
    spec(Shape::Measure(1), "a", 0)
}

fn of(project: &str, priority: i32) -> JobSpec {
    spec(Shape::Measure(1), project, priority)
}

fn bench() -> Bench {
    Bench::new(Settings::default())
}

/// How a job ends that infrastructure failed.
fn parked(last: &str) -> (&'static str, String) {
    ("parked", format!("infrastructure failed too often; the last attempt: {last}"))
}

fn jobs_of(grants: &[bench::Grant]) -> Vec<JobId> {
    grants.iter().map(|(_, attempt, _)| attempt.job).collect()
}

#[test]
fn priority_goes_before_age() {
    let mut bench = bench();
    let [old, urgent, later] = [0, 5, 0].map(|priority| bench.submit(of("a", priority)));
    bench.agent("box", 4, 3);
    assert_eq!(jobs_of(&bench.grants()), [urgent, old, later]);
}

#[test]
fn a_project_with_less_under_way_goes_before_an_older_job() {
    let mut bench = bench();
    let [a1, a2, a3] = [(); 3].map(|()| bench.submit(of("a", 0)));
    let [b1, b2] = [(); 2].map(|()| bench.submit(of("b", 0)));
    bench.agent("box", 8, 5);
    assert_eq!(jobs_of(&bench.grants()), [a1, b1, a2, b2, a3]);
}

#[test]
fn what_has_ended_no_longer_counts_against_its_project() {
    let mut bench = bench();
    let link = bench.agent("box", 2, 1);
    let first = bench.submit(of("a", 0));
    let grant = bench.grant();
    let [a, _b] = ["a", "b"].map(|project| bench.submit(of(project, 0)));
    bench.updates(grant, AttemptEvent::Accepted);
    bench.measures(grant, 0..1);
    bench.ends(grant, AttemptEnd::Completed { rounds: 1 });
    assert_eq!(bench.outcome(first).0, "measured");
    bench.grants();
    bench.offers(link, 1, 1);
    assert_eq!(bench.grant().1.job, a, "project a has nothing under way any more, so age decides");
}

#[test]
fn a_job_goes_only_where_it_fits_and_says_what_it_waits_for() {
    let mut bench = bench();
    let plain = bench.submit(quick());
    assert_eq!(bench.waits_for(plain), "no agent has connected");

    let link = bench.agent("box", 2, 9);
    assert_eq!(bench.grant().1.job, plain);

    let pool = bench.submit(JobSpec { pool: Some(PoolName::new("gpu").unwrap()), ..quick() });
    assert_eq!(bench.waits_for(pool), "no agent is in pool `gpu`");

    let mut labelled = quick();
    labelled.labels.insert("kernel".to_owned(), "rt".to_owned());
    let label = bench.submit(labelled);
    assert_eq!(bench.waits_for(label), "no agent has the wanted value of label `kernel`");

    let mut wide = quick();
    wide.cores.count = 3;
    let cores = bench.submit(wide);
    assert_eq!(bench.waits_for(cores), "no agent leases out 3 whole core(s)");

    bench.offers(link, 9, 2);
    assert_eq!(bench.grants(), []);

    let mut all = facts(&AgentId::new("all").unwrap(), 3, 0);
    all.pool = PoolName::new("gpu").unwrap();
    all.labels.insert("kernel".to_owned(), "rt".to_owned());
    all.labels.insert("more".to_owned(), "than asked for".to_owned());
    bench.agent_with("all", all, Offer { credits: 9, free_cores: 3 }, Vec::new());
    assert_eq!(jobs_of(&bench.grants()), [pool, label, cores]);
    assert_eq!(bench.waits_for(pool), "");
}

#[test]
fn what_keeps_matching_agents_from_a_job_is_said() {
    let mut bench = bench();
    let link = bench.agent("one", 1, 0);
    bench.agent("two", 1, 0);
    let [first, second, third] = [(); 3].map(|()| bench.submit(quick()));
    assert_eq!(bench.waits_for(first), "next in line for 2 agents");
    assert_eq!(bench.waits_for(second), "1 job is before it, for 2 agents");
    assert_eq!(bench.waits_for(third), "2 jobs are before it, for 2 agents");
    bench.says(link, FromAgent::Sensor(jobs::sensor(false)));
    assert_eq!(bench.waits_for(first), "next in line for 1 agent, 1 more cannot take work now");
    let agent = AgentId::new("two").unwrap();
    bench.ask(|caller| Event::SetDrained { caller, agent, drained: true }).unwrap();
    assert_eq!(
        bench.waits_for(first),
        "nobody can take it now: one is not fit to measure, `darwin agent show one` says why; two is drained, `darwin \
         agent resume two` lets it work again"
    );
    bench.step(Event::LinkDown { link });
    let told = bench.waits_for(second);
    assert!(told.starts_with("nobody can take it now: one is away since 20"), "{told}");
    assert!(told.contains(" UTC; two is drained"), "{told}");
}

#[test]
fn jobs_spread_over_the_boxes_before_they_queue_up_on_one() {
    let mut bench = bench();
    let links = ["one", "two", "three"].map(|name| bench.agent(name, 2, 6));
    for _ in 0..6 {
        bench.submit(quick());
    }
    let mut taken: Vec<_> = bench.grants().iter().map(|(link, ..)| *link).collect();
    assert_eq!(taken[..3].iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{taken:?}");
    taken.sort();
    assert_eq!(taken, [links[0], links[0], links[1], links[1], links[2], links[2]]);
}

#[test]
fn an_offer_that_crossed_a_grant_is_not_taken_for_more() {
    let mut bench = bench();
    let link = bench.agent("box", 2, 1);
    let [first, second] = [(); 2].map(|()| bench.submit(quick()));
    let grant = bench.grant();
    assert_eq!(grant.1.job, first);
    // Said before the grant arrived.
    bench.offers(link, 1, 2);
    assert_eq!(bench.grants(), []);
    // The agent's own count takes over with its answer.
    bench.updates(grant, AttemptEvent::Accepted);
    assert_eq!(bench.grants(), []);
    bench.offers(link, 1, 1);
    assert_eq!(bench.grant().1.job, second);
}

#[test]
fn what_an_agent_holds_when_it_connects_is_not_taken_off_its_offer() {
    let mut bench = bench();
    let link = bench.agent("box", 2, 1);
    bench.submit(quick());
    let (_, attempt, epoch) = bench.grant();
    bench.step(Event::LinkDown { link });
    // Its acceptance was lost with the link; its hello says that it has the attempt and room for one more.
    let held = HeldAttempt { attempt, epoch, rounds: 0, live: true, end: None };
    let next = bench.submit(quick());
    let facts = facts(&AgentId::new("box").unwrap(), 2, 0);
    bench.agent_with("box", facts, Offer { credits: 1, free_cores: 1 }, vec![held]);
    assert_eq!(bench.grant().1.job, next);
}

#[test]
fn a_busy_agent_is_asked_again_only_when_it_offers_again_and_at_no_cost() {
    let mut bench = bench();
    let link = bench.agent("box", 1, 1);
    let job = bench.submit(JobSpec { attempts: 1, ..quick() });
    for _ in 0..10 {
        let grant = bench.grant();
        bench.refuses(grant, RefusalCause::Busy);
        assert_eq!(bench.grants(), [], "it has just said that it is busy");
        assert_eq!(*bench.state(job), JobState::Queued);
        bench.offers(link, 1, 1);
    }
    let grant = bench.grant();
    assert_eq!(grant.1.number, 11);
    bench.measures(grant, 0..1);
    bench.ends(grant, AttemptEnd::Completed { rounds: 1 });
    assert_eq!(bench.outcome(job).0, "measured");
}

#[test]
fn a_job_that_is_refused_without_end_waits_with_a_small_record_until_it_expires() {
    let mut bench = bench();
    let link = bench.agent("box", 1, 1);
    let job = bench.submit(JobSpec { attempts: 1, ..quick() });
    let wait_max_ms = u64::try_from(Settings::default().wait_max.as_millis()).unwrap();
    for refusals in 1..=1_000 {
        let grant = bench.grant();
        assert_eq!(grant.1.number, refusals, "every grant has a number of its own");
        bench.refuses(grant, RefusalCause::Busy);
        bench.wait_ms(wait_max_ms / 2_000);
        bench.offers(link, 1, 1);
    }
    assert!(bench.core.job(job).unwrap().record.attempts.len() <= 20, "the record grows without end");
    let grant = bench.grant();
    bench.refuses(grant, RefusalCause::Busy);
    bench.wait_ms(wait_max_ms / 2);
    assert_eq!(bench.outcome(job).0, "expired", "to be refused does not make its waiting begin anew");
}

#[test]
fn what_one_box_cannot_do_another_may_and_the_first_goes_on_with_the_next() {
    let mut bench = bench();
    let first_link = bench.agent("one", 2, 1);
    let job = bench.submit(quick());
    let grant = bench.grant();
    let second_link = bench.agent("two", 1, 1);
    bench.refuses(grant, RefusalCause::Unsupported("no perf".to_owned()));
    let again = bench.grant();
    assert_eq!((again.0, again.1.job), (second_link, job));
    assert!(again.2 > grant.2, "the epoch grows");
    // The first box makes no new offer: what it said still holds.
    let next = bench.submit(quick());
    let grant = bench.grant();
    assert_eq!((grant.0, grant.1.job), (first_link, next));
}

#[test]
fn a_sensor_that_is_down_gets_nothing_until_it_is_well() {
    let mut bench = bench();
    let link = bench.agent("box", 1, 1);
    bench.says(link, FromAgent::Sensor(jobs::sensor(false)));
    let job = bench.submit(quick());
    assert_eq!(bench.grants(), []);
    bench.says(link, FromAgent::Sensor(jobs::sensor(true)));
    assert_eq!(bench.grant().1.job, job);
}

#[test]
fn a_job_that_waits_too_long_expires() {
    let mut bench = bench();
    let job = bench.submit(quick());
    let wait_max_ms = u64::try_from(Settings::default().wait_max.as_millis()).unwrap();
    bench.wait_ms(wait_max_ms - 1);
    assert_eq!(*bench.state(job), JobState::Queued);
    bench.wait_ms(1);
    assert_eq!(*bench.state(job), JobState::Finished(Outcome::Expired));
    assert_eq!(bench.core.next_timer(), None);
    bench.agent("box", 1, 1);
    assert_eq!(bench.grants(), []);
}

#[test]
fn a_job_that_two_agents_died_of_is_parked_and_not_given_to_a_third() {
    let mut bench = bench();
    for name in ["one", "two", "three"] {
        bench.agent(name, 1, 1);
    }
    let job = bench.submit(JobSpec { attempts: 10, ..quick() });
    let settings = Settings::default();
    let lease_ms = u64::try_from((settings.lease + settings.grace).as_millis()).unwrap();
    let first = bench.grant();
    bench.updates(first, AttemptEvent::Accepted);
    bench.wait_ms(lease_ms - 1);
    assert_eq!(bench.grants(), [], "silence within the lease is not death");
    bench.wait_ms(1);
    let second = bench.grant();
    assert_ne!(first.0, second.0);
    bench.updates(second, AttemptEvent::Accepted);
    // The second box starts anew and knows of nothing.
    let name = if bench.core.agent(&AgentId::new("two").unwrap()).unwrap().link == Some(second.0) {
        "two"
    } else {
        "three"
    };
    bench.agent(name, 1, 1);
    assert_eq!(bench.outcome(job), parked("the agent started anew in the middle of it"));
    assert_eq!(bench.grants(), []);
}

#[test]
fn a_coordinator_that_stood_still_takes_nobody_for_dead() {
    let mut bench = bench();
    bench.agent("one", 1, 1);
    bench.agent("two", 1, 1);
    bench.submit(quick());
    let first = bench.grant();
    bench.updates(first, AttemptEvent::Accepted);
    let settings = Settings::default();
    let lease_ms = u64::try_from((settings.lease + settings.grace).as_millis()).unwrap();
    // Stopped for an hour: the agent's renewals lie unread.
    bench.stand_still_ms(3_600_000);
    assert_eq!(bench.grants(), [], "the lease begins anew");
    bench.wait_ms(lease_ms);
    assert_ne!(bench.grant().0, first.0, "and ends as ever if nothing is heard");
}

#[test]
fn a_box_that_fails_costs_an_attempt_and_the_last_one_parks() {
    let mut bench = bench();
    let link = bench.agent("box", 1, 1);
    let job = bench.submit(JobSpec { attempts: 3, ..quick() });
    for number in 1..=3 {
        let grant = bench.grant();
        assert_eq!(grant.1.number, number);
        bench.ends(grant, AttemptEnd::Box("the disk is full".to_owned()));
        bench.offers(link, 1, 1);
    }
    assert_eq!(bench.outcome(job), parked("the box failed: the disk is full"));
    assert_eq!(bench.grants(), []);
}

#[test]
fn a_grant_that_never_reached_its_agent_is_repeated_and_costs_nothing() {
    let mut bench = bench();
    let mut link = bench.agent("box", 1, 1);
    let job = bench.submit(JobSpec { attempts: 1, ..quick() });
    let first = bench.grant();
    for _ in 0..3 {
        bench.step(Event::LinkDown { link });
        link = bench.agent("box", 1, 1);
        assert_eq!(bench.grant(), (link, first.1, first.2));
    }
    assert_eq!(bench.core.job(job).unwrap().record.attempts.len(), 1);
    // Once it was accepted, to know nothing of it is a loss.
    bench.updates((link, first.1, first.2), AttemptEvent::Accepted);
    bench.agent("box", 1, 1);
    assert_eq!(bench.outcome(job).0, "parked");
}

#[test]
fn a_drained_agent_keeps_what_it_has_and_gets_nothing_new_even_after_a_restart() {
    let mut bench = bench();
    let link = bench.agent("box", 2, 2);
    bench.submit(quick());
    bench.grant();
    let id = AgentId::new("box").unwrap();
    let agent = id.clone();
    bench.ask(|caller| Event::SetDrained { caller, agent, drained: true }).unwrap();
    bench.actions.clear();
    let waits = bench.submit(quick());
    bench.offers(link, 2, 2);
    assert_eq!(bench.grants(), []);
    assert_eq!(bench.core.agent(&id).unwrap().state().to_string(), "draining");

    // The ledger remembers it.
    let restored =
        Restored { agents: vec![(id.clone(), 1, AgentRecord { drained: true })], ..Restored::default() };
    let mut after = Bench::new(Settings::default());
    after.core = Core::restore(Settings::default(), after.now(), restored, &mut after.actions);
    assert_eq!(after.core.agent(&id).map(|agent| agent.state().to_string()), Some("away".to_owned()));
    after.agent("box", 2, 2);
    after.submit(quick());
    assert_eq!(after.grants(), []);

    // An operator may let it go on, even while it is away.
    let agent = id.clone();
    bench.ask(|caller| Event::SetDrained { caller, agent, drained: false }).unwrap();
    assert_eq!(bench.grant().1.job, waits);
    let agent = AgentId::new("nobody").unwrap();
    let refused = bench.ask(|caller| Event::SetDrained { caller, agent: agent.clone(), drained: false });
    assert_eq!(refused, Err(Refusal::NoSuchAgent(agent)));
}

#[test]
fn a_full_queue_refuses_and_a_repeated_request_is_still_answered() {
    let mut bench = Bench::new(Settings { queued_max: 2, ..Settings::default() });
    let Ok(Answer::Submitted { job, known: false }) = bench.submit_as("one", quick()) else { panic!() };
    bench.submit(quick());
    assert_eq!(bench.submit_as("three", quick()), Err(Refusal::QueueFull(2)));
    assert_eq!(bench.submit_as("one", quick()), Ok(Answer::Submitted { job, known: true }));
    assert_eq!(bench.submit_as("one", of("other", 0)), Err(Refusal::RequestIdReused("one".to_owned())));
    assert_eq!(bench.core.counts(), (2, 0));
}

#[test]
fn finished_jobs_are_forgotten_oldest_first_and_with_them_their_requests() {
    let mut bench = Bench::new(Settings { recent_max: 2, ..Settings::default() });
    let mut jobs = Vec::new();
    for request in ["one", "two", "three"] {
        let Ok(Answer::Submitted { job, .. }) = bench.submit_as(request, quick()) else { panic!() };
        assert_eq!(bench.cancel(job), Ok(Answer::Cancelling { was_queued: true }));
        jobs.push(job);
    }
    assert!(bench.core.job(jobs[0]).is_none());
    assert_eq!(bench.submit_as("three", quick()), Ok(Answer::Submitted { job: jobs[2], known: true }));
    let Ok(Answer::Submitted { job, known: false }) = bench.submit_as("one", quick()) else { panic!() };
    assert!(job > jobs[2]);
    assert_eq!(bench.cancel(jobs[0]), Err(Refusal::NoSuchJob(jobs[0])));
    assert_eq!(bench.cancel(jobs[2]), Err(Refusal::Finished { job: jobs[2], state: "cancelled" }));
}

#[test]
fn a_running_job_ends_when_its_agent_has_ended_it() {
    let mut bench = bench();
    bench.agent("box", 1, 1);
    let job = bench.submit(quick());
    let grant = bench.grant();
    assert_eq!(bench.cancel(job), Ok(Answer::Cancelling { was_queued: false }));
    let (_, attempt, epoch) = grant;
    assert_eq!(bench.told(), [ToAgent::Cancel { attempt, epoch }]);
    assert_eq!(*bench.state(job), JobState::Active);
    bench.ends(grant, AttemptEnd::Cancelled);
    assert_eq!(*bench.state(job), JobState::Finished(Outcome::Cancelled { by: "tester".to_owned() }));
    assert_eq!(bench.told(), [ToAgent::Release { attempt }]);
}

#[test]
fn the_verdict_comes_at_the_look_and_the_agent_is_told_to_stop() {
    let mut bench = bench();
    bench.agent("box", 1, 1);
    let job = bench.submit(spec(Shape::Compare { pairs: 12, faster: true }, "a", 0));
    let grant = bench.grant();
    bench.measures(grant, 0..9);
    assert_eq!(*bench.state(job), JobState::Active);
    // Round 10 before round 9: asked for again. Round 3 a second time: counts once.
    bench.measures(grant, 10..11);
    bench.measures(grant, 3..4);
    let (_, attempt, epoch) = grant;
    let told = bench.told();
    assert!(told.contains(&ToAgent::Replay { attempt, from_round: 9 }), "{told:?}");
    bench.measures(grant, 9..10);
    let JobState::Finished(Outcome::Judged(verdict)) = bench.state(job) else {
        panic!("{:?}", bench.state(job))
    };
    assert_eq!(**verdict, jobs::expected_verdict(bench.core.job(job).unwrap().spec()));
    let writes = bench.actions.iter().position(|action| matches!(action, Action::Write(_)));
    let stop = ToAgent::Ack { attempt, epoch, rounds: 10, stop: true };
    let says = bench
        .actions
        .iter()
        .position(|action| matches!(action, Action::Send { message, .. } if *message == stop));
    assert!(writes < says && writes.is_some(), "persist, then speak");
    // What comes after the verdict changes nothing, however odd.
    bench.actions.clear();
    let mut odd = jobs::round(&spec(Shape::Measure(1), "a", 0), attempt, epoch, 0);
    odd.round = u32::MAX;
    bench.says(grant.0, FromAgent::Round(Box::new(odd)));
    assert!(!bench.actions.iter().any(|action| matches!(action, Action::Write(_))));
}
