//! Rounds that the box disturbed: counted while they happen, kept with the attempt, and nobody's fault.
#![expect(clippy::unwrap_used, reason = "test code: a failed unwrap is a failed test")]

use darwin_coordinator_core::{Core, FromAgent, ToAgent};
use darwin_gate::{Decision, Reason, Verdict};
use darwin_shared::attempt::{AttemptEnd, AttemptEvent};
use darwin_shared::ids::JobId;
use darwin_shared::state::{JobState, Outcome};
use darwin_shared::void::{VoidCause, VoidCount, VoidRounds};

use crate::bench::jobs::{self, Shape, spec};
use crate::bench::{Bench, Grant};
use crate::{bench, parked};

fn foreign(rounds: u32, share_ppm: u32) -> VoidRounds {
    VoidRounds::of([VoidCount { worst: VoidCause::Foreign { share_ppm }, rounds }])
}

fn granted(shape: Shape) -> (Bench, JobId, Grant) {
    let mut bench = bench();
    bench.agent("box", 2, 1);
    let job = bench.submit(spec(shape, "a", 0));
    let grant = bench.grant();
    bench.updates(grant, AttemptEvent::Accepted);
    (bench, job, grant)
}

fn running(bench: &mut Bench, grant: Grant, voids: VoidRounds) {
    let (cpus, isolation) = ("1".to_owned(), "affinity".to_owned());
    bench.updates(grant, AttemptEvent::Running { cpus, isolation, placement: String::new(), voids });
}

/// Measures a round, with what was void before it.
fn measured(bench: &mut Bench, (link, attempt, epoch): Grant, round: u32, voids: VoidRounds) {
    let spec = bench.core.job(attempt.job).unwrap().spec().clone();
    let mut result = jobs::round(&spec, attempt, epoch, round);
    result.voids = voids;
    bench.says(link, FromAgent::Round(Box::new(result)));
}

fn live_voids(core: &Core, job: JobId) -> VoidRounds {
    core.job(job).unwrap().live.as_ref().unwrap().all_voids()
}

fn kept_voids(bench: &Bench, job: JobId) -> &VoidRounds {
    &bench.core.job(job).unwrap().record.attempts.last().unwrap().voids
}

fn verdict(bench: &Bench, job: JobId) -> &Verdict {
    match bench.state(job) {
        JobState::Finished(Outcome::Judged(verdict)) => verdict,
        other => panic!("{other:?}"),
    }
}

const COMPARE: Shape = Shape::Compare { pairs: 20, faster: true };

#[test]
fn void_rounds_are_counted_once_while_they_happen_and_after() {
    let (mut bench, job, grant) = granted(COMPARE);
    running(&mut bench, grant, VoidRounds::default());
    measured(&mut bench, grant, 0, VoidRounds::default());
    running(&mut bench, grant, foreign(1, 300_000));
    running(&mut bench, grant, foreign(2, 410_000));
    assert_eq!(live_voids(&bench.core, job), foreign(2, 410_000));
    measured(&mut bench, grant, 1, foreign(2, 410_000));
    assert_eq!(live_voids(&bench.core, job), foreign(2, 410_000), "told twice, counted once");
    measured(&mut bench, grant, 1, foreign(2, 410_000));
    assert_eq!(live_voids(&bench.core, job), foreign(2, 410_000), "an echo changes nothing");
    running(&mut bench, grant, foreign(1, 500_000));
    for round in 2..20 {
        let voids = if round == 2 { foreign(1, 500_000) } else { VoidRounds::default() };
        if matches!(bench.state(job), JobState::Active) {
            measured(&mut bench, grant, round, voids);
        }
    }
    assert_eq!(verdict(&bench, job).decision, Decision::Approve);
    assert_eq!(kept_voids(&bench, job), &foreign(3, 500_000));
}

#[test]
fn a_disturbed_compare_is_inconclusive_and_nobodys_fault() {
    let (mut bench, job, grant) = granted(COMPARE);
    measured(&mut bench, grant, 0, VoidRounds::default());
    running(&mut bench, grant, foreign(3, 900_000));
    bench.ends(grant, AttemptEnd::Disturbed { rounds: 1, voids: foreign(4, 900_000) });
    let verdict = verdict(&bench, job);
    assert_eq!(verdict.decision, Decision::Inconclusive);
    assert_eq!(verdict.reason, Reason::Disturbed { voided: 4, of: 5 });
    assert!(verdict.notes.iter().any(|note| note.contains("4 foreign work")), "{:?}", verdict.notes);
    assert_eq!(kept_voids(&bench, job), &foreign(4, 900_000));
    assert!(bench.told().iter().any(|told| matches!(told, ToAgent::Release { .. })));
}

#[test]
fn a_compare_that_lost_few_rounds_is_judged_by_the_rest() {
    let (mut bench, job, grant) = granted(Shape::Compare { pairs: 40, faster: false });
    for round in 0..9 {
        measured(&mut bench, grant, round, VoidRounds::default());
    }
    bench.ends(grant, AttemptEnd::Disturbed { rounds: 9, voids: foreign(2, 900_000) });
    let verdict = verdict(&bench, job);
    assert!(!matches!(verdict.reason, Reason::Disturbed { .. }), "{:?}", verdict.reason);
    assert!(verdict.notes.iter().any(|note| note.contains("did not come to rest")), "{:?}", verdict.notes);
}

#[test]
fn an_end_waits_for_the_rounds_before_it() {
    let (mut bench, job, grant) = granted(COMPARE);
    bench.told();
    bench.ends(grant, AttemptEnd::Disturbed { rounds: 1, voids: foreign(4, 900_000) });
    assert!(matches!(bench.told()[..], [ToAgent::Replay { from_round: 0, .. }]));
    measured(&mut bench, grant, 0, VoidRounds::default());
    bench.ends(grant, AttemptEnd::Disturbed { rounds: 1, voids: foreign(4, 900_000) });
    assert_eq!(verdict(&bench, job).reason, Reason::Disturbed { voided: 4, of: 5 });
}

#[test]
fn without_a_single_round_a_compare_is_inconclusive_and_a_measurement_is_tried_again() {
    let (mut bench, job, grant) = granted(COMPARE);
    bench.ends(grant, AttemptEnd::Disturbed { rounds: 0, voids: foreign(4, 900_000) });
    assert_eq!(verdict(&bench, job).reason, Reason::Disturbed { voided: 4, of: 4 });

    let (mut bench, job, mut grant) = granted(Shape::Measure(5));
    for attempt in 1..=3 {
        bench.ends(grant, AttemptEnd::Disturbed { rounds: 0, voids: foreign(4, 900_000) });
        assert_eq!(kept_voids(&bench, job), &foreign(4, 900_000));
        if attempt < 3 {
            bench.offers(grant.0, 1, 1);
            grant = bench.grant();
        }
    }
    let last =
        "the box failed: it did not come to rest: 4 foreign work on the leased cores (worst 90% of a round)";
    assert_eq!(bench.outcome(job), parked(last));

    let (mut bench, job, grant) = granted(Shape::Measure(5));
    measured(&mut bench, grant, 0, VoidRounds::default());
    bench.ends(grant, AttemptEnd::Disturbed { rounds: 1, voids: foreign(4, 900_000) });
    assert_eq!(bench.outcome(job).0, "measured");
}
