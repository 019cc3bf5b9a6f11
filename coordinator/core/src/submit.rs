//! Jobs come in and are ended by their owners.

use std::collections::BTreeMap;
use std::sync::Arc;

use darwin_shared::ids::JobId;
use darwin_shared::state::{JobState, Outcome};

use crate::action::{Action, Answer, Refusal, ToAgent};
use crate::event::{Caller, Now, Submission};
use crate::job::Job;
use crate::record::{JobRecord, SpecRecord, Value, Write};
use crate::state::Core;

impl Core {
    pub(crate) fn submit(&mut self, now: Now, caller: Caller, submission: Submission, out: &mut Vec<Action>) {
        let answer = match self.admit(&submission) {
            Ok(None) => {
                let job = submission.job;
                self.accept(now, submission, out);
                Ok(Answer::Submitted { job, known: false })
            }
            Ok(Some(job)) => Ok(Answer::Submitted { job, known: true }),
            Err(refusal) => Err(refusal),
        };
        out.push(Action::Reply { caller, answer });
    }

    /// The job of an earlier call with this request id, or none if the submission is new and welcome.
    fn admit(&self, submission: &Submission) -> Result<Option<JobId>, Refusal> {
        if !submission.request_id.is_empty()
            && let Some(known) = self.requests.get(&submission.request_id)
        {
            let same = self.job(*known).is_some_and(|job| **job.spec() == submission.spec);
            return if same {
                Ok(Some(*known))
            } else {
                Err(Refusal::RequestIdReused(submission.request_id.clone()))
            };
        }
        if self.queue.len() >= self.settings.queued_max {
            return Err(Refusal::QueueFull(self.queue.len()));
        }
        Ok(None)
    }

    fn accept(&mut self, now: Now, submission: Submission, out: &mut Vec<Action>) {
        let Submission { job: id, request_id, spec, submitter } = submission;
        let submitted = SpecRecord {
            request_id: request_id.clone(),
            submitter,
            submitted_unix_ms: now.unix_ms,
            spec: Arc::new(spec),
        };
        out.push(Action::Write(Write { expected_version: 0, value: Value::Spec(id, submitted.clone()) }));
        let mut job = Job {
            id,
            submitted,
            record: JobRecord::queued(),
            version: 0,
            waiting_since: now.mono,
            declined_by: BTreeMap::new(),
            live: None,
        };
        Self::write_job(&mut job, out);
        self.jobs.insert(id, job);
        if !request_id.is_empty() {
            self.requests.insert(request_id, id);
        }
        self.enqueue(now, id);
        self.end_if_nobody_allows(now, id, out);
    }

    pub(crate) fn cancel(&mut self, now: Now, caller: Caller, id: JobId, by: String, out: &mut Vec<Action>) {
        let answer = self.try_cancel(now, id, by, out);
        out.push(Action::Reply { caller, answer });
    }

    fn try_cancel(
        &mut self,
        now: Now,
        id: JobId,
        by: String,
        out: &mut Vec<Action>,
    ) -> Result<Answer, Refusal> {
        let Some(job) = self.jobs.get_mut(&id) else {
            return Err(match self.recent.get(&id) {
                Some(job) => Refusal::Finished { job: id, state: job.record.state.name() },
                None => Refusal::NoSuchJob(id),
            });
        };
        match &job.record.state {
            JobState::Queued => {
                self.finish(now, id, None, Outcome::Cancelled { by }, out);
                Ok(Answer::Cancelling { was_queued: true })
            }
            JobState::Active => {
                if job.record.cancel.is_none() {
                    job.record.cancel = Some(by);
                    Self::write_job(job, out);
                }
                if let (Some(attempt), Some(live)) = (job.live_id(), job.live.as_ref())
                    && let Some(link) = self.agents.get(&live.agent).and_then(|agent| agent.link)
                {
                    out.push(Action::Send { link, message: ToAgent::Cancel { attempt, epoch: live.epoch } });
                }
                out.push(Action::JobChanged(id));
                Ok(Answer::Cancelling { was_queued: false })
            }
            JobState::Finished(_) => Err(Refusal::Finished { job: id, state: job.record.state.name() }),
        }
    }
}
