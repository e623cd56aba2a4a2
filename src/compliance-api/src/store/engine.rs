//! One shape for both databases: statements with `?1` for what is given, and rows by the number of the column. What is the
//! same SQL for both is written once; what is not asks [`Connection::dialect`].

mod value;

use std::vec;

use jiff::Timestamp;
use rusqlite::{CachedStatement, OptionalExtension as _};

pub(super) use self::value::{Cell, FromCell, Param, Params, Value, params};
use super::postgres::Postgres;

/// What went wrong in a database.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL failed, or the way to it.
    #[error(transparent)]
    Postgres(#[from] ::postgres::Error),
    /// There is no row where there has to be one.
    #[error("there is no such row")]
    NoRows,
    /// A column holds something else than it has to.
    #[error("column {0} does not hold what it has to")]
    Column(usize),
    /// A column holds neither text nor bytes where it has to.
    #[error("a column holds neither text nor bytes")]
    NoText,
    /// A number that no database can hold.
    #[error("{0} is too large a number to be kept")]
    Number(u64),
    /// The transaction cannot go on: a statement of it failed.
    #[error("the transaction was given up")]
    GivenUp,
    /// The password for PostgreSQL cannot be read.
    #[error("cannot read the password for PostgreSQL in {0}")]
    Password(std::path::PathBuf, #[source] std::io::Error),
}

impl Fault {
    /// Whether the same may work a little later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(why, _)) => {
                use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
                matches!(why.code, DatabaseBusy | DatabaseLocked | DiskFull)
            }
            Self::Postgres(error) => super::postgres::is_passing(error),
            Self::GivenUp => true,
            _ => false,
        }
    }
}

/// None where there is no row.
pub(super) trait OptionalExtension<T> {
    fn optional(self) -> Result<Option<T>, Fault>;
}

impl<T> OptionalExtension<T> for Result<T, Fault> {
    fn optional(self) -> Result<Option<T>, Fault> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(Fault::NoRows) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// A connection to either database, used by one thread at a time.
#[derive(Debug)]
pub(super) enum Connection {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Postgres>),
}

impl From<rusqlite::Connection> for Connection {
    fn from(connection: rusqlite::Connection) -> Self {
        Self::Sqlite(connection)
    }
}

impl Connection {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// A statement, made ready once for as long as the connection stands.
    pub(super) fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>, Fault> {
        match self {
            Self::Sqlite(connection) => Ok(Statement::Sqlite(connection.prepare_cached(sql)?)),
            Self::Postgres(postgres) => Ok(Statement::Postgres(postgres, postgres.prepare(sql)?)),
        }
    }

    pub(super) fn execute(&self, sql: &str, given: impl Params) -> Result<usize, Fault> {
        self.prepare_cached(sql)?.execute(given)
    }

    pub(super) fn execute_batch(&self, sql: &str) -> Result<(), Fault> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Self::Postgres(postgres) => postgres.batch(sql),
        }
    }

    /// Begins a transaction that writes: of all processes, one at a time.
    pub(super) fn begin_writing(&self) -> Result<Begun<'_>, Fault> {
        let now = match self {
            Self::Sqlite(connection) => {
                connection.execute_batch("BEGIN IMMEDIATE")?;
                Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("the clock's own time")
            }
            Self::Postgres(postgres) => postgres.begin_writing()?,
        };
        Ok(Begun { connection: self, now, over: false })
    }

    /// Begins to read: all that is asked until the end is of one moment on PostgreSQL; on SQLite each statement is.
    pub(super) fn begin_reading(&self) -> Result<Begun<'_>, Fault> {
        let over = match self {
            Self::Sqlite(_) => true,
            Self::Postgres(postgres) => postgres.begin_reading().map(|()| false)?,
        };
        Ok(Begun { connection: self, now: Timestamp::now(), over })
    }

    /// Whether the transaction is at an end by itself: a full disk, a lost connection.
    pub(super) fn has_given_up(&self) -> bool {
        match self {
            Self::Sqlite(connection) => connection.is_autocommit(),
            Self::Postgres(postgres) => postgres.has_given_up(),
        }
    }

    /// Takes back what was done since this savepoint.
    pub(super) fn roll_back_to(&self, savepoint: &str) -> Result<(), Fault> {
        let sql = format!("ROLLBACK TO {savepoint}");
        match self {
            Self::Sqlite(_) => self.execute(&sql, params![]).map(|_| ()),
            Self::Postgres(postgres) => postgres.roll_back(&sql),
        }
    }

    /// Sets or releases a savepoint.
    pub(super) fn mark(&self, sql: &str) -> Result<(), Fault> {
        match self {
            Self::Sqlite(_) => self.execute(sql, params![]).map(|_| ()),
            Self::Postgres(postgres) => postgres.batch(sql),
        }
    }
}

