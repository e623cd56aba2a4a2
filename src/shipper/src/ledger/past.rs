//! Ledgers that the daemon has set aside, whole: what was not shipped of them still is.

use std::path::PathBuf;

use record::LedgerId;

use crate::{
    files::{self, FileError},
    paths::Paths,
};

/// A ledger that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    /// The name of its directory, which begins with the time it was set aside at.
    name: String,
    /// Its id.
    pub(crate) ledger: LedgerId,
    /// Where its segments are.
    pub(crate) dir: PathBuf,
}

/// The ledger of this id, if it has been set aside.
pub(crate) fn past_of(paths: &Paths, ledger: &LedgerId) -> Result<Option<Past>, FileError> {
    Ok(all(paths)?.into_iter().rev().find(|past| past.ledger == *ledger))
}

/// The one that was set aside next after it.
pub(crate) fn next_past(paths: &Paths, after: &Past) -> Result<Option<Past>, FileError> {
    Ok(all(paths)?.into_iter().find(|past| past.name > after.name))
}

/// The one that was set aside first, of those that are still there.
pub(crate) fn oldest(paths: &Paths) -> Result<Option<LedgerId>, FileError> {
    Ok(all(paths)?.into_iter().next().map(|past| past.ledger))
}

/// All of them, oldest first. `TIME-LEDGER/ledger/`; others, of which not even the id could be read, are passed over.
fn all(paths: &Paths) -> Result<Vec<Past>, FileError> {
    let dir = paths.set_aside();
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => files::at("list", &dir, entries)?,
    };
    for entry in entries {
        let Ok(name) = files::at("list", &dir, entry)?.file_name().into_string() else { continue };
        let ledger = name.rsplit_once('-').and_then(|(_, id)| id.parse().ok());
        if let Some(ledger) = ledger {
            found.push(Past { dir: dir.join(&name).join("ledger"), name, ledger });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
