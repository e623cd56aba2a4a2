//! The homes thread's loop: hear, look at whom it concerns, remove.

mod coalesce;
mod mounted;
mod pass;
mod sweep;
mod unkept;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    os::fd::AsFd,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use control::Mode;
use lockdown_host::{
    accounts::AccountName,
    home_watch::{HomeWatch, Need, Unit},
    mounts::Mounts,
    paths::Root,
    quarantine::Intake,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::{coalesce::Coalescer, mounted::MountsTold, sweep::Sweep, unkept::Unkept};
use super::{
    Finding, TELL_AGAIN_AFTER, Territory, Waiting,
    lanes::{Post, Reach},
    look::{Candidate, candidates_of},
    report::{Backlog, Job, Outbox},
};

/// Accounts that events concern, looked at between two readings of the queue.
const URGENT_PER_ROUND: usize = 64;
/// Accounts of a new territory, or after an overflow, between two readings of the queue.
const ROUTINE_PER_ROUND: usize = 16;
/// Accounts of a sweep between two readings of the queue: some hundred microseconds.
const SWEPT_PER_ROUND: usize = 16;

/// One account, or all shared files: what a pass is about.
#[derive(Debug, Default)]
struct Ward {
    /// `None`: the shared files.
    whose: Option<AccountName>,
    candidates: Vec<Candidate>,
    /// Made when first something waits.
    backlog: Option<Arc<Backlog>>,
    /// What it waits for.
    need: Option<Need>,
    /// Whether it stands in the urgent queue: at most once, however many events there are.
    is_urgent: bool,
}

impl Ward {
    fn backlog(&mut self) -> &Arc<Backlog> {
        self.backlog.get_or_insert_with(|| Arc::new(Backlog::new(self.whose.clone())))
    }
}

/// What a repeated failure is told by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Trouble {
    Overflow,
    Path(Unit, PathBuf),
}

/// The place of a ward as its watches know it.
fn as_unit(index: usize) -> Unit {
    Unit::try_from(index).expect("passwd's bound allows fewer than 2^32 accounts")
}

/// All state of the thread.
pub(super) struct Worker {
    post: Arc<Post>,
    /// Who has files that another lane looks after.
    beyond: BTreeSet<Option<AccountName>>,
    /// Whether that has changed since it was told last.
    has_moved: bool,
    root: Root,
    watch: HomeWatch,
    intake: Intake,
    mounts: Mounts,
    mounts_told: MountsTold,
    /// How many sweeps have begun.
    sweeps: u64,
    outbox: Outbox,
    /// The mode of the territory, and its digest: it is too large to be held twice.
    territory: Option<(Mode, u64)>,
    hasher: RandomState,
    wards: Vec<Ward>,
    urgent: VecDeque<Unit>,
    routine: VecDeque<Unit>,
    sweeping: Option<Sweep>,
    is_to_sweep: bool,
    troubles: Coalescer<Trouble, String>,
    unkept: Unkept,
    /// In observe: what was told, by path, with inode and time of change, to tell each state once.
    told: HashMap<PathBuf, (u64, i128)>,
    /// Reused for every file that is read.
    content: Vec<u8>,
}

impl Worker {
    pub(super) fn new(
        root: Root,
        watch: HomeWatch,
        intake: Intake,
        mounts: Mounts,
        outbox: Outbox,
        post: Arc<Post>,
    ) -> Self {
        Self {
            post,
            beyond: BTreeSet::new(),
            has_moved: false,
            root,
            watch,
            intake,
            mounts,
            mounts_told: MountsTold::default(),
            sweeps: 0,
            outbox,
            territory: None,
            hasher: RandomState::new(),
            wards: Vec::new(),
            urgent: VecDeque::new(),
            routine: VecDeque::new(),
            sweeping: None,
            is_to_sweep: false,
            troubles: Coalescer::new(TELL_AGAIN_AFTER),
            unkept: Unkept::default(),
            told: HashMap::new(),
            content: Vec::new(),
        }
    }

