//! Turns what was taken in into an item: the bounded, flushed copy with its description. Slow, so never on the way of
//! a removal; whatever a crash left in `incoming/` is settled at the next start.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lockdown_core::{keys::file::survey, policy::key_file::WhyRemoved};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::stat::{self, Mode, SFlag},
    unistd::{self, UnlinkatFlags},
};
use sha2::{Digest, Sha256};

use super::{
    Content, Item, ItemId, ItemKind, MAX_BYTES_PER_ACCOUNT, MAX_FINGERPRINTS, MAX_ITEMS_PER_ACCOUNT, QuarantineError,
    intake::ArrivalName, list, open_directories,
};
use crate::{
    paths::{self, Durability, Facts, MAX_KEY_FILE, file_type},
    writers::Whereabouts,
};

/// The most leftovers of a crash that one start settles; more wait for the next.
const MAX_LEFTOVERS: usize = 100_000;

/// Something in `incoming/`, with what was known when it was taken.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The id that it gets if it is kept as an item of its own.
    pub id: ItemId,
    /// Its name in `incoming/`.
    pub name: ArrivalName,
    /// Whose key file it was, escaped; empty for a file that several accounts share.
    pub account: String,
    /// Where it stood; empty if that was lost in a crash.
    pub path: PathBuf,
    /// What it was when it was judged; `None` after a crash.
    pub facts: Option<Facts>,
    /// Why it was removed; `None` after a crash.
    pub why: Option<WhyRemoved>,
    /// When it was removed, or found after a crash.
    pub removed_at: Timestamp,
    /// Whether `incoming/` holds a copy, which is root's, of the file that was judged: then its owner is in `facts`
    /// alone. Else it holds the very inode, which may be another than the judged one.
    pub is_copy: bool,
    /// By what its writers are found; nothing after a crash.
    pub stood_at: Option<Whereabouts>,
}

impl Arrival {
    /// Prepares the removal of `path`, under a new id.
    ///
    /// # Errors
    /// What getrandom(2) says.
    pub fn new(account: &str, path: &Path, facts: Option<Facts>, why: WhyRemoved, now: Timestamp) -> io::Result<Self> {
        let id = ItemId::random()?;
        let name = ArrivalName::new(&id, account, path);
        let (account, path) = (account.to_owned(), path.to_owned());
        Ok(Self { id, name, account, path, facts, why: Some(why), removed_at: now, is_copy: false, stood_at: None })
    }
}

/// What one account has in the quarantine.
#[derive(Debug, Default)]
struct Share {
    items: usize,
    bytes: u64,
    /// Path and hash of each item, to keep the same bytes from the same place only once.
    known: HashMap<(String, String), ItemId>,
}

/// Settles arrivals, and keeps the account of who has how much in the quarantine.
#[derive(Debug)]
pub struct Settler {
    path: PathBuf,
    directory: OwnedFd,
    incoming: OwnedFd,
    shares: HashMap<String, Share>,
}

/// What was read of an arrival.
struct Found {
    facts: Option<Facts>,
    kind: ItemKind,
    bytes: Vec<u8>,
    content: Content,
    /// Why its bytes could not be read, where that may pass.
    unread: Option<io::Error>,
}

impl Settler {
    /// Opens the quarantine at `directory`, creating it if need be, and reads what it holds.
    ///
    /// # Errors
    /// [`QuarantineError`] if it cannot be made or listed.
    pub fn open(directory: &Path) -> Result<Self, QuarantineError> {
        let (own, incoming) = open_directories(directory)?;
        let mut settler = Self { path: directory.to_owned(), directory: own, incoming, shares: HashMap::new() };
        for item in list(directory)? {
            settler.count(&item);
        }
        Ok(settler)
    }

    /// What a crash left in `incoming/`, at most 100,000. Names that are not ours are passed over.
    ///
    /// # Errors
    /// [`QuarantineError`] if the directory cannot be read.
    pub fn leftovers(&self, now: Timestamp) -> Result<Vec<Arrival>, QuarantineError> {
        let failed = |error: Errno| QuarantineError::io(self.path.join(super::INCOMING), error);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::openat(&self.incoming, ".", flags, Mode::empty()).map_err(failed)?;
        let mut arrivals = Vec::new();
        for entry in listing.iter().take(MAX_LEFTOVERS) {
            let raw = OsString::from(OsStr::from_bytes(entry.map_err(failed)?.file_name().to_bytes()));
            let name = ArrivalName::from_raw(raw);
            let Some((id, account, path)) = name.parse() else { continue };
            let (facts, why, removed_at, is_copy, stood_at) = (None, None, now, false, None);
            arrivals.push(Arrival { id, name, account, path, facts, why, removed_at, is_copy, stood_at });
        }
        Ok(arrivals)
    }

