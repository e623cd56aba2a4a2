//! The homes thread: keeps every key file that sshd could read, outside of our store, free of keys.
//!
//! It watches, judges and removes on one thread of its own, so that a slow or hostile home never delays the gate or an
//! expiry, and so that nothing stands between a key that appears and its removal. A second thread settles what was
//! removed and reports; it may be as slow as the disk and the driver are. Neither ever waits for a record.
//!
//! One account's flood delays the others by one look per round at most: events only mark who needs a look.

mod lanes;
mod look;
pub mod remote;
mod report;
mod territory;
mod worker;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::Timestamp;
use lockdown_core::policy::key_file::WhyRemoved;
use lockdown_host::{
    accounts::AccountName,
    mounts::{MOUNTINFO, Mounts},
    paths::{PathError, Root},
    quarantine::{Intake, Item, QuarantineError, Settler},
    writers::{Writers, Written},
};
use record::Fingerprint;
use serde::{Deserialize, Serialize};

use self::lanes::{Keeper, Lanes, Parts};
use crate::run::let_go;

pub use lanes::{Hanging, MAX_HANGING};
pub use look::plan;
pub use territory::{HomeSpec, KeyFilePath, Plot, Territory};

/// How long repeated failures of one path, and repeated overflows, are only counted before they are told again.
pub const TELL_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Removals of one account that may wait to be settled; past it only fingerprints are kept, and counted together.
pub const MAX_UNSETTLED_PER_ACCOUNT: usize = 16;
/// Files of one account that stand in observe and may wait to be told, each with its last state; past it a later look tells
/// them.
pub const MAX_STANDING_PER_ACCOUNT: usize = 64;
/// Other findings, failures above all, that may wait to be told; past it they are counted, and told as sums.
pub const MAX_UNTOLD: usize = 1_024;

/// How many different ids of sweeps may wait for one; a further one is not answered.
const MAX_SWEEPS: usize = 64;

/// Why the homes thread could not be started.
#[derive(Debug, thiserror::Error)]
pub enum HomesError {
    /// A thread, inotify or event descriptor could not be had.
    #[error("watching homes (fs.inotify.max_user_instances may be too low): {0}")]
    Start(#[from] std::io::Error),
    /// The root directory cannot be opened.
    #[error("watching homes: {0}")]
    Root(#[from] PathError),
    /// The quarantine cannot be used.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
}

/// What the homes thread is told.
#[derive(Debug, Clone)]
pub enum Command {
    /// From now on this is to be kept free of keys, in this mode.
    Territory(Plot),
    /// Look at everything once, as if nothing had been watched; answered by [`Finding::Swept`] with the same id.
    Sweep {
        /// Chosen by the caller.
        id: u64,
    },
    /// Settle what was removed and end.
    Stop,
}

/// What the homes thread tells. Each finding that a user can cause at will is bounded per account while the listener is
/// slow, and its counts stay exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Finding {
    /// A key file was removed.
    Removed(Box<Removed>),
    /// An account's key files were removed faster than they could be kept: hash and content are lost, these are not.
    RemovedUnkept {
        /// Whose; `None` for files that several accounts share.
        whose: Option<AccountName>,
        /// How many.
        times: u64,
        /// Where the last one stood.
        #[serde(with = "remote::raw_path")]
        path: PathBuf,
        /// The keys in them, as far as there is room.
        fingerprints: Vec<Fingerprint>,
        /// Further keys.
        more: u64,
    },
    /// In observe: a key file stands that enforce would remove.
    WouldRemove {
        /// As it was last.
        standing: Standing,
        /// How often it changed since it was told last.
        times: u64,
    },
    /// Something that had to be removed or watched could not be.
    Failed {
        /// Whose; `None` for files that several accounts share.
        whose: Option<AccountName>,
        /// Where.
        #[serde(with = "remote::raw_path")]
        path: PathBuf,
        /// Why.
        error: String,
        /// How often since it was told last.
        times: u64,
    },
    /// A home does not answer: nothing is looked at or removed there until it does.
    Hanging {
        /// Which.
        hanging: Hanging,
        /// For how long it had not answered.
        since: Duration,
    },
    /// How many key files stand because the quarantine cannot keep them, where that has changed.
    Unkept {
        /// How many.
        standing: u64,
        /// Why.
        why: String,
    },
    /// The kernel dropped events, so everything is being looked at again.
    Overflow {
        /// How often since it was told last.
        times: u64,
    },
    /// A sweep is done, and everything that it removed has been told before.
    Swept(SweepReport),
}

/// A key file that was removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// Whose; `None` for a file that several accounts share.
    pub whose: Option<AccountName>,
    /// Where it stood; empty if that was lost in a crash.
    #[serde(with = "remote::raw_path")]
    pub path: PathBuf,
    /// Why; `None` if it was found in the quarantine's `incoming/` after a crash.
    pub why: Option<WhyRemoved>,
    /// All that is known of it, and whether its bytes were kept.
    pub item: Item,
    /// How long it had stood.
    pub stood: Duration,
    /// Who wrote it.
    #[serde(skip)]
    pub written: Written,
    /// Why it could not be kept durably, if so.
    pub not_settled: Option<String>,
}

/// A key file that enforce would remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whose; `None` for a file that several accounts share.
    pub whose: Option<AccountName>,
    /// Where it stands.
    #[serde(with = "remote::raw_path")]
    pub path: PathBuf,
    /// Why it would go.
    pub why: WhyRemoved,
    /// Its owner's uid; `None` for a link or what could not be read.
    pub owner: Option<u32>,
    /// The keys in it.
    pub fingerprints: Vec<Fingerprint>,
    /// Lines with further keys.
    pub more: u64,
    /// Lines that are neither blank, comment nor key.
    pub unreadable_lines: u64,
}

