//! The loop that watches: it reads a clock without a pause, and every step that is too long is a gap.

/// Reads `now` for `stretch` ticks of it, and tells of every gap of more than `threshold` ticks: when it began, and how
/// long it was. What telling takes is nobody's gap. Gives the ticks in which it was watched.
pub fn watch(
    now: &mut impl FnMut() -> u64,
    stretch: u64,
    threshold: u64,
    mut tell: impl FnMut(u64, u64),
) -> u64 {
    let begin = now();
    let end = begin.saturating_add(stretch);
    let mut before = begin;
    let mut telling = 0;
    loop {
        let at = now();
        let step = at.saturating_sub(before);
        if step > threshold {
            tell(before, step);
            before = now();
            telling += before.saturating_sub(at);
        } else {
            before = at;
        }
        if before >= end {
            return before.saturating_sub(begin).saturating_sub(telling);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_long_step_is_told_and_no_other(steps in prop::collection::vec(1u64..200, 1..300), threshold in 1u64..200) {
            let total: u64 = steps.iter().sum();
            // A clock that stands still while a gap is told, and behind the steps goes on by ones that are none.
            let (mut starts, mut told) = (Vec::new(), Vec::new());
            let mut at = 1_000;
            let mut left = steps.iter().copied();
            let standing = std::cell::Cell::new(true);
            let mut clock = || {
                if !standing.replace(false) {
                    at += left.next().unwrap_or(threshold);
                }
                at
            };
            let observed = watch(&mut clock, total, threshold, |start, length| {
                starts.push(start);
                told.push(length);
                standing.set(true);
            });
            let wanted: Vec<u64> = steps.iter().copied().filter(|step| *step > threshold).collect();
            prop_assert_eq!(told, wanted);
            prop_assert!(starts.is_sorted());
            prop_assert_eq!(observed, total);
        }
    }

    #[test]
    fn what_telling_takes_is_no_gap() {
        let mut ticks = [0, 10, 500, 900, 910, 920].into_iter();
        let mut told = Vec::new();
        // From 10 to 500 is a gap; telling it takes until 900.
        let observed = watch(&mut || ticks.next().unwrap_or(2_000), 915, 100, |start, length| {
            told.push((start, length));
        });
        assert_eq!((told, observed), (vec![(10, 490)], 520));
    }
}
