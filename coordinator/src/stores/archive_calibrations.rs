//! The archive's calibrations in SQLite: what pairs of the same code say of a box, and how often the gate was wrong.

use std::collections::BTreeMap;

use darwin_gate::audit::{AaVerdict, Audit};
use darwin_gate::calibration::AaPair;
use darwin_gate::{
    Block, Builds, Calibration, EndOfData, Evidence, Gate, Metric, Observation, SeriesKey, Unit, Verdict,
    order,
};
use darwin_shared::spec::Arm;
use rusqlite::{Connection, Row, Transaction, params};

use super::archive::{
    AaJob, ArchiveError, CALIBRATIONS_MAX, CalibratedSeries, CalibrationQuery, Calibrations,
};
use super::archive_sqlite::{arm_number, as_i64, suite_id};

/// The most A/A verdicts that the audit reads: one an hour for ten years.
const VERDICTS_MAX: u32 = 100_000;

pub(super) const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS calibration (
        suite        INTEGER NOT NULL REFERENCES suite (id),
        agent        TEXT    NOT NULL,
        tier         TEXT    NOT NULL,
        pairing      TEXT    NOT NULL,
        bench        TEXT    NOT NULL,
        metric       TEXT    NOT NULL,
        gated        INTEGER NOT NULL,
        job          TEXT    NOT NULL,
        pairs        INTEGER NOT NULL,
        robust_sd    REAL    NOT NULL,
        sd           REAL    NOT NULL,
        kurtosis     REAL,
        order_effect REAL    NOT NULL,
        lag_1        REAL,
        measured_unix_ms INTEGER NOT NULL,
        fingerprint  TEXT    NOT NULL,
        PRIMARY KEY (suite, agent, tier, pairing, bench, metric)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS aa_verdict (
        id       INTEGER PRIMARY KEY,
        job      TEXT    NOT NULL UNIQUE,
        suite    INTEGER NOT NULL REFERENCES suite (id),
        agent    TEXT    NOT NULL,
        is_false INTEGER NOT NULL,
        chance   REAL    NOT NULL,
        recorded_unix_ms INTEGER NOT NULL
    );
";

/// One side of one round of a series.
pub(super) struct Seen {
    pub(super) round: u32,
    pub(super) arm: Arm,
    pub(super) observation: Observation,
}

pub(super) fn put(transaction: &Transaction<'_>, job: &AaJob) -> Result<(), ArchiveError> {
    let suite = suite_id(transaction, &job.spec)?;
    let mut audited = AaVerdict::of(&job.verdict, &job.spec.policy);
    if job.spec.is_calibration() {
        let blocks = put_calibration(transaction, suite, job)?;
        audited = replayed(job, &blocks).or(audited);
    }
    let Some(AaVerdict { is_false, chance }) = audited else { return Ok(()) };
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO aa_verdict (job, suite, agent, is_false, chance, recorded_unix_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            job.attempt.job.to_string(),
            suite,
            job.agent.as_str(),
            is_false,
            chance,
            as_i64(job.finished_unix_ms),
        ])?;
    Ok(())
}

/// Writes what each series' pairs say, in place of what was known of such pairs of this suite on this box; gives the gated
/// series' pairs.
fn put_calibration(
    transaction: &Transaction<'_>,
    suite: i64,
    job: &AaJob,
) -> Result<BTreeMap<u32, Block>, ArchiveError> {
    transaction
        .prepare_cached(
            "DELETE FROM calibration WHERE suite = ?1 AND agent = ?2 AND tier = ?3 AND pairing = ?4",
        )?
        .execute(params![suite, job.agent.as_str(), job.tier.as_str(), job.pairing_word()])?;
    let mut blocks = BTreeMap::new();
    for finding in &job.verdict.findings {
        let seen = observations(transaction, suite, job, &finding.series)?;
        if finding.gated {
            put_into(&mut blocks, job.spec.seed, &finding.series, &seen);
        }
        let pairs = pairs(&seen, &finding.series.metric, job.spec.seed);
        let calibration = Calibration::of(&pairs, job.finished_unix_ms, &job.fingerprint);
        if let Some(calibration) = calibration {
            insert(transaction, suite, job, &finding.series, finding.gated, &calibration)?;
        }
    }
    Ok(blocks)
}

