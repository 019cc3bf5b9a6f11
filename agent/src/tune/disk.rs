//! The journal on disk: a line for each record, with a checksum in front.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use darwin_agent_core::tune::{Journal, Record};

/// The journal's name in the state folder.
pub(super) const NAME: &str = "tune.journal";
/// The most of it that is read: far beyond what any box's knobs fill.
const MAX_BYTES: u64 = 64 << 20;
/// The digits of the checksum before each record.
const CHECK_DIGITS: usize = 8;

/// The journal, and the file that keeps it.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    journal: Journal,
}

impl Disk {
    /// Opens the journal of this state folder. Also says which lines make no sense; a torn one at the end is none of
    /// them, for what it was about had not begun.
    pub(super) fn open(state_dir: &Path) -> io::Result<(Self, Vec<String>)> {
        let path = state_dir.join(NAME);
        let new = !path.exists();
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        if new {
            // So that the file is there when its first record is.
            File::open(state_dir)?.sync_all()?;
        }
        let mut text = Vec::new();
        (&mut file).take(MAX_BYTES).read_to_end(&mut text)?;
        let mut journal = Journal::default();
        let mut damaged = Vec::new();
        let mut suspects = Vec::new();
        let (mut at, mut good) = (0, 0);
        for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
            at += line.len() as u64;
            let Some(record) = line.strip_suffix(b"\n").and_then(decode) else {
                suspects.push(format!("line {number} is damaged"));
                continue;
            };
            good = at;
            damaged.append(&mut suspects);
            if let Err(wrong) = journal.apply(&record) {
                damaged.push(format!("line {number} does not fit: {wrong}"));
            }
        }
        file.set_len(good)?;
        file.seek(io::SeekFrom::End(0))?;
        Ok((Self { file, journal }, damaged))
    }

    pub(super) const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Adds records; with `sync`, they are on disk when this returns.
    pub(super) fn append(&mut self, records: &[Record], sync: bool) -> io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            self.journal.apply(record).map_err(io::Error::other)?;
            encode(record, &mut lines)?;
        }
        self.file.write_all(&lines)?;
        if sync && !records.is_empty() {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Empties the file if nothing is changed any more.
    pub(super) fn tidy(&mut self) -> io::Result<()> {
        if self.journal.is_empty() {
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        Ok(())
    }
}

/// Where the journal of a state folder is.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

fn check(json: &[u8]) -> String {
    blake3::hash(json).to_hex().chars().take(CHECK_DIGITS).collect()
}

fn encode(record: &Record, lines: &mut Vec<u8>) -> io::Result<()> {
    let json = serde_json::to_vec(record)?;
    lines.extend_from_slice(check(&json).as_bytes());
    lines.push(b' ');
    lines.extend_from_slice(&json);
    lines.push(b'\n');
    Ok(())
}

fn decode(line: &[u8]) -> Option<Record> {
    let (sum, rest) = line.split_at_checked(CHECK_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    (sum == check(json).as_bytes()).then(|| serde_json::from_slice(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use darwin_agent_core::tune::{Form, Knob};

    use super::*;

    fn planned(id: u64) -> Record {
        let knob = Knob::new(format!("/k{id}"), Form::Word);
        Record::Planned { id, boot: "b".into(), knob, old: "1".into(), new: "2".into() }
    }

    #[test]
    fn a_torn_end_is_nothing_and_damage_in_the_middle_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, damaged) = Disk::open(dir.path()).unwrap();
        assert!(damaged.is_empty() && disk.journal().is_empty());
        disk.append(&[planned(0), planned(1), planned(2)], true).unwrap();
        disk.append(&[Record::Undone { id: 1 }], false).unwrap();
        let whole = std::fs::read(path(dir.path())).unwrap();
        drop(disk);
        // Wherever the end is torn, what was whole is read, and it goes on behind it.
        for end in 0..=whole.len() {
            std::fs::write(path(dir.path()), &whole[..end]).unwrap();
            let (mut disk, damaged) = Disk::open(dir.path()).unwrap();
            assert!(damaged.is_empty(), "{end}: {damaged:?}");
            disk.append(&[planned(9)], false).unwrap();
            let (again, damaged) = Disk::open(dir.path()).unwrap();
            assert!(damaged.is_empty() && again.journal().entry(9).is_some());
        }
        let mut flipped = whole.clone();
        let middle = whole.iter().position(|byte| *byte == b'\n').unwrap() + 40;
        flipped[middle] ^= 1;
        std::fs::write(path(dir.path()), &flipped).unwrap();
        let (disk, damaged) = Disk::open(dir.path()).unwrap();
        assert_eq!(damaged[0], "line 2 is damaged");
        let left: Vec<u64> = disk.journal().latest_first().map(|(id, _)| id).collect();
        assert_eq!(left, [2, 0]);
    }

    #[test]
    fn a_journal_without_changes_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, _) = Disk::open(dir.path()).unwrap();
        disk.append(&[planned(0)], false).unwrap();
        disk.tidy().unwrap();
        assert_ne!(std::fs::metadata(path(dir.path())).unwrap().len(), 0);
        disk.append(&[Record::Undone { id: 0 }], false).unwrap();
        disk.tidy().unwrap();
        assert_eq!(std::fs::metadata(path(dir.path())).unwrap().len(), 0);
        disk.append(&[planned(1)], false).unwrap();
        let (again, damaged) = Disk::open(dir.path()).unwrap();
        assert!(damaged.is_empty() && again.journal().entry(1).is_some());
    }
}
