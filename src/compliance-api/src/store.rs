//! Where everything is kept: one SQLite file. The only room that knows SQL: everybody else asks by [`Tx`], which another
//! database can answer too.
//!
//! Acknowledged means durable: WAL with `synchronous = FULL`, and nothing is answered before its transaction is
//! committed. Stored bytes are never changed or removed.

pub mod artifacts;
pub mod backup;
pub mod checkpoints;
pub mod documents;
pub mod feeds;
pub mod hosts;
pub mod incidents;
pub mod kept;
pub mod ledgers;
pub mod live;
mod migrate;
mod queue;
mod readers;
pub mod reading;
pub mod receipts;
pub mod reviewers;
pub mod runs;
pub mod server_keys;
pub mod silence;
pub mod sources;
mod sqlite;
pub mod standings;
pub mod tallies;
pub mod tokens;
mod tx;
mod writer;

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::{
    queue::{Place, Room},
    readers::Readers,
    server_keys::ServerKey,
    tx::{Server, Tx},
};
use crate::{config::Config, identity, metrics};
use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;
use rusqlite::{Connection, OpenFlags};

/// The database in the state directory.
pub const FILE: &str = "compliance-api.sqlite";
/// How long another process may hold the database before we give up, in milliseconds.
const BUSY_MILLISECONDS: u32 = 10_000;
/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 128;
/// Bytes of a page, for a new database: records take about 1 KiB, and a transaction writes whole pages.
const PAGE_BYTES: u32 = 8192;
/// Pages in the write-ahead log before they are moved into the database: 32 MiB.
const CHECKPOINT_PAGES: u32 = 4096;
/// Connections for what hosts wait for: one reads a feed while another looks up who asks.
const FEED_READERS: usize = 2;
/// What a connection caches, in KiB.
const CACHE_KIB: u32 = 16 * 1024;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite failed.
    #[error("the database failed while {doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The state directory.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server's key.
    #[error("the server has no usable key")]
    Identity(#[from] identity::Error),
    /// The database was written by a later version.
    #[error("the database has version {found}, and this program knows up to {known}: use the program that wrote it")]
    Newer {
        /// Its version.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// More waits to be written than may.
    #[error("too much waits to be written")]
    Full,
    /// The writer is gone: the server stops, or its thread ended.
    #[error("the store is closed")]
    Closed,
    /// A transaction that this was part of could not be committed. Nothing of it is stored.
    #[error("the transaction was not committed: {0}")]
    NotCommitted(String),
    /// What is stored cannot be: somebody else wrote to the database.
    #[error("the database holds {0}")]
    Unsound(String),
    /// Another process has replaced the server's key.
    #[error("the server's key was replaced: start the server anew")]
    KeyReplaced,
    /// The server's own record could not be made.
    #[error("the server's own record could not be sealed")]
    Seal(#[from] record::SealError),
    /// Likewise: a mistake in the program.
    #[error("a statement that no record can hold")]
    Draft(#[from] record::DraftError),
    /// A checkpoint could not be signed.
    #[error("a checkpoint could not be signed")]
    Checkpoint(#[from] record::checkpoint::CheckpointError),
    /// A case file could not be made.
    #[error("a case file could not be made")]
    Case(#[from] case::ManifestError),
    /// A receipt could not be signed.
    #[error("a receipt could not be signed")]
    Receipt(#[from] record::ReceiptError),
}

impl Error {
    /// Whether the same may work a little later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Full | Self::Closed | Self::NotCommitted(_) => true,
            Self::Sqlite { source: rusqlite::Error::SqliteFailure(why, _), .. } => {
                use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
                matches!(why.code, DatabaseBusy | DatabaseLocked | DiskFull)
            }
            _ => false,
        }
    }

    /// Wraps what SQLite said, for `map_err`.
    pub fn sqlite(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { doing, source }
    }
}

/// A moment as it stands in the database.
#[must_use]
pub fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A moment from the database.
///
/// # Errors
/// A number beyond what a timestamp can be.
pub fn moment(micros: i64) -> Result<Timestamp, Error> {
    Timestamp::from_microsecond(micros).map_err(|_| Error::Unsound(format!("{micros} where a moment has to be")))
}

/// The open store. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Store {
    readers: Readers,
    checkers: Readers,
    feeds: Readers,
    writer: writer::Writer,
    server: Arc<Server>,
    commits: Histogram,
}

impl Store {
    /// Opens or makes the database and the key in the configuration's state directory, and brings it up to date.
    ///
    /// # Errors
    /// A directory, key or database that cannot be used.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let state = &config.state;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { doing: "make", path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(io(state))?;
        let path = state.join(FILE);
        // Evidence is for the server alone to read; SQLite gives its other files the same mode.
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(io(&path))?;
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        migrate::up(&mut connection)?;
        let key = server_keys::in_force(&mut connection, state)?;
        let server = Arc::new(Server { key, name: config.name.clone(), limits: config.limits.clone() });
        let readers = Readers::open(&path, config.limits.readers, Arc::clone(&server))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let checkers = Readers::open(&path, cores, Arc::clone(&server))?;
        let feeds = Readers::open(&path, FEED_READERS, Arc::clone(&server))?;
        let commits = metrics::durations();
        let room = (config.limits.write_queue, config.limits.batch);
        let writer = writer::Writer::start(connection, room, Arc::clone(&server), commits.clone())?;
        Ok(Self { readers, checkers, feeds, writer, server, commits })
    }

    /// For reading: see [`Readers::run`].
    #[must_use]
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// For judging what comes in: as many at a time as there are cores, so that signatures never starve the rest.
    #[must_use]
    pub fn checkers(&self) -> &Readers {
        &self.checkers
    }

    /// For what hosts wait for: however many read evidence, a lockdown comes to them.
    #[must_use]
    pub fn feeds(&self) -> &Readers {
        &self.feeds
    }

    /// The server's key.
    #[must_use]
    pub fn key(&self) -> &ServerKey {
        &self.server.key
    }

    /// Runs this in the writer's next transaction, together with what else waits, and returns once it is on disk. What
    /// fails is rolled back by itself. A job can be run again: an engine may have to.
    ///
    /// # Errors
    /// What `job` returns; as many waiting in this room as may; a transaction that could not be committed.
    pub async fn write_in<T: Send + 'static>(
        &self,
        place: impl Into<Place>,
        job: impl Fn(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.writer.write(place.into(), job).await
    }

    /// The same for what the server does by itself.
    ///
    /// # Errors
    /// As [`Store::write_in`].
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl Fn(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.write_in(Room::Server, job).await
    }

    /// The same from a thread that may block; never call it from an async function.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking<T: Send + 'static>(
        &self,
        job: impl Fn(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.writer.write_blocking(job)
    }

    /// How many jobs wait for the thread that writes, of each kind.
    #[must_use]
    pub fn waiting(&self) -> Vec<(&'static str, usize)> {
        self.writer.waiting()
    }

    /// How long transactions took.
    #[must_use]
    pub fn commits(&self) -> Histogram {
        self.commits.clone()
    }

    /// Returns once the thread that writes has come to this in its queue: also where that is full, or where the database
    /// cannot be written just now. Neither gets better by starting the server anew. For one at a time.
    pub async fn writer_answers(&self) {
        self.writer.answers().await;
    }

    /// Writes what waits, and closes the database. Later writes fail.
    pub fn close(&self) {
        self.writer.close();
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(Error::sqlite("opening it"))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let pragmas = format!(
        "PRAGMA busy_timeout = {BUSY_MILLISECONDS}; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA trusted_schema = OFF;"
    );
    connection.execute_batch(&pragmas).map_err(Error::sqlite("setting it up"))?;
    Ok(connection)
}
