//! What the disk thread has done.

use std::time::Duration;

use lockdown_core::{
    machine::{Event, recorder},
    policy::time::Now,
};
use lockdown_host::clock;

use super::{Driver, Next};
use crate::{
    disk::{Done, NotOpened, Told},
    ledger::describe,
};

/// How long a stop waits for the disk; what it has not taken by then, the next start makes up for.
pub(crate) const LAST_COMMITS: Duration = Duration::from_secs(1);

impl Driver {
    /// The disk thread has done something.
    pub(super) fn disk_told(&mut self, now: Now) -> Next {
        let mut next = Next::GoOn;
        while let Some(told) = self.disk.told() {
            match told {
                Told::NotOpened(why) => self.not_opened(&why, now),
                Told::Done(done) => {
                    let (done, view, known) = *done;
                    self.ledger = Some(view);
                    if self.disk_done(done, known, now) == Next::Stop {
                        next = Next::Stop;
                    }
                }
            }
        }
        if self.core.recorder.takes_another_start() {
            tracing::warn!("the daemon starts again: {}", self.core.recorder.failing().unwrap_or_default());
            self.stop(now);
            return Next::Stop;
        }
        next
    }

    pub(super) fn not_opened(&mut self, why: &NotOpened, now: Now) {
        let starts_again = matches!(why, NotOpened::Remounted(_));
        let why = recorder::NotOpened { why: describe(why), starts_again };
        self.step(Event::Disk(recorder::Done::NotOpened(why), None), now);
    }

    fn disk_done(&mut self, done: Done, known: recorder::Known, now: Now) -> Next {
        let (told, brought, left) = match done {
            Done::Opened(left) => (recorder::Done::Opened(self.record_owed_first()), None, Some(left)),
            Done::Written(written) => (recorder::Done::Written(written), None, None),
            Done::Brought(brought) => (recorder::Done::Worked, brought, None),
        };
        self.step(Event::Disk(told, Some(known)), now);
        if let Some(left) = left
            && let Err(error) = self.state_read(*left, now)
        {
            tracing::error!("lockdownd has to start again: {}", describe(&error));
            return Next::Stop;
        }
        brought.map_or(Next::GoOn, |reason| self.act(*reason, now))
    }

    /// Waits until what is noted is on disk, a moment at most; for a stop.
    pub(super) fn settle(&mut self, most: Duration) {
        let until = clock::now().boot + most;
        loop {
            let now = clock::now();
            let _ = self.disk_told(now);
            self.follow(now);
            let left = until.saturating_sub(now.boot);
            if self.core.recorder.is_idle() || left.is_zero() || !self.disk.wait(left) {
                return;
            }
        }
    }
}
