//! The highest epoch seen of each job: a grant below it is from a coordinator that has forgotten something.

use std::collections::BTreeMap;

use darwin_shared::ids::{Epoch, JobId};

/// Jobs remembered. Grants in flight are at most some hundreds of jobs old; beyond it the oldest jobs are forgotten.
const MAX_FENCES: usize = 8192;

/// The fences of jobs, by job: the oldest first, as job ids sort by time.
#[derive(Debug, Clone, Default)]
pub(super) struct Fences {
    by_job: BTreeMap<JobId, Epoch>,
}

impl Fences {
    /// The highest epoch seen of the job.
    pub(super) fn of(&self, job: JobId) -> Option<Epoch> {
        self.by_job.get(&job).copied()
    }

    /// Remembers an epoch.
    pub(super) fn raise(&mut self, job: JobId, epoch: Epoch) {
        let fence = self.by_job.entry(job).or_default();
        *fence = epoch.max(*fence);
        if self.by_job.len() > MAX_FENCES {
            self.by_job.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_never_sinks_and_memory_is_bounded() {
        let mut fences = Fences::default();
        let job = |n: u64| JobId::from_parts(n, 0);
        fences.raise(job(0), Epoch { generation: 1, counter: 7 });
        fences.raise(job(0), Epoch { generation: 1, counter: 3 });
        assert_eq!(fences.of(job(0)), Some(Epoch { generation: 1, counter: 7 }));
        for n in 1..=MAX_FENCES as u64 {
            fences.raise(job(n), Epoch { generation: 1, counter: n });
        }
        assert_eq!((fences.of(job(0)), fences.by_job.len()), (None, MAX_FENCES));
    }
}
