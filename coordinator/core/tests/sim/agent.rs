//! An honest agent, small: a spool, epochs that fence, a lease that it keeps, offers when they change.

use std::collections::BTreeMap;
use std::sync::Arc;

use darwin_coordinator_core::{FromAgent, HeldAttempt, Hello, LinkId, Offer, ToAgent};
use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
use darwin_shared::ids::{AgentId, AttemptId, Epoch, JobId};
use darwin_shared::spec::{Arm, JobSpec, Work};
use darwin_shared::state::{Failure, FailureCause, RefusalCause, Stage};
use darwin_shared::void::VoidRounds;

use super::dice::Dice;
use super::jobs;

/// What is sent on a link may be on its way or unnoticed lost for so long, in ms.
pub(crate) const UNSURE_MS: u64 = 120;
/// A round is due this long after the one before it, in ms.
const ROUND_MS: u64 = 40;
/// The longest that a round waits for the gate, in ms.
const LOOK_MS: u64 = 400;
/// A hello without welcome for so long means that the link is dead.
const WELCOME_MS: u64 = 500;

/// One attempt that the agent holds.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) epoch: Epoch,
    spec: Arc<JobSpec>,
    rounds: u32,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Waiting,
    Running { next_ms: u64, stop: bool },
    Looking { until_ms: u64 },
    Ended(AttemptEnd),
}

impl Held {
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    Greeting { since_ms: u64 },
    Up { renew_ms: u64, renew_every_ms: u64 },
}

/// The rates, in a thousand, at which an attempt goes wrong on this agent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mishaps {
    pub(crate) candidate_fails: u32,
    pub(crate) box_fails: u32,
}

/// An agent.
#[derive(Debug, Clone)]
pub(crate) struct FakeAgent {
    pub(crate) id: AgentId,
    pub(crate) cores: u32,
    ahead: u32,
    /// Whether its process runs.
    pub(crate) up: bool,
    incarnation: u32,
    pub(crate) link_id: Option<LinkId>,
    link: Link,
    /// How long a lease lasts and until when it surely holds, in ms.
    lease: Option<(u64, u64)>,
    held: BTreeMap<AttemptId, Held>,
    fences: BTreeMap<JobId, Epoch>,
    offered: Option<Offer>,
    pub(crate) drained: bool,
    pub(crate) healthy: bool,
    /// Jobs with this remainder of their submission's number by 3 are not for this box; none if it takes all.
    pub(crate) declines: Option<u64>,
    /// Whether it declines so because its policy wants it.
    pub(crate) by_policy: bool,
    /// Whether it declines every third job for now.
    pub(crate) stubborn: bool,
    pub(crate) mishaps: Mishaps,
}

impl FakeAgent {
    pub(crate) fn new(id: &str, cores: u32, ahead: u32) -> Self {
        Self {
            id: AgentId::new(id).unwrap(),
            cores,
            ahead,
            up: true,
            incarnation: 0,
            link_id: None,
            link: Link::Down,
            lease: None,
            held: BTreeMap::new(),
            fences: BTreeMap::new(),
            offered: None,
            drained: false,
            healthy: true,
            declines: None,
            by_policy: false,
            stubborn: false,
            mishaps: Mishaps::default(),
        }
    }

    /// The attempts that may have processes.
    pub(crate) fn live(&self) -> impl Iterator<Item = (AttemptId, Epoch)> {
        self.held.iter().filter(|(_, held)| held.is_live()).map(|(attempt, held)| (*attempt, held.epoch))
    }

