//! The ledger's model: versions are checked as the real one does, and history is checked as nobody else can.

use std::collections::BTreeMap;

use darwin_coordinator_core::record::Value;
use darwin_coordinator_core::{
    Action, Answer, EpochRecord, JobRecord, RecordKey, Restored, RestoredJob, SpecRecord, ToAgent, Write,
};
use darwin_shared::ids::{AttemptId, Epoch, JobId};
use darwin_shared::state::{AttemptOutcome, LossCause};

/// Records with their versions.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeLedger {
    records: BTreeMap<RecordKey, (u64, Value)>,
    /// The highest epoch that any attempt was ever granted under.
    highest: Epoch,
}

impl FakeLedger {
    /// Puts a record, or says which rule that would break.
    pub(crate) fn apply(&mut self, write: &Write) -> Result<(), String> {
        let key = write.key();
        let found = self.records.get(&key).map_or(0, |(version, _)| *version);
        if found != write.expected_version {
            return Err(format!("{key:?} has version {found}, not {}", write.expected_version));
        }
        match &write.value {
            Value::Spec(job, _) => {
                if found != 0 {
                    return Err(format!("the spec of {job} is written twice"));
                }
            }
            Value::Job(job, record) => self.check_job(*job, record)?,
            Value::Agent(..) => {}
            Value::Epochs(EpochRecord { reserved }) => {
                if self.epochs().1.reserved >= *reserved {
                    return Err("reserved epochs do not grow".to_owned());
                }
            }
        }
        self.records.insert(key, (found + 1, write.value.clone()));
        Ok(())
    }

    /// Whether what is said rests on what is written.
    pub(crate) fn check_said(&self, action: &Action) -> Result<(), String> {
        match action {
            Action::Reply { answer: Ok(Answer::Submitted { job, .. }), .. } => {
                if self.job(*job).is_none() || self.spec(*job).is_none() {
                    return Err(format!("job {job} is acknowledged and not in the ledger"));
                }
            }
            Action::Send { message: ToAgent::Assign { attempt, epoch, .. }, .. } => {
                if !self.knows(*attempt, *epoch) {
                    return Err(format!("{attempt} is assigned and not in the ledger"));
                }
            }
            Action::Send { message: ToAgent::Ack { attempt, stop: true, .. }, .. } => {
                let over = self.job(attempt.job).is_none_or(|record| {
                    record.state.is_finished()
                        || record.live_attempt().is_none_or(|live| live.number != attempt.number)
                });
                if !over {
                    return Err(format!("{attempt} is told to stop and still lives in the ledger"));
                }
            }
            Action::Send { message: ToAgent::Release { attempt }, .. } => {
                let open = self.job(attempt.job).and_then(|record| record.live_attempt());
                if open.is_some_and(|live| live.number == attempt.number) {
                    return Err(format!("{attempt} is released and still lives in the ledger"));
                }
            }
            Action::JobFinished(job) => {
                if !self.job(*job).is_some_and(|record| record.state.is_finished()) {
                    return Err(format!("job {job} is said to be finished and is not in the ledger"));
                }
            }
            Action::Reply { .. }
            | Action::Send { .. }
            | Action::Close { .. }
            | Action::Archive(_)
            | Action::JobChanged(_)
            | Action::Write(_) => {}
        }
        Ok(())
    }

    fn check_job(&mut self, id: JobId, new: &JobRecord) -> Result<(), String> {
        if self.spec(id).is_none() {
            return Err(format!("job {id} is there before its spec"));
        }
        let old = self.job(id).cloned().unwrap_or_else(JobRecord::queued);
        if old.state.is_finished() {
            return Err(format!("job {id} is finished and changes: {old:?} becomes {new:?}"));
        }
        for was in &old.attempts {
            let Some(is) = new.attempts.iter().find(|is| is.number == was.number) else {
                if matches!(was.outcome, Some(AttemptOutcome::Lost(LossCause::Refused(_)))) {
                    continue;
                }
                return Err(format!("job {id} forgets an attempt"));
            };
            let same = (is.number, is.epoch, &is.agent) == (was.number, was.epoch, &was.agent);
            if !same || (was.outcome.is_some() && was.outcome != is.outcome) {
                return Err(format!("job {id} rewrites its past: {was:?} becomes {is:?}"));
            }
        }
        let last = old.attempts.last().map_or(0, |attempt| attempt.number);
        for added in new.attempts.iter().filter(|attempt| attempt.number > last) {
            if old.cancel.is_some() {
                return Err(format!("job {id} is to be ended and gets another attempt"));
            }
            if added.epoch <= self.highest {
                return Err(format!("epoch {} of {id} is not above {}", added.epoch, self.highest));
            }
            if added.epoch > self.epochs().1.reserved {
                return Err(format!("epoch {} of {id} was not reserved", added.epoch));
            }
            self.highest = added.epoch;
        }
        let open = new.attempts.iter().filter(|attempt| attempt.outcome.is_none()).count();
        if open > 1 {
            return Err(format!("job {id} has {open} live attempts"));
        }
        Ok(())
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&JobRecord> {
        match self.records.get(&RecordKey::Job(id)) {
            Some((_, Value::Job(_, record))) => Some(record),
            _ => None,
        }
    }

    pub(crate) fn spec(&self, id: JobId) -> Option<&SpecRecord> {
        match self.records.get(&RecordKey::Spec(id)) {
            Some((_, Value::Spec(_, record))) => Some(record),
            _ => None,
        }
    }

    fn epochs(&self) -> (u64, EpochRecord) {
        match self.records.get(&RecordKey::Epochs) {
            Some((version, Value::Epochs(record))) => (*version, *record),
            _ => (0, EpochRecord::default()),
        }
    }

    /// Whether the attempt was ever granted under this epoch.
    pub(crate) fn knows(&self, attempt: AttemptId, epoch: Epoch) -> bool {
        self.job(attempt.job).is_some_and(|record| {
            record.attempts.iter().any(|known| known.number == attempt.number && known.epoch == epoch)
        })
    }

    /// Every job with its record, oldest first.
    pub(crate) fn jobs(&self) -> impl DoubleEndedIterator<Item = (JobId, u64, &JobRecord)> {
        self.records.values().filter_map(|(version, value)| match value {
            Value::Job(id, record) => Some((*id, *version, record)),
            Value::Spec(..) | Value::Agent(..) | Value::Epochs(_) => None,
        })
    }

    /// What a restarted coordinator loads: the newest jobs, and whatever is unfinished.
    pub(crate) fn load(&self, recent: usize) -> Restored {
        let newest = self.jobs().count().saturating_sub(recent);
        let jobs = self
            .jobs()
            .enumerate()
            .filter(|(index, (_, _, record))| *index >= newest || !record.state.is_finished())
            .filter_map(|(_, (id, version, record))| {
                Some(RestoredJob { id, submitted: self.spec(id)?.clone(), record: record.clone(), version })
            });
        let agents = self.records.values().filter_map(|(version, value)| match value {
            Value::Agent(id, record) => Some((id.clone(), *version, record.clone())),
            Value::Spec(..) | Value::Job(..) | Value::Epochs(_) => None,
        });
        Restored { jobs: jobs.collect(), left_out: None, agents: agents.collect(), epochs: self.epochs() }
    }
}
