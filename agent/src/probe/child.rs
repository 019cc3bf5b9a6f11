//! The loop's own process: the agent's binary, started as a bench.

use std::hint::black_box;
use std::io::{self, Write as _};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use darwin_agent_core::probe::capacity::{
    KERNEL_ROUNDS, KERNEL_SEED, LATENCY_RESULT, WIDTH_RESULT, latency_kernel, times, width_kernel,
};
use darwin_agent_core::probe::causes::causes;
use darwin_agent_core::probe::interrupts::Interrupts;
use darwin_agent_core::probe::recorder::{Around, GapRecorder};
use darwin_agent_core::probe::watch::watch;
use darwin_shared::cpu::CpuSet;
use darwin_shared::probe::{Gap, KernelTimes};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::plan::{CpuReading, LoopPlan, LoopReadings};
use super::sys;
use crate::host::{HostFs, StatSample};

/// The first argument that turns the agent's binary into a loop.
pub(super) const LOOP_ARG: &str = "__probe-loop";
/// The longest that a `SCHED_FIFO` loop keeps a core from others: below the 0.95 s after which the kernel takes it.
pub(crate) const SLICE: Duration = Duration::from_millis(800);
/// What it leaves them after that.
const PAUSE: Duration = Duration::from_millis(200);
/// For so long the time stamp counter is held against the kernel's clock.
const CALIBRATION: Duration = Duration::from_millis(10);
/// Readings of both clocks of which the closest pair counts.
const CALIBRATION_TRIES: usize = 9;
/// Each kernel runs so often at most, and at least.
const KERNEL_RUNS: std::ops::RangeInclusive<usize> = 5..=50;
/// Ticks of `/proc/stat` in a second: the kernel's own constant towards programs.
const STAT_HZ: f64 = 100.0;