    pub(crate) fn is_welcome(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    fn offer(&self) -> Offer {
        let running = self.held.values().filter(|held| held.is_live() && held.phase != Phase::Waiting);
        let busy: u32 = running.map(|held| held.spec.cores.count).sum();
        let live = u32::try_from(self.live().count()).unwrap();
        let takes = self.healthy && !self.drained;
        Offer {
            credits: if takes { (self.cores + self.ahead).saturating_sub(live) } else { 0 },
            free_cores: self.cores.saturating_sub(busy),
        }
    }

    /// Connects: the first words.
    pub(crate) fn hello(&mut self, now_ms: u64, link: LinkId) -> Hello {
        self.link_id = Some(link);
        self.link = Link::Greeting { since_ms: now_ms };
        self.offered = Some(self.offer());
        Hello {
            agent: self.id.clone(),
            facts: jobs::facts(&self.id, self.cores, self.incarnation),
            sensor: jobs::sensor(self.healthy),
            attempts: self
                .held
                .iter()
                .map(|(attempt, held)| HeldAttempt {
                    attempt: *attempt,
                    epoch: held.epoch,
                    rounds: held.rounds,
                    live: held.is_live(),
                    end: match &held.phase {
                        Phase::Ended(end) => Some(end.clone()),
                        Phase::Waiting | Phase::Running { .. } | Phase::Looking { .. } => None,
                    },
                })
                .collect(),
            offer: self.offer(),
        }
    }

    /// The connection is gone. Renewals of the last moments may not have arrived.
    pub(crate) fn link_lost(&mut self, now_ms: u64) {
        self.link = Link::Down;
        self.link_id = None;
        if let Some((length, until)) = &mut self.lease {
            *until = (*until).min(now_ms.saturating_sub(UNSURE_MS) + *length);
        }
    }

    /// The process dies, and all that it ran with it.
    pub(crate) fn crash(&mut self, now_ms: u64) {
        self.link_lost(now_ms);
        self.up = false;
        self.held.retain(|_, held| !held.is_live());
    }

    /// Starts again: what was live is not known any more, what had ended is.
    pub(crate) fn restart(&mut self) {
        self.up = true;
        self.incarnation += 1;
        self.drained = false;
        self.lease = None;
    }

    fn tell(attempt: AttemptId, epoch: Epoch, event: AttemptEvent) -> FromAgent {
        FromAgent::Update(AttemptUpdate { attempt, epoch, event })
    }

    fn end(&mut self, attempt: AttemptId, end: AttemptEnd, out: &mut Vec<FromAgent>) {
        if let Some(held) = self.held.get_mut(&attempt).filter(|held| held.is_live()) {
            held.phase = Phase::Ended(end.clone());
            out.push(Self::tell(attempt, held.epoch, AttemptEvent::Ended(end)));
        }
    }

    /// Takes a message of the coordinator.
    pub(crate) fn hear(&mut self, now_ms: u64, message: ToAgent, out: &mut Vec<FromAgent>) {
        match message {
            ToAgent::Welcome { lease, renew_every, stale, drained } => {
                let Link::Greeting { since_ms } = self.link else { return };
                let lease = u64::try_from(lease.as_millis()).unwrap();
                let renew_every_ms = u64::try_from(renew_every.as_millis()).unwrap();
                self.lease = Some((lease, since_ms + lease));
                self.link = Link::Up { renew_ms: now_ms + renew_every_ms, renew_every_ms };
                self.drained = drained;
                for attempt in stale {
                    self.held.remove(&attempt);
                }
            }
            ToAgent::Assign { attempt, epoch, spec } => self.assigned(attempt, epoch, spec, out),
            ToAgent::Ack { attempt, epoch, rounds, stop } => {
                self.acked(now_ms, attempt, epoch, rounds, stop, out);
            }
            ToAgent::Cancel { attempt, epoch } => {
                if self.held.get(&attempt).is_some_and(|held| held.epoch == epoch) {
                    self.end(attempt, AttemptEnd::Cancelled, out);
                }
            }
            ToAgent::Release { attempt } => {
                self.held.remove(&attempt);
            }
            ToAgent::SetDrain { drained } => self.drained = drained,
            ToAgent::Replay { attempt, from_round } => self.replay(attempt, from_round, out),
        }
    }

    fn assigned(&mut self, attempt: AttemptId, epoch: Epoch, spec: Arc<JobSpec>, out: &mut Vec<FromAgent>) {
        if self.held.get(&attempt).is_some_and(|held| held.epoch == epoch) {
            out.push(Self::tell(attempt, epoch, AttemptEvent::Accepted));
            return;
        }
        let refusal = if self.fences.get(&attempt.job).is_some_and(|seen| epoch <= *seen) {
            Some(RefusalCause::StaleEpoch)
        } else if !self.healthy {
            Some(RefusalCause::Unhealthy("too hot".to_owned()))
        } else if self.declines == Some(attempt.job.unix_ms() % 3) {
            let why = "not on this box".to_owned();
            Some(if self.by_policy { RefusalCause::Policy(why) } else { RefusalCause::Unsupported(why) })
        } else if self.stubborn && attempt.job.unix_ms().is_multiple_of(3) {
            Some(RefusalCause::Unsupported("not today".to_owned()))
        } else if self.live().count() >= (self.cores + self.ahead) as usize {
            Some(RefusalCause::Busy)
        } else {
            None
        };
        // A grant that was answered, either way, is over: if it comes again it is an echo.
        let fence = self.fences.entry(attempt.job).or_default();
        *fence = epoch.max(*fence);
        if let Some(cause) = refusal {
            out.push(Self::tell(attempt, epoch, AttemptEvent::Refused(cause)));
            return;
        }
        self.held.retain(|id, held| id.job != attempt.job || !held.is_live());
        self.held.insert(attempt, Held { epoch, spec, rounds: 0, phase: Phase::Waiting });
        out.push(Self::tell(attempt, epoch, AttemptEvent::Accepted));
        if let Some(offered) = &mut self.offered {
            offered.credits = offered.credits.saturating_sub(1);
        }
    }

    fn acked(
        &mut self,
        now_ms: u64,
        attempt: AttemptId,
        epoch: Epoch,
        rounds: u32,
        stop: bool,
        out: &mut Vec<FromAgent>,
    ) {
        let Some(held) = self.held.get_mut(&attempt).filter(|held| held.epoch == epoch) else {
            return;
        };
        match &mut held.phase {
            Phase::Running { stop: stops, .. } => *stops |= stop,
            Phase::Looking { .. } if stop => {
                let rounds = held.rounds;
                self.end(attempt, AttemptEnd::Completed { rounds }, out);
            }
            Phase::Looking { .. } if rounds >= held.rounds => {
                held.phase = Phase::Running { next_ms: now_ms + ROUND_MS, stop: false };
            }
            Phase::Waiting | Phase::Looking { .. } | Phase::Ended(_) => {}
        }
    }

    fn replay(&self, attempt: AttemptId, from_round: u32, out: &mut Vec<FromAgent>) {
        let Some(held) = self.held.get(&attempt) else { return };
        for round in from_round..held.rounds {
            let result = jobs::round(&held.spec, attempt, held.epoch, round);
            out.push(FromAgent::Round(Box::new(result)));
        }
        if let Phase::Ended(end) = &held.phase {
            out.push(Self::tell(attempt, held.epoch, AttemptEvent::Ended(end.clone())));
        }
    }

    /// Time passes. Returns false if the link must be given up.
    pub(crate) fn tick(&mut self, now_ms: u64, dice: &mut Dice, out: &mut Vec<FromAgent>) -> bool {
        self.keep_lease(now_ms, out);
        self.measure(now_ms, dice, out);
        self.start_waiting(now_ms, out);
        match &mut self.link {
            Link::Down => {}
            Link::Greeting { since_ms } => {
                if now_ms > *since_ms + WELCOME_MS {
                    return false;
                }
            }
            Link::Up { renew_ms, renew_every_ms } => {
                if now_ms >= *renew_ms {
                    *renew_ms = now_ms + *renew_every_ms;
                    if let Some((length, until)) = &mut self.lease {
                        *until = now_ms + *length;
                    }
                    out.push(FromAgent::Renew(self.live().map(|(id, epoch)| (id, epoch, 1)).collect()));
                }
            }
        }
        let offer = self.offer();
        if self.is_welcome() && self.offered != Some(offer) {
            self.offered = Some(offer);
            out.push(FromAgent::Offer(offer));
        }
        true
    }

    fn keep_lease(&mut self, now_ms: u64, out: &mut Vec<FromAgent>) {
        if self.lease.is_none_or(|(_, until)| now_ms < until) {
            return;
        }
        let live: Vec<AttemptId> = self.live().map(|(attempt, _)| attempt).collect();
        for attempt in live {
            self.end(attempt, AttemptEnd::Box("the lease ended".to_owned()), out);
        }
    }

    fn measure(&mut self, now_ms: u64, dice: &mut Dice, out: &mut Vec<FromAgent>) {
        let live: Vec<AttemptId> = self.live().map(|(attempt, _)| attempt).collect();
        for attempt in live {
            let Some(held) = self.held.get_mut(&attempt) else { continue };
            match held.phase {
                Phase::Running { next_ms, stop } if next_ms <= now_ms => {
                    if let Some(end) = mishap(&held.spec, self.mishaps, dice) {
                        self.end(attempt, end, out);
                        continue;
                    }
                    let result = jobs::round(&held.spec, attempt, held.epoch, held.rounds);
                    held.rounds += 1;
                    let rounds = held.rounds;
                    out.push(FromAgent::Round(Box::new(result)));
                    if stop || rounds >= held.spec.budget.rounds_max {
                        self.end(attempt, AttemptEnd::Completed { rounds }, out);
                    } else if held.spec.policy.looks.contains(&rounds) {
                        held.phase = Phase::Looking { until_ms: now_ms + LOOK_MS };
                    } else {
                        held.phase = Phase::Running { next_ms: now_ms + ROUND_MS, stop };
                    }
                }
                Phase::Looking { until_ms } if until_ms <= now_ms => {
                    held.phase = Phase::Running { next_ms: now_ms, stop: false };
                }
                Phase::Waiting | Phase::Running { .. } | Phase::Looking { .. } | Phase::Ended(_) => {}
            }
        }
    }

    fn start_waiting(&mut self, now_ms: u64, out: &mut Vec<FromAgent>) {
        let mut free = self.offer().free_cores;
        for (attempt, held) in &mut self.held {
            if held.phase == Phase::Waiting && held.spec.cores.count <= free {
                free -= held.spec.cores.count;
                held.phase = Phase::Running { next_ms: now_ms + ROUND_MS, stop: false };
                let event = AttemptEvent::Running {
                    cpus: "1".to_owned(),
                    isolation: "affinity".to_owned(),
                    placement: String::new(),
                    voids: VoidRounds::default(),
                };
                out.push(Self::tell(*attempt, held.epoch, event));
            }
        }
    }
}

fn mishap(spec: &JobSpec, mishaps: Mishaps, dice: &mut Dice) -> Option<AttemptEnd> {
    if dice.per_mille(mishaps.candidate_fails) {
        let variant = match &spec.work {
            Work::Compare { baseline, .. } => baseline,
            Work::Measure { variant } => variant,
            Work::Probe { .. } => return None,
        };
        return Some(AttemptEnd::Failed(Failure {
            stage: Stage::Run,
            arm: Arm::Baseline,
            variant: variant.label.clone(),
            cause: FailureCause::ExitCode(1),
            log_tail: String::new(),
        }));
    }
    dice.per_mille(mishaps.box_fails).then(|| AttemptEnd::Box("a disk error".to_owned()))
}
