//! Who states things, and which windows people reviewed: what judging rests on beside the counts.

use super::{
    Error,
    engine::{Connection, Fault, Row, params},
    moment,
};
use crate::evidence::{ReviewSpan, SourceKind};

/// One chain, as it matters for its source.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Its row.
    pub row: i64,
    /// What its source is.
    pub kind: SourceKind,
    /// The source's name.
    pub name: String,
    /// The stack of its newest record.
    pub stack: String,
    /// The stack of the token that enrolled it.
    pub token_stack: Option<String>,
    /// When it began, microseconds.
    pub created: i64,
    /// The last record's type.
    pub last_type: String,
    /// Its own time.
    pub last_time: i64,
    /// When it was stored.
    pub received: i64,
}

/// Every chain but the server's own, oldest first; those that wait for approval too, where they are asked for.
pub(super) fn list(connection: &Connection, pending: bool) -> Result<Vec<Chain>, Error> {
    let listing = "listing sources";
    let mut statement = connection
        .prepare_cached(
            "SELECT id, kind, name, stack, created, last_type, last_time, token_stack, head_received FROM ledgers
             WHERE kind <> 'server' AND (state = 'enrolled' OR ?1) ORDER BY id",
        )
        .map_err(Error::database(listing))?;
    let rows = statement.query_map([pending], chain).map_err(Error::database(listing))?;
    rows.collect::<Result<_, _>>().map_err(Error::database(listing))
}

fn chain(row: &Row<'_>) -> Result<Chain, Fault> {
    let kind = match row.get_ref(1)?.as_str()? {
        "host" => SourceKind::Host,
        "client" => SourceKind::Client,
        _ => SourceKind::Person,
    };
    Ok(Chain {
        row: row.get(0)?,
        kind,
        name: row.get(2)?,
        stack: row.get(3)?,
        created: row.get(4)?,
        last_type: row.get(5)?,
        last_time: row.get(6)?,
        token_stack: row.get(7)?,
        received: row.get(8)?,
    })
}

/// Reviews whose windows touch this one, newest first; of this stack or of all, where one is given.
pub(super) fn reviews(
    connection: &Connection,
    stack: Option<&str>,
    from: i64,
    to: i64,
    most: usize,
) -> Result<Vec<ReviewSpan>, Error> {
    let listing = "listing reviews";
    let mut statement = connection
        .prepare_cached(
            "SELECT person, window_from, window_to, signed, stack FROM reviews
             WHERE window_to > ?1 AND window_from < ?2 AND (stack IS NULL OR stack = ?3 OR ?3 IS NULL)
             ORDER BY artifact DESC LIMIT ?4",
        )
        .map_err(Error::database(listing))?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    let rows = statement.query_map(params![from, to, stack, most], read).map_err(Error::database(listing))?;
    rows.map(|row| {
        let (person, from, to, signed, stack) = row.map_err(Error::database(listing))?;
        Ok(ReviewSpan { person, from: moment(from)?, to: moment(to)?, signed: moment(signed)?, stack })
    })
    .collect()
}
