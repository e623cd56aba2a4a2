//! Which database it is, and connections to it.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Error,
    engine::Connection,
    postgres::{self, Postgres, Target},
    sqlite,
};
use crate::config::{Config, Database};

/// Where the database is.
#[derive(Debug, Clone)]
pub(super) enum Where {
    Sqlite(PathBuf),
    Postgres(Arc<Target>),
}

impl Where {
    /// What the configuration says, opened and brought up to date; with a connection that may write.
    pub(super) fn open(config: &Config) -> Result<(Self, Connection), Error> {
        let state = &config.state;
        DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|source| Error::Io {
            doing: "make",
            path: state.clone(),
            source,
        })?;
        let Some(database) = &config.store else {
            let (connection, path) = sqlite::open(state)?;
            return Ok((Self::Sqlite(path), connection));
        };
        let target = Arc::new(Target::read(database).map_err(Error::Url)?);
        let connecting = Error::database("connecting to it");
        let connection = Connection::Postgres(Box::new(Postgres::connect(&target).map_err(connecting)?));
        postgres::up(&connection)?;
        Ok((Self::Postgres(target), connection))
    }

    /// A connection that reads; to PostgreSQL it is made when it is needed.
    pub(super) fn connect(&self) -> Result<Connection, Error> {
        match self {
            Self::Sqlite(path) => sqlite::open_to_read(path),
            Self::Postgres(target) => Ok(Connection::Postgres(Box::new(Postgres::of(target)))),
        }
    }
}

/// Whether PostgreSQL can be asked with this; why not.
///
/// # Errors
/// A sentence that goes on after the setting's name.
pub fn check(database: &Database) -> Result<(), String> {
    Target::read(database).map(|_| ())
}

/// Of all servers on one database, who does what is due by the clock. On SQLite there is but one.
#[derive(Debug, Clone)]
pub(super) struct Lead {
    target: Option<Arc<Target>>,
    held: Arc<Mutex<Option<Postgres>>>,
}

impl Lead {
    pub(super) fn of(database: &Where) -> Self {
        let target = match database {
            Where::Sqlite(_) => None,
            Where::Postgres(target) => Some(Arc::clone(target)),
        };
        Self { target, held: Arc::default() }
    }

    /// Whether it is this one, now. It waits for PostgreSQL.
    pub(super) fn is_here(&self) -> Result<bool, Error> {
        let Some(target) = &self.target else { return Ok(true) };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let asking = "asking who does what is due by the clock";
        held.get_or_insert_with(|| Postgres::of(target)).leads().map_err(Error::database(asking))
    }

    /// Leaves it to another.
    pub(super) fn leave(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
