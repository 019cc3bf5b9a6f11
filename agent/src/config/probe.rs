//! The table `[probe]` of `agent.toml`: how long the box is probed before and after the rounds of an attempt.

use std::time::Duration;

use darwin_shared::fleet::Tier;
use serde::Deserialize;

use super::file::Written;
use super::{AgentConfig, ConfigError};

/// The longest probe before or after an attempt; a longer look is a job of its own.
const LENGTH_MOST: Duration = Duration::from_mins(2);
/// On boxes whose numbers must stand: sees what comes 1.5 times a second with 95% chance.
const LENGTH: Duration = Duration::from_secs(2);
/// On a dev box, where nothing follows from it but a line in the report.
const LENGTH_ON_DEV: Duration = Duration::from_millis(100);

pub(super) const PROBE_KEYS: &[&str] = &["before", "after"];

/// How long the box is probed around an attempt that measures in rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeLengths {
    /// Before the first round. Key `before`; `"0s"` switches it off. 2 s unless set, 100 ms in the tier `dev`.
    pub before: Duration,
    /// After a round that may be the last. Key `after`; as long as `before` unless set.
    pub after: Duration,
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FileProbe {
    before: Option<Written>,
    after: Option<Written>,
}

impl FileProbe {
    pub(super) fn resolve(&self, tier: Tier) -> ProbeLengths {
        let usual = match tier {
            Tier::BareMetalIsolated | Tier::Shielded => LENGTH,
            Tier::Dev => LENGTH_ON_DEV,
        };
        let before = self.before.map_or(usual, |written| written.0);
        ProbeLengths { before, after: self.after.map_or(before, |written| written.0) }
    }
}

impl AgentConfig {
    pub(super) fn check_probe(&self) -> Result<(), ConfigError> {
        for (key, length) in [("probe.before", self.probe.before), ("probe.after", self.probe.after)] {
            if length > LENGTH_MOST {
                let got = humantime::format_duration(length);
                return Err(ConfigError::range(key, &got, "at most 2m, or 0s for none"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::FileConfig;
    use super::*;
    use crate::config::Overrides;

    fn lengths(text: &str) -> Result<ProbeLengths, ConfigError> {
        let flags = Overrides { id: Some("box".to_owned()), ..Overrides::default() };
        Ok(FileConfig::parse(Path::new("agent.toml"), text)?.resolve(flags)?.probe)
    }

    #[test]
    fn the_tier_says_how_long_unless_the_file_does() {
        let of = |before, after| ProbeLengths { before, after };
        assert_eq!(lengths("").unwrap(), of(LENGTH_ON_DEV, LENGTH_ON_DEV));
        assert_eq!(lengths("tier = \"shielded\"").unwrap(), of(LENGTH, LENGTH));
        assert_eq!(lengths("[probe]\nbefore = \"0s\"").unwrap(), of(Duration::ZERO, Duration::ZERO));
        let both = lengths("[probe]\nbefore = \"5s\"\nafter = \"1s\"").unwrap();
        assert_eq!(both, of(Duration::from_secs(5), Duration::from_secs(1)));
    }

    #[test]
    fn mistakes_are_named() {
        let long = lengths("[probe]\nafter = \"5m\"").unwrap_err().to_string();
        assert_eq!(long, "`probe.after` is 5m; it must be at most 2m, or 0s for none");
        let odd = lengths("[probe]\nbefor = \"1s\"").unwrap_err().to_string();
        assert!(odd.contains("`befor` is not a key of [probe]; did you mean `before`?"), "{odd}");
    }
}
