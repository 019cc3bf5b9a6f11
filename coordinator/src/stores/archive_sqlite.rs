//! The archive in SQLite, in a file of its own, so that its size never slows a verdict.

use std::path::Path;

use darwin_coordinator_core::action::ArchiveRound;
use darwin_gate::{Observation, SeriesKey};
use darwin_shared::round::Invocation;
use darwin_shared::spec::{Arm, JobSpec};
use rusqlite::{Connection, Row, Transaction, params};

use super::archive::{
    AaJob, Archive, ArchiveError, ArchivedProbe, CalibrationQuery, Calibrations, HistoryPoint, HistoryQuery,
    POINTS_MAX, ProbeQuery,
};
use super::{archive_calibrations, archive_migration, archive_probes, archive_usage};

const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS suite (
        id      INTEGER PRIMARY KEY,
        project TEXT NOT NULL,
        suite   TEXT NOT NULL,
        UNIQUE (project, suite)
    );
    CREATE TABLE IF NOT EXISTS invocation (
        id            INTEGER PRIMARY KEY,
        job           TEXT    NOT NULL,
        attempt       INTEGER NOT NULL,
        round         INTEGER NOT NULL,
        arm           INTEGER NOT NULL,
        suite         INTEGER NOT NULL REFERENCES suite (id),
        variant       TEXT    NOT NULL,
        agent         TEXT    NOT NULL,
        pool          TEXT    NOT NULL,
        recorded_unix_ms  INTEGER NOT NULL,
        wall_ns           INTEGER NOT NULL,
        user_ns           INTEGER NOT NULL,
        system_ns         INTEGER NOT NULL,
        peak_rss_bytes    INTEGER NOT NULL,
        voluntary_switches   INTEGER NOT NULL,
        involuntary_switches INTEGER NOT NULL,
        samples_digest    TEXT,
        tier              TEXT    NOT NULL DEFAULT 'dev',
        UNIQUE (job, attempt, round, arm)
    );
    CREATE TABLE IF NOT EXISTS observation (
        suite      INTEGER NOT NULL,
        bench      TEXT    NOT NULL,
        metric     TEXT    NOT NULL,
        invocation INTEGER NOT NULL REFERENCES invocation (id),
        value      REAL    NOT NULL,
        unit       TEXT    NOT NULL,
        samples    INTEGER NOT NULL,
        evidence   TEXT    NOT NULL,
        PRIMARY KEY (suite, bench, metric, invocation)
    ) WITHOUT ROWID;
";

/// An archive in a file.
#[derive(Debug)]
pub struct SqliteArchive {
    connection: Connection,
}

impl SqliteArchive {
    /// Opens or makes the archive at this path.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Normal: after a power cut the last rows may be missing, never half there. Verdicts are in the ledger.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(CREATE)?;
        connection.execute_batch(archive_calibrations::CREATE)?;
        connection.execute_batch(archive_probes::CREATE)?;
        connection.execute_batch(archive_usage::CREATE)?;
        archive_migration::migrate(&connection)?;
        Ok(Self { connection })
    }
}

pub(super) const fn arm_number(arm: Arm) -> u8 {
    match arm {
        Arm::Baseline => 0,
        Arm::Challenger => 1,
    }
}

pub(super) fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The number of the spec's suite, a new one if it was never seen.
pub(super) fn suite_id(transaction: &Transaction<'_>, spec: &JobSpec) -> Result<i64, ArchiveError> {
    let (project, suite) = (spec.project.as_str(), spec.suite.as_str());
    transaction
        .prepare_cached("INSERT OR IGNORE INTO suite (project, suite) VALUES (?1, ?2)")?
        .execute(params![project, suite])?;
    let id = transaction
        .prepare_cached("SELECT id FROM suite WHERE project = ?1 AND suite = ?2")?
        .query_row(params![project, suite], |row| row.get(0))?;
    Ok(id)
}

fn put_round(transaction: &Transaction<'_>, round: &ArchiveRound) -> Result<(), ArchiveError> {
    let suite = suite_id(transaction, &round.spec)?;
    for invocation in &round.invocations {
        put_invocation(transaction, suite, round, invocation)?;
    }
    archive_probes::put(transaction, round)
}

