//! What an agent says of itself: its box's facts and what its sensor reads.
//!
//! Plain data. Reading a box is the agent's work, and what follows from a report is decided by the cores.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::PoolName;
use crate::words::words;

/// The most labels of an agent or a job: each is compared in matching.
pub const MAX_LABELS: usize = 64;
/// The label that every agent has: its id. A job that asks for it runs on that box or nowhere.
pub const AGENT_LABEL: &str = "darwin.agent";
/// The longest name or value of a label, in characters.
pub const MAX_LABEL_CHARS: usize = 100;

/// What an agent says of itself and its box when it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFacts {
    /// The pool that it belongs to.
    pub pool: PoolName,
    /// Labels that jobs may ask for.
    pub labels: BTreeMap<String, String>,
    /// Its version, like `0.1.0`.
    pub version: String,
    /// The box's name.
    pub hostname: String,
    /// CPUs that it leases out, as a list like `1,3-4`.
    pub lease_cpus: String,
    /// Whole physical cores among them.
    pub lease_cores: u32,
    /// CPUs that it and all staging runs on, as a list like `0`.
    pub housekeeping_cpus: String,
    /// The kernel's release.
    pub kernel: String,
    /// The CPU's model.
    pub cpu_model: String,
    /// The best isolation that it can give.
    pub isolation: IsolationLevel,
    /// Changes with every start of the agent.
    pub incarnation: String,
    /// The box's boot id: changes with every start of the box.
    pub boot_id: String,
    /// What its numbers are good for.
    #[serde(default)]
    pub tier: Tier,
    /// The version of the Docker daemon by which it runs images; none if it runs none.
    #[serde(default)]
    pub docker: Option<String>,
}

impl AgentFacts {
    /// What of the box a calibration depends on, in words: another text means that the noise may be another.
    pub fn fingerprint(&self) -> String {
        let Self { hostname, cpu_model, kernel, lease_cpus, isolation, tier, .. } = self;
        let tier = match tier {
            // What was calibrated before there were tiers says nothing of one.
            Tier::Dev => String::new(),
            Tier::BareMetalIsolated | Tier::Shielded => format!(", tier {tier}"),
        };
        format!("{hostname}: {cpu_model}, kernel {kernel}, CPUs {lease_cpus}, isolation {isolation}{tier}")
    }
}

/// What a box's numbers are good for: what its sensor asks of it, and which results may stand beside each other. The
/// strictest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Bare metal whose leased cores the kernel leaves alone.
    #[serde(alias = "bare-metal")]
    BareMetalIsolated,
    /// Leased cores that are kept quiet, on a box that may do more than that.
    Shielded,
    /// A laptop or virtual machine: the sensor tells, and stops only what cannot work.
    #[default]
    Dev,
}

words!(Tier { BareMetalIsolated = "bare-metal-isolated", Shielded = "shielded", Dev = "dev" });

impl FromStr for Tier {
    type Err = UnknownWord;

    /// Reads the word; `bare-metal` is the older word for the first.
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let text = if text == "bare-metal" { "bare-metal-isolated" } else { text };
        Self::ALL.iter().copied().find(|tier| tier.as_str() == text).ok_or_else(|| UnknownWord {
            text: crate::text::plain(text, 40),
            known: "`bare-metal-isolated`, `shielded`, `dev`",
        })
    }
}

/// A text that is none of the words that there are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not one of {known}")]
pub struct UnknownWord {
    /// The refused text, shortened and without characters that a terminal obeys.
    pub text: String,
    /// The words that there are.
    pub known: &'static str,
}

/// An enum whose variants are known by a word: on the wire, in JSON and on screen.
macro_rules! word_enum {
    (
        $(#[$doc:meta])*
        $name:ident, $known:literal {
            $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        words!($name { $($variant = $word),+ });

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
                    text: crate::text::plain(text, 40),
                    known: $known,
                })
            }
        }
    };
}

word_enum!(
    /// How well nothing else is kept off a bench's cores, from affinity alone to cores that the kernel leaves alone.
    IsolationLevel, "`none`, `affinity`, `fifo`, `cpuset`, `isolated`" {
        /// Nothing took effect.
        None = "none",
        /// The bench is bound to its cores; others may run there too.
        Affinity = "affinity",
        /// Bound, and `SCHED_FIFO` keeps ordinary processes off.
        Fifo = "fifo",
        /// A cpuset of its own; what is not in a cpuset may still run there.
        Cpuset = "cpuset",
        /// Cores that the kernel schedules nothing else on: an isolated partition or `isolcpus`.
        Isolated = "isolated",
    }
);

