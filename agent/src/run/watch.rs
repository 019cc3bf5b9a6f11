//! The gate during a round: counters of its CPUs, read just before it and just after it.
//!
//! Nothing is read while a bench runs, and everything from the housekeeping cores. What cannot be read voids nothing.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use darwin_agent_core::cpu_alloc::Granted;
use darwin_agent_core::disturbance::{Counted, VoidLimits, causes};
use darwin_agent_core::interrupts::{InterruptLine, InterruptTable};
use darwin_shared::cpu::CpuSet;
use darwin_shared::formats::Format;
use darwin_shared::spec::JobSpec;
use darwin_shared::usage::Usage;
use darwin_shared::void::VoidCause;

use crate::host::{HostFs, StatSample, Throttled, throttle_count};

/// Rounds shorter than this are not watched: the kernel counts a CPU's time in ticks of 10 ms, so that nothing could be
/// said of them, and reading would make them dearer.
const WORTH_A_LOOK: Duration = Duration::from_millis(20);
/// The reading may cost so many times less than the round that it is for; else the dear part of it is left out.
const COST_PART: u32 = 50;
/// The most that is read of `/proc/interrupts`: it has a line for each interrupt and a column for each CPU.
const INTERRUPTS_MAX_BYTES: u64 = 1 << 20;

/// Watches the rounds of one attempt.
#[derive(Debug)]
pub(crate) struct Watch {
    limits: VoidLimits,
    /// Where benches run.
    leased: CpuSet,
    /// Those, and the siblings that are kept idle for them.
    claimed: CpuSet,
    /// How long a tick of `/proc/stat` is.
    tick: Duration,
    /// Whether there is anything to compare with, or a result that others read.
    is_worth_it: bool,
    /// Whether what the hypervisor takes from a process can be counted here.
    tells_stolen_time: bool,
    known: Mutex<Known>,
}

/// What earlier rounds have shown.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// How long the last round was; none before the first.
    round: Option<Duration>,
    /// What it took to read `/proc/interrupts`.
    interrupts_cost: Duration,
}

/// What was read before a round.
#[derive(Debug)]
pub(crate) struct Before {
    at: Instant,
    /// None of a round that is not worth a look.
    sample: Option<Sample>,
}

/// One reading.
#[derive(Debug)]
struct Sample {
    at: Instant,
    stat: Option<StatSample>,
    interrupts: Option<u64>,
    throttlings: Option<u64>,
    swapped_pages: Option<u64>,
    interrupts_cost: Duration,
}

impl Watch {
    pub(crate) fn new(
        mut limits: VoidLimits,
        granted: &Granted,
        spec: &JobSpec,
        tells_stolen_time: bool,
    ) -> Self {
        if spec.work.has_images() {
            // Around each container the daemon works too, some of it on these CPUs, while no bench is timed.
            limits.forgive("foreign");
        }
        // A single run of a command, timed as a whole, is an errand and no measurement: it is not to cost more.
        let is_worth_it = spec.budget.rounds_max > 1 || spec.format != Format::Process;
        Self {
            limits,
            leased: granted.cpus.clone(),
            claimed: granted.cpus.union(&granted.siblings_idle),
            tick: tick(),
            is_worth_it,
            tells_stolen_time,
            known: Mutex::new(Known::default()),
        }
    }

    /// Whether it is counted for each process what the hypervisor takes from it.
    pub(crate) const fn counts_stolen(&self) -> bool {
        self.is_worth_it && self.tells_stolen_time && self.limits.stolen.is_some()
    }

    /// Reads the counters before a round.
    pub(crate) async fn before(&self) -> Before {
        let known = self.known();
        let worth_a_look = self.is_worth_it && known.round.is_none_or(|round| round >= WORTH_A_LOOK);
        let sample = if worth_a_look { self.sample(known).await } else { None };
        Before { at: Instant::now(), sample }
    }

    /// Reads them again after the round, and says why it is void, the gravest cause first; nothing if it is clean.
    pub(crate) async fn after(
        &self,
        before: Before,
        used: impl Iterator<Item = Usage>,
        astray_on: Option<u32>,
    ) -> Vec<VoidCause> {
        let round = before.at.elapsed();
        let known = self.known();
        let mut counted = Counted { wall: round, astray_on, ..Counted::default() };
        // Of all its processes, or it says too little.
        let mut stolen_ns = self.counts_stolen().then_some(0u64);
        for usage in used {
            stolen_ns = stolen_ns.zip(usage.stolen_ns.known()).map(|(sum, more)| sum.saturating_add(more));
            counted.own += Duration::from_nanos(usage.cpu_ns());
            counted.switches = counted.switches.saturating_add(usage.involuntary_switches);
            counted.major_faults = counted.major_faults.saturating_add(usage.major_faults);
        }
        counted.stolen_from_bench = stolen_ns.map(Duration::from_nanos);
        if let Some(earlier) = before.sample
            && let Some(later) = self.sample(known).await
        {
            self.count(&earlier, &later, &mut counted);
            self.learn(Known { round: Some(round), interrupts_cost: later.interrupts_cost });
        } else {
            self.learn(Known { round: Some(round), ..known });
        }
        if self.is_worth_it { causes(&self.limits, &counted) } else { Vec::new() }
    }

