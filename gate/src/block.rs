//! One block: a fresh process of each variant, side by side, and what each of them measured.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::coin::Order;
use crate::metric::{SeriesKey, Unit};

/// What stands behind a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Evidence {
    /// One value per operation, or a histogram of operations.
    A,
    /// Means of batches.
    B,
    /// A summary that the tool made, or one number for the whole command.
    C,
    /// An exact counter: it has no noise.
    D,
}

/// Which side of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// What is accepted now.
    Baseline,
    /// What wants its place.
    Challenger,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Baseline => "baseline",
            Self::Challenger => "challenger",
        })
    }
}

/// The statistic of one series in one invocation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// The value in `unit`: finite and above zero, because changes are compared as ratios.
    pub value: f64,
    /// How many samples the value was made from.
    pub samples: u64,
    /// What kind of samples they were.
    pub evidence: Evidence,
    /// The unit of `value`.
    pub unit: Unit,
}

/// Which of several relinked builds of its variant each side of a round ran, numbered from 0.
///
/// Only strict mode ([`crate::Policy::builds`]) asks for it; older records have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Builds {
    /// The baseline's build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<u32>,
    /// The challenger's build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenger: Option<u32>,
}

impl Builds {
    /// Both sides ran their build of this number.
    pub fn both(build: u32) -> Self {
        Self { baseline: Some(build), challenger: Some(build) }
    }

    /// Whether neither side says which build it ran.
    pub fn is_unnamed(&self) -> bool {
        self.baseline.is_none() && self.challenger.is_none()
    }
}

/// One round: what both variants' processes measured, and in which order they ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The number of the round, from 0, without gaps: void rounds are redrawn, not counted.
    pub round: u32,
    /// Which variant ran first.
    pub order: Order,
    /// The baseline's series.
    #[serde(with = "entries")]
    pub baseline: BTreeMap<SeriesKey, Observation>,
    /// The challenger's series.
    #[serde(with = "entries")]
    pub challenger: BTreeMap<SeriesKey, Observation>,
    /// Which builds ran; unnamed outside strict mode.
    #[serde(default, skip_serializing_if = "Builds::is_unnamed")]
    pub builds: Builds,
}

/// Why a block was refused. A refused block changes nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BlockError {
    /// This round was judged before.
    #[error("round {round} was pushed before; the gate waits for round {expected}")]
    Duplicate {
        /// The round of the block.
        round: u32,
        /// The round that is due.
        expected: u32,
    },
    /// A round is missing before this one.
    #[error("round {round} came before round {expected}: rounds must follow each other without gaps")]
    Gap {
        /// The round of the block.
        round: u32,
        /// The round that is due.
        expected: u32,
    },
    /// The verdict stands already.
    #[error("round {round} came after the verdict, which stands since {pairs} pairs")]
    AlreadyDecided {
        /// The round of the block.
        round: u32,
        /// How many pairs the verdict has.
        pairs: u32,
    },
    /// A value that cannot be compared as a ratio.
    #[error(
        "round {round}, {variant}: {series} = {value} is not a finite number above zero, so no ratio can be formed"
    )]
    BadValue {
        /// In which round.
        round: u32,
        /// On which side.
        variant: Variant,
        /// Of which series.
        series: SeriesKey,
        /// The value as text, for it may be no number at all.
        value: String,
    },
    /// A value made of no samples.
    #[error("round {round}, {variant}: {series} claims 0 samples; at least one is needed")]
    NoSamples {
        /// In which round.
        round: u32,
        /// On which side.
        variant: Variant,
        /// Of which series.
        series: SeriesKey,
    },
    /// The series changed its unit.
    #[error("round {round}, {variant}: {series} is in {got}, but so far it was in {expected}")]
    UnitMismatch {
        /// In which round.
        round: u32,
        /// On which side.
        variant: Variant,
        /// Of which series.
        series: SeriesKey,
        /// The unit it had so far.
        expected: Unit,
        /// The unit it came with.
        got: Unit,
    },
    /// Strict mode asks for the build of every invocation, and one does not say it.
    #[error(
        "round {round}, {variant}: does not say which of the {asked} builds ran, and the policy is strict"
    )]
    BuildUnnamed {
        /// In which round.
        round: u32,
        /// On which side.
        variant: Variant,
        /// How many builds a side the policy asks for.
        asked: u32,
    },
    /// A build that cannot be there.
    #[error("round {round}, {variant}: build {build} ran, but the policy's {asked} builds are 0 to {}", asked - 1)]
    BuildUnknown {
        /// In which round.
        round: u32,
        /// On which side.
        variant: Variant,
        /// The build that ran.
        build: u32,
        /// How many builds a side the policy asks for; never 0.
        asked: u32,
    },
    /// The two sides ran builds that do not belong together.
    #[error(
        "round {round}: build {baseline} of the baseline ran beside build {challenger} of the challenger; \
         in strict mode both sides of a round run the build of the same number"
    )]
    BuildsCrossed {
        /// In which round.
        round: u32,
        /// The baseline's build.
        baseline: u32,
        /// The challenger's build.
        challenger: u32,
    },
}

