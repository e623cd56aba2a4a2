//! Brings a database up to this program's version, one numbered step after the other, each in its own transaction.
//!
//! It never goes back, and never touches a database of a later version.

use rusqlite::{Connection, TransactionBehavior};

use super::{CHECKPOINT_PAGES, Error, PAGE_BYTES};

/// The steps; `user_version` says how many were taken. A step that was released is never edited.
const STEPS: &[&str] = &[include_str!("schema-1.sql")];

/// Takes the steps that are missing, and sets what makes a commit durable.
pub(super) fn up(connection: &mut Connection) -> Result<(), Error> {
    // The page's size is of effect before the first table only; WAL stays in the file once it is set. References are not
    // looked up with each row: the store alone writes them, from rows that it has just read or made.
    connection
        .execute_batch(&format!(
            "PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA foreign_keys = OFF;"
        ))
        .map_err(Error::sqlite("setting it up"))?;
    let known = u32::try_from(STEPS.len()).expect("a handful of steps");
    loop {
        let migrating = Error::sqlite("bringing it up to date");
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(migrating)?;
        let version: u32 = transaction
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(Error::sqlite("reading its version"))?;
        if version > known {
            return Err(Error::Newer { found: version, known });
        }
        let Some(step) = STEPS.get(version as usize) else { return Ok(()) };
        transaction.execute_batch(step).map_err(Error::sqlite("bringing it up to date"))?;
        transaction
            .execute_batch(&format!("PRAGMA user_version = {}", version + 1))
            .map_err(Error::sqlite("bringing it up to date"))?;
        transaction.commit().map_err(Error::sqlite("bringing it up to date"))?;
    }
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
}