    /// What was added between two readings.
    fn count(&self, earlier: &Sample, later: &Sample, counted: &mut Counted) {
        counted.wall = later.at.duration_since(earlier.at);
        if let (Some(earlier), Some(later)) = (&earlier.stat, &later.stat) {
            let ticks = |ticks: u64| self.tick.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
            counted.busy = Some(ticks(later.since(earlier, &self.claimed).busy_ticks));
            counted.stolen = Some(ticks(later.since(earlier, &self.leased).steal_ticks));
        }
        let added = |earlier: Option<u64>, later: Option<u64>| Some(later?.saturating_sub(earlier?));
        counted.interrupts = added(earlier.interrupts, later.interrupts);
        counted.throttlings = added(earlier.throttlings, later.throttlings);
        counted.swapped_pages = added(earlier.swapped_pages, later.swapped_pages);
    }

    /// Reads what the limits ask for, off the thread that passes turns and messages; none if nothing could be read.
    async fn sample(&self, known: Known) -> Option<Sample> {
        let (limits, leased) = (self.limits, self.leased.clone());
        let affordable =
            known.round.is_none_or(|round| known.interrupts_cost.saturating_mul(COST_PART) <= round);
        let read = move || {
            let host = HostFs::default();
            let wants_times = limits.foreign.is_some() || limits.stolen.is_some();
            let stat = if wants_times { StatSample::read(&host).ok() } else { None };
            let began = Instant::now();
            let wants_interrupts = limits.interrupts.is_some() && affordable;
            let interrupts = if wants_interrupts { device_interrupts(&host, &leased) } else { None };
            let cost = if wants_interrupts { began.elapsed() } else { known.interrupts_cost };
            let throttlings = limits.throttlings.and_then(|_| throttlings(&host, &leased));
            let swapped_pages = limits.swapped_pages.and_then(|_| swapped_pages(&host));
            let at = Instant::now();
            Sample { at, stat, interrupts, throttlings, swapped_pages, interrupts_cost: cost }
        };
        tokio::task::spawn_blocking(read).await.ok()
    }

    fn known(&self) -> Known {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

/// How long a tick of `/proc/stat` is.
fn tick() -> Duration {
    /// What every Linux has shown for decades.
    const USUAL_PER_SECOND: u32 = 100;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    let per_second = per_second.and_then(|ticks| u32::try_from(ticks).ok()).filter(|ticks| *ticks > 0);
    Duration::from_secs(1) / per_second.unwrap_or(USUAL_PER_SECOND)
}

/// Interrupts of devices on these CPUs, since the box started.
fn device_interrupts(host: &HostFs, cpus: &CpuSet) -> Option<u64> {
    let text = host.read_head("/proc/interrupts", INTERRUPTS_MAX_BYTES).ok()?;
    // A table that is cut off would count less with each column that grows.
    let whole = u64::try_from(text.len()).is_ok_and(|bytes| bytes + 1 < INTERRUPTS_MAX_BYTES);
    if whole { count_interrupts(&text, cpus) } else { None }
}

fn count_interrupts(text: &str, cpus: &CpuSet) -> Option<u64> {
    let table = InterruptTable::of(text, |cpu| cpus.contains(cpu)).filter(|table| !table.is_empty())?;
    let mut total: u64 = 0;
    for line in table.lines().filter(InterruptLine::is_of_a_device) {
        for count in table.counts(line) {
            total = total.saturating_add(count?);
        }
    }
    Some(total)
}

/// How often these CPUs were throttled, since the box started; those of a package count for it once.
fn throttlings(host: &HostFs, cpus: &CpuSet) -> Option<u64> {
    let read = |cpu, what| throttle_count(host, cpu, what).ok();
    let of_cores: Option<u64> = cpus.iter().map(|cpu| read(cpu, Throttled::Core)).sum();
    Some(of_cores?.saturating_add(read(cpus.first()?, Throttled::Package).unwrap_or(0)))
}

/// Pages that were swapped in or out, since the box started.
fn swapped_pages(host: &HostFs) -> Option<u64> {
    let text = host.read("/proc/vmstat").ok()?;
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(of("pswpin ")?.saturating_add(of("pswpout ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn counts_the_devices_of_the_leased_columns() {
        let text = "            CPU0       CPU1       CPU4\n  0:         10          2          3   IO-APIC    2-edge  timer\n \
                    24:        100        200        400   PCI-MSI 1-edge  virtio0\nLOC:   9   9   9   Local timer\nERR: 0\n";
        assert_eq!(count_interrupts(text, &set("1")), Some(202));
        assert_eq!(count_interrupts(text, &set("0,4")), Some(513), "columns are not numbers of CPUs");
        assert_eq!(count_interrupts(text, &set("2")), None);
        assert_eq!(count_interrupts("", &set("0")), None);
        assert_eq!(count_interrupts("CPU0\n 1: x\n", &set("0")), None, "what is not understood is not known");
    }

    #[test]
    fn reads_throttlings_and_swapped_pages() {
        let folder = tempfile::tempdir().unwrap();
        let host = HostFs::new(folder.path());
        assert_eq!((throttlings(&host, &set("1-2")), swapped_pages(&host)), (None, None));
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (cpu, count) in [(1, "3\n"), (2, "4\n")] {
            let at = format!("sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
            write(&format!("{at}/core_throttle_count"), count);
            write(&format!("{at}/package_throttle_count"), "10\n");
        }
        write("proc/vmstat", "pgfault 7\npswpin 20\npswpout 22\n");
        assert_eq!((throttlings(&host, &set("1-2")), swapped_pages(&host)), (Some(17), Some(42)));
    }

    #[test]
    fn this_box_is_read() {
        let host = HostFs::default();
        assert!(tick() > Duration::ZERO && tick() <= Duration::from_millis(100));
        let stat = StatSample::read(&host).unwrap();
        assert!(stat.cpus() > 0);
        if host.exists("/proc/interrupts") {
            assert!(device_interrupts(&host, &set("0")).is_some());
        }
    }
}
