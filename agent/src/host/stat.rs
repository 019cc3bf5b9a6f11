//! `/proc/stat`: where each CPU's time went; and how long the box is up.

use std::collections::BTreeMap;

use darwin_shared::cpu::CpuSet;
use thiserror::Error;

use super::fs::{HostFs, ReadError};

/// Ticks that a CPU spent, counted since the box started. The tick's length cancels out in every share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTimes {
    /// Running anything: user, nice, system, interrupts.
    pub busy_ticks: u64,
    /// Idle or waiting for I/O.
    pub idle_ticks: u64,
    /// Taken by the hypervisor for someone else.
    pub steal_ticks: u64,
}

impl CpuTimes {
    /// What was added since an earlier reading; counters that went backwards count as nothing.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            busy_ticks: self.busy_ticks.saturating_sub(earlier.busy_ticks),
            idle_ticks: self.idle_ticks.saturating_sub(earlier.idle_ticks),
            steal_ticks: self.steal_ticks.saturating_sub(earlier.steal_ticks),
        }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            busy_ticks: self.busy_ticks + other.busy_ticks,
            idle_ticks: self.idle_ticks + other.idle_ticks,
            steal_ticks: self.steal_ticks + other.steal_ticks,
        }
    }

    /// All ticks.
    pub const fn total_ticks(self) -> u64 {
        self.busy_ticks + self.idle_ticks + self.steal_ticks
    }
}

/// One reading of `/proc/stat`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatSample {
    per_cpu: BTreeMap<u32, CpuTimes>,
    /// Tasks that run or want to run, the reader among them.
    pub runnable: u64,
}

/// Why `/proc/stat` gave no sample.
#[derive(Debug, Error)]
pub enum StatError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A line is not what it should be.
    #[error("/proc/stat has the line `{line}`, which is not understood")]
    Line {
        /// The line, shortened.
        line: String,
    },
}

impl StatSample {
    /// Reads it now.
    pub fn read(host: &HostFs) -> Result<Self, StatError> {
        Self::parse(&host.read("/proc/stat")?)
    }

    fn parse(text: &str) -> Result<Self, StatError> {
        let mut sample = Self::default();
        for line in text.lines() {
            let odd = || StatError::Line { line: line.chars().take(60).collect() };
            let Some((name, rest)) = line.split_once(' ') else {
                continue;
            };
            if name == "procs_running" {
                sample.runnable = rest.trim().parse().map_err(|_| odd())?;
            }
            let Some(cpu) = name.strip_prefix("cpu").filter(|cpu| !cpu.is_empty()) else {
                continue;
            };
            let cpu = cpu.parse().map_err(|_| odd())?;
            let ticks: Result<Vec<u64>, _> = rest.split_whitespace().map(str::parse).collect();
            // user nice system idle iowait irq softirq steal; what follows is counted in user already.
            let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks.map_err(|_| odd())?[..]
            else {
                return Err(odd());
            };
            let times = CpuTimes {
                busy_ticks: [user, nice, system, irq, softirq].into_iter().fold(0, u64::saturating_add),
                idle_ticks: idle.saturating_add(iowait),
                steal_ticks: steal,
            };
            sample.per_cpu.insert(cpu, times);
        }
        Ok(sample)
    }

    /// CPUs that the kernel counts for.
    pub fn cpus(&self) -> usize {
        self.per_cpu.len()
    }

    /// What the given CPUs did since an earlier reading, summed.
    pub fn since(&self, earlier: &Self, cpus: &CpuSet) -> CpuTimes {
        let of = |cpu| Some(self.per_cpu.get(&cpu)?.since(*earlier.per_cpu.get(&cpu)?));
        cpus.iter().filter_map(of).fold(CpuTimes::default(), CpuTimes::plus)
    }
}

/// Seconds since the start of the box.
pub fn uptime_s(host: &HostFs) -> Result<f64, ReadError> {
    const PATH: &str = "/proc/uptime";
    let text = host.read(PATH)?;
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    first.ok_or_else(|| ReadError::Odd {
        path: PATH.into(),
        text: text.chars().take(60).collect(),
        expected: "seconds like `86400.00 0.00`",
    })
}

/// What slows down when it gets too hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttled {
    /// One core.
    Core,
    /// The whole package.
    Package,
}

/// How often a CPU's core or package was throttled, since the box started.
pub fn throttle_count(host: &HostFs, cpu: u32, what: Throttled) -> Result<u64, ReadError> {
    let what = match what {
        Throttled::Core => "core",
        Throttled::Package => "package",
    };
    host.parse(format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/{what}_throttle_count"), "a count")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = "cpu  30 0 30 300 0 0 0 3 0 0\ncpu0 10 1 10 100 5 1 1 1 0 0\ncpu1 10 0 10 100 0 0 0 1 0 0\n\
                           intr 5 1 2\nprocs_running 3";
    const LATER: &str = "cpu0 20 1 10 180 5 1 1 11 0 0\ncpu1 10 0 10 200 0 0 0 1 0 0\nprocs_running 1";

    #[test]
    fn counts_what_each_cpu_did_between_two_readings() {
        let (earlier, later) = (StatSample::parse(EARLIER).unwrap(), StatSample::parse(LATER).unwrap());
        assert_eq!((earlier.runnable, later.runnable), (3, 1));
        let cpu0 = later.since(&earlier, &"0".parse().unwrap());
        assert_eq!(cpu0, CpuTimes { busy_ticks: 10, idle_ticks: 80, steal_ticks: 10 });
        assert_eq!(later.since(&earlier, &"0-1,9".parse().unwrap()).total_ticks(), 200);
        assert_eq!(earlier.since(&later, &"0".parse().unwrap()), CpuTimes::default());
    }

    #[test]
    fn refuses_odd_lines() {
        for odd in ["cpu0 1 2 3", "cpux 1 2 3 4 5 6 7 8", "cpu0 a 2 3 4 5 6 7 8", "procs_running x"] {
            assert!(StatSample::parse(odd).is_err(), "{odd}");
        }
    }
}
