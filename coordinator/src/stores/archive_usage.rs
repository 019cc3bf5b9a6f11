//! What invocations used, in SQLite, beyond what is in their own row. What is not there was not counted.

use darwin_shared::usage::{Quantity, Usage};
use rusqlite::{Transaction, params};

use super::archive::ArchiveError;
use super::archive_sqlite::as_i64;

pub(super) const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS usage (
        invocation INTEGER NOT NULL REFERENCES invocation (id),
        quantity   TEXT    NOT NULL,
        value      INTEGER NOT NULL,
        PRIMARY KEY (invocation, quantity)
    ) WITHOUT ROWID;
";

/// What has no column in the invocation's row.
const KEPT: [Quantity; 8] = [
    Quantity::CgroupMemory,
    Quantity::PageFaults,
    Quantity::MajorFaults,
    Quantity::Instructions,
    Quantity::Cycles,
    Quantity::CacheReferences,
    Quantity::CacheMisses,
    Quantity::BranchMisses,
];

pub(super) fn put(transaction: &Transaction<'_>, invocation: i64, usage: &Usage) -> Result<(), ArchiveError> {
    let mut insert = transaction
        .prepare_cached("INSERT OR IGNORE INTO usage (invocation, quantity, value) VALUES (?1, ?2, ?3)")?;
    for quantity in KEPT {
        if let Some(value) = usage.of(quantity).known() {
            insert.execute(params![invocation, quantity.word(), as_i64(value)])?;
        }
    }
    Ok(())
}
