//! How attempts go on and end: what follows from the news of their processes and of the gate.

use std::time::Duration;

use darwin_shared::attempt::{AttemptEnd, AttemptEvent};
use darwin_shared::ids::{AttemptId, Epoch};
use darwin_shared::state::Stage;
use darwin_shared::void::VoidCause;

use super::agent::{Leaving, Machine};
use super::attempt::{Next, Phase, Place, Then, after_round};
use super::words::{Action, Plan};
use crate::disturbance::AfterVoid;

/// How long a round waits for the gate's look before the next one starts.
const LOOK_WAIT: Duration = Duration::from_secs(2);

impl Machine {
    pub(super) fn tell(&self, attempt: AttemptId, event: AttemptEvent, actions: &mut Vec<Action>) {
        if let Some(held) = self.attempts.get(&attempt) {
            actions.push(Action::Tell { attempt, epoch: held.epoch, event });
        }
    }

    pub(super) fn stage_begun(&self, attempt: AttemptId, stage: Stage, actions: &mut Vec<Action>) {
        let phase = self.attempts.get(&attempt).map(|held| &held.phase);
        if matches!(phase, Some(Phase::Staging { .. })) {
            self.tell(attempt, AttemptEvent::Staging(stage), actions);
        }
    }

    /// Rounds are wanted again, and after them the end, if there is one: it is judged by the rounds before it.
    pub(super) fn replay(&self, attempt: AttemptId, from_round: u32, actions: &mut Vec<Action>) {
        let Some(held) = self.attempts.get(&attempt) else {
            return;
        };
        if from_round < held.rounds {
            actions.push(Action::ResendRounds { attempt, from_round });
        }
        self.tell_end(attempt, actions);
    }

    /// Tells again how an attempt ended, if it has.
    pub(super) fn tell_end(&self, attempt: AttemptId, actions: &mut Vec<Action>) {
        if let Some(Phase::Ended { end }) = self.attempts.get(&attempt).map(|held| &held.phase) {
            self.tell(attempt, AttemptEvent::Ended(end.clone()), actions);
        }
    }

