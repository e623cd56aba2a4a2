//! What feeders say of each look at their source.

use document::{Id, Run, Source};
use jiff::Timestamp;

use super::{
    Error,
    documents::blob,
    engine::{Connection, OptionalExtension, params},
    micros, moment,
    transaction::Transaction,
};

/// Runs of one source that are kept of those in which somebody was held, a roster signed or something failed, and as many of the
/// others: most of a day, at a run a minute.
pub const MAX_RUNS: usize = 1_000;

/// The most runs of one source that are taken within a minute. A reader says something once a minute; this is so that no key of a
/// feeder keeps the server from writing what others have to say.
pub const MAX_RUNS_A_MINUTE: u64 = 60;

/// A minute, as moments are kept.
const MINUTE: i64 = 60_000_000;

/// What became of a run that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// It is kept.
    New,
    /// It was kept before, when it came.
    Known(Timestamp),
    /// Too many of its source came within a minute.
    TooMany,
}

/// A run as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// When it came.
    pub received: Timestamp,
    /// The signed document.
    pub envelope: String,
}

/// The newest of a source's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// The newest.
    pub last: Kept,
    /// When the newest came that did all that it should have.
    pub complete: Option<Timestamp>,
}

/// Keeps one, once, and no more of a source than [`MAX_RUNS_A_MINUTE`].
///
/// # Errors
/// The database's.
pub(super) fn insert(writing: &Transaction<'_>, id: Id, run: &Run, envelope: &str) -> Result<Keeping, Error> {
    let keeping = "keeping a run";
    let known: Option<i64> = writing
        .connection
        .prepare_cached("SELECT received FROM runs WHERE id = ?1")
        .and_then(|mut s| s.query_row([blob(id)], |row| row.get(0)).optional())
        .map_err(Error::database(keeping))?;
    if let Some(received) = known {
        return Ok(Keeping::Known(moment(received)?));
    }
    let failed = run.failed.is_some();
    let matters = failed || run.automatic.is_some() || !run.holds.is_empty();
    let (source, at) = (run.source.as_str(), micros(run.issued_at.timestamp()));
    let within: u64 = writing
        .connection
        .prepare_cached("SELECT count(*) FROM runs WHERE source = ?1 AND received > ?2")
        .and_then(|mut s| s.query_row(params![source, micros(writing.now) - MINUTE], |row| row.get(0)))
        .map_err(Error::database(keeping))?;
    if within >= MAX_RUNS_A_MINUTE {
        return Ok(Keeping::TooMany);
    }
    writing
        .connection
        .prepare_cached(
            "INSERT INTO runs (id, source, at, received, failed, matters, envelope) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .and_then(|mut s| s.execute(params![blob(id), source, at, micros(writing.now), failed, matters, envelope]))
        .map_err(Error::database(keeping))?;
    writing
        .connection
        .prepare_cached(
            "DELETE FROM runs WHERE source = ?1 AND matters = ?2 AND at <
               (SELECT at FROM runs WHERE source = ?1 AND matters = ?2 ORDER BY at DESC LIMIT 1 OFFSET ?3)",
        )
        .and_then(|mut s| s.execute(params![source, matters, MAX_RUNS - 1]))
        .map_err(Error::database(keeping))?;
    Ok(Keeping::New)
}

/// The newest runs of a source, or of all, the newest first; so many at most.
///
/// # Errors
/// The database's.
pub(super) fn list(connection: &Connection, source: Option<&Source>, most: usize) -> Result<Vec<Kept>, Error> {
    let listing = "listing runs";
    let mut statement = connection
        .prepare_cached(
            "SELECT received, envelope FROM runs WHERE source = ?1 OR ?1 IS NULL ORDER BY at DESC, received DESC, id LIMIT ?2",
        )
        .map_err(Error::database(listing))?;
    let rows = statement
        .query_map(params![source.map(Source::as_str), most], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(Error::database(listing))?;
    rows.map(|row| kept(row.map_err(Error::database(listing))?)).collect()
}

/// The newest of a source's.
///
/// # Errors
/// The database's.
pub(super) fn newest(connection: &Connection, source: &Source) -> Result<Option<Newest>, Error> {
    let Some(last) = list(connection, Some(source), 1)?.pop() else { return Ok(None) };
    let complete: Option<i64> = connection
        .prepare_cached("SELECT max(received) FROM runs WHERE source = ?1 AND failed = 0")
        .and_then(|mut s| s.query_row([source.as_str()], |row| row.get(0)).optional())
        .map_err(Error::database("looking up a run"))?
        .flatten();
    Ok(Some(Newest { last, complete: complete.map(moment).transpose()? }))
}

fn kept((received, envelope): (i64, String)) -> Result<Kept, Error> {
    Ok(Kept { received: moment(received)?, envelope })
}
