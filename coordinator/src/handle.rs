//! The cheap handle by which everything else speaks to the one loop that owns the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use darwin_coordinator_core::{Answer, Core, FromAgent, Hello, LinkId, Now, Refusal};
use darwin_proto::v1;
use darwin_shared::ids::{AgentId, JobId};
use darwin_shared::spec::JobSpec;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::stores::Ledger;

/// Inputs that may wait for the loop. At a few microseconds each it is a few milliseconds of work; whoever sends beyond
/// it waits, which is the back-pressure on clients and agents.
pub(crate) const INPUTS: usize = 4096;
/// Batches of messages that may wait for one agent. An agent that reads more slowly is cut off and reconciles when it
/// is back.
pub(crate) const LINK_BATCHES: usize = 1024;
/// Finished jobs that may wait for one watcher; a slower watcher is told that it fell behind.
pub(crate) const FINISHED_MESSAGES: usize = 16_384;

/// Something for the loop to do.
pub(crate) enum Input {
    /// A job to take; the loop gives it its id.
    Submit { request: Box<Submit>, answer: Reply },
    /// A job to end.
    Cancel { job: JobId, by: String, answer: Reply },
    /// An agent to drain or resume.
    SetDrained { agent: AgentId, drained: bool, answer: Reply },
    /// An agent connected.
    LinkUp { link: LinkId, hello: Box<Hello>, out: LinkSender },
    /// An agent said something.
    FromAgent { link: LinkId, message: FromAgent },
    /// An agent's connection is gone.
    LinkDown { link: LinkId },
    /// Say something to the agent that has this job's live attempt, past the core: logs.
    Relay { job: JobId, message: Box<v1::CoordinatorMessage>, sent: oneshot::Sender<bool> },
    /// Tell the job's state now and whenever it changes.
    Watch { job: JobId, out: watch::Sender<Option<v1::Job>> },
    /// Tell every job that finishes.
    WatchFinished { project: String, out: mpsc::Sender<v1::FinishedJob> },
    /// Look at the state.
    Query(Query),
}

/// A job to take.
#[derive(Debug, Clone)]
pub struct Submit {
    /// Chosen by the client; may be empty.
    pub request_id: String,
    /// What is to be run, checked.
    pub spec: JobSpec,
    /// Who submits.
    pub submitter: String,
}

pub(crate) type Reply = oneshot::Sender<Result<Answer, Refusal>>;
/// What was said in one step goes out together: waking an agent costs more than what it is told.
pub(crate) type LinkSender = mpsc::Sender<Result<Vec<v1::CoordinatorMessage>, tonic::Status>>;
pub(crate) type Query = Box<dyn FnOnce(&Core, &mut dyn Ledger, Now) + Send>;

/// The loop is gone: the coordinator is shutting down, or its ledger failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the coordinator is stopping; try again in a moment")]
pub struct Stopping;

/// Why a call had no success.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// The core refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The loop is gone.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

/// Speaks to the loop.
#[derive(Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Input>,
    links: Arc<AtomicU64>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    pub(crate) fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self { inputs, links: Arc::new(AtomicU64::new(0)) }
    }

    /// A number for a new connection.
    pub(crate) fn new_link(&self) -> LinkId {
        LinkId(self.links.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the loop has ended: what it fed ends with it.
    pub(crate) fn is_stopped(&self) -> bool {
        self.inputs.is_closed()
    }

    pub(crate) async fn send(&self, input: Input) -> Result<(), Stopping> {
        self.inputs.send(input).await.map_err(|_| Stopping)
    }

    async fn call(&self, input: impl FnOnce(Reply) -> Input) -> Result<Answer, CallError> {
        let (answer, answered) = oneshot::channel();
        self.send(input(answer)).await?;
        Ok(answered.await.map_err(|_| Stopping)??)
    }

    /// Takes a job; returns once it is on disk. Gives its id and whether it was known.
    pub async fn submit(&self, request: Submit) -> Result<Answer, CallError> {
        self.begin_submit(request).await?.await
    }

    /// Hands a job to the loop, behind all that was handed to it before; the inner future is done once it is on disk.
    pub(crate) async fn begin_submit(
        &self,
        request: Submit,
    ) -> Result<impl Future<Output = Result<Answer, CallError>> + Send + use<>, Stopping> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Submit { request: Box::new(request), answer }).await?;
        Ok(async move { Ok(answered.await.map_err(|_| Stopping)??) })
    }

    /// Ends a job.
    pub async fn cancel(&self, job: JobId, by: String) -> Result<Answer, CallError> {
        self.call(|answer| Input::Cancel { job, by, answer }).await
    }

    /// Drains an agent or lets it take work again.
    pub async fn set_drained(&self, agent: AgentId, drained: bool) -> Result<Answer, CallError> {
        self.call(|answer| Input::SetDrained { agent, drained, answer }).await
    }

    /// Looks at the state, between two steps.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, &mut dyn Ledger, Now) -> T + Send + 'static,
    ) -> Result<T, Stopping> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Query(Box::new(move |core, ledger, now| {
            // The asker may have gone away meanwhile; then nobody misses the answer.
            let _ = answer.send(look(core, ledger, now));
        })))
        .await?;
        answered.await.map_err(|_| Stopping)
    }
}
