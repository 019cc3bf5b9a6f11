//! The machine: events in, actions out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use darwin_shared::attempt::{AttemptEnd, AttemptEvent};
use darwin_shared::ids::{AttemptId, Epoch, JobId};
use darwin_shared::state::RefusalCause;

use super::attempt::{Attempt, Phase, Place, Then};
use super::credits::Pace;
use super::fences::Fences;
use super::link::Link;
use super::words::{Action, Event, Held, Limits, Offer, Plan, Remembered};
use crate::cpu_alloc::{Allocator, LeaseKey, Request};
use crate::disturbance::Disturbances;

/// Ended attempts kept for a coordinator that does not release them, before nothing more is taken on.
const MAX_UNRELEASED: usize = 2048;
/// Attempts taken beyond what was offered: grants that were under way when the offer sank.
const MAX_OVERBOOKED: usize = 128;

/// Whether the agent is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// As soon as nothing is live.
    Asked,
    /// The driver was told to go.
    Gone,
}

/// What the agent holds, and what it decides. See the [module](super).
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) limits: Limits,
    pub(super) allocator: Allocator,
    /// The allocator with nothing leased: says what could ever be had.
    idle: Allocator,
    pub(super) attempts: BTreeMap<AttemptId, Attempt>,
    /// How many of them are not over.
    pub(super) live: usize,
    pub(super) waiting: VecDeque<AttemptId>,
    pub(super) ready: VecDeque<AttemptId>,
    pub(super) stagers_busy: u32,
    pub(super) slots_free: BTreeSet<u32>,
    pub(super) cores_free: u32,
    pub(super) link: Link,
    fences: Fences,
    pub(super) pace: Pace,
    drained: bool,
    pub(super) leaving: Leaving,
    pub(super) health: Result<(), String>,
    /// What the coordinator believes of our offer.
    offered: Option<Offer>,
    /// When to try again to take cores that somebody else on the box had.
    pub(super) retry_at: Option<Duration>,
}

impl Machine {
    /// A machine over these cores, with what an earlier life left: attempts that had not ended are forgotten (see the
    /// actions), so that the coordinator hears in the hello that they were lost with that life; those that had, are told
    /// again. The epochs seen still fence.
    pub fn new(
        limits: Limits,
        allocator: Allocator,
        remembered: Vec<Remembered>,
        seen: impl IntoIterator<Item = (JobId, Epoch)>,
    ) -> (Self, Vec<Action>) {
        let mut machine = Self {
            slots_free: (0..limits.slots).collect(),
            limits,
            cores_free: allocator.cores_free(),
            idle: allocator.clone(),
            allocator,
            attempts: BTreeMap::new(),
            live: 0,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            stagers_busy: 0,
            link: Link::new(),
            fences: Fences::default(),
            pace: Pace::default(),
            drained: false,
            leaving: Leaving::No,
            health: Ok(()),
            offered: None,
            retry_at: None,
        };
        let mut actions = Vec::new();
        for (job, epoch) in seen {
            machine.fences.raise(job, epoch);
        }
        for Remembered { attempt, epoch, rounds, end } in remembered {
            machine.fences.raise(attempt.job, epoch);
            match end {
                Some(end) => {
                    let phase = Phase::Ended { end };
                    let disturbances = Disturbances::default();
                    machine.attempts.insert(attempt, Attempt { epoch, rounds, phase, disturbances });
                }
                None => actions.push(Action::Forget { attempt }),
            }
        }
        (machine, actions)
    }

