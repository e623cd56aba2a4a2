//! The keys that this server signs with, and the one in force: the database says which it has to be, the state directory has
//! it.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use ssh_key::{PrivateKey, PublicKey};

use super::{Error, micros, moment, sqlite::Sqlite};
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
        .and_then(|mut s| s.query_row([], |r| Ok((r.get(0)?, r.get(1)?))).optional())
        .map_err(Error::sqlite("looking up the server's key"))
}

/// The key in force. One is made for a new database alone: where receipts are signed already, it has to be that key.
pub(super) fn in_force(connection: &mut Connection, state: &Path) -> Result<ServerKey, Error> {
    let doing = "looking up the server's key";
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Error::sqlite(doing))?;
    if let Some((id, line)) = newest(&transaction)? {
        let wanted = PublicKey::from_openssh(&line)
            .map_err(|_| Error::Unsound(format!("a key of the server that is none: {line:?}")))?;
        return Ok(ServerKey { id, key: identity::load_this(state, &wanted)? });
    }
    let key = identity::load_or_make(state)?;
    let id = insert(&transaction, &line(&key)?, Timestamp::now())?;
    transaction.commit().map_err(Error::sqlite(doing))?;
    Ok(ServerKey { id, key })
}

fn insert(connection: &Connection, line: &str, since: Timestamp) -> Result<i64, Error> {
    connection
        .execute("INSERT INTO server_keys (public_key, since) VALUES (?1, ?2)", params![line, micros(since)])
        .map_err(Error::sqlite("keeping the server's key"))?;
    Ok(connection.last_insert_rowid())
}

/// Has this key sign from the next transaction on, by a process that has it.
///
/// # Errors
/// SQLite's; a key that was in force before.
pub(super) fn replace(writing: &Sqlite<'_>, public_key: &str) -> Result<(), Error> {
    insert(writing.connection, public_key, writing.now).map(|_| ())
}

/// Every key that signed, with when it began to, oldest first.
///
/// # Errors
/// SQLite's.
pub(super) fn list(connection: &Connection) -> Result<Vec<(String, Timestamp)>, Error> {
    let listing = "listing the server's keys";
    let mut statement = connection
        .prepare_cached("SELECT public_key, since FROM server_keys ORDER BY id")
        .map_err(Error::sqlite(listing))?;
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).map_err(Error::sqlite(listing))?;
    rows.map(|row| {
        let (line, since): (String, i64) = row.map_err(Error::sqlite(listing))?;
        Ok((line, moment(since)?))
    })
    .collect()
}
