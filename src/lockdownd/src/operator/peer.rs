//! Who asks, and whether they may.
//!
//! The socket's mode lets in root and the operators' group. A peer that is not root needs, besides, a live granted
//! session of their own that it descends from: so no job left behind can renew access.

use control::{Refusal, RefusalCode};
use record::{Actor, Person};

use crate::{
    enforce::Engine,
    host::processes::{self, Process},
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
    pub(super) fn who_asks(&self, peer: Peer) -> Result<Asker, Refusal> {
        let pid = i32::try_from(peer.pid).unwrap_or_default();
        let process = Process::read(pid).filter(|process| process.euid == peer.uid);
        let line = processes::ancestors(pid);
        let session = self.sessions.of_any(&line).filter(|session| session.ending.is_none());
        let granted = session.filter(|session| session.grant().is_some());
        if peer.uid != 0 && granted.is_none() {
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
            exe: process.as_ref().and_then(|process| process.exe.as_ref()).map(|exe| exe.display().to_string()),
            pid: Some(peer.pid),
        };
        Ok(Asker { actor })
    }
}