    pub(super) fn staged(&mut self, attempt: AttemptId, now: Duration, actions: &mut Vec<Action>) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        match &held.phase {
            Phase::Staging { plan } => {
                held.phase = Phase::Ready { plan: plan.clone() };
                self.stagers_busy = self.stagers_busy.saturating_sub(1);
                self.ready.push_back(attempt);
                self.tell(attempt, AttemptEvent::Ready, actions);
            }
            Phase::Stopping { then, .. } => {
                let then = then.clone();
                self.stopped(attempt, &then, now, actions);
            }
            Phase::Waiting { .. }
            | Phase::Ready { .. }
            | Phase::Taking { .. }
            | Phase::Running { .. }
            | Phase::Looking { .. }
            | Phase::Ended { .. } => {}
        }
    }

    pub(super) fn round_done(
        &mut self,
        attempt: AttemptId,
        round: u32,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let linked = self.link.is_up();
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        match &held.phase {
            Phase::Running { plan, place, stop } if held.rounds == round => {
                let (plan, place) = (plan.clone(), *place);
                held.rounds = round + 1;
                let next = after_round(&plan, held.rounds, now.saturating_sub(place.since), *stop, linked);
                let voids = held.disturbances.measured();
                actions.push(Action::ReportRound { attempt, round, voids });
                self.go_on(attempt, plan, place, next, now, actions);
            }
            Phase::Stopping { then, .. } => {
                let then = then.clone();
                self.stopped(attempt, &then, now, actions);
            }
            Phase::Running { .. }
            | Phase::Waiting { .. }
            | Phase::Staging { .. }
            | Phase::Ready { .. }
            | Phase::Taking { .. }
            | Phase::Looking { .. }
            | Phase::Ended { .. } => {}
        }
    }

    /// The box disturbed a round: it is measured again, under its own number and so in the order that the same coin drew.
    /// That is as good as a first measurement, for what made it void was read outside the bench and does not depend on
    /// what it measured.
    pub(super) fn round_void(
        &mut self,
        attempt: AttemptId,
        round: u32,
        cause: VoidCause,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        match &held.phase {
            Phase::Running { plan, place, stop } if held.rounds == round => {
                let (plan, place, stop) = (plan.clone(), *place, *stop);
                let follows = held.disturbances.add(cause, round);
                let voids = held.disturbances.of_round().clone();
                actions.push(Action::TellVoids { attempt, voids: voids.clone() });
                let time_is_up = round > 0 && now.saturating_sub(place.since) >= plan.time;
                match follows {
                    _ if stop || time_is_up => {
                        self.go_on(attempt, plan, place, Next::Complete, now, actions);
                    }
                    AfterVoid::Again(after) => {
                        actions.push(Action::MeasureAgain { attempt, round, slot: place.slot, after });
                    }
                    AfterVoid::GiveUp => {
                        let end = AttemptEnd::Disturbed { rounds: round, voids };
                        self.finish(attempt, &Then::Report(end), now, actions);
                    }
                }
            }
            Phase::Stopping { then, .. } => {
                let then = then.clone();
                self.stopped(attempt, &then, now, actions);
            }
            Phase::Running { .. }
            | Phase::Waiting { .. }
            | Phase::Staging { .. }
            | Phase::Ready { .. }
            | Phase::Taking { .. }
            | Phase::Looking { .. }
            | Phase::Ended { .. } => {}
        }
    }

    fn go_on(
        &mut self,
        attempt: AttemptId,
        plan: Plan,
        place: Place,
        next: Next,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        let rounds = held.rounds;
        match next {
            Next::Complete => {
                self.finish(attempt, &Then::Report(AttemptEnd::Completed { rounds }), now, actions);
            }
            Next::Look => held.phase = Phase::Looking { plan, place, until: now + LOOK_WAIT },
            Next::Measure => {
                held.phase = Phase::Running { plan, place, stop: false };
                actions.push(Action::Measure { attempt, round: rounds, slot: place.slot });
            }
        }
    }

    pub(super) fn acked(
        &mut self,
        attempt: AttemptId,
        epoch: Epoch,
        rounds: u32,
        stop: bool,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(held) = self.attempts.get_mut(&attempt).filter(|held| held.epoch == epoch) else {
            return;
        };
        match &mut held.phase {
            Phase::Running { stop: stops, .. } => *stops |= stop,
            Phase::Looking { plan, place, .. } => {
                let (plan, place) = (plan.clone(), *place);
                if stop {
                    self.go_on(attempt, plan, place, Next::Complete, now, actions);
                } else if rounds >= held.rounds {
                    self.go_on(attempt, plan, place, Next::Measure, now, actions);
                }
            }
            Phase::Waiting { .. }
            | Phase::Staging { .. }
            | Phase::Ready { .. }
            | Phase::Taking { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. } => {}
        }
    }

    /// Goes on where the gate did not answer in time.
    pub(super) fn looks_over(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let over: Vec<(AttemptId, Plan, Place)> = self
            .attempts
            .iter()
            .filter_map(|(&attempt, held)| match &held.phase {
                Phase::Looking { plan, place, until } if *until <= now => {
                    Some((attempt, plan.clone(), *place))
                }
                Phase::Looking { .. }
                | Phase::Waiting { .. }
                | Phase::Staging { .. }
                | Phase::Ready { .. }
                | Phase::Taking { .. }
                | Phase::Running { .. }
                | Phase::Stopping { .. }
                | Phase::Ended { .. } => None,
            })
            .collect();
        for (attempt, plan, place) in over {
            let ran_for = now.saturating_sub(place.since);
            let next = if ran_for >= plan.time { Next::Complete } else { Next::Measure };
            self.go_on(attempt, plan, place, next, now, actions);
        }
    }

    /// Nothing of the attempt runs any more; `end` says why, unless it was being stopped anyway.
    pub(super) fn processes_gone(
        &mut self,
        attempt: AttemptId,
        end: AttemptEnd,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(held) = self.attempts.get(&attempt) else {
            return;
        };
        match &held.phase {
            Phase::Staging { .. } => {
                self.stagers_busy = self.stagers_busy.saturating_sub(1);
                self.finish(attempt, &Then::Report(end), now, actions);
            }
            Phase::Taking { .. } | Phase::Running { .. } => {
                self.finish(attempt, &Then::Report(end), now, actions);
            }
            Phase::Stopping { then, .. } => self.stopped(attempt, &then.clone(), now, actions),
            Phase::Waiting { .. } | Phase::Ready { .. } | Phase::Looking { .. } | Phase::Ended { .. } => {}
        }
    }

    fn stopped(&mut self, attempt: AttemptId, then: &Then, now: Duration, actions: &mut Vec<Action>) {
        let staged = self.attempts.get(&attempt).is_some_and(|held| held.phase.place().is_none());
        if staged {
            self.stagers_busy = self.stagers_busy.saturating_sub(1);
        }
        self.finish(attempt, then, now, actions);
    }

    /// Ends an attempt: at once if nothing of it runs, else as soon as its processes are gone.
    pub(super) fn halt(&mut self, attempt: AttemptId, then: &Then, now: Duration, actions: &mut Vec<Action>) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        match &mut held.phase {
            Phase::Waiting { .. } => {
                self.waiting.retain(|id| *id != attempt);
                self.finish(attempt, then, now, actions);
            }
            Phase::Ready { .. } => {
                self.ready.retain(|id| *id != attempt);
                self.finish(attempt, then, now, actions);
            }
            Phase::Taking { .. } | Phase::Looking { .. } => self.finish(attempt, then, now, actions),
            phase @ (Phase::Staging { .. } | Phase::Running { .. }) => {
                *phase = Phase::Stopping { place: phase.place(), then: then.clone() };
                actions.push(Action::Stop { attempt });
            }
            Phase::Stopping { then: planned, .. } => {
                if *then == Then::Forget {
                    *planned = Then::Forget;
                }
            }
            Phase::Ended { .. } => {
                if *then == Then::Forget {
                    self.attempts.remove(&attempt);
                    actions.push(Action::Forget { attempt });
                }
            }
        }
    }

    /// The last transition of a live attempt of which nothing runs.
    fn finish(&mut self, attempt: AttemptId, then: &Then, now: Duration, actions: &mut Vec<Action>) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        let place = held.phase.place();
        let ran = !matches!(held.phase, Phase::Taking { .. });
        match then {
            Then::Report(end) => {
                held.phase = Phase::Ended { end: end.clone() };
                let epoch = held.epoch;
                actions.push(Action::WriteEnd { attempt, end: end.clone() });
                actions.push(Action::Tell { attempt, epoch, event: AttemptEvent::Ended(end.clone()) });
            }
            Then::Forget => {
                self.attempts.remove(&attempt);
                actions.push(Action::Forget { attempt });
            }
        }
        self.live = self.live.saturating_sub(1);
        if let Some(place) = place {
            self.give_back(place, ran, now, actions);
        }
    }

    /// On the way out: what is on cores is finished, unless it must be `at_once`; the rest is given back.
    pub(super) fn leave(&mut self, at_once: bool, now: Duration, actions: &mut Vec<Action>) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Asked;
        }
        self.give_up(at_once, now, actions);
    }

    /// Gives back what has no cores yet, and with `everything` what has them: some other box will do it, and nobody is
    /// to blame.
    pub(super) fn give_up(&mut self, everything: bool, now: Duration, actions: &mut Vec<Action>) {
        let given_up: Vec<AttemptId> = self
            .attempts
            .iter()
            .filter(|(_, held)| match held.phase {
                Phase::Waiting { .. }
                | Phase::Staging { .. }
                | Phase::Ready { .. }
                | Phase::Taking { .. } => true,
                Phase::Running { .. } | Phase::Looking { .. } => everything,
                Phase::Stopping { .. } | Phase::Ended { .. } => false,
            })
            .map(|(&attempt, _)| attempt)
            .collect();
        for attempt in given_up {
            self.halt(attempt, &Then::Report(AttemptEnd::Cancelled), now, actions);
        }
    }
}
