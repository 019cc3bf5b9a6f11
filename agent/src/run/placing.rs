//! Where a bench is put, and whether it is really there.
//!
//! What was asked of the kernel is not what counts, but what it says once the bench runs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use darwin_agent_core::cpu_alloc::Granted;
use darwin_agent_core::tune::{FifoUse, rest_after};
use darwin_shared::fleet::IsolationLevel;
use darwin_shared::ids::AttemptId;
use darwin_shared::spec::{Isolation, JobSpec, Layout, Scheduler};
use tokio::sync::{OnceCell, mpsc};
use tokio::time::Instant;

use crate::cores::isolation_level;
use crate::driver::Progress;
use crate::exec::{Placement, PlacementError, Started, glance_at_placement, verify_placement};
use crate::host::{HostFs, TaskStat};
use crate::tune::{Ground, Tuner};

/// When a bench is looked at closely and told of. Whatever is over sooner is told of with its result: for the many short
/// ones both would cost as much as they do.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// How often a bench that runs long is looked at: one small file, read on the housekeeping cores.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How well the benches of an attempt were seen to be kept apart; not known before the first one ran.
#[derive(Debug)]
pub(crate) struct Placed {
    attempt: AttemptId,
    level: OnceLock<(IsolationLevel, String)>,
    tell: mpsc::Sender<Progress>,
    tuner: Arc<Tuner>,
    ground: OnceCell<Ground>,
    /// A CPU that a bench was seen on and does not have, since that was asked last.
    astray_on: Mutex<Option<u32>>,
    /// Before this nothing is to be run again.
    rests_until: Mutex<Option<Instant>>,
}

impl Placed {
    pub(crate) fn new(attempt: AttemptId, tell: mpsc::Sender<Progress>, tuner: Arc<Tuner>) -> Self {
        let (level, ground, astray_on) = (OnceLock::new(), OnceCell::new(), Mutex::new(None));
        Self { attempt, level, tell, tuner, ground, astray_on, rests_until: Mutex::default() }
    }

