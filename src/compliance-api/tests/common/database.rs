//! The database of a test: SQLite's file in the state directory, or, where `TEST_STORE` names a server of PostgreSQL
//! (tests/with-postgresql), a database of its own there.

use std::{cell::RefCell, env, path::Path};

use compliance_api::{config, store::FILE};
use postgres::{
    Client, NoTls,
    types::{FromSql, Type},
};

/// What writes on PostgreSQL waits for; store/postgres.rs.
const WRITING: i64 = 7_813_573_191_408_777_070;
/// A database that is there already.
const DUPLICATE: &str = "42P04";

/// The address of the server of PostgreSQL that tests use, if they do.
pub fn on_postgres() -> Option<String> {
    env::var("TEST_STORE").ok()
}

/// What is configured for this state directory; made, where it is not there yet.
pub fn store_of(state: &Path) -> Option<config::Database> {
    let server = on_postgres()?;
    let name = name(state);
    let mut client = Client::connect(&server, NoTls).unwrap();
    match client.batch_execute(&format!("CREATE DATABASE {name}")) {
        Err(error) if error.code().is_none_or(|code| code.code() != DUPLICATE) => panic!("{error:?}"),
        _ => {}
    }
    Some(config::Database { url: url(&server, &name), password_file: None, ca_file: None })
}

/// The same, as it stands in a file of the configuration.
pub fn store_toml(state: &Path) -> String {
    store_of(state).map_or_else(String::new, |store| format!("[store]\nurl = {:?}\n", store.url))
}

/// Drops the database, whoever uses it still.
pub fn drop_store_of(state: &Path) {
    let Some(server) = on_postgres() else { return };
    let dropped = Client::connect(&server, NoTls)
        .and_then(|mut client| client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name(state))));
    dropped.unwrap();
}

fn name(state: &Path) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(state.to_str().unwrap().as_bytes());
    digest[..8].iter().fold("t_".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn url(server: &str, name: &str) -> String {
    server.replacen("/postgres?", &format!("/{name}?"), 1)
}

/// A look into a database, past the server.
pub enum Database {
    Sqlite(rusqlite::Connection),
    Postgres(RefCell<Client>),
}

impl Database {
    pub fn of(state: &Path) -> Self {
        match on_postgres() {
            None => Self::Sqlite(rusqlite::Connection::open(state.join(FILE)).unwrap()),
            Some(server) => {
                let client = Client::connect(&url(&server, &name(state)), NoTls).unwrap();
                Self::Postgres(RefCell::new(client))
            }
        }
    }

    /// All rows.
    pub fn all<T: Read>(&self, sql: &str) -> Vec<T> {
        self.rows(sql).iter().map(|row| T::read(row)).collect()
    }

    /// The first row; there has to be one.
    pub fn one<T: Read>(&self, sql: &str) -> T {
        T::read(self.rows(sql).first().unwrap_or_else(|| panic!("no row: {sql}")))
    }

    fn rows(&self, sql: &str) -> Vec<Vec<Cell>> {
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare(sql).unwrap();
                let columns = statement.column_count();
                let read = |row: &rusqlite::Row<'_>| (0..columns).map(|n| row.get(n).map(Cell)).collect();
                statement.query_map([], read).unwrap().map(Result::unwrap).collect()
            }
            Self::Postgres(client) => {
                let rows = client.borrow_mut().query(sql, &[]).unwrap();
                rows.iter().map(|row| (0..row.len()).map(|n| row.get(n)).collect()).collect()
            }
        }
    }

    /// Does this.
    pub fn run(&self, sql: &str) {
        match self {
            Self::Sqlite(connection) => connection.execute_batch(sql).unwrap(),
            Self::Postgres(client) => client.borrow_mut().batch_execute(sql).unwrap(),
        }
    }

    /// Has every write wait until [`Database::let_go`].
    pub fn hold(&self) {
        match self {
            Self::Sqlite(_) => self.run("BEGIN IMMEDIATE"),
            Self::Postgres(_) => self.run(&format!("BEGIN; SELECT pg_advisory_xact_lock({WRITING})")),
        }
    }

    pub fn let_go(&self) {
        self.run("COMMIT");
    }
}

/// A column of a row.
#[derive(Debug, Clone)]
pub struct Cell(rusqlite::types::Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        use rusqlite::types::Value::{Blob, Integer, Text};
        Ok(Self(match *of {
            Type::INT8 => Integer(i64::from_sql(of, raw)?),
            Type::INT4 => Integer(i32::from_sql(of, raw)?.into()),
            Type::BOOL => Integer(bool::from_sql(of, raw)?.into()),
            Type::BYTEA => Blob(raw.to_vec()),
            _ => Text(String::from_sql(of, raw)?),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(rusqlite::types::Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// What a row can be read as.
pub trait Read {
    fn read(row: &[Cell]) -> Self;
}

impl<T: rusqlite::types::FromSql> Read for T {
    fn read(row: &[Cell]) -> Self {
        T::column_result((&row[0].0).into()).unwrap_or_else(|why| panic!("{why}: {row:?}"))
    }
}

/// Two columns.
pub struct Two<A, B>(pub A, pub B);

impl<A: Read, B: Read> Read for Two<A, B> {
    fn read(row: &[Cell]) -> Self {
        Self(A::read(row), B::read(&row[1..]))
    }
}
