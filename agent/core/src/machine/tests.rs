use std::time::Duration;

use darwin_shared::attempt::{AttemptEnd, AttemptEvent};
use darwin_shared::cpu::CpuSet;
use darwin_shared::ids::{AttemptId, Epoch, JobId};
use darwin_shared::spec::CoreRequest;
use darwin_shared::state::RefusalCause;
use darwin_shared::void::VoidCause;

use super::{Action, Event, Limits, Machine, Plan, Remembered};
use crate::cpu_alloc::Allocator;
use crate::topology::{CoreKind, Cpu, NodeId, Topology};

/// A box of so many single-threaded cores, of which CPU 0 keeps house.
pub(super) fn box_of(cores: u32) -> Allocator {
    let cpus = (0..cores)
        .map(|id| {
            let mut siblings = CpuSet::new();
            siblings.insert(id).unwrap();
            Cpu {
                id,
                siblings,
                node: NodeId(0),
                llc: None,
                kind: CoreKind::default(),
                isolated: false,
                nohz_full: false,
            }
        })
        .collect();
    Allocator::new(&Topology::new(cpus).unwrap(), None).unwrap()
}

pub(super) fn machine_of(slots: u32, remembered: Vec<Remembered>) -> (Machine, Vec<Action>) {
    let limits = Limits { slots, stagers: 1, ahead: 2, lease_grace: Duration::ZERO };
    Machine::new(limits, box_of(slots + 1), remembered, None)
}

pub(super) fn attempt(job: u64, number: u32) -> AttemptId {
    AttemptId { job: JobId::from_parts(job, 0), number }
}

pub(super) fn epoch(counter: u64) -> Epoch {
    Epoch { generation: 1, counter }
}

pub(super) fn plan(rounds_max: u32) -> Plan {
    Plan {
        rounds_max,
        time: Duration::from_mins(10),
        looks: Vec::new(),
        cores: CoreRequest::default(),
        needs_staging: false,
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn welcome(stale: Vec<AttemptId>) -> Event {
    Event::Welcomed { lease: 15 * SECOND, renew_every: 4 * SECOND, stale, drained: false }
}

fn linked(slots: u32) -> Machine {
    let (mut machine, actions) = machine_of(slots, Vec::new());
    assert_eq!(actions, []);
    assert_eq!(machine.step(Event::HelloSent, Duration::ZERO), []);
    assert_eq!(machine.step(welcome(Vec::new()), Duration::ZERO), []);
    machine
}

fn assign(machine: &mut Machine, job: u64, plan: Plan, now: Duration) -> Vec<Action> {
    step(machine, Event::Assigned { attempt: attempt(job, 1), epoch: epoch(job), plan: Ok(plan) }, now)
}

/// A step on a box that no other agent uses: whatever cores are asked for are there.
fn step(machine: &mut Machine, event: Event, now: Duration) -> Vec<Action> {
    let mut actions = machine.step(event, now);
    if let Some(attempt) = taking(&actions) {
        actions.extend(machine.step(Event::CoresTaken { attempt }, now));
    }
    actions
}

/// Whom cores are to be taken for.
fn taking(actions: &[Action]) -> Option<AttemptId> {
    actions.iter().find_map(|action| match action {
        Action::TakeCores { attempt, .. } => Some(*attempt),
        _ => None,
    })
}

fn end_of(actions: &[Action]) -> Option<&AttemptEnd> {
    actions.iter().find_map(|action| match action {
        Action::WriteEnd { end, .. } => Some(end),
        _ => None,
    })
}

fn measures(actions: &[Action]) -> Option<u32> {
    actions.iter().find_map(|action| match action {
        Action::Measure { round, .. } => Some(*round),
        _ => None,
    })
}

#[test]
fn the_intent_is_written_before_it_is_spoken_of_and_before_anything_runs() {
    let mut machine = linked(1);
    let actions = assign(&mut machine, 1, plan(1), Duration::ZERO);
    let kinds: Vec<&str> = actions
        .iter()
        .map(|action| match action {
            Action::WriteIntent { .. } => "intent",
            Action::Tell { .. } => "tell",
            Action::TakeCores { .. } => "take",
            Action::Measure { .. } => "measure",
            Action::SendOffer(_) => "offer",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["intent", "tell", "take", "offer", "measure"]);
}

#[test]
fn the_next_attempt_gets_the_cores_in_the_step_that_frees_them() {
    let mut machine = linked(1);
    assign(&mut machine, 1, plan(1), Duration::ZERO);
    assert_eq!(measures(&assign(&mut machine, 2, plan(1), Duration::ZERO)), None);
    let actions = step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 0 }, SECOND);
    assert_eq!(end_of(&actions), Some(&AttemptEnd::Completed { rounds: 1 }));
    assert!(actions.contains(&Action::Measure { attempt: attempt(2, 1), round: 0, slot: 0 }));
}

#[test]
fn rounds_go_on_until_the_plan_is_done_or_time_is_up() {
    let mut machine = linked(1);
    assign(&mut machine, 1, Plan { time: 9 * SECOND, ..plan(3) }, Duration::ZERO);
    let done = |round| Event::RoundDone { attempt: attempt(1, 1), round };
    assert_eq!(measures(&step(&mut machine, done(0), SECOND)), Some(1));
    assert_eq!(step(&mut machine, done(0), SECOND), [], "told twice, counted once");
    let actions = step(&mut machine, done(1), 9 * SECOND);
    assert_eq!(end_of(&actions), Some(&AttemptEnd::Completed { rounds: 2 }));
}

#[test]
fn a_round_that_outlasts_the_jobs_time_does_not_count_unless_it_is_the_first() {
    let mut machine = linked(1);
    let short = Plan { time: 3 * SECOND, ..plan(9) };
    assign(&mut machine, 1, short, Duration::ZERO);
    assert_eq!(step(&mut machine, Event::Woken, 3 * SECOND), [], "the first round goes on");
    let mut machine = linked(1);
    let short = Plan { time: 3 * SECOND, ..plan(9) };
    assign(&mut machine, 1, short, Duration::ZERO);
    step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 0 }, SECOND);
    assert_eq!(machine.wake_at(), Some(3 * SECOND));
    assert_eq!(step(&mut machine, Event::Woken, 3 * SECOND), [Action::Stop { attempt: attempt(1, 1) }]);
    let actions = step(&mut machine, Event::Stopped { attempt: attempt(1, 1) }, 3 * SECOND);
    assert_eq!(end_of(&actions), Some(&AttemptEnd::Completed { rounds: 1 }));
}