    /// Makes an arrival an item, flushed to disk, and lets the user's inode go. The item that comes back is complete
    /// even where nothing could be kept: its `content` says so, and with [`Content::OverQuota`] there may be no
    /// description on disk. The same bytes from the same path are kept once: then the older item comes back.
    ///
    /// # Errors
    /// [`QuarantineError`] if it could not be written; the arrival then stays in `incoming/` for the next start, and
    /// the item says what was removed.
    pub fn settle(&mut self, arrival: &Arrival) -> (Item, Result<(), QuarantineError>) {
        self.reopen_if_removed();
        let found = self.read(arrival);
        let mut item = describe(arrival, &found);
        if let Some(error) = found.unread {
            // Its inode is all that there is of it.
            return (
                item,
                Err(QuarantineError::io(self.path.join(super::INCOMING).join(arrival.name.as_os_str()), error)),
            );
        }
        let key = identity(&item);
        let share = self.shares.entry(item.account.clone()).or_default();
        if let Some(mut same) =
            key.as_ref().and_then(|key| share.known.get(key)).and_then(|id| super::show(&self.path, id).ok())
        {
            same.times += 1;
            same.removed_at = item.removed_at;
            same.stood_milliseconds = item.stood_milliseconds;
            let done = self.write_description(&same).and_then(|()| self.let_go(arrival));
            return (same, done);
        }
        if share.items >= MAX_ITEMS_PER_ACCOUNT {
            item.content = Content::OverQuota;
            let done = self.let_go(arrival);
            return (item, done);
        }
        if share.bytes + found.bytes.len() as u64 > MAX_BYTES_PER_ACCOUNT {
            item.content = Content::OverQuota;
        }
        let done = self.keep(&item, &found.bytes).and_then(|()| self.let_go(arrival));
        if done.is_ok() {
            self.count(&item);
        }
        (item, done)
    }

    /// Somebody may have removed the quarantine itself; the way in makes it anew.
    fn reopen_if_removed(&mut self) {
        let is_gone = |fd: &OwnedFd| stat::fstat(fd).is_ok_and(|seen| seen.st_nlink == 0);
        if (is_gone(&self.directory) || is_gone(&self.incoming))
            && let Ok((directory, incoming)) = open_directories(&self.path)
        {
            (self.directory, self.incoming) = (directory, incoming);
        }
    }

    fn count(&mut self, item: &Item) {
        let share = self.shares.entry(item.account.clone()).or_default();
        share.items += 1;
        if matches!(item.content, Content::Kept | Content::Truncated) {
            share.bytes += item.size.min(MAX_KEY_FILE as u64);
        }
        if let Some(key) = identity(item) {
            share.known.insert(key, item.id.clone());
        }
    }

    fn keep(&self, item: &Item, bytes: &[u8]) -> Result<(), QuarantineError> {
        if matches!(item.content, Content::Kept | Content::Truncated) {
            let name = OsStr::new(item.id.as_str());
            // Each flush holds up the next removal, so the name waits for the description's.
            paths::replace_file(self.directory.as_fd(), name, bytes, 0o600, Durability::BytesFlushed)?;
        }
        self.write_description(item)
    }

    fn write_description(&self, item: &Item) -> Result<(), QuarantineError> {
        let name = format!("{}.json", item.id);
        let bytes = serde_json::to_vec(item).expect("an item has only string keys");
        Ok(paths::replace_file(self.directory.as_fd(), OsStr::new(&name), &bytes, 0o600, Durability::Flushed)?)
    }

