//! The table `[void]` of `agent.toml`: what makes a round void, where it is not what the tier says.

use darwin_agent_core::disturbance::{RateLimit, ShareLimit, VoidLimits};
use darwin_shared::fleet::Tier;
use serde::Deserialize;

use super::ConfigError;
use super::file::Written;

/// The kernel counts a CPU's time in ticks of 10 ms: below two of them a share says nothing.
const SHARE_LEAST_MS: u64 = 20;
/// A rate is judged from so many events in a round on, unless its tier says otherwise.
const RATE_LEAST: u64 = 10;
/// A whole, in millionths.
const WHOLE_PPM: f64 = 1e6;

pub(super) const VOID_KEYS: &[&str] = &[
    "foreign_percent",
    "foreign_least",
    "stolen_percent",
    "stolen_least",
    "interrupts_per_second",
    "switches_per_second",
    "throttlings",
    "swapped_pages",
    "major_faults",
    "forgive",
];

/// What makes a round void, as it is written. What is not set is as the tier has it; `docs/void-rounds.md` has the
/// table.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FileVoid {
    /// The share of a round that others may use of the leased CPUs and their idle siblings, in percent of one CPU.
    foreign_percent: Option<f64>,
    /// Less time of others than this never makes a round void.
    foreign_least: Option<Written>,
    /// The share of a round that the hypervisor may take, in percent.
    stolen_percent: Option<f64>,
    /// Less stolen time than this never makes a round void.
    stolen_least: Option<Written>,
    /// Device interrupts on the leased CPUs, in a second.
    interrupts_per_second: Option<u32>,
    /// Involuntary switches of the bench, in a second.
    switches_per_second: Option<u32>,
    /// How often a leased CPU may be throttled in a round.
    throttlings: Option<u64>,
    /// Pages that the box may swap in a round.
    swapped_pages: Option<u64>,
    /// Major page faults that the bench may have in a round.
    major_faults: Option<u64>,
    /// Causes that make no round void, by the names that reports give them: `["interrupts"]`.
    forgive: Vec<String>,
}

impl FileVoid {
    pub(super) fn resolve(self, tier: Tier) -> Result<VoidLimits, ConfigError> {
        let mut limits = VoidLimits::of(tier);
        share(&mut limits.foreign, "void.foreign_percent", self.foreign_percent, self.foreign_least)?;
        share(&mut limits.stolen, "void.stolen_percent", self.stolen_percent, self.stolen_least)?;
        rate(&mut limits.interrupts, self.interrupts_per_second);
        rate(&mut limits.switches, self.switches_per_second);
        limits.throttlings = self.throttlings.or(limits.throttlings);
        limits.swapped_pages = self.swapped_pages.or(limits.swapped_pages);
        limits.major_faults = self.major_faults.or(limits.major_faults);
        for name in &self.forgive {
            if !limits.forgive(name) {
                return Err(ConfigError::range(
                    "void.forgive",
                    &format!("`{}`", name.escape_default()),
                    "some of stolen, foreign, throttled, interrupts, migrated, swapped, faulted, switched",
                ));
            }
        }
        Ok(limits)
    }
}

fn share(
    limit: &mut Option<ShareLimit>,
    key: &'static str,
    percent: Option<f64>,
    least: Option<Written>,
) -> Result<(), ConfigError> {
    if percent.is_none() && least.is_none() {
        return Ok(());
    }
    let usual = ShareLimit { share_ppm: 0, least: std::time::Duration::from_millis(SHARE_LEAST_MS) };
    let of_tier = limit.unwrap_or(usual);
    let share_ppm = match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => {
            let ppm = percent / 100.0 * WHOLE_PPM;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is from 0 to a million"
            )]
            let ppm = ppm.round() as u32;
            ppm
        }
        Some(percent) => {
            return Err(ConfigError::range(key, &percent, "from 0 to 100"));
        }
        None => of_tier.share_ppm,
    };
    *limit = Some(ShareLimit { share_ppm, least: least.map_or(of_tier.least, |least| least.0) });
    Ok(())
}

fn rate(limit: &mut Option<RateLimit>, per_second: Option<u32>) {
    if let Some(per_second) = per_second {
        let least = limit.map_or(RATE_LEAST, |limit| limit.least);
        *limit = Some(RateLimit { per_second, least });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::file::FileConfig;
    use super::*;
    use crate::config::Overrides;

    fn limits(text: &str) -> Result<VoidLimits, ConfigError> {
        let flags = Overrides { id: Some("box".to_owned()), ..Overrides::default() };
        Ok(FileConfig::parse(Path::new("agent.toml"), text)?.resolve(flags)?.void)
    }

    #[test]
    fn the_tier_says_what_is_void_unless_the_file_does() {
        assert_eq!(limits("").unwrap(), VoidLimits::of(Tier::Dev));
        assert_eq!(limits("tier = \"shielded\"").unwrap(), VoidLimits::of(Tier::Shielded));
        let file = "tier = \"shielded\"\n[void]\nforeign_percent = 2.5\nstolen_least = \"1s\"\nswitches_per_second = 7\n\
                    swapped_pages = 3\nforgive = [\"interrupts\", \"migrated\"]";
        let shielded = VoidLimits::of(Tier::Shielded);
        let wanted = VoidLimits {
            foreign: Some(ShareLimit { share_ppm: 25_000, least: Duration::from_millis(30) }),
            stolen: Some(ShareLimit { share_ppm: 10_000, least: Duration::from_secs(1) }),
            interrupts: None,
            switches: Some(RateLimit { per_second: 7, least: 10 }),
            swapped_pages: Some(3),
            may_migrate: true,
            ..shielded
        };
        assert_eq!(limits(file).unwrap(), wanted);
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        let told = |text| limits(text).unwrap_err().to_string();
        assert!(told("[void]\nforeign_percent = 101.0").contains("from 0 to 100"));
        assert!(told("[void]\nforgive = [\"steal\"]").contains("`steal`"));
        assert!(told("[void]\nforeign_percnt = 1.0").contains("foreign_percent"));
    }
}
