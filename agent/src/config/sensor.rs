//! The table `[sensor]` of `agent.toml`: what is required of the box's sensor, and what is forgiven.

use serde::Deserialize;

use super::{ConfigError, nearest};
use crate::host::check_names;

/// Letters of an approved fingerprint.
const FINGERPRINT_CHARS: usize = 16;
/// The most names of processes that are watched for.
const PRODUCTION_MAX: usize = 64;

/// What is asked of the sensor beyond the tier. `docs/sensor.md` lists the checks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SensorConfig {
    /// Checks that must neither fail nor be unknown, beside those that the tier requires. Key `require`.
    pub require: Vec<String>,
    /// Checks that never stop anything and are not counted. Key `forgive`.
    pub forgive: Vec<String>,
    /// The fingerprint of the box as its owner approved it. Key `approved`.
    pub approved: Option<String>,
    /// Names of processes beside which nothing is measured. Key `production`.
    pub production: Vec<String>,
}

pub(super) const SENSOR_KEYS: &[&str] = &["require", "forgive", "approved", "production"];

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FileSensor {
    require: Vec<String>,
    forgive: Vec<String>,
    approved: Option<String>,
    production: Vec<String>,
}

impl FileSensor {
    pub(super) fn resolve(self) -> Result<SensorConfig, ConfigError> {
        let Self { require, forgive, approved, production } = self;
        for name in require.iter().chain(&forgive) {
            check_name(name)?;
        }
        if let Some(name) = require.iter().find(|name| forgive.contains(name)) {
            return Err(ConfigError::RequiredAndForgiven { name: name.clone() });
        }
        let is_fingerprint =
            |text: &str| text.len() == FINGERPRINT_CHARS && text.bytes().all(|b| b.is_ascii_hexdigit());
        if let Some(text) = approved.as_deref().filter(|text| !is_fingerprint(text)) {
            return Err(ConfigError::range(
                "sensor.approved",
                &format!("`{}`", text.escape_default()),
                "the 16 letters and digits that `darwin-agent sensor` shows as `fingerprint`",
            ));
        }
        if production.len() > PRODUCTION_MAX || production.iter().any(String::is_empty) {
            return Err(ConfigError::range(
                "sensor.production",
                &format!("{} names", production.len()),
                "at most 64 names of processes, none of them empty",
            ));
        }
        Ok(SensorConfig { require, forgive, approved, production })
    }
}

fn check_name(name: &str) -> Result<(), ConfigError> {
    let known: Vec<&'static str> = check_names().collect();
    if known.contains(&name) {
        return Ok(());
    }
    Err(ConfigError::UnknownCheck {
        name: name.escape_default().to_string(),
        nearest: nearest(name, &known),
        known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SensorConfig, ConfigError> {
        toml::from_str::<FileSensor>(text).unwrap().resolve()
    }

    #[test]
    fn what_is_written_is_taken() {
        assert_eq!(read("").unwrap(), SensorConfig::default());
        let all = read(
            "require = [\"isolation\", \"governor\"]\nforgive = [\"steal\"]\napproved = \"0123456789abcdef\"\n\
             production = [\"strategy\"]",
        );
        let all = all.unwrap();
        assert_eq!((all.require.len(), all.forgive.as_slice()), (2, ["steal".to_owned()].as_slice()));
        assert_eq!((all.approved.as_deref(), all.production.len()), (Some("0123456789abcdef"), 1));
    }

    #[test]
    fn mistakes_are_named() {
        let told: Vec<String> = [
            "require = [\"govenor\"]",
            "forgive = [\"weather\"]",
            "require = [\"steal\"]\nforgive = [\"steal\"]",
            "approved = \"yes\"",
            "production = [\"\"]",
        ]
        .into_iter()
        .map(|text| read(text).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(told.join("\n---\n"));
    }
}
