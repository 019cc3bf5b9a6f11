//! The link to a coordinator: connects, says hello, carries messages both ways, and connects again.
//!
//! It decides nothing: what the coordinator says goes to the driver as it came, and what the driver has to say is taken
//! from the channels that it made with its hello. A new connection gets a new hello and new channels, so nothing said
//! before a hello is ever sent after it.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use darwin_proto::v1::agent_link_client::AgentLinkClient;
use darwin_proto::v1::coordinator_message::Body;
use darwin_proto::v1::{AgentMessage, CoordinatorMessage};
use darwin_proto::{MAX_MESSAGE_BYTES, PROTOCOL_MAJOR};
use futures::StreamExt;
use futures::stream::{PollNext, select_with_strategy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};

/// The longest wait for a connection, and again for the coordinator's first message.
const ANSWER_BOUND: Duration = Duration::from_secs(5);
/// How often a quiet connection is asked whether it still stands, and how long that may take.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(4);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(2);
/// A connection that went silent was dead for at most this long before it was noticed.
const SILENCE_BOUND: Duration = Duration::from_secs(6);
/// The shortest and longest pause before another try; drawn at random below it, so that agents do not come in waves.
const PAUSE_LEAST: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// The longest pause while attempts hang on their leases.
const PAUSE_MOST_BUSY: Duration = Duration::from_secs(2);

/// What the link tells the driver.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A connection is there: the hello is wanted, and channels for what follows it.
    Connected(oneshot::Sender<Greeting>),
    /// The coordinator said something.
    Said(Box<CoordinatorMessage>),
    /// The connection is gone.
    Lost {
        /// For how long it may have been dead before that was noticed.
        unsure_for: Duration,
    },
}

/// What goes out on a new connection.
#[derive(Debug)]
pub(crate) struct Greeting {
    /// Always first.
    pub(crate) hello: AgentMessage,
    /// Everything that matters; what comes together goes out together.
    pub(crate) messages: mpsc::Receiver<Vec<AgentMessage>>,
    /// Pieces of logs: sent when nothing else waits.
    pub(crate) logs: mpsc::Receiver<AgentMessage>,
    /// The driver gives the connection up.
    pub(crate) hang_up: CancellationToken,
}

/// The task that keeps the link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) coordinators: Vec<Uri>,
    pub(crate) events: mpsc::Sender<LinkEvent>,
    /// The connection of the moment, for fetching artifacts: over a channel of its own, so that a large download
    /// never delays a renewal.
    pub(crate) connection: watch::Sender<Option<Channel>>,
    /// Whether attempts hang on their leases.
    pub(crate) busy: Arc<AtomicBool>,
    pub(crate) stop: CancellationToken,
}

/// How a connection ended.
enum Ending {
    /// The driver is gone, or the agent is leaving.
    Over,
    /// The connection is gone.
    Lost { welcomed: bool, silent: bool, why: String },
}

