//! The service of past verdicts and of history.

use darwin_coordinator_core::RestoredJob;
use darwin_proto::v1;
use tonic::{Request, Response, Status};

use super::jobs::verdict_of;
use super::status::{ToStatus, job_id};
use crate::handle::Handle;
use crate::stores::{
    ArchiveReader, CalibratedSeries, CalibrationQuery, HistoryPoint, HistoryQuery, Kind, RecordError,
    decode_job,
};

/// Points in an answer unless asked otherwise.
const POINTS: u32 = 1_000;
/// Calibrations in an answer unless asked otherwise.
const CALIBRATIONS: u32 = 1_000;

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

fn calibration(calibrated: CalibratedSeries) -> v1::Calibration {
    let CalibratedSeries { agent, project, suite, series, gated, job, calibration } = calibrated;
    v1::Calibration {
        agent,
        project,
        suite,
        bench: series.bench,
        metric: series.metric.to_string(),
        gated,
        pairs: calibration.pairs,
        robust_sd: calibration.robust_sd,
        sd: calibration.sd,
        kurtosis: calibration.kurtosis,
        order_effect: calibration.order_effect,
        lag_1: calibration.lag_1,
        measured_unix_ms: calibration.measured_unix_ms,
        fingerprint: calibration.fingerprint,
        job_id: job,
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

    async fn calibrations(
        &self,
        request: Request<v1::CalibrationsRequest>,
    ) -> Result<Response<v1::CalibrationsResponse>, Status> {
        let v1::CalibrationsRequest { project, suite, agent, limit } = request.into_inner();
        let limit = if limit == 0 { CALIBRATIONS } else { limit };
        let query = CalibrationQuery { project, suite, agent, limit };
        let archive = self.archive.clone();
        let found = tokio::task::spawn_blocking(move || archive.calibrations(&query))
            .await
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(|e| e.to_status())?;
        let audit = v1::Audit {
            verdicts: found.audit.verdicts(),
            false_verdicts: found.audit.false_verdicts(),
            allowed: found.audit.allowed(),
            evidence: found.audit.evidence(),
            alarm: found.audit.alarms(),
        };
        let calibrations = found.series.into_iter().map(calibration).collect();
        Ok(Response::new(v1::CalibrationsResponse { calibrations, audit: Some(audit) }))
    }
}