/// Becomes the loop if the process was started as one, and then never returns.
pub(crate) fn main_if_asked() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().is_none_or(|argument| argument != LOOP_ARG) {
        return;
    }
    let done = match arguments.next().map(|plan| serde_json::from_str::<LoopPlan>(&plan)) {
        Some(Ok(plan)) => run(&plan).and_then(|readings| write(&plan, &readings)),
        Some(Err(error)) => Err(format!("its plan cannot be read: {error}")),
        None => Err("it has no plan".to_owned()),
    };
    if let Err(why) = done {
        // Nobody is left to tell if this fails too.
        let _ = writeln!(io::stderr(), "darwin probe: {why}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

fn write(plan: &LoopPlan, readings: &LoopReadings) -> Result<(), String> {
    let json = serde_json::to_vec(readings).map_err(|error| error.to_string())?;
    std::fs::write(&plan.output, json).map_err(|error| format!("its result cannot be written: {error}"))
}

/// Watches all CPUs of the plan at once, then times the kernels on all of them.
pub(super) fn run(plan: &LoopPlan) -> Result<LoopReadings, String> {
    let clock = Clock::choose();
    let fifo = sys::fifo_priority();
    let meeting = &Barrier::new(plan.cpus.len());
    let Some((first, others)) = plan.cpus.split_first() else {
        return Err("it has no CPU to run on".to_owned());
    };
    let (watched, counted) = thread::scope(|scope| {
        let workers: Vec<_> = others
            .iter()
            .map(|cpu| scope.spawn(move || on_cpu(*cpu, plan, clock, fifo, meeting, || (), || ())))
            .collect();
        let mut counted = (Counted::default(), Counted::default());
        let mine = on_cpu(
            *first,
            plan,
            clock,
            None,
            meeting,
            || counted.0 = Counted::read(&plan.cpus),
            || counted.1 = Counted::read(&plan.cpus),
        );
        let mut all = vec![mine];
        for worker in workers {
            all.push(worker.join().unwrap_or_else(|_| Err("one of its threads broke down".to_owned())));
        }
        (all, counted)
    });
    let watched: Vec<Watched> = watched.into_iter().collect::<Result<_, _>>()?;
    let cpus = watched.into_iter().map(|watched| watched.reading(plan, &counted)).collect();
    Ok(LoopReadings { tsc: clock.is_tsc(), cpus })
}

/// What one thread saw.
struct Watched {
    cpu: u32,
    fifo: bool,
    recorder: GapRecorder,
    observed_ns: u64,
    wall_ns: u64,
    involuntary_switches: u64,
    kernels: Option<(KernelTimes, KernelTimes)>,
}

/// One thread on its CPU. All threads meet before and after they watch; the first one reads the counters there.
fn on_cpu(
    cpu: u32,
    plan: &LoopPlan,
    clock: Clock,
    fifo: Option<libc::c_int>,
    meeting: &Barrier,
    before: impl FnOnce(),
    after: impl FnOnce(),
) -> Result<Watched, String> {
    let settled = settle(cpu, fifo);
    let is_fifo = sys::fifo_priority().is_some();
    let slice = if is_fifo && plan.shares_core { SLICE } else { Duration::MAX };
    let mut recorder = GapRecorder::new();
    before();
    meeting.wait();
    let switches = involuntary_switches();
    let begin = clock.now();
    let observed = watch_in_slices(plan, clock, slice, &mut recorder);
    let wall_ns = clock.ns(clock.now().saturating_sub(begin));
    let involuntary_switches = involuntary_switches().saturating_sub(switches);
    meeting.wait();
    after();
    // Only now: a thread that left the others early would leave them waiting.
    settled?;
    if slice < Duration::MAX {
        thread::sleep(PAUSE);
    }
    let kernels = time_kernels(Duration::from_nanos(plan.capacity_ns))?;
    let observed_ns = clock.ns(observed);
    Ok(Watched { cpu, fifo: is_fifo, recorder, observed_ns, wall_ns, involuntary_switches, kernels })
}

/// Binds the thread to its CPU, and puts it under the policy of the first one.
fn settle(cpu: u32, fifo: Option<libc::c_int>) -> Result<(), String> {
    let mut mask = nix::sched::CpuSet::new();
    mask.set(cpu as usize)
        .and_then(|()| nix::sched::sched_setaffinity(Pid::from_raw(0), &mask))
        .map_err(|errno| format!("it cannot be bound to CPU {cpu}: {}", errno.desc()))?;
    match fifo.map(sys::set_fifo) {
        Some(Err(error)) => Err(format!("its threads cannot be put under SCHED_FIFO: {error}")),
        Some(Ok(())) | None => Ok(()),
    }
}

/// Watches, with a pause after each slice; gives the ticks in which it was watched.
fn watch_in_slices(plan: &LoopPlan, clock: Clock, slice: Duration, recorder: &mut GapRecorder) -> u64 {
    let mut left_ns = plan.watch_ns;
    let slice_ns = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    let threshold = clock.ticks(plan.threshold_ns);
    let origin = clock.now();
    let mut observed = 0;
    loop {
        let now_ns = left_ns.min(slice_ns);
        let record = |start: u64, length: u64| {
            let gap = Gap { start_ns: clock.ns(start.saturating_sub(origin)), length_ns: clock.ns(length) };
            recorder.record(gap);
        };
        observed += match clock {
            #[cfg(target_arch = "x86_64")]
            Clock::Tsc { .. } => watch(&mut sys::time_stamp, clock.ticks(now_ns), threshold, record),
            Clock::Kernel => watch(&mut monotonic_ns, now_ns, threshold, record),
        };
        left_ns = left_ns.saturating_sub(now_ns);
        if left_ns == 0 {
            return observed;
        }
        thread::sleep(PAUSE);
    }
}

/// How often this thread was put off its CPU for somebody else; 0 where the kernel does not say.
fn involuntary_switches() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).map(|usage| usage.involuntary_context_switches());
    usage.ok().and_then(|switches| u64::try_from(switches).ok()).unwrap_or(0)
}

/// Runs both kernels in turn for about this long, each in the thread's CPU time.
fn time_kernels(budget: Duration) -> Result<Option<(KernelTimes, KernelTimes)>, String> {
    if budget.is_zero() {
        return Ok(None);
    }
    let (mut width, mut latency) = (Vec::new(), Vec::new());
    let begin = monotonic_ns();
    while width.len() < *KERNEL_RUNS.start()
        || (width.len() < *KERNEL_RUNS.end()
            && u128::from(monotonic_ns().saturating_sub(begin)) < budget.as_nanos())
    {
        width.push(time_kernel(width_kernel, WIDTH_RESULT)?);
        latency.push(time_kernel(latency_kernel, LATENCY_RESULT)?);
    }
    Ok(times(&width).zip(times(&latency)))
}

