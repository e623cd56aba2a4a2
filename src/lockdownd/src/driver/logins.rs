//! Connections as the host shows them: those that the gate never told of, and what the others are used for.

use std::time::{Duration, Instant};

use lockdown_core::{
    machine::{
        Event,
        found::{Found, LoginsFound, SessionsSeen},
    },
    sessions::Session,
};
use lockdown_host::{
    left_behind,
    logins::{self, Login},
    processes::Handle as _,
    sockets::Sockets,
};
use record::{Account, SessionId};

use super::Driver;
use crate::trigger::Reason;

/// How long after it was opened a session is looked at, to see what it is used for: when a shell is surely there, and
/// when the first command of a script is.
const LOOKS: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(3)];

impl Driver {
    /// Looks for authenticated SSH connections that are not in the table, then for notes of the gate's.
    pub(super) fn find_logins(&self) -> LoginsFound {
        let began = Instant::now();
        let found = logins::find(self.world.uid_by_name(logins::PRIVSEP)).unwrap_or_else(|error| {
            tracing::error!(%error, "connections cannot be looked for");
            Vec::new()
        });
        let new = found.into_iter().filter(|login| self.core.sessions.nearest(&[login.monitor]).is_none());
        let mut sockets = Sockets::default();
        let logins = new.map(|login| self.found_login(login, &mut sockets)).collect();
        LoginsFound { logins, notes: self.read_notes(), took: began.elapsed() }
    }

    fn found_login(&self, login: Login, sockets: &mut Sockets) -> Found {
        let (account, uses) = (self.account_of(&login), logins::uses(login.monitor, sockets));
        let Login { monitor, uid, source, .. } = login;
        Found { monitor, uid, account, source, uses }
    }

    /// The account that sshd's title names, if it has that user id; else the first that has.
    fn account_of(&self, login: &Login) -> Option<Account> {
        let titled = login.name.as_ref().and_then(|name| name.parse::<Account>().ok());
        let has_uid = |account: &Account| self.core.uid_of(account) == Some(login.uid);
        titled.clone().filter(has_uid).or_else(|| self.world.account_by_uid(login.uid)).or(titled)
    }

    /// Looks whether these sessions go on, and what they are used for. One that is to end is left to whoever ends it.
    pub(super) fn see_sessions(&self, ids: &[SessionId]) -> SessionsSeen {
        let (mut seen, mut sockets) = (SessionsSeen::default(), Sockets::default());
        for session in ids.iter().filter_map(|id| self.core.sessions.get(id)) {
            let id = session.id.clone();
            if !session.monitor.is_alive() {
                seen.gone.push(id);
            } else if session.ending.is_none() {
                seen.live.push((id, logins::uses(session.monitor, &mut sockets), audit_session(session)));
            }
        }
        seen
    }

    /// A session is in the table: what it is used for is looked at soon. Its audit session, where a grant let it in.
    pub(super) fn session_opened(&self, id: &SessionId) -> Option<Event> {
        let session = self.core.sessions.get(id)?;
        self.came.note(&session.account);
        for wait in LOOKS {
            let (reasons, id) = (self.reasons.clone(), id.clone());
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                // Nobody receives once the daemon stops; the next sweep looks at every session anyway.
                let _ = reasons.send(Reason::LookAt(id)).await;
            });
        }
        Some(Event::Traced(id.clone(), audit_session(session)?))
    }
}

/// The audit session of a granted connection.
fn audit_session(session: &Session) -> Option<u32> {
    session.grant().and_then(|_| left_behind::own_audit_session(session.monitor))
}
