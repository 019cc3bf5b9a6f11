//! What a check is, and what it may find.

use std::path::Path;

use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::{Reading, ReadingStatus};

use super::counters::Counters;
use super::limits::SensorLimits;
use super::policy::SensorPolicy;
use super::scope::Scope;
use crate::host::fs::HostFs;
use crate::host::stat::{CpuTimes, StatError, StatSample};

/// When a check is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// When the sensor is made: it cannot change while the box is up, and may be felt when it is read.
    Once,
    /// With the whole list only: at the start, and now and then while nothing is measured.
    Seldom,
    /// Each time, before every attempt: a few small files.
    Always,
}

/// Whether what a check finds passes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasting {
    /// It stays until somebody mends it.
    Settled,
    /// It may be gone at the next reading.
    Passing,
}

/// One line of the list.
#[derive(Debug)]
pub(super) struct Check {
    /// Its name in tables, JSON and `agent.toml`.
    pub(super) name: &'static str,
    pub(super) when: When,
    pub(super) lasting: Lasting,
    /// Why it matters.
    pub(super) why: &'static str,
    pub(super) read: fn(&Look<'_>) -> Found,
}

impl Check {
    pub(super) const fn settled(
        name: &'static str,
        when: When,
        why: &'static str,
        read: fn(&Look<'_>) -> Found,
    ) -> Self {
        Self { name, when, lasting: Lasting::Settled, why, read }
    }

    pub(super) const fn passing(
        name: &'static str,
        when: When,
        why: &'static str,
        read: fn(&Look<'_>) -> Found,
    ) -> Self {
        Self { name, when, lasting: Lasting::Passing, why, read }
    }

    /// What was found, as it is told.
    pub(super) fn tell(&self, found: &Found) -> Reading {
        let Found { status, value, note, .. } = found;
        let (why, remedy) = match status {
            // There is no value, and the reason is why there is none.
            ReadingStatus::Unknown => (note.clone(), String::new()),
            ReadingStatus::Ok | ReadingStatus::Warn | ReadingStatus::Fail => {
                (self.why.to_owned(), note.clone())
            }
        };
        Reading { name: self.name.to_owned(), status: *status, value: value.clone(), why, remedy }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) status: ReadingStatus,
    /// What was read; empty if it is unknown.
    pub(super) value: String,
    /// What mends it, or why it is unknown; empty if all is well.
    pub(super) note: String,
    /// Whether it is unknown now and will be known by itself.
    pub(super) not_yet: bool,
}

impl Found {
    pub(super) fn graded(status: ReadingStatus, value: impl Into<String>, remedy: impl Into<String>) -> Self {
        let note = if status == ReadingStatus::Ok { String::new() } else { remedy.into() };
        Self { status, value: value.into(), note, not_yet: false }
    }

    pub(super) fn ok(value: impl Into<String>) -> Self {
        Self::graded(ReadingStatus::Ok, value, "")
    }

    pub(super) fn fail(value: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::graded(ReadingStatus::Fail, value, remedy)
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "an error goes in as it came, without a borrow at each place"
    )]
    pub(super) fn unknown(reason: impl ToString) -> Self {
        let note = reason.to_string();
        Self { status: ReadingStatus::Unknown, value: String::new(), note, not_yet: false }
    }

    /// Unknown until there are two readings with some time between them.
    pub(super) fn not_yet(reason: impl Into<String>) -> Self {
        Self { not_yet: true, ..Self::unknown(reason.into()) }
    }
}

/// A check's way of failing to know: its reason becomes the reading.
pub(super) fn or_unknown(found: Result<Found, Found>) -> Found {
    found.unwrap_or_else(|unknown| unknown)
}

/// What a check may look at: the box now, and what was counted before.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub(super) host: &'a HostFs,
    pub(super) scope: &'a Scope,
    pub(super) limits: &'a SensorLimits,
    pub(super) policy: &'a SensorPolicy,
    /// Where time went, up to now and up to the last reading.
    pub(super) now: &'a Result<StatSample, StatError>,
    pub(super) earlier: Option<&'a StatSample>,
    /// CPUs that benches of our own used since then.
    pub(super) ours: &'a CpuSet,
    /// What was counted up to now and up to the last whole reading; the first only in a whole reading.
    pub(super) counters: Option<&'a Counters>,
    pub(super) counted_before: Option<&'a Counters>,
}

impl Look<'_> {
    /// The text of a file that must say something, or why it is unknown.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Result<String, Found> {
        let path = path.as_ref();
        match self.host.read(path) {
            Ok(text) if text.is_empty() => Err(Found::unknown(format!("{} is empty", path.display()))),
            Ok(text) => Ok(text),
            Err(error) => Err(Found::unknown(error)),
        }
    }

    /// A file's number, or why it is unknown.
    pub(super) fn number(&self, path: impl AsRef<Path>) -> Result<i64, Found> {
        let path = path.as_ref();
        let text = self.text(path)?;
        text.parse().map_err(|_| odd(path, &text, "a whole number"))
    }

    /// A file's list of CPUs, or why it is unknown. Empty text is the empty list, and so is what old kernels write for it.
    pub(super) fn cpus(&self, path: impl AsRef<Path>) -> Result<CpuSet, Found> {
        let path = path.as_ref();
        match self.host.read(path) {
            Ok(text) if text == "(null)" => Ok(CpuSet::new()),
            Ok(text) => text.parse().map_err(|_| odd(path, &text, "a list of CPUs like 0-3,8")),
            Err(error) => Err(Found::unknown(error)),
        }
    }

    /// A file's mask of CPUs, hexadecimal words of 32 bits, the highest first.
    pub(super) fn mask(&self, path: impl AsRef<Path>) -> Result<CpuSet, Found> {
        let path = path.as_ref();
        let text = self.text(path)?;
        mask(&text).ok_or_else(|| odd(path, &text, "a mask of CPUs like ffffffff,0000000f"))
    }

    /// The leased CPUs and their siblings: what a frequency, an idle state or an interrupt reaches a bench through.
    pub(super) fn cores(&self) -> CpuSet {
        self.scope.cpus.union(&self.scope.siblings_idle)
    }

    /// What the settings of a box should be for good numbers, and this one's are not: a warning where numbers must stand.
    pub(super) fn untuned(&self, value: impl Into<String>, remedy: impl Into<String>) -> Found {
        tolerated(self.limits.untuned, value.into(), remedy)
    }

    /// What spoils a bench where numbers must stand.
    pub(super) fn spoilt(&self, value: impl Into<String>, remedy: impl Into<String>) -> Found {
        tolerated(self.limits.spoilt, value.into(), remedy)
    }

    /// What these CPUs did since the last reading, or why that is not known.
    pub(super) fn span(&self, cpus: &CpuSet) -> Result<CpuTimes, Found> {
        let now = self.now.as_ref().map_err(Found::unknown)?;
        let earlier =
            self.earlier.ok_or_else(|| Found::not_yet("it takes two readings, and this is the first"))?;
        let times = now.since(earlier, cpus);
        if times.total_ticks() == 0 {
            return Err(Found::not_yet("too little time has passed since the last reading"));
        }
        Ok(times)
    }

    /// What was counted up to now and before, and the seconds between, or why that is not known.
    pub(super) fn counted(&self) -> Result<(&Counters, &Counters, f64), Found> {
        let first = || Found::not_yet("it takes two whole readings, and this is the first");
        let (now, before) = (self.counters.ok_or_else(first)?, self.counted_before.ok_or_else(first)?);
        let (from, to) = match (&before.uptime_s, &now.uptime_s) {
            (Ok(from), Ok(to)) => (*from, *to),
            (Err(why), _) | (_, Err(why)) => return Err(Found::unknown(why)),
        };
        if to <= from {
            return Err(Found::not_yet("too little time has passed since the last whole reading"));
        }
        Ok((now, before, to - from))
    }
}

