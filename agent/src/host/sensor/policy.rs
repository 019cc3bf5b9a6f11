//! What the box's owner requires of its sensor, and what follows from its readings.

use darwin_shared::fleet::{ReadingStatus, SensorReport, SensorStatus, Tier};

use super::check::{Check, Found, Lasting};

/// Shortcomings that one refusal tells.
const STOPS_TOLD: usize = 5;

/// What is asked of a box. The names are those of checks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SensorPolicy {
    /// What its numbers are good for.
    pub tier: Tier,
    /// Checks that must neither fail nor be unknown, beside those that the tier requires.
    pub require: Vec<String>,
    /// Checks that never stop anything and are not counted.
    pub forgive: Vec<String>,
    /// The fingerprint of the box that its owner approved.
    pub approved: Option<String>,
    /// Names of processes beside which nothing may be measured.
    pub production: Vec<String>,
}

/// The checks that a tier requires.
pub const fn required_by(tier: Tier) -> &'static [&'static str] {
    match tier {
        Tier::BareMetalIsolated => &[
            "virtual_machine",
            "isolation",
            "smt",
            "governor",
            "clock",
            "competition",
            "steal",
            "memory",
            "disk",
        ],
        Tier::Shielded => &["smt", "clock", "competition", "steal", "memory", "disk"],
        Tier::Dev => &["memory", "disk"],
    }
}

impl SensorPolicy {
    /// The policy of a tier, with nothing added.
    pub fn of(tier: Tier) -> Self {
        Self { tier, ..Self::default() }
    }

    /// Whether the owner requires this check beyond what the tier does: it is then judged as strictly as there is.
    pub(super) fn is_demanded(&self, name: &str) -> bool {
        self.require.iter().any(|of| of == name)
    }

    fn is_forgiven(&self, name: &str) -> bool {
        self.forgive.iter().any(|of| of == name)
    }

    /// Whether this check must neither fail nor be unknown.
    pub fn is_required(&self, name: &str) -> bool {
        !self.is_forgiven(name) && (self.is_demanded(name) || required_by(self.tier).contains(&name))
    }

    /// The checks that must neither fail nor be unknown, in the order of the list.
    pub fn required(&self) -> Vec<&'static str> {
        super::names().filter(|name| self.is_required(name)).collect()
    }

    /// What follows from all that was found: `down` if a required check fails or cannot be verified.
    pub(super) fn judge<'a>(&self, found: impl Iterator<Item = (&'a Check, &'a Found)>) -> SensorReport {
        let (mut readings, mut refusals) = (Vec::new(), Vec::new());
        let mut status = SensorStatus::Ok;
        for (check, found) in found {
            let required = self.is_required(check.name);
            let stops = match found.status {
                ReadingStatus::Fail => required,
                ReadingStatus::Unknown => required && !found.not_yet,
                ReadingStatus::Ok | ReadingStatus::Warn => false,
            };
            let told = match found.status {
                ReadingStatus::Warn | ReadingStatus::Fail => !self.is_forgiven(check.name),
                ReadingStatus::Ok | ReadingStatus::Unknown => false,
            };
            status = match status {
                SensorStatus::Down => SensorStatus::Down,
                SensorStatus::Ok | SensorStatus::Degraded if stops => SensorStatus::Down,
                SensorStatus::Ok | SensorStatus::Degraded if told => SensorStatus::Degraded,
                status @ (SensorStatus::Ok | SensorStatus::Degraded) => status,
            };
            match (stops, found.status, check.lasting) {
                (true, ReadingStatus::Unknown, _) => refusals.push(cannot_verify(check.name, &found.note)),
                (true, _, Lasting::Settled) => refusals.push(fails(check.name, found)),
                // It may be gone in a moment, and is waited for.
                (true, _, Lasting::Passing) | (false, ..) => {}
            }
            readings.push(check.tell(found));
        }
        let refuses = (!refusals.is_empty()).then(|| {
            let more = match refusals.len().saturating_sub(STOPS_TOLD) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            refusals.truncate(STOPS_TOLD);
            format!("its sensor (tier {}): {}{more}", self.tier, refusals.join("; "))
        });
        SensorReport { status, readings, refuses }
    }
}

fn fails(name: &str, found: &Found) -> String {
    format!("`{name}` fails: {} -> {}", found.value, found.note)
}

fn cannot_verify(name: &str, reason: &str) -> String {
    format!(
        "cannot verify `{name}`: {reason} -> `forgive = [\"{name}\"]` below [sensor] in its agent.toml does without it"
    )
}