#[test]
fn a_look_waits_for_the_gate_and_no_longer_than_two_seconds() {
    let looked = Plan { looks: vec![1], ..plan(9) };
    let done = Event::RoundDone { attempt: attempt(1, 1), round: 0 };
    let ack = |stop| Event::Acked { attempt: attempt(1, 1), epoch: epoch(1), rounds: 1, stop };

    let mut machine = linked(1);
    assign(&mut machine, 1, looked, Duration::ZERO);
    assert_eq!(measures(&step(&mut machine, done, Duration::ZERO)), None);
    assert_eq!(machine.wake_at(), Some(2 * SECOND));

    let mut late = machine.clone();
    assert_eq!(measures(&step(&mut late, Event::Woken, 2 * SECOND)), Some(1));
    assert_eq!(step(&mut late, ack(true), 3 * SECOND), [], "a round is under way");
    let actions = step(&mut late, Event::RoundDone { attempt: attempt(1, 1), round: 1 }, 4 * SECOND);
    assert_eq!(end_of(&actions), Some(&AttemptEnd::Completed { rounds: 2 }));

    assert_eq!(measures(&step(&mut machine.clone(), ack(false), SECOND)), Some(1));
    assert_eq!(end_of(&step(&mut machine, ack(true), SECOND)), Some(&AttemptEnd::Completed { rounds: 1 }));
}

#[test]
fn stale_epochs_are_refused_and_a_repeated_grant_is_not_taken_twice() {
    let mut machine = linked(1);
    let grant = |number, counter| Event::Assigned {
        attempt: attempt(1, number),
        epoch: epoch(counter),
        plan: Ok(plan(1)),
    };
    step(&mut machine, grant(1, 5), Duration::ZERO);
    let again = step(&mut machine, grant(1, 5), Duration::ZERO);
    assert_eq!(
        again,
        [Action::Tell { attempt: attempt(1, 1), epoch: epoch(5), event: AttemptEvent::Accepted }]
    );
    for counter in [4, 5] {
        let event = AttemptEvent::Refused(RefusalCause::StaleEpoch);
        let refused = Action::Tell { attempt: attempt(1, 2), epoch: epoch(counter), event };
        assert_eq!(step(&mut machine, grant(2, counter), Duration::ZERO)[0], refused);
    }
    let actions = step(&mut machine, grant(2, 6), Duration::ZERO);
    assert!(actions.contains(&Action::Stop { attempt: attempt(1, 1) }), "its epoch is over: {actions:?}");
    assert_eq!(measures(&actions), None, "the cores are not free yet");
    let actions = step(&mut machine, Event::Stopped { attempt: attempt(1, 1) }, Duration::ZERO);
    assert_eq!(actions[0], Action::Forget { attempt: attempt(1, 1) });
    assert!(actions.contains(&Action::Measure { attempt: attempt(1, 2), round: 0, slot: 0 }));
}