/// A shortcoming as the tier sees it: one that asks for no better is told, and that is all.
pub(super) fn tolerated(status: ReadingStatus, value: String, remedy: impl Into<String>) -> Found {
    match status {
        ReadingStatus::Ok => Found::ok(format!("{value}; tier dev asks for no better")),
        status @ (ReadingStatus::Warn | ReadingStatus::Fail | ReadingStatus::Unknown) => {
            Found::graded(status, value, remedy)
        }
    }
}

/// A file that says what is not understood: unknown, with what it says.
pub(super) fn odd(path: &Path, text: &str, expected: &str) -> Found {
    let text: String = text.chars().take(60).collect();
    Found::unknown(format!("{} says `{text}`, which is not {expected}", path.display()))
}

/// Reads `ffffffff,0000000f`.
pub(super) fn mask(text: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    let mut first = 0u32;
    for word in text.split(',').rev() {
        let bits = u32::from_str_radix(word.trim(), 16).ok()?;
        for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
            cpus.insert(first + bit).ok()?;
        }
        first = first.checked_add(32)?;
    }
    Some(cpus)
}

/// `CPU 1` or `CPUs 1-3`.
pub(super) fn named(cpus: &CpuSet) -> String {
    let noun = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    format!("{noun} {cpus}")
}

/// The first few of many, and how many more there are.
pub(super) fn listed(items: &[String]) -> String {
    const TOLD: usize = 3;
    let told = items.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_from_the_right() {
        let read = |text: &str| mask(text).map(|cpus| cpus.to_string());
        assert_eq!(read("3").as_deref(), Some("0-1"));
        assert_eq!(read("00000001,80000000").as_deref(), Some("31-32"));
        assert_eq!(read("0").as_deref(), Some(""));
        assert_eq!(read("ffffffff,ffffffff").as_deref(), Some("0-63"));
        assert_eq!((read("x"), read("")), (None, None));
    }
}