/// A transaction; rolled back where it is not committed.
#[derive(Debug)]
pub(super) struct Begun<'a> {
    pub(super) connection: &'a Connection,
    /// Its moment.
    pub(super) now: Timestamp,
    over: bool,
}

impl Begun<'_> {
    pub(super) fn commit(mut self) -> Result<(), Fault> {
        let committed = match self.connection {
            Connection::Sqlite(connection) => connection.execute_batch("COMMIT").map_err(Fault::from),
            Connection::Postgres(postgres) => postgres.commit(),
        };
        // A commit of SQLite's that failed, as where the disk is full, leaves the transaction open.
        self.over = committed.is_ok();
        committed
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let rolled_back = match self.connection {
            Connection::Sqlite(connection) if connection.is_autocommit() => Ok(()),
            Connection::Sqlite(connection) => connection.execute_batch("ROLLBACK").map_err(Fault::from),
            Connection::Postgres(postgres) => postgres.end(),
        };
        if let Err(error) = rolled_back {
            tracing::debug!(%error, "a transaction was not rolled back: it is over by itself");
        }
    }
}

/// A statement that is ready.
pub(super) enum Statement<'a> {
    Sqlite(CachedStatement<'a>),
    Postgres(&'a Postgres, ::postgres::Statement),
}

impl Statement<'_> {
    /// How many rows it changed.
    pub(super) fn execute(&mut self, given: impl Params) -> Result<usize, Fault> {
        let values = given.values()?;
        match self {
            Self::Sqlite(statement) => Ok(statement.execute(rusqlite::params_from_iter(values))?),
            Self::Postgres(postgres, statement) => postgres.execute(statement, &values),
        }
    }

    pub(super) fn query(&mut self, given: impl Params) -> Result<Rows<'_>, Fault> {
        let values = given.values()?;
        match self {
            Self::Sqlite(statement) => Ok(Rows::Sqlite(statement.query(rusqlite::params_from_iter(values))?)),
            Self::Postgres(postgres, statement) => {
                Ok(Rows::Postgres(postgres.query(statement, &values)?.into_iter(), None))
            }
        }
    }

    /// Its rows, each read by this.
    pub(super) fn query_map<T, F: FnMut(&Row<'_>) -> Result<T, Fault>>(
        &mut self,
        given: impl Params,
        read: F,
    ) -> Result<Mapped<'_, F>, Fault> {
        Ok(Mapped { rows: self.query(given)?, read })
    }

    /// Its first row, read by this.
    pub(super) fn query_row<T>(
        &mut self,
        given: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if let Self::Sqlite(statement) = self {
            // By rusqlite itself, which also resets the statement where reading fails.
            let values = given.values()?;
            let mut read = Some(read);
            let row = |row: &rusqlite::Row<'_>| Ok(read.take().map(|read| read(&Row::Sqlite(row))));
            return match statement.query_row(rusqlite::params_from_iter(values), row).optional()?.flatten() {
                Some(read) => read,
                None => Err(Fault::NoRows),
            };
        }
        let mut rows = self.query(given)?;
        read(&rows.next()?.ok_or(Fault::NoRows)?)
    }

    pub(super) fn exists(&mut self, given: impl Params) -> Result<bool, Fault> {
        Ok(self.query(given)?.next()?.is_some())
    }
}

/// Rows, one at a time.
pub(super) enum Rows<'a> {
    Sqlite(rusqlite::Rows<'a>),
    Postgres(vec::IntoIter<::postgres::Row>, Option<::postgres::Row>),
}

impl Rows<'_> {
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, Fault> {
        match self {
            Self::Sqlite(rows) => Ok(rows.next()?.map(Row::Sqlite)),
            Self::Postgres(rest, row) => {
                *row = rest.next();
                Ok(row.as_ref().map(Row::Postgres))
            }
        }
    }
}

/// Rows that are read as they come.
pub(super) struct Mapped<'a, F> {
    rows: Rows<'a>,
    read: F,
}

impl<T, F: FnMut(&Row<'_>) -> Result<T, Fault>> Iterator for Mapped<'_, F> {
    type Item = Result<T, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.rows.next() {
            Ok(Some(row)) => Some((self.read)(&row)),
            Ok(None) => None,
            Err(fault) => Some(Err(fault)),
        }
    }
}

/// One row.
pub(super) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a ::postgres::Row),
}

impl<'a> Row<'a> {
    /// What a column holds.
    pub(super) fn get<T: FromCell>(&self, column: usize) -> Result<T, Fault> {
        T::from_cell(self.get_ref(column)?).ok_or(Fault::Column(column))
    }

    /// The same, borrowed.
    pub(super) fn get_ref(&self, column: usize) -> Result<Cell<'a>, Fault> {
        match *self {
            Row::Sqlite(row) => Ok(Cell::of_sqlite(row.get_ref(column)?).ok_or(Fault::Column(column))?),
            Row::Postgres(row) => Ok(row.try_get(column)?),
        }
    }
}
