//! Archives of earlier versions: what they hold without a tier counts as `dev`, which promises nothing, and calibrations
//! that do not say how their pairs were run count as of plain pairs.

use darwin_shared::round::Pairing;
use rusqlite::Connection;

use super::archive::ArchiveError;
use super::archive_calibrations;

/// Gives an older archive the columns that it lacks. Does nothing to one that has them.
pub(super) fn migrate(connection: &Connection) -> Result<(), ArchiveError> {
    if !has_column(connection, "invocation", "tier")? {
        connection.execute_batch("ALTER TABLE invocation ADD COLUMN tier TEXT NOT NULL DEFAULT 'dev'")?;
    }
    if !has_column(connection, "calibration", "pairing")? {
        let plain = Pairing::PLAIN;
        let tier = if has_column(connection, "calibration", "tier")? { "tier" } else { "'dev'" };
        // Tier and pairing are part of the key, and a key cannot be altered.
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             ALTER TABLE calibration RENAME TO calibration_before;
             {}
             INSERT INTO calibration (suite, agent, tier, pairing, bench, metric, gated, job, pairs, robust_sd, sd,
                 kurtosis, order_effect, lag_1, measured_unix_ms, fingerprint)
             SELECT suite, agent, {tier}, '{plain}', bench, metric, gated, job, pairs, robust_sd, sd,
                 kurtosis, order_effect, lag_1, measured_unix_ms, fingerprint FROM calibration_before;
             DROP TABLE calibration_before;
             COMMIT;",
            archive_calibrations::CREATE
        ))?;
    }
    Ok(())
}

fn has_column(connection: &Connection, table: &str, column: &str) -> Result<bool, ArchiveError> {
    let count: i64 = connection.query_row(
        "SELECT COUNT(*) FROM pragma_table_info(?1) WHERE name = ?2",
        [table, column],
        |row| row.get(0),
    )?;
    Ok(count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of an earlier version, migrated twice. So much SQL was there beyond that of the first version: in the
    /// tables' columns, in the key of calibrations and in the values.
    fn migrated(column: &str, key: &str, value: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!(
                "CREATE TABLE suite (id INTEGER PRIMARY KEY, project TEXT NOT NULL, suite TEXT NOT NULL);
                 CREATE TABLE invocation (id INTEGER PRIMARY KEY, agent TEXT NOT NULL{column});
                 CREATE TABLE calibration (suite INTEGER NOT NULL REFERENCES suite (id), agent TEXT NOT NULL{column},
                     bench TEXT NOT NULL, metric TEXT NOT NULL, gated INTEGER NOT NULL, job TEXT NOT NULL,
                     pairs INTEGER NOT NULL, robust_sd REAL NOT NULL, sd REAL NOT NULL, kurtosis REAL,
                     order_effect REAL NOT NULL, lag_1 REAL, measured_unix_ms INTEGER NOT NULL,
                     fingerprint TEXT NOT NULL, PRIMARY KEY (suite, agent{key}, bench, metric)) WITHOUT ROWID;
                 INSERT INTO suite VALUES (1, 'p', 's');
                 INSERT INTO invocation VALUES (1, 'box'{value});
                 INSERT INTO calibration VALUES (1, 'box'{value}, 'b', 'latency.p50', 1, 'job', 30, 0.1, 0.2, NULL, 0, NULL,
                     5, 'x');"
            ))
            .unwrap();
        for _ in 0..2 {
            migrate(&connection).unwrap();
        }
        connection
    }

    fn word(connection: &Connection, column: &str, table: &str) -> String {
        connection.query_row(&format!("SELECT {column} FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    /// Puts the calibration in once more, with these in its key.
    fn again(connection: &Connection, tier: &str, pairing: &str) -> rusqlite::Result<usize> {
        let again = "INSERT INTO calibration SELECT suite, agent, ?1, ?2, bench, metric, gated, job, pairs, robust_sd, \
                     sd, kurtosis, order_effect, lag_1, measured_unix_ms, fingerprint FROM calibration LIMIT 1";
        connection.execute(again, [tier, pairing])
    }

    #[test]
    fn an_archive_of_before_tiers_keeps_what_it_holds_and_counts_it_as_dev_and_plain() {
        let archive = migrated("", "", "");
        assert_eq!(word(&archive, "tier", "invocation"), "dev");
        assert_eq!(word(&archive, "tier || ' ' || pairing", "calibration"), "dev plain");
        assert_eq!(word(&archive, "job || ' ' || pairs || ' ' || fingerprint", "calibration"), "job 30 x");
        assert_eq!(again(&archive, "shielded", "plain").unwrap(), 1, "one for each tier");
    }

    #[test]
    fn a_calibration_of_before_pairings_keeps_its_tier_and_counts_as_of_plain_pairs() {
        let archive = migrated(", tier TEXT NOT NULL", ", tier", ", 'shielded'");
        assert_eq!(word(&archive, "tier", "invocation"), "shielded");
        assert_eq!(word(&archive, "tier || ' ' || pairing", "calibration"), "shielded plain");
        assert_eq!(word(&archive, "job || ' ' || pairs || ' ' || fingerprint", "calibration"), "job 30 x");
        assert!(again(&archive, "shielded", "plain").is_err(), "it is there");
        assert_eq!(again(&archive, "shielded", "sliced").unwrap(), 1, "one for each pairing");
    }
}
