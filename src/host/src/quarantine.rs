//! Keeps what was removed: atomically taken in, described, and given back only as the account itself.
//!
//! A file is *taken in* by one rename, which removes and keeps it in the same instant, and *settled* later: copied, up
//! to a bound, into a file of root's own, described beside it, and the user's inode let go. Nothing here changes owner
//! or mode of a user's inode, and root never writes into a home: what is restored, a child writes as the account.

mod intake;
mod restore;
mod settle;

use std::{
    ffi::OsStr,
    fmt, fs,
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::{
    fcntl::{self, OFlag},
    sys::stat::{self, Mode},
    unistd,
};
use record::Fingerprint;
use serde::{Deserialize, Serialize};

use super::paths::PathError;
pub use intake::{Intake, NotTaken, Prey, Taken};
pub use restore::{PATIENCE, RESTORE_ARGUMENT, RestoreError, RestoreTo, restore, restore_as_account};
pub use settle::{Arrival, Settler};

/// Where removed files are kept.
pub const QUARANTINE: &str = "/var/lib/lockdownd/quarantine";
/// Below it: what was taken in and is not settled yet.
pub const INCOMING: &str = "incoming";
/// The most items kept for one account; past it only hash and fingerprints go into the record.
pub const MAX_ITEMS_PER_ACCOUNT: usize = 64;
/// The most bytes of content kept for one account (8 MiB).
pub const MAX_BYTES_PER_ACCOUNT: u64 = 8 << 20;
/// The most fingerprints that one item names; the others are counted.
pub const MAX_FINGERPRINTS: usize = 64;
/// The longest description that is read back, in bytes.
const MAX_DESCRIPTION: u64 = 64 << 10;
/// The most items that [`list`] reads.
pub const MAX_LISTED: usize = 100_000;

/// Why the quarantine could not be used.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// Its directories cannot be used.
    #[error("quarantine: {0}")]
    Path(#[from] PathError),
    /// A description could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A description is not what we write.
    #[error("{}: not a description of a quarantined file: {source}", path.display())]
    Description {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// There is no such item.
    #[error("no item {0} in the quarantine; `lockdownctl quarantine list` names them")]
    Unknown(ItemId),
}

impl QuarantineError {
    fn io(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.into(), source: source.into() }
    }
}

/// The id of one quarantined item: `q-` and 16 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ItemId(String);

/// A text that is no item's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an item's id is q- and 16 hex digits, as `lockdownctl quarantine list` prints it")]
pub struct ItemIdError;

impl ItemId {
    /// A new random id; 64 bits are enough to never meet one twice on one host.
    ///
    /// # Errors
    /// What getrandom(2) says.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self(format!("q-{:016x}", u64::from_ne_bytes(bytes))))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ItemId {
    type Err = ItemIdError;
    fn from_str(text: &str) -> Result<Self, ItemIdError> {
        let hex = text.strip_prefix("q-").ok_or(ItemIdError)?;
        let valid = hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid { Ok(Self(text.to_owned())) } else { Err(ItemIdError) }
    }
}

impl TryFrom<String> for ItemId {
    type Error = ItemIdError;
    fn try_from(text: String) -> Result<Self, ItemIdError> {
        text.parse()
    }
}

impl From<ItemId> for String {
    fn from(id: ItemId) -> Self {
        id.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of thing was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink {
        /// What it pointed to, escaped.
        target: String,
    },
    /// What somebody put there in the instant of the removal, and could not be given back: directory, FIFO, socket.
    Other,
}

/// What is left of a removed file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// All of them.
    Kept,
    /// The first [`super::paths::MAX_KEY_FILE`]: the file was longer.
    Truncated,
    /// None: the account's share of the quarantine is full.
    OverQuota,
    /// None: they could not be read or written, or there are none, as with a link.
    None,
}

/// One removed file: what is known of it, kept beside its content as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its id.
    pub id: ItemId,
    /// Whose key file it was: the account's name, escaped; empty for a file that several accounts share.
    pub account: String,
    /// Where it stood, escaped; empty if the daemon stopped in the instant of the removal and the name was too long.
    pub path: String,
    /// What it was.
    pub kind: ItemKind,
    /// Owner of the inode; 4294967295 if that is not known. A file that another than the account owned is not given back to the account: it may be a
    /// hard link to something that the account must not read.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256, hex, of its first [`super::paths::MAX_KEY_FILE`] bytes.
    pub sha256: String,
    /// What is kept of its bytes.
    pub content: Content,
    /// The keys in those bytes, at most [`MAX_FINGERPRINTS`].
    pub fingerprints: Vec<Fingerprint>,
    /// Lines with further keys.
    pub more: u64,
    /// Lines that are neither blank, comment nor key.
    pub unreadable_lines: u64,
    /// Why it was removed, one sentence; `None` if the daemon stopped in the instant of the removal.
    pub why: Option<String>,
    /// When.
    pub removed_at: Timestamp,
    /// Milliseconds from the inode's last change to the removal.
    pub stood_milliseconds: u64,
    /// How often the same bytes were removed from the same path and kept once.
    pub times: u64,
}