#[test]
fn a_grant_that_was_refused_is_never_taken_later() {
    let mut machine = linked(1);
    let grant = |counter, plan| Event::Assigned { attempt: attempt(1, 1), epoch: epoch(counter), plan };
    let refusal = |actions: &[Action]| match &actions[0] {
        Action::Tell { event: AttemptEvent::Refused(cause), .. } => Some(cause.clone()),
        _ => None,
    };
    let not_here = RefusalCause::Unsupported("not here".to_owned());
    let refused = step(&mut machine, grant(5, Err(not_here.clone())), Duration::ZERO);
    assert_eq!(refusal(&refused), Some(not_here));
    for counter in [4, 5] {
        let echo = step(&mut machine, grant(counter, Ok(plan(1))), Duration::ZERO);
        assert_eq!(refusal(&echo), Some(RefusalCause::StaleEpoch), "an echo of what was answered");
    }
    assert_eq!(machine.live().count(), 0);
    step(&mut machine, grant(6, Ok(plan(1))), Duration::ZERO);
    assert_eq!(machine.live().count(), 1);
}

#[test]
fn an_agent_on_its_way_out_says_nothing_against_the_job() {
    let mut machine = linked(1);
    assign(&mut machine, 1, plan(2), Duration::ZERO);
    step(&mut machine, Event::LeaveAsked, SECOND);
    let late = Event::Assigned { attempt: attempt(2, 1), epoch: epoch(2), plan: Ok(plan(1)) };
    let refused = AttemptEvent::Refused(RefusalCause::Busy);
    let actions = step(&mut machine, late, SECOND);
    assert!(matches!(&actions[0], Action::Tell { event, .. } if *event == refused), "{actions:?}");
}

#[test]
fn a_cancel_ends_the_processes_before_it_frees_the_cores() {
    let mut machine = linked(1);
    assign(&mut machine, 1, plan(5), Duration::ZERO);
    let cancel = |counter| Event::CancelAsked { attempt: attempt(1, 1), epoch: epoch(counter) };
    assert_eq!(step(&mut machine, cancel(9), Duration::ZERO), [], "another fence");
    assert_eq!(step(&mut machine, cancel(1), Duration::ZERO), [Action::Stop { attempt: attempt(1, 1) }]);
    assert_eq!(machine.offer().free_cores, 0);
    // The round ended by itself before the stop took hold: it does not count any more.
    let actions = step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 0 }, SECOND);
    assert_eq!(end_of(&actions), Some(&AttemptEnd::Cancelled));
    assert!(!actions.iter().any(|action| matches!(action, Action::ReportRound { .. })));
    assert_eq!(machine.offer().free_cores, 1);
}

#[test]
fn a_lease_ends_what_the_coordinator_cannot_renew() {
    let mut machine = linked(1);
    assign(&mut machine, 1, plan(5), Duration::ZERO);
    assert_eq!(machine.wake_at(), Some(4 * SECOND));
    assert_eq!(step(&mut machine, Event::Woken, 4 * SECOND), [Action::SendRenewal]);
    step(&mut machine, Event::LinkLost { unsure_for: Duration::ZERO }, 5 * SECOND);
    assert_eq!(machine.wake_at(), Some(19 * SECOND), "from when the renewal was sent");
    step(&mut machine, Event::LinkLost { unsure_for: 3 * SECOND }, 5 * SECOND);
    assert_eq!(machine.wake_at(), Some(17 * SECOND), "the renewal may not have arrived");
    assert_eq!(step(&mut machine, Event::Woken, 16 * SECOND), []);
    assert_eq!(step(&mut machine, Event::Woken, 17 * SECOND), [Action::Stop { attempt: attempt(1, 1) }]);
    let actions = step(&mut machine, Event::Stopped { attempt: attempt(1, 1) }, 17 * SECOND);
    assert!(matches!(end_of(&actions), Some(AttemptEnd::Box(why)) if why.contains("longer than the lease")));
    // Back in touch, the hello tells of it, and the coordinator lets it go.
    assert_eq!(machine.held().filter(|held| held.end.is_some()).count(), 1);
    step(&mut machine, Event::HelloSent, 18 * SECOND);
    step(&mut machine, welcome(Vec::new()), 18 * SECOND);
    let released = step(&mut machine, Event::Released { attempt: attempt(1, 1) }, 18 * SECOND);
    assert_eq!(released, [Action::Forget { attempt: attempt(1, 1) }]);
}

