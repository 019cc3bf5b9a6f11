//! The service of jobs.

use std::pin::Pin;

use darwin_coordinator_core::{Answer, RestoredJob};
use darwin_proto::v1;
use darwin_shared::ids::JobId;
use darwin_shared::image::Image;
use darwin_shared::spec::{JobSpec, Source};
use darwin_shared::state::{JobState, Outcome};
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tonic::{Request, Response, Status, Streaming};

use super::artifacts::ArtifactCheck;
use super::list;
use super::logs::LogRelay;
use super::status::{ToStatus, job_id};
use super::view;
use crate::handle::{FINISHED_MESSAGES, Handle, Input, Stopping, Submit};
use crate::health::{FREE_BYTES_MIN, Health};
use crate::stores::{Kind, decode_job};

/// Submissions of one stream that may be on their way to the disk at once; they share a few syncs.
const SUBMITS_IN_FLIGHT: usize = 1024;
/// The longest request id and submitter.
const TEXT_MAX: usize = 100;

/// The service of jobs.
#[derive(Debug, Clone)]
pub(crate) struct JobsService {
    pub(crate) handle: Handle,
    pub(crate) artifacts: ArtifactCheck,
    pub(crate) logs: LogRelay,
    pub(crate) health: Health,
}

/// The answer to a submission, once there is one.
type Taken = Pin<Box<dyn Future<Output = Result<v1::SubmitResponse, Status>> + Send>>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn checked_text(field: &str, text: String) -> Result<String, Status> {
    if text.len() <= TEXT_MAX && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    Err(Status::invalid_argument(format!(
        "`{field}` must have at most {TEXT_MAX} bytes and no control characters"
    )))
}

impl JobsService {
    async fn take(&self, request: v1::SubmitRequest) -> Result<v1::SubmitResponse, Status> {
        self.begin(request).await?.await
    }

    /// Checks a submission and hands it to the loop; the inner future is the answer, once the job is on disk.
    async fn begin(&self, request: v1::SubmitRequest) -> Result<Taken, Status> {
        let spec = request.spec.ok_or_else(|| Status::invalid_argument("`spec` is missing"))?;
        let spec = JobSpec::try_from(spec).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let request_id = checked_text("request_id", request.request_id)?;
        let submitter = checked_text("submitter", request.submitter)?;
        self.check(&spec).await?;
        let submit = Submit { request_id, spec, submitter };
        let answer = self.handle.begin_submit(submit).await.map_err(|e| e.to_status())?;
        Ok(Box::pin(async move {
            match answer.await.map_err(|e| e.to_status())? {
                Answer::Submitted { job, known } => Ok(v1::SubmitResponse { job_id: job.to_string(), known }),
                Answer::Cancelling { .. } | Answer::DrainSet => {
                    Err(Status::internal("the loop gave another call's answer"))
                }
            }
        }))
    }

    /// Refuses what cannot be run, and all while there is no room to write it down.
    async fn check(&self, spec: &JobSpec) -> Result<(), Status> {
        if let Some(free) = self.health.free_bytes()
            && free < FREE_BYTES_MIN
        {
            return Err(Status::resource_exhausted(format!(
                "the coordinator's disk is full ({} MiB free): nothing new is taken until there is room",
                free >> 20
            )));
        }
        for (_, variant) in spec.work.variants() {
            match variant.source {
                Source::Tree(digest) | Source::Image(Image::Archive(digest)) => {
                    self.artifacts.check(digest, &variant.label).await?;
                }
                Source::Path(_) | Source::Image(Image::Named(_)) | Source::Nothing => {}
            }
        }
        Ok(())
    }

    /// A job of memory or of the ledger.
    async fn find(&self, id: JobId) -> Result<v1::Job, Status> {
        let found = self
            .handle
            .query(move |core, ledger, _| {
                if let Some(job) = core.job(id) {
                    return Ok(Some(view::job(core, job)));
                }
                let stored = ledger.get(Kind::Job, &id.to_string())?;
                stored.map(|stored| Ok(view::stored_job(&decode_job(ledger, &stored)?))).transpose()
            })
            .await
            .map_err(|e| e.to_status())?;
        found
            .map_err(|e: crate::stores::RecordError| e.to_status())?
            .ok_or_else(|| Status::not_found(format!("there is no job {id}")))
    }

