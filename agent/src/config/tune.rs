//! The table `[tune]` of `agent.toml`: what may be changed on the box while benches run.

use std::time::Duration;

use darwin_agent_core::tune::{Choices, HugePages};
use serde::Deserialize;

use super::{ConfigError, Tier};

/// How long changes stay while nothing measures, unless it is said.
const KEEP: Duration = Duration::from_secs(10);
/// The wake-up latency that a box whose numbers must stand is kept below, unless it is said.
const WAKEUP_LATENCY: Duration = Duration::from_micros(2);
/// The longest that changes may stay while nothing measures.
const KEEP_MAX: Duration = Duration::from_hours(1);
/// The longest wake-up latency that a limit is of use for.
const WAKEUP_LATENCY_MAX: Duration = Duration::from_millis(10);

/// What is changed on the box while benches run. All is put back afterwards; `docs/isolation.md` says how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TuneConfig {
    /// Settings of kernel and hardware. Keys `governor`, `turbo`, `thp`, `ksm`, `numa_balancing`, `watchdogs`,
    /// `stat_interval`, `timer_migration`, `workqueues`, `interrupts`; `knobs` stands for all that are not named. On
    /// unless the tier is `dev`.
    pub choices: Choices,
    /// Benches get no transparent huge pages (`thp = "process"`), whatever the box does.
    pub no_huge_pages: bool,
    /// The longest that a CPU may take to wake up while benches run. Key `wakeup_latency_max`; `"2us"` unless the tier
    /// is `dev`.
    pub wakeup_latency_max: Option<Duration>,
    /// Whether cores become an isolated partition of cgroup v2 where a job does not ask for one either. Key
    /// `partition`; true unless the tier is `dev`.
    pub partition: bool,
    /// Whether every task of the box is moved off the leased cores by cpusets of cgroup v1. Key `shield`; false unless
    /// set.
    pub shield: bool,
    /// How long all of this stays while nothing measures. Key `keep`; 10 seconds unless set.
    pub keep: Duration,
}

impl TuneConfig {
    /// Whether anything is to be written down in the journal.
    pub fn changes_the_box(&self) -> bool {
        self.shield || self.choices != Choices::default()
    }
}