#[test]
fn stale_attempts_are_dropped_on_the_welcome_and_the_rest_goes_on() {
    let mut machine = linked(2);
    assign(&mut machine, 1, plan(5), Duration::ZERO);
    assign(&mut machine, 2, plan(5), Duration::ZERO);
    step(&mut machine, Event::LinkLost { unsure_for: Duration::ZERO }, SECOND);
    step(&mut machine, Event::HelloSent, SECOND);
    let actions = step(&mut machine, welcome(vec![attempt(1, 1)]), SECOND);
    assert_eq!(actions, [Action::Stop { attempt: attempt(1, 1) }]);
    let actions = step(&mut machine, Event::Stopped { attempt: attempt(1, 1) }, SECOND);
    assert_eq!(actions[0], Action::Forget { attempt: attempt(1, 1) });
    assert_eq!(machine.live().map(|(id, _)| id).collect::<Vec<_>>(), [attempt(2, 1)]);
}

#[test]
fn an_earlier_life_leaves_ends_and_fences_and_what_it_had_not_ended_is_not_known_any_more() {
    let held = |job, end| Remembered { attempt: attempt(job, 1), epoch: epoch(job), rounds: 2, end };
    let done = AttemptEnd::Completed { rounds: 2 };
    let (mut machine, actions) = machine_of(1, vec![held(7, None), held(8, Some(done))]);
    assert_eq!(actions, [Action::Forget { attempt: attempt(7, 1) }], "the complete one stays as it was");
    let known: Vec<AttemptId> = machine.held().map(|held| held.attempt).collect();
    assert_eq!(known, [attempt(8, 1)], "what the hello does not name was lost with the earlier life");
    step(&mut machine, Event::HelloSent, Duration::ZERO);
    step(&mut machine, welcome(Vec::new()), Duration::ZERO);
    let stale = Event::Assigned { attempt: attempt(7, 2), epoch: epoch(6), plan: Ok(plan(1)) };
    let actions = step(&mut machine, stale, Duration::ZERO);
    let refused = AttemptEvent::Refused(RefusalCause::StaleEpoch);
    assert!(matches!(&actions[0], Action::Tell { event, .. } if *event == refused));
    let replay = Event::ReplayAsked { attempt: attempt(8, 1), from_round: 1 };
    let actions = step(&mut machine, replay, Duration::ZERO);
    let resend = Action::ResendRounds { attempt: attempt(8, 1), from_round: 1 };
    assert_eq!(actions[0], resend);
    assert!(matches!(&actions[1], Action::Tell { event: AttemptEvent::Ended(_), .. }), "{actions:?}");
}

#[test]
fn one_is_staged_at_a_time_while_another_measures() {
    let mut machine = linked(1);
    let staged = Plan { needs_staging: true, ..plan(5) };
    assign(&mut machine, 1, plan(5), Duration::ZERO);
    let actions = assign(&mut machine, 2, staged.clone(), Duration::ZERO);
    assert!(actions.contains(&Action::Stage { attempt: attempt(2, 1) }));
    let actions = assign(&mut machine, 3, staged, Duration::ZERO);
    assert!(!actions.contains(&Action::Stage { attempt: attempt(3, 1) }));
    let actions = step(&mut machine, Event::Staged { attempt: attempt(2, 1) }, SECOND);
    assert!(actions.contains(&Action::Stage { attempt: attempt(3, 1) }));
    assert_eq!(measures(&actions), None);
}

#[test]
fn what_the_box_can_never_do_is_refused_by_name() {
    let mut machine = linked(1);
    let greedy = Plan { cores: CoreRequest { count: 3, ..CoreRequest::default() }, ..plan(1) };
    let actions = assign(&mut machine, 1, greedy, Duration::ZERO);
    let [Action::Tell { event: AttemptEvent::Refused(RefusalCause::Unsupported(why)), .. }] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    assert!(why.contains("3 cores"), "{why}");
}

