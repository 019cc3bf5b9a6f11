//! The journal of changes: what was there, what was written, and what became of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::value::Knob;
use super::wish::{Want, Wish};

/// The most entries that a journal may have open: every interrupt and CPU of a large box, and as much again.
pub(super) const MAX_OPEN: usize = 16_384;

/// What a knob was found at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// This value (not its text).
    Value(String),
    /// This box does not have it.
    Absent,
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A change is about to be made. Must be on disk before it is.
    Planned {
        /// Names the entry from here on.
        id: u64,
        /// In which life of the kernel.
        boot: String,
        /// What is changed.
        knob: Knob,
        /// The value found.
        old: String,
        /// The value to be written.
        new: String,
    },
    /// The kernel took what was written.
    Written {
        /// The entry.
        id: u64,
    },
    /// What the kernel shows after it was written.
    ReadBack {
        /// The entry.
        id: u64,
        /// The value.
        value: String,
    },
    /// The old value is back. Ends the entry.
    Undone {
        /// The entry.
        id: u64,
    },
    /// Someone else has changed it meanwhile: it is left alone. Ends the entry.
    Foreign {
        /// The entry.
        id: u64,
        /// What was found.
        found: String,
    },
    /// It could not be changed, and is as it was; or it is not there any more. Ends the entry.
    Impossible {
        /// The entry.
        id: u64,
        /// Why.
        why: String,
    },
}

/// How far an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It may have been written, or not.
    Planned,
    /// It was written.
    Written,
    /// It was written, and this is what the kernel made of it.
    ReadBack(String),
}

/// A change that is not undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What is changed.
    pub knob: Knob,
    /// In which life of the kernel.
    pub boot: String,
    /// The value before.
    pub old: String,
    /// The value written.
    pub new: String,
    /// How far it is.
    pub stage: Stage,
}

/// What is to be done about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    /// Write this value.
    Write(String),
    /// Nothing; this record ends it.
    Close(Record),
}

/// What came of writing an old value back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// This record ends it.
    Closed(Record),
    /// The value is still not the old one; it stays open. Why, in words.
    Stuck(String),
}

/// Why a record does not fit the journal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Wrong {
    /// It is about an entry that is not open.
    #[error("it is about change {id}, which is not open")]
    NotOpen {
        /// The entry.
        id: u64,
    },
    /// It begins an entry that is open already.
    #[error("it begins change {id} a second time")]
    Twice {
        /// The entry.
        id: u64,
    },
    /// More entries than any box has knobs.
    #[error("more than {MAX_OPEN} changes are open")]
    TooMany,
}

/// All changes that are not undone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Journal {
    open: BTreeMap<u64, Entry>,
    next: u64,
}

impl Journal {
    /// Takes in a record.
    pub fn apply(&mut self, record: &Record) -> Result<(), Wrong> {
        match record {
            Record::Planned { id, boot, knob, old, new } => {
                if self.open.contains_key(id) {
                    return Err(Wrong::Twice { id: *id });
                }
                if self.open.len() >= MAX_OPEN {
                    return Err(Wrong::TooMany);
                }
                self.next = self.next.max(id.saturating_add(1));
                let entry = Entry {
                    knob: knob.clone(),
                    boot: boot.clone(),
                    old: old.clone(),
                    new: new.clone(),
                    stage: Stage::Planned,
                };
                self.open.insert(*id, entry);
                Ok(())
            }
            Record::Written { id } => self.at(*id, Stage::Written),
            Record::ReadBack { id, value } => self.at(*id, Stage::ReadBack(value.clone())),
            Record::Undone { id } | Record::Foreign { id, .. } | Record::Impossible { id, .. } => {
                self.open.remove(id).map(|_| ()).ok_or(Wrong::NotOpen { id: *id })
            }
        }
    }

