//! What a box remembers of its earlier probes: the best capacity of each CPU, and what its gaps usually are.

use std::collections::{BTreeMap, VecDeque};

use darwin_shared::probe::{CpuProbe, GapSummary, KernelTimes, ProbeLevel, Usual};
use serde::{Deserialize, Serialize};

use super::capacity::Best;

/// Probes that make up what is usual.
const RECENT: usize = 16;
/// The most CPUs and ways of probing that are remembered.
const MAX_KEYS: usize = 4_096;
/// Until so many are known, a bad one is remembered as well: it may be what this box is.
const LEARN_ALL: usize = 3;
/// Shorter probes see other quantiles than longer ones: they are kept apart.
const LONG_NS: u64 = 1_000_000_000;

/// What an earlier probe's gaps were.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Past {
    rate_per_s: f64,
    p99_ns: f64,
    stolen_share: f64,
}

/// How fast a CPU was when it was probed last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// How much it did of the best that it ever did: 1 at most.
    pub share_of_best: f64,
    /// When that was, in seconds since the start of the box.
    pub uptime_s: f64,
}

/// The speeds since one start of the box.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Speeds {
    boot_id: String,
    by_cpu: BTreeMap<u32, Speed>,
}

/// What a box remembers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProbeMemory {
    /// What its numbers hold for: another CPU, or kernels built in another way, have others.
    fingerprint: String,
    best: BTreeMap<u32, Best>,
    past: BTreeMap<String, VecDeque<Past>>,
    #[serde(default)]
    speeds: Speeds,
}

/// How a probe was made: others are not comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Under `SCHED_FIFO`.
    pub fifo: bool,
    /// For how long each CPU was watched.
    pub observed_ns: u64,
}

impl Way {
    fn key(self, cpu: u32) -> String {
        let policy = if self.fifo { "fifo" } else { "other" };
        let length = if self.observed_ns >= LONG_NS { "long" } else { "short" };
        format!("{cpu}/{policy}/{length}")
    }
}

impl ProbeMemory {
    /// The memory for this fingerprint: empty if it was made under another one.
    #[must_use]
    pub fn fit_for(self, fingerprint: &str) -> Self {
        if self.fingerprint == fingerprint {
            return self;
        }
        Self { fingerprint: fingerprint.to_owned(), ..Self::default() }
    }

    /// The best that this CPU ever did, these times among them.
    pub fn best(&self, cpu: u32, width: KernelTimes, latency: KernelTimes) -> Best {
        let now = Best { width_ns: width.median_ns, latency_ns: latency.median_ns };
        let before = self.best.get(&cpu).copied().unwrap_or(now);
        Best {
            width_ns: before.width_ns.min(now.width_ns),
            latency_ns: before.latency_ns.min(now.latency_ns),
        }
    }

