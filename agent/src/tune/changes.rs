//! Making changes and undoing them, each with its journal before it.

use std::fmt;
use std::io;
use std::path::Path;

use darwin_agent_core::tune::{Back, Journal, Knob, Record, Undo, Wish};

use super::disk::Disk;
use super::knobs;
use crate::host::HostFs;

/// The life of the kernel that a change is of.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    path: String,
    pub(super) what: What,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// It was set to this value.
    Set(String),
    /// This value is back.
    Undone(String),
    /// Someone else had changed it to this, and it was left alone.
    Foreign(String),
    /// Nothing was, or is to be, done, for this reason.
    Impossible(String),
    /// It is still to be undone: this is in the way.
    Stuck(String),
}

impl Told {
    /// The knob in a word or two: `ksm/run`, `stat_interval`.
    pub(super) fn name(&self) -> &str {
        let mut parts = self.path.rsplitn(3, '/');
        match (parts.next(), parts.next()) {
            (Some(last), Some(folder)) if last.len() + 1 + folder.len() < self.path.len() => {
                // A number says nothing, and the usual folders say what the name says.
                let plain = folder.ends_with(|letter: char| letter.is_ascii_digit())
                    || matches!(folder, "kernel" | "vm" | "cpufreq" | "intel_pstate");
                if plain { last } else { &self.path[self.path.len() - last.len() - folder.len() - 1..] }
            }
            _ => &self.path,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.what {
            What::Set(value) => write!(f, "{path}: set to `{value}`"),
            What::Undone(value) => write!(f, "{path}: back at `{value}`"),
            What::Foreign(found) => {
                write!(f, "{path}: changed by someone else: it is `{found}`, and was left alone")
            }
            What::Impossible(why) => write!(f, "{path}: left as it is: {why}"),
            What::Stuck(why) => write!(f, "{path}: cannot be put back: {why}"),
        }
    }
}

/// A box and the journal of what is changed on it.
#[derive(Debug)]
pub(super) struct Changes {
    host: HostFs,
    disk: Disk,
    boot: String,
}

impl Changes {
    /// Opens the journal; also says which of its lines make no sense.
    pub(super) fn open(host: HostFs, state_dir: &Path) -> io::Result<(Self, Vec<String>)> {
        let (disk, damaged) = Disk::open(state_dir)?;
        let boot = host.read(BOOT_ID).unwrap_or_default();
        Ok((Self { host, disk, boot }, damaged))
    }

    pub(super) const fn journal(&self) -> &Journal {
        self.disk.journal()
    }

    /// Makes wishes come true as far as the box lets them. Nothing is written where all is as wished.
    pub(super) fn make(&mut self, wishes: Vec<Wish>) -> io::Result<Vec<Told>> {
        let read = wishes.into_iter().map(|wish| {
            let reading = knobs::read(&self.host, &wish.knob);
            (wish, reading)
        });
        let planned = self.journal().plan(&self.boot, read);
        self.disk.append(&planned, true)?;
        let mut told = Vec::with_capacity(planned.len());
        for record in planned {
            let Record::Planned { id, knob, new, .. } = record else { continue };
            let wrote = knobs::write(&self.host, &knob, &new);
            let records = self.journal().tried(id, wrote, &knobs::read(&self.host, &knob));
            self.disk.append(&records, false)?;
            let what = match records.last() {
                Some(Record::ReadBack { value, .. }) => What::Set(value.clone()),
                Some(Record::Impossible { why, .. }) => What::Impossible(why.clone()),
                Some(_) | None => What::Set(new),
            };
            told.push(Told { path: knob.path, what });
        }
        Ok(told)
    }

    /// Undoes everything, the latest change first, and says how each went.
    pub(super) fn undo(&mut self) -> io::Result<Vec<Told>> {
        let open: Vec<(u64, Knob, String)> = self
            .journal()
            .latest_first()
            .map(|(id, entry)| (id, entry.knob.clone(), entry.old.clone()))
            .collect();
        let mut told = Vec::with_capacity(open.len());
        for (id, knob, old) in open {
            let now = knobs::read(&self.host, &knob);
            let back = match self.journal().undo(id, &self.boot, &now) {
                None => continue,
                Some(Undo::Close(record)) => Some(Back::Closed(record)),
                Some(Undo::Write(old)) => {
                    let wrote = knobs::write(&self.host, &knob, &old);
                    self.journal().undone(id, wrote, &knobs::read(&self.host, &knob))
                }
            };
            let what = match back {
                Some(Back::Closed(record)) => {
                    let what = match &record {
                        Record::Foreign { found, .. } => What::Foreign(found.clone()),
                        Record::Impossible { why, .. } => What::Impossible(why.clone()),
                        Record::Planned { .. }
                        | Record::Written { .. }
                        | Record::ReadBack { .. }
                        | Record::Undone { .. } => What::Undone(old),
                    };
                    self.disk.append(&[record], false)?;
                    what
                }
                Some(Back::Stuck(why)) => What::Stuck(why),
                None => continue,
            };
            told.push(Told { path: knob.path, what });
        }
        self.disk.tidy()?;
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use darwin_agent_core::tune::{Form, Want};

    use super::*;

    fn tree() -> (tempfile::TempDir, HostFs) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("proc/sys/kernel/random/boot_id", "one"), ("a", "1"), ("b", "0-3"), ("c", "7")]
        {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let host = HostFs::new(dir.path());
        (dir, host)
    }

    fn wishes() -> Vec<Wish> {
        let others = "0".parse().unwrap();
        let wish = |path, form, want| Wish { knob: Knob::new(path, form), want };
        vec![
            wish("/a", Form::Word, Want::Value("2".into())),
            wish("/b", Form::List, Want::Without("2-3".parse().unwrap(), others)),
            wish("/c", Form::Word, Want::Value("7".into())),
            wish("/gone", Form::Word, Want::Value("7".into())),
        ]
    }

    #[test]
    fn what_is_changed_comes_back_after_the_agent_died() {
        let (dir, host) = tree();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap().trim().to_owned();
        let (mut changes, damaged) = Changes::open(host.clone(), dir.path()).unwrap();
        assert!(damaged.is_empty());
        let told: Vec<String> = changes.make(wishes()).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["/a: set to `2`", "/b: set to `0-1`"]);
        assert_eq!((read("a"), read("b"), read("c")), ("2".into(), "0-1".into(), "7".into()));
        assert!(changes.make(wishes()).unwrap().is_empty(), "all is as wished");
        drop(changes);
        let (mut changes, _) = Changes::open(host, dir.path()).unwrap();
        let told: Vec<String> = changes.undo().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["/b: back at `0-3`", "/a: back at `1`"]);
        assert_eq!((read("a"), read("b")), ("1".into(), "0-3".into()));
        assert!(changes.undo().unwrap().is_empty());
    }

    #[test]
    fn what_others_changed_and_what_a_restart_undid_is_left_alone() {
        let (dir, host) = tree();
        let (mut changes, _) = Changes::open(host.clone(), dir.path()).unwrap();
        changes.make(wishes()).unwrap();
        fs::write(dir.path().join("a"), "5\n").unwrap();
        let told: Vec<String> = changes.undo().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(told[1], "/a: changed by someone else: it is `5`, and was left alone");
        changes.make(wishes()).unwrap();
        drop(changes);
        fs::write(dir.path().join("proc/sys/kernel/random/boot_id"), "two\n").unwrap();
        let (mut changes, _) = Changes::open(host, dir.path()).unwrap();
        let told = changes.undo().unwrap();
        assert!(told.iter().all(|told| matches!(told.what, What::Impossible(_))), "{told:?}");
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "2");
    }
}