    /// Decides what follows from an event at `now`, which never goes backwards.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        self.take_in(event, now, &mut actions);
        self.end_past_lease(now, &mut actions);
        self.end_past_budget(now, &mut actions);
        self.begin_staging(&mut actions);
        self.give_cores(now, &mut actions);
        self.speak(now, &mut actions);
        debug_assert_eq!(self.violation(), None);
        actions
    }

    fn take_in(&mut self, event: Event, now: Duration, actions: &mut Vec<Action>) {
        match event {
            Event::HelloSent => {
                self.link.hello_sent(now);
                self.offered = Some(self.offer());
            }
            Event::Welcomed { lease, renew_every, stale, drained } => {
                if self.link.welcomed(lease, renew_every, now) {
                    for attempt in stale {
                        self.halt(attempt, &Then::Forget, now, actions);
                    }
                    self.drained = drained;
                    if drained {
                        self.give_up(false, now, actions);
                    }
                }
            }
            Event::LinkLost { unsure_for } => self.link.lost(unsure_for, now),
            Event::Assigned { attempt, epoch, plan } => self.assigned(attempt, epoch, plan, now, actions),
            Event::Acked { attempt, epoch, rounds, stop } => {
                self.acked(attempt, epoch, rounds, stop, now, actions);
            }
            Event::CancelAsked { attempt, epoch } => {
                if self.attempts.get(&attempt).is_some_and(|held| held.epoch == epoch) {
                    self.halt(attempt, &Then::Report(AttemptEnd::Cancelled), now, actions);
                }
            }
            Event::Released { attempt } => self.halt(attempt, &Then::Forget, now, actions),
            Event::DrainAsked(drained) => {
                self.drained = drained;
                if drained {
                    self.give_up(false, now, actions);
                }
            }
            Event::ReplayAsked { attempt, from_round } => self.replay(attempt, from_round, actions),
            Event::StageBegun { attempt, stage } => self.stage_begun(attempt, stage, actions),
            Event::Staged { attempt } => self.staged(attempt, now, actions),
            Event::CoresTaken { attempt } => self.cores_taken(attempt, now, actions),
            Event::CoresElsewhere { attempt, cpus } => self.cores_elsewhere(attempt, &cpus, now, actions),
            Event::RoundDone { attempt, round } => self.round_done(attempt, round, now, actions),
            Event::RoundVoid { attempt, round, cause } => {
                self.round_void(attempt, round, cause, now, actions);
            }
            Event::CandidateFailed { attempt, failure } => {
                self.processes_gone(attempt, AttemptEnd::Failed(failure), now, actions);
            }
            Event::BoxFailed { attempt, why } => {
                self.processes_gone(attempt, AttemptEnd::Box(why), now, actions);
            }
            Event::Stopped { attempt } => {
                // Without a stop it is the box's fault that nothing runs any more.
                let end = AttemptEnd::Box("its processes ended without anybody asking for it".to_owned());
                self.processes_gone(attempt, end, now, actions);
            }
            Event::SensorRead(health) => self.health = health,
            Event::Woken => self.looks_over(now, actions),
            Event::LeaveAsked => self.leave(false, now, actions),
            Event::LeaveNow => self.leave(true, now, actions),
        }
    }

    /// When [`Event::Woken`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        let looks = self.attempts.values().filter_map(|attempt| match &attempt.phase {
            Phase::Looking { until, .. } => Some(*until),
            Phase::Running { plan, place, .. } if attempt.rounds > 0 => Some(place.since + plan.time),
            Phase::Running { .. }
            | Phase::Waiting { .. }
            | Phase::Staging { .. }
            | Phase::Ready { .. }
            | Phase::Taking { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. } => None,
        });
        let again = self.retry_at.filter(|_| !self.ready.is_empty());
        let lease = self.lease_end().filter(|_| self.live > 0);
        looks.chain(again).chain(lease).chain(self.link.renew_at()).min()
    }

    /// Every attempt held, for the hello and for renewals.
    pub fn held(&self) -> impl Iterator<Item = Held> {
        self.attempts.iter().map(|(&attempt, held)| Held {
            attempt,
            epoch: held.epoch,
            rounds: held.rounds,
            live: held.phase.is_live(),
            end: match &held.phase {
                Phase::Ended { end } => Some(end.clone()),
                Phase::Waiting { .. }
                | Phase::Staging { .. }
                | Phase::Ready { .. }
                | Phase::Taking { .. }
                | Phase::Running { .. }
                | Phase::Looking { .. }
                | Phase::Stopping { .. } => None,
            },
        })
    }

    /// The attempts that are not over, with their fences.
    pub fn live(&self) -> impl Iterator<Item = (AttemptId, Epoch)> {
        self.attempts
            .iter()
            .filter(|(_, held)| held.phase.is_live())
            .map(|(&attempt, held)| (attempt, held.epoch))
    }

    /// Whether any attempt has processes that may run now.
    pub fn is_busy(&self) -> bool {
        self.attempts.values().any(|attempt| attempt.phase.has_processes())
    }

    /// What the agent could take on now.
    pub fn offer(&self) -> Offer {
        let takes = !self.drained && self.leaving == Leaving::No && self.health.is_ok();
        let unreleased = self.attempts.len() - self.live;
        let room =
            if takes && unreleased < MAX_UNRELEASED { self.capacity().saturating_sub(self.live) } else { 0 };
        Offer { credits: u32::try_from(room).unwrap_or(u32::MAX), free_cores: self.cores_free }
    }

    fn capacity(&self) -> usize {
        let slots = self.limits.slots as usize;
        slots * (1 + self.pace.ahead(self.limits.ahead) as usize)
    }

    fn lease_end(&self) -> Option<Duration> {
        self.link.lease_until().map(|until| until + self.limits.lease_grace)
    }

    fn assigned(
        &mut self,
        attempt: AttemptId,
        epoch: Epoch,
        plan: Result<Plan, RefusalCause>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let answer = self.admit(attempt, epoch, plan);
        // Whatever the answer: a grant that was answered is over, and if it comes again it is an echo.
        self.fences.raise(attempt.job, epoch);
        match answer {
            Ok(Some(plan)) => {
                let older: Vec<AttemptId> =
                    self.live().map(|(id, _)| id).filter(|id| id.job == attempt.job).collect();
                for id in older {
                    self.halt(id, &Then::Forget, now, actions);
                }
                if let Some(offered) = &mut self.offered {
                    offered.credits = offered.credits.saturating_sub(1);
                }
                actions.push(Action::WriteIntent { attempt, epoch });
                actions.push(Action::Tell { attempt, epoch, event: AttemptEvent::Accepted });
                let (queue, phase) = if plan.needs_staging {
                    (&mut self.waiting, Phase::Waiting { plan })
                } else {
                    (&mut self.ready, Phase::Ready { plan })
                };
                queue.push_back(attempt);
                let disturbances = Disturbances::default();
                self.attempts.insert(attempt, Attempt { epoch, rounds: 0, phase, disturbances });
                self.live += 1;
            }
            Ok(None) => {
                actions.push(Action::Tell { attempt, epoch, event: AttemptEvent::Accepted });
                self.tell_end(attempt, actions);
            }
            Err(cause) => actions.push(Action::Tell { attempt, epoch, event: AttemptEvent::Refused(cause) }),
        }
    }

    /// Whether a grant is taken: its plan, none if it is held already, or why not.
    fn admit(
        &self,
        attempt: AttemptId,
        epoch: Epoch,
        plan: Result<Plan, RefusalCause>,
    ) -> Result<Option<Plan>, RefusalCause> {
        if self.attempts.get(&attempt).is_some_and(|held| held.epoch == epoch) {
            return Ok(None);
        }
        if self.fences.of(attempt.job).is_some_and(|seen| epoch <= seen) {
            return Err(RefusalCause::StaleEpoch);
        }
        if self.attempts.contains_key(&attempt) || self.live >= self.capacity() + MAX_OVERBOOKED {
            return Err(RefusalCause::Busy);
        }
        if self.leaving != Leaving::No {
            // No word on the job: another box, or this one's next life, may take it.
            return Err(RefusalCause::Busy);
        }
        self.health.clone().map_err(RefusalCause::Unhealthy)?;
        let plan = plan?;
        let request = Request { cores: plan.cores.count, exclusive: plan.cores.exclusive };
        match self.idle.clone().allocate(LeaseKey(0), request) {
            Ok(_) => Ok(Some(plan)),
            Err(refusal) => Err(RefusalCause::Unsupported(refusal.to_string())),
        }
    }

    /// Starts staging what waits for it, in order of arrival.
    fn begin_staging(&mut self, actions: &mut Vec<Action>) {
        while self.stagers_busy < self.limits.stagers
            && let Some(attempt) = self.waiting.pop_front()
        {
            let Some(held) = self.attempts.get_mut(&attempt) else {
                continue;
            };
            if let Phase::Waiting { plan } = &held.phase {
                held.phase = Phase::Staging { plan: plan.clone() };
                self.stagers_busy += 1;
                actions.push(Action::Stage { attempt });
            }
        }
    }

    /// Says what the coordinator should know by now, and whether the agent may go.
    fn speak(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.link.renew(now) {
            actions.push(Action::SendRenewal);
        }
        let offer = self.offer();
        if self.link.is_up() && self.offered != Some(offer) {
            self.offered = Some(offer);
            actions.push(Action::SendOffer(offer));
        }
        if self.leaving == Leaving::Asked && self.live == 0 {
            self.leaving = Leaving::Gone;
            actions.push(Action::Leave);
        }
    }

    fn end_past_lease(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.live == 0 || self.lease_end().is_none_or(|end| now < end) {
            return;
        }
        let why = "the coordinator was out of reach for longer than the lease, so the agent ended it";
        let live: Vec<AttemptId> = self.live().map(|(attempt, _)| attempt).collect();
        for attempt in live {
            self.halt(attempt, &Then::Report(AttemptEnd::Box(why.to_owned())), now, actions);
        }
    }

    /// Ends a round in the middle that goes on past the job's time, if there are rounds to report without it. The
    /// first one may take as long as its steps may.
    fn end_past_budget(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let over = self.attempts.iter().filter_map(|(&attempt, held)| match &held.phase {
            Phase::Running { plan, place, .. } if held.rounds > 0 && now >= place.since + plan.time => {
                Some((attempt, held.rounds))
            }
            Phase::Running { .. }
            | Phase::Waiting { .. }
            | Phase::Staging { .. }
            | Phase::Ready { .. }
            | Phase::Taking { .. }
            | Phase::Looking { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. } => None,
        });
        let over: Vec<(AttemptId, u32)> = over.collect();
        for (attempt, rounds) in over {
            self.halt(attempt, &Then::Report(AttemptEnd::Completed { rounds }), now, actions);
        }
    }

    /// What is wrong with the state, if anything.
    fn violation(&self) -> Option<String> {
        let places: Vec<Place> = self.attempts.values().filter_map(|attempt| attempt.phase.place()).collect();
        let slots: BTreeSet<u32> = places.iter().map(|place| place.slot).collect();
        let leased: BTreeSet<u32> =
            self.allocator.leases().filter_map(|(key, _)| u32::try_from(key.0).ok()).collect();
        let live = self.attempts.values().filter(|attempt| attempt.phase.is_live()).count();
        if slots.len() != places.len() {
            return Some("two attempts have one slot".to_owned());
        }
        if slots != leased || !slots.is_disjoint(&self.slots_free) {
            return Some(format!("slots {slots:?} are in use, cores are leased for {leased:?}"));
        }
        (live != self.live).then(|| format!("{live} attempts are live, {} were counted", self.live))
    }
}
