//! Reads ledgers from disk, the present one and those set aside, record by record, never past what it is told is on disk
//! for good.
//!
//! It judges no signature: whoever receives a record does. What it does see to is that records come in order without a
//! gap, and that the one a cursor names is still the same.

mod past;
mod permits;
mod reader;

use std::path::{Path, PathBuf};

use record::{Hash, LedgerId};

pub(crate) use self::{
    past::{next_past, oldest, past_of},
    permits::permits,
    reader::Reader,
};
use crate::files::{self, FileError};

/// Digits in a segment's name.
const NAME_DIGITS: usize = 12;

/// Why no record can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// A file or directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// Bytes that are no record.
    #[error(
        "record {seq} in {path} is not legible ({why}); lockdownd, when it is restarted, sets such a ledger aside and begins another"
    )]
    NotARecord {
        /// The segment.
        path: PathBuf,
        /// The number it should have.
        seq: u64,
        /// What is wrong.
        why: String,
    },
    /// No file has the record.
    #[error("record {seq} is in no file of {dir}")]
    Missing {
        /// The ledger's directory.
        dir: PathBuf,
        /// Its number.
        seq: u64,
    },
    /// It was pruned, with everything before `first`.
    #[error("records before {first} have been removed by the daemon")]
    Pruned {
        /// The first that is left.
        first: u64,
    },
    /// The record that the cursor names is not there, or is another: the ledger was rolled back.
    #[error("record {seq} is not the one that was shipped: the ledger was put back to an earlier state")]
    RolledBack {
        /// Its number.
        seq: u64,
    },
    /// The directory holds another ledger by now.
    #[error("another ledger stands in its place")]
    Replaced,
}

impl ReadError {
    /// Whether reading a ledger that has ended will never come to another result. What the system says (EIO, EMFILE) may
    /// pass.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::NotARecord { .. } | Self::Missing { .. } | Self::Replaced => true,
            // No such directory; one segment may have been pruned just now.
            Self::File(error) => error.doing == "list" && error.source.kind() == std::io::ErrorKind::NotFound,
            Self::Pruned { .. } | Self::RolledBack { .. } => false,
        }
    }
}

/// One record, as far as shipping it needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its number.
    pub(crate) seq: u64,
    /// The hash of its line.
    pub(crate) hash: Hash,
    /// Whether it names the hash of the line before, where that is known.
    pub(crate) chained: bool,
    /// Its type.
    pub(crate) kind: String,
    /// Its time, as written.
    pub(crate) time: String,
    /// Its host, as written.
    pub(crate) host: String,
    /// Its stack, as written.
    pub(crate) stack: String,
    /// The line without its newline.
    pub(crate) line: String,
}

/// The segments in a directory by their first record's number, in order.
fn segments(dir: &Path) -> Result<Vec<u64>, FileError> {
    let mut all = Vec::new();
    for entry in files::at("list", dir, std::fs::read_dir(dir))? {
        let name = files::at("list", dir, entry)?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
        all.extend(digits.filter(|d| d.len() >= NAME_DIGITS).and_then(|d| d.parse::<u64>().ok()));
    }
    all.sort_unstable();
    Ok(all)
}

fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:0NAME_DIGITS$}.jsonl"))
}

/// The first record's number that is left of a ledger.
pub(crate) fn first_left(dir: &Path) -> Result<u64, ReadError> {
    segments(dir)?.first().copied().ok_or(ReadError::Missing { dir: dir.to_owned(), seq: 1 })
}

/// The hash of one record that is on disk.
pub(crate) fn hash_at(dir: &Path, ledger: &LedgerId, seq: u64) -> Result<Hash, ReadError> {
    let mut reader = Reader::after(dir, ledger, seq - 1, None)?;
    let entry = reader.next(seq)?;
    Ok(entry.ok_or(ReadError::Missing { dir: dir.to_owned(), seq })?.hash)
}

/// The segments' first numbers, for whoever keeps something per segment.
pub(crate) fn segment_starts(dir: &Path) -> Vec<u64> {
    segments(dir).unwrap_or_default()
}

#[cfg(test)]
mod tests;
