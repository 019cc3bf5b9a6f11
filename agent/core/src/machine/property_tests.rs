//! Random histories: whatever comes in whatever order, cores are never shared and ends are never doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use darwin_shared::attempt::{AttemptEnd, AttemptEvent};
use darwin_shared::cpu::CpuSet;
use darwin_shared::ids::{AttemptId, Epoch};
use darwin_shared::state::RefusalCause;
use darwin_shared::void::VoidCause;
use proptest::prelude::*;

use super::tests::{attempt, epoch, machine_of, plan};
use super::{Action, Event, Machine, Plan};
use crate::disturbance::REPEATS_PER_ROUND;

const SLOTS: u32 = 2;

/// What may happen next; which attempt it happens to is an index into those that there are.
#[derive(Debug, Clone)]
enum Chance {
    Assign { job: u64, number: u32, epoch: u64, rounds: u32, staging: bool, look: bool },
    ProcessEnds { which: usize, well: bool },
    Disturbed { which: usize },
    Cores { which: usize, elsewhere: Option<u32> },
    Cancel { which: usize },
    Ack { which: usize, stop: bool },
    Release { which: usize },
    Link { up: bool, stale: Option<usize> },
    Drain(bool),
    Time { millis: u64 },
    Leave { at_once: bool },
}

fn chance() -> impl Strategy<Value = Chance> {
    let which = 0..8usize;
    prop_oneof![
        8 => (0..6u64, 1..4u32, 1..20u64, 1..4u32, any::<bool>(), any::<bool>()).prop_map(
            |(job, number, epoch, rounds, staging, look)| Chance::Assign { job, number, epoch, rounds, staging, look }
        ),
        12 => (which.clone(), prop::bool::weighted(0.9)).prop_map(|(which, well)| Chance::ProcessEnds { which, well }),
        6 => which.clone().prop_map(|which| Chance::Disturbed { which }),
        12 => (which.clone(), prop::option::weighted(0.3, 0..4u32))
            .prop_map(|(which, elsewhere)| Chance::Cores { which, elsewhere }),
        2 => which.clone().prop_map(|which| Chance::Cancel { which }),
        4 => (which.clone(), any::<bool>()).prop_map(|(which, stop)| Chance::Ack { which, stop }),
        4 => which.clone().prop_map(|which| Chance::Release { which }),
        3 => (any::<bool>(), prop::option::of(which)).prop_map(|(up, stale)| Chance::Link { up, stale }),
        1 => any::<bool>().prop_map(Chance::Drain),
        4 => (0..6_000u64).prop_map(|millis| Chance::Time { millis }),
        1 => prop::bool::weighted(0.3).prop_map(|at_once| Chance::Leave { at_once }),
    ]
}

/// The world around the machine, which knows what must never happen.
#[derive(Debug, Default)]
struct World {
    now: Duration,
    /// Processes that run: of which attempt, whether they were told to stop, and the round with its slot.
    running: BTreeMap<AttemptId, (bool, Option<(u32, u32)>)>,
    /// Slot and CPUs of who has or takes cores.
    slot_cpus: BTreeMap<AttemptId, (u32, CpuSet)>,
    taking: BTreeSet<AttemptId>,
    intents: BTreeMap<AttemptId, Epoch>,
    highest: BTreeMap<darwin_shared::ids::JobId, Epoch>,
    ended: BTreeSet<AttemptId>,
    rounds: BTreeMap<AttemptId, u32>,
    /// Void measurements of the round in progress.
    voids: BTreeMap<AttemptId, u32>,
}

