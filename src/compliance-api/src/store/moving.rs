//! Moves all that is stored from one engine to the other, and compares both record by record.
//!
//! What cannot be changed is copied once, also across a stop: artifacts, by their ids. All else is copied anew. The keys come last: a
//! database that has none is no server's yet, and one that has is never written over.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Error,
    engine::{Cell, Connection, Dialect, Fault, FromCell, Param, Params, Value, params},
    place::Where,
};
use crate::config::{Config, Database};

/// Rows that are read at a time.
const PAGE: usize = 2000;
/// Rows of one statement that inserts.
const ROWS: usize = 100;
/// The table that is never changed, only added to.
const ARTIFACTS: &str = "artifacts";
/// The table that makes a database a server's.
const KEYS: &str = "server_keys";

/// Where to.
#[derive(Debug, Clone)]
pub enum To {
    /// PostgreSQL.
    Postgres(Database),
    /// SQLite, in this directory.
    Sqlite(PathBuf),
}

/// What is told on the way: a table, and how many of its rows are done.
pub type Told<'a> = &'a mut dyn FnMut(&str, u64);

/// Moves it; how many rows there are. Nothing is written to where it comes from meanwhile: who tries waits, and is told to come again.
///
/// # Errors
/// The databases'; one and the same engine; a database that is a server's already; rows that differ afterwards.
pub fn run(config: &Config, to: &To, told: Told<'_>) -> Result<u64, Error> {
    let to = match to {
        To::Postgres(database) => Config { store: Some(database.clone()), ..config.clone() },
        To::Sqlite(directory) => Config { store: None, state: directory.clone(), ..config.clone() },
    };
    if to.store.is_some() == config.store.is_some() {
        return Err(Error::SameEngine);
    }
    to.store.as_ref().map_or(Ok(()), super::check).map_err(Error::Url)?;
    let file = config.state.join(super::FILE);
    if config.store.is_none() && !file.exists() {
        return Err(Error::Nothing(file));
    }
    let (_, from) = Where::open(config)?;
    let (_, target) = Where::open(&to)?;
    if Table::count(&target, KEYS)? > 0 {
        return Err(Error::Inhabited);
    }
    let held = from.begin_writing().map_err(Error::database("holding it still"))?;
    let tables = Table::all(if to.store.is_some() { &from } else { &target })?;
    for table in &tables {
        table.copy(&from, &target, told)?;
    }
    let mut rows = 0;
    for table in &tables {
        rows += table.compare(&from, &target, told)?;
    }
    let keys = tables.iter().find(|table| table.name == KEYS);
    keys.map_or(Ok(()), |keys| keys.copy_keys(&from, &target))?;
    drop(held);
    Ok(rows)
}

/// A table, as SQLite has it.
#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<String>,
    /// Those of the primary key, in order, by their places.
    key: Vec<usize>,
}

/// What a column holds, for as long as it takes.
#[derive(Debug, Clone, PartialEq)]
enum Held {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl FromCell for Held {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        Some(match cell {
            Cell::Null => Self::Null,
            Cell::Int(number) => Self::Int(number),
            // PostgreSQL's texts have none; see engine/value.rs.
            Cell::Text(text) => Self::Text(text.replace('\0', "\u{FFFD}")),
            Cell::Blob(bytes) => Self::Blob(bytes.to_vec()),
        })
    }
}

impl Param for Held {
    fn value(&self) -> Result<Value<'_>, Fault> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Int(number) => Value::Int(*number),
            Self::Text(text) => Value::Text(text),
            Self::Blob(bytes) => Value::Blob(bytes),
        })
    }
}

type Row = Vec<Held>;

/// Any number of values for a statement.
struct All<'a>(Vec<&'a Held>);

impl Params for All<'_> {
    fn values(&self) -> Result<Vec<Value<'_>>, Fault> {
        self.0.iter().map(|held| held.value()).collect()
    }
}

