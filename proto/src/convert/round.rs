//! What rounds measured.

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_gate::mser::WarmUp;
use darwin_gate::{Evidence, Metric, Observation, SeriesKey, Unit};
use darwin_shared::formats::MAX_NAME_CHARS;
use darwin_shared::round::{Invocation, Pairing, RoundResult};

use super::probe::read_probes;
use super::text::{short, to_short, to_words, words};
use super::void::{voids, voids_to_wire};
use super::{ConvertError, arm, attempt_id, digest, digest_bytes, epoch, required};
use crate::v1;

/// Invocations of a round: one of each variant.
const MAX_INVOCATIONS: usize = 2;
/// Relinked builds of a variant, as the gate bounds them.
const MAX_BUILDS: u32 = darwin_gate::policy::MAX_BUILDS;
/// Observations of an invocation: more do not fit a message.
const MAX_OBSERVATIONS: usize = 40_000;

impl TryFrom<v1::RoundResult> for RoundResult {
    type Error = ConvertError;

    fn try_from(result: v1::RoundResult) -> Result<Self, ConvertError> {
        let v1::RoundResult {
            attempt_id: id,
            epoch: fence,
            round,
            invocations,
            pairing,
            warm_ups,
            voids: void,
            probes,
        } = result;
        let count = invocations.len();
        if count == 0 || count > MAX_INVOCATIONS {
            let why = format!("has {count} entries; a round has one of each variant, so 1 or 2");
            return Err(ConvertError::new("invocations", why));
        }
        let read = |(index, invocation): (usize, v1::Invocation)| {
            Invocation::try_from(invocation).map_err(|error| error.within(format!("invocations[{index}]")))
        };
        let invocations: Vec<Invocation> =
            invocations.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
        if let [first, second] = invocations.as_slice()
            && first.arm == second.arm
        {
            return Err(ConvertError::new("invocations", format!("has the {} twice", first.arm)));
        }
        Ok(Self {
            attempt: attempt_id("attempt_id", &id)?,
            epoch: epoch("epoch", fence)?,
            round,
            invocations,
            pairing: pairing.map(Pairing::try_from).transpose().map_err(|error| error.within("pairing"))?,
            warm_ups: warm_ups.into_iter().map(warm_up).collect::<Result<_, _>>()?,
            voids: voids("voids", void)?,
            probes: read_probes("probes", probes)?,
        })
    }
}

fn warm_up(told: v1::WarmUp) -> Result<WarmUp, ConvertError> {
    let v1::WarmUp { bench, cut, of, steady } = told;
    if cut > of {
        let why = format!("is {cut} of {of} calls; no more can be left out than there are");
        return Err(ConvertError::new("warm_ups.cut", why));
    }
    check_bench("warm_ups.bench", &bench)?;
    Ok(WarmUp { bench, cut, of, steady })
}

impl From<WarmUp> for v1::WarmUp {
    fn from(told: WarmUp) -> Self {
        let WarmUp { bench, cut, of, steady } = told;
        Self { bench, cut, of, steady }
    }
}

impl From<RoundResult> for v1::RoundResult {
    fn from(result: RoundResult) -> Self {
        let RoundResult { attempt, epoch, round, invocations, pairing, warm_ups, voids, probes } = result;
        Self {
            attempt_id: attempt.to_string(),
            epoch: Some(epoch.into()),
            round,
            invocations: invocations.into_iter().map(Into::into).collect(),
            pairing: pairing.map(Into::into),
            warm_ups: warm_ups.into_iter().map(Into::into).collect(),
            voids: voids_to_wire(voids),
            probes: probes.iter().map(v1::BoxProbe::from).collect(),
        }
    }
}

impl TryFrom<v1::Pairing> for Pairing {
    type Error = ConvertError;

    fn try_from(pairing: v1::Pairing) -> Result<Self, ConvertError> {
        Ok(match required("way", pairing.way)? {
            v1::pairing::Way::Sliced(v1::SlicedPair { slices, slice_ns }) => {
                Self::Sliced { slices, slice: Duration::from_nanos(slice_ns) }
            }
            v1::pairing::Way::Plain(why) => Self::Plain { why: words("plain", why)? },
        })
    }
}

impl From<Pairing> for v1::Pairing {
    fn from(pairing: Pairing) -> Self {
        let way = match pairing {
            Pairing::Sliced { slices, slice } => v1::pairing::Way::Sliced(v1::SlicedPair {
                slices,
                // A slice is of some milliseconds.
                slice_ns: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
            }),
            Pairing::Plain { why } => v1::pairing::Way::Plain(to_words(why)),
        };
        Self { way: Some(way) }
    }
}

impl TryFrom<v1::Invocation> for Invocation {
    type Error = ConvertError;

