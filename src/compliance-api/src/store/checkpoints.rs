//! Signed checkpoints, and where every chain stood at one.

use jiff::Timestamp;
use record::{Hash, checkpoint::LedgerHead};

use super::{
    Error,
    engine::{Connection, Fault, OptionalExtension, Row, params},
    micros, moment,
    transaction::Transaction,
};

/// A checkpoint as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number, from 1.
    pub number: u64,
    /// The row of the artifact that was stored last.
    pub newest: i64,
    /// When it was made.
    pub made: Timestamp,
    /// The note as it was signed.
    pub note: String,
}

const COLUMNS: &str = "number, newest, made, note";

fn kept(row: &Row<'_>) -> Result<Result<Kept, Error>, Fault> {
    let (number, newest, made, note): (u64, i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(moment(made).map(|made| Kept { number, newest, made, note }))
}

/// Keeps one more.
pub(super) fn keep(writing: &Transaction<'_>, checkpoint: &Kept) -> Result<(), Error> {
    let Kept { number, newest, made, note } = checkpoint;
    writing
        .connection
        .prepare_cached("INSERT INTO checkpoints (number, newest, made, note) VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut s| s.execute(params![number, newest, micros(*made), note]))
        .map_err(Error::database("keeping a checkpoint"))?;
    Ok(())
}

/// The newest.
pub(super) fn newest(connection: &Connection) -> Result<Option<Kept>, Error> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM checkpoints ORDER BY number DESC LIMIT 1"))
        .and_then(|mut s| s.query_row(params![], kept).optional())
        .map_err(Error::database("looking up the newest checkpoint"))?
        .transpose()
}

/// Those after this number, in order; so many at most.
pub(super) fn after(connection: &Connection, number: u64, most: u32) -> Result<Vec<Kept>, Error> {
    let listing = "listing checkpoints";
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM checkpoints WHERE number > ?1 ORDER BY number LIMIT ?2"))
        .map_err(Error::database(listing))?;
    let rows = statement.query_map(params![number, most], kept).map_err(Error::database(listing))?;
    rows.map(|row| row.map_err(Error::database(listing))?).collect()
}

/// Where every chain stood when this row was the last, in order of their ids.
pub(super) fn heads_at(connection: &Connection, newest: i64) -> Result<Vec<LedgerHead>, Error> {
    let listing = "listing heads";
    // A chain's rows and numbers grow together: from its head back, the first that was there.
    let mut statement = connection
        .prepare_cached(
            "SELECT l.ledger, a.seq, a.hash, CASE WHEN a.hash IS NULL THEN coalesce(a.entry, a.bytes) END
             FROM ledgers l JOIN artifacts a ON a.id = (
                 SELECT b.id FROM artifacts b INDEXED BY artifacts_ledger
                 WHERE b.ledger = l.id AND b.id <= ?1 ORDER BY b.seq DESC LIMIT 1
             ) ORDER BY l.ledger",
        )
        .map_err(Error::database(listing))?;
    let read = |row: &Row<'_>| {
        let (ledger, seq): (String, u64) = (row.get(0)?, row.get(1)?);
        Ok((ledger, seq, row.get::<Option<[u8; 32]>>(2)?, row.get::<Option<Vec<u8>>>(3)?))
    };
    let rows = statement.query_map([newest], read).map_err(Error::database(listing))?;
    rows.map(|row| {
        let (ledger, seq, hash, line) = row.map_err(Error::database(listing))?;
        let ledger = ledger.parse().map_err(|_| Error::Unsound(format!("a ledger called {ledger:?}")))?;
        // What was stored before version 2 has its hash in its line alone.
        let hash = hash.map_or_else(|| Hash::of_unended(&line.unwrap_or_default()), Hash::from);
        Ok(LedgerHead { ledger, seq, hash })
    })
    .collect()
}
