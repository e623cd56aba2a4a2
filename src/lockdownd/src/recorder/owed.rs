//! What the disk has not taken when the daemon stops: kept in memory that outlives it, and put on record by the next start
//! before anything else is read there.

use std::{fs, io, path::Path};

use jiff::Timestamp;
use lockdown_host::paths::{self, Durability};
use record::Draft;

use crate::ledger::{self, Ledger};

/// Where it is.
pub(crate) const OWED: &str = "/run/lockdownd/owed.json";
/// The most bytes of it that are read and written.
const MAX_OWED_BYTES: u64 = 16 << 20;

/// A statement, and when what it states was.
pub(crate) type Stated = (Timestamp, Draft);

/// What is kept there, oldest first.
///
/// # Errors
/// It is there, and cannot be read.
fn kept(path: &Path) -> io::Result<Vec<Stated>> {
    match paths::read_path(path, MAX_OWED_BYTES) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Keeps these behind what is kept already.
///
/// # Errors
/// They are lost.
pub(super) fn keep(path: &Path, stated: Vec<Stated>) -> io::Result<()> {
    let mut all = kept(path)?;
    all.extend(stated);
    let bytes = serde_json::to_vec(&all)?;
    if bytes.len() as u64 > MAX_OWED_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    paths::replace_path(path, &bytes, 0o600, Durability::Volatile).map_err(io::Error::other)
}

/// Records what is kept; whether there was anything. It is removed only once it is on disk: a crash in between records it
/// twice rather than not at all.
///
/// # Errors
/// The ledger does not take it.
pub(crate) fn record(path: &Path, ledger: &mut Ledger, now: Timestamp) -> Result<bool, ledger::Error> {
    let owed = match kept(path) {
        Ok(owed) if owed.is_empty() => return Ok(false),
        Ok(owed) => owed,
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "what the last run could not record is lost");
            ledger.lost(1, now, "what the last run could not record could not be read");
            Vec::new()
        }
    };
    ledger.append_or_owe(owed, now)?;
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "what is recorded now cannot be removed");
    }
    Ok(true)
}