    fn at(&mut self, id: u64, stage: Stage) -> Result<(), Wrong> {
        let entry = self.open.get_mut(&id).ok_or(Wrong::NotOpen { id })?;
        entry.stage = stage;
        Ok(())
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Open entries, the latest first: the order in which they are undone.
    pub fn latest_first(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.open.iter().rev().map(|(id, entry)| (*id, entry))
    }

    /// The entry of this number, if it is open.
    pub fn entry(&self, id: u64) -> Option<&Entry> {
        self.open.get(&id)
    }

    /// The records of the changes that make wishes come true. What is as wished already, what the box does not have, and
    /// what is changed by us already, needs none.
    pub fn plan(&self, boot: &str, wishes: impl IntoIterator<Item = (Wish, Reading)>) -> Vec<Record> {
        let mut planned: Vec<Record> = Vec::new();
        let mut id = self.next;
        for (wish, reading) in wishes {
            let Reading::Value(old) = reading else { continue };
            let known = |knob: &Knob| {
                self.open.values().any(|entry| entry.knob == *knob)
                    || planned
                        .iter()
                        .any(|record| matches!(record, Record::Planned { knob: k, .. } if k == knob))
            };
            if known(&wish.knob) || self.open.len() + planned.len() >= MAX_OPEN {
                continue;
            }
            let Some(new) = wanted(&wish, &old).filter(|new| *new != old) else { continue };
            planned.push(Record::Planned { id, boot: boot.to_owned(), knob: wish.knob, old, new });
            id += 1;
        }
        planned
    }

    /// What is to be written down after a planned change was tried: `wrote` is the kernel's answer, `now` the value after.
    pub fn tried(&self, id: u64, wrote: Result<(), String>, now: &Reading) -> Vec<Record> {
        let Some(entry) = self.open.get(&id) else { return Vec::new() };
        match (wrote, now) {
            (wrote, Reading::Value(value)) if *value == entry.old => {
                let why = wrote.err().unwrap_or_else(|| format!("the kernel keeps it at `{value}`"));
                vec![Record::Impossible { id, why }]
            }
            (Ok(()), Reading::Value(value)) => {
                vec![Record::Written { id }, Record::ReadBack { id, value: value.clone() }]
            }
            // Changed, whatever the kernel said.
            (Err(_), Reading::Value(value)) => vec![Record::ReadBack { id, value: value.clone() }],
            (Ok(()), Reading::Absent | Reading::Unreadable(_)) => vec![Record::Written { id }],
            (Err(why), Reading::Absent | Reading::Unreadable(_)) => vec![Record::Impossible { id, why }],
        }
    }

    /// What is to be done to undo an entry, now that its knob has this value and the box this life.
    pub fn undo(&self, id: u64, boot: &str, now: &Reading) -> Option<Undo> {
        let entry = self.open.get(&id)?;
        if entry.boot != boot {
            let why = "the box was started anew since, which undid it".to_owned();
            return Some(Undo::Close(Record::Impossible { id, why }));
        }
        let value = match now {
            Reading::Value(value) => value,
            Reading::Absent => {
                let why = "it is not there any more".to_owned();
                return Some(Undo::Close(Record::Impossible { id, why }));
            }
            // It can still be tried: some files can be written and not read.
            Reading::Unreadable(_) => return Some(Undo::Write(entry.old.clone())),
        };
        let ours = *value == entry.new || matches!(&entry.stage, Stage::ReadBack(read) if read == value);
        Some(if *value == entry.old {
            Undo::Close(Record::Undone { id })
        } else if ours {
            Undo::Write(entry.old.clone())
        } else {
            Undo::Close(Record::Foreign { id, found: value.clone() })
        })
    }

    /// What came of writing the old value back.
    pub fn undone(&self, id: u64, wrote: Result<(), String>, now: &Reading) -> Option<Back> {
        let entry = self.open.get(&id)?;
        Some(match (wrote, now) {
            (_, Reading::Value(value)) if *value == entry.old => Back::Closed(Record::Undone { id }),
            (Ok(()), Reading::Absent | Reading::Unreadable(_)) => Back::Closed(Record::Undone { id }),
            (Ok(()), Reading::Value(value)) => {
                Back::Stuck(format!("`{}` was written, and it shows `{value}`", entry.old))
            }
            (Err(why), _) => Back::Stuck(why),
        })
    }
}

/// The value that a wish asks for where this one is; none if nothing is to be changed.
fn wanted(wish: &Wish, now: &str) -> Option<String> {
    match &wish.want {
        Want::Value(value) => Some(value.clone()),
        Want::AtLeast(least) => now.parse::<u64>().ok().filter(|now| now < least).map(|_| least.to_string()),
        Want::Without(cpus, others) => {
            let now = wish.knob.cpus(now)?;
            let left = now.difference(cpus);
            if now.is_disjoint(cpus) {
                return None;
            }
            let left = if left.is_empty() { others.clone() } else { left };
            Some(left.to_string()).filter(|left| !left.is_empty())
        }
        Want::With(cpus) => Some(wish.knob.cpus(now)?.union(cpus).to_string()),
    }
}