    /// Makes the box ready before the first bench of the attempt; or says why it cannot be what the job requires.
    pub(crate) async fn stand(
        &self,
        lease: &str,
        granted: &Granted,
        spec: &JobSpec,
        run_max: Duration,
    ) -> Result<(), String> {
        let isolation = spec.cores.isolation;
        let prepare = async {
            let isolate = match isolation {
                Isolation::Required => true,
                Isolation::Preferred => self.tuner.always_partition(),
                Isolation::None => false,
            };
            let mut ground = self.tuner.take(lease, granted, isolate).await;
            if spec.cores.scheduler == Scheduler::Fifo {
                let isolated = granted.isolated || ground.is_partition();
                ground.fifo = Some(self.tuner.may_use_fifo(isolated, run_max));
            }
            ground
        };
        let ground = self.ground.get_or_init(|| prepare).await;
        match (&ground.fifo, isolation) {
            (Some(Err(why)), Isolation::Required) => {
                Err(format!("isolation is required and SCHED_FIFO is asked for, which cannot be had: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether benches are to be `SCHED_FIFO`: asked for, and without holes here.
    pub(crate) fn fifo(&self) -> bool {
        self.ground.get().is_some_and(|ground| matches!(ground.fifo, Some(Ok(_))))
    }

    /// Waits until the core has been left to others for long enough after the last run, where the kernel would otherwise
    /// stop the next one for it.
    pub(crate) async fn rest(&self) {
        let until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }

    /// A run, or all that was run without a rest, is over after so long.
    pub(crate) fn ran(&self, run: Duration) {
        let fifo = self.ground.get().and_then(|ground| ground.fifo.as_ref());
        if matches!(fifo, Some(Ok(FifoUse::WithRests))) {
            let until = Instant::now() + rest_after(run);
            *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
    }

    pub(crate) fn level(&self) -> Option<IsolationLevel> {
        self.level.get().map(|(level, _)| *level)
    }

    /// What was seen of its benches and done for them, in a line.
    pub(crate) fn facts(&self) -> Option<&str> {
        self.level.get().map(|(_, facts)| facts.as_str())
    }

    /// A CPU that a bench was seen on and does not have, since this was asked last.
    pub(crate) fn take_astray(&self) -> Option<u32> {
        self.astray_on.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set_astray(&self, cpu: u32) {
        *self.astray_on.lock().unwrap_or_else(PoisonError::into_inner) = Some(cpu);
    }
}

/// Where the invocations of an attempt run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placing<'a> {
    pub(crate) granted: &'a Granted,
    pub(crate) isolation: Isolation,
    pub(crate) layout: Layout,
    pub(crate) placed: &'a Placed,
}

impl Placing<'_> {
    /// Whether the bench needs a cpuset of its own: also where everything else has been moved into one, which is not
    /// where it may run.
    pub(crate) fn wants_cpuset(&self) -> bool {
        let shielded = self.placed.ground.get().is_some_and(|ground| ground.taken.shielded);
        shielded || (self.must_be_isolated() && !self.is_isolated())
    }

    /// Whether nothing is measured without isolation.
    pub(crate) fn must_be_isolated(&self) -> bool {
        self.isolation == Isolation::Required
    }

    /// Whether benches get no huge pages.
    pub(crate) fn no_huge_pages(&self) -> bool {
        self.placed.ground.get().is_some_and(|ground| ground.no_huge_pages)
    }

    fn is_isolated(&self) -> bool {
        self.granted.isolated || self.placed.ground.get().is_some_and(Ground::is_partition)
    }

    /// Looks closely at a bench that is held in its place, where it must be isolated. Says why it must not begin.
    pub(crate) fn check_held(&self, held: &Started) -> Result<(), String> {
        if self.must_be_isolated() { self.check_closely(held) } else { Ok(()) }
    }

    /// Looks whether a bench that has just started is where it should be: by one system call for the first of an attempt;
    /// one that must be isolated was looked at before. Says why its measurement would be worth nothing.
    pub(crate) fn check_start(&self, started: &Started) -> Result<(), String> {
        if self.is_first() {
            return self.judge(glance_at_placement(started.pid, &self.granted.cpus)).map(|_| ());
        }
        Ok(())
    }

    /// Looks closely at the first bench of an attempt, unless it is over soon, and tells that it runs; looks at every one
    /// from time to time, and remembers a CPU that it should not be on. Returns only to say why its measurement would be
    /// worth nothing.
    pub(crate) async fn watch(&self, started: &Started, first: bool) -> String {
        if first {
            tokio::time::sleep(LOOK_AFTER).await;
            // One that must be isolated may have threads by now, which are to be where it was.
            if (self.is_first() || self.must_be_isolated())
                && let Err(why) = self.check_closely(started)
            {
                return why;
            }
            // If too much is to be told, it is told with the result.
            let _ = self.placed.tell.try_send(Progress::Placed(self.placed.attempt));
        }
        let host = HostFs::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(cpu) = last_cpu(&host, started.pid).filter(|cpu| !self.granted.cpus.contains(*cpu)) {
                self.placed.set_astray(cpu);
            }
        }
    }

    /// The bench is over: what the launcher said of it stands, if it was not looked at closely.
    pub(crate) fn is_over(&self, started: &Started) {
        if self.is_first() {
            self.keep(started, None);
        }
    }

    /// Whether nothing is known yet of this attempt's benches.
    pub(crate) fn is_first(&self) -> bool {
        self.placed.level.get().is_none()
    }

    /// Checks everything that the kernel says of the bench, and keeps what that comes to.
    fn check_closely(&self, started: &Started) -> Result<(), String> {
        let seen = verify_placement(&HostFs::default(), started.pid, &self.granted.cpus);
        let placement = self.judge(seen)?;
        match (self.isolation, self.level(started, placement.as_ref())) {
            (_, IsolationLevel::None) => return Err("the bench could not be bound to its cores".to_owned()),
            (Isolation::Required, IsolationLevel::Affinity) => {
                let partition = self.placed.ground.get().and_then(|ground| ground.taken.partition.as_ref());
                let why = match partition {
                    Some(Err(why)) => format!("; no partition: {why}"),
                    Some(Ok(())) | None => String::new(),
                };
                return Err(format!(
                    "isolation is required, and neither an isolated core, a cpuset nor SCHED_FIFO took effect \
                     (the sensor's `isolation` says what mends it){why}"
                ));
            }
            (
                Isolation::Required | Isolation::Preferred | Isolation::None,
                IsolationLevel::Affinity
                | IsolationLevel::Fifo
                | IsolationLevel::Cpuset
                | IsolationLevel::Isolated,
            ) => {}
        }
        if let (Isolation::Required, Some(placement)) = (self.isolation, &placement) {
            self.check_rest(started, placement)?;
        }
        self.keep(started, placement.as_ref());
        Ok(())
    }

    /// What else was asked for must have taken, if nothing may be measured without it.
    fn check_rest(&self, started: &Started, seen: &Placement) -> Result<(), String> {
        let refused = |what: String| Err(format!("isolation is required, and {what}"));
        if !seen.no_new_privs {
            return refused("a thread of the bench may gain privileges".to_owned());
        }
        if let Some(nodes) = seen.nodes.as_ref().filter(|_| started.took.cpuset) {
            let node = self.granted.node.0;
            if nodes.iter().any(|other| other != node) {
                return refused(format!(
                    "its memory may come from nodes {nodes}; its cores are of node {node}"
                ));
            }
        }
        if !self.granted.isolated && self.is_isolated() && seen.cgroup.is_none() {
            return refused("the bench is not in the partition that was made for it".to_owned());
        }
        if self.placed.fifo() && seen.fifo_priority.is_none() {
            return refused("the bench is not SCHED_FIFO, as the kernel says".to_owned());
        }
        Ok(())
    }

    fn level(&self, started: &Started, seen: Option<&Placement>) -> IsolationLevel {
        let granted = Granted { isolated: self.is_isolated(), ..self.granted.clone() };
        isolation_level(&granted, started.took, seen)
    }

    /// Keeps what was seen. Of an attempt that is told of already the first word stands: later benches are well off too.
    fn keep(&self, started: &Started, seen: Option<&Placement>) {
        let level = self.level(started, seen);
        let _ = self.placed.level.set((level, self.facts(started, seen)));
    }

    /// What took, in a line for people.
    fn facts(&self, started: &Started, seen: Option<&Placement>) -> String {
        let mut facts = vec![format!("CPUs {} of node {}", self.granted.cpus, self.granted.node.0)];
        match seen {
            Some(seen) => {
                facts.push(match seen.fifo_priority {
                    Some(priority) => format!("SCHED_FIFO {priority}"),
                    None => "ordinary class".to_owned(),
                });
                let group = seen.cpuset.as_ref().filter(|_| started.took.cpuset).or(seen.cgroup.as_ref());
                facts.extend(group.map(|group| format!("in {group}")));
                let plural = if seen.threads == 1 { "" } else { "s" };
                facts.push(format!("{} thread{plural} read back", seen.threads));
            }
            None => facts.push("over before it was read back".to_owned()),
        }
        if self.layout == Layout::Fixed {
            facts.push("fixed layout".to_owned());
        }
        if let Some(ground) = self.placed.ground.get() {
            match &ground.taken.partition {
                Some(Ok(())) => facts.push("an isolated partition".to_owned()),
                Some(Err(why)) => facts.push(format!("no partition: {why}")),
                None => {}
            }
            if ground.taken.shielded {
                facts.push("shielded".to_owned());
            }
            if let Some(Err(why)) = &ground.fifo {
                facts.push(format!("no SCHED_FIFO: {why}"));
            }
            if ground.no_huge_pages {
                facts.push("no huge pages".to_owned());
            }
            facts.extend(ground.taken.facts.iter().cloned());
        }
        facts.join("; ")
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

/// The CPU that the process's first thread ran on last; none if it is gone, or hidden.
fn last_cpu(host: &HostFs, pid: u32) -> Option<u32> {
    let text = host.read(format!("/proc/{pid}/stat")).ok()?;
    TaskStat::parse(&text)?.field(39)?.parse().ok()
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
        Placed::new(attempt, mpsc::channel(1).0, Arc::default())
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
            let placing =
                Placing { granted: &elsewhere, isolation, layout: Layout::Randomized, placed: &placed };
            assert!(placing.check_start(&plain).unwrap_err().contains("discarded"), "{isolation:?}");
            assert!(placing.watch(&plain, true).await.contains("discarded"), "{isolation:?}");
            assert_eq!(placed.level(), None);
        }
        for isolation in [Isolation::None, Isolation::Preferred] {
            let placed = placed();
            let placing = Placing { granted: &there, isolation, layout: Layout::Randomized, placed: &placed };
            assert_eq!((placing.check_start(&plain), placed.level()), (Ok(()), None));
            assert_eq!(
                (placing.check_closely(&plain), placed.level()),
                (Ok(()), Some(IsolationLevel::Affinity))
            );
        }
        let required = |took| {
            let placed = placed();
            let placing = Placing {
                granted: &there,
                isolation: Isolation::Required,
                layout: Layout::Randomized,
                placed: &placed,
            };
            placing.check_held(&Started { took, ..plain })
        };
        assert!(required(plain.took).unwrap_err().contains("neither an isolated core"));
        assert!(required(Took { cpuset: true, ..plain.took }).is_err(), "nobody sees the launcher's cpuset");
        bench.kill().unwrap();
        bench.wait().unwrap();
        let placed = placed();
        let placing = Placing {
            granted: &elsewhere,
            isolation: Isolation::Preferred,
            layout: Layout::Randomized,
            placed: &placed,
        };
        assert_eq!((placing.check_start(&plain), placed.level()), (Ok(()), None), "it is gone already");
        placing.is_over(&plain);
        assert_eq!(placed.level(), Some(IsolationLevel::Affinity));
    }

    #[test]
    fn sees_where_a_process_ran_last() {
        let host = HostFs::default();
        let cpu = last_cpu(&host, std::process::id()).unwrap();
        assert!(std::fs::exists(format!("/sys/devices/system/cpu/cpu{cpu}")).unwrap(), "CPU {cpu}");
        let folder = tempfile::tempdir().unwrap();
        let recorded = HostFs::new(folder.path());
        std::fs::create_dir_all(folder.path().join("proc/7")).unwrap();
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        std::fs::write(folder.path().join("proc/7/stat"), format!("7 (a ) b) R {}", fields.join(" ")))
            .unwrap();
        assert_eq!((last_cpu(&recorded, 7), last_cpu(&recorded, 8)), (Some(39), None));
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
