//! What agents say of themselves.

use darwin_shared::fleet::{AgentFacts, Reading, SensorReport, Tier};
use darwin_shared::ids::PoolName;

use super::ConvertError;
use super::attempt::cpu_list;
use super::text::{labels, short, to_short, to_words, words};
use crate::v1;

/// The most checks of a sensor: those of a box, a few for each of its cores.
const MAX_READINGS: usize = 500;

impl TryFrom<v1::AgentFacts> for AgentFacts {
    type Error = ConvertError;

    fn try_from(facts: v1::AgentFacts) -> Result<Self, ConvertError> {
        cpu_list("lease_cpus", &facts.lease_cpus)?;
        cpu_list("housekeeping_cpus", &facts.housekeeping_cpus)?;
        Ok(Self {
            pool: PoolName::new(facts.pool).map_err(|why| ConvertError::because("pool", why))?,
            labels: labels("labels", facts.labels)?,
            version: short("version", facts.version)?,
            hostname: short("hostname", facts.hostname)?,
            lease_cpus: facts.lease_cpus,
            lease_cores: facts.lease_cores,
            housekeeping_cpus: facts.housekeeping_cpus,
            kernel: short("kernel", facts.kernel)?,
            cpu_model: short("cpu_model", facts.cpu_model)?,
            isolation: facts.isolation.parse().map_err(|why| ConvertError::because("isolation", why))?,
            incarnation: short("incarnation", facts.incarnation)?,
            boot_id: short("boot_id", facts.boot_id)?,
            tier: tier("tier", &facts.tier)?,
            docker: Some(short("docker", facts.docker)?).filter(|version| !version.is_empty()),
        })
    }
}

impl From<AgentFacts> for v1::AgentFacts {
    fn from(facts: AgentFacts) -> Self {
        let isolation = facts.isolation.to_string();
        Self {
            pool: facts.pool.to_string(),
            labels: facts.labels.into_iter().collect(),
            version: to_short(&facts.version),
            hostname: to_short(&facts.hostname),
            lease_cpus: facts.lease_cpus,
            lease_cores: facts.lease_cores,
            housekeeping_cpus: facts.housekeeping_cpus,
            kernel: to_short(&facts.kernel),
            cpu_model: to_short(&facts.cpu_model),
            isolation,
            incarnation: to_short(&facts.incarnation),
            boot_id: to_short(&facts.boot_id),
            tier: facts.tier.to_string(),
            docker: facts.docker.as_deref().map(to_short).unwrap_or_default(),
        }
    }
}

/// A tier's word; a peer that says none is of a time when all were what is `dev` now.
fn tier(field: &str, word: &str) -> Result<Tier, ConvertError> {
    if word.is_empty() {
        return Ok(Tier::default());
    }
    word.parse().map_err(|why| ConvertError::because(field, why))
}

impl TryFrom<v1::SensorReport> for SensorReport {
    type Error = ConvertError;

    fn try_from(report: v1::SensorReport) -> Result<Self, ConvertError> {
        let v1::SensorReport { status, readings, refuses } = report;
        if readings.len() > MAX_READINGS {
            let why = format!("has {} entries; at most {MAX_READINGS} are taken", readings.len());
            return Err(ConvertError::new("readings", why));
        }
        let status = status.parse().map_err(|why| ConvertError::because("status", why))?;
        let readings = readings.into_iter().enumerate().map(|(index, reading)| {
            Reading::try_from(reading).map_err(|error| error.within(format!("readings[{index}]")))
        });
        let refuses = words("refuses", refuses)?;
        let readings = readings.collect::<Result<_, _>>()?;
        Ok(Self { status, readings, refuses: Some(refuses).filter(|why| !why.is_empty()) })
    }
}

impl From<SensorReport> for v1::SensorReport {
    fn from(report: SensorReport) -> Self {
        let SensorReport { status, readings, refuses } = report;
        let readings = readings.into_iter().take(MAX_READINGS).map(Into::into).collect();
        Self { status: status.to_string(), readings, refuses: to_words(refuses.unwrap_or_default()) }
    }
}

impl TryFrom<v1::Reading> for Reading {
    type Error = ConvertError;

    fn try_from(reading: v1::Reading) -> Result<Self, ConvertError> {
        let v1::Reading { name, status, value, why, remedy } = reading;
        Ok(Self {
            name: short("name", name)?,
            status: status.parse().map_err(|why| ConvertError::because("status", why))?,
            value: short("value", value)?,
            why: words("why", why)?,
            remedy: words("remedy", remedy)?,
        })
    }
}

impl From<Reading> for v1::Reading {
    fn from(reading: Reading) -> Self {
        let Reading { name, status, value, why, remedy } = reading;
        Self {
            name: to_short(&name),
            status: status.to_string(),
            value: to_short(&value),
            why: to_words(why),
            remedy: to_words(remedy),
        }
    }
}
