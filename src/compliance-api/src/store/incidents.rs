//! Incidents in the store: one row per kind and subject while it is open, counting repeats.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};

use super::{Error, Writing, micros};
use crate::{
    incidents::{Incident, Kind},
    own_ledger::{self, By, Word},
};

/// `subject` of the row that counts what is beyond the bound.
pub const OTHERS: &str = "(others)";

/// Open incidents of a kind that anybody can cause under ever new subjects, whatever the configuration says.
const ANYBODYS: u64 = 1000;

/// Opens an incident, or counts it where it is open.
///
/// # Errors
/// SQLite's; a record of the server that cannot be sealed.
pub fn note(writing: &Writing<'_>, incident: &Incident) -> Result<(), Error> {
    if count_again(writing, incident, &incident.subject)? {
        return Ok(());
    }
    let open: u64 = writing
        .connection
        .prepare_cached("SELECT count(*) FROM incidents WHERE kind = ?1 AND ended IS NULL")
        .and_then(|mut s| s.query_row([incident.kind.as_str()], |r| r.get(0)))
        .map_err(Error::sqlite("counting incidents"))?;
    // By kind: whoever fills one leaves the others as they are.
    let beyond = open >= most(writing, incident.kind);
    if beyond && count_again(writing, incident, OTHERS)? {
        return Ok(());
    }
    let (subject, host, ledger) = match beyond {
        true => (OTHERS, None, None),
        false => (incident.subject.as_str(), incident.host.as_ref(), incident.ledger.as_ref()),
    };
    let now = micros(writing.now);
    writing
        .connection
        .prepare_cached(
            "INSERT INTO incidents (kind, subject, host, ledger, first_seen, last_seen, count, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
        )
        .and_then(|mut s| {
            let detail = Value::Object(incident.detail.clone()).to_string();
            s.execute(params![incident.kind.as_str(), subject, host, ledger, now, incident.count, detail])
        })
        .map_err(Error::sqlite("opening an incident"))?;
    let mut detail = Map::new();
    detail.insert("kind".to_owned(), incident.kind.as_str().into());
    detail.insert("subject".to_owned(), subject.into());
    own_ledger::state(writing, Word::IncidentOpened, &By::Server, incident.kind.title(), detail)
}

/// How many of a kind may be open.
fn most(writing: &Writing<'_>, kind: Kind) -> u64 {
    let most = writing.limits.incidents;
    if kind.is_anybodys() { most.min(ANYBODYS) } else { most }
}

fn count_again(writing: &Writing<'_>, incident: &Incident, subject: &str) -> Result<bool, Error> {
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
