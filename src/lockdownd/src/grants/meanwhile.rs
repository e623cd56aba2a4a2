//! Which grants have ended while the disk has not taken it: ids, one a line, each with its end as JSON, in memory that outlives
//! the daemon.
//!
//! A disk that stands still must not bring a revoked grant back when the daemon starts again. This never says that a grant
//! may live.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lockdown_core::{grants::MAX_OPEN, policy::grant::End};
use lockdown_host::paths::{self, Durability};
use record::GrantId;

/// How long one line is at most, on average: ids are short, and a reason seldom is long.
const ENTRY: usize = 1_024;

#[derive(Debug)]
pub(crate) struct EndedMeanwhile {
    path: PathBuf,
    /// Whether the file is there.
    is_there: bool,
}

impl EndedMeanwhile {
    /// The file at this path, and what it holds.
    pub(crate) fn open(path: &Path) -> (Self, Vec<(GrantId, Option<End>)>) {
        let read = paths::read_path(path, (MAX_OPEN * ENTRY) as u64);
        let is_there = !read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let bytes = read.unwrap_or_else(|error| {
            if is_there {
                tracing::error!(path = %path.display(), %error, "which grants had ended cannot be read");
            }
            Vec::new()
        });
        let text = String::from_utf8_lossy(&bytes);
        let ended = text.lines().filter_map(|line| {
            let (id, end) = line.split_once(' ').unwrap_or((line, ""));
            Some((id.parse().ok()?, serde_json::from_str(end).ok()))
        });
        (Self { path: path.to_owned(), is_there }, ended.collect())
    }

    /// Writes these, and no file where there are none.
    pub(crate) fn note(&mut self, ended: &[(GrantId, End)]) {
        if ended.is_empty() && !self.is_there {
            return;
        }
        let noted = match ended.is_empty() {
            true => fs::remove_file(&self.path),
            false => {
                let line = |(id, end): &(GrantId, End)| {
                    let end = serde_json::to_string(end).expect("an end has string keys only");
                    format!("{id} {end}\n")
                };
                let text: String = ended.iter().map(line).collect();
                paths::replace_path(&self.path, text.as_bytes(), 0o600, Durability::Volatile).map_err(io::Error::other)
            }
        };
        match noted {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(path = %self.path.display(), %error, "it cannot be noted which grants have ended: a restart before the disk has it brings them back");
            }
            _ => self.is_there = !ended.is_empty(),
        }
    }
}
