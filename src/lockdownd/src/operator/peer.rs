//! Who asks, and whether they may.
//!
//! The socket's mode lets in root and the operators' group. A peer that is not root needs, besides, a live granted
//! session of their own: one that it descends from, or whose scope it is in, since `tmux` and `nohup` leave the process
//! tree but cannot leave the scope. So no job left behind can renew access.

use control::{Refusal, RefusalCode};
use record::{Actor, Person, SessionId};

use crate::{
    enforce::Engine,
    host::{
        clock::Now,
        connection,
        processes::{self, Process},
    },
    policy::session::{self, Verdict},
    sessions::Session,
    trigger::Peer,
};

/// Who asks: checked, and ready for the record.
#[derive(Debug, Clone)]
pub struct Asker {
    /// For the record.
    pub actor: Actor,
}

impl Asker {
    /// The person whose session it is, where there is one.
    #[must_use]
    pub fn person(&self) -> Option<&Person> {
        self.actor.person.as_ref()
    }
}

impl Engine {
    /// Finds out who the peer is.
    pub(super) fn who_asks(&self, peer: Peer, now: Now) -> Result<Asker, Refusal> {
        let pid = i32::try_from(peer.pid).unwrap_or_default();
        let process = Process::read(pid).filter(|process| process.euid == peer.uid);
        let session = process.as_ref().and_then(|process| self.session_around(process));
        if peer.uid != 0 && !session.is_some_and(|session| self.is_granted(session, now)) {
            return Err(Refusal::new(
                RefusalCode::NotPermitted,
                "only root, or somebody within their own live granted SSH session, may ask this",
            )
            .hint("log in by ssh on a grant of your own, or ask as root (sudo)"));
        }
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
        Ok(Asker { actor })
    }

    /// The live session that an operator asks from, where it is one.
    pub(super) fn session_asking(&self, asker: &Asker) -> Option<SessionId> {
        let process = Process::read(i32::try_from(asker.actor.pid?).ok()?)?;
        self.session_around(&process).map(|session| session.id.clone())
    }

    /// The live session that a process is part of.
    fn session_around(&self, process: &Process) -> Option<&Session> {
        let above = || self.sessions.nearest(&processes::ancestors(process.id.pid));
        // Of two connections in one scope (of an sshd that somebody started by hand in theirs) neither is believed.
        let beside = || match self.sessions.all_of(&connection::scope_members(process)).as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        above().or_else(beside).filter(|session| session.ending.is_none())
    }

    /// Whether a session still stands on a grant; one may outlive its grant (observe, `sessions.end_with_grant = false`).
    fn is_granted(&self, session: &Session, now: Now) -> bool {
        let grant = session.grant().and_then(|id| self.grants.get(id));
        grant.is_some() && session::judge(&session.standing, grant, &self.people, now) == Verdict::Keep
    }
}