/// What both sides measured of one series in this attempt, round by round.
fn observations(
    transaction: &Transaction<'_>,
    suite: i64,
    job: &AaJob,
    series: &SeriesKey,
) -> Result<Vec<Seen>, ArchiveError> {
    let mut statement = transaction.prepare_cached(
        "SELECT i.round, i.arm, o.value, o.unit, o.samples, o.evidence
         FROM invocation i
         CROSS JOIN observation o ON o.suite = ?1 AND o.bench = ?2 AND o.metric = ?3 AND o.invocation = i.id
         WHERE i.job = ?4 AND i.attempt = ?5
         ORDER BY i.round, i.arm",
    )?;
    let (bench, metric) = (&series.bench, series.metric.to_string());
    let (id, number) = (job.attempt.job.to_string(), job.attempt.number);
    let mut rows = statement.query(params![suite, bench, metric, id, number])?;
    let mut seen = Vec::new();
    while let Some(row) = rows.next()? {
        let (unit, evidence): (String, String) = (row.get(3)?, row.get(5)?);
        let garbled = |what: &str| ArchiveError::Garbled(format!("an observation of {series} has {what}"));
        let observation = Observation {
            value: row.get(2)?,
            unit: Unit::of_word(&unit).ok_or_else(|| garbled("no unit"))?,
            samples: row.get::<_, i64>(4)?.unsigned_abs(),
            evidence: evidence_of(&evidence).ok_or_else(|| garbled("no evidence"))?,
        };
        let arm =
            if row.get::<_, u8>(1)? == arm_number(Arm::Baseline) { Arm::Baseline } else { Arm::Challenger };
        seen.push(Seen { round: row.get(0)?, arm, observation });
    }
    Ok(seen)
}

fn evidence_of(letter: &str) -> Option<Evidence> {
    [Evidence::A, Evidence::B, Evidence::C, Evidence::D]
        .into_iter()
        .find(|class| format!("{class:?}") == letter)
}

pub(super) fn pairs(sides: &[Seen], metric: &Metric, seed: u64) -> Vec<AaPair> {
    let both = |pair: &[Seen]| match pair {
        [first, second]
            if first.round == second.round && (first.arm, second.arm) == (Arm::Baseline, Arm::Challenger) =>
        {
            let (baseline, challenger) = (first.observation.value, second.observation.value);
            AaPair::of(metric.better(), baseline, challenger, order(seed, first.round))
        }
        _ => None,
    };
    sides.windows(2).filter_map(both).collect()
}

pub(super) fn put_into(blocks: &mut BTreeMap<u32, Block>, seed: u64, series: &SeriesKey, sides: &[Seen]) {
    for Seen { round, arm, observation } in sides {
        let block = blocks.entry(*round).or_insert_with(|| Block {
            round: *round,
            order: order(seed, *round),
            baseline: BTreeMap::new(),
            challenger: BTreeMap::new(),
            builds: Builds::default(),
        });
        let side = match arm {
            Arm::Baseline => &mut block.baseline,
            Arm::Challenger => &mut block.challenger,
        };
        side.insert(series.clone(), *observation);
    }
}

/// What the gate says of these pairs with all its usual looks: the plan by which it judges real changes is what is to be
/// audited, not the single look of a calibration. None if rounds are missing.
pub(super) fn replayed(job: &AaJob, blocks: &BTreeMap<u32, Block>) -> Option<AaVerdict> {
    let pairs = u32::try_from(blocks.len()).ok().filter(|pairs| *pairs == job.verdict.pairs)?;
    let policy = job.spec.policy.clone().with_max_pairs(pairs);
    let mut gate = Gate::new(policy.clone(), Some(job.spec.seed)).ok()?;
    for block in blocks.values() {
        gate.push(block).ok()?;
        if gate.verdict().is_some() {
            break;
        }
    }
    let verdict: Verdict = gate.finish(EndOfData::MaxPairs);
    AaVerdict::of(&verdict, &policy)
}