#[test]
fn leaving_finishes_what_has_cores_and_gives_back_the_rest() {
    let mut machine = linked(1);
    assign(&mut machine, 1, plan(2), Duration::ZERO);
    assign(&mut machine, 2, plan(2), Duration::ZERO);
    let actions = step(&mut machine, Event::LeaveAsked, SECOND);
    assert_eq!(end_of(&actions), Some(&AttemptEnd::Cancelled));
    assert_eq!(machine.offer().credits, 0);
    let now = step(&mut machine.clone(), Event::LeaveNow, SECOND);
    assert_eq!(now, [Action::Stop { attempt: attempt(1, 1) }]);
    step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 0 }, SECOND);
    let actions = step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 1 }, SECOND);
    assert_eq!(actions.last(), Some(&Action::Leave));
}

#[test]
fn a_drained_agent_gives_back_what_has_no_cores_yet() {
    let mut machine = linked(1);
    let staged = Plan { needs_staging: true, ..plan(1) };
    assign(&mut machine, 1, plan(2), Duration::ZERO);
    assign(&mut machine, 2, plan(1), Duration::ZERO);
    assign(&mut machine, 3, staged.clone(), Duration::ZERO);
    assign(&mut machine, 4, staged, Duration::ZERO);
    let ended = |actions: &[Action]| -> Vec<(u64, AttemptEnd)> {
        let ends = actions.iter().filter_map(|action| match action {
            Action::WriteEnd { attempt: id, end } => Some((*id, end.clone())),
            _ => None,
        });
        ends.map(|(id, end)| ((1..5).find(|&job| attempt(job, 1) == id).unwrap(), end)).collect()
    };
    let actions = step(&mut machine, Event::DrainAsked(true), SECOND);
    assert_eq!(ended(&actions), [(2, AttemptEnd::Cancelled), (4, AttemptEnd::Cancelled)]);
    assert!(actions.contains(&Action::Stop { attempt: attempt(3, 1) }), "{actions:?}");
    let actions = step(&mut machine, Event::Stopped { attempt: attempt(3, 1) }, SECOND);
    assert_eq!(ended(&actions), [(3, AttemptEnd::Cancelled)]);
    assert_eq!(
        measures(&step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 0 }, SECOND)),
        Some(1)
    );
    let welcome =
        Event::Welcomed { lease: 15 * SECOND, renew_every: 4 * SECOND, stale: vec![], drained: true };
    let mut away = linked(1);
    assign(&mut away, 1, plan(1), Duration::ZERO);
    assign(&mut away, 2, plan(1), Duration::ZERO);
    away.step(Event::LinkLost { unsure_for: Duration::ZERO }, SECOND);
    away.step(Event::HelloSent, SECOND);
    assert_eq!(ended(&away.step(welcome, SECOND)), [(2, AttemptEnd::Cancelled)], "drained while it was away");
}

#[test]
fn cores_that_another_agent_has_are_waited_for_and_others_are_taken_meanwhile() {
    let cpus = |list: &str| list.parse::<CpuSet>().unwrap();
    let take = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::TakeCores { attempt, granted, .. } => Some((*attempt, granted.cpus.to_string())),
            _ => None,
        })
    };
    let mut machine = linked(2);
    let grant = Event::Assigned { attempt: attempt(1, 1), epoch: epoch(1), plan: Ok(plan(1)) };
    let actions = machine.step(grant, Duration::ZERO);
    assert_eq!(take(&actions), Some((attempt(1, 1), "1".to_owned())));
    assert_eq!(measures(&actions), None, "not before the cores are its own");
    let denied = |list| Event::CoresElsewhere { attempt: attempt(1, 1), cpus: cpus(list) };
    let actions = machine.step(denied("1"), Duration::ZERO);
    assert!(actions.contains(&Action::GiveBackCores { slot: 0 }));
    assert_eq!(take(&actions), Some((attempt(1, 1), "2".to_owned())));
    assert!(!machine.waits_for_others());
    // The other one is gone as well; what was found out says nothing: then at least not this one again.
    let actions = machine.step(denied(""), Duration::ZERO);
    assert_eq!((take(&actions), machine.offer().free_cores), (None, 2), "offers know nothing of it");
    assert!(machine.waits_for_others());
    let later = Duration::from_millis(50);
    assert_eq!(machine.wake_at(), Some(later));
    let actions = machine.step(Event::Woken, later);
    assert_eq!(take(&actions), Some((attempt(1, 1), "1".to_owned())), "it is tried again");
    let actions = machine.step(Event::CoresTaken { attempt: attempt(1, 1) }, later);
    assert_eq!(measures(&actions), Some(0));
    assert!(!machine.waits_for_others());
    assert_eq!(
        machine.step(Event::CoresTaken { attempt: attempt(1, 1) }, later),
        [],
        "told twice, begun once"
    );
}

