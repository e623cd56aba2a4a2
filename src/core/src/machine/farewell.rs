//! What people read on their terminals: that their time is nearly over, and why they were cut off.
//!
//! It is told to the connection's own terminals alone, once for each end, and never waited for.

use std::time::Duration;

use control::format_duration;
use jiff::{SignedDuration, Timestamp};
use record::{GrantId, SessionId};

use super::{Core, Effect, Tell, Warn};
use crate::{
    policy::time::Now,
    sessions::{Cause, End, Session, Warned},
};

impl Core {
    /// When the next warning is due.
    pub(super) fn next_warning(&self) -> Option<Timestamp> {
        let before = self.warning()?;
        let ends = self.grants.open_ones().map(|grant| grant.ends.wall).chain(self.next_lockdown());
        ends.filter_map(|end| end.checked_sub(before).ok()).filter(|at| *at > self.warned_to).min()
    }

    /// Warns every session whose end is near and that has not been told of it.
    pub(super) fn warn_sessions(&mut self, now: Now) {
        if self.next_warning().is_none_or(|at| at > now.wall) {
            return;
        }
        self.warned_to = now.wall;
        let ids: Vec<SessionId> = self.sessions.live().iter().map(|session| session.id.clone()).collect();
        for id in ids {
            self.warn(&id, now);
        }
    }

    /// Warns the terminals of one session that have not been told of its end, if that is near.
    pub fn warn(&mut self, id: &SessionId, now: Now) {
        let Some(before) = self.warning() else { return };
        let Some(session) = self.sessions.get(id).filter(|session| session.ending.is_none()) else { return };
        let Some((ends_at, why)) = self.end_of(session) else { return };
        let left = ends_at.duration_since(now.wall);
        if left > before || left <= SignedDuration::ZERO {
            return;
        }
        let told = session.warned.as_ref().filter(|warned| warned.ends_at == ends_at);
        let told = told.map(|warned| warned.terminals.clone()).unwrap_or_default();
        let Some(tell) = self.tell(session, warning(session, ends_at, left, why)) else { return };
        self.push(Effect::Warn(Warn { session: id.clone(), ends_at, tell, told }));
    }

    /// These terminals of a session have been told of its end.
    pub(super) fn warned(&mut self, id: &SessionId, ends_at: Timestamp, terminals: Vec<u32>) {
        self.sessions.change(id, |session| session.warned = Some(Warned { ends_at, terminals }));
    }

    /// What a person reads where they log in to a terminal: when this connection will be ended.
    pub(super) fn greeting(&self, session: &Session, now: Now) -> Option<String> {
        let (ends_at, why) = self.end_of(session).filter(|_| self.ends_sessions())?;
        let left = rounded(ends_at.duration_since(now.wall));
        Some(format!("lockdownd: this connection to {} ends in {left}, at {ends_at:.0}: {why}.", shown(session)))
    }

    /// Tells the terminals of a grant's sessions that they go on for longer, where a lockdown does not end them first.
    pub(super) fn tell_new_end(&mut self, grant: &GrantId, before: Timestamp, now: Now) {
        if !self.ends_sessions() || self.next_lockdown().is_some_and(|lockdown| lockdown < before) {
            return;
        }
        let theirs = self.sessions.live().iter();
        let theirs = theirs.filter(|session| session.grant() == Some(grant) && session.ending.is_none());
        let tell = |session: &Session| {
            let (ends_at, why) = self.end_of(session)?;
            let left = rounded(ends_at.duration_since(now.wall));
            let text =
                format!("lockdownd: this connection to {} now ends in {left}, at {ends_at:.0}: {why}.", shown(session));
            self.tell(session, text)
        };
        let told: Vec<Tell> = theirs.filter_map(tell).collect();
        told.into_iter().for_each(|tell| self.push(Effect::Tell(tell)));
    }

    fn tell(&self, session: &Session, text: String) -> Option<Tell> {
        let owner = self.uid_of(&session.account)?;
        Some(Tell { monitor: session.monitor, owner, text })
    }

    /// Whether a session is ended when its grant ends.
    fn ends_sessions(&self) -> bool {
        self.enforces() && self.config.sessions.end_with_grant
    }

    /// How long before its end a session is warned; nothing where no session ends with its grant.
    fn warning(&self) -> Option<SignedDuration> {
        let before = self.config.sessions.warn_before?;
        SignedDuration::try_from(before).ok().filter(|_| self.ends_sessions())
    }

    /// When a session will be ended, by what.
    fn end_of(&self, session: &Session) -> Option<(Timestamp, &'static str)> {
        let grant = self.grants.get(session.grant()?)?;
        let grant = (grant.ends.wall, "its grant ends");
        match self.next_lockdown() {
            Some(lockdown) if lockdown < grant.0 => Some((lockdown, "a lockdown is scheduled")),
            _ => Some(grant),
        }
    }
}

/// What a session's terminals are told when it ends. Whoever locked down did not mean people to come back.
pub(super) fn farewell(session: &Session, end: &End) -> String {
    let remedy = if end.cause == Cause::Lockdown { String::new() } else { remedy(session) };
    format!("lockdownd: this connection to {} ends now: {}.{remedy}", session.account, end.reason)
}

fn warning(session: &Session, ends_at: Timestamp, left: SignedDuration, why: &str) -> String {
    let (left, account) = (rounded(left), &session.account);
    format!("lockdownd: this connection to {account} ends in {left}, at {ends_at:.0}: {why}.{}", remedy(session))
}

/// How long that is, in whole minutes where there are several: they read better.
fn rounded(left: SignedDuration) -> String {
    let seconds = left.as_secs().max(1).unsigned_abs();
    let rounded = if seconds > 120 { (seconds + 30) / 60 * 60 } else { seconds };
    format_duration(Duration::from_secs(rounded))
}

/// The account, for whatever shows it.
fn shown(session: &Session) -> String {
    record::escape(session.account.as_str().as_bytes())
}

fn remedy(session: &Session) -> String {
    session.person().map_or_else(String::new, |person| {
        format!(
            "\nAn operator can give more time: lockdownctl allow {person} --account {} --for 1h --reason TICKET",
            session.account
        )
    })
}