    async fn resolve(&self, text: &str) -> Result<JobId, Status> {
        let prefix = text.trim().to_uppercase();
        if let Ok(id) = prefix.parse::<JobId>() {
            return Ok(id);
        }
        if prefix.is_empty() || !prefix.chars().all(|c| c.is_ascii_alphanumeric()) {
            return job_id(text);
        }
        let wanted = prefix.clone();
        let found: Vec<JobId> = self
            .handle
            .query(move |core, _, _| {
                let ids = core.jobs_newest_first(None).map(|job| job.id);
                ids.filter(|id| id.to_string().starts_with(&wanted)).take(2).collect()
            })
            .await
            .map_err(|e| e.to_status())?;
        match found.as_slice() {
            [id] => Ok(*id),
            [] => Err(Status::not_found(format!("no recent job begins with {prefix}"))),
            _ => Err(Status::invalid_argument(format!(
                "more than one job begins with {prefix}: give more of it"
            ))),
        }
    }

    async fn live_logs(&self, id: JobId, follow: bool) -> Result<Answers<v1::LogChunk>, Status> {
        let (request, pieces) = self.logs.open();
        let attempt_id = self.live_attempt(id).await?;
        let tail = v1::TailLog { attempt_id, request, follow, stop: false };
        let body = Some(v1::coordinator_message::Body::Tail(tail));
        let message = Box::new(v1::CoordinatorMessage { body });
        let (sent, was_sent) = oneshot::channel();
        self.handle.send(Input::Relay { job: id, message, sent }).await.map_err(|e| e.to_status())?;
        if !was_sent.await.unwrap_or(false) {
            return Err(Status::unavailable(format!(
                "job {id} is under way on an agent that cannot be reached now"
            )));
        }
        let chunks = ReceiverStream::new(pieces)
            .map(|piece| Ok(v1::LogChunk { data: piece.data, stage: piece.stage, arm: piece.arm }));
        Ok(Box::pin(chunks))
    }

    async fn live_attempt(&self, id: JobId) -> Result<String, Status> {
        let attempt = self
            .handle
            .query(move |core, _, _| core.job(id).and_then(darwin_coordinator_core::job::Job::live_id))
            .await
            .map_err(|e| e.to_status())?;
        attempt.map(|attempt| attempt.to_string()).ok_or_else(|| {
            Status::failed_precondition(format!("job {id} is not under way: it has no log yet"))
        })
    }
}

