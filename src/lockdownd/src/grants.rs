//! The grants of this host, durable and atomic, in `/var/lib/lockdownd/grants.json`.
//!
//! Everything that must survive a crash is on disk when [`GrantsOnDisk::save`] returns. It never touches a key.

mod ended;

use std::{
    io,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
};

use lockdown_core::grants::{Grants, Kept, Woken};
use lockdown_core::policy::time::Now;
use lockdown_host::paths;

use self::ended::EndedRoom;

/// The largest `grants.json` that is read: [`MAX_OPEN`](lockdown_core::grants::MAX_OPEN) open
/// grants and those that are kept ended at their largest fit well.
pub const MAX_FILE: u64 = 64 << 20;

/// What went wrong with `grants.json`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be written; what stood there before still does.
    #[error("cannot write {path}: {source}; no grant takes effect until it can be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this daemon wrote.
    #[error("{path} cannot be understood: {why}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// The grants, and the files that they are in.
#[derive(Debug)]
pub struct GrantsOnDisk {
    path: PathBuf,
    boot_id: String,
    ended_room: EndedRoom,
    grants: Grants,
}

impl GrantsOnDisk {
    /// Reads the store, carrying every deadline over from an earlier boot. A missing file is an empty store.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood. Nobody is let in on a guess: the caller sets it aside and
    /// starts with [`GrantsOnDisk::empty`].
    pub fn open(path: &Path, boot_id: &str, now: Now) -> Result<(Self, Woken), Error> {
        let (ended_room, ended) = EndedRoom::beside(path);
        let (grants, woken) = match read(path)? {
            Some(kept) => Grants::wake(kept, &ended, boot_id, now),
            None => (Grants::default(), Woken::default()),
        };
        Ok((Self { path: path.to_owned(), boot_id: boot_id.to_owned(), ended_room, grants }, woken))
    }

    /// A store with no grants in it. Nothing is written until something changes.
    #[must_use]
    pub fn empty(path: &Path, boot_id: &str) -> Self {
        let ended_room = EndedRoom::beside(path).0;
        Self { path: path.to_owned(), boot_id: boot_id.to_owned(), ended_room, grants: Grants::default() }
    }

    /// Writes the store, whole and atomically, and waits until it is on disk.
    ///
    /// # Errors
    /// It could not be written; the file then holds what it held before, and what has ended since is noted in room kept
    /// for that.
    pub fn save(&mut self, now: Now) -> Result<(), Error> {
        let kept = self.grants.to_keep(&self.boot_id, now);
        let bytes = serde_json::to_vec(&kept).expect("grants have string keys only");
        match paths::replace_path(&self.path, &bytes, 0o600, paths::Durability::Flushed) {
            Ok(()) => {
                self.grants.kept();
                self.ended_room.clear();
                Ok(())
            }
            Err(source) => {
                self.hold_ends();
                Err(Error::Write { path: self.path.clone(), source: io::Error::other(source) })
            }
        }
    }

    fn hold_ends(&mut self) {
        if self.grants.unsaved_ends().is_empty() {
            return;
        }
        if let Err(error) = self.ended_room.hold(self.grants.unsaved_ends()) {
            tracing::error!(%error, "ends of grants can nowhere be saved: a restart now would bring back what was revoked");
        }
    }
}

impl Deref for GrantsOnDisk {
    type Target = Grants;
    fn deref(&self) -> &Grants {
        &self.grants
    }
}

impl DerefMut for GrantsOnDisk {
    fn deref_mut(&mut self) -> &mut Grants {
        &mut self.grants
    }
}

fn read(path: &Path) -> Result<Option<Kept>, Error> {
    let broken = |why: String| Error::Broken { path: path.to_owned(), why };
    let bytes = match paths::read_path(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if kept.version != Kept::VERSION {
        return Err(broken(format!("version {} is not one that this daemon knows", kept.version)));
    }
    Ok(Some(kept))
}

#[cfg(test)]
mod tests;