impl Link {
    /// Connects, again and again, until it is told to stop.
    pub(crate) async fn keep(self) {
        let mut pauses = pauses();
        for uri in self.coordinators.iter().cycle() {
            let ending = tokio::select! {
                ending = self.connect(uri) => ending,
                () = self.stop.cancelled() => return,
            };
            let Ending::Lost { welcomed, silent, why } = ending else { return };
            self.connection.send_replace(None);
            let unsure_for = if silent { SILENCE_BOUND } else { Duration::ZERO };
            if self.events.send(LinkEvent::Lost { unsure_for }).await.is_err() {
                return;
            }
            if welcomed {
                pauses = self::pauses();
            }
            let most = if self.busy.load(Ordering::Relaxed) { PAUSE_MOST_BUSY } else { PAUSE_MOST };
            let pause = pauses.next().unwrap_or(PAUSE_MOST).min(most).mul_f64(rand::random());
            tracing::warn!(coordinator = %uri, why, again_in = ?pause, "no link to the coordinator");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn connect(&self, uri: &Uri) -> Ending {
        let lost = |welcomed, silent, why: String| Ending::Lost { welcomed, silent, why };
        let endpoint = endpoint(uri);
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => return lost(false, false, chain(&error)),
        };
        let (reply, greeting) = oneshot::channel();
        if self.events.send(LinkEvent::Connected(reply)).await.is_err() {
            return Ending::Over;
        }
        let Ok(Greeting { hello, messages, logs, hang_up }) = greeting.await else { return Ending::Over };
        let messages = ReceiverStream::new(messages).flat_map(futures::stream::iter);
        let rest = select_with_strategy(messages, ReceiverStream::new(logs), |(): &mut ()| PollNext::Left);
        let outgoing = tokio_stream::once(hello).chain(rest);
        let mut client = AgentLinkClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut incoming = match timeout(ANSWER_BOUND, client.attach(outgoing)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return lost(false, true, status.to_string()),
            Err(_) => return lost(false, true, format!("no answer within {ANSWER_BOUND:?}")),
        };
        match self.welcome(&mut incoming).await {
            Ok(()) => {}
            Err(ending) => return ending,
        }
        tracing::info!(coordinator = %uri, "linked");
        self.connection.send_replace(Some(endpoint.connect_lazy()));
        tokio::select! {
            ending = self.listen(&mut incoming) => ending,
            () = hang_up.cancelled() => lost(true, true, "it reads nothing of what is sent".to_owned()),
        }
    }

    /// Waits for the coordinator's first message and passes it on.
    async fn welcome(&self, incoming: &mut Streaming<CoordinatorMessage>) -> Result<(), Ending> {
        let lost = |why: String| Ending::Lost { welcomed: false, silent: true, why };
        let first = match timeout(ANSWER_BOUND, incoming.message()).await {
            Ok(Ok(Some(first))) => first,
            Ok(Ok(None)) => return Err(lost("it hung up without a word".to_owned())),
            Ok(Err(status)) => return Err(lost(status.to_string())),
            Err(_) => return Err(lost(format!("no welcome within {ANSWER_BOUND:?}"))),
        };
        match &first.body {
            Some(Body::Welcome(welcome)) if welcome.protocol_major == PROTOCOL_MAJOR => {}
            Some(Body::Welcome(welcome)) => {
                return Err(lost(format!(
                    "it is version {} and speaks protocol {}.{}; this agent speaks {PROTOCOL_MAJOR}: upgrade the older one",
                    welcome.version.escape_default(),
                    welcome.protocol_major,
                    welcome.protocol_minor
                )));
            }
            _ => return Err(lost("its first message is no welcome".to_owned())),
        }
        self.events.send(LinkEvent::Said(Box::new(first))).await.map_err(|_| Ending::Over)
    }

    async fn listen(&self, incoming: &mut Streaming<CoordinatorMessage>) -> Ending {
        let (silent, why) = loop {
            match incoming.message().await {
                Ok(Some(message)) => {
                    if self.events.send(LinkEvent::Said(Box::new(message))).await.is_err() {
                        return Ending::Over;
                    }
                }
                Ok(None) => break (false, "the coordinator hung up".to_owned()),
                Err(status) => break (!was_closed(&status), chain(&status)),
            }
        };
        Ending::Lost { welcomed: true, silent, why }
    }
}

fn endpoint(uri: &Uri) -> Endpoint {
    Endpoint::from(uri.clone())
        .connect_timeout(ANSWER_BOUND)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WITHIN)
        .keep_alive_while_idle(true)
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(PAUSE_LEAST)
        .with_max_delay(PAUSE_MOST)
        .without_max_times()
        .build()
}

/// Whether the connection was closed by the other side's kernel, so that all that was sent before had arrived there.
fn was_closed(status: &Status) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
            );
        }
        source = error.source();
    }
    false
}

/// An error with what is behind it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
