//! How many attempts to hold ahead of the cores.
//!
//! A slot must never wait for a grant: between two attempts stand the coordinator's sync to disk and the way there
//! and back. Attempts of minutes need one or two staged ahead; attempts of a millisecond need as many as are
//! measured in that time.

use std::time::Duration;

/// What a grant takes at worst, as a rule: a group commit on a slow disk, and the way there and back.
const GRANT_LATENCY: Duration = Duration::from_millis(50);
/// The most attempts held ahead for one slot: what is held here no other box can take.
const MAX_AHEAD: u32 = 64;
/// The weight of the newest attempt in the running mean: one in eight.
const MEAN_SHIFT: u32 = 8;

/// Learns how long attempts keep their cores.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// The running mean of the time on cores; none before the first.
    mean: Option<Duration>,
}

impl Pace {
    /// An attempt gave its cores back after this long.
    pub(super) fn learn(&mut self, on_cores: Duration) {
        self.mean = Some(match self.mean {
            None => on_cores,
            Some(mean) => (mean * (MEAN_SHIFT - 1) + on_cores) / MEAN_SHIFT,
        });
    }

    /// Attempts to hold ahead of each slot, at least `least`; none if that is 0.
    pub(super) fn ahead(self, least: u32) -> u32 {
        let Some(mean) = self.mean.filter(|_| least > 0) else {
            return least;
        };
        let wanted = GRANT_LATENCY.as_micros() / mean.as_micros().max(1);
        u32::try_from(wanted).unwrap_or(MAX_AHEAD).clamp(least, least.max(MAX_AHEAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_attempts_are_held_further_ahead() {
        let mut pace = Pace::default();
        assert_eq!(pace.ahead(2), 2);
        for _ in 0..100 {
            pace.learn(Duration::from_millis(1));
        }
        assert_eq!((pace.ahead(2), pace.ahead(0)), (50, 0));
        pace.learn(Duration::from_mins(1));
        assert_eq!(pace.ahead(2), 2);
    }
}
