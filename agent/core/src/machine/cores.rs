//! Who has cores: attempts of this agent by their order, agents of one box by who takes them first.
//!
//! The allocator knows this agent's own leases. Whether another agent has a core is found out by taking it; what others
//! have is left alone for a moment and then tried again, for as long as an attempt waits for it.

use std::time::Duration;

use darwin_shared::attempt::AttemptEnd;
use darwin_shared::cpu::CpuSet;
use darwin_shared::ids::AttemptId;

use super::agent::Machine;
use super::attempt::{Phase, Place, Then};
use super::words::Action;
use crate::cpu_alloc::{Granted, LeaseKey, Refusal, Request};

/// How often cores that somebody else on the box has are tried again; only while an attempt waits for them.
const RETRY_CORES: Duration = Duration::from_millis(50);

impl Machine {
    /// Whether an attempt waits for cores that somebody else on the box has.
    pub fn waits_for_others(&self) -> bool {
        self.retry_at.is_some() && !self.ready.is_empty()
    }

    /// Whether cores are to be taken for this attempt and slot, and it is not known yet whether they can be had.
    pub fn is_taking(&self, attempt: AttemptId, slot: u32) -> bool {
        self.attempts
            .get(&attempt)
            .is_some_and(|held| matches!(held.phase, Phase::Taking { place, .. } if place.slot == slot))
    }

    /// The CPUs that benches run on now.
    pub fn cpus_in_use(&self) -> CpuSet {
        let taking: Vec<LeaseKey> = self
            .attempts
            .values()
            .filter_map(|held| match held.phase {
                Phase::Taking { place, .. } => Some(LeaseKey(place.slot.into())),
                Phase::Waiting { .. }
                | Phase::Staging { .. }
                | Phase::Ready { .. }
                | Phase::Running { .. }
                | Phase::Looking { .. }
                | Phase::Stopping { .. }
                | Phase::Ended { .. } => None,
            })
            .collect();
        let used = self.allocator.leases().filter(|(key, _)| !taking.contains(key));
        used.fold(CpuSet::new(), |all, (_, granted)| all.union(&granted.cpus))
    }

    /// Gives free cores to what is ready, in order of arrival: nobody overtakes, so that nobody starves.
    pub(super) fn give_cores(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            self.allocator.set_elsewhere(CpuSet::new());
        }
        while let (Some(&attempt), Some(&slot)) = (self.ready.front(), self.slots_free.first()) {
            let Some(held) = self.attempts.get_mut(&attempt) else {
                self.ready.pop_front();
                continue;
            };
            let Phase::Ready { plan } = &held.phase else {
                self.ready.pop_front();
                continue;
            };
            if let Err(why) = &self.health {
                let end = AttemptEnd::Box(format!("the sensor is not ok: {why}"));
                self.halt(attempt, &Then::Report(end), now, actions);
                continue;
            }
            let request = Request { cores: plan.cores.count, exclusive: plan.cores.exclusive };
            match self.allocator.allocate(LeaseKey(slot.into()), request) {
                Ok(granted) => {
                    held.phase = Phase::Taking { plan: plan.clone(), place: Place { slot, since: now } };
                    self.ready.pop_front();
                    self.slots_free.remove(&slot);
                    self.cores_free = self.allocator.cores_free();
                    actions.push(Action::TakeCores { attempt, slot, granted });
                }
                Err(Refusal::Busy { .. }) => return,
                Err(
                    refusal @ (Refusal::NoCores | Refusal::AlreadyHeld { .. } | Refusal::NeverFits { .. }),
                ) => {
                    self.halt(attempt, &Then::Report(AttemptEnd::Box(refusal.to_string())), now, actions);
                }
            }
        }
    }

    /// The first round begins, unless the sensor, read just before, speaks against it.
    pub(super) fn cores_taken(&mut self, attempt: AttemptId, now: Duration, actions: &mut Vec<Action>) {
        let Some(held) = self.attempts.get_mut(&attempt) else { return };
        let Phase::Taking { plan, place } = &held.phase else { return };
        if let Err(why) = &self.health {
            let end = AttemptEnd::Box(format!("the sensor is not ok: {why}"));
            self.halt(attempt, &Then::Report(end), now, actions);
            return;
        }
        let place = Place { since: now, ..*place };
        actions.push(Action::Measure { attempt, round: 0, slot: place.slot });
        held.phase = Phase::Running { plan: plan.clone(), place, stop: false };
    }

    /// The attempt is the first in line again, for what is free or comes free.
    pub(super) fn cores_elsewhere(
        &mut self,
        attempt: AttemptId,
        cpus: &CpuSet,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(held) = self.attempts.get_mut(&attempt) else { return };
        let Phase::Taking { plan, place } = &held.phase else { return };
        let place = *place;
        held.phase = Phase::Ready { plan: plan.clone() };
        self.ready.push_front(attempt);
        // Whatever was asked, it must not be asked for again at once.
        let wanted = self.free_slot(place, actions).map(|granted| granted.claimed).unwrap_or_default();
        let known = self.allocator.elsewhere().union(if cpus.is_empty() { &wanted } else { cpus });
        self.allocator.set_elsewhere(known);
        self.retry_at = Some(self.retry_at.unwrap_or(now + RETRY_CORES));
    }

    /// Takes an attempt's cores back; `ran` says whether it came to use them.
    pub(super) fn give_back(&mut self, place: Place, ran: bool, now: Duration, actions: &mut Vec<Action>) {
        self.free_slot(place, actions);
        if ran {
            self.pace.learn(now.saturating_sub(place.since));
        }
    }

    fn free_slot(&mut self, place: Place, actions: &mut Vec<Action>) -> Option<Granted> {
        let granted = self.allocator.release(LeaseKey(place.slot.into()));
        self.slots_free.insert(place.slot);
        self.cores_free = self.allocator.cores_free();
        actions.push(Action::GiveBackCores { slot: place.slot });
        granted
    }
}
