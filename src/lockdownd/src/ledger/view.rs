//! The ledger as it was after the last commit, for whoever does not write it: reading it takes nothing of who does.

use std::io;

use record::{Hash, Host, LedgerId, Record};

use super::{
    Error, Full, Head, Keeping,
    files::{self, Paths, at},
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
    pub(super) keeping: Keeping,
}

/// How full the ledger may get before that is said, in percent of `max_size`.
const NEARLY_FULL: u64 = 80;
/// How little room the disk may have before that is said, in bytes: ten thousand records or so.
const LITTLE_ROOM: u64 = 16 << 20;

impl View {
    /// That before long no new grant is given, or records are dropped that nobody has; nothing where there is room, or where
    /// it has come to that. Reads the disk.
    ///
    /// # Errors
    /// A ledger that cannot be looked at.
    pub fn nearly_full(&self) -> Result<Option<String>, Error> {
        let Keeping { max_size, drop_oldest, acknowledged_first, .. } = self.keeping;
        if self.full.is_some() {
            return Ok(None);
        }
        let dir = self.paths.ledger();
        let room = at("examine", &dir, rustix::fs::statvfs(&dir).map_err(io::Error::from))?;
        let room = room.f_bavail.saturating_mul(room.f_frsize);
        if room < LITTLE_ROOM {
            let left = room >> 20;
            return Ok(Some(format!(
                "the disk that holds the ledger has {left} MiB left: when it is full, no new grant is given"
            )));
        }
        let then = match (drop_oldest, acknowledged_first) {
            (true, false) => return Ok(None),
            (true, true) => "the oldest are dropped",
            (false, _) => "no new grant is given",
        };
        // What is acknowledged makes room by itself.
        let all = files::segments(&self.paths)?;
        let from = all.partition_point(|first| *first <= self.acknowledged + 1).saturating_sub(1);
        let mut bytes = 0_u64;
        for first in &all[from..] {
            let path = self.paths.segment(*first);
            bytes += at("examine", &path, path.symlink_metadata())?.len();
        }
        let percent = bytes.saturating_mul(100) / max_size.max(1);
        let what = format!(
            "records that no server has acknowledged fill {percent} % of what the ledger may have (ledger.max_size): at 100 % {then}"
        );
        Ok((percent >= NEARLY_FULL).then_some(what))
    }

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