impl Table {
    /// Every table of SQLite's: the other engine has the same.
    fn all(sqlite: &Connection) -> Result<Vec<Self>, Error> {
        let looking = "listing its tables";
        let mut statement = sqlite
            .prepare_cached(
                "SELECT t.name, c.name, c.pk FROM sqlite_schema t, pragma_table_info(t.name) c
                 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY t.name, c.cid",
            )
            .map_err(Error::database(looking))?;
        let rows = statement
            .query_map(params![], |row| Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<i64>(2)?)))
            .map_err(Error::database(looking))?;
        let mut tables: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
        for row in rows {
            let (table, column, key) = row.map_err(Error::database(looking))?;
            tables.entry(table).or_default().push((column, key));
        }
        Ok(tables.into_iter().map(|(name, columns)| Self::of(name, &columns)).collect())
    }

    fn of(name: String, columns: &[(String, i64)]) -> Self {
        let mut key: Vec<(i64, usize)> =
            columns.iter().enumerate().filter(|(_, (_, key))| *key > 0).map(|(at, (_, key))| (*key, at)).collect();
        key.sort_unstable();
        let columns = columns.iter().map(|(column, _)| column.clone()).collect();
        Self { name, columns, key: key.into_iter().map(|(_, at)| at).collect() }
    }

    fn count(connection: &Connection, name: &str) -> Result<u64, Error> {
        connection
            .prepare_cached(&format!("SELECT count(*) FROM {name}"))
            .and_then(|mut s| s.query_row(params![], |row| row.get(0)))
            .map_err(Error::database("counting its rows"))
    }

    /// The next rows after this one, in order of the key.
    fn page(&self, connection: &Connection, after: Option<&Row>) -> Result<Vec<Row>, Error> {
        let reading = "reading a table";
        let names: Vec<&str> = self.key.iter().map(|at| self.columns[*at].as_str()).collect();
        let key = names.join(", ");
        let places: Vec<String> = (1..=names.len()).map(|n| format!("?{n}")).collect();
        let behind = after.map_or_else(String::new, |_| format!("WHERE ({key}) > ({})", places.join(", ")));
        let sql = format!("SELECT {} FROM {} {behind} ORDER BY {key} LIMIT {PAGE}", self.columns.join(", "), self.name);
        let given = All(after.map_or_else(Vec::new, |row| self.key.iter().map(|at| &row[*at]).collect()));
        let mut statement = connection.prepare_cached(&sql).map_err(Error::database(reading))?;
        let rows = statement
            .query_map(given, |row| (0..self.columns.len()).map(|column| row.get(column)).collect())
            .map_err(Error::database(reading))?;
        rows.collect::<Result<_, _>>().map_err(Error::database(reading))
    }

    fn insert(&self, target: &Connection, rows: &[Row]) -> Result<(), Error> {
        for rows in rows.chunks(ROWS) {
            let width = self.columns.len();
            let values: Vec<String> = (0..rows.len())
                .map(|row| {
                    let places: Vec<String> = (1..=width).map(|column| format!("?{}", row * width + column)).collect();
                    format!("({})", places.join(", "))
                })
                .collect();
            let sql = format!("INSERT INTO {} ({}) VALUES {}", self.name, self.columns.join(", "), values.join(", "));
            target.execute(&sql, All(rows.iter().flatten().collect())).map_err(Error::database("writing a table"))?;
        }
        Ok(())
    }

    fn copy(&self, from: &Connection, target: &Connection, told: Told<'_>) -> Result<(), Error> {
        if self.name == KEYS {
            return Ok(());
        }
        let writing = "writing a table";
        let mut after = if self.name == ARTIFACTS {
            self.last(target)?
        } else {
            let begun = target.begin_writing().map_err(Error::database(writing))?;
            target.execute(&format!("DELETE FROM {}", self.name), params![]).map_err(Error::database(writing))?;
            begun.commit().map_err(Error::database(writing))?;
            None
        };
        let mut done = 0;
        loop {
            let rows = self.page(from, after.as_ref())?;
            let begun = target.begin_writing().map_err(Error::database(writing))?;
            self.insert(target, &rows)?;
            begun.commit().map_err(Error::database(writing))?;
            done += rows.len() as u64;
            told(&self.name, done);
            if rows.len() < PAGE {
                return Ok(());
            }
            after = rows.into_iter().next_back();
        }
    }

    /// The last row.
    fn last(&self, connection: &Connection) -> Result<Option<Row>, Error> {
        let newest = super::artifacts::newest(connection)?;
        let mut row = vec![Held::Null; self.columns.len()];
        row[self.key[0]] = Held::Int(newest);
        Ok((newest > 0).then_some(row))
    }

    /// How many rows both have, which have to be the same.
    fn compare(&self, from: &Connection, target: &Connection, told: Told<'_>) -> Result<u64, Error> {
        if self.name == KEYS {
            return Ok(0);
        }
        let (mut after, mut done) = (None, 0);
        loop {
            let (rows, copied) = (self.page(from, after.as_ref())?, self.page(target, after.as_ref())?);
            if rows != copied {
                let same = rows.iter().zip(&copied).take_while(|(row, copied)| row == copied).count();
                let place = done + same as u64 + 1;
                return Err(Error::Unsound(format!("another row {place} of {} than where it came from", self.name)));
            }
            done += rows.len() as u64;
            if rows.len() < PAGE {
                told(&self.name, done);
                return Ok(done);
            }
            after = rows.into_iter().next_back();
        }
    }

    /// Makes the database a server's.
    fn copy_keys(&self, from: &Connection, target: &Connection) -> Result<(), Error> {
        let writing = "writing the server's keys";
        let rows = self.page(from, None)?;
        let begun = target.begin_writing().map_err(Error::database(writing))?;
        self.insert(target, &rows)?;
        begun.commit().map_err(Error::database(writing))?;
        if target.dialect() == Dialect::Postgres {
            // How its tables are best asked is known only once it has looked at them.
            target.execute_batch("ANALYZE").map_err(Error::database(writing))?;
        }
        Ok(())
    }
}
