//! What the processes of each side used, in words and for programs: medians, beside each other.

use serde_json::{Map, Value, json};

use super::json::unit_suffix;
use super::model::Header;
use crate::spec::Arm;
use crate::units::{format_change, format_pair, format_value};
use crate::usage::{Count, Quantity, Uncounted};
use crate::used::Used;

/// What the line tells; the rest is in the table of all, and in JSON.
const IN_THE_LINE: [Quantity; 8] = [
    Quantity::PeakMemory,
    Quantity::CgroupMemory,
    Quantity::CpuTime,
    Quantity::VoluntarySwitches,
    Quantity::InvoluntarySwitches,
    Quantity::PageFaults,
    Quantity::MajorFaults,
    Quantity::Instructions,
];

/// What the CPU counts.
const COUNTERS: [Quantity; 5] = [
    Quantity::Instructions,
    Quantity::Cycles,
    Quantity::CacheReferences,
    Quantity::CacheMisses,
    Quantity::BranchMisses,
];

/// One quantity on one side or both.
enum Told {
    Values { text: String, change: Option<f64>, is_zero: bool },
    Unknown(Uncounted),
}

/// `Used by a process (median): peak memory 12.1 MiB -> 15.8 MiB, …; instructions unknown: …`; none if nothing is known.
pub(super) fn line(header: &Header) -> Option<String> {
    let mut parts = Vec::new();
    let mut unknown = None;
    for quantity in IN_THE_LINE {
        match told(&header.used, quantity) {
            Some(Told::Values { is_zero: true, .. }) if quantity == Quantity::MajorFaults => {}
            Some(Told::Values { text, .. }) => parts.push(format!("{} {text}", quantity.title())),
            Some(Told::Unknown(why)) if quantity == Quantity::Instructions && why != Uncounted::NotTold => {
                unknown = Some(format!("; {} unknown: {why}", quantity.title()));
            }
            Some(Told::Unknown(_)) | None => {}
        }
    }
    let unknown = unknown.unwrap_or_default();
    (!parts.is_empty()).then(|| format!("Used by a process (median): {}{unknown}", parts.join(", ")))
}

/// Every quantity that was told of: what it is, its values, and the change or why it is unknown.
pub(super) fn rows(header: &Header) -> Vec<[String; 3]> {
    let row = |quantity: Quantity| {
        Some(match told(&header.used, quantity)? {
            Told::Values { text, change, .. } => {
                let change = change.map(|change| format!("({})", format_change(change)));
                [quantity.title().to_owned(), text, change.unwrap_or_default()]
            }
            Told::Unknown(Uncounted::NotTold) => return None,
            Told::Unknown(why) => [quantity.title().to_owned(), "unknown".to_owned(), why.to_string()],
        })
    };
    // One row for all the counters, if they are all unknown for the same reason.
    let why_unknown = |quantity| match told(&header.used, quantity) {
        Some(Told::Unknown(why)) => Some(why),
        Some(Told::Values { .. }) | None => None,
    };
    let [first, others @ ..] = COUNTERS;
    let common =
        why_unknown(first).filter(|why| others.iter().all(|other| why_unknown(*other) == Some(*why)));
    let rows = Quantity::ALL.into_iter().filter(|quantity| common.is_none() || !COUNTERS.contains(quantity));
    let of_all = common.filter(|why| *why != Uncounted::NotTold);
    let of_all = of_all.map(|why| ["hardware counters".to_owned(), "unknown".to_owned(), why.to_string()]);
    rows.filter_map(row).chain(of_all).collect()
}

fn told(used: &[Used], quantity: Quantity) -> Option<Told> {
    let side = |arm| used.iter().find(|used| used.arm == arm).map(|used| used.of(quantity));
    let unit = quantity.unit();
    Some(match (side(Arm::Baseline), side(Arm::Challenger)) {
        (Some(Count::Known(baseline)), Some(Count::Known(challenger))) => {
            let (before, after) = (baseline as f64, challenger as f64);
            let (left, right) = format_pair(before, after, unit);
            let text = if left == right { left } else { format!("{left} -> {right}") };
            let change = (baseline > 0).then(|| after / before - 1.0);
            Told::Values { text, change, is_zero: baseline == 0 && challenger == 0 }
        }
        (Some(Count::Unknown(why)), _) | (_, Some(Count::Unknown(why))) => Told::Unknown(why),
        (Some(Count::Known(only)), None) | (None, Some(Count::Known(only))) => {
            Told::Values { text: format_value(only as f64, unit), change: None, is_zero: only == 0 }
        }
        (None, None) => return None,
    })
}

/// For programs: each side with its medians; null is unknown, and `unknown` says why.
pub(super) fn json(header: &Header) -> Value {
    header.used.iter().map(side_json).collect()
}

fn side_json(used: &Used) -> Value {
    let mut out = Map::new();
    let mut unknown = Map::new();
    for quantity in Quantity::ALL {
        let median = used.of(quantity);
        let suffix = unit_suffix(quantity.unit());
        out.insert(format!("{}_{suffix}", quantity.word()), json!(median.known()));
        if let Count::Unknown(why) = median {
            unknown.insert(quantity.word().to_owned(), why.word().into());
        }
    }
    json!({ "arm": used.arm, "invocations": used.invocations, "medians": out, "unknown": unknown })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn one_side_alone_has_no_arrow() {
        let mut header = samples::header();
        header.used.retain(|used| used.arm == Arm::Baseline);
        let line = line(&header).unwrap();
        assert!(line.contains("peak memory 212 MiB,") && !line.contains("->"), "{line}");
    }

    #[test]
    fn all_of_it_reads_well() {
        let rows: Vec<String> = rows(&samples::header()).iter().map(|row| row.join(" | ")).collect();
        insta::assert_snapshot!(rows.join("\n"));
        assert_eq!(super::rows(&Header::default()), Vec::<[String; 3]>::new());
        assert_eq!(line(&Header::default()), None);
    }
}
