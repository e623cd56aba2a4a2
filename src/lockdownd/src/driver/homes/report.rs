//! The reporting thread: settles what was removed, then tells it, in order. Everything slow happens here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender},
    },
    time::Duration,
};

use jiff::Timestamp;
use lockdown_core::keys::file::Survey;
use lockdown_host::{
    accounts::AccountName,
    quarantine::{Arrival, MAX_FINGERPRINTS, QuarantineError, Settler},
    writers::Writers,
};
use record::Fingerprint;

use super::{Finding, MAX_STANDING_PER_ACCOUNT, MAX_UNSETTLED_PER_ACCOUNT, MAX_UNTOLD, Removed, Standing};

/// What the homes thread hands over. What a user can cause is bounded per account by the [`Backlog`], the rest by
/// [`MAX_UNTOLD`].
#[derive(Debug)]
pub(super) enum Job {
    /// Settle this, tell it, and free its place in the backlog.
    Settle(Box<Arrival>, Arc<Backlog>),
    /// Tell what could not be kept.
    Unkept(Arc<Backlog>),
    /// Tell what stands in observe.
    Standing(Arc<Backlog>),
    /// Tell this.
    Tell(Finding),
    /// Nothing comes any more, but from threads that hang.
    End,
}

/// What one unit has waiting.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) whose: Option<AccountName>,
    unsettled: AtomicUsize,
    unkept: Mutex<Unkept>,
    /// What stands and has not been told, as it was last, and how often it changed.
    standing: Mutex<BTreeMap<PathBuf, (Standing, u64)>>,
}

/// Whether a standing file will be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is the first since they were last told: a [`Job::Standing`] has to be sent.
    First,
    /// With those that wait.
    Waits,
    /// Too many wait: it has to be noted again by a later look.
    Full,
}

/// Removals that were too many to be kept.
#[derive(Debug, Default)]
struct Unkept {
    times: u64,
    path: PathBuf,
    fingerprints: BTreeSet<Fingerprint>,
    more: u64,
}

impl Backlog {
    pub(super) fn new(whose: Option<AccountName>) -> Self {
        Self { whose, ..Self::default() }
    }

    /// Whether one more removal may be kept.
    pub(super) fn has_room(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed) < MAX_UNSETTLED_PER_ACCOUNT
    }

    pub(super) fn enter(&self) {
        self.unsettled.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a removal that is not kept. Answers whether it is the first since they were last told: then a
    /// [`Job::Unkept`] has to be sent.
    pub(super) fn note_unkept(&self, path: PathBuf, survey: Survey) -> bool {
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        unkept.times += 1;
        unkept.path = path;
        unkept.more += survey.more;
        for fingerprint in survey.fingerprints {
            if unkept.fingerprints.len() < MAX_FINGERPRINTS || unkept.fingerprints.contains(&fingerprint) {
                unkept.fingerprints.insert(fingerprint);
            } else {
                unkept.more += 1;
            }
        }
        unkept.times == 1
    }

    /// Notes a file that stands: of each path the last state waits to be told, with the number of changes.
    pub(super) fn note_standing(&self, standing: Standing) -> Noted {
        let mut waiting = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.is_empty();
        if let Some((last, times)) = waiting.get_mut(&standing.path) {
            (*last, *times) = (standing, *times + 1);
            return Noted::Waits;
        }
        if waiting.len() >= MAX_STANDING_PER_ACCOUNT {
            return Noted::Full;
        }
        waiting.insert(standing.path.clone(), (standing, 1));
        if is_first { Noted::First } else { Noted::Waits }
    }

    fn take_standing(&self) -> impl Iterator<Item = Finding> {
        let waiting = std::mem::take(&mut *self.standing.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_values().map(|(standing, times)| Finding::WouldRemove { standing, times })
    }

    fn take_unkept(&self) -> Option<Finding> {
        let unkept = std::mem::take(&mut *self.unkept.lock().unwrap_or_else(PoisonError::into_inner));
        (unkept.times > 0).then(|| Finding::RemovedUnkept {
            whose: self.whose.clone(),
            times: unkept.times,
            path: unkept.path,
            fingerprints: unkept.fingerprints.into_iter().collect(),
            more: unkept.more,
        })
    }
}

/// The thread's state.
pub(super) struct Reporter {
    settler: Settler,
    writers: Arc<Writers>,
    tell: Box<dyn FnMut(Finding) + Send>,
    untold: Arc<AtomicUsize>,
}

/// The way to the reporting thread.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    jobs: Sender<Job>,
    /// How many findings wait that no backlog counts.
    untold: Arc<AtomicUsize>,
}

impl Outbox {
    pub(super) fn new(jobs: Sender<Job>, untold: Arc<AtomicUsize>) -> Self {
        Self { jobs, untold }
    }

    /// How many more findings may wait that no backlog counts.
    pub(super) fn room(&self) -> usize {
        MAX_UNTOLD.saturating_sub(self.untold.load(Ordering::Relaxed))
    }

    pub(super) fn send(&self, job: Job) {
        if matches!(job, Job::Tell(_)) {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
        // The reporting thread outlives the other; if it panicked, `Homes::is_alive` says so.
        let _ = self.jobs.send(job);
    }
}

impl Reporter {
    pub(super) fn new(settler: Settler, writers: Arc<Writers>, tell: Box<dyn FnMut(Finding) + Send>) -> Self {
        Self { settler, writers, tell, untold: Arc::default() }
    }

    /// The way to this thread, once it runs, by this sender.
    pub(super) fn outbox(&self, jobs: Sender<Job>) -> Outbox {
        Outbox::new(jobs, Arc::clone(&self.untold))
    }

    /// What a crash left to be settled.
    pub(super) fn leftovers(&self, now: Timestamp) -> Result<Vec<Arrival>, QuarantineError> {
        self.settler.leftovers(now)
    }

    /// Settles the leftovers, then every job, until the homes thread has ended.
    pub(super) fn run(mut self, leftovers: Vec<Arrival>, jobs: &Receiver<Job>) {
        for arrival in leftovers {
            let name = (!arrival.account.is_empty()).then(|| AccountName::parse(arrival.account.as_bytes()));
            self.settle(&arrival, name);
        }
        for job in jobs {
            match job {
                Job::Settle(arrival, backlog) => {
                    self.settle(&arrival, backlog.whose.clone());
                    backlog.unsettled.fetch_sub(1, Ordering::Relaxed);
                }
                Job::Unkept(backlog) => {
                    if let Some(finding) = backlog.take_unkept() {
                        (self.tell)(finding);
                    }
                }
                Job::End => return,
                Job::Standing(backlog) => backlog.take_standing().for_each(&mut self.tell),
                Job::Tell(finding) => {
                    (self.tell)(finding);
                    self.untold.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn settle(&mut self, arrival: &Arrival, whose: Option<AccountName>) {
        let (item, settled) = self.settler.settle(arrival);
        let removed = Removed {
            whose,
            path: arrival.path.clone(),
            why: arrival.why,
            stood: Duration::from_millis(item.stood_milliseconds),
            item,
            written: arrival.stood_at.as_ref().map(|stood_at| self.writers.of(stood_at)).unwrap_or_default(),
            not_settled: settled.err().map(|error| error.to_string()),
        };
        (self.tell)(Finding::Removed(Box::new(removed)));
    }
}
