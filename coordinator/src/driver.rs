//! The one loop that owns the state: select, step, persist, perform.
//!
//! It runs on a thread of its own, because persisting blocks: all inputs that gather during one sync are stepped
//! together and share the next one (group commit). If the ledger fails the loop ends, and with it the coordinator: what
//! memory holds is then ahead of the disk, and only a restart makes them one again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use darwin_coordinator_core::{
    Action, Answer, Caller, Core, Event, LinkId, Now, Refusal, RestoredJob, Submission, ToAgent,
};
use darwin_proto::v1;
use darwin_proto::v1::coordinator_message::Body;
use darwin_shared::fleet::AgentFacts;
use darwin_shared::ids::{AttemptId, JobId};
use darwin_shared::state::{JobState, Outcome};
use rand::Rng;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, warn};

use crate::handle::{INPUTS, Input, LinkSender, Query, Reply};
use crate::rpc::view;
use crate::stores::{
    AaJob, ArchiveQueue, CommitError, Kind, Ledger, RecordError, StoredWrite, decode_job, encode,
};

/// Inputs that are stepped before one commit. More would only delay the first of them.
const BATCH_INPUTS: usize = 512;
/// Unfinished jobs from which on commits are spaced out: below it every input is settled at once.
const BUSY_JOBS: usize = 24;
/// The least time from one commit to the next while busy. Agents hold work for longer than this, so nothing idles.
const GATHER: std::time::Duration = std::time::Duration::from_millis(24);
/// Batches that go before a timer that is due: all that can have waited when it came due, for the renewal that it is
/// about may be among them.
const LATE_BATCHES: usize = INPUTS / BATCH_INPUTS + 1;

/// Why the loop ended.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The ledger did not take a batch.
    #[error(
        "{0}; nothing was acknowledged that is not on disk: mend the disk and start the coordinator again"
    )]
    Commit(#[from] CommitError),
    /// A record could not be written down.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The loop's runtime could not be made.
    #[error("the loop could not start: {0}")]
    Runtime(std::io::Error),
}

/// Tells the time; the only place that does.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.origin.elapsed(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }

    fn instant(&self, mono: std::time::Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.origin + mono)
    }
}

/// The loop with all that it owns.
pub(crate) struct Driver {
    core: Core,
    ledger: Box<dyn Ledger>,
    archive: ArchiveQueue,
    inputs: mpsc::Receiver<Input>,
    clock: Clock,
    /// The last job id, so that ids of one millisecond still grow.
    last_job: JobId,
    callers: BTreeMap<Caller, Reply>,
    next_caller: u64,
    links: BTreeMap<LinkId, LinkSender>,
    /// What this step says to each agent.
    said: BTreeMap<LinkId, Vec<v1::CoordinatorMessage>>,
    watchers: BTreeMap<JobId, Vec<watch::Sender<Option<v1::Job>>>>,
    finished_watchers: Vec<(String, mpsc::Sender<v1::FinishedJob>)>,
    /// Who wants to see the state, once it is on disk.
    lookers: Vec<Looker>,
    /// Batches taken since a timer was due.
    late: usize,
}

/// Wants to see the state.
enum Looker {
    /// Of one job, now and whenever it changes.
    Watch(JobId, watch::Sender<Option<v1::Job>>),
    /// Once.
    Query(Query),
}

impl Driver {
    pub(crate) fn new(
        core: Core,
        ledger: Box<dyn Ledger>,
        archive: ArchiveQueue,
        inputs: mpsc::Receiver<Input>,
        clock: Clock,
    ) -> Self {
        // A clock that was set back between two lives must not let a later job go before an earlier one.
        let last_job = core.jobs_newest_first(None).next().map_or(JobId::from_parts(0, 0), |job| job.id);
        Self {
            core,
            ledger,
            archive,
            inputs,
            clock,
            last_job,
            callers: BTreeMap::new(),
            next_caller: 0,
            links: BTreeMap::new(),
            said: BTreeMap::new(),
            watchers: BTreeMap::new(),
            finished_watchers: Vec::new(),
            lookers: Vec::new(),
            late: 0,
        }
    }

