//! Where a bench is put, and whether it is really there.
//!
//! What was asked of the kernel is not what counts, but what it says once the bench runs.

use std::sync::OnceLock;
use std::time::Duration;

use darwin_agent_core::cpu_alloc::Granted;
use darwin_shared::fleet::IsolationLevel;
use darwin_shared::ids::AttemptId;
use darwin_shared::spec::Isolation;
use tokio::sync::mpsc;

use crate::cores::isolation_level;
use crate::driver::Progress;
use crate::exec::{PlacementError, Started, glance_at_placement, verify_placement};
use crate::host::HostFs;

/// When a bench is looked at closely and told of. Whatever is over sooner is told of with its result: for the many short
/// ones both would cost as much as they do.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// How well the benches of an attempt were seen to be kept apart; not known before the first one ran.
#[derive(Debug)]
pub(crate) struct Placed {
    attempt: AttemptId,
    level: OnceLock<IsolationLevel>,
    tell: mpsc::Sender<Progress>,
}

impl Placed {
    pub(crate) const fn new(attempt: AttemptId, tell: mpsc::Sender<Progress>) -> Self {
        Self { attempt, level: OnceLock::new(), tell }
    }

    pub(crate) fn level(&self) -> Option<IsolationLevel> {
        self.level.get().copied()
    }
}

/// Where the invocations of an attempt run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placing<'a> {
    pub(crate) granted: &'a Granted,
    pub(crate) isolation: Isolation,
    pub(crate) placed: &'a Placed,
}

