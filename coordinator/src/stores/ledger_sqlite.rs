//! The ledger in SQLite: write-ahead log, full sync, one transaction a batch. It belongs to exactly one coordinator.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::ledger::{
    Change, CommitError, Kind, Ledger, LedgerError, PAGE_MAX, Stored, StoredWrite, cut_to_commits,
};

/// The schema that this code reads and writes.
const SCHEMA: i64 = 1;
/// Pages of the ledger kept in memory, in KiB.
const CACHE_KIB: i64 = 8 << 10;
/// Prepared statements kept: all that this file has.
const STATEMENTS_KEPT: usize = 16;

const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS record (
        kind     INTEGER NOT NULL,
        id       TEXT    NOT NULL,
        version  INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        live     INTEGER NOT NULL,
        value    BLOB    NOT NULL,
        PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS record_live ON record (kind, id) WHERE live = 1;
";

/// A ledger in a file.
#[derive(Debug)]
pub struct SqliteLedger {
    connection: Connection,
    revision: u64,
    /// Held for as long as the ledger is open: a second coordinator is refused.
    _lock: Flock<File>,
}

impl SqliteLedger {
    /// Opens or makes the ledger in this folder.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let in_folder = |source| LedgerError::Folder { path: folder.display().to_string(), source };
        std::fs::create_dir_all(folder).map_err(in_folder)?;
        let lock = lock(&folder.join("ledger.lock"), folder)?;
        let path: PathBuf = folder.join("ledger.sqlite");
        let connection = Connection::open(&path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Full: a commit is on the disk when it returns, also when the power fails.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // In KiB: what jobs in flight touch stays in memory; more would be walked at the end of each commit.
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > SCHEMA {
            return Err(LedgerError::TooNew { found, known: SCHEMA });
        }
        connection.execute_batch(CREATE)?;
        connection.pragma_update(None, "user_version", SCHEMA)?;
        let revision = connection
            .query_row("SELECT max(revision) FROM record", [], |row| row.get::<_, Option<u64>>(0))?
            .unwrap_or(0);
        Ok(Self { connection, revision, _lock: lock })
    }
}

fn lock(path: &Path, folder: &Path) -> Result<Flock<File>, LedgerError> {
    let file = File::create(path)
        .map_err(|source| LedgerError::Folder { path: folder.display().to_string(), source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| LedgerError::InUse(folder.display().to_string()))
}

fn put(transaction: &Transaction<'_>, write: &StoredWrite, revision: u64) -> Result<(), CommitError> {
    let StoredWrite { kind, id, expected_version, new_version, value, live } = write;
    let changed = if *expected_version == 0 {
        transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO record (kind, id, version, revision, live, value) VALUES (?1, ?2, ?6, ?3, ?4, ?5)",
            )?
            .execute(params![kind.number(), id, revision, live, value, new_version])?
    } else {
        transaction
            .prepare_cached(
                "UPDATE record SET version = ?7, revision = ?3, live = ?4, value = ?5
                 WHERE kind = ?1 AND id = ?2 AND version = ?6",
            )?
            .execute(params![kind.number(), id, revision, live, value, expected_version, new_version])?
    };
    if changed == 1 {
        return Ok(());
    }
    let found = transaction
        .prepare_cached("SELECT version FROM record WHERE kind = ?1 AND id = ?2")?
        .query_row(params![kind.number(), id], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    Err(CommitError::Conflict { kind: *kind, id: id.clone(), expected: *expected_version, found })
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored { id: row.get(0)?, version: row.get(1)?, value: row.get(2)? })
}

fn changes_of(mut rows: rusqlite::Rows<'_>) -> Result<Vec<Change>, LedgerError> {
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let number = row.get(4)?;
        let kind = Kind::from_number(number).ok_or(LedgerError::UnknownKind(number))?;
        changes.push(Change { revision: row.get(3)?, kind, record: stored(row)? });
    }
    Ok(changes)
}

impl Ledger for SqliteLedger {
    fn commit(&mut self, writes: &[StoredWrite]) -> Result<(), CommitError> {
        let revision = self.revision + 1;
        let transaction = self.connection.transaction()?;
        for write in writes {
            put(&transaction, write, revision)?;
        }
        transaction.commit()?;
        self.revision = revision;
        Ok(())
    }

    fn get(&mut self, kind: Kind, id: &str) -> Result<Option<Stored>, LedgerError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT id, version, value FROM record WHERE kind = ?1 AND id = ?2")?;
        Ok(query.query_row(params![kind.number(), id], stored).optional()?)
    }

    fn live(&mut self, kind: Kind, after: Option<&str>) -> Result<Vec<Stored>, LedgerError> {
        let mut query = self.connection.prepare_cached(
            "SELECT id, version, value FROM record WHERE live = 1 AND kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        )?;
        let rows = query.query_map(params![kind.number(), after.unwrap_or(""), PAGE_MAX], stored)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn newest(&mut self, kind: Kind, before: Option<&str>, limit: usize) -> Result<Vec<Stored>, LedgerError> {
        let mut query = self.connection.prepare_cached(
            "SELECT id, version, value FROM record WHERE kind = ?1 AND (?2 IS NULL OR id < ?2)
             ORDER BY id DESC LIMIT ?3",
        )?;
        let rows = query.query_map(params![kind.number(), before, limit.min(PAGE_MAX)], stored)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn changes(&mut self, after_revision: u64) -> Result<Vec<Change>, LedgerError> {
        let mut page = self.connection.prepare_cached(
            "SELECT id, version, value, revision, kind FROM record WHERE revision > ?1
             ORDER BY revision, kind, id LIMIT ?2",
        )?;
        let mut changes = changes_of(page.query(params![after_revision, PAGE_MAX + 1])?)?;
        let Some(large) = cut_to_commits(&mut changes) else {
            return Ok(changes);
        };
        let mut commit = self.connection.prepare_cached(
            "SELECT id, version, value, revision, kind FROM record WHERE revision = ?1 ORDER BY kind, id",
        )?;
        changes_of(commit.query(params![large])?)
    }
}
