//! Rounds that were disturbed: void, measured again, and counted by cause.
//!
//! A cause is always something that was read outside the bench: counters of the kernel, or what a probe saw. The
//! numbers of a round never make it void.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest reason of a broken slice protocol that is kept, in characters.
const WHY_MAX_CHARS: usize = 200;

/// What made a round void. Ordered from what explains the others to what explains nothing else: a round that is void
/// for several causes is counted under the first of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoidCause {
    /// The hypervisor ran something else on the leased CPUs.
    Stolen {
        /// Its share of the round, in millionths.
        share_ppm: u32,
    },
    /// Somebody else used the leased CPUs, or the idle siblings that belong to them.
    Foreign {
        /// Their share of the round, in millionths of one CPU.
        share_ppm: u32,
    },
    /// The CPU or its package slowed itself down.
    Throttled {
        /// How often.
        times: u64,
    },
    /// Devices interrupted the leased CPUs.
    Interrupts {
        /// How often.
        interrupts: u64,
    },
    /// The bench was seen on a CPU that it does not have.
    Migrated {
        /// That CPU.
        cpu: u32,
    },
    /// The box moved memory out or in.
    Swapped {
        /// Pages.
        pages: u64,
    },
    /// The bench waited for the disk to bring a page.
    Faulted {
        /// Major page faults.
        faults: u64,
    },
    /// The bench was put off its CPU for somebody else.
    Switched {
        /// Involuntary switches.
        switches: u64,
    },
    /// A probe saw its core taken away.
    Gaps {
        /// The longest gap, in nanoseconds.
        longest_ns: u64,
    },
    /// A probe saw that a CPU second bought less than at its best.
    Capacity {
        /// The part that was missing, in millionths.
        lost_ppm: u32,
    },
    /// A side of a sliced pair broke the slice protocol.
    Slices {
        /// How.
        why: String,
    },
}

impl VoidCause {
    /// A broken slice protocol; a long reason is cut.
    pub fn slices(why: &str) -> Self {
        Self::Slices { why: why.chars().take(WHY_MAX_CHARS).collect() }
    }

    /// Its name, as reports for programs write it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stolen { .. } => "stolen",
            Self::Foreign { .. } => "foreign",
            Self::Throttled { .. } => "throttled",
            Self::Interrupts { .. } => "interrupts",
            Self::Migrated { .. } => "migrated",
            Self::Swapped { .. } => "swapped",
            Self::Faulted { .. } => "faulted",
            Self::Switched { .. } => "switched",
            Self::Gaps { .. } => "gaps",
            Self::Capacity { .. } => "capacity",
            Self::Slices { .. } => "slices",
        }
    }

    /// What it is, in words without numbers.
    pub const fn words(&self) -> &'static str {
        match self {
            Self::Stolen { .. } => "time stolen by the hypervisor",
            Self::Foreign { .. } => "foreign work on the leased cores",
            Self::Throttled { .. } => "a throttled CPU",
            Self::Interrupts { .. } => "device interrupts on the leased cores",
            Self::Migrated { .. } => "a bench off its cores",
            Self::Swapped { .. } => "swapping",
            Self::Faulted { .. } => "major page faults",
            Self::Switched { .. } => "switches to other tasks",
            Self::Gaps { .. } => "gaps that a probe saw",
            Self::Capacity { .. } => "capacity that a probe missed",
            Self::Slices { .. } => "a broken slice protocol",
        }
    }

    /// How bad it was, in words.
    pub fn extent(&self) -> String {
        match self {
            Self::Stolen { share_ppm } | Self::Foreign { share_ppm } => {
                format!("{} of a round", Percent(*share_ppm))
            }
            Self::Throttled { times } => format!("{times} times in a round"),
            Self::Interrupts { interrupts } => format!("{interrupts} in a round"),
            Self::Migrated { cpu } => format!("on CPU {cpu}"),
            Self::Swapped { pages } => format!("{pages} pages in a round"),
            Self::Faulted { faults } => format!("{faults} in a round"),
            Self::Switched { switches } => format!("{switches} in a round"),
            Self::Gaps { longest_ns } => format!("{:?}", Duration::from_nanos(*longest_ns)),
            Self::Capacity { lost_ppm } => Percent(*lost_ppm).to_string(),
            Self::Slices { why } => why.clone(),
        }
    }

    fn is_same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for VoidCause {
    /// `foreign work on the leased cores (41% of a round)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.words(), self.extent())
    }
}

/// Millionths as people read them: whole percents, below ten with one digit more.
struct Percent(u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = f64::from(self.0) / 1e4;
        if percent < 9.95 { write!(f, "{percent:.1}%") } else { write!(f, "{percent:.0}%") }
    }
}

/// Void rounds of one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidCount {
    /// The cause, as bad as it was at its worst.
    pub worst: VoidCause,
    /// How many measurements of rounds it made void.
    pub rounds: u32,
}

/// How many measurements of rounds were void, by cause. A round that was void twice counts twice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VoidRounds {
    /// In the order of the causes, each at most once, none of zero rounds.
    counts: Vec<VoidCount>,
}

impl VoidRounds {
    /// Of counts in any order; the same cause twice is added up.
    pub fn of(counts: impl IntoIterator<Item = VoidCount>) -> Self {
        let mut rounds = Self::default();
        for count in counts {
            rounds.add_count(count);
        }
        rounds
    }

    /// Counts one more void round.
    pub fn add(&mut self, cause: VoidCause) {
        self.add_count(VoidCount { worst: cause, rounds: 1 });
    }