fn time_kernel(kernel: fn(u64, u32) -> u64, wanted: u64) -> Result<u64, String> {
    let begin = thread_cpu_ns();
    let result = black_box(kernel(black_box(KERNEL_SEED), black_box(KERNEL_ROUNDS)));
    let taken = thread_cpu_ns().saturating_sub(begin);
    if result == wanted {
        Ok(taken)
    } else {
        Err("a kernel gave a wrong result: the CPU cannot be trusted".to_owned())
    }
}

fn thread_cpu_ns() -> u64 {
    read_clock(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn monotonic_ns() -> u64 {
    read_clock(ClockId::CLOCK_MONOTONIC)
}

/// A clock of the kernel's, in nanoseconds; every Linux has the two that are asked for.
fn read_clock(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let (seconds, nanos) = (time.tv_sec(), time.tv_nsec());
        u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(nanos).unwrap_or(0)
    })
}

/// What the loop reads the time by.
#[derive(Debug, Clone, Copy)]
enum Clock {
    /// The processor's counter.
    #[cfg(target_arch = "x86_64")]
    Tsc { ticks_per_ns: f64 },
    /// `CLOCK_MONOTONIC`; its ticks are nanoseconds.
    Kernel,
}

impl Clock {
    /// The counter, where it ticks at one rate whatever the core does; else the kernel's clock.
    fn choose() -> Self {
        #[cfg(target_arch = "x86_64")]
        if counter_is_steady(&HostFs::default().read_head("/proc/cpuinfo", CPUINFO_BYTES).unwrap_or_default())
        {
            let (counter, kernel) = both_clocks();
            thread::sleep(CALIBRATION);
            let (counter_later, kernel_later) = both_clocks();
            let ticks = counter_later.saturating_sub(counter);
            let ns = kernel_later.saturating_sub(kernel);
            if ticks > 0 && ns > 0 {
                return Self::Tsc { ticks_per_ns: ticks as f64 / ns as f64 };
            }
        }
        Self::Kernel
    }

    fn now(self) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tsc { .. } => sys::time_stamp(),
            Self::Kernel => monotonic_ns(),
        }
    }

    const fn is_tsc(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tsc { .. } => true,
            Self::Kernel => false,
        }
    }

    fn ticks(self, ns: u64) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tsc { ticks_per_ns } => scaled(ns, ticks_per_ns),
            Self::Kernel => ns,
        }
    }

    fn ns(self, ticks: u64) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tsc { ticks_per_ns } => scaled(ticks, 1.0 / ticks_per_ns),
            Self::Kernel => ticks,
        }
    }
}

/// Enough for the first CPU's entry.
#[cfg(target_arch = "x86_64")]
const CPUINFO_BYTES: u64 = 8192;

#[cfg(target_arch = "x86_64")]
fn scaled(value: u64, factor: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both factors are positive, and the cast is held at the ends of the range"
    )]
    let scaled = (value as f64 * factor) as u64;
    scaled
}

/// Whether the counter neither follows the frequency nor stops when the core sleeps.
#[cfg(target_arch = "x86_64")]
fn counter_is_steady(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    let has =
        |flag: &str| flags.is_some_and(|(_, flags)| flags.split_whitespace().any(|known| known == flag));
    has("constant_tsc") && has("nonstop_tsc")
}

/// Both clocks at nearly the same time: of several tries the one in which the kernel's took least.
#[cfg(target_arch = "x86_64")]
fn both_clocks() -> (u64, u64) {
    let tries = (0..CALIBRATION_TRIES).map(|_| {
        let (before, kernel, after) = (sys::time_stamp(), monotonic_ns(), sys::time_stamp());
        let took = after.saturating_sub(before);
        (took, before + took / 2, kernel)
    });
    tries.min().map_or((0, 0), |(_, counter, kernel)| (counter, kernel))
}

/// What the kernel has counted for some CPUs.
#[derive(Debug, Default)]
struct Counted {
    interrupts: Vec<(u32, Interrupts)>,
    stat: Option<StatSample>,
}

impl Counted {
    fn read(cpus: &[u32]) -> Self {
        let host = HostFs::default();
        let text = host.read("/proc/interrupts").unwrap_or_default();
        let interrupts =
            cpus.iter().filter_map(|cpu| Some((*cpu, Interrupts::parse(&text, *cpu)?))).collect();
        Self { interrupts, stat: StatSample::read(&host).ok() }
    }

