//! How far one sink has been sent the ledger: replaced whole, on disk before anything relies on it.

use std::path::{Path, PathBuf};

use record::{Hash, LedgerId};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// The longest cursor file that is read, in bytes.
const MAX_CURSOR: u64 = 4096;
/// The version of the file.
const VERSION: u64 = 1;

/// The last record that a sink has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The ledger.
    pub(crate) ledger: LedgerId,
    /// Its number; 0 before the first.
    pub(crate) seq: u64,
    /// The hash of its line; zeros before the first.
    pub(crate) hash: Hash,
}

#[derive(Serialize)]
struct Written {
    v: u64,
    ledger: LedgerId,
    seq: u64,
    hash: String,
}

impl Cursor {
    /// Before the first record of a ledger.
    pub(crate) fn start(ledger: LedgerId) -> Self {
        Self { ledger, seq: 0, hash: Hash::ZERO }
    }

    /// What the bytes of a cursor file, or of `durable`, say.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Read {
            v: Option<u64>,
            ledger: LedgerId,
            seq: u64,
            hash: String,
        }
        let read: Read = serde_json::from_slice(bytes).ok()?;
        if read.v.is_some_and(|v| v != VERSION) {
            return None;
        }
        Some(Self { ledger: read.ledger, seq: read.seq, hash: read.hash.parse().ok()? })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let written = Written { v: VERSION, ledger: self.ledger.clone(), seq: self.seq, hash: self.hash.to_string() };
        let mut bytes = serde_json::to_vec(&written).expect("text and numbers can always be written");
        bytes.push(b'\n');
        bytes
    }
}

/// A cursor and its file.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    at: Option<Cursor>,
    /// What the file says, which may lag behind.
    on_disk: Option<Cursor>,
}

impl Kept {
    /// Reads the file. One that cannot be understood counts as none: then everything is sent again.
    pub(crate) fn open(path: PathBuf) -> Result<Self, FileError> {
        let at = read(&path)?;
        Ok(Self { path, on_disk: at.clone(), at })
    }

    /// Where it stands.
    pub(crate) fn at(&self) -> Option<&Cursor> {
        self.at.as_ref()
    }

    /// Moves it; [`Kept::save`] writes it down.
    pub(crate) fn set(&mut self, to: Cursor) {
        self.at = Some(to);
    }

    /// Puts it on disk, if it has moved.
    pub(crate) fn save(&mut self) -> Result<(), FileError> {
        if let Some(at) = self.at.as_ref().filter(|_| self.at != self.on_disk) {
            files::replace(&self.path, &at.to_bytes())?;
            self.on_disk = self.at.clone();
        }
        Ok(())
    }
}

/// Reads a cursor, or `durable`, which has the same fields.
pub(crate) fn read(path: &Path) -> Result<Option<Cursor>, FileError> {
    Ok(files::read(path, MAX_CURSOR)?.and_then(|bytes| Cursor::parse(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn a_cursor_comes_back_as_it_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.cursor");
        let cursor = Cursor { ledger: ID.parse().unwrap(), seq: 7, hash: Hash::of(b"x\n") };
        let mut kept = Kept::open(path.clone()).unwrap();
        assert_eq!(kept.at(), None);
        kept.set(cursor.clone());
        kept.save().unwrap();
        assert_eq!(Kept::open(path.clone()).unwrap().at(), Some(&cursor));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with(r#"{"v":1,"ledger":"0001"#), "{text}");
    }

    #[test]
    fn what_is_no_cursor_counts_as_none() {
        let zeros = "0".repeat(64);
        for bad in ["", "{}", "[]", "{\"v\":2}", &format!(r#"{{"v":2,"ledger":"{ID}","seq":1,"hash":"{zeros}"}}"#)] {
            assert_eq!(Cursor::parse(bad.as_bytes()), None, "{bad}");
        }
        // `durable` has no version.
        let durable = format!(r#"{{"hash":"{zeros}","ledger":"{ID}","seq":1}}"#);
        assert_eq!(Cursor::parse(durable.as_bytes()).unwrap().seq, 1);
    }
}