/// What one sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SweepReport {
    /// The id it was asked for with.
    pub id: u64,
    /// Accounts looked at.
    pub accounts: u64,
    /// Key files found: regular files, links, and things that could not be read.
    pub files: u64,
    /// Lines that are keys in those that had to go.
    pub keys: u64,
    /// Files removed by the sweep itself.
    pub removed: u64,
    /// Files left standing because of observe.
    pub standing: u64,
    /// Files or directories where removal or reading of the way failed.
    pub failed: u64,
    /// Files that could not be read.
    pub unreadable: u64,
    /// Things that sshd does not read keys from: directories, FIFOs, sockets, devices.
    pub inert: u64,
    /// Accounts whose home is not looked at, since that would mount it (autofs).
    pub not_mounted: u64,
    /// From the sweep's start to its end.
    pub took: Duration,
}

impl SweepReport {
    fn add(&mut self, other: &Self) {
        self.accounts += other.accounts;
        self.files += other.files;
        self.keys += other.keys;
        self.removed += other.removed;
        self.standing += other.standing;
        self.failed += other.failed;
        self.unreadable += other.unreadable;
        self.inert += other.inert;
        self.not_mounted += other.not_mounted;
    }
}

/// What the threads need to know.
pub struct Setup {
    /// The root of all paths: `/`.
    pub root: PathBuf,
    /// What tells what is mounted, [`lockdown_host::mounts::MOUNTINFO`].
    pub mounts: PathBuf,
    /// The quarantine, [`lockdown_host::quarantine::QUARANTINE`].
    pub quarantine: PathBuf,
    /// Who writes what is watched.
    pub writers: Arc<Writers>,
    /// Called on the reporting thread for each finding. It may block for a while, and then counts are kept instead of
    /// contents. Dropping [`Homes`] waits a moment for it: whoever drops should make it return (close the receiver first).
    pub on_finding: Box<dyn FnMut(Finding) + Send>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("root", &self.root).field("quarantine", &self.quarantine).finish_non_exhaustive()
    }
}

/// What the homes thread has been told and has not taken yet. A newer territory takes the place of an older one.
#[derive(Debug, Default)]
struct Orders(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    territory: Option<Plot>,
    sweeps: BTreeSet<u64>,
    stop: bool,
}

impl Orders {
    fn give(&self, command: Command) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match command {
            Command::Territory(territory) => waiting.territory = Some(territory),
            Command::Sweep { id } => {
                if waiting.sweeps.len() < MAX_SWEEPS {
                    waiting.sweeps.insert(id);
                }
            }
            Command::Stop => waiting.stop = true,
        }
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The running homes thread. Dropping it stops it.
#[derive(Debug)]
pub struct Homes {
    orders: Arc<Orders>,
    keeper: Arc<Keeper>,
    hanging: Arc<Mutex<Vec<Hanging>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Homes {
    /// Starts both threads. Nothing is watched until a territory is given; what a crash left in the quarantine is
    /// settled and told first.
    ///
    /// # Errors
    /// [`HomesError`]: nothing runs then.
    pub fn start(setup: Setup) -> Result<Self, HomesError> {
        let Setup { root, mounts, quarantine, writers, on_finding } = setup;
        let settler = Settler::open(&quarantine)?;
        let intake = Intake::open(&quarantine)?;
        let orders = Arc::new(Orders::default());
        let (jobs, to_settle) = mpsc::channel();
        let reporter = report::Reporter::new(settler, Arc::clone(&writers), on_finding);
        let parts = Parts { root, mounts, quarantine, intake, writers, outbox: reporter.outbox(jobs) };
        let leftovers = reporter.leftovers(Timestamp::now())?;
        let reporting = thread::Builder::new()
            .name("homes-report".to_owned())
            .spawn(move || reporter.run(leftovers, &to_settle))?;
        let (keeper, hanging) = (Keeper::new()?, Arc::default());
        let lanes = Lanes::start(Arc::clone(&keeper), parts, Arc::clone(&hanging))?;
        let taken = Arc::clone(&orders);
        let keeping = thread::Builder::new().name("homes-keeper".to_owned()).spawn(move || lanes.run(&taken))?;
        Ok(Self { orders, keeper, hanging, threads: vec![keeping, reporting] })
    }

    /// Tells the homes thread something; never blocks.
    pub fn send(&self, command: Command) {
        self.orders.give(command);
        self.keeper.ring();
    }

    /// Which homes do not answer, so that nothing is looked at or removed there.
    #[must_use]
    pub fn hanging(&self) -> Vec<Hanging> {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether both threads run: if not, homes are unwatched, and the daemon has to end and be restarted.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }
}

impl Drop for Homes {
    fn drop(&mut self) {
        self.send(Command::Stop);
        for thread in &self.threads {
            // One that hangs in a home is left behind: what it has taken is in the quarantine, and settled by the next start.
            let _ = let_go(thread);
        }
    }
}

/// What enforce would remove from the running system now.
///
/// # Errors
/// The root directory or the table of mounts cannot be opened.
pub fn plan_here(territory: &Territory) -> Result<Vec<Standing>, HomesError> {
    Ok(plan(&Root::open(Path::new("/"))?, &Mounts::open(Path::new(MOUNTINFO))?, territory))
}

#[cfg(test)]
mod tests;
