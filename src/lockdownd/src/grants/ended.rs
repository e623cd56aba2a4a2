//! Which grants have ended while `grants.json` could not be written: ids, written in place into room kept for them.
//!
//! A full disk must not bring a revoked grant back at the next start. Writing over bytes that a file already has takes no
//! room. This never says that a grant may live, and holds nothing once the store itself could be written.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use lockdown_core::grants::MAX_OPEN;
use lockdown_host::paths;
use nix::fcntl::OFlag;
use record::GrantId;

/// An id (`g-` and 16 hex digits) with its line end.
const ENTRY: usize = 19;
/// The room that is kept: every grant that can be open.
const ROOM: usize = MAX_OPEN * ENTRY;

/// The room on disk.
#[derive(Debug)]
pub(super) struct EndedRoom {
    path: PathBuf,
    holds_any: bool,
}

impl EndedRoom {
    /// The room beside the store of grants at this path, and the ids that it holds from before.
    pub(super) fn beside(store: &Path) -> (Self, Vec<GrantId>) {
        let path = store.with_extension("ended");
        let bytes = paths::read_path(&path, ROOM as u64).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let ids: Vec<GrantId> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (Self { path, holds_any: !ids.is_empty() }, ids)
    }

    /// Writes these ids, and waits until they are on disk.
    ///
    /// # Errors
    /// There is no room, or what write(2) and fdatasync(2) say.
    pub(super) fn hold(&mut self, ids: &[GrantId]) -> io::Result<()> {
        self.holds_any = true;
        let mut text: Vec<u8> = ids.iter().flat_map(|id| [id.as_str().as_bytes(), b"\n"].concat()).collect();
        if text.len() > ROOM {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        text.resize(ROOM, 0);
        let file = self.open(false)?;
        if file.metadata()?.len() != ROOM as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(&text, 0)?;
        file.sync_data()
    }

    /// The store has been written: keeps the room, and nothing in it.
    pub(super) fn clear(&mut self) {
        let kept = std::fs::metadata(&self.path).is_ok_and(|found| found.len() == ROOM as u64);
        if kept && !self.holds_any {
            return;
        }
        let cleared = self.open(true).and_then(|file| {
            file.write_all_at(&vec![0; ROOM], 0)?;
            file.set_len(ROOM as u64)?;
            file.sync_data()
        });
        match cleared {
            Ok(()) => self.holds_any = false,
            // What it may still hold has ended and is saved as such.
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "no room can be kept for ends on a full disk")
            }
        }
    }

    fn open(&self, create: bool) -> io::Result<File> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        OpenOptions::new().write(true).create(create).mode(0o600).custom_flags(flags.bits()).open(&self.path)
    }
}