/// What is kept of an item's bytes: nothing, where only its hash is.
///
/// # Errors
/// The file that holds them cannot be read.
pub fn content(directory: &Path, id: &ItemId) -> Result<Vec<u8>, QuarantineError> {
    let path = directory.join(id.as_str());
    match super::paths::read_path(&path, super::paths::MAX_KEY_FILE as u64) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|source| QuarantineError::io(path, source)),
    }
}

/// Opens the quarantine at `directory` and its `incoming/`, both root's and 0700, and creates them if need be. Where they are
/// as they must be nothing is written: that would wait for a disk that stands still.
fn open_directories(directory: &Path) -> Result<(OwnedFd, OwnedFd), QuarantineError> {
    let open = |path: &Path| -> Result<OwnedFd, QuarantineError> {
        let failed = |source: io::Error| QuarantineError::io(path, source);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let try_open = || fcntl::open(path, flags, Mode::empty());
        let fd = match try_open() {
            Err(nix::errno::Errno::ENOENT) => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
                try_open()
            }
            opened => opened,
        };
        let fd = fd.map_err(|e| failed(e.into()))?;
        let (user, group, mode) = (unistd::geteuid(), unistd::getegid(), Mode::from_bits_truncate(0o700));
        let meta = stat::fstat(&fd).map_err(|e| failed(e.into()))?;
        if (meta.st_uid, meta.st_gid) != (user.as_raw(), group.as_raw()) {
            unistd::fchown(&fd, Some(user), Some(group)).map_err(|e| failed(e.into()))?;
        }
        if Mode::from_bits_truncate(meta.st_mode) != mode {
            stat::fchmod(&fd, mode).map_err(|e| failed(e.into()))?;
        }
        Ok(fd)
    };
    Ok((open(directory)?, open(&directory.join(INCOMING))?))
}

/// Every item in the quarantine at `directory`, oldest first, at most [`MAX_LISTED`]; a description that cannot be read
/// is passed over.
///
/// # Errors
/// [`QuarantineError::Io`] if the directory cannot be read; one that does not exist is empty.
pub fn list(directory: &Path) -> Result<Vec<Item>, QuarantineError> {
    let ids = ids(directory)?;
    let mut items: Vec<Item> = ids.into_iter().filter_map(|id| show(directory, &id).ok()).collect();
    items.sort_by(|a, b| (a.removed_at, &a.id).cmp(&(b.removed_at, &b.id)));
    Ok(items)
}

/// How many items [`list`] finds, their descriptions unread.
///
/// # Errors
/// As [`list`].
pub fn count(directory: &Path) -> Result<u64, QuarantineError> {
    Ok(ids(directory)?.len() as u64)
}

fn ids(directory: &Path) -> Result<Vec<ItemId>, QuarantineError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| QuarantineError::io(directory, e))?,
    };
    Ok(entries.filter_map(|entry| id_of_description(&entry.ok()?.file_name())).take(MAX_LISTED).collect())
}

fn id_of_description(name: &OsStr) -> Option<ItemId> {
    name.to_str()?.strip_suffix(".json")?.parse().ok()
}

/// One item of the quarantine at `directory`.
///
/// # Errors
/// [`QuarantineError::Unknown`], or that its description cannot be read.
pub fn show(directory: &Path, id: &ItemId) -> Result<Item, QuarantineError> {
    let path = directory.join(format!("{id}.json"));
    let mut bytes = Vec::new();
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(QuarantineError::Unknown(id.clone())),
        file => file.map_err(|e| QuarantineError::io(&path, e))?,
    };
    file.take(MAX_DESCRIPTION).read_to_end(&mut bytes).map_err(|e| QuarantineError::io(&path, e))?;
    serde_json::from_slice(&bytes).map_err(|source| QuarantineError::Description { path, source })
}

#[cfg(test)]
mod tests;
