//! Doing what the machine says, and telling it what came of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use darwin_agent_core::cpu_alloc::Granted;
use darwin_agent_core::machine::{Action, Event};
use darwin_proto::convert::voids_to_wire;
use darwin_proto::v1;
use darwin_proto::v1::agent_message::Body;
use darwin_shared::attempt::{AttemptEvent, AttemptUpdate};
use darwin_shared::ids::{AttemptId, Epoch};
use darwin_shared::void::VoidRounds;
use tokio::task::{Id, JoinError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Done, Driver, Job, Turning};
use crate::cores::Taken;
use crate::logs::AttemptLogs;
use crate::probe::Probing;
use crate::run::{Bench, Placed, RoundEnd, Watch, measure, measure_again, remove_all};
use crate::spool::SpoolError;
use crate::stage::{self, StageEnd, Staging, sides_without_files};

impl Driver {
    /// Performs actions, in their order; what starts processes waits for the end of the turn.
    pub(super) fn perform(&mut self, turning: &mut Turning, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::WriteIntent { attempt, epoch } => self.taken(turning, attempt, epoch),
                Action::ReportRound { attempt, round, voids } => self.report(turning, attempt, round, voids),
                Action::TellVoids { attempt, voids } => Self::tell_voids(turning, attempt, voids),
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
                Action::GiveBackCores { slot } => self.locks.give_back(slot),
                Action::Stop { attempt } => {
                    if let Some(job) = turning.jobs.get(&attempt) {
                        job.stop.cancel();
                    }
                }
                Action::Leave => turning.gone = true,
                start @ (Action::Stage { .. }
                | Action::TakeCores { .. }
                | Action::Measure { .. }
                | Action::MeasureAgain { .. }) => {
                    turning.starts.push_back(start);
                }
            }
        }
    }

    /// Ends a turn: the spool first, then processes, then words.
    pub(super) fn end_turn(&mut self, turning: &mut Turning) {
        self.write_spool(turning);
        while let Some(start) = turning.starts.pop_front() {
            match start {
                Action::Stage { attempt } => self.start_staging(turning, attempt),
                Action::TakeCores { attempt, slot, granted } => {
                    self.take_cores(turning, attempt, slot, granted);
                }
                Action::Measure { attempt, round, slot } => {
                    self.start_round(turning, attempt, round, slot, Duration::ZERO);
                }
                Action::MeasureAgain { attempt, round, slot, after } => {
                    self.start_round(turning, attempt, round, slot, after);
                }
                Action::WriteIntent { .. }
                | Action::ReportRound { .. }
                | Action::TellVoids { .. }
                | Action::WriteEnd { .. }
                | Action::Forget { .. }
                | Action::Tell { .. }
                | Action::SendOffer(_)
                | Action::SendRenewal
                | Action::ResendRounds { .. }
                | Action::GiveBackCores { .. }
                | Action::Stop { .. }
                | Action::Leave => {}
            }
            // A start that failed has left something to write.
            self.write_spool(turning);
        }
        self.settle_cores();
        let live = self.machine.live().count();
        self.busy.store(live > 0, Ordering::Relaxed);
        if !turning.outbox.send(live, Instant::now()) {
            tracing::warn!(
                "the coordinator reads nothing; it is told everything anew on the next connection"
            );
        }
    }

    /// Writes what the spool has gathered. A disk that takes nothing stops new work, not the work under way: its
    /// records wait in memory.
    fn write_spool(&mut self, turning: &mut Turning) {
        match self.spool.flush() {
            Ok(()) if turning.spool_failed.is_some() => {
                turning.spool_failed = None;
                tracing::info!("the spool can be written again");
                let health = self.health(turning);
                self.step(turning, Event::SensorRead(health));
            }
            Ok(()) => {}
            Err(error @ SpoolError::Full(_)) => {
                tracing::error!(%error, "the agent ends, for it can keep no result");
                turning.gone = true;
            }
            Err(_) if turning.spool_failed.is_some() => {}
            Err(error @ SpoolError::Io { .. }) => {
                turning.spool_failed = Some(error.to_string());
                tracing::error!(%error, "nothing new is taken until the spool can be written");
                let health = self.health(turning);
                self.step(turning, Event::SensorRead(health));
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
            told: false,
        };
        turning.jobs.insert(attempt, job);
    }

    fn report(&mut self, turning: &mut Turning, attempt: AttemptId, round: u32, voids: VoidRounds) {
        match turning.measured.take() {
            Some(mut result) if result.round == round && result.attempt_id == attempt.to_string() => {
                // Broken pairs are in it already.
                let broken = result.voids.take().map_or_else(Vec::new, |broken| broken.counts);
                let disturbed = voids_to_wire(voids).map_or_else(Vec::new, |voids| voids.counts);
                let counts = [disturbed, broken].concat();
                result.voids = (!counts.is_empty()).then_some(v1::VoidRounds { counts });
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

    /// Takes the attempt's cores, if no other agent of the box has them and nothing of one that died runs there, after a look
    /// at the sensor.
    fn take_cores(&mut self, turning: &mut Turning, attempt: AttemptId, slot: u32, granted: Granted) {
        self.sense_afresh(turning);
        // Something may have ended the attempt in the same turn.
        let Some(job) = turning.jobs.get_mut(&attempt).filter(|_| self.machine.is_taking(attempt, slot))
        else {
            return;
        };
        let (now, docker) = (turning.origin.elapsed(), self.docker.as_ref());
        let taken = self.locks.take_clean(slot, &granted.claimed, now, docker);
        let taken = match (taken, docker) {
            (Ok(Taken::Ours), Some(docker)) if job.spec.work.has_images() => {
                self.locks.mark(&granted.cpus, docker.life()).map(|()| Taken::Ours)
            }
            (taken, _) => taken,
        };
        let event = match taken {
            Ok(Taken::Ours) => {
                turning.used = turning.used.union(&granted.cpus);
                let watch = Watch::new(self.config.void, &granted, &job.spec, self.tells_stolen_time);
                job.bench = Some(Arc::new(Bench {
                    attempt,
                    epoch: job.epoch,
                    spec: Arc::clone(&job.spec),
                    sides: std::mem::take(&mut job.sides),
                    granted,
                    placed: Placed::new(attempt, turning.progress.0.clone(), Arc::clone(&self.tuner)),
                    limits: self.config.limits,
                    logs: Arc::clone(&job.logs),
                    started: Arc::clone(&job.started),
                    stop: job.stop.clone(),
                    plugin: self.plugin.clone(),
                    pairing: OnceLock::new(),
                    prober: Arc::clone(&self.prober),
                    probing: Probing::default(),
                    watch,
                    broken_pairs: Mutex::default(),
                }));
                Event::CoresTaken { attempt }
            }
            Ok(Taken::Elsewhere(cpus)) => {
                tracing::debug!(%attempt, %cpus, "cores that it needs are another agent's");
                Event::CoresElsewhere { attempt, cpus }
            }
            Err(error) => {
                let why = format!("whether another agent uses its cores cannot be found out: {error}");
                Event::BoxFailed { attempt, why }
            }
        };
        self.step(turning, event);
    }

    /// Lets other agents have what is not used any more.
    fn settle_cores(&mut self) {
        let mut settled = self.locks.settle();
        if !self.machine.waits_for_others() {
            settled = settled.and(self.locks.wait_no_more());
        }
        if let Err(error) = settled {
            tracing::error!(%error, "cores cannot be given back to the other agents of this box");
        }
    }

    /// Tells that the attempt's benches run, once it is seen that they do.
    pub(super) fn tell_running(turning: &mut Turning, attempt: AttemptId) {
        if turning.jobs.get(&attempt).is_some_and(|job| !job.told) {
            Self::tell_voids(turning, attempt, VoidRounds::default());
        }
    }

    /// Tells that the attempt's benches run, with the void measurements of the round in progress.
    fn tell_voids(turning: &mut Turning, attempt: AttemptId, voids: VoidRounds) {
        let Some(job) = turning.jobs.get_mut(&attempt) else { return };
        let Some(bench) = &job.bench else { return };
        let Some(level) = bench.placed.level() else { return };
        job.told = true;
        let placement = bench.placed.facts().unwrap_or_default().to_owned();
        let (cpus, isolation) = (bench.granted.cpus.to_string(), level.to_string());
        let running = AttemptEvent::Running { cpus, isolation, placement, voids };
        let update = AttemptUpdate { attempt, epoch: job.epoch, event: running };
        turning.outbox.say(Body::Update(update.into()));
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
            docker: self.docker.clone(),
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

    /// Starts a round; one that is measured again, after a pause.
    fn start_round(
        &mut self,
        turning: &mut Turning,
        attempt: AttemptId,
        round: u32,
        slot: u32,
        after: Duration,
    ) {
        let bench = turning.jobs.get(&attempt).and_then(|job| job.bench.clone());
        let (Some(bench), Some(slot)) = (bench, self.slots.get(slot as usize).cloned()) else {
            self.step(turning, Event::BoxFailed { attempt, why: "there is no slot for it".to_owned() });
            return;
        };
        let task = turning.tasks.spawn(async move {
            let mut slot = slot.lock().await;
            let end = if after.is_zero() {
                measure(&bench, round, &mut slot).await
            } else {
                measure_again(&bench, round, &mut slot, after).await
            };
            Done::Round { attempt, round, end }
        });
        turning.running.insert(task.id(), (attempt, None));
    }

    /// A task came to its end.
    pub(super) fn finished(&mut self, turning: &mut Turning, done: Result<(Id, Done), JoinError>) {
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let task = turning.running.remove(&id);
        if let Some((_, Some(stager))) = task {
            turning.stagers_free.push(stager);
        }
        if let Some((attempt, None)) = task {
            Self::tell_running(turning, attempt);
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
                RoundEnd::Void(cause) => Event::RoundVoid { attempt, round, cause },
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
