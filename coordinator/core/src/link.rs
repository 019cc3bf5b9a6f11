//! Agents come, speak and go.

use std::collections::BTreeSet;

use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
use darwin_shared::fleet::{AGENT_LABEL, SensorReport};
use darwin_shared::ids::{AgentId, AttemptId, Epoch, JobId};
use darwin_shared::round::RoundResult;
use darwin_shared::spec::JobSpec;
use darwin_shared::state::{AttemptOutcome, Failure, FailureCause, LossCause, Outcome, Phase, Stage};

use crate::action::{Action, ArchiveRound, ToAgent};
use crate::agent::Agent;
use crate::event::{HeldAttempt, Hello, LinkId, Now, Offer};
use crate::live::{FoldError, Folded};
use crate::state::Core;

impl Core {
    pub(crate) fn link_up(&mut self, now: Now, link: LinkId, hello: Hello, out: &mut Vec<Action>) {
        let Hello { agent: id, mut facts, sensor, attempts: held, offer } = hello;
        // So that a job can ask for this very box.
        facts.labels.insert(AGENT_LABEL.to_owned(), id.to_string());
        if let Some(old) = self.agents.get(&id).and_then(|agent| agent.link) {
            self.links.remove(&old);
            let why = format!("agent {id} connected anew");
            out.push(Action::Close { link: old, why });
        }
        self.links.insert(link, id.clone());
        let drained = self.agent_records.get(&id).is_some_and(|(_, record)| record.drained);
        self.forget_the_long_gone(now);
        // Whatever made it decline may be gone with its old connection.
        self.ask_again(&id);
        let (known, promised) =
            self.agents.remove(&id).map(|agent| (agent.attempts, agent.promised)).unwrap_or_default();
        let agent = Agent {
            id: id.clone(),
            facts: Some(facts),
            sensor,
            link: Some(link),
            offer: Offer::default(),
            promised,
            drained,
            attempts: known,
            declined: BTreeSet::new(),
            unwell: None,
            heard_at: now.mono,
            heard_unix_ms: now.unix_ms,
        };
        self.agents.insert(id.clone(), agent);

        let (wanted, stale): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|held| self.holds(&id, held.attempt, held.epoch));
        out.push(Action::Send {
            link,
            message: ToAgent::Welcome {
                lease: self.settings.lease,
                renew_every: self.settings.renew_every,
                stale: stale.iter().map(|held| held.attempt).collect(),
                drained,
            },
        });
        self.reconcile(now, link, &id, &wanted, out);
        self.offered(&id, offer);
        self.refused(now, &id, out);
    }

    /// Whether this attempt is the one that its job has under way, at this agent.
    fn holds(&self, agent: &AgentId, attempt: AttemptId, epoch: Epoch) -> bool {
        self.jobs.get(&attempt.job).is_some_and(|job| {
            job.live_id() == Some(attempt)
                && job.live.as_ref().is_some_and(|live| live.epoch == epoch && live.agent == *agent)
        })
    }

    /// Sets what the ledger has of an agent's attempts against what the agent has.
    fn reconcile(
        &mut self,
        now: Now,
        link: LinkId,
        agent: &AgentId,
        held: &[HeldAttempt],
        out: &mut Vec<Action>,
    ) {
        let has: BTreeSet<AttemptId> = held.iter().map(|held| held.attempt).collect();
        let forgotten: Vec<JobId> = self
            .agents
            .get(agent)
            .into_iter()
            .flat_map(|entry| entry.attempts.iter())
            .filter(|attempt| !has.contains(attempt))
            .map(|attempt| attempt.job)
            .collect();
        for job in forgotten {
            if !self.repeat_promise(now, link, job, out) {
                self.lose(now, job, &LossCause::AgentRestarted, out);
            }
        }
        for HeldAttempt { attempt, epoch, rounds, live: _, end } in held {
            self.extend_lease(now, attempt.job);
            self.accepted(attempt.job);
            let in_core = self.live_rounds(attempt.job);
            if self.jobs.get(&attempt.job).is_some_and(|job| job.record.cancel.is_some()) && end.is_none() {
                let message = ToAgent::Cancel { attempt: *attempt, epoch: *epoch };
                out.push(Action::Send { link, message });
            }
            // Of an ended one, the end asks for what is missing.
            if in_core < *rounds && end.is_none() {
                let message = ToAgent::Replay { attempt: *attempt, from_round: in_core };
                out.push(Action::Send { link, message });
            }
            if let Some(end) = end {
                self.ended(now, link, *attempt, end.clone(), out);
            }
        }
    }

    /// Assigns an attempt once more that never reached its agent: the link was cut before. Nobody is to blame for it.
    fn repeat_promise(&mut self, now: Now, link: LinkId, id: JobId, out: &mut Vec<Action>) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| job.record.cancel.is_none()) else {
            return false;
        };
        let Some(attempt) = job.live_id() else { return false };
        let Some(live) = job.live.as_ref().filter(|live| live.phase == Phase::Granted) else {
            return false;
        };
        let message = ToAgent::Assign { attempt, epoch: live.epoch, spec: job.submitted.spec.clone() };
        out.push(Action::Send { link, message });
        self.extend_lease(now, id);
        true
    }

    fn live_rounds(&self, job: JobId) -> u32 {
        self.jobs.get(&job).and_then(|job| job.live.as_ref()).map_or(0, |live| live.rounds)
    }

    fn extend_lease(&mut self, now: Now, id: JobId) {
        let Some(live) = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut()) else {
            return;
        };
        self.lost_timers.remove(&(live.lost_at, id));
        live.lost_at = now.mono + self.settings.lease + self.settings.grace;
        self.lost_timers.insert((live.lost_at, id));
    }

    pub(crate) fn link_down(&mut self, link: LinkId) {
        // The leases run on: silence is not death.
        if let Some(agent) = self.links.remove(&link)
            && let Some(entry) = self.agents.get_mut(&agent)
            && entry.link == Some(link)
        {
            entry.link = None;
            entry.offer = Offer::default();
        }
    }

    pub(crate) fn offered(&mut self, agent: &AgentId, offer: Offer) {
        // What is promised was on its way when the agent made this offer: it still counts against it.
        if let Some(entry) = self.agents.get_mut(agent) {
            entry.offer = offer;
            if offer.credits > 0 {
                entry.unwell = None;
            }
            self.dispatch_wanted |= entry.takes_work();
        }
    }

    /// The agent has this attempt: a promise was kept, and its offer is smaller by it until it makes a new one.
    fn accepted(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(live) = job.live.as_mut().filter(|live| live.phase == Phase::Granted) else {
            return;
        };
        live.phase = Phase::Accepted;
        if let Some(entry) = self.agents.get_mut(&live.agent) {
            let taken = Offer::taken_by(&job.submitted.spec);
            entry.promised = entry.promised.less(taken);
            entry.offer = entry.offer.less(taken);
        }
    }

    pub(crate) fn sensed(&mut self, now: Now, agent: &AgentId, report: SensorReport, out: &mut Vec<Action>) {
        let Some(entry) = self.agents.get_mut(agent) else { return };
        let changed = entry.sensor.status != report.status;
        entry.sensor = report;
        self.dispatch_wanted |= entry.takes_work();
        if changed {
            self.ask_again(agent);
        }
        self.refused(now, agent, out);
    }

    pub(crate) fn renewed(
        &mut self,
        now: Now,
        link: LinkId,
        agent: &AgentId,
        attempts: &[(AttemptId, Epoch, u64)],
        out: &mut Vec<Action>,
    ) {
        for (attempt, epoch, invocations) in attempts {
            if !self.holds(agent, *attempt, *epoch) {
                let message = ToAgent::Cancel { attempt: *attempt, epoch: *epoch };
                out.push(Action::Send { link, message });
                continue;
            }
            self.extend_lease(now, attempt.job);
            self.accepted(attempt.job);
            if let Some(live) = self.jobs.get_mut(&attempt.job).and_then(|job| job.live.as_mut()) {
                live.invocations = *invocations;
            }
        }
    }

    pub(crate) fn updated(
        &mut self,
        now: Now,
        link: LinkId,
        agent: &AgentId,
        update: AttemptUpdate,
        out: &mut Vec<Action>,
    ) {
        let AttemptUpdate { attempt, epoch, event } = update;
        if !self.holds(agent, attempt, epoch) {
            Self::answer_stale(link, attempt, epoch, &event, out);
            return;
        }
        self.extend_lease(now, attempt.job);
        if let AttemptEvent::Refused(cause) = event {
            self.declined(now, agent, attempt.job, cause, out);
            return;
        }
        self.accepted(attempt.job);
        let Some(live) = self.jobs.get_mut(&attempt.job).and_then(|job| job.live.as_mut()) else {
            return;
        };
        match event {
            // Said again, it takes nothing back.
            AttemptEvent::Accepted | AttemptEvent::Refused(_) => {}
            AttemptEvent::Staging(Stage::Fetch | Stage::Setup | Stage::Check | Stage::Run | Stage::Read) => {
                live.phase = Phase::Staging;
            }
            AttemptEvent::Ready => live.phase = Phase::Ready,
            AttemptEvent::Running { cpus, isolation, placement, voids } => {
                live.phase = Phase::Running { round: live.rounds };
                live.disturbed(voids);
                live.cpus = cpus;
                live.isolation = isolation;
                live.placement = placement;
            }
            AttemptEvent::Ended(end) => {
                self.ended(now, link, attempt, end, out);
                return;
            }
        }
        out.push(Action::JobChanged(attempt.job));
    }

    /// An attempt that nothing wants any more: tell the agent to end it or to forget it.
    fn answer_stale(
        link: LinkId,
        attempt: AttemptId,
        epoch: Epoch,
        event: &AttemptEvent,
        out: &mut Vec<Action>,
    ) {
        let message = match event {
            AttemptEvent::Ended(_) => ToAgent::Release { attempt },
            AttemptEvent::Refused(_) => return,
            AttemptEvent::Accepted
            | AttemptEvent::Staging(_)
            | AttemptEvent::Ready
            | AttemptEvent::Running { .. } => ToAgent::Cancel { attempt, epoch },
        };
        out.push(Action::Send { link, message });
    }

    pub(crate) fn round_came(
        &mut self,
        now: Now,
        link: LinkId,
        agent: &AgentId,
        result: RoundResult,
        out: &mut Vec<Action>,
    ) {
        let RoundResult { attempt, epoch, round, .. } = result;
        if !self.holds(agent, attempt, epoch) {
            // The verdict stands, or another attempt took over: these rounds change nothing.
            out.push(Action::Send {
                link,
                message: ToAgent::Ack { attempt, epoch, rounds: round.saturating_add(1), stop: true },
            });
            return;
        }
        self.extend_lease(now, attempt.job);
        self.accepted(attempt.job);
        let due = self.live_rounds(attempt.job);
        match round.cmp(&due) {
            std::cmp::Ordering::Less => {
                out.push(Action::Send {
                    link,
                    message: ToAgent::Ack { attempt, epoch, rounds: due, stop: false },
                });
            }
            std::cmp::Ordering::Greater => {
                out.push(Action::Send { link, message: ToAgent::Replay { attempt, from_round: due } });
            }
            std::cmp::Ordering::Equal => self.fold(now, link, agent, result, out),
        }
    }

    /// Folds the round that is due into its attempt.
    fn fold(&mut self, now: Now, link: LinkId, agent: &AgentId, result: RoundResult, out: &mut Vec<Action>) {
        let RoundResult { attempt, epoch, .. } = result;
        let Some(job) = self.jobs.get_mut(&attempt.job) else { return };
        let spec = job.submitted.spec.clone();
        let Some(live) = job.live.as_mut() else { return };
        let folded = match live.fold(&spec, &result) {
            Ok(folded) => folded,
            Err(why) => {
                out.push(Action::Send { link, message: ToAgent::Cancel { attempt, epoch } });
                self.unfoldable(now, attempt.job, &spec, &why, out);
                return;
            }
        };
        let rounds = live.rounds;
        self.archive(now, agent, spec, result, out);
        let stop = match folded {
            Folded::Continue => {
                out.push(Action::JobChanged(attempt.job));
                false
            }
            Folded::Decided(verdict) => {
                let outcome = Outcome::Judged(verdict);
                self.finish(now, attempt.job, Some(AttemptOutcome::Completed), outcome, out);
                true
            }
        };
        out.push(Action::Send { link, message: ToAgent::Ack { attempt, epoch, rounds, stop } });
    }

    /// A round that broke a rule: the agent's fault is a lost attempt, the bench's own is final.
    fn unfoldable(&mut self, now: Now, id: JobId, spec: &JobSpec, why: &FoldError, out: &mut Vec<Action>) {
        match why {
            FoldError::Arms { .. } => self.lose(now, id, &LossCause::Box(why.to_string()), out),
            FoldError::Values(_) | FoldError::TooManySeries => {
                // What does not fit what came before is told of the side that is new.
                let Some((arm, variant)) = spec.work.variants().pop() else { return };
                let failure = Failure {
                    stage: Stage::Read,
                    arm,
                    variant: variant.label.clone(),
                    cause: FailureCause::Unreadable(why.to_string()),
                    log_tail: String::new(),
                };
                let ended = Some(AttemptOutcome::Failed(failure.clone()));
                self.finish(now, id, ended, Outcome::Failed(failure), out);
            }
        }
    }

    fn archive(
        &self,
        now: Now,
        agent: &AgentId,
        spec: std::sync::Arc<JobSpec>,
        result: RoundResult,
        out: &mut Vec<Action>,
    ) {
        let Some(facts) = self.agents.get(agent).and_then(|entry| entry.facts.as_ref()) else {
            return;
        };
        out.push(Action::Archive(Box::new(ArchiveRound {
            attempt: result.attempt,
            round: result.round,
            spec,
            agent: agent.clone(),
            pool: facts.pool.clone(),
            tier: facts.tier,
            recorded_unix_ms: now.unix_ms,
            invocations: result.invocations,
            probes: result.probes,
        })));
    }

    /// The agent is done with an attempt that its job has under way.
    fn ended(&mut self, now: Now, link: LinkId, attempt: AttemptId, end: AttemptEnd, out: &mut Vec<Action>) {
        let id = attempt.job;
        match end {
            AttemptEnd::Completed { rounds } => {
                let Some(job) = self.jobs.get_mut(&id) else { return };
                let spec = job.submitted.spec.clone();
                let Some(live) = job.live.as_mut() else { return };
                live.phase = Phase::Reporting;
                if live.rounds < rounds {
                    let message = ToAgent::Replay { attempt, from_round: live.rounds };
                    out.push(Action::Send { link, message });
                    return;
                }
                if live.rounds == 0 {
                    self.lose(now, id, &LossCause::Box("it ended without a single round".to_owned()), out);
                } else if let Some(outcome) = live.conclude(&spec) {
                    self.finish(now, id, Some(AttemptOutcome::Completed), outcome, out);
                }
            }
            AttemptEnd::Disturbed { rounds, voids } => {
                let Some(live) = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut()) else { return };
                live.phase = Phase::Reporting;
                if live.rounds < rounds {
                    let message = ToAgent::Replay { attempt, from_round: live.rounds };
                    out.push(Action::Send { link, message });
                    return;
                }
                let why = format!("it did not come to rest: {voids}");
                live.disturbed(voids);
                match live.give_up() {
                    Some(outcome) => {
                        self.finish(now, id, Some(AttemptOutcome::Completed), outcome, out);
                    }
                    None => self.lose(now, id, &LossCause::Box(why), out),
                }
            }
            AttemptEnd::Failed(failure) => {
                let outcome = Some(AttemptOutcome::Failed(failure.clone()));
                self.finish(now, id, outcome, Outcome::Failed(failure), out);
            }
            AttemptEnd::Box(why) => self.lose(now, id, &LossCause::Box(why), out),
            AttemptEnd::Cancelled => match self.jobs.get(&id).and_then(|job| job.record.cancel.clone()) {
                Some(by) => {
                    let outcome = Some(AttemptOutcome::Cancelled);
                    self.finish(now, id, outcome, Outcome::Cancelled { by }, out);
                }
                None => self.lose(now, id, &LossCause::Drained, out),
            },
        }
        out.push(Action::Send { link, message: ToAgent::Release { attempt } });
    }
}
