//! Artifacts of the chains that this server keeps, by the id that their client gave them.

use super::{
    Error,
    engine::{Connection, OptionalExtension, params},
};

/// What is stored under an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its type.
    pub word: String,
    /// Its `data`, byte by byte.
    pub bytes: Vec<u8>,
    /// Its own time, or when it was received where it named none; microseconds.
    pub time: i64,
}

/// What is stored under this id in this chain.
///
/// # Errors
/// The database's.
pub(super) fn find(connection: &Connection, row: i64, id: &str) -> Result<Option<Kept>, Error> {
    connection
        .prepare_cached(
            "SELECT w.word, a.bytes, a.time FROM artifacts a JOIN words w ON w.id = a.type
             WHERE a.ledger = ?1 AND a.client_id = ?2",
        )
        .and_then(|mut s| {
            s.query_row(params![row, id], |r| Ok(Kept { word: r.get(0)?, bytes: r.get(1)?, time: r.get(2)? }))
                .optional()
        })
        .map_err(Error::database("looking up an artifact"))
}
