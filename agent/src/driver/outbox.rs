//! What is to be said to the coordinator: gathered in a turn, sent at its end.

use std::time::Duration;

use darwin_agent_core::machine::Offer;
use darwin_proto::v1;
use darwin_proto::v1::agent_message::Body;
use darwin_shared::fleet::SensorReport;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::link::Greeting;

/// Messages that wait for the connection. A coordinator that reads none of so many is taken for lost: it hears the
/// state again with the next hello.
const QUEUE: usize = 8192;
/// Pieces of logs that wait; whoever sends them waits in turn.
const LOG_QUEUE: usize = 8;
/// The longest that a leaving agent waits for its last words to go out.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The way out, and what waits for the end of the turn.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: Option<mpsc::Sender<v1::AgentMessage>>,
    logs: Option<mpsc::Sender<v1::AgentMessage>>,
    waiting: Vec<v1::AgentMessage>,
    offer: Option<Offer>,
    /// Hangs up the connection that this leads to.
    hang_up: CancellationToken,
}

impl Outbox {
    /// Opens the way out for a new connection; what waits for an older one is dropped, for the hello says it all.
    pub(super) fn open(&mut self, hello: v1::Hello) -> Greeting {
        let (messages, messages_out) = mpsc::channel(QUEUE);
        let (logs, logs_out) = mpsc::channel(LOG_QUEUE);
        self.close();
        self.hang_up = CancellationToken::new();
        (self.messages, self.logs) = (Some(messages), Some(logs));
        Greeting {
            hello: v1::AgentMessage { body: Some(Body::Hello(hello)) },
            messages: messages_out,
            logs: logs_out,
            hang_up: self.hang_up.clone(),
        }
    }

    /// There is nobody to hear.
    pub(super) fn close(&mut self) {
        self.hang_up.cancel();
        (self.messages, self.logs, self.offer) = (None, None, None);
        self.waiting.clear();
    }

    /// The way out for pieces of logs.
    pub(super) fn logs(&self) -> Option<mpsc::Sender<v1::AgentMessage>> {
        self.logs.clone()
    }

    pub(super) fn say(&mut self, body: Body) {
        if self.messages.is_some() {
            self.waiting.push(v1::AgentMessage { body: Some(body) });
        }
    }

    pub(super) fn sensor(&mut self, report: &SensorReport) {
        self.say(Body::Sensor(report.clone().into()));
    }

    /// Only the newest offer of a turn is worth saying, and it comes last: it counts what the turn took.
    pub(super) const fn offer(&mut self, offer: Offer) {
        self.offer = Some(offer);
    }

    /// Sends what was gathered; false if the coordinator takes nothing any more.
    pub(super) fn send(&mut self) -> bool {
        if let Some(Offer { credits, free_cores }) = self.offer.take() {
            self.say(Body::Offer(v1::Offer { credits, free_cores }));
        }
        let Some(messages) = &self.messages else { return true };
        let taken = self.waiting.drain(..).all(|message| messages.try_send(message).is_ok());
        if !taken {
            self.close();
        }
        taken
    }

    /// Waits until what was sent has gone out, for a moment at most.
    pub(super) async fn drain(&mut self) {
        let Some(messages) = self.messages.take() else { return };
        self.logs = None;
        let empty = async {
            while messages.capacity() < messages.max_capacity() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // Taken from the queue is not yet written to the socket.
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        // Whatever did not go out is in the spool.
        let _ = tokio::time::timeout(LAST_WORDS, empty).await;
    }
}
