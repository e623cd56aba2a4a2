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

use document::{Body, Envelope, Id, Key, Kind, MAX_ENVELOPE, MAX_ROSTER_ENVELOPE, Sealed};
use lockdown_core::{
    config::MAX_FEEDS,
    machine::documents::{FeedSaid, InboxRead, MAX_A_PASS, MAX_FEED_IDS},
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
/// The most entries of the directory that are looked at.
const MAX_ENTRIES: usize = 4_096;

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

/// Reads it, but for these documents. A roster is opened only if one of these keys has signed it.
#[must_use]
pub fn read(settled: &BTreeSet<Id>, signers: &[Key]) -> InboxRead {
    read_at(Path::new("/var/lib"), "lockdownd-shipper/inbox", settled, signers)
}

/// Above `root` nobody but root can write.
fn read_at(root: &Path, name: &str, settled: &BTreeSet<Id>, signers: &[Key]) -> InboxRead {
    let directory = match open(root, name) {
        Ok(Some(directory)) => directory,
        // Nothing was ever fetched.
        Ok(None) => return InboxRead::default(),
        Err(error) => return InboxRead { unread: Some(error.to_string()), ..InboxRead::default() },
    };
    let mut inbox = Inbox { read: InboxRead::default(), chosen: Vec::new(), left: MAX_PASS };
    match names(&directory) {
        Ok(present) => inbox.read.present = present,
        Err(error) => inbox.read.unread = Some(error.to_string()),
    }
    let signers: Vec<&Key> = signers.iter().collect();
    for id in inbox.read.present.clone().into_iter().filter(|id| !settled.contains(id)) {
        inbox.take(&directory, id, &signers);
    }
    inbox.leave_rosters_unless_all(|present| names(&directory).is_ok_and(|now| now.is_subset(present)));
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
type Rank = (u8, u64);
const CLOSES: u8 = 0;
const ROSTER: u8 = 1;
const OPENS: u8 = 2;

impl Inbox {
    fn take(&mut self, directory: &OwnedFd, id: Id, signers: &[&Key]) {
        let bytes = match read_file(directory, &format!("{id}.json"), MAX_ROSTER_ENVELOPE as u64) {
            Ok(Some(bytes)) if bytes.len() > self.left => return self.read.more = true,
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(error) => return self.read.bad.push((id, error.to_string())),
        };
        self.left -= bytes.len();
        let envelope = match opened(&bytes, signers) {
            Ok(envelope) if envelope.document().id() == id => envelope,
            Ok(envelope) => {
                let why = format!("the file is named after {id}, and its document is {}", envelope.document().id());
                return self.read.bad.push((id, why));
            }
            Err(why) => return self.read.bad.push((id, why)),
        };
        self.choose((rank(&envelope), envelope));
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

fn rank(envelope: &Envelope) -> Rank {
    match envelope.document().body() {
        Body::Revoke(_) | Body::Lockdown(_) | Body::Lift(_) => (CLOSES, 0),
        Body::Roster(roster) => (ROSTER, roster.version.number()),
        Body::Grant(_) | Body::Session(_) | Body::Feed(_) | Body::Run(_) => (OPENS, 0),
    }
}

fn opened(bytes: &[u8], signers: &[&Key]) -> Result<Envelope, String> {
    let sealed = Sealed::parse(bytes).map_err(|error| error.to_string())?;
    if sealed.kind() == Kind::Roster && !sealed.is_signed_by_any(signers) {
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

/// The documents there: names of 64 hex digits with `.json`. What is named otherwise is not ours.
fn names(directory: &OwnedFd) -> io::Result<BTreeSet<Id>> {
    let mut present = BTreeSet::new();
    let mut listing =
        Dir::openat(directory, ".", OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in listing.iter().take(MAX_ENTRIES) {
        let entry = entry?;
        let name = entry.file_name().to_str().ok().and_then(|name| name.strip_suffix(".json"));
        if let Some(id) = name.and_then(|name| name.parse::<Id>().ok()) {
            present.insert(id);
        }
        if present.len() == MAX_DOCUMENTS {
            break;
        }
    }
    Ok(present)
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
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";

    fn revoke(reason: &str) -> Envelope {
        let line = format!(
            "{{\"grant\":\"{}\",\"issued_at\":\"2026-11-30T18:00:00Z\",\"organization\":\"acme\",\"reason\":\"{reason}\",\"type\":\"revoke\",\"v\":1}}",
            "a".repeat(64)
        );
        Envelope::new(document::Document::parse(&line).expect("a document"), Vec::new()).expect("an envelope")
    }

    fn put(directory: &Path, envelope: &Envelope) {
        let name = format!("{}.json", envelope.document().id());
        fs::write(directory.join(name), envelope.to_json()).expect("written");
    }

    #[test]
    fn what_is_there_is_read_some_at_a_time_and_what_is_settled_is_not() {
        let inbox = tempfile::tempdir().expect("a directory");
        assert_eq!(read_at(inbox.path(), "none", &BTreeSet::new(), &[]).present.len(), 0);
        let all: Vec<Envelope> = (0..MAX_A_PASS + 3).map(|n| revoke(&n.to_string())).collect();
        all.iter().for_each(|envelope| put(inbox.path(), envelope));
        let first = read_at(inbox.path(), ".", &BTreeSet::new(), &[]);
        assert_eq!((first.present.len(), first.offered.len(), first.more), (all.len(), MAX_A_PASS, true));
        let settled = first.offered.iter().map(|envelope| envelope.document().id()).collect();
        let rest = read_at(inbox.path(), ".", &settled, &[]);
        assert_eq!((rest.present.len(), rest.offered.len(), rest.more), (all.len(), 3, false));
    }

    #[test]
    fn what_closes_is_judged_before_a_roster_that_its_signer_may_have_left_with_and_nothing_opens_before_both() {
        let rank_of = |class: u8, number: u64| ((class, number), revoke(&format!("{class} {number}")));
        let mut inbox = Inbox { read: InboxRead::default(), chosen: Vec::new(), left: MAX_PASS };
        let all = [(OPENS, 0), (ROSTER, 3), (CLOSES, 0), (ROSTER, 2), (OPENS, 0), (CLOSES, 0)];
        for (class, number) in all {
            inbox.choose(rank_of(class, number));
        }
        let ranks: Vec<Rank> = inbox.chosen.iter().map(|(rank, _)| *rank).collect();
        assert_eq!(ranks, [(CLOSES, 0), (CLOSES, 0), (ROSTER, 2)]);
        assert!(inbox.read.more);
        inbox.leave_rosters_unless_all(|_| true);
        assert_eq!(inbox.chosen.len(), 3);
        inbox.leave_rosters_unless_all(|_| false);
        assert_eq!(inbox.chosen.len(), 2, "what came meanwhile may close");
    }

    #[test]
    fn nothing_but_a_document_under_its_own_name_is_taken() {
        let inbox = tempfile::tempdir().expect("a directory");
        let (good, other) = (revoke("a"), revoke("b"));
        let named = |id: &str| inbox.path().join(format!("{id}.json"));
        fs::write(named(&"0".repeat(64)), good.to_json()).expect("written");
        fs::write(named(&"1".repeat(64)), "{").expect("written");
        fs::write(inbox.path().join("elsewhere"), other.to_json()).expect("written");
        symlink(inbox.path().join("elsewhere"), named(&other.document().id().to_string())).expect("a link");
        nix::unistd::mkfifo(&named(&"2".repeat(64)), Mode::S_IRWXU).expect("a FIFO");
        fs::write(named("notes"), "{}").expect("written");
        let roster = document::Document::parse(
            "{\"approvers\":[],\"expires_at\":\"2027-11-30T18:00:00Z\",\"feeders\":[],\"holds\":[],\"issued_at\":\"2026-11-30T18:00:00Z\",\"organization\":\"acme\",\"people\":[],\"rules\":[],\"type\":\"roster\",\"v\":1,\"version\":1}",
        );
        put(inbox.path(), &Envelope::new(roster.expect("a roster"), Vec::new()).expect("an envelope"));
        let read = read_at(inbox.path(), ".", &BTreeSet::new(), &[KEY.parse().expect("a key")]);
        assert!(read.offered.is_empty() && !read.more, "{read:?}");
        assert_eq!((read.present.len(), read.bad.len()), (5, 5), "{read:?}");
        assert!(read.bad.iter().any(|(_, why)| why.contains("no key in [stack.roster] has signed")), "{read:?}");
    }
}
