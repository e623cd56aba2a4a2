//! SQLite's file, and how it is opened.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{Error, engine, migrate};

/// The database in the state directory.
pub const FILE: &str = "compliance-api.sqlite";
/// How long another process may hold the database before we give up, in milliseconds.
const BUSY_MILLISECONDS: u32 = 10_000;
/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 128;
/// What a connection caches, in KiB.
const CACHE_KIB: u32 = 16 * 1024;

/// Opens or makes the database, and brings it up to date.
pub(super) fn open(state: &Path) -> Result<(engine::Connection, PathBuf), Error> {
    let path = state.join(FILE);
    // Evidence is for the server alone to read; SQLite gives its other files the same mode.
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    opened.map_err(|source| Error::Io { doing: "make", path: path.clone(), source })?;
    let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    migrate::up(&mut connection)?;
    Ok((connection.into(), path))
}

/// A connection that reads alone.
pub(super) fn open_to_read(path: &Path) -> Result<engine::Connection, Error> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(Error::database("setting it up"))?;
    Ok(connection.into())
}

pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(Error::database("opening it"))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let pragmas = format!(
        "PRAGMA busy_timeout = {BUSY_MILLISECONDS}; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA trusted_schema = OFF;"
    );
    connection.execute_batch(&pragmas).map_err(Error::database("setting it up"))?;
    Ok(connection)
}
