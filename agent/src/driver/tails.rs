//! Logs that somebody follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use darwin_proto::v1;
use darwin_proto::v1::agent_message::Body;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::logs::{AttemptLogs, Cursor, Log};

/// Logs followed at once; a further one is answered with nothing.
const MAX_TAILS: usize = 32;
/// The largest piece; the protocol's bound.
const PIECE_BYTES: usize = 64 << 10;
/// How often a followed log is looked at. Only while somebody asks for it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The logs that are being sent.
#[derive(Debug, Default)]
pub(super) struct Tails {
    tasks: JoinSet<()>,
    requests: BTreeMap<u64, CancellationToken>,
}

/// Where a request's pieces go.
struct Asker {
    request: u64,
    to: mpsc::Sender<v1::AgentMessage>,
}

impl Tails {
    /// Begins to send an attempt's logs.
    pub(super) fn begin(
        &mut self,
        request: u64,
        logs: Option<Arc<AttemptLogs>>,
        follow: bool,
        to: mpsc::Sender<v1::AgentMessage>,
    ) {
        while self.tasks.try_join_next().is_some() {}
        self.requests.retain(|_, token| !token.is_cancelled());
        let asker = Asker { request, to };
        let stop = CancellationToken::new();
        let wanted = logs.filter(|_| self.requests.len() < MAX_TAILS);
        self.requests.insert(request, stop.clone());
        self.tasks.spawn(async move {
            let send = async {
                match wanted {
                    Some(logs) => asker.send_all(&logs, follow).await,
                    None => asker.last(None).await,
                };
            };
            tokio::select! {
                () = send => {}
                () = stop.cancelled() => {}
            }
            stop.cancel();
        });
    }

    /// Ends a request.
    pub(super) fn end(&mut self, request: u64) {
        if let Some(token) = self.requests.remove(&request) {
            token.cancel();
        }
    }

    /// Ends all requests: the connection that they came on is gone.
    pub(super) fn close(&mut self) {
        self.requests.clear();
        self.tasks.abort_all();
    }
}

impl Asker {
    /// Sends log after log; ends when there is no more, or, for a follower, when there will be no more.
    async fn send_all(&self, logs: &AttemptLogs, follow: bool) -> Option<()> {
        let (mut current, mut cursor, mut next): (Option<Log>, Cursor, u64) = (None, Cursor::default(), 0);
        loop {
            // Asked before reading: what is written between the two is read in the next turn.
            let over = logs.is_over();
            if let Some(log) = &current {
                self.send_new(log, &mut cursor).await?;
            }
            // A log that a later one has replaced is complete.
            if let Some(log) = logs.next_from(next) {
                (next, cursor, current) = (log.number + 1, Cursor::default(), Some(log));
                continue;
            }
            if over || !follow {
                return self.last(current.as_ref()).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn send_new(&self, log: &Log, cursor: &mut Cursor) -> Option<()> {
        loop {
            let bytes = log.read(cursor, PIECE_BYTES).unwrap_or_default();
            if bytes.is_empty() {
                return Some(());
            }
            self.piece(Some(log), bytes.into(), false).await?;
        }
    }

    async fn last(&self, log: Option<&Log>) -> Option<()> {
        self.piece(log, Bytes::new(), true).await
    }

    async fn piece(&self, log: Option<&Log>, data: Bytes, last: bool) -> Option<()> {
        let (stage, arm) = match log {
            Some(log) => (v1::Stage::from(log.stage), v1::Arm::from(log.arm)),
            None => (v1::Stage::Run, v1::Arm::Baseline),
        };
        let piece = v1::LogPiece { request: self.request, data, stage: stage.into(), arm: arm.into(), last };
        self.to.send(v1::AgentMessage { body: Some(Body::Log(piece)) }).await.ok()
    }
}
