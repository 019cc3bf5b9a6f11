//! What a round measured: the currency between an agent's spool, the link and the gate.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use darwin_gate::mser::WarmUp;
use darwin_gate::{Observation, SeriesKey};
use serde::{Deserialize, Serialize};

use crate::ids::{AttemptId, Digest, Epoch};
use crate::probe::RoundProbe;
use crate::spec::Arm;
use crate::usage::Usage;
use crate::void::VoidRounds;

/// One interleaved block: every variant was invoked in it once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundResult {
    /// The attempt that measured.
    pub attempt: AttemptId,
    /// Its fence.
    pub epoch: Epoch,
    /// Counted from 0, without gaps.
    pub round: u32,
    /// The invocations in the order in which they ran.
    pub invocations: Vec<Invocation>,
    /// How its two processes were run; none with one process, and from an agent that knows one way only.
    pub pairing: Option<Pairing>,
    /// Benches whose first calls were left out as warm-up, or that are not steady.
    #[serde(default)]
    pub warm_ups: Vec<WarmUp>,
    /// Measurements of this very round that were void before this one counted.
    #[serde(default)]
    pub voids: VoidRounds,
    /// Probes of the box that were made just before and after it.
    #[serde(default)]
    pub probes: Vec<RoundProbe>,
}

/// How the two processes of a pair were run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Both alive at once, taking turns.
    Sliced {
        /// Slices of each bench on each side.
        slices: u32,
        /// How long a slice is.
        slice: Duration,
    },
    /// One after the other.
    Plain {
        /// Why, in words.
        why: String,
    },
}

impl Pairing {
    /// The word for both alive at once, for programs.
    pub const SLICED: &str = "sliced";
    /// The word for one after the other, for programs.
    pub const PLAIN: &str = "plain";

    /// The word for it, for programs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Sliced { .. } => Self::SLICED,
            Self::Plain { .. } => Self::PLAIN,
        }
    }
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sliced { slices, slice } => {
                write!(f, "sliced pairs: {slices} slices of {} or more", humantime::format_duration(*slice))
            }
            Self::Plain { why } => write!(f, "plain pairs: {why}"),
        }
    }
}

/// One start of a variant's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// Which side.
    pub arm: Arm,
    /// What the benches measured, statistic by statistic.
    #[serde(with = "as_list")]
    pub observations: BTreeMap<SeriesKey, Observation>,
    /// From exec to the end of the process, on the monotonic clock.
    pub wall: Duration,
    /// What it used.
    pub usage: Usage,
    /// The digest of the samples in `darwin-samples/1`, if they were kept.
    pub samples: Option<Digest>,
    /// The id of the image that it ran in, `sha256:…`; none for a process.
    #[serde(default)]
    pub image: Option<String>,
    /// Which of its variant's relinked builds ran, from 0; none where the variant has one build only.
    #[serde(default)]
    pub build: Option<u32>,
}

/// Observations as a list of pairs: a JSON object takes only text for its keys.
mod as_list {
    use std::collections::BTreeMap;

    use darwin_gate::{Observation, SeriesKey};
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<SeriesKey, Observation>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<SeriesKey, Observation>, D::Error> {
        let list = Vec::<(SeriesKey, Observation)>::deserialize(deserializer)?;
        let length = list.len();
        let map: BTreeMap<_, _> = list.into_iter().collect();
        if map.len() == length { Ok(map) } else { Err(de::Error::custom("a series stands twice")) }
    }
}
