//! Brings a database of PostgreSQL's up to this program's version, one numbered step after the other, each in a transaction of its
//! own that no other process writes beside.
//!
//! It never goes back, and never touches a database of a later version.

use crate::store::{
    Error,
    engine::{Connection, params},
};

/// The steps; `schema_version` says how many were taken. A step that was released is never edited.
const STEPS: &[&str] = &[include_str!("schema-1.sql")];

/// Takes the steps that are missing.
pub(in crate::store) fn up(connection: &Connection) -> Result<(), Error> {
    let doing = "bringing it up to date";
    suits(connection)?;
    let known = u32::try_from(STEPS.len()).expect("a handful of steps");
    loop {
        let transaction = connection.begin_writing().map_err(Error::database(doing))?;
        let version = version(connection)?;
        if version > known {
            return Err(Error::Newer { found: version, known });
        }
        let Some(step) = STEPS.get(version as usize) else { return Ok(()) };
        if version > 0 {
            tracing::info!(from = version, to = version + 1, "bringing the database up to date");
        }
        connection.execute_batch(step).map_err(Error::database(doing))?;
        connection
            .execute("UPDATE schema_version SET version = ?1", [i64::from(version) + 1])
            .map_err(Error::database(doing))?;
        transaction.commit().map_err(Error::database(doing))?;
    }
}

fn version(connection: &Connection) -> Result<u32, Error> {
    let reading = "reading its version";
    let one =
        |sql: &str| connection.prepare_cached(sql).and_then(|mut s| s.query_row(params![], |row| row.get::<i64>(0)));
    let made = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_version'";
    if one(made).map_err(Error::database(reading))? == 0 {
        connection
            .execute_batch(
                "CREATE TABLE schema_version (version BIGINT NOT NULL); INSERT INTO schema_version VALUES (0)",
            )
            .map_err(Error::database(reading))?;
    }
    let version = one("SELECT version FROM schema_version").map_err(Error::database(reading))?;
    u32::try_from(version).map_err(|_| Error::Unsound(format!("version {version}")))
}

/// Whether names and words of any script can be kept in it; says where what is acknowledged could be lost.
fn suits(connection: &Connection) -> Result<(), Error> {
    let setting = |name: &str| {
        connection
            .prepare_cached("SELECT current_setting(?1)")
            .and_then(|mut s| s.query_row([name], |row| row.get::<String>(0)))
            .map_err(Error::database("reading its settings"))
    };
    let encoding = setting("server_encoding")?;
    if encoding != "UTF8" {
        return Err(Error::Unsound(format!("text as {encoding}: make it with ENCODING 'UTF8' TEMPLATE template0")));
    }
    if setting("fsync")? == "off" {
        tracing::warn!("PostgreSQL's fsync is off: when its machine fails, records that were acknowledged are lost");
    }
    Ok(())
}
