//! Is the box fit to measure? One reading per check, each with what was read, why it matters and what mends it.
//!
//! What a box does not have is `unknown`, never `fail`. Shares and rates need two readings: the sensor keeps the earlier
//! one; nothing here waits. The checks are in files by idea, each a small function of the box and of what was counted
//! before; `docs/sensor.md` describes them all.

mod check;
mod counters;
mod firmware;
mod identity;
mod isolation;
mod kernel;
mod limits;
mod live;
mod log;
mod memory;
mod policy;
mod power;
mod scope;
mod tasks;

use std::collections::BTreeMap;

use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::{SensorReport, Tier};

pub use self::identity::is_virtual_machine;
pub use self::limits::SensorLimits;
pub use self::policy::{SensorPolicy, required_by};
pub use self::scope::Scope;

use self::check::{Check, Found, Look, When};
use self::counters::Counters;
use super::fs::HostFs;
use super::stat::StatSample;

/// The whole list, in the order in which it is told.
const GROUPS: &[&[Check]] = &[
    identity::CHECKS,
    live::CHECKS,
    tasks::CHECKS,
    isolation::CHECKS,
    power::CHECKS,
    kernel::CHECKS,
    log::CHECKS,
    firmware::CHECKS,
    memory::CHECKS,
];

fn checks() -> impl Iterator<Item = &'static Check> {
    GROUPS.iter().flat_map(|group| group.iter())
}

/// The names of all checks, in the order in which they are told.
pub fn names() -> impl Iterator<Item = &'static str> {
    checks().map(|check| check.name)
}

/// How much of the list is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// A few small files: what may be read between two attempts. All else is as it was in the last whole reading.
    Light,
    /// Everything.
    Whole,
}

/// What the checks look at, and what they saw before.
#[derive(Debug)]
pub struct Sensor {
    scope: Scope,
    policy: SensorPolicy,
    limits: SensorLimits,
    /// As strict as there is: for what the box's owner requires by name.
    strict: SensorLimits,
    earlier: Option<StatSample>,
    counted: Option<Counters>,
    /// What each check found when it was read last.
    found: BTreeMap<&'static str, Found>,
}

impl Sensor {
    /// A sensor for this part of a box. What cannot change while the box is up is read now.
    pub fn new(host: &HostFs, scope: Scope, policy: SensorPolicy) -> Self {
        let mut sensor = Self {
            scope,
            limits: SensorLimits::of(policy.tier),
            strict: SensorLimits::of(Tier::BareMetalIsolated),
            policy,
            earlier: None,
            counted: None,
            found: BTreeMap::new(),
        };
        sensor.look(host, &CpuSet::new(), None, |when| when == When::Once);
        sensor
    }

    /// What is asked of the box.
    pub const fn policy(&self) -> &SensorPolicy {
        &self.policy
    }

    /// Whether the box tells where its CPUs' time goes, as far as two readings can tell it.
    pub const fn has_shares(&self) -> bool {
        self.earlier.is_some()
    }

    /// Reads the checks. `ours` are the CPUs that benches of our own used since the last reading: they were busy on
    /// purpose.
    pub fn read(&mut self, host: &HostFs, ours: &CpuSet, depth: Depth) -> SensorReport {
        match depth {
            Depth::Light => self.look(host, ours, None, |when| when == When::Always),
            Depth::Whole => {
                let counters = Counters::read(host, &self.scope.cpus, self.counted.as_ref());
                self.look(host, ours, Some(counters), |when| when != When::Once);
            }
        }
        let unread = Found::not_yet("it is read with the whole list only");
        self.policy.judge(checks().map(|check| (check, self.found.get(check.name).unwrap_or(&unread))))
    }

    fn look(&mut self, host: &HostFs, ours: &CpuSet, counters: Option<Counters>, wanted: fn(When) -> bool) {
        let now = StatSample::read(host);
        for check in checks().filter(|check| wanted(check.when)) {
            let look = Look {
                host,
                scope: &self.scope,
                limits: if self.policy.is_demanded(check.name) { &self.strict } else { &self.limits },
                policy: &self.policy,
                now: &now,
                earlier: self.earlier.as_ref(),
                ours,
                counters: counters.as_ref(),
                counted_before: self.counted.as_ref(),
            };
            self.found.insert(check.name, (check.read)(&look));
        }
        if !wanted(When::Once) {
            self.earlier = now.ok();
        }
        self.counted = counters.or_else(|| self.counted.take());
    }
}

#[cfg(test)]
mod tests;
