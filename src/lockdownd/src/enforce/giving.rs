//! Giving access: a grant is on its way to the disk, a session is let in. Durable first, then effective (`on_disk`).

use lockdown_core::policy::time::Now;
use lockdown_core::{
    grants::Full,
    policy::{
        grant::{Grant, Origin},
        rendered,
        store::MAX_STORE_FILE,
        time::Deadline,
    },
};
use record::{Account, Draft, SessionId};

use super::{Engine, First};
use crate::{
    disk::{NotWritten, Room},
    sessions::Session,
    trigger::Reason,
};

/// Why a grant did not take effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotInForce {
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

impl Engine {
    /// Takes a new grant into the table; it takes effect once it is saved and on record, with this statement. One that is
    /// saved and not recorded is dropped by the next start.
    ///
    /// # Errors
    /// There are too many, or the account's file in the key store has no room for its keys.
    pub(crate) fn give(&mut self, grant: Grant, draft: Draft, first: First, now: Now) -> Result<(), NotInForce> {
        if !self.has_store_room(&grant) {
            return Err(NotInForce::StoreFull(grant.account));
        }
        self.see_to_room(now);
        self.behind.somebody_comes(&grant.account);
        self.grants.add(grant)?;
        self.grants_unsaved = true;
        self.commit_first(draft, Room::Free, first, now);
        Ok(())
    }

    /// Makes a grant that the configuration renders, where its account exists.
    pub(super) fn make_rendered(
        &mut self,
        wanted: &lockdown_core::config::RenderedGrant,
        first_created: Option<jiff::Timestamp>,
        now: Now,
    ) {
        // It may be one that the state has already.
        if self.is_unread() {
            return;
        }
        let Some(uid) = self.world.uid_of(&wanted.account) else { return };
        let created_at = first_created.unwrap_or(now.wall);
        let starts_at = wanted.starts_at.unwrap_or(created_at).max(created_at);
        let most = self.config.grants.max_duration;
        // What is left of its longest life, counted from when this content was first seen.
        let ceiling = jiff::SignedDuration::try_from(most)
            .ok()
            .and_then(|most| starts_at.checked_add(most).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        let grant = Grant {
            id: self.new_grant_id(),
            person: wanted.person.clone(),
            account: wanted.account.clone(),
            uid,
            from: wanted.from.clone(),
            reason: wanted.reason.clone().unwrap_or_default(),
            origin: Origin::Config { place: wanted.place.to_string(), content: rendered::content(wanted) },
            created_at,
            starts_at,
            ends: Deadline::at(wanted.expires_at.min(ceiling), now),
            ceiling: Deadline::at(ceiling, now),
            recorded: false,
            end: None,
        };
        if grant.ends.has_passed(now) {
            return;
        }
        let sentence = format!(
            "{} may log in to {} until {:.0}, as {} says",
            grant.person, grant.account, grant.ends.wall, wanted.place
        );
        let draft = crate::operator::allow::grant_created(&grant, sentence);
        let first = First::Rendered(grant.id.clone());
        if let Err(error) = self.give(grant, draft, first, now) {
            tracing::error!(%error, place = %wanted.place, "a rendered grant could not be put in force; the next sweep tries again");
        }
    }

    /// Puts a session into the table and watches its connection; false if it cannot be kept.
    pub(crate) fn keep_session(&mut self, session: Session) -> bool {
        if self.sessions.is_full() {
            tracing::error!(
                "{} sessions are live, and that is the bound: no more are let in",
                crate::sessions::MAX_SESSIONS
            );
            return false;
        }
        let (id, account, monitor) = (session.id.clone(), session.account.clone(), session.monitor);
        if let Err(error) = self.sessions.add(session) {
            tracing::error!(%error, "a session could not be put into the table of live sessions");
            return false;
        }
        self.sessions.get(&id).into_iter().for_each(|session| self.recent.add(session));
        self.behind.somebody_comes(&account);
        self.trace(&id);
        self.look_at_soon(&id);
        self.watch_session(id, monitor);
        true
    }

    /// Tells the engine when a connection is gone. One that is gone already is told at once.
    pub(super) fn watch_session(&self, id: SessionId, monitor: lockdown_host::processes::ProcessId) {
        let reasons = self.reasons.clone();
        tokio::spawn(async move {
            match monitor.open() {
                Ok(Some(held)) => {
                    if let Err(error) = held.exited().await {
                        tracing::error!(session = %id, %error, "the end of a connection cannot be waited for");
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(session = %id, %error, "a connection cannot be watched");
                    return;
                }
            }
            // Nobody receives once the daemon stops; the next start looks at every session anyway.
            let _ = reasons.send(Reason::Gone(id)).await;
        });
    }
}
