//! Where everything is kept: one SQLite file, or PostgreSQL behind any number of servers. The only room that knows SQL:
//! everybody else asks by [`Tx`].
//!
//! Acknowledged means durable: WAL with `synchronous = FULL`, `synchronous_commit` on PostgreSQL, and nothing is answered
//! before its transaction is committed. Stored bytes are never changed or removed.

pub mod artifacts;
pub mod backup;
pub mod checkpoints;
pub mod documents;
mod engine;
pub mod feeds;
pub mod hosts;
pub mod incidents;
pub mod kept;
pub mod ledgers;
pub mod live;
mod migrate;
pub mod moving;
mod place;
mod postgres;
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
mod transaction;
mod tx;
mod writer;

use std::{io, path::PathBuf, sync::Arc};

use self::place::{Lead, Where};
pub use self::{
    engine::Fault,
    place::check,
    queue::{Place, Room},
    readers::Readers,
    server_keys::ServerKey,
    sqlite::FILE,
    tx::{Server, Tx},
};
use crate::{config::Config, identity, metrics};
use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;

/// Bytes of a page, for a new database: records take about 1 KiB, and a transaction writes whole pages.
const PAGE_BYTES: u32 = 8192;
/// Pages in the write-ahead log before they are moved into the database: 32 MiB.
const CHECKPOINT_PAGES: u32 = 4096;
/// Connections for what hosts wait for: one reads a feed while another looks up who asks.
const FEED_READERS: usize = 2;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the database failed while {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        source: Fault,
    },
    /// The address of the database.
    #[error("store.url {0}")]
    Url(String),
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
    /// From an engine to itself.
    #[error("it is moved from SQLite to PostgreSQL or back; a database of PostgreSQL's is copied by pg_dump")]
    SameEngine,
    /// Nothing to move.
    #[error("there is no database at {0}: name the configuration by --config")]
    Nothing(PathBuf),
    /// Somewhere to move to that is in use.
    #[error("there is a server's database already, and nothing is overwritten: name an empty one")]
    Inhabited,
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
            Self::Database { source, .. } => source.is_passing(),
            _ => false,
        }
    }

    /// Wraps what the database said, for `map_err`.
    fn database<F: Into<Fault>>(doing: &'static str) -> impl FnOnce(F) -> Self {
        move |source| Self::Database { doing, source: source.into() }
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
    lead: Lead,
}

impl Store {
    /// Opens or makes the database and the key in the configuration's state directory, and brings it up to date.
    ///
    /// # Errors
    /// A directory, key or database that cannot be used.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let (database, connection) = Where::open(config)?;
        let key = server_keys::in_force(&connection, &config.state)?;
        let server = Arc::new(Server { key, name: config.name.clone(), limits: config.limits.clone() });
        let readers = Readers::open(&database, config.limits.readers, Arc::clone(&server))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let checkers = Readers::open(&database, cores, Arc::clone(&server))?;
        let feeds = Readers::open(&database, FEED_READERS, Arc::clone(&server))?;
        let commits = metrics::durations();
        let room = (config.limits.write_queue, config.limits.batch);
        let writer = writer::Writer::start(connection, room, Arc::clone(&server), commits.clone())?;
        Ok(Self { readers, checkers, feeds, writer, server, commits, lead: Lead::of(&database) })
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

    /// Whether this server is the one, of all on this database, that does what is due by the clock.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn leads(&self) -> Result<bool, Error> {
        let lead = self.lead.clone();
        tokio::task::spawn_blocking(move || lead.is_here()).await.map_err(|_| Error::Closed)?
    }

    /// Writes what waits, and closes the database. Later writes fail.
    pub fn close(&self) {
        self.writer.close();
        self.lead.leave();
    }
}
