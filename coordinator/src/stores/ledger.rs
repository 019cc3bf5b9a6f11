//! The ledger: small versioned records, committed in batches if each still has the version that was read.

use thiserror::Error;

/// The most records that one read returns: a page fits in memory whatever the ledger holds.
pub const PAGE_MAX: usize = 10_000;

/// What a record is about. The ledger knows no more of it than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// What was submitted.
    Spec = 1,
    /// Where a job is.
    Job = 2,
    /// What was decided about an agent.
    Agent = 3,
    /// What the coordinator must know of its own past.
    Epochs = 4,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Spec, Self::Job, Self::Agent, Self::Epochs];

    /// The number in the store.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// A record to put, if the ledger still has `expected_version` of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWrite {
    /// What it is about.
    pub kind: Kind,
    /// Its id within the kind.
    pub id: String,
    /// The version that was read; 0 if there must be none yet.
    pub expected_version: u64,
    /// The version that it gets: above the expected one.
    pub new_version: u64,
    /// Its content.
    pub value: Vec<u8>,
    /// Whether a restarted coordinator must load it.
    pub live: bool,
}

/// A record as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its id within the kind.
    pub id: String,
    /// Grows with every change.
    pub version: u64,
    /// Its content.
    pub value: Vec<u8>,
}

/// A record with its place in the order of all changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Grows with every commit; all records of one commit share it.
    pub revision: u64,
    /// What it is about.
    pub kind: Kind,
    /// The record after the change.
    pub record: Stored,
}

/// Why the ledger cannot be read or opened.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The engine failed.
    #[error("the ledger failed: {0}")]
    Engine(#[from] rusqlite::Error),
    /// Another coordinator has it.
    #[error("the ledger {0} is in use by another coordinator: an embedded ledger belongs to exactly one")]
    InUse(String),
    /// The folder cannot be used.
    #[error("the ledger's folder {path} cannot be used: {source}")]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A newer darwin wrote it.
    #[error(
        "the ledger has schema {found}, this darwin knows up to {known}: start the newer darwin that wrote it"
    )]
    TooNew {
        /// What it has.
        found: i64,
        /// What is known.
        known: i64,
    },
    /// A record of a kind that is not known.
    #[error(
        "the ledger has a record of the unknown kind {0}: it was written by another program or a newer darwin"
    )]
    UnknownKind(u8),
}

/// Why a batch was not committed. Nothing of it was.
#[derive(Debug, Error)]
pub enum CommitError {
    /// A record does not have the version that was read.
    #[error("record {kind:?} {id} has version {found}, not {expected}: somebody else wrote to this ledger")]
    Conflict {
        /// What it is about.
        kind: Kind,
        /// Which.
        id: String,
        /// The version that was read.
        expected: u64,
        /// The version that it has.
        found: u64,
    },
    /// The engine failed.
    #[error("the ledger could not write: {0}")]
    Engine(#[from] rusqlite::Error),
}

/// Small versioned records.
pub trait Ledger: Send {
    /// Commits all writes or none. Durable when it returns.
    fn commit(&mut self, writes: &[StoredWrite]) -> Result<(), CommitError>;

    /// One record.
    fn get(&mut self, kind: Kind, id: &str) -> Result<Option<Stored>, LedgerError>;

    /// Records that are live, by id, after `after`; at most [`PAGE_MAX`].
    fn live(&mut self, kind: Kind, after: Option<&str>) -> Result<Vec<Stored>, LedgerError>;

    /// Records with ids below `before`, highest id first; at most `limit` and [`PAGE_MAX`].
    fn newest(&mut self, kind: Kind, before: Option<&str>, limit: usize) -> Result<Vec<Stored>, LedgerError>;

    /// What changed after a revision, oldest first. Of a record that changed more than once, only the last change is
    /// there. A page has whole commits, so that a follower goes on from its last revision: at most [`PAGE_MAX`] changes,
    /// unless a single commit has more.
    fn changes(&mut self, after_revision: u64) -> Result<Vec<Change>, LedgerError>;
}

/// Cuts changes that may go beyond a page to whole commits; gives the revision of a commit that is larger than a page.
pub(super) fn cut_to_commits(changes: &mut Vec<Change>) -> Option<u64> {
    let first = changes.first().map(|change| change.revision)?;
    let beyond = changes.get(PAGE_MAX).map(|change| change.revision)?;
    if first == beyond {
        return Some(first);
    }
    changes.retain(|change| change.revision < beyond);
    None
}
