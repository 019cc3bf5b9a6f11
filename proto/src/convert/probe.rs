//! What probes saw.

use darwin_shared::probe::{BoxProbe, MAX_PROBED_CPUS, PROBE_SCHEMA, ProbeMoment, RoundProbe};

use super::ConvertError;
use super::text::{to_words, words};
use crate::v1;

/// Probes of one round: one before and one after it.
const MAX_PROBES: usize = 2;
/// The largest probe, in bytes of JSON: some KiB for each of very many CPUs.
const MAX_PROBE_BYTES: usize = 4 << 20;

/// The probes of a round. What this version does not know is left out: no verdict hangs on it.
pub(super) fn read_probes(field: &str, probes: Vec<v1::BoxProbe>) -> Result<Vec<RoundProbe>, ConvertError> {
    if probes.len() > MAX_PROBES {
        let why = format!("has {} entries; a round has one before and one after it at most", probes.len());
        return Err(ConvertError::new(field, why));
    }
    let read = probes.into_iter().map(|probe| read_probe(probe).map_err(|error| error.within(field)));
    Ok(read.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// The probe; none of a kind or schema that this version does not know.
pub fn read_probe(told: v1::BoxProbe) -> Result<Option<RoundProbe>, ConvertError> {
    let v1::BoxProbe { moment, worse, json, schema } = told;
    let moment = ProbeMoment::ALL.iter().copied().find(|known| known.as_str() == moment);
    let Some(moment) = moment.filter(|_| schema == PROBE_SCHEMA) else { return Ok(None) };
    if json.len() > MAX_PROBE_BYTES {
        let why = format!("has {} bytes; at most {MAX_PROBE_BYTES} are taken", json.len());
        return Err(ConvertError::new("json", why));
    }
    let probe: BoxProbe = serde_json::from_str(&json).map_err(|why| ConvertError::because("json", why))?;
    if probe.cpus.len() > MAX_PROBED_CPUS {
        let why = format!("has {} CPUs; at most {MAX_PROBED_CPUS} are taken", probe.cpus.len());
        return Err(ConvertError::new("json", why));
    }
    Ok(Some(RoundProbe { moment, probe, worse: words("worse", worse)? }))
}

impl From<&RoundProbe> for v1::BoxProbe {
    fn from(told: &RoundProbe) -> Self {
        let RoundProbe { moment, probe, worse } = told;
        // It fails for maps with keys that are no text and for a `Serialize` that refuses; a probe has neither.
        #[expect(clippy::expect_used, reason = "the line above says why it cannot fail")]
        let json = serde_json::to_string(probe).expect("a probe can be written as JSON");
        Self {
            moment: moment.as_str().to_owned(),
            worse: to_words(worse.clone()),
            json,
            schema: PROBE_SCHEMA.to_owned(),
        }
    }
}
