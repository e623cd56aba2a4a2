//! The disk thread: the one thread that waits for the disk that state and ledger are on.
//!
//! It does one piece of work after the other, in the order in which they were given. Nobody waits for it: what it has done
//! comes back as a reason to act. So a disk that stands still holds up neither an end nor a login nor an operator.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use record::Draft;

use crate::{
    grants::{self, GrantsFile, Snapshot},
    ledger::{self, Ledger, View},
    trigger::Reason,
};

/// What the disk thread works on.
#[derive(Debug)]
pub struct Store {
    /// The ledger.
    pub ledger: Ledger,
    grants: GrantsFile,
    failing: Option<String>,
    /// Whether the grants could not be saved when that was tried last.
    unsaved: bool,
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
    /// Statements on what has happened, each with its time. What cannot be written is owed.
    pub noted: Vec<(Timestamp, Draft)>,
    /// How many more there were, from when on.
    pub lost: Option<(u64, Timestamp)>,
    /// A statement on what happens once it is on disk, and not before. It is not written where the grants are not.
    pub first: Option<(Draft, Room)>,
}

/// Why what was to happen does not.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// The grants were not saved.
    #[error(transparent)]
    Grants(#[from] grants::Error),
    /// The ledger did not take it.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The disk did not answer in time.
    #[error("the disk that holds /var/lib/lockdownd does not answer")]
    Slow,
}

/// What came of a commit.
#[derive(Debug)]
pub struct Written {
    /// The ends of grants that are on disk by it; or none, as the grants could not be saved.
    pub ended: Option<Vec<record::GrantId>>,
    /// Whether all that was noted up to now is on disk.
    pub noted: bool,
    /// Whether the statement that something depends on is.
    pub first: Result<(), NotWritten>,
}

/// Work other than a commit; what it brings is acted on.
pub type Work = Box<dyn FnOnce(&mut Store) -> Option<Reason> + Send>;

/// One piece of work.
pub(crate) enum Task {
    Commit(Box<Commit>, Timestamp),
    Work(Work, Timestamp),
}

/// What came of one.
#[derive(Debug)]
pub(crate) enum Done {
    Written(Written),
    Brought(Option<Box<Reason>>),
}

/// What the thread leaves for whoever gave it the work.
#[derive(Debug)]
struct Desk {
    done: Mutex<Option<(Done, Known)>>,
    told: Condvar,
}

/// What is known of the ledger.
#[derive(Debug, Clone)]
pub struct Known {
    /// How far it goes.
    pub view: View,
    /// Why it cannot be written, while it cannot.
    pub failing: Option<String>,
}

/// The end that gives work.
#[derive(Debug)]
pub struct Disk {
    tasks: mpsc::Sender<Task>,
    desk: Arc<Desk>,
    thread: thread::JoinHandle<()>,
}

impl Store {
    /// The ledger, and where the grants are kept.
    #[must_use]
    pub fn new(ledger: Ledger, grants: GrantsFile) -> Self {
        Self { ledger, grants, failing: None, unsaved: false }
    }

    /// What is known of the ledger now.
    #[must_use]
    pub fn known(&self) -> Known {
        Known { view: self.ledger.view(), failing: self.failing.clone() }
    }

    /// Writes, and waits until it is on disk.
    pub fn commit(&mut self, commit: Commit, now: Timestamp) -> Written {
        let Commit { state, noted, lost, first } = commit;
        let saved = state.map_or(Ok(None), |state| self.save(state).map(Some));
        if let Some((count, since)) = lost {
            self.ledger.lost(count, since, "the disk did not answer");
        }
        let noted = match noted.is_empty() && self.ledger.owed() == 0 {
            true => true,
            false => {
                let written = self.ledger.append_or_owe(noted, now).map(drop);
                self.tell(written).is_ok()
            }
        };
        let (ended, saved) = match saved {
            Ok(ended) => (Some(ended.unwrap_or_default()), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let first = match (first, saved) {
            (None, _) => Ok(()),
            (Some(_), Err(error)) => Err(error.into()),
            (Some((draft, room)), Ok(())) => self.append(vec![draft], room, now).map_err(Into::into),
        };
        Written { ended, noted, first }
    }

    /// Saves the grants, and says when that begins to fail.
    fn save(&mut self, state: Snapshot) -> Result<Vec<record::GrantId>, grants::Error> {
        let saved = self.grants.save(state);
        if let Err(error) = &saved
            && !self.unsaved
        {
            tracing::error!(%error, "the grants could not be saved; it is tried again");
        }
        self.unsaved = saved.is_err();
        saved
    }

    /// Records these statements, all or none.
    ///
    /// # Errors
    /// None of them is on disk, and none will be.
    pub fn append(&mut self, drafts: Vec<Draft>, room: Room, now: Timestamp) -> Result<(), ledger::Error> {
        let written = match room {
            Room::Free => self.ledger.append(drafts, now),
            Room::Reserved => self.ledger.append_needed(drafts, now),
        };
        match written.map(drop) {
            // What is reserved works: the ledger does not fail, it is full, which is told elsewhere.
            Err(full @ ledger::Error::Full(_)) if room == Room::Free => Err(full),
            written => self.tell(written),
        }
    }

    /// Says when the ledger begins to fail, and when it works again.
    fn tell(&mut self, written: Result<(), ledger::Error>) -> Result<(), ledger::Error> {
        match &written {
            Ok(()) if self.failing.take().is_some() => tracing::info!("the ledger can be written again"),
            Ok(()) => {}
            Err(error) => {
                if self.failing.replace(error.to_string()).is_none() {
                    tracing::error!(%error, "the ledger cannot be written: no new grant and no login until it can; removals and endings go on");
                }
            }
        }
        written
    }

    /// Makes room where there is none, as the policy says.
    fn keep_room(&mut self, now: Timestamp) {
        if self.ledger.room_for_grants().is_err()
            && let Err(error) = self.ledger.make_room(now)
        {
            tracing::error!(%error, "no room could be made in the ledger");
        }
    }

    fn carry_out(&mut self, task: Task) -> Done {
        let (done, now) = match task {
            Task::Commit(commit, now) => (Done::Written(self.commit(*commit, now)), now),
            Task::Work(work, now) => (Done::Brought(work(self).map(Box::new)), now),
        };
        self.keep_room(now);
        done
    }
}

impl Disk {
    /// Starts the thread. `wake` is called whenever something is done.
    ///
    /// # Errors
    /// What `thread::Builder::spawn` says.
    pub(crate) fn start(mut store: Store, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let desk = Arc::new(Desk { done: Mutex::new(None), told: Condvar::new() });
        let (tasks, to_do) = mpsc::channel::<Task>();
        let its = Arc::clone(&desk);
        let thread = thread::Builder::new().name("disk".to_owned()).spawn(move || {
            for task in to_do {
                let done = store.carry_out(task);
                *its.lock() = Some((done, store.known()));
                its.told.notify_all();
                wake();
            }
        })?;
        Ok(Self { tasks, desk, thread })
    }

    /// Gives it one piece of work. The caller waits for what came of the one before.
    pub(crate) fn give(&self, task: Task) {
        // The thread ends after this sender alone, unless it has panicked: then nothing is ever done, and that is told.
        let _ = self.tasks.send(task);
    }

    /// What came of the last piece of work, once it is done.
    pub(crate) fn done(&self) -> Option<(Done, Known)> {
        self.desk.lock().take()
    }

    /// Waits until there is something done, this long at most.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        let mut done = self.desk.lock();
        while done.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            done = self.desk.told.wait_timeout(done, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether its thread runs.
    pub(crate) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Option<(Done, Known)>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