    /// Counts these as well.
    pub fn merge(&mut self, other: Self) {
        for count in other.counts {
            self.add_count(count);
        }
    }

    fn add_count(&mut self, count: VoidCount) {
        if count.rounds == 0 {
            return;
        }
        let known = self.counts.iter_mut().find(|known| known.worst.is_same_kind(&count.worst));
        if let Some(known) = known {
            known.rounds = known.rounds.saturating_add(count.rounds);
            // Within a kind the order is that of the extent.
            if count.worst > known.worst {
                known.worst = count.worst;
            }
        } else {
            let at = self.counts.partition_point(|known| known.worst < count.worst);
            self.counts.insert(at, count);
        }
    }

    /// By cause, in the order of the causes.
    pub fn counts(&self) -> &[VoidCount] {
        &self.counts
    }

    /// All of them.
    pub fn total(&self) -> u32 {
        self.counts.iter().fold(0, |total, count| total.saturating_add(count.rounds))
    }

    /// Those that the box made void, not the benches by how they keep to the slice protocol.
    pub fn by_the_box(&self) -> u32 {
        let of_benches = |cause: &VoidCause| matches!(cause, VoidCause::Slices { .. });
        let counts = self.counts.iter().filter(|count| !of_benches(&count.worst));
        counts.fold(0, |total, count| total.saturating_add(count.rounds))
    }

    /// Whether no round was void.
    pub const fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// `3 rounds were void and measured again: 2 foreign work …`; none if no round was void.
    pub fn measured_again(&self) -> Option<String> {
        self.told(" and measured again")
    }

    /// `3 rounds were void: 2 foreign work …`; none if no round was void.
    pub fn sentence(&self) -> Option<String> {
        self.told("")
    }

    fn told(&self, more: &str) -> Option<String> {
        match self.total() {
            0 => None,
            1 => Some(format!("1 round was void{more}: {self}")),
            total => Some(format!("{total} rounds were void{more}: {self}")),
        }
    }
}

impl fmt::Display for VoidRounds {
    /// `2 foreign work on the leased cores (worst 41% of a round), 1 swapping (worst 40 pages in a round)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for VoidCount { worst, rounds } in &self.counts {
            write!(f, "{separator}{rounds} {} (worst {})", worst.words(), worst.extent())?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cause() -> impl Strategy<Value = VoidCause> {
        prop_oneof![
            (0u32..2_000_000).prop_map(|share_ppm| VoidCause::Stolen { share_ppm }),
            (0u32..2_000_000).prop_map(|share_ppm| VoidCause::Foreign { share_ppm }),
            any::<u64>().prop_map(|interrupts| VoidCause::Interrupts { interrupts }),
            (0u32..64).prop_map(|cpu| VoidCause::Migrated { cpu }),
            "[a-z]{0,8}".prop_map(|why| VoidCause::slices(&why)),
        ]
    }

    #[test]
    fn people_read_counts_and_the_worst() {
        let mut rounds = VoidRounds::default();
        assert_eq!(rounds.measured_again(), None);
        rounds.add(VoidCause::Interrupts { interrupts: 31 });
        assert_eq!(
            rounds.measured_again().unwrap(),
            "1 round was void and measured again: 1 device interrupts on the leased cores (worst 31 in a round)"
        );
        rounds.add(VoidCause::Foreign { share_ppm: 411_000 });
        rounds.add(VoidCause::Foreign { share_ppm: 20_000 });
        assert_eq!(
            rounds.measured_again().unwrap(),
            "3 rounds were void and measured again: 2 foreign work on the leased cores (worst 41% of a round), 1 device \
             interrupts on the leased cores (worst 31 in a round)"
        );
    }

    #[test]
    fn each_cause_has_words_and_a_name_of_its_own() {
        let causes = [
            VoidCause::Stolen { share_ppm: 12_345 },
            VoidCause::Foreign { share_ppm: 1_000_000 },
            VoidCause::Throttled { times: 2 },
            VoidCause::Interrupts { interrupts: 3 },
            VoidCause::Migrated { cpu: 4 },
            VoidCause::Swapped { pages: 5 },
            VoidCause::Faulted { faults: 6 },
            VoidCause::Switched { switches: 7 },
            VoidCause::Gaps { longest_ns: 52_000_000 },
            VoidCause::Capacity { lost_ppm: 310_000 },
            VoidCause::slices("baseline: it asked twice"),
        ];
        assert!(causes.is_sorted());
        let lines: Vec<String> = causes.iter().map(|cause| format!("{}: {cause}", cause.name())).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    proptest! {
        #[test]
        fn counts_add_up_in_any_order(causes in prop::collection::vec(cause(), 0..40), cut in 0usize..40) {
            let count = |causes: &[VoidCause]| {
                let mut rounds = VoidRounds::default();
                causes.iter().cloned().for_each(|cause| rounds.add(cause));
                rounds
            };
            let all = count(&causes);
            prop_assert_eq!(all.total() as usize, causes.len());
            let (first, second) = causes.split_at(cut.min(causes.len()));
            let mut merged = count(second);
            merged.merge(count(first));
            prop_assert_eq!(&merged, &all);
            prop_assert!(all.counts().is_sorted_by(|a, b| a.worst < b.worst && a.rounds > 0));
            for known in all.counts() {
                let worst = causes.iter().filter(|cause| cause.is_same_kind(&known.worst)).max();
                prop_assert_eq!(worst, Some(&known.worst));
            }
            let text = serde_json::to_string(&all).unwrap();
            prop_assert_eq!(serde_json::from_str::<VoidRounds>(&text).unwrap(), all);
        }
    }
}
