//! Who asks, and whether they may.
//!
//! Anybody may connect; each request is judged by the peer's user id and session. A peer that is not root needs a live
//! granted session of their own: one that it descends from, or whose scope it is in, since `tmux` and `nohup` leave the
//! process tree but cannot leave the scope. So no job left behind can renew access. And they have to be an operator: as a
//! person, or by their account's membership of the operators' group as `/etc/group` is now.

use control::{Refusal, RefusalCode};
use lockdown_core::{
    machine,
    policy::{
        operator::{Denied, OwnSession, may_ask},
        session::{self, Verdict},
        time::Now,
    },
    sessions::Session,
};
use lockdown_host::{
    accounts, connection,
    peer::Peer,
    processes::{self, Process},
};
use record::{Actor, Person, SessionId};

use crate::driver::Driver;

/// Who asks: checked, and ready for the record.
#[derive(Debug, Clone)]
pub struct Asker {
    /// For the record.
    pub actor: Actor,
    peer: Peer,
}

impl Asker {
    /// As the core knows them.
    pub(super) fn core(self) -> machine::Asker {
        machine::Asker { actor: self.actor }
    }
}

impl Driver {
    /// Finds out who the peer is.
    pub(super) fn who_asks(&self, peer: Peer, now: Now) -> Result<Asker, Refusal> {
        let process = peer.process();
        let session = self.session_of(&peer, process.as_ref());
        let own = session.map(|session| OwnSession {
            uid: self.core.uid_of(&session.account),
            is_granted: self.is_granted(session, now),
            is_operator: session.person().is_some_and(|person| self.is_operator(person)),
        });
        let is_member = || session.is_some_and(|session| self.is_in_operators_group(session));
        may_ask(peer.uid, own, is_member).map_err(refusal)?;
        let actor = Actor {
            uid: Some(peer.uid),
            login_uid: process.as_ref().and_then(|process| process.login_uid),
            person: session.and_then(|session| session.person().cloned()),
            exe: process
                .as_ref()
                .and_then(|process| process.exe.as_ref())
                .map(|exe| record::outside(exe.as_os_str().as_encoded_bytes())),
            pid: Some(peer.pid),
        };
        Ok(Asker { actor, peer })
    }

    /// The live session that an operator asks from, where it is one.
    pub(super) fn session_asking(&self, asker: &Asker) -> Option<SessionId> {
        self.session_of(&asker.peer, asker.peer.process().as_ref()).map(|session| session.id.clone())
    }

    fn session_of(&self, peer: &Peer, process: Option<&Process>) -> Option<&Session> {
        // Looked for by pid: it counts if the peer still has that.
        process.and_then(|process| self.session_around(process)).filter(|_| peer.is_alive())
    }

    fn is_operator(&self, person: &Person) -> bool {
        self.core.config.people.get(person).is_some_and(|entry| entry.operator)
    }

    /// Whether the account of a session is in the operators' group now. What cannot be read makes nobody an operator.
    fn is_in_operators_group(&self, session: &Session) -> bool {
        let Some(entry) = self.world.entry(&session.account) else { return false };
        accounts::is_member(entry, control::OPERATORS).unwrap_or_else(|error| {
            tracing::warn!(%error, "who is in the operators' group is not known, so nobody is by it");
            false
        })
    }

    /// The live session that a process is part of.
    fn session_around(&self, process: &Process) -> Option<&Session> {
        let above = || self.core.sessions.nearest(&processes::ancestors(process.id.pid));
        // Of two connections in one scope (of an sshd that somebody started by hand in theirs) neither is believed.
        let beside = || match self.core.sessions.all_of(&connection::scope_members(process)).as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        above().or_else(beside).filter(|session| session.ending.is_none())
    }

    /// Whether a session still stands on a grant; one may outlive its grant (observe, `sessions.end_with_grant = false`).
    fn is_granted(&self, session: &Session, now: Now) -> bool {
        let grant = session.grant().and_then(|id| self.core.grants.get(id));
        grant.is_some() && session::judge(&session.standing, grant, &self.core, now) == Verdict::Keep
    }
}

fn refusal(denied: Denied) -> Refusal {
    match denied {
        Denied::NotInOwnSession => Refusal::new(
            RefusalCode::NotPermitted,
            "only root, or an operator within their own live granted SSH session, may ask this",
        )
        .hint("log in by ssh on a grant of your own, or ask as root (sudo)"),
        Denied::NoOperator => Refusal::new(RefusalCode::NotPermitted, "you are not an operator here").hint(format!(
            "ask as root (sudo), or have root set operator = true for you in [[person]], or put your account into the \
             group {}",
            control::OPERATORS
        )),
    }
}