    fn interrupts_of(&self, cpu: u32) -> Option<&Interrupts> {
        self.interrupts.iter().find(|(of, _)| *of == cpu).map(|(_, interrupts)| interrupts)
    }
}

impl Watched {
    fn reading(self, plan: &LoopPlan, (before, after): &(Counted, Counted)) -> CpuReading {
        let gaps = self.recorder.count();
        let counted = before.interrupts_of(self.cpu).zip(after.interrupts_of(self.cpu));
        let causes = counted.map_or_else(Vec::new, |(before, after)| {
            causes(gaps, &after.since(before), self.involuntary_switches)
        });
        let around = Around {
            involuntary_switches: self.involuntary_switches,
            steal_share: self.steal_share(before, after),
            causes,
        };
        CpuReading {
            cpu: self.cpu,
            fifo: self.fifo,
            gaps: self.recorder.summary(self.observed_ns, plan.threshold_ns, around),
            kernels: self.kernels,
        }
    }

    /// What the hypervisor says to have taken, of the time that the watch took.
    fn steal_share(&self, before: &Counted, after: &Counted) -> Option<f64> {
        let mut only = CpuSet::new();
        only.insert(self.cpu).ok()?;
        let steal_ticks = after.stat.as_ref()?.since(before.stat.as_ref()?, &only).steal_ticks;
        let seconds = self.wall_ns as f64 / 1e9;
        (seconds > 0.0).then(|| (steal_ticks as f64 / STAT_HZ / seconds).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What this test may run on.
    fn allowed() -> Vec<u32> {
        let mask = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
        let all = (0..nix::sched::CpuSet::count()).filter(|&cpu| mask.is_set(cpu).unwrap());
        all.map(|cpu| u32::try_from(cpu).unwrap()).take(2).collect()
    }

    #[test]
    fn a_real_probe_gives_sane_values() {
        let cpus = allowed();
        let plan = LoopPlan {
            cpus: cpus.clone(),
            watch_ns: 300_000_000,
            threshold_ns: 1_000,
            capacity_ns: 20_000_000,
            shares_core: true,
            output: "/dev/null".into(),
        };
        // On a thread of its own, for it binds itself.
        let readings = thread::spawn(move || run(&plan).unwrap()).join().unwrap();
        assert_eq!(readings.cpus.iter().map(|cpu| cpu.cpu).collect::<Vec<_>>(), cpus);
        for CpuReading { cpu, gaps, kernels, .. } in &readings.cpus {
            println!("CPU {cpu}: {gaps:?} {kernels:?}");
            // No core of a box that has a kernel is left alone for 0.3 s while tests run.
            assert!(gaps.rate_per_s > 0.0, "{gaps:?}");
            assert!((0.0..=1.0).contains(&gaps.stolen_share));
            assert!(gaps.steal_share.is_none_or(|share| (0.0..=1.0).contains(&share)));
            assert!(gaps.causes.iter().all(|cause| (0.0..=1.0).contains(&cause.share)));
            assert!([gaps.p50_ns, gaps.p90_ns, gaps.p99_ns, gaps.p99_9_ns, gaps.max_ns].is_sorted());
            assert!(gaps.p50_ns > 0 && gaps.observed_ns > 0);
            let (width, latency) = kernels.unwrap();
            assert!(width.min_ns > 0 && latency.min_ns > 0 && width.runs >= 5);
        }
        assert_eq!(readings.tsc, cfg!(target_arch = "x86_64") && Clock::choose().is_tsc());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_counter_is_taken_only_where_it_is_steady() {
        assert!(counter_is_steady("model name : x\nflags\t\t: fpu constant_tsc nonstop_tsc sse\n"));
        assert!(!counter_is_steady("flags\t\t: fpu constant_tsc sse\n"));
        assert!(!counter_is_steady(""));
    }

    #[test]
    fn ticks_and_nanoseconds_are_two_sides_of_one_time() {
        let clock = Clock::choose();
        for ns in [1_000, 200_000_000, 86_400_000_000_000] {
            assert!(clock.ns(clock.ticks(ns)).abs_diff(ns) <= 1 + ns / 1_000_000);
        }
    }
}