impl Block {
    /// The series of one side.
    pub fn side(&self, variant: Variant) -> &BTreeMap<SeriesKey, Observation> {
        match variant {
            Variant::Baseline => &self.baseline,
            Variant::Challenger => &self.challenger,
        }
    }

    /// The build that both sides ran, by the rules of strict mode with `asked` builds a side (at least 1).
    pub(crate) fn strict_build(&self, asked: u32) -> Result<u32, BlockError> {
        let round = self.round;
        let named = |variant, build: Option<u32>| match build {
            None => Err(BlockError::BuildUnnamed { round, variant, asked }),
            Some(build) if build >= asked => Err(BlockError::BuildUnknown { round, variant, build, asked }),
            Some(build) => Ok(build),
        };
        let baseline = named(Variant::Baseline, self.builds.baseline)?;
        let challenger = named(Variant::Challenger, self.builds.challenger)?;
        if baseline == challenger {
            Ok(baseline)
        } else {
            Err(BlockError::BuildsCrossed { round, baseline, challenger })
        }
    }

    /// Checks every value by itself; units are checked against earlier blocks by the gate.
    pub(crate) fn validate(&self) -> Result<(), BlockError> {
        let round = self.round;
        for variant in [Variant::Baseline, Variant::Challenger] {
            for (series, seen) in self.side(variant) {
                if !(seen.value.is_finite() && seen.value > 0.0) {
                    let value = seen.value.to_string();
                    return Err(BlockError::BadValue { round, variant, series: series.clone(), value });
                }
                if seen.samples == 0 {
                    return Err(BlockError::NoSamples { round, variant, series: series.clone() });
                }
            }
        }
        Ok(())
    }
}

/// A map of series as a list of entries, since a series is no text key; a series twice is an error.
mod entries {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Observation, SeriesKey};

    #[derive(Serialize)]
    struct EntryRef<'a> {
        series: &'a SeriesKey,
        #[serde(flatten)]
        seen: &'a Observation,
    }

    #[derive(Deserialize)]
    struct Entry {
        series: SeriesKey,
        #[serde(flatten)]
        seen: Observation,
    }

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<SeriesKey, Observation>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter().map(|(series, seen)| EntryRef { series, seen }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<SeriesKey, Observation>, D::Error> {
        let mut map = BTreeMap::new();
        for Entry { series, seen } in Vec::<Entry>::deserialize(deserializer)? {
            if map.contains_key(&series) {
                return Err(serde::de::Error::custom(format!("{series} stands here twice")));
            }
            map.insert(series, seen);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    #[test]
    fn survives_json_and_refuses_duplicates() {
        let key = SeriesKey::new("match[10]", Metric::Throughput);
        let seen = Observation { value: 12.5, samples: 3, evidence: Evidence::C, unit: Unit::PerSecond };
        let block = Block {
            round: 2,
            order: Order::ChallengerFirst,
            baseline: BTreeMap::from([(key.clone(), seen)]),
            challenger: BTreeMap::new(),
            builds: Builds::default(),
        };
        let json = serde_json::to_string(&block).unwrap();
        assert_eq!(serde_json::from_str::<Block>(&json).unwrap(), block);
        let entry = &json[json.find("[{").unwrap() + 1..=json.find("}]").unwrap()];
        let twice = json.replace(entry, &format!("{entry},{entry}"));
        let error = serde_json::from_str::<Block>(&twice).unwrap_err().to_string();
        assert!(error.contains("throughput of match[10] stands here twice"), "{error}");
        // A record without builds reads and writes as it always did; one with builds keeps them.
        assert!(!json.contains("builds"), "{json}");
        let strict = Block { builds: Builds::both(3), ..block };
        let json = serde_json::to_string(&strict).unwrap();
        assert_eq!(serde_json::from_str::<Block>(&json).unwrap(), strict);
    }
}
