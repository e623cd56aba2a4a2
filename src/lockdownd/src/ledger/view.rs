//! The ledger as it was after the last commit, for whoever does not write it: reading it takes nothing of who does.

use record::{Hash, Host, LedgerId, Record};

use super::{
    Error, Full, Head,
    files::{self, Paths},
    inspect::Lines,
};

/// How far the ledger goes, and how to read it.
#[derive(Debug, Clone)]
pub struct View {
    /// The ledger's id.
    pub id: LedgerId,
    /// The host whose ledger it is.
    pub host: Host,
    /// The public key that verifies it, as a line of OpenSSH's format.
    pub public_key: String,
    /// How far it is on disk.
    pub head: Head,
    /// Up to which record a server has acknowledged all of it; 0 for none.
    pub acknowledged: u64,
    /// Why no new grant can be recorded.
    pub full: Option<Full>,
    /// How many statements wait to be written.
    pub owed: usize,
    pub(super) paths: Paths,
}

impl View {
    /// The hash of the record with this number; nothing where it is not here (any more).
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub fn hash_at(&self, seq: u64) -> Result<Option<Hash>, Error> {
        if seq == self.head.seq {
            return Ok(Some(self.head.hash));
        }
        let all = files::segments(&self.paths)?;
        let Some(&first) = all.iter().rfind(|first| **first <= seq).filter(|_| seq < self.head.seq) else {
            return Ok(None);
        };
        let mut lines = Lines::open(&self.paths, first)?;
        for _ in first..seq {
            lines.next_line()?;
        }
        let line = lines.next_line()?.and_then(|line| Record::parse(&line).ok());
        Ok(line.filter(|record| record.seq() == seq).map(|record| record.hash()))
    }

    /// Records after this number, as lines with their newlines: as many as fit in `limit` bytes, at least one if there
    /// is one. What pruning has removed is passed over.
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub fn lines_after(&self, seq: u64, limit: usize) -> Result<Vec<String>, Error> {
        let mut out = Vec::new();
        let mut size = 0;
        let all = files::segments(&self.paths)?;
        let from = all.partition_point(|first| *first <= seq + 1).saturating_sub(1);
        for &first in all.iter().skip(from) {
            let mut lines = Lines::open(&self.paths, first)?;
            let mut at = first;
            while let Some(line) = lines.next_line()?.filter(|_| at <= self.head.seq) {
                if at > seq {
                    size += line.len();
                    if size > limit && !out.is_empty() {
                        return Ok(out);
                    }
                    out.push(String::from_utf8_lossy(&line).into_owned());
                }
                at += 1;
            }
        }
        Ok(out)
    }
}