#[test]
fn what_waits_for_cores_can_be_cancelled_and_a_bad_sensor_keeps_it_from_starting() {
    let mut machine = linked(1);
    let actions = machine
        .step(Event::Assigned { attempt: attempt(1, 1), epoch: epoch(1), plan: Ok(plan(1)) }, Duration::ZERO);
    assert_eq!(taking(&actions), Some(attempt(1, 1)));
    let mut cancelled = machine.clone();
    let cancel = Event::CancelAsked { attempt: attempt(1, 1), epoch: epoch(1) };
    let actions = cancelled.step(cancel, Duration::ZERO);
    assert_eq!(end_of(&actions), Some(&AttemptEnd::Cancelled));
    assert!(actions.contains(&Action::GiveBackCores { slot: 0 }));
    assert_eq!(cancelled.step(Event::CoresTaken { attempt: attempt(1, 1) }, Duration::ZERO), []);
    machine.step(Event::SensorRead(Err("steal".to_owned())), Duration::ZERO);
    let actions = machine.step(Event::CoresTaken { attempt: attempt(1, 1) }, Duration::ZERO);
    assert!(matches!(end_of(&actions), Some(AttemptEnd::Box(why)) if why.contains("steal")), "{actions:?}");
    assert_eq!(measures(&actions), None);
}

fn void(round: u32) -> Event {
    let cause = VoidCause::Foreign { share_ppm: 410_000 };
    Event::RoundVoid { attempt: attempt(1, 1), round, cause }
}

fn again(actions: &[Action]) -> Option<(u32, Duration)> {
    actions.iter().find_map(|action| match action {
        Action::MeasureAgain { round, after, .. } => Some((*round, *after)),
        _ => None,
    })
}

#[test]
fn a_void_round_is_measured_again_and_told_with_its_result() {
    let mut machine = linked(1);
    assign(&mut machine, 1, plan(9), Duration::ZERO);
    step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 0 }, SECOND);
    assert_eq!(again(&step(&mut machine, void(0), SECOND)), None, "it is measured already");
    let actions = step(&mut machine, void(1), SECOND);
    assert_eq!(again(&actions), Some((1, SECOND / 2)));
    assert!(matches!(&actions[0], Action::TellVoids { voids, .. } if voids.total() == 1));
    let actions = step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 1 }, 2 * SECOND);
    assert!(matches!(&actions[0], Action::ReportRound { round: 1, voids, .. } if voids.total() == 1));
    assert_eq!(measures(&actions), Some(2));
    let actions = step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 2 }, 3 * SECOND);
    assert!(matches!(&actions[0], Action::ReportRound { round: 2, voids, .. } if voids.is_empty()));
}

#[test]
fn a_box_that_does_not_come_to_rest_ends_the_attempt_as_disturbed() {
    let mut machine = linked(1);
    assign(&mut machine, 1, plan(9), Duration::ZERO);
    for _ in 0..3 {
        assert!(again(&step(&mut machine, void(0), SECOND)).is_some());
    }
    let actions = step(&mut machine, void(0), SECOND);
    assert_eq!(again(&actions), None);
    assert!(matches!(
        end_of(&actions),
        Some(AttemptEnd::Disturbed { rounds: 0, voids }) if voids.total() == 4
    ));
    assert!(actions.contains(&Action::GiveBackCores { slot: 0 }));
}

#[test]
fn a_void_round_is_not_measured_again_once_enough_is_measured_or_time_is_up() {
    let mut machine = linked(1);
    assign(&mut machine, 1, Plan { time: 9 * SECOND, ..plan(9) }, Duration::ZERO);
    step(&mut machine, Event::RoundDone { attempt: attempt(1, 1), round: 0 }, SECOND);
    let mut stopped = machine.clone();
    let ack = Event::Acked { attempt: attempt(1, 1), epoch: epoch(1), rounds: 1, stop: true };
    step(&mut stopped, ack, SECOND);
    assert_eq!(end_of(&step(&mut stopped, void(1), 2 * SECOND)), Some(&AttemptEnd::Completed { rounds: 1 }));
    assert_eq!(end_of(&step(&mut machine, void(1), 9 * SECOND)), Some(&AttemptEnd::Completed { rounds: 1 }));
}
