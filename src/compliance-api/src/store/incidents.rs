//! Incidents in the store: one row per kind and subject while it is open, counting repeats.

use serde_json::Value;

use super::{
    Error,
    engine::{Connection, OptionalExtension, Row, params},
    micros,
    transaction::Transaction,
};
use crate::incidents::{Incident, Kind};

/// How many of a kind are open.
///
/// # Errors
/// The database's.
pub(super) fn open(writing: &Transaction<'_>, kind: Kind) -> Result<u64, Error> {
    writing
        .connection
        .prepare_cached("SELECT count(*) FROM incidents WHERE kind = ?1 AND ended IS NULL")
        .and_then(|mut s| s.query_row([kind.as_str()], |r| r.get(0)))
        .map_err(Error::database("counting incidents"))
}

/// Opens one.
///
/// # Errors
/// The database's.
pub(super) fn insert(writing: &Transaction<'_>, incident: &Incident) -> Result<(), Error> {
    let now = micros(writing.now);
    writing
        .connection
        .prepare_cached(
            "INSERT INTO incidents (id, kind, subject, host, ledger, first_seen, last_seen, count, detail)
             VALUES ((SELECT coalesce(max(id), 0) + 1 FROM incidents), ?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
        )
        .and_then(|mut s| {
            let detail = Value::Object(incident.detail.clone()).to_string();
            let Incident { kind, subject, host, ledger, count, .. } = incident;
            s.execute(params![kind.as_str(), subject, host, ledger, now, count, detail])
        })
        .map_err(Error::database("opening an incident"))?;
    Ok(())
}

/// Counts an open incident of this kind and subject once more; whether there is one.
///
/// # Errors
/// The database's.
pub(super) fn count_again(writing: &Transaction<'_>, incident: &Incident, subject: &str) -> Result<bool, Error> {
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
        .map_err(Error::database("counting an incident"))?;
    Ok(changed == 1)
}

/// Ends an open incident: it is over, and stays listed.
///
/// # Errors
/// The database's.
pub(super) fn end(writing: &Transaction<'_>, kind: Kind, subject: &str) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached("UPDATE incidents SET ended = ?3 WHERE kind = ?1 AND subject = ?2 AND ended IS NULL")
        .and_then(|mut s| s.execute(params![kind.as_str(), subject, micros(writing.now)]))
        .map_err(Error::database("ending an incident"))?;
    Ok(())
}

/// Whether one is open.
///
/// # Errors
/// The database's.
pub(super) fn is_open(connection: &Connection, kind: Kind, subject: &str) -> Result<bool, Error> {
    connection
        .prepare_cached("SELECT 1 FROM incidents WHERE kind = ?1 AND subject = ?2 AND ended IS NULL")
        .and_then(|mut s| s.query_row(params![kind.as_str(), subject], |_| Ok(())).optional())
        .map(|found| found.is_some())
        .map_err(Error::database("looking up an incident"))
}

/// Which incidents are asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only those that are open, or over.
    pub open: Option<bool>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only about this host.
    pub host: Option<String>,
    /// Only about this ledger.
    pub ledger: Option<String>,
    /// Before this row.
    pub before: i64,
    /// So many at most; one more says that there are more.
    pub most: u32,
}

/// An incident as it is kept. Moments are microseconds.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its row.
    pub id: i64,
    /// Its kind, a word.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// The host, where it is about one.
    pub host: Option<String>,
    /// The ledger, where it is about one.
    pub ledger: Option<String>,
    /// When it was first seen.
    pub first_seen: i64,
    /// When it was last seen.
    pub last_seen: i64,
    /// How often.
    pub count: i64,
    /// When it was over.
    pub ended: Option<i64>,
    /// The newest occurrence, JSON.
    pub detail: String,
}

/// The incidents that are asked for, newest first, and one more.
pub(super) fn list(connection: &Connection, wanted: &Wanted) -> Result<Vec<Kept>, Error> {
    let listing = "listing incidents";
    let mut statement = connection
        .prepare_cached(
            "SELECT id, kind, subject, host, ledger, first_seen, last_seen, count, ended, detail FROM incidents
             WHERE id < ?1 AND ((ended IS NULL) = ?2 OR ?2 IS NULL) AND (kind = ?3 OR ?3 IS NULL)
             AND (host = ?4 OR ?4 IS NULL) AND (ledger = ?5 OR ?5 IS NULL) ORDER BY id DESC LIMIT ?6",
        )
        .map_err(Error::database(listing))?;
    let read = |row: &Row<'_>| {
        Ok(Kept {
            id: row.get(0)?,
            kind: row.get(1)?,
            subject: row.get(2)?,
            host: row.get(3)?,
            ledger: row.get(4)?,
            first_seen: row.get(5)?,
            last_seen: row.get(6)?,
            count: row.get(7)?,
            ended: row.get(8)?,
            detail: row.get(9)?,
        })
    };
    let asked = params![wanted.before, wanted.open, wanted.kind, wanted.host, wanted.ledger, wanted.most + 1];
    let rows = statement.query_map(asked, read).map_err(Error::database(listing))?;
    rows.collect::<Result<_, _>>().map_err(Error::database(listing))
}