fn insert(
    transaction: &Transaction<'_>,
    suite: i64,
    job: &AaJob,
    series: &SeriesKey,
    gated: bool,
    calibration: &Calibration,
) -> Result<(), ArchiveError> {
    let Calibration { pairs, robust_sd, sd, kurtosis, order_effect, lag_1, measured_unix_ms, fingerprint } =
        calibration;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO calibration (suite, agent, bench, metric, gated, job, pairs, robust_sd, sd, kurtosis,
                order_effect, lag_1, measured_unix_ms, fingerprint, tier, pairing)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            suite,
            job.agent.as_str(),
            series.bench,
            series.metric.to_string(),
            gated,
            job.attempt.job.to_string(),
            pairs,
            robust_sd,
            sd,
            kurtosis,
            order_effect,
            lag_1,
            as_i64(*measured_unix_ms),
            fingerprint,
            job.tier.as_str(),
            job.pairing_word(),
        ])?;
    Ok(())
}

pub(super) fn get(connection: &Connection, query: &CalibrationQuery) -> Result<Calibrations, ArchiveError> {
    let CalibrationQuery { project, suite, agent, limit } = query;
    let mut statement = connection.prepare_cached(
        "SELECT c.agent, s.project, s.suite, c.bench, c.metric, c.gated, c.job, c.pairs, c.robust_sd, c.sd, c.kurtosis,
                c.order_effect, c.lag_1, c.measured_unix_ms, c.fingerprint, c.tier, c.pairing
         FROM calibration c JOIN suite s ON s.id = c.suite
         WHERE (?1 = '' OR s.project = ?1) AND (?2 = '' OR s.suite = ?2) AND (?3 = '' OR c.agent = ?3)
         ORDER BY c.gated DESC, s.project, s.suite, c.agent, c.tier, c.pairing, c.bench, c.metric LIMIT ?4",
    )?;
    let mut rows = statement.query(params![project, suite, agent, (*limit).clamp(1, CALIBRATIONS_MAX)])?;
    let mut series = Vec::new();
    while let Some(row) = rows.next()? {
        series.push(calibrated(row)?);
    }
    series.sort_by(|a, b| {
        let key = |c: &CalibratedSeries| {
            (c.project.clone(), c.suite.clone(), c.agent.clone(), c.tier.clone(), c.pairing.clone())
        };
        key(a).cmp(&key(b)).then_with(|| a.series.cmp(&b.series))
    });
    Ok(Calibrations { series, audit: audit(connection)? })
}

fn calibrated(row: &Row<'_>) -> Result<CalibratedSeries, ArchiveError> {
    let metric: String = row.get(4)?;
    let metric: Metric =
        metric.parse().map_err(|why| ArchiveError::Garbled(format!("a calibration's metric: {why}")))?;
    Ok(CalibratedSeries {
        agent: row.get(0)?,
        tier: row.get(15)?,
        pairing: row.get(16)?,
        project: row.get(1)?,
        suite: row.get(2)?,
        series: SeriesKey { bench: row.get(3)?, metric },
        gated: row.get(5)?,
        job: row.get(6)?,
        calibration: Calibration {
            pairs: row.get(7)?,
            robust_sd: row.get(8)?,
            sd: row.get(9)?,
            kurtosis: row.get(10)?,
            order_effect: row.get(11)?,
            lag_1: row.get(12)?,
            measured_unix_ms: row.get::<_, i64>(13)?.unsigned_abs(),
            fingerprint: row.get(14)?,
        },
    })
}

fn audit(connection: &Connection) -> Result<Audit, ArchiveError> {
    let mut statement =
        connection.prepare_cached("SELECT is_false, chance FROM aa_verdict ORDER BY id LIMIT ?1")?;
    let verdicts = statement
        .query_map([VERDICTS_MAX], |row| Ok(AaVerdict { is_false: row.get(0)?, chance: row.get(1)? }))?;
    Ok(Audit::of(verdicts.collect::<Result<Vec<_>, _>>()?))
}