impl Placing<'_> {
    /// Whether the bench needs a cpuset of its own.
    pub(crate) fn wants_cpuset(&self) -> bool {
        self.isolation == Isolation::Required && !self.granted.isolated
    }

    /// Looks whether a bench that has just started is where it should be: by one system call for the first of an
    /// attempt, closely for every one that must be isolated. Says why its measurement would be worth nothing.
    pub(crate) fn check_start(&self, started: &Started) -> Result<(), String> {
        match self.isolation {
            Isolation::Required => self.check_closely(started),
            Isolation::Preferred | Isolation::None if self.is_first() => {
                self.judge(glance_at_placement(started.pid, &self.granted.cpus)).map(|_| ())
            }
            Isolation::Preferred | Isolation::None => Ok(()),
        }
    }

    /// Looks closely at the first bench of an attempt, unless it is over soon, and tells that it runs. Returns only to say
    /// why its measurement would be worth nothing.
    pub(crate) async fn watch(&self, started: &Started, first: bool) -> String {
        if first {
            tokio::time::sleep(LOOK_AFTER).await;
            if self.is_first()
                && let Err(why) = self.check_closely(started)
            {
                return why;
            }
            // If too much is to be told, it is told with the result.
            let _ = self.placed.tell.try_send(Progress::Placed(self.placed.attempt));
        }
        std::future::pending().await
    }

    /// The bench is over: what the launcher said of it stands, if it was not looked at closely.
    pub(crate) fn is_over(&self, started: &Started) {
        let _ = self.placed.level.set(isolation_level(self.granted, started.took, None));
    }

    /// Whether nothing is known yet of this attempt's benches.
    pub(crate) fn is_first(&self) -> bool {
        self.placed.level.get().is_none()
    }

    /// Checks everything that the kernel says of the bench, and keeps what that comes to.
    fn check_closely(&self, started: &Started) -> Result<(), String> {
        let seen = verify_placement(&HostFs::default(), started.pid, &self.granted.cpus);
        let placement = self.judge(seen)?;
        let level = isolation_level(self.granted, started.took, placement.as_ref());
        match (self.isolation, level) {
            (_, IsolationLevel::None) => return Err("the bench could not be bound to its cores".to_owned()),
            (Isolation::Required, IsolationLevel::Affinity) => {
                return Err(
                    "isolation is required, and neither an isolated core, a cpuset nor SCHED_FIFO took effect \
                     (the sensor's `isolation` says what mends it)"
                        .to_owned(),
                );
            }
            (
                Isolation::Required | Isolation::Preferred | Isolation::None,
                IsolationLevel::Affinity
                | IsolationLevel::Fifo
                | IsolationLevel::Cpuset
                | IsolationLevel::Isolated,
            ) => {}
        }
        // Of an attempt that is told of already the first word stands: this bench is well off too.
        let _ = self.placed.level.set(level);
        Ok(())
    }

    /// What follows from a look; none if the bench was gone, or hidden, and need not be seen.
    fn judge<T>(&self, seen: Result<T, PlacementError>) -> Result<Option<T>, String> {
        match seen {
            Ok(seen) => Ok(Some(seen)),
            Err(PlacementError::Gone { .. }) => Ok(None),
            Err(error @ PlacementError::Astray { .. }) => {
                Err(format!("the measurement was discarded, as it was not where it should be: {error}"))
            }
            // A box may hide /proc; then the launcher's word must do where it can.
            Err(error @ (PlacementError::Silent { .. } | PlacementError::Read(_))) => match self.isolation {
                Isolation::Required => Err(format!("isolation is required and cannot be confirmed: {error}")),
                Isolation::Preferred | Isolation::None => Ok(None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use darwin_agent_core::topology::NodeId;
    use darwin_shared::cpu::CpuSet;
    use darwin_shared::ids::JobId;

    use super::*;
    use crate::exec::Took;

    fn placed() -> Placed {
        let attempt = AttemptId { job: JobId::from_parts(1, 0), number: 1 };
        Placed::new(attempt, mpsc::channel(1).0)
    }

    #[tokio::test]
    async fn a_bench_that_is_elsewhere_is_worth_nothing() {
        let mut bench = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = bench.id();
        let plain = Started { pid, at_ns: 0, took: Took { affinity: true, ..Took::default() } };
        let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
        let mut ours = CpuSet::new();
        for cpu in (0..nix::sched::CpuSet::count()).filter(|&cpu| mask.is_set(cpu).unwrap()) {
            ours.insert(u32::try_from(cpu).unwrap()).unwrap();
        }
        let (there, elsewhere) = (granted(ours), granted("1023".parse().unwrap()));
        for isolation in [Isolation::None, Isolation::Preferred, Isolation::Required] {
            let placed = placed();
            let placing = Placing { granted: &elsewhere, isolation, placed: &placed };
            assert!(placing.check_start(&plain).unwrap_err().contains("discarded"), "{isolation:?}");
            assert!(placing.watch(&plain, true).await.contains("discarded"), "{isolation:?}");
            assert_eq!(placed.level(), None);
        }
        for isolation in [Isolation::None, Isolation::Preferred] {
            let placed = placed();
            let placing = Placing { granted: &there, isolation, placed: &placed };
            assert_eq!((placing.check_start(&plain), placed.level()), (Ok(()), None));
            assert_eq!(
                (placing.check_closely(&plain), placed.level()),
                (Ok(()), Some(IsolationLevel::Affinity))
            );
        }
        let required = |took| {
            let placed = placed();
            let placing = Placing { granted: &there, isolation: Isolation::Required, placed: &placed };
            placing.check_start(&Started { took, ..plain })
        };
        assert!(required(plain.took).unwrap_err().contains("neither an isolated core"));
        assert!(required(Took { cpuset: true, ..plain.took }).is_err(), "nobody sees the launcher's cpuset");
        bench.kill().unwrap();
        bench.wait().unwrap();
        let placed = placed();
        let placing = Placing { granted: &elsewhere, isolation: Isolation::Preferred, placed: &placed };
        assert_eq!((placing.check_start(&plain), placed.level()), (Ok(()), None), "it is gone already");
        placing.is_over(&plain);
        assert_eq!(placed.level(), Some(IsolationLevel::Affinity));
    }

    fn granted(cpus: CpuSet) -> Granted {
        Granted {
            claimed: cpus.clone(),
            cpus,
            siblings_idle: CpuSet::new(),
            node: NodeId(0),
            isolated: false,
        }
    }
}
