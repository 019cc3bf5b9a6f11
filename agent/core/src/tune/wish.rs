//! What is wished of a box while benches run, from what its operator has chosen.

use darwin_shared::cpu::CpuSet;

use super::value::{Form, Knob};

/// A knob and what it should be at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The knob.
    pub knob: Knob,
    /// What it should be at.
    pub want: Want,
}

/// What a knob should be at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// This value.
    Value(String),
    /// A number of at least this.
    AtLeast(u64),
    /// Its own CPUs without the first ones; the second ones, if none of its own would be left.
    Without(CpuSet, CpuSet),
    /// Its own CPUs and these.
    With(CpuSet),
}

/// How transparent huge pages are kept from getting in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// Only where a program asks for them, on the whole box.
    Madvise,
    /// Nowhere on the box.
    Never,
}

/// What an operator has chosen to be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choices {
    /// Governor and energy preference `performance` on the cores.
    pub governor: bool,
    /// No boosted clocks.
    pub no_turbo: bool,
    /// Huge pages of the whole box.
    pub huge_pages: Option<HugePages>,
    /// No merging of equal pages.
    pub no_ksm: bool,
    /// No moving of pages between nodes.
    pub no_numa_balancing: bool,
    /// The lockup watchdogs keep off the cores.
    pub watchdogs: bool,
    /// Seconds between two updates of each CPU's memory statistics, at least.
    pub stat_interval_s: Option<u64>,
    /// A timer stays on the CPU that set it, so that none ends up on a busy core of ours.
    pub no_timer_migration: bool,
    /// Work that the kernel may do anywhere keeps off the cores.
    pub workqueues: bool,
    /// Interrupts of devices keep off the cores.
    pub interrupts: bool,
}

impl Choices {
    /// All of them, as a box whose numbers must stand wants it.
    pub fn all() -> Self {
        Self {
            governor: true,
            no_turbo: true,
            huge_pages: Some(HugePages::Madvise),
            no_ksm: true,
            no_numa_balancing: true,
            watchdogs: true,
            stat_interval_s: Some(10),
            no_timer_migration: true,
            workqueues: true,
            interrupts: true,
        }
    }
}

/// Where on the box.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The cores that are leased out, with all their CPUs.
    pub cpus: CpuSet,
    /// The CPUs for everything else.
    pub others: CpuSet,
    /// The interrupts that there are.
    pub interrupts: Vec<u32>,
}

/// What is wished, in the order in which it is to be changed. Files that a box does not have are among it.
pub fn wishes(choices: &Choices, place: &Place) -> Vec<Wish> {
    let value = |path: &str, form, value: &str| Wish {
        knob: Knob::new(path, form),
        want: Want::Value(value.to_owned()),
    };
    let without = |path: &str, form| Wish {
        knob: Knob::new(path, form),
        want: Want::Without(place.cpus.clone(), place.others.clone()),
    };
    let mut all = Vec::new();
    let mut add = |chosen: bool, wishes: &[Wish]| {
        if chosen {
            all.extend_from_slice(wishes);
        }
    };
    for cpu in place.cpus.iter() {
        let file = |name: &str| format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/{name}");
        // The preference first: under the governor `performance` a driver takes no other one, and when the governor is
        // put back, it puts back the preference that it knew before.
        let preference = value(&file("energy_performance_preference"), Form::Word, "performance");
        let governor = value(&file("scaling_governor"), Form::Word, "performance");
        add(choices.governor, &[preference, governor]);
    }
    let no_turbo = value("/sys/devices/system/cpu/intel_pstate/no_turbo", Form::Word, "1");
    add(choices.no_turbo, &[no_turbo, value("/sys/devices/system/cpu/cpufreq/boost", Form::Word, "0")]);
    let pages = "/sys/kernel/mm/transparent_hugepage";
    let (enabled, defrag) = (format!("{pages}/enabled"), format!("{pages}/defrag"));
    let chosen = |huge_pages| choices.huge_pages == Some(huge_pages);
    add(
        chosen(HugePages::Madvise),
        &[value(&enabled, Form::Choice, "madvise"), value(&defrag, Form::Choice, "madvise")],
    );
    add(chosen(HugePages::Never), &[value(&enabled, Form::Choice, "never")]);
    add(choices.no_ksm, &[value("/sys/kernel/mm/ksm/run", Form::Word, "0")]);
    add(choices.no_numa_balancing, &[value("/proc/sys/kernel/numa_balancing", Form::Word, "0")]);
    add(
        choices.watchdogs,
        &[
            value("/proc/sys/kernel/nmi_watchdog", Form::Word, "0"),
            without("/proc/sys/kernel/watchdog_cpumask", Form::List),
        ],
    );
    if let Some(least) = choices.stat_interval_s {
        let knob = Knob::new("/proc/sys/vm/stat_interval", Form::Word);
        add(true, &[Wish { knob, want: Want::AtLeast(least) }]);
    }
    add(choices.no_timer_migration, &[value("/proc/sys/kernel/timer_migration", Form::Word, "0")]);
    add(choices.workqueues, &[without("/sys/devices/virtual/workqueue/cpumask", Form::Mask)]);
    for interrupt in &place.interrupts {
        let path = format!("/proc/irq/{interrupt}/smp_affinity_list");
        add(choices.interrupts, &[without(&path, Form::List)]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::{Journal, Reading, Record};

    #[test]
    fn only_what_is_not_as_wished_is_changed() {
        let place =
            Place { cpus: "2-3".parse().unwrap(), others: "0-1".parse().unwrap(), interrupts: vec![7, 8, 9] };
        let box_now = |path: &str| match path {
            "/proc/sys/vm/stat_interval" => "60",
            "/proc/irq/8/smp_affinity_list" => "3",
            "/proc/irq/9/smp_affinity_list" => "1",
            "/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor" => "powersave",
            "/proc/irq/7/smp_affinity_list" | "/sys/devices/virtual/workqueue/cpumask" => "0-3",
            _ => "",
        };
        let read = |wish: Wish| match box_now(&wish.knob.path) {
            "" => (wish, Reading::Absent),
            value => (wish, Reading::Value(value.to_owned())),
        };
        let all = wishes(&Choices::all(), &place).into_iter().map(read);
        let planned = Journal::default().plan("b", all);
        let told: Vec<String> = planned
            .iter()
            .map(|record| match record {
                Record::Planned { knob, old, new, .. } => format!("{}: {old} -> {new}", knob.path),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            told,
            [
                "/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor: powersave -> performance",
                "/sys/devices/virtual/workqueue/cpumask: 0-3 -> 0-1",
                "/proc/irq/7/smp_affinity_list: 0-3 -> 0-1",
                "/proc/irq/8/smp_affinity_list: 3 -> 0-1",
            ]
        );
        assert!(wishes(&Choices::default(), &place).is_empty());
    }
}
