//! The host's sequence of records on disk: sign, append, sync, rotate, keep. The only holder of the signing key.
//!
//! It knows nothing of grants beyond their ids, never deletes but what retention has outlived (and says so first), and
//! never signs two lines with one number: what a failed write may have left is taken back before the next.

mod aside;
mod files;
mod inspect;
mod keeping;
mod key;
mod opening;
mod prune;
mod put_back;
mod segment;
mod signer;
mod view;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use record::{ArtifactType, Draft, DraftError, Hash, Host, LedgerId, Line, SealError};

pub use self::{
    files::Paths,
    inspect::{Recorded, RecordedLogin},
    keeping::{DISK_RESERVE, Full, Keeping, MIN_RESERVE},
    opening::{Opened, Opening},
    prune::PRUNE_AT_MOST,
    view::View,
};
use self::{inspect::day_of, keeping::Reserve, put_back::PutBack, segment::Segment, signer::Signer};
pub use lockdown_core::machine::recorder::MAX_OWED;

/// Writes a small file that root and the shipper may read.
pub(crate) fn write_for_shipper(path: &std::path::Path, bytes: &[u8]) -> Result<(), Error> {
    files::replace(path, bytes, files::Readers::Shipper)
}

use crate::journal::Journal;

/// A segment is closed once it is this long, in bytes; and daily.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// What went wrong with the ledger. Nothing of what was to be appended is on disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The signing key cannot be used.
    #[error(
        "{path} is not an OpenSSH ed25519 private key without a passphrase: {why}; move it away, and a new key and ledger will begin"
    )]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// Nothing is there, and there was a ledger earlier in this boot.
    #[error(
        "{state} is empty, and had a ledger earlier in this boot: mount the disk that has it, or, to begin a new ledger, remove {durable}"
    )]
    Gone {
        /// Where it was.
        state: PathBuf,
        /// What says that it was.
        durable: PathBuf,
    },
    /// A draft that no record can hold: a mistake in the program.
    #[error("a statement that no record can hold")]
    Draft(#[from] DraftError),
    /// Signing failed, or did not hold.
    #[error("a record could not be signed")]
    Seal(#[from] SealError),
    /// There is no room for what may be withheld, or for anything at all.
    #[error(transparent)]
    Full(#[from] Full),
}

/// How far the ledger goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last record's number.
    pub seq: u64,
    /// The hash of its line.
    pub hash: Hash,
}

/// What a statement may use of the room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It can be withheld: nothing that is reserved.
    Withholdable,
    /// What it states happens in any case: what is reserved, and no more.
    Unavoidable,
    /// It says what goes: room comes of it.
    ToMakeRoom,
}

impl Need {
    fn may_spend(self) -> bool {
        self != Self::Withholdable
    }
}

/// Statements that could not be written when they were made.
#[derive(Debug, Default)]
struct Owed {
    drafts: VecDeque<(Timestamp, Draft)>,
    /// What became of the open segment's file.
    put_back: Vec<(Timestamp, PutBack)>,
    lost: u64,
    since: Option<(Timestamp, String)>,
}

/// The open ledger.
#[derive(Debug)]
pub struct Ledger {
    paths: Paths,
    signer: Signer,
    keeping: Keeping,
    acknowledged: u64,
    head: Head,
    segment: Segment,
    segment_bytes: u64,
    /// Bytes of every segment but the open one.
    closed_bytes: u64,
    reserve: Reserve,
    owed: Owed,
    journal: Option<Journal>,
}

impl Ledger {
    /// Records these statements, in order, all or none: signed, written and synced when this returns. Statements that
    /// are owed from before go first. Then `durable` is advanced, and each line handed to the journal. For what can be
    /// withheld, a new grant: it never touches what is reserved.
    ///
    /// # Errors
    /// Whatever keeps them from disk; then none of them is recorded, and the ledger is as it was.
    pub fn append(&mut self, drafts: Vec<Draft>, now: Timestamp) -> Result<Head, Error> {
        self.room_for_grants()?;
        self.put(&at_once(drafts, now), now, Need::Withholdable)
    }

