//! Whether anybody listens for connections who did not a moment ago: a new sshd writes no file that is watched.
//!
//! One read of the kernel's table every few seconds is all that this costs while nothing changes. Which process it is, is
//! looked at only when there is a new socket.

use std::{collections::BTreeSet, path::Path, time::Duration};

use lockdown_core::policy::time::Now;
use lockdown_host::{file_state::FileState, processes::ProcessId, sshd::listener};

use super::{Engine, jobs::Kind};
use crate::trigger::Reason;

/// How often the table of listening sockets is read.
const EVERY: Duration = Duration::from_secs(5);
/// A look that took long is followed by a pause so many times as long.
const SHARE: u32 = 50;

/// Who listened when last looked at.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    sockets: BTreeSet<Vec<u8>>,
    sshds: BTreeSet<ProcessId>,
    program: Option<FileState>,
    /// When it is looked again, on the boot clock; `None` while a look is under way.
    due: Option<Duration>,
}

/// Who listens now. What could not be looked at is as before.
#[derive(Debug)]
pub struct WhoListens {
    sockets: Option<BTreeSet<Vec<u8>>>,
    /// The listeners of root's sshds, where there is a new socket.
    sshds: Option<BTreeSet<ProcessId>>,
    program: Option<FileState>,
    began: Duration,
}

impl Listening {
    /// As it is now: what runs already is looked at by the sweep at start.
    pub(super) fn at_start() -> Self {
        let sockets = listener::listening_here().unwrap_or_default();
        Self { sockets, sshds: running().unwrap_or_default(), program: program(), due: Some(Duration::ZERO) }
    }

    /// The listeners of root's sshds when last looked at.
    pub(super) fn sshds(&self) -> &BTreeSet<ProcessId> {
        &self.sshds
    }

    /// When it is looked again, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// A look is over that began and ended then.
    pub(super) fn ended(&mut self, began: Duration, ended: Duration) {
        self.due = Some(ended + EVERY.max(ended.saturating_sub(began) * SHARE));
    }

    /// Whether one of these was not there the last time.
    fn has_new(&mut self, sockets: BTreeSet<Vec<u8>>) -> bool {
        let has_new = !sockets.is_subset(&self.sockets);
        self.sockets = sockets;
        has_new
    }
}

impl Engine {
    /// Looks who listens, if that is due.
    pub(super) fn look_who_listens_if_due(&mut self, now: Now) {
        if self.listening.due.is_none_or(|due| now.boot < due) {
            return;
        }
        self.listening.due = None;
        let before = self.listening.sockets.clone();
        self.begin_job(Kind::Listening, None, now, move || {
            let sockets = listener::listening_here();
            let has_new = sockets.as_ref().is_some_and(|sockets| !sockets.is_subset(&before));
            let sshds = has_new.then(running).flatten();
            Reason::Listening(WhoListens { sockets, sshds, program: program(), began: now.boot }).into()
        });
    }

    /// For a new socket users' own servers are looked for, and where root has started another sshd, every way in. A new
    /// program of sshd's may be another version.
    pub(super) fn heard_who_listens(&mut self, heard: WhoListens, now: Now) {
        let WhoListens { sockets, sshds, program, began } = heard;
        self.listening.ended(began, now.boot);
        let has_new = sockets.is_some_and(|sockets| self.listening.has_new(sockets));
        if has_new {
            self.look_for_users_sshds(now);
        }
        let mut looks = program.is_some() && program != self.listening.program;
        self.listening.program = program.or(self.listening.program);
        if let Some(sshds) = sshds {
            if !sshds.is_subset(&self.listening.sshds) {
                // It may have another configuration.
                looks = true;
                self.attest_soon(false, now);
            }
            self.listening.sshds = sshds;
        }
        if looks {
            self.look_at_world(now);
        }
    }
}

/// The program of sshd's, if it is there.
fn program() -> Option<FileState> {
    FileState::at(Path::new(listener::DEFAULT_BINARY)).ok()
}

/// The listeners of root's sshds; `None` where they cannot be found, which the ways in tell of.
fn running() -> Option<BTreeSet<ProcessId>> {
    let listeners = listener::running_as_root().ok()?;
    Some(listeners.into_iter().filter_map(|listener| listener.process).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_socket_is_one_that_was_not_there_the_last_time() {
        let set = |inodes: &[&str]| inodes.iter().map(|inode| inode.as_bytes().to_vec()).collect();
        let mut listening = Listening::default();
        assert!(listening.has_new(set(&["1", "2"])) && !listening.has_new(set(&["1", "2"])));
        assert!(!listening.has_new(set(&["1"])) && listening.has_new(set(&["1", "3"])));
        assert!(!listening.has_new(set(&[])));
    }
}