    /// Works until told to stop, or until another lane has taken this one's place.
    pub(super) fn run(mut self) {
        self.beyond = self.post.beyond();
        let post = Arc::clone(&self.post);
        let bell = post.bell();
        while !post.is_replaced() {
            let timeout = self.timeout();
            let mut fds = [
                PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
                PollFd::new(bell.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.mounts.as_fd(), PollFlags::POLLPRI),
            ];
            // Interrupted or not, what there is to hear is found out below.
            let _ = poll(&mut fds, timeout);
            let rung = fds[1].any().unwrap_or(true);
            if fds[2].any().unwrap_or(true) {
                self.mounts_told.changed(Instant::now());
            }
            self.look_at_mounts();
            if rung && !self.take_orders() {
                return;
            }
            self.hear();
            for unit in self.unkept.take_due(Instant::now()) {
                self.need_ways(unit);
            }
            if !self.is_outdated() {
                self.work_round();
            }
            self.tell_troubles();
            if let Some((standing, why)) = self.unkept.news() {
                self.tell(Finding::Unkept { standing, why });
            }
        }
    }

    /// Whether the table of mounts is known to be another by now: where something may have been unmounted that a look
    /// would mount again, nothing is looked at before the table is.
    fn is_outdated(&self) -> bool {
        self.post.reach == Reach::Remote && self.mounts_told.due().is_some()
    }

