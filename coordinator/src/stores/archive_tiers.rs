//! Archives of before there were tiers: what they hold counts as `dev`, which promises nothing.

use rusqlite::Connection;

use super::archive::ArchiveError;
use super::archive_calibrations;

/// Gives an older archive its tiers. Does nothing to one that has them.
pub(super) fn migrate(connection: &Connection) -> Result<(), ArchiveError> {
    if !has_tier(connection, "invocation")? {
        connection.execute_batch("ALTER TABLE invocation ADD COLUMN tier TEXT NOT NULL DEFAULT 'dev'")?;
    }
    if !has_tier(connection, "calibration")? {
        // The tier is part of the key, and a key cannot be altered.
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             ALTER TABLE calibration RENAME TO calibration_without_tier;
             {}
             INSERT INTO calibration (suite, agent, tier, bench, metric, gated, job, pairs, robust_sd, sd, kurtosis,
                 order_effect, lag_1, measured_unix_ms, fingerprint)
             SELECT suite, agent, 'dev', bench, metric, gated, job, pairs, robust_sd, sd, kurtosis,
                 order_effect, lag_1, measured_unix_ms, fingerprint FROM calibration_without_tier;
             DROP TABLE calibration_without_tier;
             COMMIT;",
            archive_calibrations::CREATE
        ))?;
    }
    Ok(())
}

fn has_tier(connection: &Connection, table: &str) -> Result<bool, ArchiveError> {
    let count: i64 = connection.query_row(
        "SELECT COUNT(*) FROM pragma_table_info(?1) WHERE name = 'tier'",
        [table],
        |row| row.get(0),
    )?;
    Ok(count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_archive_keeps_what_it_holds_and_counts_it_as_dev() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE suite (id INTEGER PRIMARY KEY, project TEXT NOT NULL, suite TEXT NOT NULL);
                 CREATE TABLE invocation (id INTEGER PRIMARY KEY, agent TEXT NOT NULL);
                 CREATE TABLE calibration (suite INTEGER NOT NULL REFERENCES suite (id), agent TEXT NOT NULL,
                     bench TEXT NOT NULL, metric TEXT NOT NULL, gated INTEGER NOT NULL, job TEXT NOT NULL,
                     pairs INTEGER NOT NULL, robust_sd REAL NOT NULL, sd REAL NOT NULL, kurtosis REAL,
                     order_effect REAL NOT NULL, lag_1 REAL, measured_unix_ms INTEGER NOT NULL,
                     fingerprint TEXT NOT NULL, PRIMARY KEY (suite, agent, bench, metric)) WITHOUT ROWID;
                 INSERT INTO suite VALUES (1, 'p', 's');
                 INSERT INTO invocation VALUES (1, 'box');
                 INSERT INTO calibration VALUES (1, 'box', 'b', 'latency.p50', 1, 'job', 30, 0.1, 0.2, NULL, 0, NULL, 5, 'x');",
            )
            .unwrap();
        for _ in 0..2 {
            migrate(&connection).unwrap();
        }
        let tier = |table: &str| -> String {
            connection.query_row(&format!("SELECT tier FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!((tier("invocation"), tier("calibration")), ("dev".to_owned(), "dev".to_owned()));
        let again = "INSERT INTO calibration SELECT suite, agent, 'shielded', bench, metric, gated, job, pairs, \
                     robust_sd, sd, kurtosis, order_effect, lag_1, measured_unix_ms, fingerprint FROM calibration";
        assert_eq!(connection.execute(again, []).unwrap(), 1, "one for each tier");
    }
}
