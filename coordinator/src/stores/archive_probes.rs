//! The archive's probes in SQLite: what each saw of a box, as JSON, with what is asked by beside it.

use darwin_coordinator_core::action::ArchiveRound;
use darwin_shared::probe::{ProbeMoment, RoundProbe};
use rusqlite::{Connection, Row, Transaction, params};

use super::archive::{ArchiveError, ArchivedProbe, PROBES_KEPT, PROBES_MAX, ProbeQuery};
use super::archive_sqlite::as_i64;

pub(super) const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS probe (
        id      INTEGER PRIMARY KEY,
        job     TEXT    NOT NULL,
        attempt INTEGER NOT NULL,
        round   INTEGER NOT NULL,
        moment  TEXT    NOT NULL,
        agent   TEXT    NOT NULL,
        pool    TEXT    NOT NULL,
        boot_id TEXT    NOT NULL,
        tier    TEXT    NOT NULL,
        cpus    TEXT    NOT NULL,
        level   TEXT    NOT NULL,
        worse   TEXT    NOT NULL,
        recorded_unix_ms INTEGER NOT NULL,
        summary TEXT    NOT NULL,
        UNIQUE (job, attempt, round, moment)
    );
    CREATE INDEX IF NOT EXISTS probe_by_agent ON probe (agent, moment, id);
";

/// Puts a round's probes in; the oldest of the box go when it has too many of that kind.
pub(super) fn put(transaction: &Transaction<'_>, round: &ArchiveRound) -> Result<(), ArchiveError> {
    for RoundProbe { moment, probe, worse } in &round.probes {
        let cpus: Vec<String> = probe.cpus.iter().map(|cpu| cpu.cpu.to_string()).collect();
        let summary = serde_json::to_string(probe)
            .map_err(|error| ArchiveError::Garbled(format!("a probe cannot be written: {error}")))?;
        let inserted = transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO probe (job, attempt, round, moment, agent, pool, boot_id, tier, cpus, level, worse,
                    recorded_unix_ms, summary)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                round.attempt.job.to_string(),
                round.attempt.number,
                round.round,
                moment.as_str(),
                round.agent.as_str(),
                round.pool.as_str(),
                probe.boot_id,
                probe.tier.as_str(),
                cpus.join(","),
                probe.level().as_str(),
                worse,
                as_i64(round.recorded_unix_ms),
                summary,
            ])?;
        if inserted > 0 {
            transaction
                .prepare_cached(
                    "DELETE FROM probe WHERE agent = ?1 AND moment = ?2 AND id <= (
                         SELECT id FROM probe WHERE agent = ?1 AND moment = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
                )?
                .execute(params![round.agent.as_str(), moment.as_str(), PROBES_KEPT])?;
        }
    }
    Ok(())
}

/// The newest probes, the newest first.
pub(super) fn get(connection: &Connection, query: &ProbeQuery) -> Result<Vec<ArchivedProbe>, ArchiveError> {
    let ProbeQuery { agent, pool, job, jobs_only, limit } = query;
    let mut statement = connection.prepare_cached(
        "SELECT agent, pool, job, attempt, round, recorded_unix_ms, moment, worse, summary FROM probe
         WHERE (?1 = '' OR agent = ?1) AND (?2 = '' OR pool = ?2) AND (?3 = '' OR job = ?3)
             AND (?4 = 0 OR moment = 'job')
         ORDER BY id DESC LIMIT ?5",
    )?;
    let limit = (*limit).clamp(1, PROBES_MAX);
    let mut rows = statement.query(params![agent, pool, job, jobs_only, limit])?;
    let mut probes = Vec::new();
    while let Some(row) = rows.next()? {
        probes.push(archived(row)?);
    }
    Ok(probes)
}

fn archived(row: &Row<'_>) -> Result<ArchivedProbe, ArchiveError> {
    let garbled = |what: &str| ArchiveError::Garbled(format!("a probe's {what}"));
    let (moment, summary): (String, String) = (row.get(6)?, row.get(8)?);
    let moment = ProbeMoment::ALL.iter().copied().find(|known| known.as_str() == moment);
    Ok(ArchivedProbe {
        agent: row.get(0)?,
        pool: row.get(1)?,
        job: row.get(2)?,
        attempt: row.get(3)?,
        round: row.get(4)?,
        recorded_unix_ms: row.get::<_, i64>(5)?.unsigned_abs(),
        probe: RoundProbe {
            moment: moment.ok_or_else(|| garbled("moment"))?,
            probe: serde_json::from_str(&summary).map_err(|_| garbled("summary"))?,
            worse: row.get(7)?,
        },
    })
}