pub(super) const TUNE_KEYS: &[&str] = &[
    "knobs",
    "governor",
    "turbo",
    "thp",
    "ksm",
    "numa_balancing",
    "watchdogs",
    "stat_interval",
    "timer_migration",
    "workqueues",
    "interrupts",
    "wakeup_latency_max",
    "partition",
    "shield",
    "keep",
];

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Governor {
    Performance,
    Keep,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Off {
    Off,
    Keep,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Away {
    Away,
    Keep,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Thp {
    Madvise,
    Never,
    Process,
    Keep,
}

/// A time, or `keep` for what the box has.
#[derive(Debug, Clone, Copy)]
enum Time {
    Is(Duration),
    Keep,
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "keep" {
            return Ok(Self::Keep);
        }
        humantime::parse_duration(&text).map(Self::Is).map_err(|error| {
            serde::de::Error::custom(format!("`{text}` is neither a time like \"10s\" nor \"keep\": {error}"))
        })
    }
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FileTune {
    knobs: Option<bool>,
    governor: Option<Governor>,
    turbo: Option<Off>,
    thp: Option<Thp>,
    ksm: Option<Off>,
    numa_balancing: Option<Off>,
    watchdogs: Option<Away>,
    stat_interval: Option<Time>,
    timer_migration: Option<Off>,
    workqueues: Option<Away>,
    interrupts: Option<Away>,
    wakeup_latency_max: Option<Time>,
    partition: Option<bool>,
    shield: bool,
    keep: Option<Time>,
}

impl FileTune {
    pub(super) fn resolve(self, tier: Tier) -> Result<TuneConfig, ConfigError> {
        let strict = tier != Tier::Dev;
        let usual = if self.knobs.unwrap_or(strict) { Choices::all() } else { Choices::default() };
        let off = |written: Option<Off>, usual| written.map_or(usual, |off| matches!(off, Off::Off));
        let away = |written: Option<Away>, usual| written.map_or(usual, |away| matches!(away, Away::Away));
        let choices = Choices {
            governor: self.governor.map_or(usual.governor, |word| matches!(word, Governor::Performance)),
            no_turbo: off(self.turbo, usual.no_turbo),
            huge_pages: match self.thp {
                None => usual.huge_pages,
                Some(Thp::Madvise) => Some(HugePages::Madvise),
                Some(Thp::Never) => Some(HugePages::Never),
                Some(Thp::Process | Thp::Keep) => None,
            },
            no_ksm: off(self.ksm, usual.no_ksm),
            no_numa_balancing: off(self.numa_balancing, usual.no_numa_balancing),
            watchdogs: away(self.watchdogs, usual.watchdogs),
            stat_interval_s: match self.stat_interval {
                None => usual.stat_interval_s,
                Some(Time::Keep) => None,
                Some(Time::Is(time)) => {
                    within("tune.stat_interval", time, Duration::from_secs(1), KEEP_MAX)?;
                    Some(time.as_secs())
                }
            },
            no_timer_migration: off(self.timer_migration, usual.no_timer_migration),
            workqueues: away(self.workqueues, usual.workqueues),
            interrupts: away(self.interrupts, usual.interrupts),
        };
        let wakeup_latency_max = match self.wakeup_latency_max {
            None => strict.then_some(WAKEUP_LATENCY),
            Some(Time::Keep) => None,
            Some(Time::Is(time)) => {
                within("tune.wakeup_latency_max", time, Duration::ZERO, WAKEUP_LATENCY_MAX)?;
                Some(time)
            }
        };
        let keep = match self.keep {
            None | Some(Time::Keep) => KEEP,
            Some(Time::Is(time)) => {
                within("tune.keep", time, Duration::ZERO, KEEP_MAX)?;
                time
            }
        };
        Ok(TuneConfig {
            choices,
            no_huge_pages: matches!(self.thp, Some(Thp::Process)),
            wakeup_latency_max,
            partition: self.partition.unwrap_or(strict),
            shield: self.shield,
            keep,
        })
    }
}

fn within(key: &'static str, got: Duration, least: Duration, most: Duration) -> Result<(), ConfigError> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    let range = match key {
        "tune.stat_interval" => "from 1s to 1h",
        "tune.wakeup_latency_max" => "from 0s to 10ms",
        _ => "from 0s to 1h",
    };
    Err(ConfigError::range(key, &humantime::format_duration(got), range))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, tier: Tier) -> Result<TuneConfig, ConfigError> {
        toml::from_str::<FileTune>(text).unwrap().resolve(tier)
    }

    #[test]
    fn a_laptop_is_left_as_it_is_unless_it_is_said() {
        let dev = read("", Tier::Dev).unwrap();
        assert_eq!(dev, TuneConfig { keep: KEEP, ..TuneConfig::default() });
        assert!(!dev.changes_the_box());
        let some = read("ksm = \"off\"\nkeep = \"0s\"\nwakeup_latency_max = \"0us\"", Tier::Dev).unwrap();
        assert_eq!(some.choices, Choices { no_ksm: true, ..Choices::default() });
        assert_eq!((some.keep, some.wakeup_latency_max), (Duration::ZERO, Some(Duration::ZERO)));
        assert!(some.changes_the_box());
    }

    #[test]
    fn a_box_whose_numbers_must_stand_is_tuned_but_for_what_is_to_be_kept() {
        let all = read("", Tier::BareMetalIsolated).unwrap();
        assert_eq!((all.choices.clone(), all.shield, all.partition), (Choices::all(), false, true));
        assert_eq!(all.wakeup_latency_max, Some(WAKEUP_LATENCY));
        let text = "turbo = \"keep\"\nthp = \"process\"\nstat_interval = \"keep\"\nshield = true";
        let most = read(text, Tier::BareMetalIsolated).unwrap();
        let expected = Choices { no_turbo: false, huge_pages: None, stat_interval_s: None, ..Choices::all() };
        assert_eq!((most.choices, most.no_huge_pages, most.shield), (expected, true, true));
        let none = read("knobs = false\nwakeup_latency_max = \"keep\"", Tier::BareMetalIsolated).unwrap();
        assert!(!none.changes_the_box() && none.wakeup_latency_max.is_none());
        let far = read("keep = \"2h\"", Tier::Dev).unwrap_err();
        assert_eq!(far.to_string(), "`tune.keep` is 2h; it must be from 0s to 1h");
    }
}
