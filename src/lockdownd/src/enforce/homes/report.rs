//! The reporting thread: settles what was removed, then tells it, in order. Everything slow happens here.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use jiff::Timestamp;
use record::Fingerprint;

use super::{Finding, MAX_UNSETTLED_PER_ACCOUNT, Removed};
use crate::{
    host::{
        accounts::AccountName,
        quarantine::{Arrival, MAX_FINGERPRINTS, QuarantineError, Settler},
        writers::Writers,
    },
    keys::file::Survey,
};

/// What the homes thread hands over. The queue has no bound of its own: what a user can cause is bounded per account by
/// the [`Backlog`], the rest by the size of the territory.
#[derive(Debug)]
pub(super) enum Job {
    /// Settle this, tell it, and free its place in the backlog.
    Settle(Box<Arrival>, Arc<Backlog>),
    /// Tell what could not be kept.
    Unkept(Arc<Backlog>),
    /// Tell this.
    Tell(Finding),
}

/// What one unit has waiting.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) whose: Option<AccountName>,
    unsettled: AtomicUsize,
    unkept: Mutex<Unkept>,
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
}

impl Reporter {
    pub(super) fn new(settler: Settler, writers: Arc<Writers>, tell: Box<dyn FnMut(Finding) + Send>) -> Self {
        Self { settler, writers, tell }
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
                Job::Tell(finding) => (self.tell)(finding),
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
