//! Lists of jobs: newest first, a page at a time, from memory and the ledger together.

use std::collections::BTreeSet;

use darwin_coordinator_core::job::Job;
use darwin_coordinator_core::{Core, RestoredJob};
use darwin_proto::v1;
use darwin_shared::ids::JobId;
use darwin_shared::spec::JobSpec;
use darwin_shared::state::JobState;
use tonic::Status;

use super::status::{ToStatus, job_id};
use super::view;
use crate::handle::Handle;
use crate::stores::{Kind, Ledger, RecordError, decode_job};

/// Jobs on a page unless asked otherwise, and at most.
const PAGE: (usize, usize) = (50, 1000);
/// Records of the ledger read in one step of the loop, which does nothing else meanwhile.
const LEDGER_STEP: usize = 1_000;

/// A page. It is filled step by step, and other work of the loop goes in between: a filter that matches little reads
/// far, and ends early only if the caller hangs up.
pub(super) async fn page(
    handle: &Handle,
    request: v1::ListJobsRequest,
) -> Result<v1::ListJobsResponse, Status> {
    let mut scan = Scan::new(request)?;
    while scan.state == Progress::MayFollow {
        scan = handle
            .query(move |core, ledger, _| scan.step(core, ledger))
            .await
            .map_err(|e| e.to_status())?
            .map_err(|e| e.to_status())?;
    }
    Ok(v1::ListJobsResponse { jobs: scan.jobs, more: scan.state == Progress::Full })
}

/// How far a scan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Older jobs are to be looked at.
    MayFollow,
    /// The page is full, and at least one more job would be on it.
    Full,
    /// There are no more jobs.
    AtTheEnd,
}

/// Which jobs a list is to have, and those found so far.
struct Scan {
    project: String,
    suite: String,
    states: BTreeSet<String>,
    limit: usize,
    /// Only jobs older than this one are still to be looked at.
    before: Option<JobId>,
    jobs: Vec<v1::JobSummary>,
    state: Progress,
}

impl Scan {
    fn new(request: v1::ListJobsRequest) -> Result<Self, Status> {
        let v1::ListJobsRequest { project, suite, states, limit, before } = request;
        let limit = match usize::try_from(limit).unwrap_or(usize::MAX) {
            0 => PAGE.0,
            n if n <= PAGE.1 => n,
            n => {
                return Err(Status::invalid_argument(format!(
                    "`limit` is {n}; at most {} fit on a page",
                    PAGE.1
                )));
            }
        };
        if let Some(unknown) = states.iter().find(|state| !JobState::NAMES.contains(&state.as_str())) {
            let unknown: String = unknown.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(Status::invalid_argument(format!(
                "`states` has `{unknown}`, which is no state of a job; there are {}",
                JobState::NAMES.join(", ")
            )));
        }
        let before = if before.is_empty() { None } else { Some(job_id(&before)?) };
        let states = states.into_iter().collect();
        Ok(Self { project, suite, states, limit, before, jobs: Vec::new(), state: Progress::MayFollow })
    }

    fn wants(&self, spec: &JobSpec, state: &JobState) -> bool {
        (self.project.is_empty() || self.project == spec.project.as_str())
            && (self.suite.is_empty() || self.suite == spec.suite.as_str())
            && (self.states.is_empty() || self.states.contains(state.name()))
    }

    /// Looks at the next older jobs: what memory has, and between it what only the ledger has.
    fn step(mut self, core: &Core, ledger: &mut dyn Ledger) -> Result<Self, RecordError> {
        let below = core.newest_forgotten().map(JobId::successor).into_iter().chain(self.before).min();
        let forgotten = match core.newest_forgotten().and(below) {
            Some(below) => ledger.newest(Kind::Job, Some(&below.to_string()), LEDGER_STEP)?,
            None => Vec::new(),
        };
        // Beyond the last one that was read nothing is known: what memory has there belongs to the next step.
        let known_from = match forgotten.last() {
            Some(last) if forgotten.len() == LEDGER_STEP => Some(crate::stores::job_id(last)?),
            Some(_) | None => None,
        };
        let mut remembered = core
            .jobs_newest_first(self.before)
            .take_while(|job| known_from.is_none_or(|from| job.id >= from))
            .peekable();
        for stored in &forgotten {
            let id = crate::stores::job_id(stored)?;
            while let Some(job) = remembered.next_if(|job| job.id >= id) {
                self.look_at_remembered(job);
            }
            if core.job(id).is_none() {
                let job = decode_job(ledger, stored)?;
                if self.wants(&job.submitted.spec, &job.record.state) {
                    self.take(&job);
                }
            }
            if self.state == Progress::Full {
                return Ok(self);
            }
        }
        for job in remembered {
            self.look_at_remembered(job);
            if self.state == Progress::Full {
                return Ok(self);
            }
        }
        match known_from {
            Some(from) => self.before = Some(from),
            None => self.state = Progress::AtTheEnd,
        }
        Ok(self)
    }

    fn look_at_remembered(&mut self, job: &Job) {
        // Copied only if it is wanted: a record may have a large verdict.
        if self.wants(job.spec(), &job.record.state) {
            self.take(&job.into());
        }
    }

    /// Puts a job on the page, if there is room.
    fn take(&mut self, job: &RestoredJob) {
        if self.jobs.len() == self.limit {
            self.state = Progress::Full;
        } else {
            self.jobs.push(view::summary(job));
        }
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
