//! Between what happens and the disk: one queue, in order, and the coalescing of what others can cause at will.
//!
//! Nobody waits here. Removals and endings are noted and follow; what must be on disk before it takes effect (a grant, a
//! login) is asked for with [`Recorder::commit_first`], and takes effect when it comes back as done. One piece of work is
//! under way at a time; the disk thread tells what became of it.

mod task;
mod waits;

use std::{collections::VecDeque, time::Duration};

use record::Draft;

pub use self::task::{
    Commit, Done, Full, Known, NotOpened, NotWritten, Room, Settled, Snapshot, Stall, Stated, Task, WorkId, Written,
};
use super::{covered::Covered, effect::Owed, on_disk::First};
use crate::{policy::time::Now, windows::Windows};

/// After so long without an answer the disk counts as standing still.
pub const STALLED: Duration = Duration::from_secs(2);
/// After so long without an answer, what is stated is kept elsewhere too until the disk has it.
pub const KEPT_AFTER: Duration = Duration::from_millis(250);
/// How many pieces of other work may wait for the disk.
const MAX_WORK: usize = 64;
/// The most statements that wait to be written; further ones are counted.
pub const MAX_OWED: usize = 4_096;

/// Takes drafts, and says what the disk thread is to write.
#[derive(Debug)]
pub struct Recorder {
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
    noted: Vec<Draft>,
    /// What the disk did not take, and is kept nowhere else yet.
    unkept: Vec<Stated>,
    /// Statements were given to whoever keeps them until the ledger is open, since the last commit.
    kept_elsewhere: bool,
    /// What the disk has not taken is kept elsewhere too.
    kept: bool,
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
#[derive(Debug)]
struct Queued {
    number: u64,
    what: What,
    covered: Covered,
    first: Option<First>,
}

#[derive(Debug)]
enum What {
    Commit(Box<Commit>),
    Work(WorkId),
    /// Work of which only the newest of its name is of use.
    Newest(&'static str, WorkId),
}

/// What the disk thread is at.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    covered: Covered,
    first: Option<First>,
    /// What it states, as long as that is kept nowhere else.
    stated: Vec<Stated>,
    /// On the boot clock.
    since: Duration,
}

impl Recorder {
    /// A recorder in front of a disk whose state is still to be read.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self {
            known: None,
            not_opened: None,
            starts_again: false,
            had_reason: false,
            begun: now.boot,
            noted: Vec::new(),
            unkept: Vec::new(),
            kept_elsewhere: false,
            kept: false,
            windows: Windows::default(),
            queue: VecDeque::new(),
            under_way: None,
            unsettled: Covered::default(),
            newest: 0,
            tried: 0,
            stall_told: false,
        }
    }

    /// Whether the ledger is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.known.is_some()
    }

    /// What is known of the ledger, once it is open.
    #[must_use]
    pub fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// Why the ledger cannot be written or opened, while it cannot.
    #[must_use]
    pub fn failing(&self) -> Option<&str> {
        match &self.known {
            Some(known) => known.failing.as_deref(),
            None => self.not_opened.as_deref(),
        }
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

    /// Notes a draft for the next commit, which every event ends with.
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

    /// What is noted, as of now, behind what could not be kept before; for whoever keeps it while the ledger is not open.
    pub(super) fn take_unopened(&mut self, now: Now) -> Vec<Stated> {
        if self.known.is_some() {
            return Vec::new();
        }
        let queued = self.queue.iter_mut().filter_map(|queued| match &mut queued.what {
            What::Commit(commit) => Some(&mut commit.noted),
            What::Work(_) | What::Newest(..) => None,
        });
        let mut stated: Vec<Stated> = queued.flat_map(std::mem::take).collect();
        stated.extend(self.take_noted(now));
        self.kept_elsewhere |= !stated.is_empty();
        stated
    }

    /// Takes back statements that could not be kept elsewhere: into the queue, where they do not wait in it already; else that
    /// is tried again.
    pub(super) fn take_back(&mut self, owed: Owed) {
        if owed.is_queued {
            self.unkept.splice(..0, owed.stated);
            self.unkept.truncate(MAX_OWED);
        } else {
            self.add(owed.stated, None, Covered::default());
        }
    }

    /// Has everything written that was noted, in order, and the grants, where they are given. What the ledger does not take is
    /// owed by it, and tried again with the next commit. `covered` is on record once this is.
    pub(super) fn commit(&mut self, state: Option<Snapshot>, covered: Covered, now: Now) {
        let owes_nothing =
            !std::mem::take(&mut self.kept_elsewhere) && self.known.as_ref().is_none_or(|known| known.owed == 0);
        if self.noted.is_empty() && state.is_none() && covered.is_empty() && owes_nothing {
            return;
        }
        let noted = self.take_noted(now);
        self.add(noted, state, covered);
    }

    /// Has statements written behind everything that was noted, all or none; `first` comes back with whether they are on disk.
    pub(super) fn commit_first(
        &mut self,
        statements: (Vec<Draft>, Room),
        state: Option<Snapshot>,
        covered: Covered,
        first: First,
        now: Now,
    ) {
        let noted = self.take_noted(now);
        let queued = self.add(noted, state, covered);
        if let What::Commit(commit) = &mut queued.what {
            commit.first = Some(statements);
        }
        queued.first = Some(first);
    }

    /// Has other work done on the disk, in its turn.
    ///
    /// # Errors
    /// [`MAX_WORK`] other pieces wait: it is not done.
    pub(super) fn work(&mut self, work: WorkId) -> Result<(), TooMuchWork> {
        let is_work = |queued: &&Queued| matches!(queued.what, What::Work(..));
        if self.queue.iter().filter(is_work).count() >= MAX_WORK {
            return Err(TooMuchWork);
        }
        self.queue.push_back(Queued::work(self.newest, What::Work(work)));
        Ok(())
    }

    /// The same; work of this name that still waits is not done: its number is given back.
    pub(super) fn work_anew(&mut self, name: &'static str, work: WorkId) -> Option<WorkId> {
        let is_old = |queued: &Queued| match queued.what {
            What::Newest(of, old) if of == name => Some(old),
            _ => None,
        };
        let replaced = self.queue.iter().find_map(is_old);
        self.queue.retain(|queued| is_old(queued).is_none());
        self.queue.push_back(Queued::work(self.newest, What::Newest(name, work)));
        replaced
    }

    fn take_noted(&mut self, now: Now) -> Vec<Stated> {
        let noted: Vec<Stated> = std::mem::take(&mut self.noted).into_iter().map(|draft| (now.wall, draft)).collect();
        if self.kept {
            self.unkept.extend(noted.iter().cloned());
            // What is beyond is counted with the queue.
            self.unkept.truncate(MAX_OWED);
        }
        noted
    }

    /// Puts statements into the queue: into the last commit, as long as nothing waits for that one alone.
    fn add(&mut self, noted: Vec<Stated>, state: Option<Snapshot>, covered: Covered) -> &mut Queued {
        if !self.queue.back().is_some_and(Queued::is_open) {
            self.newest += 1;
            let what = What::Commit(Box::default());
            self.queue.push_back(Queued { number: self.newest, what, covered: Covered::default(), first: None });
        }
        let queued = self.queue.back_mut().expect("one was just put there");
        queued.covered.merge(covered);
        if let What::Commit(commit) = &mut queued.what {
            add_to(commit, noted, state);
        }
        queued
    }

    /// What the disk thread is to do next, where it is idle.
    pub(super) fn next_task(&mut self, now: Now) -> Option<Task> {
        if self.under_way.is_some() || self.known.is_none() {
            return None;
        }
        let Queued { number, what, covered, first } = self.queue.pop_front()?;
        let stated = match &what {
            What::Commit(commit) if !self.kept => commit.noted.clone(),
            _ => Vec::new(),
        };
        self.under_way = Some(UnderWay { number, covered, first, stated, since: now.boot });
        Some(match what {
            What::Commit(commit) => Task::Commit(commit, now.wall),
            What::Work(work) | What::Newest(_, work) => Task::Work(work, now.wall),
        })
    }

    /// What is known of the ledger, as of what the disk thread has just done.
    pub(super) fn learn(&mut self, known: Known) {
        self.known = Some(known);
    }

    /// The state could not be read.
    pub(super) fn not_opened(&mut self, why: NotOpened) {
        match why.starts_again {
            // Where it was so from the start, another start would not help.
            true => self.starts_again = std::mem::take(&mut self.had_reason),
            false => self.had_reason = true,
        }
        self.not_opened = Some(why.why);
    }

    /// The ledger is open: this work comes before all that waits.
    pub(super) fn opened(&mut self, before_all: Option<WorkId>) {
        if let Some(work) = before_all {
            self.queue.push_front(Queued::work(0, What::Work(work)));
        }
    }

    /// What is under way is done, and how long it took; where that was told as a stall, that it is over.
    pub(super) fn done(&mut self, written: Option<Written>, now: Now) -> (Option<Settled>, Option<Stall>) {
        let Some(UnderWay { number, mut covered, first, stated, since }) = self.under_way.take() else {
            return (None, None);
        };
        let told = std::mem::take(&mut self.stall_told);
        let stall = told.then(|| Stall::Over(now.boot.saturating_sub(since)));
        let Some(written) = written else { return (None, stall) };
        self.tried = number;
        if written.noted {
            covered.merge(std::mem::take(&mut self.unsettled));
        } else {
            self.unsettled.merge(std::mem::take(&mut covered));
            self.unkept.extend(stated);
        }
        (Some(Settled { written, covered, first }), stall)
    }

    /// What is to be kept elsewhere too, now: all that waits, where that is wanted `at_once`, or the disk has not answered for
    /// [`KEPT_AFTER`], or did not take what it was given.
    pub(super) fn take_unkept(&mut self, at_once: bool, now: Now) -> Vec<Stated> {
        let waits = self.under_way.as_ref().is_some_and(|at| now.boot.saturating_sub(at.since) >= KEPT_AFTER);
        let begins = self.known.is_some() && !self.kept && (at_once || waits || !self.unkept.is_empty());
        let mut unkept = std::mem::take(&mut self.unkept);
        if begins {
            unkept.extend(self.take_waiting());
        }
        unkept
    }

    /// All that waits for the disk. From now on what is noted is kept elsewhere too.
    fn take_waiting(&mut self) -> Vec<Stated> {
        self.kept = true;
        let mut waiting = self.under_way.as_mut().map(|at| std::mem::take(&mut at.stated)).unwrap_or_default();
        let queued = self.queue.iter().filter_map(|queued| match &queued.what {
            What::Commit(commit) => Some(&commit.noted),
            What::Work(_) | What::Newest(..) => None,
        });
        waiting.extend(queued.flatten().cloned());
        waiting
    }

    /// Whether the disk has all that was kept elsewhere, so that it can go there; told once.
    pub(super) fn takes_kept(&mut self) -> bool {
        let waits = |queued: &Queued| matches!(&queued.what, What::Commit(commit) if !commit.noted.is_empty());
        let owes = self.known.as_ref().is_none_or(|known| known.owed > 0);
        let has_all = self.kept && !owes && self.under_way.is_none() && !self.queue.iter().any(waits);
        if has_all {
            self.kept = false;
            self.unkept.clear();
        }
        has_all
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

    /// Whether it is to be told now that the disk stands still: once. Of one that has not been read yet, the start tells it.
    pub(super) fn tells_stall(&mut self, now: Now) -> Option<Stall> {
        let begins = self.known.is_some() && !self.stall_told && self.stalled_for(now).is_some();
        self.stall_told |= begins;
        begins.then_some(Stall::Begun)
    }

    /// What the disk has not taken and is kept nowhere else, for the next start; for a stop.
    #[must_use]
    pub fn take_owed(&mut self) -> Vec<Stated> {
        let mut owed = std::mem::take(&mut self.unkept);
        if !self.kept {
            owed.extend(self.take_waiting());
        }
        owed
    }
}

/// So many pieces of work wait for the disk that no more are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk does not answer, and {MAX_WORK} other pieces of work wait")]
pub(super) struct TooMuchWork;

/// Adds to a commit that waits. Newer grants replace older ones; what is beyond [`MAX_OWED`] statements is counted.
fn add_to(commit: &mut Commit, noted: impl IntoIterator<Item = Stated>, state: Option<Snapshot>) {
    if let Some(state) = state {
        commit.state = Some(state.after(commit.state.take()));
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
    fn work(number: u64, what: What) -> Self {
        Self { number, what, covered: Covered::default(), first: None }
    }

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

#[cfg(test)]
mod tests;