impl World {
    fn perform(&mut self, actions: Vec<Action>) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::WriteIntent { attempt, epoch } => {
                    prop_assert!(
                        self.highest.get(&attempt.job).is_none_or(|seen| epoch > *seen),
                        "stale taken"
                    );
                    self.highest.insert(attempt.job, epoch);
                    self.intents.insert(attempt, epoch);
                    self.ended.remove(&attempt);
                    self.rounds.insert(attempt, 0);
                    self.voids.insert(attempt, 0);
                }
                Action::Tell { attempt, epoch, event: AttemptEvent::Refused(RefusalCause::StaleEpoch) } => {
                    prop_assert!(epoch <= self.highest[&attempt.job], "a fresh epoch was refused");
                }
                // What was refused must not be taken later either.
                Action::Tell { attempt, epoch, event: AttemptEvent::Refused(_) } => {
                    let highest = self.highest.entry(attempt.job).or_default();
                    *highest = epoch.max(*highest);
                }
                Action::WriteEnd { attempt, end } => self.end(attempt, &end)?,
                Action::Forget { attempt } => {
                    prop_assert!(!self.running.contains_key(&attempt), "forgotten while it runs");
                    prop_assert!(self.intents.remove(&attempt).is_some(), "forgotten twice");
                }
                Action::TakeCores { attempt, slot, granted } => {
                    let shared = self.slot_cpus.values().any(|(_, cpus)| !cpus.is_disjoint(&granted.claimed));
                    prop_assert!(!shared, "two live attempts on one core");
                    self.slot_cpus.insert(attempt, (slot, granted.claimed));
                    self.taking.insert(attempt);
                }
                Action::GiveBackCores { slot } => self.give_back(slot)?,
                Action::Stage { attempt } => {
                    prop_assert!(self.running.insert(attempt, (false, None)).is_none());
                }
                Action::Measure { attempt, round, slot } => {
                    prop_assert_eq!(self.rounds[&attempt], round, "a gap in the rounds");
                    prop_assert!(self.slot_cpus.contains_key(&attempt), "measured without cores");
                    prop_assert!(self.running.insert(attempt, (false, Some((round, slot)))).is_none());
                }
                Action::MeasureAgain { attempt, round, slot, .. } => {
                    prop_assert_eq!(self.rounds[&attempt], round, "another round than the void one");
                    prop_assert!(self.slot_cpus.contains_key(&attempt), "measured again without cores");
                    prop_assert!(self.running.insert(attempt, (false, Some((round, slot)))).is_none());
                }
                Action::TellVoids { attempt, voids } => {
                    prop_assert_eq!(voids.total(), self.voids[&attempt]);
                    prop_assert!(voids.total() <= REPEATS_PER_ROUND + 1, "repeated too often");
                }
                Action::ReportRound { attempt, round, voids } => {
                    prop_assert_eq!(
                        self.rounds.insert(attempt, round + 1),
                        Some(round),
                        "not once, or not in turn"
                    );
                    prop_assert_eq!(voids.total(), self.voids.insert(attempt, 0).unwrap_or(0));
                }
                Action::Stop { attempt } => {
                    let running = self.running.get_mut(&attempt);
                    prop_assert!(running.is_some_and(|(stopped, _)| !std::mem::replace(stopped, true)));
                }
                Action::Tell { .. }
                | Action::SendOffer(_)
                | Action::SendRenewal
                | Action::ResendRounds { .. }
                | Action::Leave => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, attempt: AttemptId, end: &AttemptEnd) -> Result<(), TestCaseError> {
        if let AttemptEnd::Disturbed { rounds, voids } = end {
            prop_assert_eq!(*rounds, self.rounds[&attempt]);
            prop_assert_eq!(voids.total(), self.voids[&attempt], "voids are lost");
        }
        prop_assert!(self.intents.contains_key(&attempt), "an end without a grant");
        prop_assert!(self.ended.insert(attempt), "two ends");
        prop_assert!(!self.running.contains_key(&attempt), "ended while it runs");
        Ok(())
    }

    fn give_back(&mut self, slot: u32) -> Result<(), TestCaseError> {
        let of_slot = self.slot_cpus.iter().find(|(_, (taken, _))| *taken == slot);
        let owner = of_slot.map(|(attempt, _)| *attempt);
        prop_assert!(owner.is_some(), "given back twice");
        if let Some(owner) = owner {
            prop_assert!(!self.running.contains_key(&owner), "given back while it runs");
            self.slot_cpus.remove(&owner);
            self.taking.remove(&owner);
        }
        Ok(())
    }

    fn event(&mut self, chance: &Chance) -> Option<Event> {
        let held = |which: usize| self.intents.iter().nth(which).map(|(id, epoch)| (*id, *epoch));
        match *chance {
            Chance::Assign { job, number, epoch: counter, rounds, staging, look } => Some(Event::Assigned {
                attempt: attempt(job, number),
                epoch: epoch(counter),
                plan: Ok(Plan {
                    needs_staging: staging,
                    looks: if look { vec![1, 2] } else { vec![] },
                    ..plan(rounds)
                }),
            }),
            Chance::ProcessEnds { which, well } => {
                let (&id, &(stopped, round)) = self.running.iter().nth(which)?;
                self.running.remove(&id);
                Some(match round {
                    _ if stopped && !well => Event::Stopped { attempt: id },
                    _ if !well => Event::BoxFailed { attempt: id, why: "no memory".to_owned() },
                    Some((round, _)) => Event::RoundDone { attempt: id, round },
                    None => Event::Staged { attempt: id },
                })
            }
            Chance::Disturbed { which } => {
                let (&id, &(stopped, round)) = self.running.iter().nth(which)?;
                let (round, _) = round?;
                self.running.remove(&id);
                if !stopped {
                    *self.voids.entry(id).or_default() += 1;
                }
                let cause = VoidCause::Foreign { share_ppm: 500_000 };
                Some(Event::RoundVoid { attempt: id, round, cause })
            }
            Chance::Cores { which, elsewhere } => {
                let attempt = *self.taking.iter().nth(which)?;
                self.taking.remove(&attempt);
                Some(match elsewhere {
                    None => Event::CoresTaken { attempt },
                    // Of CPU 3 the box knows nothing.
                    Some(cpu) => Event::CoresElsewhere { attempt, cpus: cpu.to_string().parse().ok()? },
                })
            }
            Chance::Cancel { which } => {
                held(which).map(|(attempt, epoch)| Event::CancelAsked { attempt, epoch })
            }
            Chance::Ack { which, stop } => held(which).map(|(attempt, epoch)| Event::Acked {
                attempt,
                epoch,
                rounds: self.rounds[&attempt],
                stop,
            }),
            Chance::Release { which } => held(which).map(|(attempt, _)| Event::Released { attempt }),
            Chance::Link { up: false, .. } => Some(Event::LinkLost { unsure_for: Duration::from_secs(5) }),
            Chance::Link { up: true, stale } => Some(Event::Welcomed {
                lease: Duration::from_secs(15),
                renew_every: Duration::from_secs(4),
                stale: stale.and_then(held).map(|(attempt, _)| attempt).into_iter().collect(),
                drained: false,
            }),
            Chance::Drain(drained) => Some(Event::DrainAsked(drained)),
            Chance::Time { millis } => {
                self.now += Duration::from_millis(millis);
                Some(Event::Woken)
            }
            Chance::Leave { at_once } => Some(if at_once { Event::LeaveNow } else { Event::LeaveAsked }),
        }
    }

    fn feed(&mut self, machine: &mut Machine, event: Event) -> Result<(), TestCaseError> {
        let actions = machine.step(event, self.now);
        self.perform(actions)
    }
}

