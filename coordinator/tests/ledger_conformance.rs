//! One suite for every ledger: what the model in memory does, each engine must do.
#![expect(clippy::unwrap_used, reason = "test code: a failed unwrap is a failed test")]

use std::path::Path;

use darwin_coordinator::stores::{
    CommitError, Kind, Ledger, LedgerError, MemoryLedger, PAGE_MAX, SqliteLedger, Stored, StoredWrite, load,
};
use proptest::prelude::*;

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn write(kind: Kind, id: &str, expected_version: u64, value: &str, live: bool) -> StoredWrite {
    StoredWrite {
        kind,
        id: id.to_owned(),
        expected_version,
        new_version: expected_version + 1,
        value: value.as_bytes().to_vec(),
        live,
    }
}

fn job(id: &str, expected_version: u64, value: &str) -> StoredWrite {
    write(Kind::Job, id, expected_version, value, true)
}

fn ids(records: &[Stored]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

/// Runs one test of the suite against every engine.
fn each(test: fn(&mut dyn Ledger) -> TestResult) {
    let mut memory: Box<dyn Ledger> = Box::new(MemoryLedger::default());
    if let Err(why) = test(memory.as_mut()) {
        panic!("memory: {why}");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut sqlite: Box<dyn Ledger> = Box::new(SqliteLedger::open(folder.path()).unwrap());
    if let Err(why) = test(sqlite.as_mut()) {
        panic!("SQLite: {why}");
    }
}

#[test]
fn what_is_committed_is_read_back() {
    each(|ledger| {
        assert_eq!(ledger.get(Kind::Job, "a")?, None);
        ledger.commit(&[job("a", 0, "one"), write(Kind::Spec, "a", 0, "", false)])?;
        ledger.commit(&[job("a", 1, "two \0 \u{1F980}")])?;
        let stored = Stored { id: "a".to_owned(), version: 2, value: "two \0 \u{1F980}".into() };
        assert_eq!(ledger.get(Kind::Job, "a")?, Some(stored));
        assert_eq!(ledger.get(Kind::Spec, "a")?.map(|stored| stored.value), Some(Vec::new()));
        assert_eq!(ledger.get(Kind::Agent, "a")?, None, "kinds do not share ids");
        ledger.commit(&[])?;
        Ok(())
    });
}

#[test]
fn several_writes_of_one_record_in_a_batch_follow_each_other() {
    each(|ledger| {
        ledger.commit(&[job("a", 0, "one"), job("a", 1, "two")])?;
        assert_eq!(ledger.get(Kind::Job, "a")?.map(|stored| stored.version), Some(2));
        // Versions that were never written are skipped, as coalesced writes do.
        ledger.commit(&[StoredWrite { new_version: 9, ..job("a", 2, "nine") }])?;
        assert_eq!(ledger.get(Kind::Job, "a")?.map(|stored| stored.version), Some(9));
        ledger.commit(&[job("a", 9, "ten")])?;
        Ok(())
    });
}

#[test]
fn a_stale_version_refuses_the_whole_batch_and_says_what_was_found() {
    each(|ledger| {
        ledger.commit(&[job("a", 0, "one")])?;
        for (expected, found, id) in [(0, 1, "a"), (2, 1, "a"), (1, 0, "nothing")] {
            let refused = ledger.commit(&[job("b", 0, "new"), job(id, expected, "stale")]);
            match refused {
                Err(CommitError::Conflict { kind: Kind::Job, id: which, expected: e, found: f }) => {
                    assert_eq!((which.as_str(), e, f), (id, expected, found));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(ledger.get(Kind::Job, "b")?, None, "half a batch was committed");
        }
        assert_eq!(ledger.get(Kind::Job, "a")?.map(|stored| stored.value), Some(b"one".to_vec()));
        // The refusal leaves no trace in the order of changes.
        ledger.commit(&[job("a", 1, "two")])?;
        let changes = ledger.changes(0)?;
        assert_eq!(changes.iter().map(|change| change.record.version).collect::<Vec<_>>(), [2]);
        Ok(())
    });
}

#[test]
fn live_records_are_paged_by_id() {
    each(|ledger| {
        ledger.commit(&[job("c", 0, ""), job("a", 0, ""), job("b", 0, ""), job("d", 0, "")])?;
        ledger.commit(&[write(Kind::Job, "b", 1, "", false), write(Kind::Agent, "x", 0, "", true)])?;
        assert_eq!(ids(&ledger.live(Kind::Job, None)?), ["a", "c", "d"]);
        assert_eq!(ids(&ledger.live(Kind::Job, Some("a"))?), ["c", "d"]);
        assert_eq!(ids(&ledger.live(Kind::Job, Some("b"))?), ["c", "d"]);
        assert!(ledger.live(Kind::Job, Some("d"))?.is_empty());
        ledger.commit(&[write(Kind::Job, "b", 2, "", true)])?;
        assert_eq!(ids(&ledger.live(Kind::Job, Some("a"))?), ["b", "c", "d"]);
        Ok(())
    });
}

#[test]
fn the_newest_are_paged_backwards() {
    each(|ledger| {
        let mixed = [("a", true), ("b", false), ("c", true), ("d", false)];
        let writes: Vec<_> = mixed.iter().map(|(id, live)| write(Kind::Job, id, 0, "", *live)).collect();
        ledger.commit(&writes)?;
        assert_eq!(ids(&ledger.newest(Kind::Job, None, 3)?), ["d", "c", "b"]);
        assert_eq!(ids(&ledger.newest(Kind::Job, Some("b"), 3)?), ["a"]);
        assert_eq!(ids(&ledger.newest(Kind::Job, Some("bb"), 1)?), ["b"]);
        assert!(ledger.newest(Kind::Job, None, 0)?.is_empty());
        assert!(ledger.newest(Kind::Spec, None, 9)?.is_empty());
        assert_eq!(ledger.newest(Kind::Job, None, usize::MAX)?.len(), 4);
        Ok(())
    });
}

#[test]
fn changes_come_in_the_order_of_commits_each_record_once() {
    each(|ledger| {
        ledger.commit(&[job("a", 0, "1"), job("b", 0, "1")])?;
        ledger.commit(&[job("c", 0, "1")])?;
        ledger.commit(&[job("a", 1, "2"), write(Kind::Epochs, "e", 0, "", true)])?;
        let changes = ledger.changes(0)?;
        let order: Vec<_> = changes.iter().map(|change| change.record.id.as_str()).collect();
        assert_eq!(order, ["b", "c", "a", "e"]);
        let revisions: Vec<_> = changes.iter().map(|change| change.revision).collect();
        assert!(revisions[0] < revisions[1] && revisions[1] < revisions[2] && revisions[2] == revisions[3]);
        assert_eq!(ledger.changes(revisions[1])?.len(), 2);
        assert!(ledger.changes(revisions[3])?.is_empty());
        Ok(())
    });
}

/// Reads all changes, a page at a time, as a follower does: from the last revision that it has seen.
fn follow(ledger: &mut dyn Ledger) -> Result<(usize, usize), LedgerError> {
    let (mut after, mut records, mut pages) = (0, 0, 0);
    loop {
        let page = ledger.changes(after)?;
        let Some(last) = page.last() else { return Ok((records, pages)) };
        after = last.revision;
        records += page.len();
        pages += 1;
    }
}

#[test]
fn a_follower_misses_nothing_where_a_page_ends_within_a_commit() {
    each(|ledger| {
        let commits = PAGE_MAX / 1_000 + 1;
        for commit in 0..commits {
            // Not a divisor of the page: some page ends in the middle of a commit.
            let writes: Vec<_> = (0..999).map(|n| job(&format!("{commit:03}-{n:03}"), 0, "")).collect();
            ledger.commit(&writes)?;
        }
        assert_eq!(follow(ledger)?.0, commits * 999);
        assert_eq!(ledger.live(Kind::Job, None)?.len(), PAGE_MAX);
        assert_eq!(ledger.newest(Kind::Job, None, usize::MAX)?.len(), PAGE_MAX);
        Ok(())
    });
}

#[test]
fn a_commit_larger_than_a_page_comes_in_one_piece() {
    each(|ledger| {
        ledger.commit(&[job("before", 0, "")])?;
        let writes: Vec<_> = (0..=PAGE_MAX).map(|n| job(&format!("{n:06}"), 0, "")).collect();
        ledger.commit(&writes)?;
        ledger.commit(&[job("behind", 0, "")])?;
        assert_eq!(follow(ledger)?, (PAGE_MAX + 3, 3));
        Ok(())
    });
}

#[test]
fn sqlite_keeps_all_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = SqliteLedger::open(folder.path()).unwrap();
    ledger.commit(&[job("a", 0, "one"), job("b", 0, "one")]).unwrap();
    ledger.commit(&[write(Kind::Job, "a", 1, "two", false)]).unwrap();
    let before = (ledger.changes(0).unwrap(), ledger.live(Kind::Job, None).unwrap());
    drop(ledger);

    let mut ledger = SqliteLedger::open(folder.path()).unwrap();
    assert_eq!((ledger.changes(0).unwrap(), ledger.live(Kind::Job, None).unwrap()), before);
    let last = before.0.last().unwrap().revision;
    ledger.commit(&[job("b", 1, "two")]).unwrap();
    let next = ledger.changes(last).unwrap();
    assert_eq!(next.len(), 1, "revisions go on after a restart");
    assert_eq!(next[0].record.value, b"two");
}

#[test]
fn sqlite_belongs_to_one_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let first = SqliteLedger::open(folder.path()).unwrap();
    match SqliteLedger::open(folder.path()) {
        Err(why @ LedgerError::InUse(_)) => {
            let text = why.to_string();
            assert!(text.contains(&folder.path().display().to_string()), "{text}");
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    SqliteLedger::open(folder.path()).unwrap();
}

fn set_schema(folder: &Path, version: i64) {
    let connection = rusqlite::Connection::open(folder.join("ledger.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", version).unwrap();
}

#[test]
fn sqlite_refuses_a_newer_schema_and_leaves_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    SqliteLedger::open(folder.path()).unwrap().commit(&[job("a", 0, "one")]).unwrap();
    set_schema(folder.path(), 1_000);
    for _ in 0..2 {
        match SqliteLedger::open(folder.path()) {
            Err(LedgerError::TooNew { found: 1_000, known }) => assert!(known < 1_000),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn sqlite_says_which_folder_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    match SqliteLedger::open(&file) {
        Err(why @ LedgerError::Folder { .. }) => assert!(why.to_string().contains("file"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// A write as a random client makes it: mostly of the right version.
#[derive(Debug, Clone)]
struct Try {
    kind: Kind,
    id: u8,
    /// Added to the version that is there.
    off_by: i64,
    jump: u64,
    value: u8,
    live: bool,
}

fn a_try() -> impl Strategy<Value = Try> {
    let off_by = prop_oneof![12 => Just(0i64), 1 => Just(1), 1 => Just(-1)];
    let kind = prop::sample::select(Kind::ALL.to_vec());
    (kind, 0u8..6, off_by, 1u64..4, any::<u8>(), any::<bool>())
        .prop_map(|(kind, id, off_by, jump, value, live)| Try { kind, id, off_by, jump, value, live })
}

/// Turns tries into writes: versions count on within the batch.
fn batch(ledger: &mut dyn Ledger, tries: &[Try]) -> Vec<StoredWrite> {
    let mut versions = std::collections::BTreeMap::new();
    let mut writes = Vec::new();
    for Try { kind, id, off_by, jump, value, live } in tries {
        let id = format!("id{id}");
        let there = versions
            .get(&(*kind, id.clone()))
            .copied()
            .unwrap_or_else(|| ledger.get(*kind, &id).unwrap().map_or(0, |stored| stored.version));
        let expected_version = there.saturating_add_signed(*off_by);
        let new_version = expected_version + jump;
        versions.insert((*kind, id.clone()), new_version);
        writes.push(StoredWrite {
            kind: *kind,
            id,
            expected_version,
            new_version,
            value: vec![*value],
            live: *live,
        });
    }
    writes
}

fn in_words(committed: Result<(), CommitError>) -> String {
    match committed {
        Ok(()) => "committed".to_owned(),
        Err(why) => why.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, SQLite answers as the model does, also after a restart.
    #[test]
    fn sqlite_does_as_the_model(
        batches in prop::collection::vec((prop::collection::vec(a_try(), 1..6), prop::bool::weighted(0.1)), 1..20),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut sqlite = SqliteLedger::open(folder.path()).unwrap();
        let mut model = MemoryLedger::default();
        for (tries, restart) in batches {
            let writes = batch(&mut model, &tries);
            prop_assert_eq!(in_words(model.commit(&writes)), in_words(sqlite.commit(&writes)));
            if restart {
                drop(sqlite);
                sqlite = SqliteLedger::open(folder.path()).unwrap();
            }
            let changes = model.changes(0).unwrap();
            prop_assert_eq!(&changes, &sqlite.changes(0).unwrap());
            let middle = changes.get(changes.len() / 2).map_or(0, |change| change.revision);
            prop_assert_eq!(model.changes(middle).unwrap(), sqlite.changes(middle).unwrap());
            for kind in Kind::ALL {
                for at in [None, Some("id2"), Some("nowhere")] {
                    prop_assert_eq!(model.live(kind, at).unwrap(), sqlite.live(kind, at).unwrap());
                    prop_assert_eq!(model.newest(kind, at, 3).unwrap(), sqlite.newest(kind, at, 3).unwrap());
                }
            }
        }
    }
}

#[test]
fn a_restart_reads_the_agents_of_all_pages() {
    each(|ledger| {
        let record = r#"{"drained":true}"#;
        let agents = (0..=PAGE_MAX).map(|n| write(Kind::Agent, &format!("box-{n:05}"), 0, record, true));
        ledger.commit(&agents.collect::<Vec<_>>())?;
        let restored = load(ledger, 10)?;
        assert_eq!(restored.agents.len(), PAGE_MAX + 1);
        let (last, version, record) = restored.agents.last().unwrap();
        assert_eq!((last.as_str(), *version, record.drained), ("box-10000", 1, true));
        Ok(())
    });
}