    /// The same for what may use the reserve: what happens in any case, and a login that a grant of before backs.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub fn append_needed(&mut self, drafts: Vec<Draft>, now: Timestamp) -> Result<Head, Error> {
        self.put(&at_once(drafts, now), now, Need::Unavoidable)
    }

    fn put(&mut self, drafts: &[(Timestamp, Draft)], now: Timestamp, need: Need) -> Result<Head, Error> {
        self.check_segment(now, need)?;
        let mut bodies = Vec::new();
        let with_owed = need != Need::ToMakeRoom;
        let mut reports: Vec<_> = self.report_of_failure().into_iter().map(|report| (now, report)).collect();
        reports.extend(self.owed.put_back.iter().map(|(then, found)| (*then, found.draft(self.public_key()))));
        let reports = reports.iter().filter(|_| with_owed).map(|(then, report)| (*then, report));
        let owed = self.owed.drafts.iter().filter(|_| with_owed).map(|(then, draft)| (*then, draft));
        for (time, draft) in reports.chain(owed).chain(drafts.iter().map(|(then, draft)| (*then, draft))) {
            bodies.extend(draft.bodies()?.into_iter().map(|body| (time, body)));
        }
        if bodies.is_empty() {
            return Ok(self.head);
        }
        self.rotate_if_due(now, need)?;
        let (lines, _) = self.signer.seal(self.head, &bodies)?;
        let text = text_of(&lines);
        if need != Need::ToMakeRoom && self.is_beyond(text.len()) {
            return Err(Full::MaxSize.into());
        }
        self.write(&text, need)?;
        if with_owed {
            self.owed = Owed::default();
        }
        self.advance(&lines);
        self.owe_put_back(now);
        Ok(self.head)
    }

    /// The same for what has happened already and cannot be withheld: a removal, an end, a refusal. If it cannot be
    /// written now it is owed, with the time of each, and goes ahead of the next that can.
    ///
    /// # Errors
    /// As [`Ledger::append`]; the statements are then owed, up to [`MAX_OWED`]. A draft that no record can hold is dropped.
    pub fn append_or_owe(&mut self, drafts: Vec<(Timestamp, Draft)>, now: Timestamp) -> Result<Head, Error> {
        self.put(&drafts, now, Need::Unavoidable).inspect_err(|error| {
            self.owed.since.get_or_insert_with(|| (now, describe(error)));
            for (then, draft) in drafts.into_iter().filter(|(_, draft)| draft.bodies().is_ok()) {
                if self.owed.drafts.len() < MAX_OWED {
                    self.owed.drafts.push_back((then, draft));
                } else {
                    self.owed.lost += 1;
                }
            }
        })
    }

    /// So many statements were lost before they came here: the next record that can be written says so.
    pub fn lost(&mut self, count: u64, since: Timestamp, why: &str) {
        self.owed.lost += count;
        self.owed.since.get_or_insert_with(|| (since, why.to_owned()));
    }

    /// How many statements wait to be written.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed.drafts.len() + self.owed.put_back.len()
    }

    /// How far the ledger is on disk.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The ledger's id.
    #[must_use]
    pub fn id(&self) -> &LedgerId {
        &self.signer.ledger
    }

    /// The host whose ledger it is.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.signer.host
    }

    /// The public key that verifies it, as a line of OpenSSH's format.
    #[must_use]
    pub fn public_key(&self) -> String {
        self.signer.public_key()
    }

    /// Waits until journald has taken every record so far, or this long. Whether it has.
    #[must_use]
    pub fn flush_journal(&self, most: Duration) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.flush(most))
    }

    /// What can be known of it without it: how far it goes, and its records.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            id: self.signer.ledger.clone(),
            host: self.signer.host.clone(),
            public_key: self.public_key(),
            head: self.head,
            acknowledged: self.acknowledged,
            full: self.full(),
            owed: self.owed(),
            paths: self.paths.clone(),
            keeping: self.keeping,
        }
    }

    /// After statements could not be written: the record that says so.
    fn report_of_failure(&self) -> Option<Draft> {
        let (since, error) = self.owed.since.as_ref()?;
        let (owed, lost) = (self.owed.drafts.len(), self.owed.lost);
        let reason =
            format!("the ledger could not be written since {since:.0}: {owed} statements follow late, {lost} are lost");
        let draft = Draft::new(ArtifactType::LedgerOpened, reason)
            .with("public_key", self.public_key())
            .with("break", format!("writing failed: {error}"))
            .with("late", owed)
            .with("lost", lost);
        Some(draft)
    }

    fn rotate_if_due(&mut self, now: Timestamp, need: Need) -> Result<(), Error> {
        if !self.segment.cut && self.segment.len < self.segment_bytes && day_of(now) <= self.segment.day {
            return Ok(());
        }
        let body = segment_draft(&self.public_key(), self.head)
            .bodies()?
            .into_iter()
            .map(|body| (now, body))
            .collect::<Vec<_>>();
        let (lines, _) = self.signer.seal(self.head, &body)?;
        let (next, day, text) = (self.head.seq + 1, day_of(now), text_of(&lines));
        let begun = match Segment::begin(&self.paths, next, day, &text) {
            Err(error) if need.may_spend() && error.is_full_disk() && self.reserve.spend() => {
                Segment::begin(&self.paths, next, day, &text)?
            }
            begun => begun?,
        };
        self.closed_bytes += self.segment.len;
        self.segment = begun;
        self.advance(&lines);
        Ok(())
    }

    /// The lines are on disk: the head moves, readers may read, the journal is told.
    fn advance(&mut self, lines: &[Line]) {
        if let Some(last) = lines.last() {
            self.head = Head { seq: last.seq(), hash: last.hash() };
        }
        self.publish();
        if let Some(journal) = &self.journal {
            lines.iter().for_each(|line| journal.record(line));
        }
    }

    /// Says how far the ledger is on disk. Failing to costs shipping a delay, and nothing else.
    fn publish(&self) {
        let path = self.paths.durable();
        let text = serde_json::json!({ "ledger": self.signer.ledger, "seq": self.head.seq, "hash": self.head.hash.to_string() });
        if let Err(error) = files::replace_fleeting(&path, format!("{text}\n").as_bytes()) {
            tracing::warn!(path = %path.display(), %error, "cannot say how far the ledger is on disk");
        }
    }
}

/// What `durable` says: the ledger, and how far it was on disk.
fn durable(path: &Path) -> Option<(LedgerId, u64, Hash)> {
    let text = files::read_small(path).ok()??;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    let word = |name: &str| value.get(name)?.as_str();
    Some((word("ledger")?.parse().ok()?, value.get("seq")?.as_u64()?, word("hash")?.parse().ok()?))
}

fn at_once(drafts: Vec<Draft>, now: Timestamp) -> Vec<(Timestamp, Draft)> {
    drafts.into_iter().map(|draft| (now, draft)).collect()
}

fn text_of(lines: &[Line]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.as_str().bytes()).collect()
}

fn segment_draft(public_key: &str, head: Head) -> Draft {
    Draft::new(ArtifactType::LedgerSegment, format!("a segment begins after record {}", head.seq))
        .with("public_key", public_key)
        .with("previous", serde_json::json!({ "seq": head.seq, "hash": head.hash.to_string() }))
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
