//! Where a bench is put, and whether it is really there.
//!
//! What was asked of the kernel is not what counts, but what it says once the bench runs.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use darwin_agent_core::cpu_alloc::Granted;
use darwin_shared::fleet::IsolationLevel;
use darwin_shared::ids::AttemptId;
use darwin_shared::spec::Isolation;
use tokio::sync::mpsc;

use crate::cores::isolation_level;
use crate::driver::Progress;
use crate::exec::{Placement, PlacementError, Started, glance_at_placement, verify_placement};
use crate::host::HostFs;

/// A bench that is over sooner is told of with its result: for the many short ones, word of their start would cost as
/// much as they do.
const TELL_AFTER: Duration = Duration::from_millis(5);

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

    /// Reads back where a bench runs: of every attempt the first one, and every one of those that must be isolated. Says
    /// why its measurement would be worth nothing.
    pub(crate) fn confirm(&self, started: &Started) -> Result<(), String> {
        let first = self.placed.level.get().is_none();
        if !first && self.isolation != Isolation::Required {
            return Ok(());
        }
        let placement = self.read_back(started.pid)?;
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
        // Of an attempt that is told already, the first word stands: a later bench is at least as well off.
        let _ = self.placed.level.set(level);
        Ok(())
    }

    /// What the kernel says of a bench; none if it was gone before it could be asked.
    fn read_back(&self, pid: u32) -> Result<Option<Placement>, String> {
        let cpus = &self.granted.cpus;
        let seen = match self.isolation {
            Isolation::None => glance_at_placement(pid, cpus).map(|()| None),
            Isolation::Preferred | Isolation::Required => {
                verify_placement(&HostFs::default(), pid, cpus).map(Some)
            }
        };
        match seen {
            Ok(placement) => Ok(placement),
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

    /// Tells that the benches of the attempt run, unless they are over soon; never returns.
    pub(crate) async fn tell(&self, first: bool) -> Infallible {
        if first {
            tokio::time::sleep(TELL_AFTER).await;
            // If too much is to be told, it is told with the result.
            let _ = self.placed.tell.try_send(Progress::Placed(self.placed.attempt));
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use darwin_agent_core::topology::NodeId;
    use darwin_shared::cpu::CpuSet;
    use darwin_shared::ids::JobId;

    use super::*;
    use crate::exec::Took;

    fn granted(cpus: CpuSet) -> Granted {
        Granted {
            claimed: cpus.clone(),
            cpus,
            siblings_idle: CpuSet::new(),
            node: NodeId(0),
            isolated: false,
        }
    }

    fn confirm(
        bench: &Child,
        granted: &Granted,
        isolation: Isolation,
        took: Took,
    ) -> (Result<(), String>, Placed) {
        let attempt = AttemptId { job: JobId::from_parts(1, 0), number: 1 };
        let placed = Placed::new(attempt, mpsc::channel(1).0);
        let placing = Placing { granted, isolation, placed: &placed };
        let said = placing.confirm(&Started { pid: bench.id(), at_ns: 0, took });
        (said, placed)
    }

    #[test]
    fn a_bench_that_is_elsewhere_is_worth_nothing() {
        let mut bench = Command::new("sleep").arg("600").spawn().unwrap();
        let affine = Took { affinity: true, ..Took::default() };
        let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
        let mut ours = CpuSet::new();
        for cpu in (0..nix::sched::CpuSet::count()).filter(|&cpu| mask.is_set(cpu).unwrap()) {
            ours.insert(u32::try_from(cpu).unwrap()).unwrap();
        }
        let (there, elsewhere) = (granted(ours), granted("1023".parse().unwrap()));
        for isolation in [Isolation::None, Isolation::Preferred, Isolation::Required] {
            let (said, placed) = confirm(&bench, &elsewhere, isolation, affine);
            assert!(said.unwrap_err().contains("discarded"), "{isolation:?}");
            assert_eq!(placed.level(), None);
        }
        let (said, placed) = confirm(&bench, &there, Isolation::Preferred, affine);
        assert_eq!((said, placed.level()), (Ok(()), Some(IsolationLevel::Affinity)));
        let (said, _) = confirm(&bench, &there, Isolation::Required, affine);
        assert!(said.unwrap_err().contains("neither an isolated core"));
        // The launcher's word for a cpuset that nobody sees is not enough.
        let (said, _) = confirm(&bench, &there, Isolation::Required, Took { cpuset: true, ..affine });
        assert!(said.is_err());
        bench.kill().unwrap();
        bench.wait().unwrap();
        let (said, placed) = confirm(&bench, &elsewhere, Isolation::Preferred, affine);
        assert_eq!((said, placed.level()), (Ok(()), Some(IsolationLevel::Affinity)), "it was gone already");
    }
}
