//! Doing what the machine says, and telling it what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use darwin_agent_core::cpu_alloc::Granted;
use darwin_agent_core::machine::{Action, Event};
use darwin_proto::v1::agent_message::Body;
use darwin_shared::attempt::{AttemptEvent, AttemptUpdate};
use darwin_shared::fleet::IsolationLevel;
use darwin_shared::ids::{AttemptId, Epoch};
use darwin_shared::spec::{Isolation, JobSpec, Scheduler};
use tokio::task::{Id, JoinError};
use tokio_util::sync::CancellationToken;

use super::{Done, Driver, Job, Turning};
use crate::logs::AttemptLogs;
use crate::run::{Bench, RoundEnd, measure, remove_all};
use crate::spool::SpoolError;
use crate::stage::{self, StageEnd, Staging, sides_without_files};

impl Driver {
    /// Performs actions, in their order; what starts processes waits for the end of the turn.
    pub(super) fn perform(&mut self, turning: &mut Turning, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::WriteIntent { attempt, epoch } => self.taken(turning, attempt, epoch),
                Action::ReportRound { attempt, round } => self.report(turning, attempt, round),
                Action::WriteEnd { attempt, end } => {
                    self.spool.end(attempt, end);
                    if let Some(job) = turning.jobs.get_mut(&attempt) {
                        job.logs.close();
                        // Lets go of the variants' folders; the logs stay until the attempt is forgotten.
                        (job.bench, job.sides) = (None, Vec::new());
                    }
                }
                Action::Forget { attempt } => self.forget(turning, attempt),
                Action::Tell { attempt, epoch, event } => {
                    turning.outbox.say(Body::Update(AttemptUpdate { attempt, epoch, event }.into()));
                }
                Action::SendOffer(offer) => turning.outbox.offer(offer),
                Action::SendRenewal => {
                    let renewal = self.renewal(turning);
                    turning.outbox.say(Body::Renew(renewal));
                }
                Action::ResendRounds { attempt, from_round } => {
                    match self.spool.rounds(attempt, from_round) {
                        Ok(rounds) => {
                            for round in rounds {
                                turning.outbox.say(Body::Round(round));
                            }
                        }
                        Err(error) => {
                            tracing::error!(%attempt, %error, "the spool does not give its rounds back");
                        }
                    }
                }
                Action::Begin { attempt, epoch, slot: _, granted } => {
                    self.begin(turning, attempt, epoch, granted);
                }
                Action::Stop { attempt } => {
                    if let Some(job) = turning.jobs.get(&attempt) {
                        job.stop.cancel();
                    }
                }
                Action::Leave => turning.gone = true,
                start @ (Action::Stage { .. } | Action::Measure { .. }) => turning.starts.push_back(start),
            }
        }
    }

    /// Ends a turn: the spool first, then processes, then words.
    pub(super) fn end_turn(&mut self, turning: &mut Turning) {
        self.write_spool(turning);
        while let Some(start) = turning.starts.pop_front() {
            match start {
                Action::Stage { attempt } => self.start_staging(turning, attempt),
                Action::Measure { attempt, round, slot } => self.start_round(turning, attempt, round, slot),
                Action::WriteIntent { .. }
                | Action::ReportRound { .. }
                | Action::WriteEnd { .. }
                | Action::Forget { .. }
                | Action::Tell { .. }
                | Action::SendOffer(_)
                | Action::SendRenewal
                | Action::ResendRounds { .. }
                | Action::Begin { .. }
                | Action::Stop { .. }
                | Action::Leave => {}
            }
            // A start that failed has left something to write.
            self.write_spool(turning);
        }
        self.busy.store(self.machine.live().next().is_some(), Ordering::Relaxed);
        if !turning.outbox.send() {
            tracing::warn!(
                "the coordinator reads nothing; it is told everything anew on the next connection"
            );
        }
    }

    /// Writes what the spool has gathered. A disk that takes nothing stops new work, not the work under way: its
    /// records wait in memory.
    fn write_spool(&mut self, turning: &mut Turning) {
        match self.spool.flush() {
            Ok(()) if turning.spool_failed => {
                turning.spool_failed = false;
                tracing::info!("the spool can be written again");
                let health = self.senses.judge(&self.sensor);
                self.step(turning, Event::SensorRead(health));
            }
            Ok(()) => {}
            Err(error @ SpoolError::Full(_)) => {
                tracing::error!(%error, "the agent ends, for it can keep no result");
                turning.gone = true;
            }
            Err(_) if turning.spool_failed => {}
            Err(error @ SpoolError::Io { .. }) => {
                turning.spool_failed = true;
                tracing::error!(%error, "nothing new is taken until the spool can be written");
                self.step(turning, Event::SensorRead(Err(error.to_string())));
            }
        }
    }

    fn taken(&mut self, turning: &mut Turning, attempt: AttemptId, epoch: Epoch) {
        self.spool.intent(attempt, epoch);
        let Some(spec) = turning.assigned.take() else { return };
        let sides = if stage::is_needed(&spec) { Vec::new() } else { sides_without_files(&spec) };
        let job = Job {
            epoch,
            spec,
            sides,
            logs: Arc::new(AttemptLogs::new(self.spool.log_folder(attempt))),
            started: Arc::new(AtomicU64::new(0)),
            stop: CancellationToken::new(),
            bench: None,
        };
        turning.jobs.insert(attempt, job);
    }

    fn report(&mut self, turning: &mut Turning, attempt: AttemptId, round: u32) {
        match turning.measured.take() {
            Some(result) if result.round == round && result.attempt_id == attempt.to_string() => {
                self.spool.round(attempt, &result);
                turning.outbox.say(Body::Round(result));
            }
            Some(_) | None => {
                tracing::error!(%attempt, round, "a round was to be reported that is not at hand");
            }
        }
    }

    fn forget(&mut self, turning: &mut Turning, attempt: AttemptId) {
        self.spool.forget(attempt);
        let Some(job) = turning.jobs.remove(&attempt) else {
            self.remove_logs(attempt);
            return;
        };
        if job.logs.is_on_disk() {
            self.remove_logs(attempt);
        }
    }

    fn remove_logs(&self, attempt: AttemptId) {
        if let Err(error) = remove_all(&self.spool.log_folder(attempt)) {
            tracing::warn!(%attempt, %error, "its logs cannot be removed");
        }
    }

    /// The attempt has cores.
    fn begin(&mut self, turning: &mut Turning, attempt: AttemptId, epoch: Epoch, granted: Granted) {
        let Some(job) = turning.jobs.get_mut(&attempt) else { return };
        let running = AttemptEvent::Running {
            cpus: granted.cpus.to_string(),
            isolation: expected_isolation(&granted, &job.spec).to_string(),
        };
        job.bench = Some(Arc::new(Bench {
            attempt,
            epoch: job.epoch,
            spec: Arc::clone(&job.spec),
            sides: std::mem::take(&mut job.sides),
            granted,
            limits: self.config.limits,
            logs: Arc::clone(&job.logs),
            started: Arc::clone(&job.started),
            stop: job.stop.clone(),
        }));
        turning.outbox.say(Body::Update(AttemptUpdate { attempt, epoch, event: running }.into()));
    }

    fn start_staging(&mut self, turning: &mut Turning, attempt: AttemptId) {
        let (Some(job), Some(stager)) = (turning.jobs.get(&attempt), turning.stagers_free.pop()) else {
            self.step(turning, Event::BoxFailed { attempt, why: "there is no stager for it".to_owned() });
            return;
        };
        let staging = Staging {
            attempt,
            spec: Arc::clone(&job.spec),
            limits: self.config.limits,
            logs: Arc::clone(&job.logs),
            started: Arc::clone(&job.started),
            stop: job.stop.clone(),
        };
        let slot = Arc::clone(&self.stagers[stager]);
        let (folders, connection) = (Arc::clone(&self.folders), self.connection.clone());
        let progress = turning.progress.0.clone();
        let task = turning.tasks.spawn(async move {
            let mut slot = slot.lock().await;
            let end = stage::stage(&staging, &folders, connection, &mut slot, &progress).await;
            Done::Staged { attempt, end }
        });
        turning.running.insert(task.id(), (attempt, Some(stager)));
    }

    fn start_round(&mut self, turning: &mut Turning, attempt: AttemptId, round: u32, slot: u32) {
        let bench = turning.jobs.get(&attempt).and_then(|job| job.bench.clone());
        let (Some(bench), Some(slot)) = (bench, self.slots.get(slot as usize).cloned()) else {
            self.step(turning, Event::BoxFailed { attempt, why: "there is no slot for it".to_owned() });
            return;
        };
        let task = turning.tasks.spawn(async move {
            let mut slot = slot.lock().await;
            let end = measure(&bench, round, &mut slot).await;
            Done::Round { attempt, round, end }
        });
        turning.running.insert(task.id(), (attempt, None));
        turning.measured_since = true;
    }

    /// A task came to its end.
    pub(super) fn finished(&mut self, turning: &mut Turning, done: Result<(Id, Done), JoinError>) {
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let task = turning.running.remove(&id);
        if let Some((_, Some(stager))) = task {
            turning.stagers_free.push(stager);
        }
        let event = match done {
            Ok((_, Done::Warmed)) => return,
            Ok((_, Done::Staged { attempt, end })) => match end {
                StageEnd::Ready(sides) => {
                    if let Some(job) = turning.jobs.get_mut(&attempt) {
                        job.sides = sides;
                    }
                    Event::Staged { attempt }
                }
                StageEnd::Failed(failure) => Event::CandidateFailed { attempt, failure },
                StageEnd::Broken(why) => Event::BoxFailed { attempt, why },
                StageEnd::Stopped => Event::Stopped { attempt },
            },
            Ok((_, Done::Round { attempt, round, end })) => match end {
                RoundEnd::Measured(result) => {
                    turning.measured = Some(result);
                    Event::RoundDone { attempt, round }
                }
                RoundEnd::Failed(failure) => Event::CandidateFailed { attempt, failure },
                RoundEnd::Broken(why) => Event::BoxFailed { attempt, why },
                RoundEnd::Stopped => Event::Stopped { attempt },
            },
            Err(error) => {
                tracing::error!(%error, "a task of the agent broke down");
                let Some((attempt, _)) = task else { return };
                // What it ran was killed when it was dropped, or is before the slot's next launch.
                Event::BoxFailed {
                    attempt,
                    why: "a task of the agent broke down; its log says why".to_owned(),
                }
            }
        };
        self.step(turning, event);
        turning.measured = None;
    }
}

/// How well a bench will be kept to itself, by what its cores and its job are.
fn expected_isolation(granted: &Granted, spec: &JobSpec) -> IsolationLevel {
    if granted.isolated {
        IsolationLevel::Isolated
    } else if spec.cores.isolation == Isolation::Required {
        IsolationLevel::Cpuset
    } else if spec.cores.scheduler == Scheduler::Fifo {
        IsolationLevel::Fifo
    } else {
        IsolationLevel::Affinity
    }
}
