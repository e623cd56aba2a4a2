//! The inbox: documents that the shipper has fetched, and what its feeds said. It is another user's directory, so that no link
//! is followed, nothing is waited for, and nothing is read without a bound; nothing in it is believed here.
//!
//! Reading takes as long as its files need. It is no work for the main thread.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use document::{Body, Envelope, Id, Key, Kind, MAX_ENVELOPE, MAX_ROSTER_ENVELOPE, Moment, Sealed};
use lockdown_core::{
    config::MAX_FEEDS,
    machine::documents::{FeedSaid, InboxRead, MAX_A_PASS, MAX_FEED_IDS, Signers},
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{self, OFlag},
    sys::stat::{self, Mode, SFlag},
};
use serde::Deserialize;

use crate::paths::{file_type, open_without_links};

/// Where it is.
pub const INBOX: &str = "/var/lib/lockdownd-shipper/inbox";
/// The most documents that are looked at; the shipper keeps no more there.
pub const MAX_DOCUMENTS: usize = 256;
/// The most that is read at a time, in bytes: two of the largest rosters, and all else.
pub const MAX_PASS: usize = 96 << 20;
/// The most that a feed's file may have, in bytes: 256 ids and a statement.
const MAX_FEED_FILE: u64 = 256 << 10;
/// The most entries of the directory that are looked at: names that are not ours cost little, and hide nothing before that.
const MAX_ENTRIES: usize = 65_536;

/// A feed's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    v: u64,
    feed: String,
    #[serde(rename = "stack")]
    _stack: String,
    after: Option<u64>,
    next: u64,
    ids: Vec<Id>,
    statement: serde_json::Value,
}

/// Reads it, but for these documents.
#[must_use]
pub fn read(settled: &BTreeSet<Id>, signers: &Signers) -> InboxRead {
    read_at(Path::new("/var/lib"), "lockdownd-shipper/inbox", settled, signers)
}

/// Above `root` nobody but root can write.
fn read_at(root: &Path, name: &str, settled: &BTreeSet<Id>, signers: &Signers) -> InboxRead {
    let directory = match open(root, name) {
        Ok(Some(directory)) => directory,
        // Nothing was ever fetched.
        Ok(None) => return InboxRead::default(),
        Err(error) => return InboxRead { unread: Some(error.to_string()), ..InboxRead::default() },
    };
    let mut inbox = Inbox { read: InboxRead::default(), chosen: Vec::new(), left: MAX_PASS };
    match names(&directory, MAX_ENTRIES) {
        Ok(names) => (inbox.read.present, inbox.read.unread) = (names.present, names.unseen),
        Err(error) => inbox.read.unread = Some(error.to_string()),
    }
    for id in inbox.read.present.clone().into_iter().filter(|id| !settled.contains(id)) {
        inbox.take(&directory, id, signers);
    }
    let is_all =
        |present: &BTreeSet<Id>| names(&directory, MAX_ENTRIES).is_ok_and(|now| now.present.is_subset(present));
    inbox.leave_rosters_unless_all(is_all);
    let Inbox { mut read, chosen, .. } = inbox;
    read.offered = chosen.into_iter().map(|(_, envelope)| envelope).collect();
    read.feeds = (1..=MAX_FEEDS).filter_map(|number| feed(&directory, number)).collect();
    read
}

/// What is chosen of it while it is read.
struct Inbox {
    read: InboxRead,
    /// In order, and no more than are judged at a time: memory does not grow with what is there.
    chosen: Vec<(Rank, Envelope)>,
    /// How many bytes may still be read.
    left: usize,
}

/// In which order documents are judged. What closes comes first, since its signer may have left with a roster that came after
/// it; then one roster, the lowest version first; and what opens once no roster is left. What a new roster makes known of
/// closings that waited is judged before anything opens, too: whoever judges asks for them again.
///
/// Of what closes, lockdowns of all people come first, then those of somebody: no flood of what others close keeps them waiting. A
/// lift is among the latter, in the order in which they were made, since whoever signed it may be held by a later one.
type Rank = (u8, u64);
const LOCKS_DOWN: u8 = 0;
const LOCKS_OUT: u8 = 1;
const CLOSES: u8 = 2;
const REVOKES: u8 = 3;
const ROSTER: u8 = 4;
const OPENS: u8 = 5;

impl Inbox {
    fn take(&mut self, directory: &OwnedFd, id: Id, signers: &Signers) {
        let bytes = match read_file(directory, &format!("{id}.json"), MAX_ROSTER_ENVELOPE as u64) {
            Ok(Some(bytes)) if bytes.len() > self.left => return self.read.more = true,
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(error) => return self.read.bad.push((id, error.to_string())),
        };
        self.left -= bytes.len();
        let envelope = match opened(&bytes, &signers.rosters) {
            Ok(envelope) if envelope.document().id() == id => envelope,
            Ok(envelope) => {
                let why = format!("the file is named after {id}, and its document is {}", envelope.document().id());
                return self.read.bad.push((id, why));
            }
            Err(why) => return self.read.bad.push((id, why)),
        };
        self.choose((rank(&envelope, &signers.closers), envelope));
    }

