//! The directory in which documents lie for the daemon, and the daemon's answer. Only the shipper writes there.
//!
//! Whatever a server sends, no more than [`MAX_FILES`] and [`MAX_BYTES`] lie there, and each feed has a share that no other
//! takes from it. In a full share, what is new takes the place of what has waited longest and is no more important, and
//! what closes that of grants: no flood of one kind keeps a lockdown out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use document::{Id, MAX_ROSTER_ENVELOPE, Sealed};
use nix::fcntl::OFlag;
use record::Stack;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::answer::{Answer, Offered, Rank};
use crate::{
    files::{self, FileError, at},
    log,
    paths::Paths,
};

/// The most documents that lie there.
pub(super) const MAX_FILES: usize = 256;
/// The most bytes that they have together.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// How many documents are written before they are synced.
const BATCH: usize = 32;
/// The most that is read of the daemon's answer, in bytes.
const MAX_HEARD: u64 = 1 << 20;
/// The most that is read of the index, in bytes.
const MAX_INDEX: u64 = 1 << 20;
const VERSION: u64 = 1;

/// What the daemon says.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// What it needs no more.
    pub(super) done: BTreeSet<Id>,
    /// What it cannot judge yet.
    waiting: BTreeSet<Id>,
    /// Up to where it has heard all of each feed.
    positions: BTreeMap<String, u64>,
}

impl Heard {
    pub(super) fn position(&self, feed: &str) -> Option<u64> {
        self.positions.get(feed).copied()
    }
}

#[derive(Debug)]
struct Entry {
    rank: Rank,
    bytes: u64,
    /// Which feed brought it, where that is known.
    feed: Option<String>,
    /// Grows with each that comes.
    order: u64,
}

/// Whose turn it is to write there: the threads of the latest generation, for these feeds in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) generation: u64,
    pub(super) feeds: Vec<String>,
}

/// Why something could not be done with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum InboxError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path} cannot be understood: {why}")]
    Heard { path: String, why: String },
    /// It is a later generation's.
    #[error("it is for others to write there now")]
    Over,
}

/// What lies there.
#[derive(Debug, Default)]
struct Held {
    /// Nothing before the directory was looked at.
    entries: Option<BTreeMap<Id, Entry>>,
    lease: Lease,
    order: u64,
}

/// What of an answer is to be laid there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Laying<'a> {
    pub(super) feed: &'a str,
    pub(super) answer: &'a Answer,
    /// How many of its documents were laid there before.
    pub(super) from: usize,
}

/// One that needs room.
#[derive(Debug)]
struct New<'a> {
    feed: &'a str,
    rank: Rank,
    bytes: u64,
}

/// How much of something lies there.
#[derive(Debug, Default, Clone, Copy)]
struct Amount {
    files: usize,
    bytes: u64,
}

/// The inbox; one for all feeds' threads. Its lock is held while files are written, and nobody else has it: neither the
/// sinks nor the main thread wait for it.
#[derive(Debug)]
pub(super) struct Inbox {
    paths: Paths,
    held: Mutex<Held>,
}

impl Inbox {
    pub(super) fn new(paths: Paths) -> Self {
        Self { paths, held: Mutex::default() }
    }

    /// Takes everything away: there is no stack.
    pub(super) fn clear(&self, lease: &Lease) -> Result<(), InboxError> {
        let (mut held, dir) = (self.held(lease)?, self.paths.inbox());
        held.entries = None;
        files::remove_if_there(&self.paths.inbox_index())?;
        for name in names(&dir)? {
            files::remove_if_there(&dir.join(name))?;
        }
        Ok(())
    }

    /// Takes away what the daemon needs no more, and says what it said.
    pub(super) fn settle(&self, lease: &Lease) -> Result<Heard, InboxError> {
        let mut held = self.held(lease)?;
        self.take_stock(&mut held)?;
        let path = self.paths.heard();
        let Some(bytes) = files::read(&path, MAX_HEARD)? else { return Ok(Heard::default()) };
        let heard = heard(&bytes).map_err(|why| InboxError::Heard { path: path.display().to_string(), why })?;
        let entries = held.entries();
        for id in heard.done.iter().filter(|id| entries.contains_key(id)).copied().collect::<Vec<_>>() {
            files::remove_if_there(&self.place(id))?;
            entries.remove(&id);
        }
        Ok(heard)
    }