    /// Runs until all handles are gone or `stop` fires; `actions` are left over from restoring the state.
    pub(crate) async fn run(
        mut self,
        mut actions: Vec<Action>,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<(), DriverError> {
        self.settle(&mut actions)?;
        let mut batch = Vec::with_capacity(BATCH_INPUTS);
        let mut settled = tokio::time::Instant::now();
        loop {
            let timer = self.core.next_timer().map(|at| self.clock.instant(at));
            tokio::select! {
                biased;
                _ = &mut stop => return Ok(()),
                count = self.inputs.recv_many(&mut batch, BATCH_INPUTS) => if count == 0 { return Ok(()) },
                () = sleep_until(timer) => {}
            }
            if self.is_busy() {
                tokio::time::sleep_until(settled + GATHER).await;
                while batch.len() < BATCH_INPUTS
                    && let Ok(input) = self.inputs.try_recv()
                {
                    batch.push(input);
                }
            }
            for input in batch.drain(..) {
                self.take(input, &mut actions);
            }
            self.fire_timers(&mut actions);
            self.settle(&mut actions)?;
            self.show();
            settled = tokio::time::Instant::now();
        }
    }

    /// Whether so much is going on that a commit for each input would cost more than it gains.
    fn is_busy(&self) -> bool {
        let (queued, active) = self.core.counts();
        queued + active >= BUSY_JOBS
    }

    fn fire_timers(&mut self, actions: &mut Vec<Action>) {
        let now = self.clock.now();
        if self.core.next_timer().is_none_or(|at| at > now.mono) {
            self.late = 0;
        } else if !self.inputs.is_empty() && self.late < LATE_BATCHES {
            self.late += 1;
        } else {
            self.late = 0;
            self.core.step(now, Event::Timer, actions);
        }
    }

    /// Shows the state to those who asked for it, after the commit: what is not on disk is shown to nobody.
    fn show(&mut self) {
        for looker in std::mem::take(&mut self.lookers) {
            match looker {
                Looker::Watch(job, out) => self.watch(job, out),
                Looker::Query(look) => look(&self.core, self.ledger.as_mut(), self.clock.now()),
            }
        }
    }

    /// Persists, then speaks.
    fn settle(&mut self, actions: &mut Vec<Action>) -> Result<(), DriverError> {
        let mut writes: Vec<StoredWrite> = Vec::new();
        for action in actions.iter() {
            if let Action::Write(write) = action {
                writes.push(encode(write)?);
            }
        }
        let writes = coalesce(writes);
        if !writes.is_empty()
            && let Err(why) = self.ledger.commit(&writes)
        {
            error!(%why, "the ledger failed: stopping");
            return Err(why.into());
        }
        for action in actions.drain(..) {
            self.perform(action);
        }
        self.speak();
        Ok(())
    }

    fn take(&mut self, input: Input, actions: &mut Vec<Action>) {
        let now = self.clock.now();
        let event = match input {
            Input::Submit { request, answer } => {
                let job = self.new_job_id(now);
                let request = *request;
                let submission = Submission {
                    job,
                    request_id: request.request_id,
                    spec: request.spec,
                    submitter: request.submitter,
                };
                Event::Submit { caller: self.caller(answer), submission: Box::new(submission) }
            }
            Input::Cancel { job, by, answer } => Event::Cancel { caller: self.caller(answer), job, by },
            Input::SetDrained { agent, drained, answer } => {
                Event::SetDrained { caller: self.caller(answer), agent, drained }
            }
            Input::LinkUp { link, hello, out } => {
                self.links.insert(link, out);
                Event::LinkUp { link, hello }
            }
            Input::FromAgent { link, message } => Event::FromAgent { link, message },
            Input::LinkDown { link } => {
                self.links.remove(&link);
                Event::LinkDown { link }
            }
            Input::Relay { job, message, sent } => {
                // The asker may have gone away meanwhile.
                let _ = sent.send(self.relay(job, *message));
                return;
            }
            Input::Watch { job, out } => {
                self.lookers.push(Looker::Watch(job, out));
                return;
            }
            Input::WatchFinished { project, out } => {
                self.finished_watchers.push((project, out));
                return;
            }
            Input::Query(look) => {
                self.lookers.push(Looker::Query(look));
                return;
            }
        };
        self.core.step(now, event, actions);
    }

    fn caller(&mut self, reply: Reply) -> Caller {
        let caller = Caller(self.next_caller);
        self.next_caller += 1;
        self.callers.insert(caller, reply);
        caller
    }

    fn new_job_id(&mut self, now: Now) -> JobId {
        let fresh = JobId::from_parts(now.unix_ms, rand::rng().random::<u128>() >> 49);
        // A clock that stands or jumps back must not let a later job go before an earlier one.
        self.last_job = if fresh > self.last_job && fresh.unix_ms() > self.last_job.unix_ms() {
            fresh
        } else {
            self.last_job.successor()
        };
        self.last_job
    }

    fn relay(&mut self, job: JobId, message: v1::CoordinatorMessage) -> bool {
        let link = self
            .core
            .job(job)
            .and_then(|job| job.live.as_ref())
            .and_then(|live| self.core.agent(&live.agent))
            .and_then(|agent| agent.link);
        link.and_then(|link| self.links.get(&link)).is_some_and(|out| out.try_send(Ok(vec![message])).is_ok())
    }

    fn watch(&mut self, id: JobId, out: watch::Sender<Option<v1::Job>>) {
        let Some((seen, finished)) = self.seen(id) else { return };
        out.send_replace(Some(seen));
        if !finished {
            self.watchers.entry(id).or_default().push(out);
        }
    }

    /// A job as it is now, and whether it has finished.
    fn seen(&mut self, id: JobId) -> Option<(v1::Job, bool)> {
        if let Some(job) = self.core.job(id) {
            let seen = view::job(&self.core, job);
            return Some((seen, job.record.state.is_finished()));
        }
        Some((view::stored_job(&self.stored(id)?), true))
    }

    /// A job that has left memory, for younger ones have finished since: the ledger has it.
    fn stored(&mut self, id: JobId) -> Option<RestoredJob> {
        let found = match self.ledger.get(Kind::Job, &id.to_string()) {
            Ok(stored) => stored.map(|stored| decode_job(self.ledger.as_mut(), &stored)).transpose(),
            Err(why) => Err(why.into()),
        };
        found.unwrap_or_else(|why| {
            error!(job = %id, %why, "a job cannot be read back");
            None
        })
    }

    fn perform(&mut self, action: Action) {
        match action {
            // Durable already: see `settle`.
            Action::Write(_) => {}
            Action::Reply { caller, answer } => self.reply(caller, answer),
            Action::Send { link, message } => self.send(link, message),
            Action::Close { link, why } => {
                debug!(link = link.0, %why, "closing a link");
                self.speak();
                if let Some(out) = self.links.remove(&link) {
                    // A full queue means that the agent will see the stream's end instead.
                    let _ = out.try_send(Err(tonic::Status::aborted(why)));
                }
            }
            Action::Archive(round) => self.archive.put(*round),
            Action::JobChanged(job) => self.job_changed(job),
            Action::JobFinished(job) => {
                self.archive_if_same_code(job);
                self.job_finished(job);
            }
        }
    }

    fn reply(&mut self, caller: Caller, answer: Result<Answer, Refusal>) {
        if let Some(reply) = self.callers.remove(&caller) {
            // The caller may have hung up; its job is durable all the same.
            let _ = reply.send(answer);
        }
    }

    fn send(&mut self, link: LinkId, message: ToAgent) {
        let said = self.said.entry(link).or_default();
        if let ToAgent::Release { attempt } = &message {
            // Released, it needs no word on its rounds.
            let attempt = attempt.to_string();
            said.retain(|said| !matches!(&said.body, Some(Body::Ack(ack)) if ack.attempt_id == attempt));
        }
        said.push(view::to_agent(message));
    }

    /// Sends what was said, all of it together to each agent.
    fn speak(&mut self) {
        for (link, said) in std::mem::take(&mut self.said) {
            let Some(out) = self.links.get(&link) else { continue };
            if out.try_send(Ok(said)).is_err() {
                warn!(
                    link = link.0,
                    "an agent does not read what it is sent: cutting its link, it will reconcile"
                );
                self.links.remove(&link);
            }
        }
    }

    fn job_changed(&mut self, id: JobId) {
        let Some(watchers) = self.watchers.get_mut(&id) else {
            return;
        };
        watchers.retain(|out| !out.is_closed());
        if watchers.is_empty() {
            self.watchers.remove(&id);
            return;
        }
        let Some((seen, finished)) = self.seen(id) else { return };
        for out in self.watchers.get(&id).into_iter().flatten() {
            out.send_replace(Some(seen.clone()));
        }
        if finished {
            self.watchers.remove(&id);
        }
    }

    /// A verdict on identical code says how noisy its box is and whether the gate keeps its promise.
    fn archive_if_same_code(&self, id: JobId) {
        let Some(job) = self.core.job(id).filter(|job| job.spec().work.is_same_on_both_sides()) else {
            return;
        };
        let (JobState::Finished(Outcome::Judged(verdict)), Some(attempt)) =
            (&job.record.state, job.record.attempts.last())
        else {
            return;
        };
        let facts = self.core.agent(&attempt.agent).and_then(|agent| agent.facts.as_ref());
        self.archive.put_aa(AaJob {
            attempt: AttemptId { job: id, number: attempt.number },
            spec: job.spec().clone(),
            agent: attempt.agent.clone(),
            tier: attempt.tier.unwrap_or_default(),
            pairing: attempt.pairing.clone(),
            fingerprint: facts.map(AgentFacts::fingerprint).unwrap_or_default(),
            verdict: verdict.clone(),
            finished_unix_ms: job.record.finished_unix_ms,
        });
    }

    fn job_finished(&mut self, id: JobId) {
        if self.finished_watchers.is_empty() {
            return;
        }
        let found = match self.core.job(id) {
            Some(job) => Some((job.record.state.name(), job.submitted.spec.clone())),
            None => self.stored(id).map(|job| (job.record.state.name(), job.submitted.spec)),
        };
        let Some((state, spec)) = found else { return };
        let project = spec.project.as_str();
        self.finished_watchers.retain(|(wanted, out)| {
            if !wanted.is_empty() && wanted != project {
                return !out.is_closed();
            }
            out.try_send(v1::FinishedJob { job_id: id.to_string(), state: state.to_owned() }).is_ok()
        });
    }
}

/// Makes one write of several of the same record: the version that the first expects, all else of the last.
fn coalesce(writes: Vec<StoredWrite>) -> Vec<StoredWrite> {
    let mut merged: BTreeMap<(Kind, String), StoredWrite> = BTreeMap::new();
    for mut write in writes {
        match merged.entry((write.kind, write.id.clone())) {
            Entry::Vacant(place) => {
                place.insert(write);
            }
            Entry::Occupied(mut before) => {
                write.expected_version = before.get().expected_version;
                before.insert(write);
            }
        }
    }
    merged.into_values().collect()
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