    fn try_from(invocation: v1::Invocation) -> Result<Self, ConvertError> {
        let v1::Invocation { arm: side, observations, wall_ns, usage, samples, image, build } = invocation;
        if observations.len() > MAX_OBSERVATIONS {
            let why = format!("has {} entries; at most {MAX_OBSERVATIONS} are taken", observations.len());
            return Err(ConvertError::new("observations", why));
        }
        if let Some(build) = build
            && build >= MAX_BUILDS
        {
            return Err(ConvertError::new(
                "build",
                format!("is {build}; builds are 0 to {}", MAX_BUILDS - 1),
            ));
        }
        let mut map = BTreeMap::new();
        for (index, observation) in observations.into_iter().enumerate() {
            let here = || format!("observations[{index}]");
            let (series, seen): (SeriesKey, Observation) =
                observation.try_into().map_err(|error: ConvertError| error.within(here()))?;
            if map.insert(series.clone(), seen).is_some() {
                return Err(ConvertError::new(here(), format!("is {series}, which stands there before")));
            }
        }
        Ok(Self {
            arm: arm("arm", side)?,
            observations: map,
            wall: Duration::from_nanos(wall_ns),
            usage: required("usage", usage)?.into(),
            samples: if samples.is_empty() { None } else { Some(digest("samples", &samples)?) },
            image: Some(short("image", image)?).filter(|id| !id.is_empty()),
            build,
        })
    }
}

impl From<Invocation> for v1::Invocation {
    fn from(invocation: Invocation) -> Self {
        let Invocation { arm, observations, wall, usage, samples, image, build } = invocation;
        Self {
            arm: v1::Arm::from(arm).into(),
            observations: observations.into_iter().map(Into::into).collect(),
            // 64 bits of nanoseconds are 584 years.
            wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
            usage: Some(usage.into()),
            samples: samples.as_ref().map(digest_bytes).unwrap_or_default(),
            image: image.as_deref().map(to_short).unwrap_or_default(),
            build,
        }
    }
}

impl TryFrom<v1::Observation> for (SeriesKey, Observation) {
    type Error = ConvertError;

    fn try_from(observation: v1::Observation) -> Result<Self, ConvertError> {
        let v1::Observation { bench, metric, value, unit: word, samples, evidence } = observation;
        if !(value.is_finite() && value > 0.0) {
            return Err(ConvertError::new("value", format!("is {value}; it must be finite and above zero")));
        }
        if samples == 0 {
            return Err(ConvertError::new("samples", "is 0; a value is made of one sample at least"));
        }
        let seen = Observation {
            value,
            samples,
            evidence: read_evidence("evidence", &evidence)?,
            unit: unit("unit", &word)?,
        };
        Ok((series(bench, &metric)?, seen))
    }
}

impl From<(SeriesKey, Observation)> for v1::Observation {
    fn from((series, seen): (SeriesKey, Observation)) -> Self {
        let Observation { value, samples, evidence, unit } = seen;
        Self {
            bench: series.bench,
            metric: series.metric.to_string(),
            value,
            unit: unit.word().to_owned(),
            samples,
            evidence: evidence_word(evidence).to_owned(),
        }
    }
}

/// A bench's metric.
pub(super) fn series(bench: String, metric: &str) -> Result<SeriesKey, ConvertError> {
    check_bench("bench", &bench)?;
    let metric: Metric = metric.parse().map_err(|why| ConvertError::because("metric", why))?;
    Ok(SeriesKey { bench, metric })
}

fn check_bench(field: &str, bench: &str) -> Result<(), ConvertError> {
    let chars = bench.chars().count();
    if chars == 0 || chars > MAX_NAME_CHARS {
        let why = format!("has {chars} characters; a bench's name has 1 to {MAX_NAME_CHARS}");
        return Err(ConvertError::new(field, why));
    }
    if bench.chars().any(char::is_control) {
        return Err(ConvertError::new(field, "has a control character; a name is one line of plain text"));
    }
    Ok(())
}

/// The unit of a word.
pub(super) fn unit(field: &str, word: &str) -> Result<Unit, ConvertError> {
    Unit::of_word(word).ok_or_else(|| {
        ConvertError::new(
            field,
            "is no unit; units are `nanoseconds`, `bytes`, `per_second`, `count`, `ratio`",
        )
    })
}

fn read_evidence(field: &str, word: &str) -> Result<Evidence, ConvertError> {
    const CLASSES: [Evidence; 4] = [Evidence::A, Evidence::B, Evidence::C, Evidence::D];
    CLASSES
        .into_iter()
        .find(|class| evidence_word(*class) == word)
        .ok_or_else(|| ConvertError::new(field, "is no class of evidence; classes are `A`, `B`, `C`, `D`"))
}

const fn evidence_word(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::A => "A",
        Evidence::B => "B",
        Evidence::C => "C",
        Evidence::D => "D",
    }
}