    /// Lays down the documents of an answer, and says how many of all have been; they are on disk when it returns.
    /// Fewer than there are: there is no room for more until the daemon has done with some.
    pub(super) fn put(&self, lease: &Lease, new: &Laying<'_>, heard: &Heard) -> Result<usize, InboxError> {
        let Laying { feed, answer, from } = *new;
        let mut held = self.held(lease)?;
        self.take_stock(&mut held)?;
        let mut laid = from;
        loop {
            let mut batch = Vec::new();
            while let Some(offered) = answer.documents.get(laid).filter(|_| batch.len() < BATCH) {
                if let Some(entry) = held.entries().get_mut(&offered.id) {
                    entry.feed.get_or_insert_with(|| feed.to_owned());
                } else if !heard.done.contains(&offered.id) {
                    let bytes = answer.envelope(offered).len() as u64;
                    if !self.make_room(&mut held, &New { feed, rank: offered.rank, bytes }, heard)? {
                        break;
                    }
                    held.enter(feed, offered, bytes);
                    batch.push(offered);
                }
                laid += 1;
            }
            if batch.is_empty() {
                return Ok(laid);
            }
            if let Err(error) = self.lay(&held, answer, &batch) {
                // Not all of them lie there.
                held.entries = None;
                return Err(error.into());
            }
        }
    }

    fn lay(&self, held: &Held, answer: &Answer, batch: &[&Offered]) -> Result<(), FileError> {
        // Before the documents: nothing lies there of which nobody knows whose it is.
        self.write_index(held)?;
        let write = |offered: &&Offered| self.write(offered.id, answer.envelope(offered).as_bytes());
        // The daemon takes each as soon as it has its name. Once it says how far it has heard a feed, they have to be
        // there after a power cut too: some of them wait.
        let written = batch.iter().map(write).collect::<Result<Vec<_>, _>>()?;
        let dir = self.paths.inbox();
        written.iter().try_for_each(|file| at("write", &dir, file.sync_all()))?;
        files::sync_parent(&dir.join("any"))
    }

    /// Says what the feed has answered, once all its documents lie there.
    pub(super) fn conclude(&self, lease: &Lease, feed: &str, stack: &Stack, answer: &Answer) -> Result<(), InboxError> {
        #[derive(Serialize)]
        struct Written<'a> {
            v: u64,
            feed: &'a str,
            stack: &'a Stack,
            after: Option<u64>,
            next: u64,
            ids: &'a [Id],
            statement: &'a RawValue,
        }
        let _held = self.held(lease)?;
        let Some(number) = lease.feeds.iter().position(|name| name == feed) else { return Ok(()) };
        let (after, next) = (answer.after, answer.next);
        let written = Written { v: VERSION, feed, stack, after, next, ids: &answer.ids, statement: answer.statement() };
        let bytes = serde_json::to_vec(&written).expect("text and numbers can always be written");
        Ok(files::replace_fleeting(&self.paths.inbox().join(feed_file(number)), &bytes)?)
    }

    fn held(&self, lease: &Lease) -> Result<MutexGuard<'_, Held>, InboxError> {
        let mut held = self.held.lock().unwrap_or_else(|poisoned: PoisonError<MutexGuard<'_, Held>>| {
            // What a panic left behind may differ from what lies there, which is looked at anew.
            self.held.clear_poison();
            let mut held = poisoned.into_inner();
            held.entries = None;
            held
        });
        if lease.generation < held.lease.generation {
            return Err(InboxError::Over);
        }
        if held.lease != *lease {
            *held = Held { lease: lease.clone(), ..Held::default() };
        }
        Ok(held)
    }

    fn place(&self, id: Id) -> PathBuf {
        self.paths.inbox().join(format!("{id}.json"))
    }

    /// What a former run left; whatever else lies there goes.
    fn take_stock(&self, held: &mut Held) -> Result<(), FileError> {
        if held.entries.is_some() {
            return Ok(());
        }
        let dir = self.paths.inbox();
        at("make the directory", &dir, fs::create_dir_all(&dir))?;
        // Without it nobody knows whose they are, and they stay for as long as there is room.
        let index = files::read(&self.paths.inbox_index(), MAX_INDEX).ok().flatten();
        let mut index: BTreeMap<Id, String> =
            index.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let mut entries = BTreeMap::new();
        let about: Vec<_> = (0..held.lease.feeds.len()).map(feed_file).collect();
        for name in names(&dir)? {
            let path = dir.join(&name);
            let document = if entries.len() < MAX_FILES { document_at(&path, &name) } else { None };
            if let Some((id, rank, bytes)) = document {
                held.order += 1;
                entries.insert(id, Entry { rank, bytes, feed: index.remove(&id), order: held.order });
            } else if !about.contains(&name) {
                files::remove_if_there(&path)?;
            }
        }
        held.entries = Some(entries);
        Ok(())
    }

    /// Takes away what may go for something new. Whether it has room then.
    fn make_room(&self, held: &mut Held, new: &New<'_>, heard: &Heard) -> Result<bool, FileError> {
        loop {
            let Some(victim) = held.victim(new, heard) else { return Ok(held.has_room(new)) };
            log::warn(format_args!("feed {}: the inbox is full: {victim} is given up for what is new", new.feed));
            files::remove_if_there(&self.place(victim))?;
            held.entries().remove(&victim);
        }
    }

    fn write_index(&self, held: &Held) -> Result<(), FileError> {
        let entries = held.entries.iter().flatten();
        let index: BTreeMap<_, _> = entries.filter_map(|(id, entry)| Some((id, entry.feed.as_ref()?))).collect();
        let bytes = serde_json::to_vec(&index).expect("text can always be written");
        files::replace_fleeting(&self.paths.inbox_index(), &bytes)
    }

    fn write(&self, id: Id, bytes: &[u8]) -> Result<File, FileError> {
        let new = self.paths.inbox().join(format!(".{id}.tmp"));
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
        let opened =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).custom_flags(flags).open(&new);
        let mut file = at("create", &new, opened)?;
        let place = self.place(id);
        let written = at("write", &new, file.write_all(bytes))
            .and_then(|()| at("put in place", &place, fs::rename(&new, &place)));
        if written.is_err() {
            // What is left of it would take the place that was missing.
            drop(fs::remove_file(&new));
        }
        written.map(|()| file)
    }
}