    /// What this CPU's gaps usually are; none before there is anything.
    pub fn usual(&self, cpu: u32, way: Way) -> Option<Usual> {
        let past = self.past.get(&way.key(cpu)).filter(|past| !past.is_empty())?;
        let middle = |of: fn(&Past) -> f64| {
            let mut values: Vec<f64> = past.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Some(Usual {
            probes: u32::try_from(past.len()).unwrap_or(u32::MAX),
            rate_per_s: middle(|past| past.rate_per_s),
            p99_ns: middle(|past| past.p99_ns),
            stolen_share: middle(|past| past.stolen_share),
        })
    }

    /// How fast each CPU was when it was probed last, since the start of the box that has this boot id.
    pub fn speeds(&self, boot_id: &str) -> impl Iterator<Item = (u32, Speed)> {
        let known = (self.speeds.boot_id == boot_id).then_some(&self.speeds.by_cpu);
        known.into_iter().flatten().map(|(cpu, speed)| (*cpu, *speed))
    }

    /// Remembers how fast a CPU was, so many seconds after the start of the box that has this boot id.
    pub fn learn_speed(&mut self, probe: &CpuProbe, boot_id: &str, uptime_s: f64) {
        if self.speeds.boot_id != boot_id {
            self.speeds = Speeds { boot_id: boot_id.to_owned(), by_cpu: BTreeMap::new() };
        }
        let Some(of_best) = probe.capacity.and_then(|capacity| capacity.of_best()) else { return };
        if self.speeds.by_cpu.len() < MAX_KEYS || self.speeds.by_cpu.contains_key(&probe.cpu) {
            self.speeds.by_cpu.insert(probe.cpu, Speed { share_of_best: 1.0 / of_best, uptime_s });
        }
    }

    /// Remembers what a CPU was like. A probe that failed is not what the box usually is.
    pub fn learn(&mut self, probe: &CpuProbe, way: Way) {
        if let Some(capacity) = probe.capacity
            && (self.best.len() < MAX_KEYS || self.best.contains_key(&probe.cpu))
        {
            let best = self.best(probe.cpu, capacity.width, capacity.latency);
            self.best.insert(probe.cpu, best);
        }
        let key = way.key(probe.cpu);
        if self.past.len() >= MAX_KEYS && !self.past.contains_key(&key) {
            return;
        }
        let past = self.past.entry(key).or_default();
        if probe.level == ProbeLevel::Fail && past.len() >= LEARN_ALL {
            return;
        }
        let GapSummary { rate_per_s, p99_ns, stolen_share, .. } = probe.gaps;
        past.push_back(Past { rate_per_s, p99_ns: p99_ns as f64, stolen_share });
        while past.len() > RECENT {
            past.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::{gaps, probe_of};
    use super::*;

    const WAY: Way = Way { fifo: false, observed_ns: 2 * LONG_NS };

    #[test]
    fn what_is_usual_is_the_middle_of_what_was() {
        let mut memory = ProbeMemory::default().fit_for("a box");
        assert_eq!(memory.usual(1, WAY), None);
        for rate in [700.0, 900.0, 800.0] {
            memory.learn(&probe_of(1, gaps(rate, 90_000, 4_000_000, 0.02)), WAY);
        }
        let usual = memory.usual(1, WAY).unwrap();
        assert_eq!(usual.probes, 3);
        assert!((usual.rate_per_s - 800.0).abs() < 1e-9);
        assert_eq!(memory.usual(2, WAY), None);
        assert_eq!(memory.usual(1, Way { fifo: true, ..WAY }), None);
        assert_eq!(memory.usual(1, Way { observed_ns: 1, ..WAY }), None);
        assert_eq!(memory.clone().fit_for("a box"), memory);
        assert_eq!(memory.fit_for("another box").usual(1, WAY), None);
    }

    #[test]
    fn a_failure_is_not_learned_and_old_ones_go() {
        let mut memory = ProbeMemory::default();
        for _ in 0..40 {
            memory.learn(&probe_of(1, gaps(800.0, 90_000, 4_000_000, 0.02)), WAY);
        }
        let failed = CpuProbe { level: ProbeLevel::Fail, ..probe_of(1, gaps(9e4, 1, 2, 0.9)) };
        for _ in 0..40 {
            memory.learn(&failed, WAY);
        }
        let usual = memory.usual(1, WAY).unwrap();
        assert!(usual.probes == 16 && (usual.rate_per_s - 800.0).abs() < 1e-9);
    }

    #[test]
    fn the_best_only_gets_better_and_survives_a_file() {
        let at = |median_ns| KernelTimes { median_ns, p90_ns: median_ns, min_ns: median_ns, runs: 5 };
        let mut memory = ProbeMemory::default();
        for median in [1_000, 900, 1_400] {
            let mut probe = probe_of(3, gaps(1.0, 1, 1, 0.0));
            let best = memory.best(3, at(median), at(median));
            probe.capacity = Some(super::super::capacity::capacity(at(median), at(median), Some(best)));
            memory.learn(&probe, WAY);
        }
        let text = serde_json::to_string(&memory).unwrap();
        let read: ProbeMemory = serde_json::from_str(&text).unwrap();
        assert_eq!(read, memory);
        assert_eq!(read.best(3, at(1_400), at(950)), Best { width_ns: 900, latency_ns: 900 });
    }

    #[test]
    fn a_speed_holds_until_the_box_starts_again() {
        let at = |median_ns| KernelTimes { median_ns, p90_ns: median_ns, min_ns: median_ns, runs: 5 };
        let best = Some(Best { width_ns: 1_000, latency_ns: 1_000 });
        let mut slow = probe_of(3, gaps(1.0, 1, 1, 0.0));
        slow.capacity = Some(super::super::capacity::capacity(at(2_000), at(1_000), best));
        let speeds = |memory: &ProbeMemory, boot_id: &str| memory.speeds(boot_id).collect::<Vec<_>>();
        let mut memory = ProbeMemory::default().fit_for("a box");
        memory.learn_speed(&probe_of(1, gaps(1.0, 1, 1, 0.0)), "first", 50.0);
        assert!(speeds(&memory, "first").is_empty(), "its capacity was not measured");
        memory.learn_speed(&slow, "first", 60.0);
        let half = Speed { share_of_best: 0.5, uptime_s: 60.0 };
        assert_eq!((speeds(&memory, "first"), speeds(&memory, "second")), (vec![(3, half)], Vec::new()));
        let text = serde_json::to_string(&memory).unwrap();
        assert_eq!(serde_json::from_str::<ProbeMemory>(&text).unwrap(), memory);
        memory.learn_speed(&slow, "second", 5.0);
        assert!(speeds(&memory, "first").is_empty());
        assert_eq!(speeds(&memory, "second"), [(3, Speed { uptime_s: 5.0, ..half })]);
        // As versions that knew no speeds wrote it.
        let older = r#"{"fingerprint":"a box","best":{},"past":{}}"#;
        assert!(speeds(&serde_json::from_str(older).unwrap(), "second").is_empty());
    }
}
