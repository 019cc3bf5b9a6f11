//! The service of past verdicts and of history.

use darwin_coordinator_core::RestoredJob;
use darwin_proto::v1;
use tonic::{Request, Response, Status};

use super::jobs::verdict_of;
use super::status::{ToStatus, job_id};
use crate::handle::Handle;
use crate::stores::{ArchiveReader, HistoryPoint, HistoryQuery, Kind, RecordError, decode_job};

/// Points in an answer unless asked otherwise.
const POINTS: u32 = 1_000;

/// The service of past verdicts.
#[derive(Debug, Clone)]
pub(crate) struct VerdictsService {
    pub(crate) handle: Handle,
    pub(crate) archive: ArchiveReader,
}

fn answer(job: &RestoredJob) -> Option<v1::GetVerdictResponse> {
    let verdict = verdict_of(job)?;
    let spec = &job.submitted.spec;
    let label = |index: usize| {
        spec.work.variants().get(index).map_or_else(String::new, |(_, variant)| variant.label.clone())
    };
    Some(v1::GetVerdictResponse {
        job_id: job.id.to_string(),
        verdict: Some(v1::Verdict::from(verdict)),
        project: spec.project.to_string(),
        suite: spec.suite.to_string(),
        baseline: label(0),
        challenger: label(1),
        agent: job.record.attempts.last().map_or_else(String::new, |attempt| attempt.agent.to_string()),
        finished_unix_ms: job.record.finished_unix_ms,
    })
}

fn point(point: HistoryPoint) -> v1::HistoryPoint {
    v1::HistoryPoint {
        job_id: point.job,
        attempt: point.attempt,
        round: point.round,
        arm: v1::Arm::from(point.arm).into(),
        variant: point.variant,
        bench: point.bench,
        metric: point.metric,
        value: point.value,
        unit: point.unit,
        samples: point.samples,
        agent: point.agent,
        recorded_unix_ms: point.recorded_unix_ms,
    }
}

#[tonic::async_trait]
impl v1::verdicts_server::Verdicts for VerdictsService {
    async fn get(
        &self,
        request: Request<v1::GetVerdictRequest>,
    ) -> Result<Response<v1::GetVerdictResponse>, Status> {
        let id = job_id(&request.into_inner().job_id)?;
        let found: Result<Option<RestoredJob>, RecordError> = self
            .handle
            .query(move |_, ledger, _| {
                let stored = ledger.get(Kind::Job, &id.to_string())?;
                stored.map(|stored| decode_job(ledger, &stored)).transpose()
            })
            .await
            .map_err(|e| e.to_status())?;
        let job = found.map_err(|e| e.to_status())?;
        let job = job.ok_or_else(|| Status::not_found(format!("there is no job {id}")))?;
        let state = job.record.state.name();
        answer(&job)
            .map(Response::new)
            .ok_or_else(|| Status::not_found(format!("job {id} has no verdict: it is {state}")))
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        let v1::HistoryRequest { project, suite, bench, metric, limit } = request.into_inner();
        let metric = if metric.is_empty() {
            metric
        } else {
            // As the archive writes it: `custom.a:smaller` is `custom.a`.
            let parsed: Result<darwin_gate::Metric, _> = metric.parse();
            parsed.map_err(|e| Status::invalid_argument(e.to_string()))?.to_string()
        };
        let limit = if limit == 0 { POINTS } else { limit };
        let query = HistoryQuery { project, suite, bench, metric, limit };
        let archive = self.archive.clone();
        let points = tokio::task::spawn_blocking(move || archive.history(&query))
            .await
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(|e| e.to_status())?;
        Ok(Response::new(v1::HistoryResponse { points: points.into_iter().map(point).collect() }))
    }
}
