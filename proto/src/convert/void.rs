//! Void rounds.

use darwin_shared::void::{VoidCause, VoidCount, VoidRounds};

use super::text::{to_words, words};
use super::{ConvertError, required};
use crate::v1;

/// More causes than there are.
const MAX_COUNTS: usize = 32;

impl TryFrom<v1::VoidRounds> for VoidRounds {
    type Error = ConvertError;

    fn try_from(voids: v1::VoidRounds) -> Result<Self, ConvertError> {
        let v1::VoidRounds { counts } = voids;
        if counts.len() > MAX_COUNTS {
            let why = format!("has {} entries; at most {MAX_COUNTS} are taken", counts.len());
            return Err(ConvertError::new("counts", why));
        }
        let counts: Vec<VoidCount> = counts
            .into_iter()
            .enumerate()
            .map(|(index, count)| {
                count.try_into().map_err(|e: ConvertError| e.within(format!("counts[{index}]")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self::of(counts))
    }
}

impl TryFrom<v1::VoidCount> for VoidCount {
    type Error = ConvertError;

    fn try_from(count: v1::VoidCount) -> Result<Self, ConvertError> {
        use v1::void_count::Worst;
        let v1::VoidCount { rounds, worst } = count;
        if rounds == 0 {
            return Err(ConvertError::new("rounds", "is 0; a cause is told of if it made a round void"));
        }
        let worst = match required("worst", worst)? {
            Worst::StolenPpm(share_ppm) => VoidCause::Stolen { share_ppm },
            Worst::ForeignPpm(share_ppm) => VoidCause::Foreign { share_ppm },
            Worst::Throttlings(times) => VoidCause::Throttled { times },
            Worst::Interrupts(interrupts) => VoidCause::Interrupts { interrupts },
            Worst::AstrayCpu(cpu) => VoidCause::Migrated { cpu },
            Worst::SwappedPages(pages) => VoidCause::Swapped { pages },
            Worst::MajorFaults(faults) => VoidCause::Faulted { faults },
            Worst::Switches(switches) => VoidCause::Switched { switches },
            Worst::LongestGapNs(longest_ns) => VoidCause::Gaps { longest_ns },
            Worst::LostCapacityPpm(lost_ppm) => VoidCause::Capacity { lost_ppm },
            Worst::Slices(why) => VoidCause::slices(&words("slices", why)?),
        };
        Ok(Self { worst, rounds })
    }
}

impl From<VoidRounds> for v1::VoidRounds {
    fn from(voids: VoidRounds) -> Self {
        Self { counts: voids.counts().iter().cloned().map(Into::into).collect() }
    }
}

impl From<VoidCount> for v1::VoidCount {
    fn from(count: VoidCount) -> Self {
        use v1::void_count::Worst;
        let worst = match count.worst {
            VoidCause::Stolen { share_ppm } => Worst::StolenPpm(share_ppm),
            VoidCause::Foreign { share_ppm } => Worst::ForeignPpm(share_ppm),
            VoidCause::Throttled { times } => Worst::Throttlings(times),
            VoidCause::Interrupts { interrupts } => Worst::Interrupts(interrupts),
            VoidCause::Migrated { cpu } => Worst::AstrayCpu(cpu),
            VoidCause::Swapped { pages } => Worst::SwappedPages(pages),
            VoidCause::Faulted { faults } => Worst::MajorFaults(faults),
            VoidCause::Switched { switches } => Worst::Switches(switches),
            VoidCause::Gaps { longest_ns } => Worst::LongestGapNs(longest_ns),
            VoidCause::Capacity { lost_ppm } => Worst::LostCapacityPpm(lost_ppm),
            VoidCause::Slices { why } => Worst::Slices(to_words(why)),
        };
        Self { rounds: count.rounds, worst: Some(worst) }
    }
}

/// Void rounds that are told of; none are from a peer that does not know them.
pub(super) fn voids(field: &str, told: Option<v1::VoidRounds>) -> Result<VoidRounds, ConvertError> {
    told.map(VoidRounds::try_from).transpose().map(Option::unwrap_or_default).map_err(|e| e.within(field))
}

/// Void rounds for the wire, unless there are none.
pub fn voids_to_wire(voids: VoidRounds) -> Option<v1::VoidRounds> {
    (!voids.is_empty()).then(|| voids.into())
}
