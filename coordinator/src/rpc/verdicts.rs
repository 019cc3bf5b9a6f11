//! The service of past verdicts and of history.

use std::collections::BTreeMap;

use darwin_coordinator_core::RestoredJob;
use darwin_proto::{MAX_MESSAGE_BYTES, v1};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::jobs::verdict_of;
use super::status::{ToStatus, job_id};
use crate::handle::Handle;
use crate::stores::{
    ArchiveReader, ArchivedProbe, CalibratedSeries, CalibrationQuery, HistoryPoint, HistoryQuery, Kind,
    ProbeQuery, RecordError, decode_job,
};

/// What a message takes around each of its parts.
const MESSAGE_HEAD_BYTES: usize = 16;
/// Points in an answer unless asked otherwise.
const POINTS: u32 = 1_000;
/// Probes in an answer unless asked otherwise.
const PROBES: u32 = 20;
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
        tier: job
            .record
            .attempts
            .last()
            .and_then(|attempt| attempt.tier)
            .map(|tier| tier.to_string())
            .unwrap_or_default(),
    })
}

impl VerdictsService {
    /// The tier of every agent that has said what it is.
    async fn tiers(&self) -> Result<BTreeMap<String, String>, Status> {
        let tiers = self.handle.query(|core, _, _| {
            let told = core.agents().filter_map(|agent| Some((agent, agent.facts.as_ref()?)));
            told.map(|(agent, facts)| (agent.id.to_string(), facts.tier.to_string())).collect()
        });
        tiers.await.map_err(|e| e.to_status())
    }
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
        tier: point.tier,
    }
}

fn probe(archived: ArchivedProbe) -> v1::ArchivedProbe {
    let ArchivedProbe { agent, pool, job, attempt, round, recorded_unix_ms, probe } = archived;
    let probe = Some(v1::BoxProbe::from(&probe));
    v1::ArchivedProbe { agent, pool, job_id: job, attempt, round, recorded_unix_ms, probe }
}

fn calibration(calibrated: CalibratedSeries) -> v1::Calibration {
    let CalibratedSeries { agent, tier, pairing, project, suite, series, gated, job, calibration } =
        calibrated;
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
        tier,
        pairing,
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

    async fn probes(
        &self,
        request: Request<v1::ProbesRequest>,
    ) -> Result<Response<v1::ProbesResponse>, Status> {
        let v1::ProbesRequest { agent, pool, job_id: job, jobs_only, limit } = request.into_inner();
        let query =
            ProbeQuery { agent, pool, job, jobs_only, limit: if limit == 0 { PROBES } else { limit } };
        let archive = self.archive.clone();
        let found = tokio::task::spawn_blocking(move || archive.probes(&query))
            .await
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(|e| e.to_status())?;
        let mut size_bytes = 0;
        let told = found.into_iter().map(probe).take_while(|probe| {
            size_bytes += probe.encoded_len() + MESSAGE_HEAD_BYTES;
            size_bytes <= MAX_MESSAGE_BYTES
        });
        Ok(Response::new(v1::ProbesResponse { probes: told.collect() }))
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
        // What a box was good for in another tier says nothing of it now.
        let tiers = self.tiers().await?;
        let is_of_now =
            |series: &CalibratedSeries| tiers.get(&series.agent).is_none_or(|tier| *tier == series.tier);
        let calibrations = found.series.into_iter().filter(is_of_now).map(calibration).collect();
        Ok(Response::new(v1::CalibrationsResponse { calibrations, audit: Some(audit) }))
    }
}
