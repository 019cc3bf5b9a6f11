//! What the coordinator says, checked and told to the machine. Odd input is logged and changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use darwin_agent_core::machine::{Event, Held, Plan};
use darwin_proto::convert::{self, ConvertError};
use darwin_proto::v1;
use darwin_proto::v1::coordinator_message::Body;
use darwin_proto::{PROTOCOL_MAJOR, PROTOCOL_MINOR};
use darwin_shared::ids::{AttemptId, Epoch};
use darwin_shared::spec::{Isolation, JobSpec, Source};
use darwin_shared::state::RefusalCause;

use super::{Driver, Turning};
use crate::link::LinkEvent;
use crate::stage;

impl Driver {
    pub(super) fn heard(&mut self, turning: &mut Turning, event: LinkEvent) {
        match event {
            LinkEvent::Connected(reply) => {
                self.step(turning, Event::HelloSent);
                if reply.send(turning.outbox.open(self.hello())).is_err() {
                    turning.outbox.close();
                }
            }
            LinkEvent::Said(message) => {
                if let Err(error) = self.said(turning, *message) {
                    tracing::warn!(%error, "the coordinator said something that makes no sense");
                }
            }
            LinkEvent::Lost { unsure_for } => {
                turning.outbox.close();
                turning.tails.close();
                self.step(turning, Event::LinkLost { unsure_for });
            }
        }
    }

    fn hello(&self) -> v1::Hello {
        let offer = self.machine.offer();
        v1::Hello {
            protocol_major: PROTOCOL_MAJOR,
            protocol_minor: PROTOCOL_MINOR,
            agent_id: self.config.id.to_string(),
            facts: Some(self.facts.clone().into()),
            sensor: Some(self.sensor.clone().into()),
            attempts: self.machine.held().map(held).collect(),
            offer: Some(v1::Offer { credits: offer.credits, free_cores: offer.free_cores }),
        }
    }

    fn said(&mut self, turning: &mut Turning, message: v1::CoordinatorMessage) -> Result<(), ConvertError> {
        let Some(body) = message.body else {
            return Err(ConvertError::new("body", "it is of a kind that this agent does not know"));
        };
        let event = match body {
            Body::Welcome(welcome) => welcomed(&welcome)?,
            Body::Assign(assign) => return self.assigned(turning, assign),
            Body::Ack(ack) => {
                let (attempt, epoch) = fence(&ack.attempt_id, ack.epoch)?;
                Event::Acked { attempt, epoch, rounds: ack.rounds, stop: ack.stop }
            }
            Body::Cancel(cancel) => {
                let (attempt, epoch) = fence(&cancel.attempt_id, cancel.epoch)?;
                Event::CancelAsked { attempt, epoch }
            }
            Body::Release(release) => {
                Event::Released { attempt: convert::attempt_id("attempt_id", &release.attempt_id)? }
            }
            Body::Drain(drain) => Event::DrainAsked(drain.drained),
            Body::Tail(tail) => return Self::tail(turning, &tail),
            Body::Replay(replay) => Event::ReplayAsked {
                attempt: convert::attempt_id("attempt_id", &replay.attempt_id)?,
                from_round: replay.from_round,
            },
        };
        self.step(turning, event);
        Ok(())
    }

    fn assigned(&mut self, turning: &mut Turning, assign: v1::Assign) -> Result<(), ConvertError> {
        let (attempt, epoch) = fence(&assign.attempt_id, assign.epoch)?;
        let spec = convert::required("spec", assign.spec).and_then(JobSpec::try_from);
        let plan = match spec {
            Ok(spec) => {
                let spec = Arc::new(spec);
                turning.assigned = Some(Arc::clone(&spec));
                self.plan(&spec, assign.looks)
            }
            Err(error) => Err(RefusalCause::Unsupported(format!("its spec makes no sense here: {error}"))),
        };
        self.step(turning, Event::Assigned { attempt, epoch, plan });
        turning.assigned = None;
        Ok(())
    }

