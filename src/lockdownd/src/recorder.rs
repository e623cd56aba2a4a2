//! Between what happens and the disk: one queue, in order, and the coalescing of what others can cause at will.
//!
//! Nobody waits here. Removals and endings are noted and follow; what must be on disk before it takes effect (a grant, a
//! login) is asked for with [`Recorder::commit_first`], and takes effect when it comes back as done.

mod covered;
pub(crate) mod owed;

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use jiff::Timestamp;
use lockdown_core::{policy::time::Now, windows::Windows};
use record::Draft;

pub use self::covered::Covered;
pub(crate) use self::owed::OWED;
use crate::{
    disk::{Commit, Disk, Done, Known, Left, NotOpened, Room, Store, Task, Told, Work, Written},
    enforce::First,
    grants::Snapshot,
    ledger::{MAX_OWED, View, describe},
};

/// After so long without an answer the disk counts as standing still.
pub const STALLED: Duration = Duration::from_secs(2);
/// How many pieces of other work may wait for the disk.
const MAX_WORK: usize = 64;

/// Takes drafts, has the disk thread write them.
#[derive(Debug)]
pub struct Recorder {
    disk: Disk,
    /// What is known of the ledger; nothing until it is open.
    known: Option<Known>,
    /// Why it could not be opened when that was tried last.
    not_opened: Option<String>,
    /// Whether it could not for a reason that is over, and this process alone still cannot.
    starts_again: bool,
    /// Whether there was another reason before.
    had_reason: bool,
    /// When this began, on the boot clock.
    begun: Duration,
    /// Where what the disk does not take is kept.
    owed: PathBuf,
    noted: Vec<Draft>,
    windows: Windows,
    queue: VecDeque<Queued>,
    under_way: Option<UnderWay>,
    /// What a commit that failed was to cover: the next that succeeds does.
    unsettled: Covered,
    /// The number of the newest commit, and of the newest that the disk thread is done with.
    newest: u64,
    tried: u64,
    stall_told: bool,
}

/// What waits for its turn.
struct Queued {
    number: u64,
    what: What,
    covered: Covered,
    first: Option<First>,
}

enum What {
    Commit(Box<Commit>),
    Work(Work),
    /// Work of which only the newest of its name is of use.
    Newest(&'static str, Work),
}

/// What the disk thread is at.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    covered: Covered,
    first: Option<First>,
    /// On the boot clock.
    since: Duration,
}

/// What a piece of work that is done has settled.
#[derive(Debug)]
pub struct Settled {
    /// What came of it.
    pub(crate) done: Done,
    /// What is on record by it.
    pub covered: Covered,
    /// What waited for it to take effect.
    pub first: Option<First>,
}

impl Recorder {
    /// A recorder in front of this thread, which has just been started and records what is in `owed` when it opens the ledger.
    #[must_use]
    pub fn new(disk: Disk, owed: PathBuf, now: Now) -> Self {
        Self {
            disk,
            known: None,
            not_opened: None,
            starts_again: false,
            had_reason: false,
            begun: now.boot,
            owed,
            noted: Vec::new(),
            windows: Windows::default(),
            queue: VecDeque::new(),
            under_way: None,
            unsettled: Covered::default(),
            newest: 0,
            tried: 0,
            stall_told: false,
        }
    }

    /// What the last run left, if it is read within this time.
    pub fn opened(&mut self, most: Duration, now: Now) -> Option<Left> {
        if !self.disk.wait(most) {
            return None;
        }
        match self.done(now)?.done {
            Done::Opened(left) => Some(*left),
            Done::Written(_) | Done::Brought(_) => None,
        }
    }

    /// The ledger as it was when the disk thread last was done with something; nothing until it is open.
    #[must_use]
    pub fn ledger(&self) -> Option<&View> {
        self.known.as_ref().map(|known| &known.view)
    }

    /// Why the ledger cannot be written or opened, while it cannot.
    #[must_use]
    pub fn failing(&self) -> Option<&str> {
        match &self.known {
            Some(known) => known.failing.as_deref(),
            None => self.not_opened.as_deref(),
        }
    }

