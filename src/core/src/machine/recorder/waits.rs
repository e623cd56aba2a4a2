//! What takes effect only once it is on disk, and who waits for that.

use std::time::Duration;

use record::SessionId;

use super::{
    super::{PendingLogin, on_disk::First},
    KEPT_AFTER, Recorder, STALLED, What,
};
use crate::policy::time::Now;

impl Recorder {
    /// When somebody has waited long enough, or the disk counts as standing still, on the boot clock.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let stalls = self.under_way.as_ref().filter(|_| !self.stall_told).map(|at| at.since + STALLED);
        let kept = self.under_way.as_ref().filter(|at| !self.kept && !at.stated.is_empty());
        let kept = kept.map(|at| at.since + KEPT_AFTER);
        self.firsts().filter_map(First::until).chain(stalls).chain(kept).min()
    }

    /// Everything that waits to take effect.
    pub fn firsts(&self) -> impl Iterator<Item = &First> {
        let queued = self.queue.iter().filter_map(|queued| queued.first.as_ref());
        queued.chain(self.under_way.as_ref().and_then(|at| at.first.as_ref()))
    }

    /// The login that waits for this session to be on record.
    pub(in crate::machine) fn login_under_way(&mut self, id: &SessionId) -> Option<&mut PendingLogin> {
        let queued = self.queue.iter_mut().filter_map(|queued| queued.first.as_mut());
        let mut all = queued.chain(self.under_way.as_mut().and_then(|at| at.first.as_mut()));
        all.find_map(|first| match first {
            First::Login(login) if login.session == *id => Some(&mut **login),
            _ => None,
        })
    }

    /// Takes back what has waited long enough for its turn: it is not written any more.
    pub(in crate::machine) fn withdraw_overdue(&mut self, now: Now) -> Vec<First> {
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
    pub(in crate::machine) fn take_late(&mut self, now: Now) -> Option<First> {
        let first = &mut self.under_way.as_mut()?.first;
        first.take_if(|first| first.until().is_some_and(|until| now.boot >= until))
    }

    /// Puts back what was taken, as it is now.
    pub(in crate::machine) fn put_late(&mut self, first: First) {
        if let Some(at) = &mut self.under_way {
            at.first = Some(first);
        }
    }
}
