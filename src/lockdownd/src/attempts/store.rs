//! What is kept on disk: the place in the journal, and all that was read up to there and is not on record yet. Both in one
//! file, replaced atomically: so every line is counted once, whatever the moment at which the daemon is killed.

use std::{io, path::Path};

use jiff::Timestamp;
use lockdown_core::attempts::Book;
use serde::{Deserialize, Serialize};

use lockdown_host::paths::{self, Durability, PathError};

/// Where it is.
pub const STATE: &str = "/var/lib/lockdownd/log.json";
/// The longest such file that is read: [`lockdown_core::attempts::MAX_OPEN`] connections with names of a kilobyte are below it.
const MAX_STATE: u64 = 16 << 20;
/// The version of its format.
const VERSION: u32 = 1;

/// It cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("{STATE}: {0}")]
    Io(#[from] io::Error),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] PathError),
    /// It is not what this version writes.
    #[error("{STATE}: {0}")]
    Format(#[from] serde_json::Error),
    /// It is of another version.
    #[error("{STATE}: version {0}, where this is {VERSION}")]
    Version(u32),
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    v: u32,
    /// The last entry that was read.
    pub(super) cursor: Option<String>,
    /// When it was taken by journald.
    pub(super) last: Option<Timestamp>,
    /// Without a cursor: from when on to read.
    pub(super) since: Timestamp,
    /// The number of the newest batch of statements.
    pub(super) batch: u64,
    /// The ledger, and how far it was before that batch.
    pub(super) ledger: Option<(String, u64)>,
    /// What was read and is not on record.
    pub(super) book: Book,
}

impl State {
    /// Of one who begins to read now.
    pub(super) fn begin(now: Timestamp) -> Self {
        Self { v: VERSION, cursor: None, last: None, since: now, batch: 0, ledger: None, book: Book::default() }
    }

    /// What the last run left; `None` if this is the first.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StateError> {
        let bytes = match paths::read_path(path, MAX_STATE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let state: Self = serde_json::from_slice(&bytes)?;
        if state.v == VERSION { Ok(Some(state)) } else { Err(StateError::Version(state.v)) }
    }

    /// On disk for good when this returns.
    pub(super) fn save(&self, path: &Path) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(self)?;
        Ok(paths::replace_path(path, &bytes, 0o600, Durability::Flushed)?)
    }
}
