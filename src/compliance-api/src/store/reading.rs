//! People who may read for a while: who, by which key, and until when.

use jiff::Timestamp;
use record::{Fingerprint, Person};

use super::{
    Error,
    engine::{Connection, OptionalExtension, params},
    micros, moment,
    transaction::Transaction,
};

/// Somebody who may read for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Who.
    pub person: Person,
    /// The key that signed for it.
    pub fingerprint: Fingerprint,
    /// Until when.
    pub expires: Timestamp,
}

/// Whether there is room for one more of this person's, of whom so many may be at a time, and of all.
pub(super) fn has_room(writing: &Transaction<'_>, person: &Person, (each, all): (u64, u64)) -> Result<bool, Error> {
    let doing = "counting who may read";
    writing
        .connection
        .prepare_cached("DELETE FROM reading WHERE expires <= ?1")
        .and_then(|mut s| s.execute([micros(writing.now)]))
        .map_err(Error::database(doing))?;
    let (total, theirs): (u64, u64) = writing
        .connection
        .prepare_cached("SELECT count(*), count(*) FILTER (WHERE person = ?1) FROM reading")
        .and_then(|mut s| s.query_row([person.as_str()], |r| Ok((r.get(0)?, r.get(1)?))))
        .map_err(Error::database(doing))?;
    Ok(total < all && theirs < each)
}

/// Keeps one. False where its challenge was answered before.
pub(super) fn insert(writing: &Transaction<'_>, hash: [u8; 32], nonce: &str, reading: &Reading) -> Result<bool, Error> {
    let changed = writing
        .connection
        .prepare_cached(
            "INSERT INTO reading (hash, person, fingerprint, nonce, expires) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (nonce) DO NOTHING",
        )
        .and_then(|mut s| {
            let (person, key) = (reading.person.as_str(), reading.fingerprint.as_str());
            s.execute(params![hash, person, key, nonce, micros(reading.expires)])
        })
        .map_err(Error::database("keeping who may read"))?;
    Ok(changed == 1)
}

/// Who may read by this token, now.
pub(super) fn find(connection: &Connection, hash: [u8; 32], now: Timestamp) -> Result<Option<Reading>, Error> {
    let found: Option<(String, String, i64)> = connection
        .prepare_cached("SELECT person, fingerprint, expires FROM reading WHERE hash = ?1 AND expires > ?2")
        .and_then(|mut s| s.query_row(params![hash, micros(now)], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).optional())
        .map_err(Error::database("looking up who may read"))?;
    let unsound = || Error::Unsound("a session that cannot be read".to_owned());
    let Some((person, fingerprint, expires)) = found else { return Ok(None) };
    Ok(Some(Reading {
        person: person.parse().map_err(|_| unsound())?,
        fingerprint: fingerprint.parse().map_err(|_| unsound())?,
        expires: moment(expires)?,
    }))
}
