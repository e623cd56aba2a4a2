//! PostgreSQL: connections that come back after it was restarted, and transactions of which one writes at a time, whatever
//! process it is of.
//!
//! Acknowledged means durable here too: `synchronous_commit` is never off.

mod artifacts;
mod migrate;
mod target;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    sync::Arc,
    thread,
};

use ::postgres::{Client, Error, Row, Statement, error::SqlState, types::ToSql};
use jiff::Timestamp;

pub(super) use self::{artifacts::insert as insert_artifacts, migrate::up, target::Target};
use super::engine::{Fault, Value};

/// The advisory lock that every transaction that writes begins with: id order is commit order.
const WRITING: i64 = 7_813_573_191_408_777_070;
/// That of whoever does what is due by the clock.
const LEAD: &str = "SELECT pg_try_advisory_lock(7813573191408777071)";

/// One connection.
pub(super) struct Postgres {
    target: Arc<Target>,
    client: RefCell<Option<Client>>,
    statements: RefCell<HashMap<String, Statement>>,
    /// Whether a transaction is open.
    open: Cell<bool>,
    /// Whether a statement of it failed: PostgreSQL takes no more, and would answer a commit with a rollback.
    failed: Cell<bool>,
    /// Whether it holds the lock of whoever does what is due by the clock.
    leads: Cell<bool>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Saying goodbye waits, which no thread of the runtime may.
        if let Some(client) = self.client.take() {
            drop(thread::Builder::new().name("goodbye".to_owned()).spawn(move || drop(client)));
        }
    }
}

impl Postgres {
    /// One that connects when it is asked first.
    pub(super) fn of(target: &Arc<Target>) -> Self {
        Self {
            target: Arc::clone(target),
            client: RefCell::default(),
            statements: RefCell::default(),
            open: Cell::new(false),
            failed: Cell::new(false),
            leads: Cell::new(false),
        }
    }

    pub(super) fn connect(target: &Arc<Target>) -> Result<Self, Fault> {
        let postgres = Self::of(target);
        postgres.connect_again()?;
        Ok(postgres)
    }

    /// Notes a failure; one of the connection ends it.
    fn noted<T>(&self, done: Result<T, Error>) -> Result<T, Fault> {
        done.map_err(|error| {
            self.failed.set(true);
            error.into()
        })
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Client) -> Result<T, Error>) -> Result<T, Fault> {
        let mut client = self.client.borrow_mut();
        let client = client.as_mut().ok_or(Fault::GivenUp)?;
        self.noted(ask(client))
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<Statement, Fault> {
        if let Some(known) = self.statements.borrow().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.with(|client| client.prepare(&translated(sql)))?;
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) fn execute(&self, statement: &Statement, given: &[Value<'_>]) -> Result<usize, Fault> {
        let changed = self.with(|client| client.execute(statement, &borrowed(given)))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    pub(super) fn query(&self, statement: &Statement, given: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        self.with(|client| client.query(statement, &borrowed(given)))
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), Fault> {
        self.with(|client| client.batch_execute(sql))
    }

    /// Begins by this, on a new connection where the last one is lost.
    fn begin(&self, sql: &str) -> Result<(), Fault> {
        if self.open.get() && self.end().is_err() || self.client.borrow().as_ref().is_none_or(Client::is_closed) {
            self.connect_again()?;
        }
        self.failed.set(false);
        self.open.set(true);
        if self.batch(sql).is_ok() {
            return Ok(());
        }
        self.connect_again()?;
        self.open.set(true);
        self.batch(sql)
    }

    fn connect_again(&self) -> Result<(), Fault> {
        drop(self.client.borrow_mut().take());
        self.statements.borrow_mut().clear();
        self.open.set(false);
        self.leads.set(false);
        *self.client.borrow_mut() = Some(self.target.connect()?);
        self.failed.set(false);
        Ok(())
    }

    /// Begins a transaction that writes, once no other does. Its moment, by PostgreSQL's clock: one for all replicas.
    pub(super) fn begin_writing(&self) -> Result<Timestamp, Fault> {
        self.begin("BEGIN ISOLATION LEVEL READ COMMITTED")?;
        let sql = format!(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM
               (SELECT pg_advisory_xact_lock({WRITING}) OFFSET 0) AS locked"
        );
        let statement = self.prepare(&sql)?;
        let rows = self.query(&statement, &[])?;
        let micros: i64 = rows.first().ok_or(Fault::NoRows)?.try_get(0)?;
        Timestamp::from_microsecond(micros).map_err(|_| Fault::Column(0))
    }

    /// Begins to read: all of one moment.
    pub(super) fn begin_reading(&self) -> Result<(), Fault> {
        self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    }

    pub(super) fn commit(&self) -> Result<(), Fault> {
        if self.has_given_up() {
            return Err(Fault::GivenUp);
        }
        self.batch("COMMIT")?;
        self.open.set(false);
        Ok(())
    }

    /// Ends what is open, and keeps nothing of it.
    pub(super) fn end(&self) -> Result<(), Fault> {
        self.open.set(false);
        self.batch("ROLLBACK")
    }

    /// Takes back what failed, so that the transaction goes on.
    pub(super) fn roll_back(&self, sql: &str) -> Result<(), Fault> {
        self.batch(sql)?;
        self.failed.set(false);
        Ok(())
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.failed.get() || self.client.borrow().as_ref().is_none_or(Client::is_closed)
    }

    /// Takes a lock for as long as this connection stands, where nobody has it. Whether it is held, asked anew each time.
    pub(super) fn leads(&self) -> Result<bool, Fault> {
        if self.client.borrow().as_ref().is_none_or(Client::is_closed) {
            self.connect_again()?;
        }
        // Whoever lost the connection lost the lock; while it stands, so does the lock.
        let held = self.leads.get();
        let sql = if held { "SELECT true" } else { LEAD };
        let statement = self.prepare(sql)?;
        let leads = self.query(&statement, &[])?.first().ok_or(Fault::NoRows)?.try_get(0)?;
        self.leads.set(leads);
        Ok(leads)
    }
}

fn borrowed<'a>(given: &'a [Value<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    given.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// The same statement as PostgreSQL has it: `$1` for `?1`, and no word on which index to go by.
fn translated(sql: &str) -> String {
    let mut words = sql.replace('?', "$");
    while let Some(at) = words.find(" INDEXED BY ") {
        let rest = &words[at + " INDEXED BY ".len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        words = format!("{}{}", &words[..at], &rest[end..]);
    }
    words
}

/// Whether the same may work a little later: it was restarted, is short of something, or somebody held a lock for too long.
pub(super) fn is_passing(error: &Error) -> bool {
    let Some(code) = error.code() else { return true };
    let passing = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::IN_FAILED_SQL_TRANSACTION,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    // 08: the connection; 53: no disk, memory or connections left; 57P: it is shut down or starts.
    passing.contains(code) || ["08", "53", "57P"].iter().any(|class| code.code().starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_translated_and_goes_by_no_index() {
        let sql = "SELECT a FROM b INDEXED BY b_c WHERE c = ?1 AND d > ?2";
        assert_eq!(translated(sql), "SELECT a FROM b WHERE c = $1 AND d > $2");
        assert_eq!(translated("SELECT 1 FROM b INDEXED BY b_c"), "SELECT 1 FROM b");
    }
}
