//! People whose signed reviews are taken, and the windows of the reviews that were.

use record::Person;
use ssh_key::PublicKey;

use super::{
    Error,
    engine::{Connection, Row, params},
    micros, moment,
    transaction::Transaction,
};
use crate::review::Review;

/// Keys of one person that are in force at a time.
pub const MAX_KEYS: usize = 16;

/// One key of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewer {
    /// Who.
    pub person: String,
    /// A line of OpenSSH's format, without comment.
    pub public_key: PublicKey,
    /// When it was registered.
    pub added: jiff::Timestamp,
    /// When it was taken back.
    pub revoked: Option<jiff::Timestamp>,
}

/// Registers a key. False when it is in force already.
///
/// # Errors
/// The database's.
pub(super) fn add(writing: &Transaction<'_>, person: &Person, public_key: &str) -> Result<bool, Error> {
    let changed = writing
        .connection
        .prepare_cached(
            "INSERT INTO reviewers (person, public_key, added) VALUES (?1, ?2, ?3)
             ON CONFLICT (person, public_key) DO UPDATE SET added = excluded.added, revoked = NULL
             WHERE reviewers.revoked IS NOT NULL",
        )
        .and_then(|mut s| s.execute(params![person.as_str(), public_key, micros(writing.now)]))
        .map_err(Error::database("registering a reviewer"))?;
    Ok(changed == 1)
}

/// Takes all keys of a person back; how many there were. Reviews that were taken before stay.
///
/// # Errors
/// The database's.
pub(super) fn revoke(writing: &Transaction<'_>, person: &Person) -> Result<usize, Error> {
    writing
        .connection
        .prepare_cached("UPDATE reviewers SET revoked = ?2 WHERE person = ?1 AND revoked IS NULL")
        .and_then(|mut s| s.execute(params![person.as_str(), micros(writing.now)]))
        .map_err(Error::database("revoking a reviewer"))
}

/// Every key that was ever registered, of one person or of all, in order of their names.
///
/// # Errors
/// The database's; a key that cannot be read.
pub(super) fn list(connection: &Connection, person: Option<&Person>) -> Result<Vec<Reviewer>, Error> {
    let listing = "listing reviewers";
    let mut statement = connection
        .prepare_cached(
            "SELECT person, public_key, added, revoked FROM reviewers WHERE person = ?1 OR ?1 IS NULL
             ORDER BY person, added, public_key",
        )
        .map_err(Error::database(listing))?;
    let read = |r: &Row<'_>| Ok((r.get(0)?, r.get::<String>(1)?, r.get(2)?, r.get::<Option<i64>>(3)?));
    let rows = statement.query_map([person.map(Person::as_str)], read).map_err(Error::database(listing))?;
    rows.map(|row| {
        let (person, text, added, revoked) = row.map_err(Error::database(listing))?;
        let public_key =
            PublicKey::from_openssh(&text).map_err(|_| Error::Unsound(format!("a key that is none: {text:?}")))?;
        Ok(Reviewer { person, public_key, added: moment(added)?, revoked: revoked.map(moment).transpose()? })
    })
    .collect()
}

/// The keys of one person that are in force.
///
/// # Errors
/// As [`list`].
pub(super) fn keys(connection: &Connection, person: &Person) -> Result<Vec<PublicKey>, Error> {
    let all = list(connection, Some(person))?;
    Ok(all.into_iter().filter(|r| r.revoked.is_none()).map(|r| r.public_key).collect())
}

/// Keeps which window a stored review is of.
///
/// # Errors
/// The database's.
pub(super) fn keep_review(writing: &Transaction<'_>, artifact: i64, review: &Review) -> Result<(), Error> {
    let stack = review.stack.as_ref().map(record::Stack::as_str);
    writing
        .connection
        .prepare_cached(
            "INSERT INTO reviews (artifact, person, window_from, window_to, signed, stack, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .and_then(|mut s| {
            let (from, to, signed) = (micros(review.from), micros(review.to), micros(review.time));
            let message = review.message.as_bytes();
            s.execute(params![artifact, review.person.as_str(), from, to, signed, stack, message])
        })
        .map_err(Error::database("keeping a review"))?;
    Ok(())
}

/// Whether what this review signs is stored, under whatever id.
///
/// # Errors
/// The database's.
pub(super) fn is_kept(connection: &Connection, review: &Review) -> Result<bool, Error> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM reviews WHERE message = ?1)")
        .and_then(|mut s| s.query_row([review.message.as_bytes()], |r| r.get(0)))
        .map_err(Error::database("looking up a review"))
}