    /// Whether the disk thread runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.disk.is_alive()
    }

    /// How long the disk has not answered, where that is longer than [`STALLED`]. One that has not been read yet does not
    /// answer.
    #[must_use]
    pub fn stalled_for(&self, now: Now) -> Option<Duration> {
        if self.known.is_none() {
            return Some(now.boot.saturating_sub(self.begun));
        }
        let since = self.under_way.as_ref()?.since;
        Some(now.boot.saturating_sub(since)).filter(|for_| *for_ >= STALLED)
    }

    /// Whether only another start can open the ledger; told once.
    #[must_use]
    pub fn takes_another_start(&mut self) -> bool {
        std::mem::take(&mut self.starts_again)
    }

    /// Notes a draft for the next commit, which every reason to act ends with.
    pub fn note(&mut self, draft: Draft) {
        self.noted.push(draft);
    }

    /// Notes a draft of which there may be a flood, which states so many: see [`Windows::take`].
    pub fn note_often(&mut self, draft: Draft, times: u64, now: Now) {
        self.noted.extend(self.windows.take(draft, times, now));
    }

    /// Notes the sums of every window that has closed by now, or of all of them.
    pub fn close_windows(&mut self, now: Now, all: bool) {
        self.noted.extend(self.windows.close(now, all));
    }

    /// When the next window closes, on the boot clock.
    #[must_use]
    pub fn next_close(&self) -> Option<Duration> {
        self.windows.next_close()
    }

    /// Has everything written that was noted, in order, and the grants, where they are given. What the ledger does not take is
    /// owed by it, and tried again with the next commit. `covered` is on record once this is.
    pub fn commit(&mut self, state: Option<Snapshot>, covered: Covered, now: Now) {
        if self.noted.is_empty() && state.is_none() && covered.is_empty() && self.owes_nothing() {
            return;
        }
        self.add(state, covered, now);
        self.advance(now);
    }

    fn owes_nothing(&self) -> bool {
        self.ledger().is_none_or(|ledger| ledger.owed == 0)
    }

    /// Has a statement written behind everything that was noted; `first` comes back with whether it is on disk.
    pub fn commit_first(
        &mut self,
        draft: Draft,
        room: Room,
        state: Option<Snapshot>,
        covered: Covered,
        first: First,
        now: Now,
    ) {
        let queued = self.add(state, covered, now);
        if let What::Commit(commit) = &mut queued.what {
            commit.first = Some((draft, room));
        }
        queued.first = Some(first);
        self.advance(now);
    }

    /// Has other work done on the disk, in its turn.
    pub fn work(&mut self, name: &'static str, work: Work, now: Now) {
        let is_work = |queued: &Queued| matches!(queued.what, What::Work(..));
        if self.queue.iter().filter(|queued| is_work(queued)).count() >= MAX_WORK {
            return tracing::error!(
                "the disk does not answer, and {name} is not done: {MAX_WORK} other pieces of work wait"
            );
        }
        let number = self.newest;
        self.queue.push_back(Queued { number, what: What::Work(work), covered: Covered::default(), first: None });
        self.advance(now);
    }

    /// The same; work of this name that still waits is not done.
    pub fn work_anew(&mut self, name: &'static str, work: Work, now: Now) {
        self.queue.retain(|queued| !matches!(queued.what, What::Newest(of, _) if of == name));
        let (number, what) = (self.newest, What::Newest(name, work));
        self.queue.push_back(Queued { number, what, covered: Covered::default(), first: None });
        self.advance(now);
    }

    /// Puts what was noted into the queue: into the last commit, as long as nothing waits for that one alone.
    fn add(&mut self, state: Option<Snapshot>, covered: Covered, now: Now) -> &mut Queued {
        if !self.queue.back().is_some_and(Queued::is_open) {
            self.newest += 1;
            let what = What::Commit(Box::default());
            self.queue.push_back(Queued { number: self.newest, what, covered: Covered::default(), first: None });
        }
        let mut noted: Vec<_> = std::mem::take(&mut self.noted).into_iter().map(|draft| (now.wall, draft)).collect();
        if self.known.is_none() && !noted.is_empty() {
            // Whoever opens the ledger records them.
            match owed::keep(&self.owed, &noted) {
                Ok(()) => noted.clear(),
                Err(error) => {
                    tracing::error!(%error, "what happens is lost if the daemon stops before the disk can be read")
                }
            }
        }
        let queued = self.queue.back_mut().expect("one was just put there");
        queued.covered.merge(covered);
        if let What::Commit(commit) = &mut queued.what {
            add_to(commit, noted, state);
        }
        queued
    }

    /// Gives the disk thread what is next, where it is idle.
    fn advance(&mut self, now: Now) {
        if self.under_way.is_some() || self.known.is_none() {
            return;
        }
        let Some(Queued { number, what, covered, first }) = self.queue.pop_front() else { return };
        self.under_way = Some(UnderWay { number, covered, first, since: now.boot });
        self.disk.give(match what {
            What::Commit(commit) => Task::Commit(commit, now.wall),
            What::Work(work) | What::Newest(_, work) => Task::Work(work, now.wall),
        });
    }

    /// What the disk thread has done, if it has done something; it then goes on with the next. Once it has read what the last
    /// run left, it goes on with the next commit: that is taken up first.
    pub fn done(&mut self, now: Now) -> Option<Settled> {
        let (done, known) = match self.disk.told()? {
            Told::Done(done) => *done,
            Told::NotOpened(why) => {
                match why {
                    // Where it was so from the start, another start would not help.
                    NotOpened::Remounted(_) => self.starts_again = std::mem::take(&mut self.had_reason),
                    _ => self.had_reason = true,
                }
                self.not_opened = Some(describe(&why));
                return None;
            }
        };
        self.known = Some(known);
        if matches!(done, Done::Opened(_)) {
            self.record_owed_first();
            return Some(Settled { done, covered: Covered::default(), first: None });
        }
        let UnderWay { number, mut covered, first, since } = self.under_way.take()?;
        if std::mem::take(&mut self.stall_told) {
            let took = now.boot.saturating_sub(since);
            tracing::error!("the disk that holds /var/lib/lockdownd answers again, after {took:.1?}");
        }
        if let Done::Written(Written { noted, .. }) = &done {
            self.tried = number;
            if *noted {
                covered.merge(std::mem::take(&mut self.unsettled));
            } else {
                self.unsettled.merge(std::mem::take(&mut covered));
            }
        }
        self.advance(now);
        Some(Settled { done, covered, first })
    }

    /// What was kept after the disk thread had recorded the rest of it comes before all that waits.
    fn record_owed_first(&mut self) {
        if !self.owed.exists() {
            return;
        }
        let owed = self.owed.clone();
        let record = move |store: &mut Store| {
            if let Err(error) = owed::record(&owed, &mut store.ledger, Timestamp::now()) {
                tracing::error!(%error, "what could not be recorded earlier waits for the next start");
            }
            None
        };
        let what = What::Work(Box::new(record));
        self.queue.push_front(Queued { number: 0, what, covered: Covered::default(), first: None });
    }

    /// Whether the disk thread has nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// The number of the newest commit: see [`Recorder::was_tried`].
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether this commit was tried: then what it noted is on disk, or owed.
    #[must_use]
    pub fn was_tried(&self, number: u64) -> bool {
        self.tried >= number
    }

    /// When somebody has waited long enough, or the disk counts as standing still, on the boot clock.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let stalls = self.under_way.as_ref().filter(|_| !self.stall_told).map(|at| at.since + STALLED);
        self.firsts().filter_map(First::until).chain(stalls).min()
    }

    /// Everything that waits to take effect.
    pub fn firsts(&self) -> impl Iterator<Item = &First> {
        let queued = self.queue.iter().filter_map(|queued| queued.first.as_ref());
        queued.chain(self.under_way.as_ref().and_then(|at| at.first.as_ref()))
    }

    /// Takes back what has waited long enough for its turn: it is not written any more.
    pub fn withdraw_overdue(&mut self, now: Now) -> Vec<First> {
        let mut over = Vec::new();
        for queued in &mut self.queue {
            let is_over = queued.first.as_ref().and_then(First::until).is_some_and(|until| now.boot >= until);
            if let (true, What::Commit(commit)) = (is_over, &mut queued.what) {
                commit.first = None;
                over.extend(queued.first.take());
            }
        }
        if !over.is_empty() {
            self.join_open();
        }
        over
    }

    /// Makes one of commits that wait next to each other and that nobody waits for alone any more: however many were refused,
    /// the queue does not grow by it.
    fn join_open(&mut self) {
        for queued in std::mem::take(&mut self.queue) {
            match self.queue.back_mut() {
                Some(last) if last.is_open() && queued.is_open() => last.take_up(queued),
                _ => self.queue.push_back(queued),
            }
        }
    }

    /// What the disk thread is at and has been waited for long enough: it may still come, late. It is put back with
    /// [`Recorder::put_late`].
    pub fn take_late(&mut self, now: Now) -> Option<First> {
        let first = &mut self.under_way.as_mut()?.first;
        first.take_if(|first| first.until().is_some_and(|until| now.boot >= until))
    }

    /// Puts back what was taken, as it is now.
    pub fn put_late(&mut self, first: First) {
        if let Some(at) = &mut self.under_way {
            at.first = Some(first);
        }
    }

    /// Says once that the disk stands still; of one that has not been read yet, the start says it.
    pub fn tell_stall(&mut self, now: Now) {
        if self.known.is_some() && !self.stall_told && self.stalled_for(now).is_some() {
            self.stall_told = true;
            tracing::error!(
                "the disk that holds /var/lib/lockdownd does not answer: no new grant and no login until it does; removals and endings go on, and are recorded then"
            );
        }
    }

    /// Keeps what the disk has not taken for the next start; for a stop. What the disk thread is at may still come onto the
    /// disk.
    pub(crate) fn keep_owed(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        let commits = queue.iter().filter_map(|queued| match &queued.what {
            What::Commit(commit) => Some(&commit.noted),
            What::Work(_) | What::Newest(..) => None,
        });
        let owed: Vec<_> = commits.flatten().collect();
        if owed.is_empty() {
            return;
        }
        let count = owed.len();
        match owed::keep(&self.owed, owed) {
            Ok(()) => tracing::warn!("{count} statements that the disk has not taken are recorded by the next start"),
            Err(error) => tracing::error!(%error, "{count} statements that the disk has not taken are lost"),
        }
    }

    /// Waits until the disk thread is done with what it is at, this long at most.
    #[must_use]
    pub fn wait(&self, most: Duration) -> bool {
        self.disk.wait(most)
    }
}

/// Adds to a commit that waits. Newer grants replace older ones; what is beyond [`MAX_OWED`] statements is counted.
fn add_to(commit: &mut Commit, noted: impl IntoIterator<Item = (Timestamp, Draft)>, state: Option<Snapshot>) {
    if state.is_some() {
        commit.state = state;
    }
    for (then, draft) in noted {
        if commit.noted.len() < MAX_OWED {
            commit.noted.push((then, draft));
        } else {
            commit.lost.get_or_insert((0, then)).0 += 1;
        }
    }
}

impl Queued {
    /// Whether it is a commit that nobody waits for alone.
    fn is_open(&self) -> bool {
        self.first.is_none() && matches!(self.what, What::Commit(_))
    }

    /// Takes up the open commit behind it.
    fn take_up(&mut self, next: Self) {
        self.number = next.number;
        self.covered.merge(next.covered);
        if let (What::Commit(commit), What::Commit(next)) = (&mut self.what, next.what) {
            let Commit { state, noted, lost, first: _ } = *next;
            add_to(commit, noted, state);
            if let Some((count, since)) = lost {
                commit.lost.get_or_insert((0, since)).0 += count;
            }
        }
    }
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queued").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
