//! Giving access: a grant is on its way to the disk, a session is let in. Durable first, then effective (`on_disk`).

use record::{Account, Draft, SessionId};

use super::{
    Core, Effect, First, Severity,
    recorder::{NotWritten, Room},
};
use crate::{
    grants::Full,
    policy::{grant::Grant, store::MAX_STORE_FILE, time::Now},
    process::ProcessId,
    sessions::{MAX_SESSIONS, Session},
};

/// Why a grant did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum NotInForce {
    /// It is not on disk.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    /// There are too many.
    #[error(transparent)]
    Full(#[from] Full),
    /// The key store.
    #[error("the file of {0} in the key store would have more than {MAX_STORE_FILE} bytes")]
    StoreFull(Account),
    /// It ended before it was on disk.
    #[error("it was ended meanwhile: {0}")]
    Ended(String),
}

impl Core {
    /// Takes a new grant into the table; it takes effect once it is saved and on record, with these statements. One that is
    /// saved and not recorded is dropped by the next start.
    ///
    /// # Errors
    /// There are too many, or the account's file in the key store has no room for its keys.
    pub fn give(&mut self, grant: Grant, drafts: Vec<Draft>, first: First, now: Now) -> Result<(), NotInForce> {
        if !self.has_store_room(&grant) {
            return Err(NotInForce::StoreFull(grant.account));
        }
        let account = grant.account.clone();
        self.grants.add(grant)?;
        self.push(Effect::Comes(account));
        self.grants_unsaved = true;
        self.commit_first(drafts, Room::Free, first, now);
        Ok(())
    }

    /// Puts a session into the table and has its connection watched; false if it cannot be kept.
    pub fn keep_session(&mut self, session: Session) -> bool {
        if self.sessions.is_full() {
            let what = format!("{MAX_SESSIONS} sessions are live, and that is the bound: no more are let in");
            self.say(Severity::Err, what);
            return false;
        }
        let (id, monitor) = (session.id.clone(), session.monitor);
        self.recent.add(&session);
        self.sessions.add(session);
        self.watch(id.clone(), monitor);
        self.push(Effect::Opened(id));
        true
    }

    /// Has a session's connection watched: one that is gone already is told at once.
    pub fn watch(&mut self, id: SessionId, monitor: ProcessId) {
        self.push(Effect::Watch(id, monitor));
    }
}
