//! What a lane and its keeper tell each other.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lockdown_host::accounts::AccountName;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::driver::homes::{
    Command, Orders, SweepReport, Waiting,
    remote::{Told, Wire},
};

/// Which homes a lane looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::driver::homes) enum Reach {
    /// Those on file systems of this host.
    Local,
    /// Those that another host or a program answers for.
    Remote,
}

impl Reach {
    /// How long one look at one home may take. A loaded disk takes its time; a server is soon missed.
    pub(in crate::driver::homes) fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Local => 10,
            Self::Remote => 5,
        })
    }
}

/// Where a lane is at work.
#[derive(Debug, Clone)]
pub(in crate::driver::homes) struct Visit {
    pub(in crate::driver::homes) whose: Option<AccountName>,
    pub(in crate::driver::homes) path: Arc<Path>,
    pub(in crate::driver::homes) since: Instant,
}

/// What a lane and the keeper share.
#[derive(Debug)]
pub(in crate::driver::homes) struct Post {
    pub(in crate::driver::homes) reach: Reach,
    orders: Orders,
    bell: EventFd,
    keeper: Arc<Keeper>,
    /// In a process of its own: where it tells what it does.
    wire: Option<Arc<Wire>>,
    pub(in crate::driver::homes) visit: Mutex<Option<Visit>>,
    /// Another lane has taken its place: nothing more may be done in this one.
    pub(in crate::driver::homes) replaced: AtomicBool,
    swept: Mutex<Option<SweepReport>>,
    /// Who has files that are not in this lane's reach.
    pub(in crate::driver::homes) beyond: Mutex<BTreeSet<Option<AccountName>>>,
}

/// What wakes the keeper.
#[derive(Debug)]
pub(in crate::driver::homes) struct Keeper {
    pub(in crate::driver::homes) bell: EventFd,
    /// Whether it looks at lanes now, and need not be woken.
    pub(in crate::driver::homes) looks: AtomicBool,
}

fn new_bell() -> io::Result<EventFd> {
    Ok(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?)
}

impl Keeper {
    pub(in crate::driver::homes) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { bell: new_bell()?, looks: AtomicBool::new(false) }))
    }

    pub(in crate::driver::homes) fn ring(&self) {
        // Fails only where it has rung so often that the thread wakes anyway.
        let _ = self.bell.write(1);
    }
}

impl Post {
    pub(in crate::driver::homes) fn new(reach: Reach, keeper: Arc<Keeper>) -> io::Result<Arc<Self>> {
        Self::with(reach, keeper, None)
    }

    /// One of a lane that is a process of its own, and tells what it does there.
    pub(in crate::driver::homes) fn telling(wire: Arc<Wire>) -> io::Result<Arc<Self>> {
        Self::with(Reach::Remote, Keeper::new()?, Some(wire))
    }

    fn with(reach: Reach, keeper: Arc<Keeper>, wire: Option<Arc<Wire>>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            reach,
            wire,
            orders: Orders::default(),
            bell: new_bell()?,
            keeper,
            visit: Mutex::default(),
            replaced: AtomicBool::new(false),
            swept: Mutex::default(),
            beyond: Mutex::default(),
        }))
    }

    /// A look at a home begins.
    pub(in crate::driver::homes) fn enter(&self, whose: Option<&AccountName>, path: Arc<Path>) {
        if let Some(wire) = &self.wire {
            return wire.tell(&Told::Enters { whose: whose.cloned(), path: path.to_path_buf() });
        }
        *lock(&self.visit) = Some(Visit { whose: whose.cloned(), path, since: Instant::now() });
        if !self.keeper.looks.swap(true, Ordering::SeqCst) {
            self.keeper.ring();
        }
    }

    /// The look is over.
    pub(in crate::driver::homes) fn leave(&self) {
        if let Some(wire) = &self.wire {
            return wire.tell(&Told::Leaves);
        }
        *lock(&self.visit) = None;
        if self.is_replaced() {
            self.keeper.ring();
        }
    }

    /// Whether another lane has taken this one's place, so that it may do nothing more.
    pub(in crate::driver::homes) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::SeqCst)
    }

    /// What the last sweep has found, once.
    pub(in crate::driver::homes) fn take_swept(&self) -> Option<SweepReport> {
        lock(&self.swept).take()
    }

    /// A sweep is over.
    pub(in crate::driver::homes) fn swept(&self, report: SweepReport) {
        if let Some(wire) = &self.wire {
            return wire.tell(&Told::Swept(report));
        }
        *lock(&self.swept) = Some(report);
        self.keeper.ring();
    }

    /// Who has files that are not in this lane's reach, as far as was told.
    pub(in crate::driver::homes) fn beyond(&self) -> BTreeSet<Option<AccountName>> {
        lock(&self.beyond).clone()
    }

    /// Tells who has files that are not in this lane's reach.
    pub(in crate::driver::homes) fn set_beyond(&self, beyond: &BTreeSet<Option<AccountName>>) {
        let mut told = lock(&self.beyond);
        if *told != *beyond {
            told.clone_from(beyond);
            self.keeper.ring();
        }
    }

    pub(in crate::driver::homes) fn take_orders(&self) -> Waiting {
        let _ = self.bell.read();
        self.orders.take()
    }

    pub(in crate::driver::homes) fn bell(&self) -> &EventFd {
        &self.bell
    }

    pub(in crate::driver::homes) fn order(&self, command: Command) {
        self.orders.give(command);
        let _ = self.bell.write(1);
    }
}

pub(in crate::driver::homes) fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
