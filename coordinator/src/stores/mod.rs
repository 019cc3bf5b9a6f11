//! The three stores: small traits, each with an embedded engine.
//!
//! [`Ledger`] holds the small versioned records that decide, [`Archive`] the large append-only ones that explain,
//! [`Blobs`] the bytes. None of them knows anything of scheduling.

mod archive;
mod archive_calibrations;
mod archive_memory;
mod archive_migration;
mod archive_probes;
mod archive_sqlite;
mod archive_usage;
mod archive_writer;
mod blobs;
mod blobs_folder;
mod blobs_memory;
mod ledger;
mod ledger_memory;
mod ledger_sqlite;
mod records;

pub use archive::{
    AaJob, Archive, ArchiveError, ArchivedProbe, CalibratedSeries, CalibrationQuery, Calibrations,
    HistoryPoint, HistoryQuery, ProbeQuery,
};
pub use archive_memory::MemoryArchive;
pub use archive_sqlite::SqliteArchive;
pub use archive_writer::{ArchiveQueue, ArchiveReader};
pub use blobs::{BlobError, BlobSink, Blobs, OpenBlob};
pub use blobs_folder::FolderBlobs;
pub use blobs_memory::MemoryBlobs;
pub use ledger::{Change, CommitError, Kind, Ledger, LedgerError, PAGE_MAX, Stored, StoredWrite};
pub use ledger_memory::MemoryLedger;
pub use ledger_sqlite::SqliteLedger;
pub(crate) use records::job_id;
pub use records::{RecordError, decode_job, encode, load};