word_enum!(
    /// What the sensor says of a box, or of the whole system.
    SensorStatus, "`ok`, `degraded`, `down`" {
        /// Measure.
        Ok = "ok",
        /// Measure, with what it warns of in mind.
        Degraded = "degraded",
        /// Do not measure.
        Down = "down",
    }
);

word_enum!(
    /// What one check of the sensor found.
    ReadingStatus, "`ok`, `warn`, `fail`, `unknown`" {
        /// As it should be.
        Ok = "ok",
        /// It may be felt in the measurements.
        Warn = "warn",
        /// It spoils the measurements.
        Fail = "fail",
        /// It cannot be read here.
        Unknown = "unknown",
    }
);

/// One check of the sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What was checked: `governor`, `turbo`, …
    pub name: String,
    /// What was found.
    pub status: ReadingStatus,
    /// What was read, with its unit; empty if nothing could be read.
    pub value: String,
    /// Why it matters.
    pub why: String,
    /// What mends it; empty if nothing need be done.
    pub remedy: String,
}

/// What the sensor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorReport {
    /// What follows from the readings.
    pub status: SensorStatus,
    /// Check by check.
    pub readings: Vec<Reading>,
    /// Why the box's own policy lets nothing be measured here until somebody mends it, with what mends it; none if it
    /// measures, or will again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<String>,
}

impl SensorReport {
    /// The report that these readings make: `down` if one fails, `degraded` if one warns, else `ok`.
    pub fn of(readings: Vec<Reading>) -> Self {
        let worst = |status| readings.iter().any(|reading| reading.status == status);
        let status = if worst(ReadingStatus::Fail) {
            SensorStatus::Down
        } else if worst(ReadingStatus::Warn) {
            SensorStatus::Degraded
        } else {
            SensorStatus::Ok
        };
        Self { status, readings, refuses: None }
    }
}

impl fmt::Display for SensorReport {
    /// The status and what speaks against `ok`: `degraded: governor (powersave), steal (2%)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        let bad = |reading: &&Reading| match reading.status {
            ReadingStatus::Warn | ReadingStatus::Fail => true,
            ReadingStatus::Ok | ReadingStatus::Unknown => false,
        };
        let mut separator = ": ";
        for reading in self.readings.iter().filter(bad) {
            write!(f, "{separator}{} ({})", reading.name, reading.value)?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(name: &str, status: ReadingStatus, value: &str) -> Reading {
        Reading {
            name: name.to_owned(),
            status,
            value: value.to_owned(),
            why: String::new(),
            remedy: String::new(),
        }
    }

    #[test]
    fn the_worst_reading_makes_the_status() {
        let ok = reading("load", ReadingStatus::Ok, "0.1");
        let unknown = reading("turbo", ReadingStatus::Unknown, "");
        let warn = reading("governor", ReadingStatus::Warn, "powersave");
        let fail = reading("steal", ReadingStatus::Fail, "12%");
        assert_eq!(SensorReport::of(vec![ok.clone(), unknown]).to_string(), "ok");
        assert_eq!(SensorReport::of(vec![warn.clone(), ok]).to_string(), "degraded: governor (powersave)");
        let report = SensorReport::of(vec![warn, fail]);
        assert_eq!(report.to_string(), "down: governor (powersave), steal (12%)");
    }

    #[test]
    fn words_read_back_what_they_print() {
        for status in ReadingStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(*status));
            assert_eq!(serde_json::to_string(status).unwrap(), format!("\"{status}\""));
        }
        for status in SensorStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(*status));
        }
        for tier in Tier::ALL {
            assert_eq!(tier.to_string().parse(), Ok(*tier));
            assert_eq!(serde_json::to_string(tier).unwrap(), format!("\"{tier}\""));
        }
        for old in [r#""bare-metal""#, r#""bare-metal-isolated""#] {
            assert_eq!(serde_json::from_str::<Tier>(old).unwrap(), Tier::BareMetalIsolated);
        }
        assert_eq!("bare-metal".parse(), Ok(Tier::BareMetalIsolated));
        let refused = "bare".parse::<Tier>().unwrap_err();
        assert_eq!(refused.to_string(), "`bare` is not one of `bare-metal-isolated`, `shielded`, `dev`");
        let refused = "perfect\u{1b}[2J".parse::<SensorStatus>().unwrap_err();
        assert_eq!(refused.to_string(), "`perfect[2J` is not one of `ok`, `degraded`, `down`");
    }
}
