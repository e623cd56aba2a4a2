//! The disk thread: the one thread that waits for the disk that state and ledger are on.
//!
//! It does one piece of work after the other, in the order in which they were given. Nobody waits for it: what it has done
//! comes back as a reason to act. So a disk that stands still holds up neither an end nor a login nor an operator. It begins
//! with reading what the last run left ([`Opener`]), and tries that until it succeeds.

mod opening;
pub(crate) mod owed;

use std::{
    fs::File,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lockdown_core::machine::recorder::{Commit, Known, NotWritten, Room, Snapshot, Written};
use nix::{
    fcntl::Flock,
    sched::{CloneFlags, unshare},
};
use record::Draft;

pub(crate) use self::opening::{ENDED, GRANTS_COPY, copied_grants, identity_by, keeping};
pub use self::opening::{Found, Left, NotOpened, Opener};
use crate::{
    grants::{self, GrantsFile},
    ledger::{self, Ledger, View, describe},
    trigger::Reason,
};

/// How long until opening the store is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(2);

/// What the disk thread works on.
#[derive(Debug)]
pub struct Store {
    /// The ledger.
    pub ledger: Ledger,
    grants: GrantsFile,
    failing: Option<String>,
    /// Whether the grants could not be saved when that was tried last.
    unsaved: bool,
    /// Held for as long as the store is open.
    _lock: Option<Flock<File>>,
}

/// Opens the store; tried again after an error, which says why.
pub(crate) type Open = Box<dyn FnMut() -> Result<(Store, Left), NotOpened> + Send>;

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
    Opened(Box<Left>),
    Written(Written),
    Brought(Option<Box<Reason>>),
}

/// What the thread tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// Why the store could not be opened. It is tried again.
    NotOpened(NotOpened),
    /// What came of opening it or of the last piece of work, and the ledger since.
    Done(Box<(Done, View, Known)>),
}

/// What the thread leaves for whoever gave it the work.
#[derive(Debug, Default)]
struct Desk {
    told: Mutex<Option<Told>>,
    changed: Condvar,
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
        Self { ledger, grants, failing: None, unsaved: false, _lock: None }
    }

    /// With a lock that is held for as long as it is open.
    fn with_lock(self, lock: Flock<File>) -> Self {
        Self { _lock: Some(lock), ..self }
    }

    /// What is known of the ledger now.
    #[must_use]
    pub fn known(&self) -> Known {
        let view = self.ledger.view();
        Known {
            head: view.head.seq,
            owed: view.owed,
            failing: self.failing.clone(),
            acknowledged: view.acknowledged,
            full: view.full,
        }
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
            (Some(_), Err(error)) => Err(NotWritten::Failed(describe(&error))),
            (Some((drafts, room)), Ok(())) => self.append(drafts, room, now).map_err(|error| match error {
                ledger::Error::Full(full) => NotWritten::Full(full),
                error => NotWritten::Failed(describe(&error)),
            }),
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
    /// Starts the thread, which opens the store first. `wake` is called whenever there is something told.
    ///
    /// # Errors
    /// What `thread::Builder::spawn` says.
    pub(crate) fn start(mut open: Open, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let (tasks, to_do) = mpsc::channel::<Task>();
        let its = Arc::clone(&desk);
        let thread = thread::Builder::new().name("disk".to_owned()).spawn(move || {
            // Descriptors of its own: the lock on the state goes with this thread, whatever another one of a daemon that was
            // killed still waits for. No work that it is given holds a descriptor that was opened elsewhere.
            if let Err(error) = unshare(CloneFlags::CLONE_FILES) {
                tracing::warn!(%error, "a thread that hangs keeps the state from the next daemon");
            }
            let tell = |told: Told| {
                *its.lock() = Some(told);
                its.changed.notify_all();
                wake();
            };
            let mut store = loop {
                match open() {
                    Ok((store, left)) => {
                        tell(Told::Done(Box::new((Done::Opened(Box::new(left)), store.ledger.view(), store.known()))));
                        break store;
                    }
                    Err(why) => tell(Told::NotOpened(why)),
                }
                thread::sleep(OPEN_AGAIN);
            };
            for task in to_do {
                let done = store.carry_out(task);
                tell(Told::Done(Box::new((done, store.ledger.view(), store.known()))));
            }
        })?;
        Ok(Self { tasks, desk, thread })
    }

    /// Gives it one piece of work. The caller waits for what came of the one before.
    pub(crate) fn give(&self, task: Task) {
        // The thread ends after this sender alone, unless it has panicked: then nothing is ever done, and that is told.
        let _ = self.tasks.send(task);
    }

    /// What it has told last, once.
    pub(crate) fn told(&self) -> Option<Told> {
        self.desk.lock().take()
    }

    /// Waits until there is something told, this long at most.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        let mut told = self.desk.lock();
        while told.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            told = self.desk.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether its thread runs.
    pub(crate) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Option<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
