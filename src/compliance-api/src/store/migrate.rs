//! Brings a database of SQLite's up to this program's version, one numbered step after the other, each in its own transaction.
//!
//! It never goes back, and never touches a database of a later version.

use rusqlite::{Connection, TransactionBehavior, params};
use sd_notify::NotifyState;

use super::{CHECKPOINT_PAGES, Error, PAGE_BYTES};
use crate::review;

/// One step.
type Step = fn(&Connection) -> Result<(), Error>;

/// The steps; `user_version` says how many were taken. A step that was released is never edited.
const STEPS: &[Step] = &[
    |connection| run(connection, include_str!("schema-1.sql")),
    |connection| {
        run(connection, include_str!("schema-2.sql"))?;
        reviews_once(connection)
    },
    |connection| run(connection, include_str!("schema-3.sql")),
    |connection| run(connection, include_str!("schema-4.sql")),
    |connection| run(connection, include_str!("schema-5.sql")),
    |connection| run(connection, include_str!("schema-6.sql")),
    |connection| run(connection, include_str!("schema-7.sql")),
];

/// How long systemd is asked to wait for a step: a large database takes minutes. The longest that can be asked for.
const STEP_MICROSECONDS: u32 = u32::MAX;

/// Takes the steps that are missing, and sets what makes a commit durable.
pub(super) fn up(connection: &mut Connection) -> Result<(), Error> {
    // The page's size is of effect before the first table only; WAL stays in the file once it is set. References are not
    // looked up with each row: the store alone writes them, from rows that it has just read or made.
    run(
        connection,
        &format!(
            "PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA foreign_keys = OFF;"
        ),
    )?;
    let known = u32::try_from(STEPS.len()).expect("a handful of steps");
    loop {
        let migrating = Error::database("bringing it up to date");
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(migrating)?;
        let version: u32 = transaction
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(Error::database("reading its version"))?;
        if version > known {
            return Err(Error::Newer { found: version, known });
        }
        let Some(step) = STEPS.get(version as usize) else { return Ok(()) };
        if version > 0 {
            tracing::info!(from = version, to = version + 1, "bringing the database up to date");
            // Nobody waits outside of systemd.
            let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(STEP_MICROSECONDS)]);
        }
        step(&transaction)?;
        run(&transaction, &format!("PRAGMA user_version = {}", version + 1))?;
        transaction.commit().map_err(Error::database("bringing it up to date"))?;
    }
}

fn run(connection: &Connection, sql: &str) -> Result<(), Error> {
    connection.execute_batch(sql).map_err(Error::database("bringing it up to date"))
}

/// Keeps what each review signed. Copies of one, which version 1 took under other ids, are no reviews any more; the
/// artifacts stay.
fn reviews_once(connection: &Connection) -> Result<(), Error> {
    let doing = "bringing it up to date";
    let mut list =
        connection.prepare("SELECT artifact FROM reviews ORDER BY artifact").map_err(Error::database(doing))?;
    let rows = list.query_map([], |row| row.get(0)).map_err(Error::database(doing))?;
    let all: Vec<i64> = rows.collect::<Result<_, _>>().map_err(Error::database(doing))?;
    for artifact in all {
        let bytes: Vec<u8> = connection
            .query_row("SELECT bytes FROM artifacts WHERE id = ?1", [artifact], |row| row.get(0))
            .map_err(Error::database(doing))?;
        let message = review::message(&bytes).map_err(|why| Error::Unsound(format!("a review that is none: {why}")))?;
        let kept = connection
            .execute(
                "UPDATE OR IGNORE reviews SET message = ?2 WHERE artifact = ?1",
                params![artifact, message.as_bytes()],
            )
            .map_err(Error::database(doing))?;
        if kept == 0 {
            connection
                .execute("DELETE FROM reviews WHERE artifact = ?1", [artifact])
                .map_err(Error::database(doing))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_comes_up_once_and_a_later_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut connection = Connection::open(&path).unwrap();
        up(&mut connection).unwrap();
        up(&mut connection).unwrap();
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |r| r.get(0)).unwrap();
        let synchronous: u32 = connection.query_row("PRAGMA synchronous", [], |r| r.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        connection.execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(matches!(up(&mut connection), Err(Error::Newer { found: 99, .. })));
    }

    #[test]
    fn a_database_of_version_1_is_brought_up_with_exact_counts_and_each_review_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(dir.path().join("db")).unwrap();
        run(&connection, include_str!("schema-1.sql")).unwrap();
        run(&connection, include_str!("version-1.test.sql")).unwrap();
        run(&connection, "PRAGMA user_version = 1").unwrap();
        up(&mut connection).unwrap();
        let one = |sql: &str| connection.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
        assert_eq!(one("SELECT count(*) FROM tallies"), 4);
        assert_eq!(one("SELECT count FROM tallies WHERE type = 3 AND stack = 1 AND clock_off = 0 AND day = 20000"), 2);
        assert_eq!(one("SELECT last FROM tallies WHERE clock_off = 1"), 4_070_908_800_000_000);
        assert_eq!(one("SELECT count(*) FROM tallies WHERE stack = 2"), 1, "one record of another stack");
        assert_eq!(one("SELECT key_epoch FROM ledgers WHERE id = 2"), 2);
        assert_eq!(one("SELECT next_by - head_received FROM ledgers WHERE id = 2"), 90_000_000_000);
        assert_eq!(one("SELECT count(*) FROM reviews"), 1, "two copies are one review");
        assert_eq!(one("SELECT count(*) FROM artifacts"), 6, "what was stored stays");
        assert_eq!(one("SELECT count(*) FROM server_keys"), 1);
        assert_eq!(one("SELECT last FROM counters WHERE name = 'artifacts'"), 6);
    }
}