    /// What the machine needs to know of a job, or why this agent will not do it.
    fn plan(&self, spec: &JobSpec, looks: Vec<u32>) -> Result<Plan, RefusalCause> {
        // What passes by itself is waited for; this does not.
        if let Some(why) = &self.sensor.refuses {
            return Err(RefusalCause::Policy(why.clone()));
        }
        for (_, variant) in spec.work.variants() {
            if let Source::Image(image) = &variant.source {
                let docker = self.docker.as_ref().ok_or_else(|| {
                    RefusalCause::Unsupported(
                        "it runs no images; `[docker] enabled = true` in its agent.toml lets a box with a Docker daemon \
                         do so"
                            .to_owned(),
                    )
                })?;
                docker.allows(image).map_err(RefusalCause::Policy)?;
            }
            if let Source::Path(path) = &variant.source
                && !self.config.allow_paths
            {
                return Err(RefusalCause::Policy(format!(
                    "`path:{path}` names a folder on its box; `allow_paths = true` in its agent.toml would allow that"
                )));
            }
        }
        if spec.cores.isolation == Isolation::Required && !self.senses.can_isolate(spec.cores.scheduler) {
            return Err(RefusalCause::Unsupported(
                "isolation is required, and this box has neither isolated cores nor a cpuset to give; the sensor's \
                 `isolation` says what mends it"
                    .to_owned(),
            ));
        }
        Ok(Plan {
            rounds_max: spec.budget.rounds_max,
            time: spec.budget.time,
            looks,
            cores: spec.cores,
            needs_staging: stage::is_needed(spec),
        })
    }

    fn tail(turning: &mut Turning, tail: &v1::TailLog) -> Result<(), ConvertError> {
        if tail.stop {
            turning.tails.end(tail.request);
            return Ok(());
        }
        let attempt = convert::attempt_id("attempt_id", &tail.attempt_id)?;
        if let Some(to) = turning.outbox.logs() {
            let logs = turning.jobs.get(&attempt).map(|job| Arc::clone(&job.logs));
            turning.tails.begin(tail.request, logs, tail.follow, to);
        }
        Ok(())
    }

    /// The attempts that are alive, with how many processes each has started.
    pub(super) fn renewal(&self, turning: &Turning) -> v1::Renew {
        let live = self.machine.live().map(|(attempt, epoch)| v1::LiveAttempt {
            attempt_id: attempt.to_string(),
            epoch: Some(epoch.into()),
            invocations: turning.jobs.get(&attempt).map_or(0, |job| job.started.load(Ordering::Relaxed)),
        });
        v1::Renew { attempts: live.collect() }
    }
}

fn held(held: Held) -> v1::HeldAttempt {
    v1::HeldAttempt {
        attempt_id: held.attempt.to_string(),
        epoch: Some(held.epoch.into()),
        rounds: held.rounds,
        live: held.live,
        end: held.end.map(Into::into),
    }
}

fn fence(attempt: &str, epoch: Option<v1::Epoch>) -> Result<(AttemptId, Epoch), ConvertError> {
    Ok((convert::attempt_id("attempt_id", attempt)?, convert::epoch("epoch", epoch)?))
}

fn welcomed(welcome: &v1::Welcome) -> Result<Event, ConvertError> {
    /// A coordinator that gives less than this would lose every attempt to a slow moment.
    const LEASE_LEAST: Duration = Duration::from_millis(100);
    let stale = welcome.stale_attempts.iter().map(|attempt| convert::attempt_id("stale_attempts", attempt));
    Ok(Event::Welcomed {
        lease: convert::duration("lease", welcome.lease)?.max(LEASE_LEAST),
        renew_every: convert::duration("renew_every", welcome.renew_every)?,
        stale: stale.collect::<Result<_, _>>()?,
        drained: welcome.drained,
    })
}