    /// Unlinks the arrival. A directory, which only a lost race can have brought, goes if it is empty; else it stays
    /// in `incoming/` as its owner left it.
    fn let_go(&self, arrival: &Arrival) -> Result<(), QuarantineError> {
        let name = arrival.name.as_os_str();
        match unistd::unlinkat(&self.incoming, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR) => match unistd::unlinkat(&self.incoming, name, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOTEMPTY) => Ok(()),
                Err(error) => Err(QuarantineError::io(self.path.join(super::INCOMING).join(name), error)),
            },
            Err(error) => Err(QuarantineError::io(self.path.join(super::INCOMING).join(name), error)),
        }
    }

    fn read(&self, arrival: &Arrival) -> Found {
        let name = arrival.name.as_os_str();
        let Ok(seen) = stat::fstatat(&self.incoming, name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
            return Found {
                facts: arrival.facts,
                kind: ItemKind::File,
                bytes: Vec::new(),
                content: Content::None,
                unread: None,
            };
        };
        let now = Facts::from(&seen);
        let facts = match arrival.facts {
            Some(judged) if arrival.is_copy => judged,
            // The rename itself has changed the inode: how long it stood is known from the judgement only.
            Some(judged) if (judged.device, judged.inode) == (now.device, now.inode) => {
                Facts { changed: judged.changed, ..now }
            }
            _ => now,
        };
        let mut unread = None;
        let (kind, bytes, content) = match file_type(seen.st_mode) {
            SFlag::S_IFLNK => {
                let target = fcntl::readlinkat(&self.incoming, name).unwrap_or_default();
                (ItemKind::Symlink { target: record::escape(target.as_bytes()) }, Vec::new(), Content::None)
            }
            SFlag::S_IFREG => {
                let (bytes, content) = self.read_file(name, facts.size).unwrap_or_else(|error| {
                    // A lease is its owner's doing (fcntl(2)): then it goes without its bytes.
                    unread = Some(error).filter(|error| error.kind() != io::ErrorKind::WouldBlock);
                    (Vec::new(), Content::None)
                });
                (ItemKind::File, bytes, content)
            }
            _ => (ItemKind::Other, Vec::new(), Content::None),
        };
        Found { facts: Some(facts), kind, bytes, content, unread }
    }

    fn read_file(&self, name: &OsStr, size: u64) -> io::Result<(Vec<u8>, Content)> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let mut bytes = Vec::new();
        let file = File::from(fcntl::openat(&self.incoming, name, flags, Mode::empty())?);
        file.take(MAX_KEY_FILE as u64 + 1).read_to_end(&mut bytes)?;
        // A copy of a long file has been cut when it was taken: the judged size tells.
        let is_whole = bytes.len() <= MAX_KEY_FILE && bytes.len() as u64 >= size;
        let content = if is_whole { Content::Kept } else { Content::Truncated };
        bytes.truncate(MAX_KEY_FILE);
        Ok((bytes, content))
    }
}

/// By what two removals are the same: path, and hash or target. What is not kept whole is never the same.
fn identity(item: &Item) -> Option<(String, String)> {
    match (&item.kind, item.content) {
        (ItemKind::Symlink { target }, _) => Some((item.path.clone(), format!("-> {target}"))),
        (ItemKind::File, Content::Kept) => Some((item.path.clone(), item.sha256.clone())),
        _ => None,
    }
}

fn describe(arrival: &Arrival, found: &Found) -> Item {
    let mut survey = survey(&found.bytes);
    let unnamed = survey.fingerprints.len().saturating_sub(MAX_FINGERPRINTS) as u64;
    survey.fingerprints.truncate(MAX_FINGERPRINTS);
    let digest = Sha256::digest(&found.bytes);
    let stood = found.facts.map_or(0, |facts| arrival.removed_at.as_nanosecond() - facts.changed);
    Item {
        id: arrival.id.clone(),
        account: arrival.account.clone(),
        path: record::escape(arrival.path.as_os_str().as_bytes()),
        kind: found.kind.clone(),
        owner: found.facts.map_or(u32::MAX, |facts| facts.uid),
        mode: found.facts.map_or(0, |facts| facts.mode & 0o7777),
        size: found.facts.map_or(0, |facts| facts.size),
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        content: found.content,
        fingerprints: survey.fingerprints,
        more: survey.more + unnamed,
        unreadable_lines: survey.unreadable,
        why: arrival.why.map(|why| why.sentence().to_owned()),
        removed_at: arrival.removed_at,
        stood_milliseconds: u64::try_from(stood / 1_000_000).unwrap_or(0),
        times: 1,
    }
}
