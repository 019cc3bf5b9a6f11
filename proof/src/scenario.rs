//! The true changes under which the gate is asked.

use darwin_gate::{Metric, Mode};

use crate::jury::{MEAN, P50, P99};
use crate::variants::Effect;

/// One true change, and the mode of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Identical builds.
    Same,
    /// Identical builds, in mode no-slower.
    SameNoSlower,
    /// Everything is slower by this many percent.
    Slower(u8),
    /// Everything is faster by this many percent.
    Faster(u8),
    /// Only what is above the 95th percentile is slower, by 10%.
    SlowerTail,
    /// Everything up to the 95th percentile is faster by 5%, and what is above it is slower by 10%.
    FasterWithSlowerTail,
}

impl Scenario {
    /// The scenarios of the bars.
    pub const BARRED: [Self; 9] = [
        Self::Same,
        Self::SameNoSlower,
        Self::Slower(1),
        Self::Slower(2),
        Self::Slower(5),
        Self::Faster(2),
        Self::Faster(5),
        Self::SlowerTail,
        Self::FasterWithSlowerTail,
    ];

    /// More points of the power curves.
    pub const CURVE: [Self; 3] = [Self::Slower(3), Self::Slower(4), Self::Slower(6)];

    /// The name in tables.
    pub fn name(self) -> String {
        match self {
            Self::Same => "identical".to_owned(),
            Self::SameNoSlower => "identical, no-slower".to_owned(),
            Self::Slower(percent) => format!("+{percent}%"),
            Self::Faster(percent) => format!("−{percent}%"),
            Self::SlowerTail => "p99 alone +10%".to_owned(),
            Self::FasterWithSlowerTail => "−5%, but p99 +10%".to_owned(),
        }
    }

    /// What the challenger changes.
    pub fn effect(self) -> Effect {
        match self {
            Self::Same | Self::SameNoSlower => Effect::default(),
            Self::Slower(percent) => Effect::uniform(f64::from(percent) / 100.0),
            Self::Faster(percent) => Effect::uniform(-f64::from(percent) / 100.0),
            Self::SlowerTail => Effect { uniform: 0.0, tail: 0.1 },
            Self::FasterWithSlowerTail => Effect { uniform: -0.05, tail: 1.1 / 0.95 - 1.0 },
        }
    }

    /// The mode of the gate.
    pub fn mode(self) -> Mode {
        if self == Self::SameNoSlower { Mode::NoSlower } else { Mode::Faster }
    }

    /// The true change of every metric, where it is the same in all of them.
    pub fn truth(self) -> Vec<(Metric, f64)> {
        let effect = self.effect();
        if effect.tail != 0.0 {
            return Vec::new();
        }
        [P50, MEAN, P99].map(|metric| (metric, effect.uniform)).to_vec()
    }
}
