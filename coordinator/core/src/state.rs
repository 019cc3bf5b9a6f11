//! The core's state and its one door: [`Core::step`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use darwin_shared::ids::{AgentId, Epoch, JobId};
use darwin_shared::state::{AttemptOutcome, JobState, Outcome, Phase};

use crate::action::{Action, Answer, Refusal};
use crate::agent::Agent;
use crate::event::{Caller, Event, FromAgent, LinkId, Now, Offer};
use crate::job::Job;
use crate::queue::Queue;
use crate::record::{AgentRecord, EpochRecord, Value, Write};
use crate::settings::Settings;

/// Epochs that one write reserves: a restart skips so many at most, and there are 2^64.
const EPOCHS_RESERVED: u64 = 1_000;

/// Everything that the coordinator decides by.
#[derive(Debug, Clone, Default)]
pub struct Core {
    pub(crate) settings: Settings,
    /// Jobs that have not finished.
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Jobs that finished last, for lists and repeated request ids.
    pub(crate) recent: BTreeMap<JobId, Job>,
    /// The newest finished job that may have left memory.
    pub(crate) newest_forgotten: Option<JobId>,
    pub(crate) queue: Queue,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) links: BTreeMap<LinkId, AgentId>,
    /// The last epoch that was granted.
    pub(crate) epoch: Epoch,
    /// The reserved epochs, with the record's version in the ledger.
    pub(crate) epochs: (u64, EpochRecord),
    /// Request ids of the jobs in memory.
    pub(crate) requests: BTreeMap<String, JobId>,
    /// Agents' records with their versions in the ledger.
    pub(crate) agent_records: BTreeMap<AgentId, (u64, AgentRecord)>,
    /// When which live attempt is taken for lost.
    pub(crate) lost_timers: BTreeSet<(Duration, JobId)>,
    /// When which waiting job expires.
    pub(crate) wait_timers: BTreeSet<(Duration, JobId)>,
    /// Until when agents that were connected before a restart may still be on their way; none once they are not.
    pub(crate) fleet_known_at: Option<Duration>,
    /// Whether something changed that may let a waiting job go.
    pub(crate) dispatch_wanted: bool,
}