fn put_invocation(
    transaction: &Transaction<'_>,
    suite: i64,
    round: &ArchiveRound,
    invocation: &Invocation,
) -> Result<(), ArchiveError> {
    let variant = round
        .spec
        .work
        .variants()
        .into_iter()
        .find(|(arm, _)| *arm == invocation.arm)
        .map_or_else(String::new, |(_, variant)| variant.label.clone());
    let inserted = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO invocation (job, attempt, round, arm, suite, variant, agent, pool, recorded_unix_ms,
                wall_ns, user_ns, system_ns, peak_rss_bytes, voluntary_switches, involuntary_switches, samples_digest, tier)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            round.attempt.job.to_string(),
            round.attempt.number,
            round.round,
            arm_number(invocation.arm),
            suite,
            variant,
            round.agent.as_str(),
            round.pool.as_str(),
            as_i64(round.recorded_unix_ms),
            i64::try_from(invocation.wall.as_nanos()).unwrap_or(i64::MAX),
            as_i64(invocation.usage.user_ns),
            as_i64(invocation.usage.system_ns),
            as_i64(invocation.usage.peak_rss_bytes),
            as_i64(invocation.usage.voluntary_switches),
            as_i64(invocation.usage.involuntary_switches),
            invocation.samples.map(|digest| digest.to_string()),
            round.tier.as_str(),
        ])?;
    if inserted == 0 {
        return Ok(());
    }
    let id = transaction.last_insert_rowid();
    archive_usage::put(transaction, id, &invocation.usage)?;
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO observation (suite, bench, metric, invocation, value, unit, samples, evidence)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (SeriesKey { bench, metric }, Observation { value, samples, evidence, unit }) in
        &invocation.observations
    {
        insert.execute(params![
            suite,
            bench,
            metric.to_string(),
            id,
            value,
            unit.word(),
            as_i64(*samples),
            format!("{evidence:?}"),
        ])?;
    }
    Ok(())
}

fn point(row: &Row<'_>) -> rusqlite::Result<HistoryPoint> {
    Ok(HistoryPoint {
        job: row.get(0)?,
        attempt: row.get(1)?,
        round: row.get(2)?,
        arm: if row.get::<_, u8>(3)? == 0 { Arm::Baseline } else { Arm::Challenger },
        variant: row.get(4)?,
        bench: row.get(5)?,
        metric: row.get(6)?,
        value: row.get(7)?,
        unit: row.get(8)?,
        samples: row.get::<_, i64>(9)?.unsigned_abs(),
        agent: row.get(10)?,
        recorded_unix_ms: row.get::<_, i64>(11)?.unsigned_abs(),
        tier: row.get(12)?,
    })
}

impl Archive for SqliteArchive {
    fn put(&mut self, rounds: &[ArchiveRound]) -> Result<(), ArchiveError> {
        let transaction = self.connection.transaction()?;
        for round in rounds {
            put_round(&transaction, round)?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn put_aa(&mut self, job: &AaJob) -> Result<(), ArchiveError> {
        let transaction = self.connection.transaction()?;
        archive_calibrations::put(&transaction, job)?;
        transaction.commit()?;
        Ok(())
    }

    fn calibrations(&mut self, query: &CalibrationQuery) -> Result<Calibrations, ArchiveError> {
        archive_calibrations::get(&self.connection, query)
    }

    fn probes(&mut self, query: &ProbeQuery) -> Result<Vec<ArchivedProbe>, ArchiveError> {
        archive_probes::get(&self.connection, query)
    }

    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<HistoryPoint>, ArchiveError> {
        let limit = query.limit.clamp(1, POINTS_MAX);
        let mut statement = self.connection.prepare_cached(
            "SELECT i.job, i.attempt, i.round, i.arm, i.variant, o.bench, o.metric, o.value, o.unit, o.samples,
                    i.agent, i.recorded_unix_ms, i.tier
             FROM suite s
             JOIN observation o ON o.suite = s.id AND (?3 = '' OR o.bench = ?3) AND (?4 = '' OR o.metric = ?4)
             JOIN invocation i ON i.id = o.invocation
             WHERE s.project = ?1 AND s.suite = ?2
             ORDER BY i.id DESC, o.bench, o.metric LIMIT ?5",
        )?;
        let HistoryQuery { project, suite, bench, metric, limit: _ } = query;
        let rows = statement.query_map(params![project, suite, bench, metric, limit], point)?;
        let mut points: Vec<HistoryPoint> = rows.collect::<Result<_, _>>()?;
        points.reverse();
        Ok(points)
    }
}
