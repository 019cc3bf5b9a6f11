//! The agents' link: their messages into the loop, the loop's words to them.

use std::pin::Pin;
use std::time::Duration;

use darwin_coordinator_core::{FromAgent, HeldAttempt, Hello, LinkId, Offer};
use darwin_proto::convert::{agent_id, attempt_id, epoch, required};
use darwin_proto::{PROTOCOL_MAJOR, PROTOCOL_MINOR, v1};
use darwin_shared::attempt::{AttemptEnd, AttemptUpdate};
use darwin_shared::fleet::{AgentFacts, SensorReport};
use darwin_shared::ids::{AgentId, AttemptId, Epoch};
use darwin_shared::round::RoundResult;
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use v1::agent_message::Body;

use super::logs::LogRelay;
use super::status::ToStatus;
use crate::handle::{Handle, Input, LINK_BATCHES};

/// An agent says hello as soon as it is connected; a peer that does not is none.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Attempts that an agent may name in one message.
const ATTEMPTS_MAX: usize = 10_000;

/// The service of the agents' link.
#[derive(Debug, Clone)]
pub(crate) struct LinkService {
    pub(crate) handle: Handle,
    pub(crate) logs: LogRelay,
}

fn offer(offer: v1::Offer) -> Offer {
    Offer { credits: offer.credits, free_cores: offer.free_cores }
}

fn hello(hello: v1::Hello) -> Result<Hello, Status> {
    if hello.protocol_major != PROTOCOL_MAJOR {
        return Err(Status::failed_precondition(format!(
            "the agent speaks protocol {}.{}, this coordinator ({}) speaks {PROTOCOL_MAJOR}.{PROTOCOL_MINOR}: {}",
            hello.protocol_major,
            hello.protocol_minor,
            env!("CARGO_PKG_VERSION"),
            if hello.protocol_major < PROTOCOL_MAJOR {
                "upgrade the agent"
            } else {
                "upgrade the coordinator"
            },
        )));
    }
    if hello.attempts.len() > ATTEMPTS_MAX {
        return Err(Status::invalid_argument(format!("`attempts` has more than {ATTEMPTS_MAX} entries")));
    }
    Ok(Hello {
        agent: agent_id("hello.agent_id", hello.agent_id)?,
        facts: AgentFacts::try_from(required("hello.facts", hello.facts)?)?,
        sensor: SensorReport::try_from(required("hello.sensor", hello.sensor)?)?,
        attempts: hello.attempts.into_iter().map(held).collect::<Result<_, _>>()?,
        offer: hello.offer.map(offer).unwrap_or_default(),
    })
}

fn held(held: v1::HeldAttempt) -> Result<HeldAttempt, Status> {
    Ok(HeldAttempt {
        attempt: attempt_id("attempt_id", &held.attempt_id)?,
        epoch: epoch("epoch", held.epoch)?,
        rounds: held.rounds,
        live: held.live,
        end: held.end.map(AttemptEnd::try_from).transpose()?,
    })
}

fn renewals(renew: v1::Renew) -> Result<Vec<(AttemptId, Epoch, u64)>, Status> {
    if renew.attempts.len() > ATTEMPTS_MAX {
        return Err(Status::invalid_argument(format!("`attempts` has more than {ATTEMPTS_MAX} entries")));
    }
    let one = |live: v1::LiveAttempt| {
        Ok((attempt_id("attempt_id", &live.attempt_id)?, epoch("epoch", live.epoch)?, live.invocations))
    };
    renew.attempts.into_iter().map(one).collect()
}

impl LinkService {
    /// What the loop is to hear of a message; none if it is not for the loop.
    fn heard(&self, message: v1::AgentMessage) -> Result<Option<FromAgent>, Status> {
        let body = message.body.ok_or_else(|| Status::invalid_argument("a message without content"))?;
        Ok(Some(match body {
            Body::Hello(_) => return Err(Status::invalid_argument("a second hello on one link")),
            Body::Offer(free) => FromAgent::Offer(offer(free)),
            Body::Renew(renew) => FromAgent::Renew(renewals(renew)?),
            Body::Update(update) => FromAgent::Update(AttemptUpdate::try_from(update)?),
            Body::Round(round) => FromAgent::Round(Box::new(RoundResult::try_from(round)?)),
            Body::Sensor(report) => FromAgent::Sensor(SensorReport::try_from(report)?),
            Body::Log(piece) => {
                self.logs.deliver(piece);
                return Ok(None);
            }
        }))
    }

    /// Reads a link until its end.
    async fn listen(self, link: LinkId, agent: AgentId, mut messages: Streaming<v1::AgentMessage>) {
        let why = loop {
            match messages.message().await {
                Ok(Some(message)) => match self.heard(message) {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        if self.handle.send(Input::FromAgent { link, message }).await.is_err() {
                            break "the coordinator is stopping".to_owned();
                        }
                    }
                    // An odd message is dropped and counted in the log; the agent's snapshots heal what it meant.
                    Err(why) => warn!(%agent, why = why.message(), "an agent sent an odd message"),
                },
                Ok(None) => break "it closed the link".to_owned(),
                Err(status) => break status.message().to_owned(),
            }
        };
        info!(%agent, %why, "agent away");
        // If the loop is gone there is nobody left to tell.
        let _ = self.handle.send(Input::LinkDown { link }).await;
    }
}

#[tonic::async_trait]
impl v1::agent_link_server::AgentLink for LinkService {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(HELLO_WITHIN, messages.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello within 10 seconds"))??;
        let Some(Body::Hello(first)) = first.and_then(|message| message.body) else {
            return Err(Status::invalid_argument("the first message on a link must be a hello"));
        };
        let hello = hello(first)?;
        let link = self.handle.new_link();
        let (out, outgoing) = mpsc::channel(LINK_BATCHES);
        let agent = hello.agent.clone();
        info!(%agent, "agent connected");
        let up = Input::LinkUp { link, hello: Box::new(hello), out };
        self.handle.send(up).await.map_err(|e| e.to_status())?;
        // Ends with the stream: reading fails once the peer or the server is gone.
        tokio::spawn(self.clone().listen(link, agent, messages));
        let messages = ReceiverStream::new(outgoing).flat_map(|batch| match batch {
            Ok(batch) => stream::iter(batch).map(Ok).left_stream(),
            Err(why) => stream::once(std::future::ready(Err(why))).right_stream(),
        });
        Ok(Response::new(Box::pin(messages)))
    }
}
