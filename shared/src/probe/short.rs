//! A probe in one line, for reports and for the ledger.

use std::fmt;

use darwin_gate::Unit;
use serde::{Deserialize, Serialize};

use super::{BoxProbe, ProbeLevel, ProbeMoment, RoundProbe};
use crate::units::format_value;

/// What a probe saw of the CPU that is the worst off, in whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeShort {
    /// Gaps a second.
    pub gaps_per_s: u64,
    /// The 99th percentile of their lengths.
    pub p99_ns: u64,
    /// The gaps' share of the time, in millionths.
    pub stolen_ppm: u32,
    /// The time for a fixed amount of work over the best that the CPU ever had, in thousandths.
    pub capacity_permille: Option<u32>,
    /// What the probe comes to.
    pub level: ProbeLevel,
}

impl ProbeShort {
    /// The short form; none of a probe without CPUs.
    pub fn of(probe: &BoxProbe) -> Option<Self> {
        let worst = probe.worst()?;
        let capacities = probe.cpus.iter().filter_map(|cpu| cpu.capacity?.of_best());
        Some(Self {
            gaps_per_s: whole(worst.gaps.rate_per_s),
            p99_ns: worst.gaps.p99_ns,
            stolen_ppm: u32::try_from(whole(worst.gaps.stolen_share * 1e6)).unwrap_or(u32::MAX),
            capacity_permille: capacities
                .reduce(f64::max)
                .map(|ratio| u32::try_from(whole(ratio * 1e3)).unwrap_or(u32::MAX)),
            level: probe.level(),
        })
    }
}

/// The nearest whole number; 0 for what is none.
fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast of a float is held at the ends of the range"
    )]
    let whole = value.round() as u64;
    whole
}

impl fmt::Display for ProbeShort {
    /// `812 gaps/s, p99 93.0us, 2.1% stolen, capacity 1.02x of best`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p99 = format_value(self.p99_ns as f64, Unit::Nanoseconds);
        let stolen = share(f64::from(self.stolen_ppm) / 1e6);
        write!(f, "{} gaps/s, p99 {p99}, {stolen} stolen", self.gaps_per_s)?;
        if let Some(permille) = self.capacity_permille {
            write!(f, ", capacity {:.2}x of best", f64::from(permille) / 1e3)?;
        }
        match self.level {
            ProbeLevel::Ok => Ok(()),
            ProbeLevel::Warn | ProbeLevel::Fail => write!(f, " ({})", self.level),
        }
    }
}

/// A share of time for people: `2.1%`, `0.004%`.
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = match percent {
        size if size >= 9.95 => 0,
        size if size >= 0.095 || size <= 0.0 => 1,
        _ => 3,
    };
    format!("{percent:.decimals$}%")
}

/// What probes saw before and after the rounds of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BoxWatch {
    /// Before the first round.
    pub before: Option<ProbeShort>,
    /// After the latest round that may have been the last.
    pub after: Option<ProbeShort>,
    /// How the box got worse meanwhile, in words; empty if it did not.
    pub worse: String,
}

impl BoxWatch {
    /// Takes in what came with a round.
    pub fn add(&mut self, probes: &[RoundProbe]) {
        for RoundProbe { moment, probe, worse } in probes {
            let short = ProbeShort::of(probe);
            match moment {
                ProbeMoment::Job => {}
                ProbeMoment::Before => self.before = short,
                ProbeMoment::After => {
                    self.after = short;
                    self.worse.clone_from(worse);
                }
            }
        }
    }

    /// The line of a report; none if nothing was probed.
    pub fn line(&self) -> Option<String> {
        let told = |when: &str, short: &Option<ProbeShort>| short.map(|short| format!("{when} {short}"));
        let parts: Vec<String> =
            [told("before", &self.before), told("after", &self.after)].into_iter().flatten().collect();
        if parts.is_empty() {
            return None;
        }
        let line = format!("box: {}", parts.join("; "));
        Some(match self.worse.as_str() {
            "" => line,
            worse => format!("{line} - the box changed while it was measured: {worse}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(level: ProbeLevel) -> ProbeShort {
        ProbeShort {
            gaps_per_s: 812,
            p99_ns: 93_000,
            stolen_ppm: 21_000,
            capacity_permille: Some(1_020),
            level,
        }
    }

    #[test]
    fn a_line_says_before_and_after() {
        let mut watch = BoxWatch::default();
        assert_eq!(watch.line(), None);
        watch.before = Some(short(ProbeLevel::Ok));
        assert_eq!(
            watch.line().unwrap(),
            "box: before 812 gaps/s, p99 93.0us, 2.1% stolen, capacity 1.02x of best"
        );
        watch.after =
            Some(ProbeShort { stolen_ppm: 450_000, capacity_permille: None, ..short(ProbeLevel::Fail) });
        "45% of CPU 1 is stolen, 21 times as much as before".clone_into(&mut watch.worse);
        assert_eq!(
            watch.line().unwrap(),
            "box: before 812 gaps/s, p99 93.0us, 2.1% stolen, capacity 1.02x of best; after 812 gaps/s, p99 93.0us, 45% \
             stolen (fail) - the box changed while it was measured: 45% of CPU 1 is stolen, 21 times as much as before"
        );
    }

    #[test]
    fn small_shares_keep_their_digits() {
        let shown: Vec<String> = [0.0, 0.000_04, 0.001, 0.021, 0.45].iter().map(|s| share(*s)).collect();
        assert_eq!(shown, ["0.0%", "0.004%", "0.1%", "2.1%", "45%"]);
    }
}