impl Held {
    fn entries(&mut self) -> &mut BTreeMap<Id, Entry> {
        self.entries.get_or_insert_default()
    }

    fn enter(&mut self, feed: &str, offered: &Offered, bytes: u64) {
        self.order += 1;
        let entry = Entry { rank: offered.rank, bytes, feed: Some(feed.to_owned()), order: self.order };
        self.entries().insert(offered.id, entry);
    }

    fn amount(&self, of: impl Fn(&Entry) -> bool) -> Amount {
        self.entries
            .iter()
            .flatten()
            .filter(|(_, entry)| of(entry))
            .fold(Amount::default(), |sum, (_, entry)| Amount { files: sum.files + 1, bytes: sum.bytes + entry.bytes })
    }

    /// Whether a feed's share has room for so many bytes more.
    fn has_share(&self, feed: &str, bytes: u64) -> bool {
        let feeds = self.lease.feeds.len().max(1);
        let own = self.amount(|entry| entry.feed.as_deref() == Some(feed));
        // The longest roster is more than an eighth of all bytes, and has to fit into any share.
        own.files < MAX_FILES / feeds && (own.files == 0 || own.bytes + bytes <= MAX_BYTES / feeds as u64)
    }

    fn has_room(&self, new: &New<'_>) -> bool {
        let all = self.amount(|_| true);
        self.has_share(new.feed, new.bytes) && all.files < MAX_FILES && all.bytes + new.bytes <= MAX_BYTES
    }

    /// What has to go so that there is room, if anything may.
    fn victim(&self, new: &New<'_>, heard: &Heard) -> Option<Id> {
        if self.has_room(new) {
            return None;
        }
        let own_share = self.has_share(new.feed, new.bytes);
        let may_go = |(id, entry): &(&Id, &Entry)| match &entry.feed {
            Some(owner) if owner == new.feed => {
                let waits = entry.rank >= new.rank && heard.waiting.contains(id);
                waits || entry.rank == Rank::Grant && new.rank < Rank::Grant
            }
            // Of others, what is beyond their share; and what nobody knows whose it is.
            Some(owner) if self.lease.feeds.contains(owner) && self.has_share(owner, 0) => false,
            _ => own_share && entry.rank >= new.rank,
        };
        let candidates = self.entries.iter().flatten().filter(may_go);
        candidates.max_by_key(|(_, entry)| (entry.rank, std::cmp::Reverse(entry.order))).map(|(id, _)| *id)
    }
}

fn feed_file(number: usize) -> String {
    if number == 0 { "feed.json".to_owned() } else { format!("feed-{}.json", number + 1) }
}

fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => {
            let read = at("list", dir, read)?;
            let names = read.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
            at("list", dir, names.collect())
        }
    }
}

/// The document in a file that has its name.
fn document_at(path: &Path, name: &str) -> Option<(Id, Rank, u64)> {
    let id: Id = name.strip_suffix(".json")?.parse().ok()?;
    let bytes = files::read(path, MAX_ROSTER_ENVELOPE as u64).ok()??;
    let sealed = Sealed::parse(&bytes).ok().filter(|sealed| sealed.id() == id)?;
    Some((id, Rank::of(sealed.kind())?, bytes.len() as u64))
}

fn heard(bytes: &[u8]) -> Result<Heard, String> {
    #[derive(Deserialize)]
    struct Read {
        v: u64,
        #[serde(default)]
        done: BTreeSet<Id>,
        #[serde(default)]
        waiting: BTreeSet<Id>,
        #[serde(default)]
        feeds: Vec<ReadFeed>,
    }
    #[derive(Deserialize)]
    struct ReadFeed {
        feed: String,
        position: Option<u64>,
    }
    let read: Read = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if read.v != VERSION {
        return Err(format!("it is of version {}; this program reads version {VERSION}", read.v));
    }
    let positions = read.feeds.into_iter().filter_map(|feed| Some((feed.feed, feed.position?))).collect();
    Ok(Heard { done: read.done, waiting: read.waiting, positions })
}

#[cfg(test)]
mod tests;
