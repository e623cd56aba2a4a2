//! The grants of this host, durable and atomic, in `/var/lib/lockdownd/grants.json`.
//!
//! Everything that must survive a crash is on disk when [`GrantsFile::save`] returns. It never touches a key.

mod ended;
mod meanwhile;

use std::{
    io,
    path::{Path, PathBuf},
};

use lockdown_core::{
    grants::{Grants, Kept, Woken},
    machine::{
        documents::{DocumentsRead, KeptDocuments},
        recorder::Snapshot,
    },
    policy::time::Now,
};
use lockdown_host::paths;

use record::GrantId;

use self::ended::EndedRoom;
pub(crate) use self::meanwhile::EndedMeanwhile;

/// The largest `grants.json` that is read: [`MAX_OPEN`](lockdown_core::grants::MAX_OPEN) open
/// grants and those that are kept ended at their largest fit well.
pub const MAX_FILE: u64 = 64 << 20;

/// What is known of signed documents, beside the grants.
const DOCUMENTS: &str = "documents.json";
/// The rosters that they go by.
const ROSTERS: &str = "rosters.json";
/// The same, written first: one of both is what the state names, wherever a crash comes between.
const NEW_ROSTERS: &str = "rosters.new.json";
/// The most that is read of each, in bytes: two of the largest rosters.
const MAX_DOCUMENTS_FILE: u64 = 72 << 20;

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

/// Reads the store, carrying every deadline over from an earlier boot. A missing file is an empty store. `meanwhile` is where
/// ends are noted until the disk has taken them.
///
/// # Errors
/// The file is there and cannot be read or understood. Nobody is let in on a guess: the caller sets it aside and starts with
/// none.
pub fn open(path: &Path, meanwhile: &Path, boot_id: &str, now: Now) -> Result<(Grants, GrantsFile, Woken), Error> {
    let (ended_room, in_room) = EndedRoom::beside(path);
    // Where both have one, its end is known from the first.
    let ended = EndedMeanwhile::open(meanwhile).1.into_iter().chain(in_room.into_iter().map(|id| (id, None)));
    let (grants, woken) = match read(path)? {
        Some(kept) => Grants::wake(kept, ended, boot_id, now),
        None => (Grants::default(), Woken::default()),
    };
    Ok((grants, GrantsFile { path: path.to_owned(), ended_room, copy: None }, woken))
}

/// The files that they are in.
#[derive(Debug)]
pub struct GrantsFile {
    path: PathBuf,
    ended_room: EndedRoom,
    copy: Option<PathBuf>,
}

impl GrantsFile {
    /// A store that is not there yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), ended_room: EndedRoom::beside(path).0, copy: None }
    }

    /// Keeps a copy in memory that outlives the daemon, so that a start without the disk knows what is in force.
    #[must_use]
    pub fn copied_to(self, copy: PathBuf) -> Self {
        Self { copy: Some(copy), ..self }
    }

    /// Writes the store, whole and atomically, and waits until it is on disk. Answers with the ends that are.
    ///
    /// # Errors
    /// It could not be written; the file then holds what it held before, and what has ended since is noted in room kept
    /// for that.
    pub fn save(&mut self, snapshot: Snapshot) -> Result<Vec<GrantId>, Error> {
        let Snapshot { kept, ended, documents } = snapshot;
        let bytes = serde_json::to_vec(&kept).expect("grants have string keys only");
        if let Some(copy) = &self.copy
            && let Err(error) = paths::replace_path(copy, &bytes, 0o600, paths::Durability::Volatile)
        {
            tracing::warn!(%error, "a start without the disk would not know these grants");
        }
        let saved = paths::replace_path(&self.path, &bytes, 0o600, paths::Durability::Flushed);
        // That a document was accepted is on disk behind its grant, and before the record without which that takes no effect.
        match saved.and_then(|()| self.save_documents(documents)) {
            Ok(()) => {
                self.ended_room.clear();
                Ok(ended)
            }
            Err(source) => {
                if !ended.is_empty()
                    && let Err(error) = self.ended_room.hold(&ended)
                {
                    tracing::error!(%error, "ends of grants can nowhere be saved: a reboot now would bring back what was revoked");
                }
                Err(Error::Write { path: self.path.clone(), source: io::Error::other(source) })
            }
        }
    }
}

impl GrantsFile {
    fn save_documents(&self, documents: Option<KeptDocuments>) -> Result<(), paths::PathError> {
        documents.map_or(Ok(()), |documents| write_documents(&self.path, &documents, paths::Durability::Flushed))
    }
}

/// The state names the roster in force. The new one is there before it, and the one before it until it is.
fn write_documents(
    beside: &Path,
    documents: &KeptDocuments,
    durability: paths::Durability,
) -> Result<(), paths::PathError> {
    let KeptDocuments { state, rosters } = documents;
    let write = |name, bytes: &[u8]| paths::replace_path(&beside.with_file_name(name), bytes, 0o600, durability);
    rosters.as_ref().map_or(Ok(()), |rosters| write(NEW_ROSTERS, rosters))?;
    write(DOCUMENTS, state)?;
    rosters.as_ref().map_or(Ok(()), |rosters| write(ROSTERS, rosters))
}

/// Writes what is known of signed documents beside the copy of the grants, before the disk has it: neither a start without the
/// disk nor a crash while it stands still forgets what closes.
pub fn copy_documents(copy: &Path, documents: &KeptDocuments) {
    if let Err(error) = write_documents(copy, documents, paths::Durability::Volatile) {
        tracing::warn!(%error, "a start without the disk would not know these documents");
    }
}

/// What was kept of signed documents beside the grants. What cannot be read begins anew, and opens nothing from before.
#[must_use]
pub fn documents_beside(path: &Path) -> DocumentsRead {
    let read = |name| match paths::read_path(&path.with_file_name(name), MAX_DOCUMENTS_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    };
    let all = [DOCUMENTS, ROSTERS, NEW_ROSTERS].map(read).into_iter().collect::<io::Result<Vec<_>>>();
    match all.as_deref() {
        Ok([state, rosters @ ..]) => {
            let rosters: Vec<&[u8]> = rosters.iter().flatten().map(Vec::as_slice).collect();
            DocumentsRead::parse(state.as_deref(), &rosters)
        }
        Ok([]) => DocumentsRead::default(),
        Err(error) => DocumentsRead::broken(error.to_string()),
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