#[tonic::async_trait]
impl v1::jobs_server::Jobs for JobsService {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        Ok(Response::new(self.take(request.into_inner()).await?))
    }

    type SubmitManyStream = Answers<v1::SubmitResponse>;

    async fn submit_many(
        &self,
        requests: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitManyStream>, Status> {
        let service = self.clone();
        let answers = requests
            .into_inner()
            // One after the other into the loop, so that the jobs' ages are those of the requests; together to the disk.
            .then(move |request| {
                let service = service.clone();
                async move { service.begin(request?).await }
            })
            .map(async |begun: Result<Taken, Status>| begun?.await)
            .buffered(SUBMITS_IN_FLIGHT);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let id = self.resolve(&request.into_inner().job_id).await?;
        Ok(Response::new(self.find(id).await?))
    }

    async fn list(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        Ok(Response::new(list::page(&self.handle, request.into_inner()).await?))
    }

    type WatchStream = Answers<v1::JobEvent>;

    async fn watch(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let id = self.resolve(&request.into_inner().job_id).await?;
        let first = self.find(id).await?;
        if first.state == i32::from(v1::JobState::Finished) {
            let only = v1::JobEvent { job: Some(first) };
            return Ok(Response::new(Box::pin(futures::stream::iter([Ok(only)]))));
        }
        let (out, seen) = watch::channel(None);
        self.handle.send(Input::Watch { job: id, out }).await.map_err(|e| e.to_status())?;
        let mut is_first = true;
        let events = WatchStream::new(seen).filter_map(move |job: Option<v1::Job>| {
            let job = job.map(|mut job| {
                if !std::mem::take(&mut is_first) {
                    job.spec = None;
                }
                Ok(v1::JobEvent { job: Some(job) })
            });
            std::future::ready(job)
        });
        Ok(Response::new(Box::pin(events)))
    }

    type WatchFinishedStream = Answers<v1::FinishedJob>;

    async fn watch_finished(
        &self,
        request: Request<v1::WatchFinishedRequest>,
    ) -> Result<Response<Self::WatchFinishedStream>, Status> {
        let (out, finished) = mpsc::channel(FINISHED_MESSAGES);
        let project = request.into_inner().project;
        self.handle.send(Input::WatchFinished { project, out }).await.map_err(|e| e.to_status())?;
        Ok(Response::new(told_why_it_ends(self.handle.clone(), finished)))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let v1::CancelJobRequest { job_id, by } = request.into_inner();
        let by = checked_text("by", by)?;
        let id = self.resolve(&job_id).await?;
        match self.handle.cancel(id, by).await.map_err(|e| e.to_status())? {
            Answer::Cancelling { was_queued } => Ok(Response::new(v1::CancelJobResponse { was_queued })),
            Answer::Submitted { .. } | Answer::DrainSet => {
                Err(Status::internal("the loop gave another call's answer"))
            }
        }
    }

    async fn retry(
        &self,
        request: Request<v1::RetryJobRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let v1::RetryJobRequest { job_id, request_id, submitter } = request.into_inner();
        let id = self.resolve(&job_id).await?;
        let job = self.find(id).await?;
        if job.state != i32::from(v1::JobState::Finished) {
            return Err(Status::failed_precondition(format!(
                "job {id} has not finished: there is nothing to retry yet"
            )));
        }
        let request = v1::SubmitRequest { request_id, spec: job.spec, submitter };
        Ok(Response::new(self.take(request).await?))
    }

    type LogsStream = Answers<v1::LogChunk>;

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let v1::LogsRequest { job_id, follow } = request.into_inner();
        let id = self.resolve(&job_id).await?;
        let job = self.find(id).await?;
        if job.state != i32::from(v1::JobState::Finished) {
            return Ok(Response::new(self.live_logs(id, follow).await?));
        }
        let kept = match job.outcome.and_then(|outcome| outcome.kind) {
            Some(v1::outcome::Kind::Failed(failure)) => Some(v1::LogChunk {
                data: failure.log_tail.into_bytes().into(),
                stage: failure.stage,
                arm: failure.arm,
            }),
            _ => None,
        };
        Ok(Response::new(Box::pin(futures::stream::iter(kept.map(Ok)))))
    }
}

/// Finished jobs, and at their end why no more come: the loop lets a watcher go for two reasons, never in silence.
fn told_why_it_ends(handle: Handle, finished: mpsc::Receiver<v1::FinishedJob>) -> Answers<v1::FinishedJob> {
    let why = async move {
        if handle.is_stopped() {
            return Err(Stopping.to_status());
        }
        Err(Status::aborted(format!(
            "this stream fell behind: {FINISHED_MESSAGES} finished jobs waited to be read, and later ones are missing; \
             open it again, then ask with Get or List for each job that is not known to be over"
        )))
    };
    Box::pin(ReceiverStream::new(finished).map(Ok).chain(futures::stream::once(why)))
}

/// Whether a finished job has this kind of outcome.
pub(crate) fn verdict_of(job: &RestoredJob) -> Option<&darwin_gate::Verdict> {
    match &job.record.state {
        JobState::Finished(Outcome::Judged(verdict)) => Some(verdict),
        JobState::Queued | JobState::Active | JobState::Finished(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_that_is_let_go_hears_why_and_how_to_go_on() {
        let (inputs, waiting) = mpsc::channel(1);
        let handle = Handle::new(inputs);
        let watch = |handle: &Handle| {
            let (out, finished) = mpsc::channel(2);
            for job in ["one", "two"] {
                out.try_send(v1::FinishedJob { job_id: job.to_owned(), state: "failed".to_owned() }).unwrap();
            }
            told_why_it_ends(handle.clone(), finished)
        };
        let heard: Vec<Result<v1::FinishedJob, Status>> = watch(&handle).collect().await;
        assert_eq!(heard.iter().filter(|event| event.is_ok()).count(), 2, "what waited is not lost");
        let why = heard.last().unwrap().as_ref().unwrap_err();
        assert_eq!(why.code(), tonic::Code::Aborted);
        assert!(why.message().contains("fell behind") && why.message().contains("Get or List"), "{why}");

        drop(waiting);
        let heard: Vec<Result<v1::FinishedJob, Status>> = watch(&handle).collect().await;
        assert_eq!(heard.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::Unavailable);
    }
}