/// Lets every process end and time pass until nothing is live.
fn settle(world: &mut World, machine: &mut Machine) -> Result<(), TestCaseError> {
    for _ in 0..500 {
        if machine.live().next().is_none() {
            return Ok(());
        }
        while let Some(event) = world.event(&Chance::Cores { which: 0, elsewhere: None }) {
            world.feed(machine, event)?;
        }
        while let Some(event) = world.event(&Chance::ProcessEnds { which: 0, well: true }) {
            world.feed(machine, event)?;
        }
        world.now += Duration::from_secs(2);
        world.feed(machine, Event::Woken)?;
    }
    Err(TestCaseError::fail(format!("never ends: {machine:?}")))
}

proptest! {
    #[test]
    fn cores_are_never_shared_and_every_grant_ends_once(chances in prop::collection::vec(chance(), 1..120)) {
        let (mut machine, _) = machine_of(SLOTS, Vec::new());
        let mut world = World::default();
        for chance in &chances {
            if matches!(chance, Chance::Link { up: true, .. }) {
                world.feed(&mut machine, Event::HelloSent)?;
            }
            if let Some(event) = world.event(chance) {
                world.feed(&mut machine, event)?;
            }
        }
        settle(&mut world, &mut machine)?;
        for attempt in world.intents.keys() {
            prop_assert!(world.ended.contains(attempt), "{attempt} was taken and never ended");
        }
        let everything_free = machine.offer().free_cores == SLOTS;
        prop_assert!(everything_free && world.slot_cpus.is_empty());
    }
}
