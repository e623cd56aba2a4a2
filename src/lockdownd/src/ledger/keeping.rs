//! How much is kept: the ledger's size against its bound, and the reserve for what cannot be withheld.
//!
//! A removal, an end and a refusal happen whether or not they can be written, so room is kept for them that no new grant
//! may use: above `max_size`, and, for the day the disk itself is full, in a file that holds blocks to give back.

use std::{fs, io, path::PathBuf, time::Duration};

pub use lockdown_core::machine::recorder::Full;
use nix::fcntl;

use super::{
    Error, Ledger, Need, SEGMENT_BYTES,
    files::{self, Paths, Readers, at},
};

/// The least that is kept above `max_size` for what cannot be withheld, in bytes; of a larger ledger a sixteenth is.
pub const MIN_RESERVE: u64 = 1 << 20;
/// The blocks that are held for a disk that is full, in bytes: about a thousand records.
pub const DISK_RESERVE: u64 = 1 << 20;
/// How many segments `max_size` is divided into at least: one segment is the least that can be removed.
const SEGMENTS_PER_SIZE: u64 = 8;

/// What is to be kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// How long records are kept.
    pub retain: Duration,
    /// How many bytes of them are kept at most, the reserve aside.
    pub max_size: u64,
    /// Whether the oldest records go when that is reached, although nobody has acknowledged them.
    pub drop_oldest: bool,
    /// Whether a server is asked to acknowledge records: then none goes by its age before that.
    pub acknowledged_first: bool,
}

impl Keeping {
    /// How long a segment gets before the next begins, in bytes.
    pub(super) fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES.min(self.max_size / SEGMENTS_PER_SIZE)
    }

    /// How large the ledger may get by what cannot be withheld, in bytes.
    fn hard_limit(&self) -> u64 {
        self.max_size + MIN_RESERVE.max(self.max_size / 16)
    }
}

/// Blocks that are held so that there are some when the disk has no more.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    /// Takes the blocks, if there are any to be had.
    pub(super) fn take(paths: &Paths) -> Self {
        let mut reserve = Self { path: paths.reserve(), held: false };
        reserve.hold();
        reserve
    }

    /// Tries to get the blocks, where they are not held.
    pub(super) fn hold(&mut self) {
        if !self.held {
            let held = self.allocate();
            if held.is_err() {
                // Half of a reserve is none, and what it took may be the last there was.
                let _ = fs::remove_file(&self.path);
            }
            self.held = held.is_ok();
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    fn allocate(&self) -> Result<(), Error> {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.is_file() && meta.len() == DISK_RESERVE) {
            return Ok(());
        }
        files::remove_if_there(&self.path)?;
        let file = files::create(&self.path, Readers::Root)?;
        let length = i64::try_from(DISK_RESERVE).expect("a mebibyte");
        let allocated = fcntl::posix_fallocate(&file, 0, length).map_err(io::Error::from);
        at("reserve room in", &self.path, allocated.and_then(|()| file.sync_all()))
    }

    /// Gives the blocks back to the file system; whether there were any.
    pub(super) fn spend(&mut self) -> bool {
        let spent = std::mem::take(&mut self.held) && fs::remove_file(&self.path).is_ok();
        if spent {
            tracing::error!("the disk is full: the ledger goes on in its reserve, and no new grant is given");
        }
        spent
    }
}

impl Ledger {
    /// How large the ledger is, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.closed_bytes + self.segment.len
    }

    /// Another stack, or more or less to be kept, from here on. Another *host* is another machine: for that, open anew.
    pub fn set(&mut self, stack: record::Stack, keeping: Keeping) {
        self.signer.stack = stack;
        self.keeping = keeping;
        self.segment_bytes = keeping.segment_bytes();
    }

    /// How far a server's receipt covers this ledger; the caller has checked that receipt.
    pub fn acknowledge(&mut self, seq: u64) {
        self.acknowledged = self.acknowledged.max(seq.min(self.head.seq));
    }

    /// Up to which record a server has acknowledged all of it; 0 for none.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether a new grant may be recorded.
    ///
    /// # Errors
    /// [`Full`], which says what to do.
    pub fn room_for_grants(&mut self) -> Result<(), Full> {
        self.reserve.hold();
        self.full().map_or(Ok(()), Err)
    }

    /// Why no new grant can be recorded, as far as known without trying.
    #[must_use]
    pub fn full(&self) -> Option<Full> {
        if self.size() > self.keeping.max_size {
            return Some(Full::MaxSize);
        }
        (!self.reserve.is_held()).then_some(Full::Disk)
    }

    /// Whether so many bytes more are too much even for what cannot be withheld.
    pub(super) fn is_beyond(&self, bytes: usize) -> bool {
        self.size() + bytes as u64 > self.keeping.hard_limit()
    }

    /// Writes lines into the open segment; on a full disk out of the reserve, where they may.
    pub(super) fn write(&mut self, lines: &[u8], need: Need) -> Result<(), Error> {
        match self.segment.append(lines) {
            Err(error) if need.may_spend() && error.is_full_disk() && self.reserve.spend() => {
                self.segment.append(lines)
            }
            written => written,
        }
    }
}

impl Error {
    /// Whether the file system had no room.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}
