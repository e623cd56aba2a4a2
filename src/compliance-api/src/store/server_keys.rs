//! The keys that this server signs with, and the one in force: the database says which it has to be, the state directory has
//! it.

use std::path::Path;

use jiff::Timestamp;
use ssh_key::{PrivateKey, PublicKey};

use super::{
    Error,
    engine::{Connection, OptionalExtension, params},
    micros, moment,
    transaction::Transaction,
};
use crate::identity;

/// A key of this server.
#[derive(Debug, Clone)]
pub struct ServerKey {
    /// Its row; stands with each receipt that it signed.
    pub id: i64,
    /// It.
    pub key: PrivateKey,
}

impl ServerKey {
    /// The public key, a line of OpenSSH's format without comment.
    ///
    /// # Errors
    /// None for an ed25519 key.
    pub fn public_line(&self) -> Result<String, Error> {
        line(&self.key)
    }
}

/// The public key of this one, a line of OpenSSH's format without comment.
///
/// # Errors
/// None for an ed25519 key.
pub fn line(key: &PrivateKey) -> Result<String, Error> {
    let public = PublicKey::from(key.public_key().key_data().clone());
    public.to_openssh().map_err(|e| Error::Unsound(format!("a key of the server that cannot be written: {e}")))
}

/// The key that signed last, with its row; none in a new database.
pub(super) fn newest(connection: &Connection) -> Result<Option<(i64, String)>, Error> {
    connection
        .prepare_cached("SELECT id, public_key FROM server_keys ORDER BY id DESC LIMIT 1")
        .and_then(|mut s| s.query_row(params![], |r| Ok((r.get(0)?, r.get(1)?))).optional())
        .map_err(Error::database("looking up the server's key"))
}

/// The key in force. One is made for a new database alone: where receipts are signed already, it has to be that key.
pub(super) fn in_force(connection: &Connection, state: &Path) -> Result<ServerKey, Error> {
    let doing = "looking up the server's key";
    let transaction = connection.begin_writing().map_err(Error::database(doing))?;
    if let Some((id, line)) = newest(connection)? {
        let wanted = PublicKey::from_openssh(&line)
            .map_err(|_| Error::Unsound(format!("a key of the server that is none: {line:?}")))?;
        return Ok(ServerKey { id, key: identity::load_this(state, &wanted)? });
    }
    let key = identity::load_or_make(state)?;
    let id = insert(connection, &line(&key)?, Timestamp::now())?;
    transaction.commit().map_err(Error::database(doing))?;
    Ok(ServerKey { id, key })
}

fn insert(connection: &Connection, line: &str, since: Timestamp) -> Result<i64, Error> {
    connection
        .prepare_cached(
            "INSERT INTO server_keys (id, public_key, since)
             VALUES ((SELECT coalesce(max(id), 0) + 1 FROM server_keys), ?1, ?2) RETURNING id",
        )
        .and_then(|mut s| s.query_row(params![line, micros(since)], |row| row.get(0)))
        .map_err(Error::database("keeping the server's key"))
}

/// Has this key sign from the next transaction on, by a process that has it.
///
/// # Errors
/// The database's; a key that was in force before.
pub(super) fn replace(writing: &Transaction<'_>, public_key: &str) -> Result<(), Error> {
    insert(writing.connection, public_key, writing.now).map(|_| ())
}

/// Every key that signed, with when it began to, oldest first.
///
/// # Errors
/// The database's.
pub(super) fn list(connection: &Connection) -> Result<Vec<(String, Timestamp)>, Error> {
    let listing = "listing the server's keys";
    let mut statement = connection
        .prepare_cached("SELECT public_key, since FROM server_keys ORDER BY id")
        .map_err(Error::database(listing))?;
    let rows = statement.query_map(params![], |r| Ok((r.get(0)?, r.get(1)?))).map_err(Error::database(listing))?;
    rows.map(|row| {
        let (line, since): (String, i64) = row.map_err(Error::database(listing))?;
        Ok((line, moment(since)?))
    })
    .collect()
}
