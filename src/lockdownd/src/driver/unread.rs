//! A start on a disk that is missing, read-only or does not answer: what is known without it is in `/run`.
//!
//! What is over ends, break-glass works, and nothing new is given. What happens waits for the disk as it does where the disk
//! stops answering later. Once the state could be read, it is taken up as by a start.

use std::{fs, path::Path};

use lockdown_core::{
    grants::Grants,
    machine::{Event, Unread},
    policy::time::Now,
};
use lockdown_host::sshd::drop_in;

use super::{Driver, StartError};
use crate::{
    answered::ANSWERED_RUN,
    disk::{GRANTS_COPY, Left, Store, Work, owed},
    grants,
    kept::{self, LOCKED_DOWN},
};

impl Driver {
    /// Begins without the state: ends what is over by what is known.
    pub(super) fn begin_unread(&mut self, copy: Option<Grants>, now: Now) {
        tracing::error!(
            "the state in /var/lib/lockdownd is not read yet: until it is, nobody new is let in and nothing is granted; removals and endings go on, and are recorded then: {}",
            self.core.recorder.failing().unwrap_or("the disk does not answer")
        );
        if let Err(error) = self.answered.take_up(&[Path::new(ANSWERED_RUN)]) {
            tracing::error!(%error, "{ANSWERED_RUN} cannot be read: logins just before the start may be recorded as past the gate");
        }
        self.core.begin_unread(copy, kept::lockdown_left());
        self.core.recall_documents(grants::documents_beside(Path::new(GRANTS_COPY)), now);
        self.core.judge_unread(self.host_name(), now);
        // The marker of enforce is on that disk; sshd's drop-in is there as long as enforce is in force. Since when is not
        // known: nobody's session ends by that.
        self.core.mode.is_unread = false;
        self.core.mode.enforces = Path::new(drop_in::PATH).exists();
        self.core.mode.since = Some(now.boot);
        let knows_grants = self.core.unread.as_ref().is_some_and(Unread::knows_grants);
        // One that the last run did stands there where the disk did not take it.
        let last = owed::last_lockdown(&self.kept.owed);
        let missed = if knows_grants { self.core.resume_schedule(last, now) } else { None };
        self.put_config_in_force(now);
        self.watch_left(now);
        if let Some((grants, due)) = missed {
            self.step(Event::FindLogins, now);
            self.core.scheduled_lockdown(&grants, due, now);
        }
        self.step(Event::FindLogins, now);
        self.step(Event::Pass, now);
        self.core.resume_looks_behind(now);
        self.core.look_and_sweep(now);
    }

    /// The state has been read.
    ///
    /// # Errors
    /// What the daemon cannot do without is missing.
    pub(super) fn state_read(&mut self, left: Left, now: Now) -> Result<(), StartError> {
        if !self.core.is_unread() {
            return Ok(());
        }
        tracing::warn!("the state in /var/lib/lockdownd is read, and taken up");
        let Left { grants, documents, found } = left;
        self.core.take_up_grants(grants);
        self.take_up(documents, found, now)
    }

    /// A lockdown while the state was not read ends every grant that is read.
    pub(super) fn end_what_was_locked_down(&mut self, unread: Option<&Unread>, now: Now) {
        if !self.core.end_what_was_locked_down(unread, kept::lockdown_left(), now) {
            return;
        }
        // It is queued behind what ends them.
        let remove = |_: &mut Store| {
            if let Err(error) = fs::remove_file(LOCKED_DOWN) {
                tracing::warn!(%error, "{LOCKED_DOWN} cannot be removed: the next start ends every grant again");
            }
            None
        };
        self.work("removing the note of a lockdown", Box::new(remove));
    }

    /// What was kept after the disk thread had recorded the rest of it comes before all that waits.
    pub(super) fn record_owed_first(&mut self) -> Option<lockdown_core::machine::recorder::WorkId> {
        if !self.kept.owed.exists() {
            return None;
        }
        let owed = self.kept.owed.clone();
        let record: Work = Box::new(move |store: &mut Store| {
            if let Err(error) = owed::record(&owed, &mut store.ledger, jiff::Timestamp::now()) {
                tracing::error!(%error, "what could not be recorded earlier waits for the next start");
            }
            None
        });
        Some(self.held.work(record))
    }
}