impl Core {
    /// An empty core: no jobs, no agents.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Takes one event at the time `now` and appends what is to be done to `out`.
    pub fn step(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Submit { caller, submission } => self.submit(now, caller, *submission, out),
            Event::Cancel { caller, job, by } => self.cancel(now, caller, job, by, out),
            Event::SetDrained { caller, agent, drained } => self.set_drained(caller, &agent, drained, out),
            Event::LinkUp { link, hello } => self.link_up(now, link, *hello, out),
            Event::LinkDown { link } => self.link_down(link),
            Event::FromAgent { link, message } => self.agent_said(now, link, message, out),
            Event::Timer => self.fire_timers(now, out),
        }
        self.dispatch(now, out);
    }

    fn agent_said(&mut self, now: Now, link: LinkId, message: FromAgent, out: &mut Vec<Action>) {
        // A message of a connection that a newer one replaced says nothing about now.
        let Some(agent) = self.links.get(&link).cloned() else {
            return;
        };
        if let Some(entry) = self.agents.get_mut(&agent) {
            entry.heard_at = now.mono;
            entry.heard_unix_ms = now.unix_ms;
        }
        match message {
            FromAgent::Offer(offer) => self.offered(&agent, offer),
            FromAgent::Renew(attempts) => self.renewed(now, link, &agent, &attempts, out),
            FromAgent::Update(update) => self.updated(now, link, &agent, update, out),
            FromAgent::Round(result) => self.round_came(now, link, &agent, *result, out),
            FromAgent::Sensor(report) => self.sensed(now, &agent, report, out),
        }
    }

    fn set_drained(&mut self, caller: Caller, agent: &AgentId, drained: bool, out: &mut Vec<Action>) {
        let Some(entry) = self.agents.get_mut(agent) else {
            out.push(Action::Reply { caller, answer: Err(Refusal::NoSuchAgent(agent.clone())) });
            return;
        };
        entry.drained = drained;
        let (version, record) =
            self.agent_records.entry(agent.clone()).or_insert((0, AgentRecord { drained: !drained }));
        if record.drained != drained {
            *record = AgentRecord { drained };
            out.push(Action::Write(Write {
                expected_version: *version,
                value: Value::Agent(agent.clone(), record.clone()),
            }));
            *version += 1;
        }
        if let Some(link) = entry.link {
            out.push(Action::Send { link, message: crate::ToAgent::SetDrain { drained } });
        }
        self.ask_again(agent);
        out.push(Action::Reply { caller, answer: Ok(Answer::DrainSet) });
    }

    /// Writes a job's record as it is now.
    pub(crate) fn write_job(job: &mut Job, out: &mut Vec<Action>) {
        out.push(Action::Write(Write {
            expected_version: job.version,
            value: Value::Job(job.id, job.record.clone()),
        }));
        job.version += 1;
    }

    /// An epoch that was never granted before.
    pub(crate) fn next_epoch(&mut self, out: &mut Vec<Action>) -> Epoch {
        let epoch = self.epoch.next();
        self.epoch = epoch;
        let (version, record) = &mut self.epochs;
        if epoch > record.reserved {
            record.reserved = Epoch { counter: epoch.counter + EPOCHS_RESERVED, ..epoch };
            let value = Value::Epochs(*record);
            out.push(Action::Write(Write { expected_version: *version, value }));
            *version += 1;
        }
        epoch
    }

    /// Puts a job into the queue, where its waiting begins.
    pub(crate) fn enqueue(&mut self, now: Now, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.waiting_since = now.mono;
        }
        self.enqueue_again(id);
    }

    /// Puts a job back into the queue that it never really left: it goes on waiting.
    pub(crate) fn enqueue_again(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let spec = &job.submitted.spec;
        self.queue.push(job.class(), spec.priority, &spec.project, id);
        self.wait_timers.insert((job.waiting_since + self.settings.wait_max, id));
        self.dispatch_wanted = true;
    }

    /// Takes a job out of the queue; false if it was not waiting.
    pub(crate) fn dequeue(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else {
            return false;
        };
        let spec = &job.submitted.spec;
        let removed = self.queue.remove(&job.class(), spec.priority, &spec.project, id);
        if removed {
            self.wait_timers.remove(&(job.waiting_since + self.settings.wait_max, id));
        }
        removed
    }

    /// Takes the live attempt off a job: its timer, its place at the agent, its project's count.
    pub(crate) fn detach(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(attempt) = job.live_id() else { return };
        let Some(live) = job.live.take() else { return };
        if let Some(record) = job.record.attempts.last_mut() {
            record.pairing.clone_from(&live.pairing);
            record.placement = live.placed();
            record.used = live.used.sum_up();
            record.images.clone_from(&live.images);
            record.voids = live.all_voids();
            record.probes.clone_from(&live.probes);
        }
        self.lost_timers.remove(&(live.lost_at, id));
        self.queue.attempt_ended(&job.submitted.spec.project);
        if let Some(agent) = self.agents.get_mut(&live.agent) {
            agent.attempts.remove(&attempt);
            if live.phase == Phase::Granted {
                agent.promised = agent.promised.less(Offer::taken_by(&job.submitted.spec));
                self.dispatch_wanted = true;
            }
        }
    }

    /// Ends a job for good.
    pub(crate) fn finish(
        &mut self,
        now: Now,
        id: JobId,
        attempt_outcome: Option<AttemptOutcome>,
        outcome: Outcome,
        out: &mut Vec<Action>,
    ) {
        self.detach(id);
        self.dequeue(id);
        let Some(mut job) = self.jobs.remove(&id) else {
            return;
        };
        for agent in std::mem::take(&mut job.declined_by).into_keys() {
            if let Some(agent) = self.agents.get_mut(&agent) {
                agent.declined.remove(&id);
            }
        }
        if let Some(attempt) = job.record.attempts.last_mut()
            && attempt.outcome.is_none()
        {
            attempt.outcome = attempt_outcome;
        }
        job.record.state = JobState::Finished(outcome);
        job.record.finished_unix_ms = now.unix_ms;
        Self::write_job(&mut job, out);
        self.remember(job);
        out.push(Action::JobChanged(id));
        out.push(Action::JobFinished(id));
    }

    /// Keeps a finished job for a while.
    pub(crate) fn remember(&mut self, job: Job) {
        self.recent.insert(job.id, job);
        while self.recent.len() > self.settings.recent_max {
            if let Some((_, old)) = self.recent.pop_first() {
                self.newest_forgotten = self.newest_forgotten.max(Some(old.id));
                let request = &old.submitted.request_id;
                if self.requests.get(request) == Some(&old.id) {
                    self.requests.remove(request);
                }
            }
        }
    }

    /// When [`Event::Timer`] is due next, if it is.
    pub fn next_timer(&self) -> Option<Duration> {
        let first = |timers: &BTreeSet<(Duration, JobId)>| timers.first().map(|(at, _)| *at);
        [first(&self.lost_timers), first(&self.wait_timers), self.fleet_known_at].into_iter().flatten().min()
    }

    /// What decisions depend on.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
