//! Which grants have ended while the disk has not taken it: ids, one a line, in memory that outlives the daemon.
//!
//! A disk that stands still must not bring a revoked grant back when the daemon starts again. This never says that a grant
//! may live.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lockdown_core::grants::MAX_OPEN;
use lockdown_host::paths::{self, Durability};
use record::GrantId;

/// An id (`g-` and 16 hex digits) with its line end.
const ENTRY: usize = 19;

#[derive(Debug)]
pub(crate) struct EndedMeanwhile {
    path: PathBuf,
    /// Whether the file is there.
    is_there: bool,
}

impl EndedMeanwhile {
    /// The file at this path, and the ids that it holds.
    pub(crate) fn open(path: &Path) -> (Self, Vec<GrantId>) {
        let read = paths::read_path(path, (MAX_OPEN * ENTRY) as u64);
        let is_there = !read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let bytes = read.unwrap_or_else(|error| {
            if is_there {
                tracing::error!(path = %path.display(), %error, "which grants had ended cannot be read");
            }
            Vec::new()
        });
        let text = String::from_utf8_lossy(&bytes);
        let ids = text.lines().filter_map(|line| line.parse().ok()).collect();
        (Self { path: path.to_owned(), is_there }, ids)
    }

    /// Writes these ids, and no file where there are none.
    pub(crate) fn note(&mut self, ids: &[GrantId]) {
        if ids.is_empty() && !self.is_there {
            return;
        }
        let noted = match ids.is_empty() {
            true => fs::remove_file(&self.path),
            false => {
                let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
                paths::replace_path(&self.path, text.as_bytes(), 0o600, Durability::Volatile).map_err(io::Error::other)
            }
        };
        match noted {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(path = %self.path.display(), %error, "it cannot be noted which grants have ended: a restart before the disk has it brings them back");
            }
            _ => self.is_there = !ids.is_empty(),
        }
    }
}