    fn timeout(&self) -> PollTimeout {
        let is_busy =
            !self.urgent.is_empty() || !self.routine.is_empty() || self.sweeping.is_some() || self.is_to_sweep;
        if is_busy && !self.is_outdated() {
            return PollTimeout::ZERO;
        }
        let dues = [self.troubles.next_due(), self.mounts_told.due(), self.unkept.next_due()];
        match dues.into_iter().flatten().min() {
            None => PollTimeout::NONE,
            Some(due) => {
                let wait = due.saturating_duration_since(Instant::now());
                PollTimeout::try_from(wait + std::time::Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        }
    }

    /// Takes every waiting command; `false` means to stop.
    fn take_orders(&mut self) -> bool {
        let Waiting { territory, sweeps, stop } = self.post.take_orders();
        if let Some(territory) = territory {
            self.take_territory(territory.territory());
        }
        self.is_to_sweep |= !sweeps.is_empty();
        !stop
    }

    fn take_territory(&mut self, territory: Territory) {
        let digest = self.hasher.hash_one(&territory);
        if self.territory == Some((territory.mode, digest)) {
            return;
        }
        // The watches stay until each ward's ways are walked anew; those of wards that are no more end here.
        for unit in territory.homes.len() + 1..self.wards.len() {
            self.watch.rewatch(as_unit(unit), |_| ());
        }
        let ward = |(whose, candidates): (Option<&AccountName>, _)| Ward {
            whose: whose.cloned(),
            candidates,
            ..Ward::default()
        };
        self.wards = candidates_of(&territory).map(ward).collect();
        self.territory = Some((territory.mode, digest));
        let wards = &self.wards;
        let names: BTreeSet<&Option<AccountName>> = wards.iter().map(|ward| &ward.whose).collect();
        self.beyond.retain(|whose| names.contains(whose));
        self.has_moved = true;
        self.told.clear();
        self.unkept.forget();
        self.urgent.clear();
        self.routine.clear();
        self.restart_sweep();
        self.need_everything();
    }

    fn enforces(&self) -> bool {
        self.territory.is_some_and(|(mode, _)| mode == Mode::Enforce)
    }

    /// Reads the watch's queue and marks who needs a look.
    fn hear(&mut self) {
        let Self { watch, wards, urgent, .. } = self;
        let drained = watch.drain(|unit, need| {
            let Some(ward) = wards.get_mut(unit as usize) else { return };
            ward.need = ward.need.max(Some(need));
            // One that waits for a routine look overtakes: something happens there now.
            if !std::mem::replace(&mut ward.is_urgent, true) {
                urgent.push_back(unit);
            }
        });
        match drained {
            Ok(drained) if !drained.overflowed => {}
            // A queue that cannot be read is as good as one that dropped its events.
            Ok(_) | Err(_) => {
                self.trouble(Trouble::Overflow, String::new());
                self.need_everything();
            }
        }
        if self.watch.forget_writers() {
            self.need_everything();
        }
    }

    fn need_everything(&mut self) {
        for (unit, ward) in self.wards.iter_mut().enumerate() {
            if ward.need.is_none() {
                self.routine.push_back(as_unit(unit));
            }
            ward.need = Some(Need::Ways);
        }
    }

    /// One look for each account that events concern, in the order of their first event; then some of what can wait.
    fn work_round(&mut self) {
        for _ in 0..self.urgent.len().min(URGENT_PER_ROUND) {
            if let Some(unit) = self.urgent.pop_front() {
                self.wards[unit as usize].is_urgent = false;
                self.attend(unit);
            }
        }
        for _ in 0..self.routine.len().min(ROUTINE_PER_ROUND) {
            if let Some(unit) = self.routine.pop_front() {
                self.attend(unit);
            }
        }
        self.sweep_some(SWEPT_PER_ROUND);
        if self.has_moved && self.routine.is_empty() {
            self.tell_beyond();
        }
    }

    fn tell_beyond(&mut self) {
        self.has_moved = false;
        self.post.set_beyond(&self.beyond);
    }

    /// Puts `unit` among the urgent.
    fn need_ways(&mut self, unit: Unit) {
        let ward = &mut self.wards[unit as usize];
        ward.need = Some(Need::Ways);
        if !std::mem::replace(&mut ward.is_urgent, true) {
            self.urgent.push_back(unit);
        }
    }

    /// Does what `unit` waits for, if another look has not done it already.
    fn attend(&mut self, unit: Unit) {
        let Some(need) = self.wards.get_mut(unit as usize).and_then(|ward| ward.need.take()) else { return };
        self.enter(unit);
        self.pass(unit, need);
        self.post.leave();
    }

    /// What follows may hang: the keeper has to know where.
    fn enter(&self, unit: Unit) {
        let ward = &self.wards[unit as usize];
        if let Some(candidate) = ward.candidates.first() {
            self.post.enter(ward.whose.as_ref(), Arc::clone(&candidate.base));
        }
    }

    /// Notes a failure, and tells it if it has not been told lately and not too many wait to be told.
    fn trouble(&mut self, trouble: Trouble, error: String) {
        let has_room = self.outbox.room() > 0;
        if self.troubles.note(trouble.clone(), error.clone(), has_room, Instant::now()) {
            self.tell_trouble(trouble, error, 1);
        }
    }

    fn tell_troubles(&mut self) {
        if self.troubles.next_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        for (trouble, error, times) in self.troubles.take_due(self.outbox.room(), Instant::now()) {
            self.tell_trouble(trouble, error, times);
        }
        if self.outbox.room() > 0
            && let Some(times) = self.troubles.take_beyond()
        {
            let error = "more paths failed than are counted apart".to_owned();
            self.tell(Finding::Failed { whose: None, path: PathBuf::from("/"), error, times });
        }
    }

    fn tell_trouble(&self, trouble: Trouble, error: String, times: u64) {
        self.tell(match trouble {
            Trouble::Overflow => Finding::Overflow { times },
            Trouble::Path(unit, path) => {
                let whose = self.wards.get(unit as usize).and_then(|ward| ward.whose.clone());
                Finding::Failed { whose, path, error, times }
            }
        });
    }

    fn tell(&self, finding: Finding) {
        self.outbox.send(Job::Tell(finding));
    }
}

#[cfg(test)]
mod tests;
