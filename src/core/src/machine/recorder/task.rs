//! What the disk thread is given to do, and what came of it.

use std::time::Duration;

use jiff::Timestamp;
use record::{Draft, GrantId};

use crate::{
    grants::Kept,
    machine::{covered::Covered, documents::KeptDocuments, on_disk::First},
};

/// A statement, and when what it states was.
pub type Stated = (Timestamp, Draft);

/// The grants as they are to be on disk.
#[derive(Debug)]
pub struct Snapshot {
    /// The grants.
    pub kept: Kept,
    /// Those that had ended and were not on disk as such.
    pub ended: Vec<GrantId>,
    /// What is known of signed documents, where that has changed. It is on disk after the grants, and before statements.
    pub documents: Option<KeptDocuments>,
}

impl Snapshot {
    /// It takes the place of an earlier one that was not written: what that has of documents is still to be.
    pub(super) fn after(mut self, earlier: Option<Self>) -> Self {
        let Some(KeptDocuments { state, rosters }) = earlier.and_then(|earlier| earlier.documents) else { return self };
        match &mut self.documents {
            Some(documents) => documents.rosters = documents.rosters.take().or(rosters),
            None => self.documents = Some(KeptDocuments { state, rosters }),
        }
        self
    }
}

/// What a statement may use of the room that the ledger has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// What is not reserved: a new grant.
    Free,
    /// What is reserved, too: a login that a grant backs.
    Reserved,
}

/// What is written at once: the grants first, then statements.
#[derive(Debug, Default)]
pub struct Commit {
    /// The grants.
    pub state: Option<Snapshot>,
    /// Statements on what has happened. What cannot be written is owed.
    pub noted: Vec<Stated>,
    /// How many more there were, from when on.
    pub lost: Option<(u64, Timestamp)>,
    /// Statements on what happens once they are on disk, and not before. They are not written where the grants are not.
    pub first: Option<(Vec<Draft>, Room)>,
}

/// Why no new grant is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// `ledger.max_size` is reached.
    #[error("the ledger has reached its max_size with records that no server has acknowledged")]
    MaxSize,
    /// The file system has no room, and the reserve is in use.
    #[error("the disk is full, and the ledger goes on in its reserve")]
    Disk,
}

impl Full {
    /// What would work.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::MaxSize => {
                "see with lockdownctl status why records are not shipped, or raise ledger.max_size, or choose ledger.when_full = \"drop_oldest\", and reload"
            }
            Self::Disk => "make room on the disk that holds /var/lib/lockdownd",
        }
    }
}

/// Why what was to happen does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// The grants were not saved, or the ledger did not take the statement: why.
    #[error("{0}")]
    Failed(String),
    /// The ledger has no room for new grants.
    #[error(transparent)]
    Full(#[from] Full),
    /// The disk did not answer in time.
    #[error("the disk that holds /var/lib/lockdownd does not answer")]
    Slow,
}

/// What came of a commit.
#[derive(Debug)]
pub struct Written {
    /// The ends of grants that are on disk by it; or none, as the grants could not be saved.
    pub ended: Option<Vec<GrantId>>,
    /// Whether all that was noted up to now is on disk.
    pub noted: bool,
    /// Whether the statement that something depends on is.
    pub first: Result<(), NotWritten>,
}

/// Work other than a commit, by the number that whoever carries it out gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkId(pub u64);

/// One piece of work for the disk thread.
#[derive(Debug)]
pub enum Task {
    /// Writes this, as of then.
    Commit(Box<Commit>, Timestamp),
    /// Does this, as of then.
    Work(WorkId, Timestamp),
}

/// What came of one.
#[derive(Debug)]
pub enum Done {
    /// The state could be read, and the ledger is open. Work that has to come before anything else, where there is any.
    Opened(Option<WorkId>),
    /// The state could not be read, and why; it is tried again.
    NotOpened(NotOpened),
    /// A commit.
    Written(Written),
    /// Other work.
    Worked,
}

/// Why the state cannot be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOpened {
    /// A sentence.
    pub why: String,
    /// Whether another start could read it, where this one cannot.
    pub starts_again: bool,
}

/// What is known of the ledger.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The number of its last record.
    pub head: u64,
    /// How many statements wait there to be written.
    pub owed: usize,
    /// Why it cannot be written, while it cannot.
    pub failing: Option<String>,
    /// Up to which record a server has acknowledged all of it; 0 for none.
    pub acknowledged: u64,
    /// Why no new grant can be recorded.
    pub full: Option<Full>,
}

/// What a commit that is done has settled.
#[derive(Debug)]
pub struct Settled {
    /// What came of it.
    pub written: Written,
    /// What is on record by it.
    pub covered: Covered,
    /// What waited for it to take effect.
    pub first: Option<First>,
}

/// How a stall of the disk is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// It has begun.
    Begun,
    /// It is over, after so long.
    Over(Duration),
}
