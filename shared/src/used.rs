//! What the processes of each side used, summed up over the rounds: the median of each quantity.

use std::collections::BTreeMap;

use darwin_gate::Policy;
use serde::{Deserialize, Serialize};

use crate::spec::Arm;
use crate::usage::{Count, Quantity, Uncounted, Usage};

/// What the invocations of one side used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Which side.
    pub arm: Arm,
    /// How many invocations.
    pub invocations: u32,
    /// The median over them, in the quantity's unit, or why there is none. A quantity that is not here was not told.
    pub medians: BTreeMap<Quantity, Count>,
}

impl Used {
    /// The median of this quantity.
    pub fn of(&self, quantity: Quantity) -> Count {
        self.medians.get(&quantity).copied().unwrap_or_default()
    }
}

/// Rounds' use, as it comes in. Holds one number for each quantity and invocation.
#[derive(Debug, Clone, Default)]
pub struct UseTally {
    sides: BTreeMap<Arm, Side>,
}

#[derive(Debug, Clone, Default)]
struct Side {
    invocations: u32,
    columns: BTreeMap<Quantity, Column>,
}

#[derive(Debug, Clone, Default)]
struct Column {
    known: Vec<u64>,
    /// Why the newest one that is not known is not.
    unknown: Option<Uncounted>,
}

impl UseTally {
    /// Takes one invocation in.
    pub fn add(&mut self, arm: Arm, usage: &Usage) {
        let side = self.sides.entry(arm).or_default();
        side.invocations = side.invocations.saturating_add(1);
        for quantity in Quantity::ALL {
            let column = side.columns.entry(quantity).or_default();
            match usage.of(quantity) {
                Count::Known(number) => column.known.push(number),
                Count::Unknown(why) => column.unknown = Some(why),
            }
        }
    }

    /// What each side used, the baseline first; empty if nothing was taken in.
    pub fn sum_up(&self) -> Vec<Used> {
        let side = |(arm, side): (&Arm, &Side)| Used {
            arm: *arm,
            invocations: side.invocations,
            medians: side.columns.iter().map(|(quantity, column)| (*quantity, column.median())).collect(),
        };
        self.sides.iter().map(side).collect()
    }

    /// Why metrics that the policy gates could not be judged in every round: a sentence for each.
    pub fn notes(&self, policy: &Policy) -> Vec<String> {
        let gated = Quantity::ALL.into_iter().filter_map(|quantity| {
            let metric = quantity.metric()?;
            let (rule, named) = policy.for_metric(&metric);
            ((named && rule.gated) || policy.primary.as_ref() == Some(&metric)).then_some((quantity, metric))
        });
        gated
            .filter_map(|(quantity, metric)| {
                let mut columns = self.sides.values().filter_map(|side| side.columns.get(&quantity));
                let why = columns.find_map(|column| column.unknown)?;
                Some(format!("{metric} is gated, and was not counted in every round: {why}"))
            })
            .collect()
    }
}

impl Column {
    /// The lower of the two middle values if their number is even: a value that was really counted.
    fn median(&self) -> Count {
        let mut sorted = self.known.clone();
        sorted.sort_unstable();
        let middle = sorted.len().div_ceil(2).saturating_sub(1);
        match sorted.get(middle) {
            Some(number) => Count::Known(*number),
            None => Count::Unknown(self.unknown.unwrap_or(Uncounted::NotTold)),
        }
    }
}

#[cfg(test)]
mod tests {
    use darwin_gate::{Metric, MetricPolicy, Ratio};

    use super::*;
    use crate::usage::Counters;

    fn usage(peak_rss_bytes: u64, counters: Counters) -> Usage {
        Usage { peak_rss_bytes, counters, ..Usage::default() }
    }

    #[test]
    fn each_side_has_its_medians() {
        let mut tally = UseTally::default();
        assert_eq!(tally.sum_up(), []);
        let none = Counters::unknown(Uncounted::NoCounter);
        for peak in [30, 10, 20, 40] {
            tally.add(Arm::Challenger, &usage(peak, none));
        }
        tally.add(Arm::Baseline, &usage(7, none));
        let used = tally.sum_up();
        let [baseline, challenger] = used.as_slice() else { panic!("{used:?}") };
        assert_eq!((baseline.arm, baseline.invocations), (Arm::Baseline, 1));
        assert_eq!(challenger.of(Quantity::PeakMemory), Count::Known(20));
        assert_eq!(challenger.of(Quantity::MajorFaults), Count::Known(0));
        assert_eq!(challenger.of(Quantity::Cycles), Count::Unknown(Uncounted::NoCounter));
    }

    #[test]
    fn what_is_gated_and_not_counted_is_told() {
        let mut tally = UseTally::default();
        tally.add(Arm::Baseline, &usage(1, Counters::unknown(Uncounted::NoCounter)));
        let margin = Ratio::from_percent(2);
        let rule = |gated| MetricPolicy { margin, floor: Ratio::ZERO, gated };
        let policy = |gated| Policy {
            metrics: BTreeMap::from([(Metric::Instructions, rule(gated)), (Metric::MemoryPeak, rule(true))]),
            ..Policy::default()
        };
        insta::assert_snapshot!(tally.notes(&policy(true)).join("\n"), @"instructions is gated, and was not counted in every round: no hardware counters on this box");
        assert_eq!(tally.notes(&policy(false)), Vec::<String>::new());
        assert_eq!(tally.notes(&Policy::default()), Vec::<String>::new());
    }
}
