//! Who takes a core away: gaps held against what the kernel counted meanwhile.

use darwin_shared::probe::{Cause, CauseShare};

use super::interrupts::Interrupts;

/// The causes of this many gaps, the greatest first. What no count explains is firmware or the hypervisor.
///
/// Counts are of all the time that was watched, and an interrupt may be too short for a gap: what is left unexplained is
/// the least that it can be.
pub fn causes(gaps: u64, counted: &Interrupts, involuntary_switches: u64) -> Vec<CauseShare> {
    if gaps == 0 {
        return Vec::new();
    }
    let known: Vec<(Cause, u64)> =
        counted.by_cause().into_iter().chain([(Cause::OtherTask, involuntary_switches)]).collect();
    let explained = known.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
    let unexplained = gaps.saturating_sub(explained);
    let whole = explained.max(gaps) as f64;
    let mut causes: Vec<CauseShare> = known
        .into_iter()
        .chain([(Cause::Unexplained, unexplained)])
        .filter(|(_, count)| *count > 0)
        .map(|(cause, count)| CauseShare { cause, count, share: (count as f64 / whole).min(1.0) })
        .collect();
    causes.sort_by(|a, b| b.count.cmp(&a.count).then(a.cause.cmp(&b.cause)));
    causes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_no_counter_explains_is_the_hypervisors() {
        let counted = Interrupts { timer: 500, device: 100, ..Interrupts::default() };
        let told: Vec<(Cause, u64)> =
            causes(1_000, &counted, 50).iter().map(|share| (share.cause, share.count)).collect();
        let wanted =
            [(Cause::Timer, 500), (Cause::Unexplained, 350), (Cause::Device, 100), (Cause::OtherTask, 50)];
        assert_eq!(told, wanted);
    }

    #[test]
    fn more_interrupts_than_gaps_leave_nothing_unexplained() {
        let counted = Interrupts { timer: 300, call: 100, ..Interrupts::default() };
        let told = causes(200, &counted, 0);
        assert_eq!(told.len(), 2);
        assert!((told[0].share - 0.75).abs() < 1e-12);
        assert!(causes(0, &counted, 3).is_empty());
    }

    proptest! {
        #[test]
        fn shares_make_one(gaps in 1u64..1_000_000, timer in 0u64..1_000_000, call in 0u64..1_000, tasks in 0u64..1_000) {
            let counted = Interrupts { timer, call, ..Interrupts::default() };
            let told = causes(gaps, &counted, tasks);
            let sum: f64 = told.iter().map(|share| share.share).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{}", sum);
            prop_assert!(told.iter().all(|share| (0.0..=1.0).contains(&share.share)));
        }
    }
}