    fn choose(&mut self, one: (Rank, Envelope)) {
        let at = self.chosen.partition_point(|(other, _)| *other <= one.0);
        self.chosen.insert(at, one);
        self.keep_few();
    }

    /// Leaves a roster to a later pass unless nothing has come since the directory was listed: what closes comes before the roster
    /// with which its signer left, and may be what came.
    fn leave_rosters_unless_all(&mut self, is_all: impl FnOnce(&BTreeSet<Id>) -> bool) {
        let first_roster = self.chosen.iter().position(|((class, _), _)| *class == ROSTER);
        if let Some(at) = first_roster
            && !is_all(&self.read.present)
        {
            self.chosen.truncate(at);
            self.read.more = true;
        }
    }

    /// Leaves to a later pass what is too much for this one, and what comes behind a roster.
    fn keep_few(&mut self) {
        let first_roster = self.chosen.iter().position(|((class, _), _)| *class == ROSTER);
        let most = first_roster.map_or(MAX_A_PASS, |at| MAX_A_PASS.min(at + 1));
        self.read.more |= self.chosen.len() > most;
        self.chosen.truncate(most);
    }
}

fn rank(envelope: &Envelope, closers: &[Key]) -> Rank {
    let made = |at: Moment| u64::try_from(at.timestamp().as_second()).unwrap_or(0);
    match envelope.document().body() {
        Body::Revoke(revoke) => (REVOKES, made(revoke.issued_at)),
        Body::Lockdown(lockdown) => {
            let class = match lockdown.person.is_none() && lockdown.fingerprint.is_none() {
                _ if !envelope.is_first_signed_by(closers) => CLOSES,
                true => LOCKS_DOWN,
                false => LOCKS_OUT,
            };
            (class, made(lockdown.issued_at))
        }
        Body::Lift(lift) if envelope.is_first_signed_by(closers) => (LOCKS_OUT, made(lift.issued_at)),
        Body::Lift(lift) => (CLOSES, made(lift.issued_at)),
        Body::Roster(roster) => (ROSTER, roster.version.number()),
        Body::Grant(_) | Body::Session(_) | Body::Feed(_) | Body::Run(_) => (OPENS, 0),
    }
}

fn opened(bytes: &[u8], signers: &[Key]) -> Result<Envelope, String> {
    let sealed = Sealed::parse(bytes).map_err(|error| error.to_string())?;
    let signers: Vec<&Key> = signers.iter().collect();
    if sealed.kind() == Kind::Roster && !sealed.is_signed_by_any(&signers) {
        return Err("it is a roster that no key in [stack.roster] has signed".to_owned());
    }
    sealed.open().map_err(|error| error.to_string())
}

/// What a feed said last. What is not understood is as if it were not there: the shipper writes it again.
fn feed(directory: &OwnedFd, number: usize) -> Option<FeedSaid> {
    let name = if number == 1 { "feed.json".to_owned() } else { format!("feed-{number}.json") };
    let bytes = read_file(directory, &name, MAX_FEED_FILE).ok()??;
    let Said { v: 1, feed, _stack: _, after, next, ids, statement } = serde_json::from_slice(&bytes).ok()? else {
        return None;
    };
    let statement = Envelope::parse(statement.to_string().as_bytes()).ok()?;
    (ids.len() <= MAX_FEED_IDS).then_some(FeedSaid { feed, after, next, ids, statement })
}

fn open(root: &Path, name: &str) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = fcntl::open(root, flags, Mode::empty())?;
    match open_without_links(root.as_fd(), Path::new(name), OFlag::O_DIRECTORY | OFlag::O_RDONLY) {
        Err(Errno::ENOENT) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

/// The documents there.
struct Names {
    present: BTreeSet<Id>,
    /// Why there may be more.
    unseen: Option<String>,
}

/// The documents there: names of 64 hex digits with `.json`. What is named otherwise is not ours.
fn names(directory: &OwnedFd, most: usize) -> io::Result<Names> {
    let mut present = BTreeSet::new();
    let mut listing =
        Dir::openat(directory, ".", OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    for (seen, entry) in listing.iter().enumerate() {
        if seen == most {
            let why = format!(
                "it has more than {most} files, and what is behind those is not seen: take away what is no document"
            );
            return Ok(Names { present, unseen: Some(why) });
        }
        let entry = entry?;
        let name = entry.file_name().to_str().ok().and_then(|name| name.strip_suffix(".json"));
        if let Some(id) = name.and_then(|name| name.parse::<Id>().ok()) {
            present.insert(id);
        }
        if present.len() == MAX_DOCUMENTS {
            break;
        }
    }
    Ok(Names { present, unseen: None })
}

fn read_file(directory: &OwnedFd, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match open_without_links(directory.as_fd(), Path::new(name), flags) {
        Err(Errno::ENOENT) => return Ok(None),
        opened => opened?,
    };
    if file_type(stat::fstat(&file)?.st_mode) != SFlag::S_IFREG {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::from(file).take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
}

const _: () = assert!(MAX_PASS >= 2 * MAX_ROSTER_ENVELOPE + MAX_DOCUMENTS * MAX_ENVELOPE);

#[cfg(test)]
mod tests;
