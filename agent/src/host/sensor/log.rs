//! The kernel's log: what it complained of since the last whole reading.

use darwin_shared::text::plain;

use super::check::{Check, Found, Look, When, or_unknown};
use crate::host::fs::HostFs;

/// Where the kernel gives its log, record after record, the oldest first.
const PATH: &str = "/dev/kmsg";
/// The most that is read of it, in bytes and in records: the kernel keeps 256 KiB unless it was told otherwise, and some KiB
/// more for each CPU.
const LOG_MAX_BYTES: usize = 4 << 20;
const LOG_MAX_READS: usize = 1 << 15;
/// Of a complaint that is told.
const TEXT_MAX_CHARS: usize = 100;
/// From this level on (0 is the worst) a record is no complaint.
const LEVEL_NOTICE: u64 = 5;
/// What is said of a program, a container's file system or a bench beyond its own bounds, and not of the box.
const HARMLESS: &[&str] = &[
    "overlayfs: ",
    "cgroup: fork rejected",
    "Possible SYN flooding",
    "started with executable stack",
    "deprecated",
];
/// What makes the time of a bench worthless: heat, errors of the hardware, no memory left, and what stands still.
const SPOILING: &[&str] = &[
    "temperature above threshold",
    "clock throttled",
    "Hardware Error",
    "achine check",
    "achine Check",
    "Out of memory: ",
    "blocked for more than",
    "soft lockup",
    "hard LOCKUP",
    "detected stall",
];

pub(super) const CHECKS: &[Check] = &[Check::passing(
    "kernel_log",
    When::Seldom,
    "what the kernel complains of is seldom without consequences, and much of it no other check sees",
    |look| or_unknown(kernel_log(look)),
)];

/// What one reading of the log came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct KernelLog {
    /// The number of its newest record; none if it is empty.
    newest: Option<u64>,
    /// Complaints since the reading before.
    complaints: u64,
    /// The first of those that spoil a bench, or else the first of all.
    example: Option<String>,
    spoils: bool,
}

/// One record: `4,1832,86400123456,-;text`.
struct Record<'a> {
    /// Who says it: 0 is the kernel itself.
    facility: u64,
    level: u64,
    number: u64,
    text: &'a str,
}

impl<'a> Record<'a> {
    /// What follows a record on lines of its own begins with a blank and is none.
    fn parse(line: &'a str) -> Option<Self> {
        let (head, text) = line.split_once(';')?;
        let mut fields = head.split(',');
        let priority: u64 = fields.next()?.parse().ok()?;
        let number = fields.next()?.parse().ok()?;
        Some(Self { facility: priority >> 3, level: priority & 7, number, text })
    }

    fn is_complaint(&self) -> bool {
        // Every program with the right to may write the others.
        self.facility == 0
            && self.level < LEVEL_NOTICE
            && !HARMLESS.iter().any(|part| self.text.contains(part))
    }
}

impl KernelLog {
    /// Reads it, and keeps what is new since the reading `before`. The reason why it cannot be read is in words.
    pub(super) fn read(host: &HostFs, before: Option<&Self>) -> Result<Self, String> {
        let text = host
            .read_records(PATH, LOG_MAX_BYTES, LOG_MAX_READS)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("{PATH} has more than the {} MiB that are read", LOG_MAX_BYTES >> 20))?;
        let old = before.and_then(|before| before.newest);
        let mut log = Self { newest: old, ..Self::default() };
        let mut understood = false;
        for record in text.lines().filter_map(Record::parse) {
            understood = true;
            log.newest = log.newest.max(Some(record.number));
            if Some(record.number) > old && record.is_complaint() {
                log.add(record.text);
            }
        }
        if !understood && !text.trim().is_empty() {
            let text: String = text.trim().chars().take(60).collect();
            return Err(format!("{PATH} says `{text}`, which is no record like `4,1832,86400123456,-;text`"));
        }
        Ok(log)
    }

    fn add(&mut self, text: &str) {
        let spoils = SPOILING.iter().any(|part| text.contains(part));
        self.complaints += 1;
        if self.example.is_none() || (spoils && !self.spoils) {
            self.example = Some(plain(text, TEXT_MAX_CHARS));
        }
        self.spoils |= spoils;
    }
}

fn kernel_log(look: &Look<'_>) -> Result<Found, Found> {
    let (now, before, seconds) = look.counted()?;
    let log = now.log.as_ref().map_err(Found::unknown)?;
    // Without the reading before, all of it would seem new.
    before.log.as_ref().map_err(Found::unknown)?;
    let Some(example) = &log.example else {
        return Ok(Found::ok(format!("no complaint in {seconds:.1} s")));
    };
    let value = format!("{} in {seconds:.1} s, such as `{example}`", log.complaints);
    let remedy = "`dmesg --level=emerg,alert,crit,err,warn` shows all of it; mend what it names";
    Ok(if log.spoils { look.spoilt(value, remedy) } else { look.untuned(value, remedy) })
}
