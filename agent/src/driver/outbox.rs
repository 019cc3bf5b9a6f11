//! What is to be said to the coordinator: gathered in a turn, sent at its end; with many attempts under way, gathered
//! for a few milliseconds, since waking the coordinator costs more than what it is told.

use std::time::Duration;

use darwin_agent_core::machine::Offer;
use darwin_proto::v1;
use darwin_proto::v1::agent_message::Body;
use darwin_proto::v1::attempt_update::Event as Said;
use darwin_shared::fleet::SensorReport;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::link::Greeting;

/// Batches that wait for the connection. A coordinator that reads none of so many is taken for lost: it hears the
/// state again with the next hello.
const QUEUE: usize = 4096;
/// Attempts under way from which on words are gathered: so many are held ahead only if each is short.
const BUSY_ATTEMPTS: usize = 8;
/// How long words are gathered while busy. Work is held ahead for longer than this, so no core waits for it.
const GATHER: Duration = Duration::from_millis(8);
/// Words that are not gathered beyond: a batch is to stay far below the largest message.
const BATCH: usize = 512;
/// Pieces of logs that wait; whoever sends them waits in turn.
const LOG_QUEUE: usize = 8;
/// The longest that a leaving agent waits for its last words to go out.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The way out, and what waits for the end of the turn.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: Option<mpsc::Sender<Vec<v1::AgentMessage>>>,
    logs: Option<mpsc::Sender<v1::AgentMessage>>,
    waiting: Vec<v1::AgentMessage>,
    offer: Option<Offer>,
    /// When what waits goes out; none if nothing waits.
    due: Option<Instant>,
    /// When something went out last.
    sent_at: Option<Instant>,
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
        (self.messages, self.logs, self.offer, self.due) = (None, None, None, None);
        self.waiting.clear();
    }

    /// The way out for pieces of logs.
    pub(super) fn logs(&self) -> Option<mpsc::Sender<v1::AgentMessage>> {
        self.logs.clone()
    }

    pub(super) fn say(&mut self, body: Body) {
        if self.messages.is_none() {
            return;
        }
        if let Body::Update(update) = &body {
            self.waiting.retain(|said| !is_overtaken(said, update));
        }
        self.waiting.push(v1::AgentMessage { body: Some(body) });
    }

    pub(super) fn sensor(&mut self, report: &SensorReport) {
        self.say(Body::Sensor(report.clone().into()));
    }

    /// Only the newest offer of a turn is worth saying, and it comes last: it counts what the turn took.
    pub(super) const fn offer(&mut self, offer: Offer) {
        self.offer = Some(offer);
    }

    /// When [`Outbox::send`] is wanted though nothing else happens.
    pub(super) const fn due_at(&self) -> Option<Instant> {
        self.due
    }

    /// Sends what was gathered, or keeps it for a moment while `live` attempts are many; false if the coordinator
    /// takes nothing any more.
    pub(super) fn send(&mut self, live: usize, now: Instant) -> bool {
        if self.messages.is_none() || (self.waiting.is_empty() && self.offer.is_none()) {
            return true;
        }
        let due = self.sent_at.map_or(now, |sent| sent + GATHER);
        if live >= BUSY_ATTEMPTS && due > now && self.waiting.len() < BATCH {
            self.due = Some(due);
            return true;
        }
        self.flush(now)
    }

    fn flush(&mut self, now: Instant) -> bool {
        if let Some(Offer { credits, free_cores }) = self.offer.take() {
            self.say(Body::Offer(v1::Offer { credits, free_cores }));
        }
        (self.due, self.sent_at) = (None, Some(now));
        let Some(messages) = &self.messages else { return true };
        let taken = messages.try_send(std::mem::take(&mut self.waiting)).is_ok();
        if !taken {
            self.close();
        }
        taken
    }

    /// Waits until what was sent has gone out, for a moment at most.
    pub(super) async fn drain(&mut self) {
        self.flush(Instant::now());
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

/// Whether a word need not be said any more, because the same attempt has come further since.
fn is_overtaken(said: &v1::AgentMessage, by: &v1::AttemptUpdate) -> bool {
    let Some(Body::Update(update)) = &said.body else { return false };
    let on_the_way = matches!(update.event, Some(Said::Accepted(_) | Said::Staging(_) | Said::Ready(_)));
    on_the_way && update.attempt_id == by.attempt_id && update.epoch == by.epoch
}

#[cfg(test)]
mod tests {
    use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
    use darwin_shared::ids::{AttemptId, Epoch, JobId};

    use super::*;

    fn update(job: u128, event: AttemptEvent) -> Body {
        let attempt = AttemptId { job: JobId::from_parts(1, job), number: 1 };
        Body::Update(AttemptUpdate { attempt, epoch: Epoch::default(), event }.into())
    }

    fn sent(greeting: &mut Greeting) -> Vec<usize> {
        std::iter::from_fn(|| greeting.messages.try_recv().ok()).map(|batch| batch.len()).collect()
    }

    #[tokio::test]
    async fn few_attempts_are_spoken_of_at_once_and_many_together() {
        let mut outbox = Outbox::default();
        let mut greeting = outbox.open(v1::Hello::default());
        let begin = Instant::now();
        for job in 0..3 {
            outbox.say(update(job, AttemptEvent::Accepted));
            assert!(outbox.send(1, begin));
        }
        assert_eq!(sent(&mut greeting), [1, 1, 1]);
        for job in 0..3 {
            outbox.say(update(job, AttemptEvent::Ready));
            outbox.offer(Offer { credits: 1, free_cores: 1 });
            assert!(outbox.send(BUSY_ATTEMPTS, begin + Duration::from_millis(1)));
        }
        assert!(sent(&mut greeting).is_empty());
        assert_eq!(outbox.due_at(), Some(begin + GATHER));
        assert!(outbox.send(BUSY_ATTEMPTS, begin + GATHER));
        assert_eq!((sent(&mut greeting), outbox.due_at()), (vec![4], None));
    }

    #[test]
    fn what_an_attempt_has_passed_is_not_said() {
        let mut outbox = Outbox::default();
        let mut greeting = outbox.open(v1::Hello::default());
        let now = Instant::now();
        assert!(outbox.send(0, now));
        for event in [AttemptEvent::Accepted, AttemptEvent::Ready, AttemptEvent::Ended(AttemptEnd::Cancelled)]
        {
            outbox.say(update(1, event));
        }
        outbox.say(update(2, AttemptEvent::Accepted));
        assert!(outbox.send(0, now));
        assert_eq!(sent(&mut greeting), [2]);
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut outbox = Outbox::default();
        let mut greeting = outbox.open(v1::Hello::default());
        let now = Instant::now();
        outbox.say(Body::Renew(v1::Renew::default()));
        assert!(outbox.send(0, now));
        for _ in 0..BATCH {
            outbox.say(Body::Renew(v1::Renew::default()));
            assert!(outbox.send(BUSY_ATTEMPTS, now));
        }
        assert_eq!(sent(&mut greeting), [1, BATCH]);
    }
}
