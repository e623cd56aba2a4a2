//! Incidents in the store: one row per kind and subject while it is open, counting repeats.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::{Error, Writing, micros};
use crate::incidents::{Incident, Kind};

/// How many of a kind are open.
///
/// # Errors
/// SQLite's.
pub fn open(writing: &Writing<'_>, kind: Kind) -> Result<u64, Error> {
    writing
        .connection
        .prepare_cached("SELECT count(*) FROM incidents WHERE kind = ?1 AND ended IS NULL")
        .and_then(|mut s| s.query_row([kind.as_str()], |r| r.get(0)))
        .map_err(Error::sqlite("counting incidents"))
}

/// Opens one.
///
/// # Errors
/// SQLite's.
pub fn insert(writing: &Writing<'_>, incident: &Incident) -> Result<(), Error> {
    let now = micros(writing.now);
    writing
        .connection
        .prepare_cached(
            "INSERT INTO incidents (kind, subject, host, ledger, first_seen, last_seen, count, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
        )
        .and_then(|mut s| {
            let detail = Value::Object(incident.detail.clone()).to_string();
            let Incident { kind, subject, host, ledger, count, .. } = incident;
            s.execute(params![kind.as_str(), subject, host, ledger, now, count, detail])
        })
        .map_err(Error::sqlite("opening an incident"))?;
    Ok(())
}

/// Counts an open incident of this kind and subject once more; whether there is one.
///
/// # Errors
/// SQLite's.
pub fn count_again(writing: &Writing<'_>, incident: &Incident, subject: &str) -> Result<bool, Error> {
    let changed = writing
        .connection
        .prepare_cached(
            "UPDATE incidents SET count = count + ?3, last_seen = ?4, detail = ?5
             WHERE kind = ?1 AND subject = ?2 AND ended IS NULL",
        )
        .and_then(|mut s| {
            let detail = Value::Object(incident.detail.clone()).to_string();
            s.execute(params![incident.kind.as_str(), subject, incident.count, micros(writing.now), detail])
        })
        .map_err(Error::sqlite("counting an incident"))?;
    Ok(changed == 1)
}

/// Ends an open incident: it is over, and stays listed.
///
/// # Errors
/// SQLite's.
pub fn end(writing: &Writing<'_>, kind: Kind, subject: &str) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached("UPDATE incidents SET ended = ?3 WHERE kind = ?1 AND subject = ?2 AND ended IS NULL")
        .and_then(|mut s| s.execute(params![kind.as_str(), subject, micros(writing.now)]))
        .map_err(Error::sqlite("ending an incident"))?;
    Ok(())
}

/// Whether one is open.
///
/// # Errors
/// SQLite's.
pub fn is_open(connection: &Connection, kind: Kind, subject: &str) -> Result<bool, Error> {
    connection
        .prepare_cached("SELECT 1 FROM incidents WHERE kind = ?1 AND subject = ?2 AND ended IS NULL")
        .and_then(|mut s| s.query_row(params![kind.as_str(), subject], |_| Ok(())).optional())
        .map(|found| found.is_some())
        .map_err(Error::sqlite("looking up an incident"))
}
