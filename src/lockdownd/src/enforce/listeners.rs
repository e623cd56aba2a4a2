//! Whether anybody listens for connections who did not a moment ago: a new sshd writes no file that is watched.
//!
//! One read of the kernel's table every few seconds is all that this costs while nothing changes. Which process it is, is
//! looked at only when there is a new socket.

use std::{collections::BTreeSet, time::Duration};

use super::Engine;
use crate::host::{clock::Now, processes::ProcessId, sshd::listener};

/// How often the table of listening sockets is read.
const EVERY: Duration = Duration::from_secs(5);
/// A look that took long is followed by a pause so many times as long: it holds up the main thread.
const SHARE: u32 = 50;

/// Who listened when last looked at.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    sockets: BTreeSet<Vec<u8>>,
    sshds: BTreeSet<ProcessId>,
    due: Duration,
}

impl Listening {
    /// As it is now: what runs already is looked at by the sweep at start.
    pub(super) fn at_start() -> Self {
        Self { sockets: listener::listening_here(), sshds: running(), due: Duration::ZERO }
    }

    /// When it is looked again, on the boot clock.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Whether one of these was not there the last time.
    fn has_new(&mut self, sockets: BTreeSet<Vec<u8>>) -> bool {
        let has_new = !sockets.is_subset(&self.sockets);
        self.sockets = sockets;
        has_new
    }
}

impl Engine {
    /// Looks who listens, if that is due: for a new socket users' own servers are looked for, and where root has started
    /// another sshd, every way in.
    pub(super) fn look_who_listens_if_due(&mut self, now: Now) {
        if now.boot < self.listening.due {
            return;
        }
        if self.listening.has_new(listener::listening_here()) {
            self.look_for_users_sshds(now);
            let running = running();
            if !running.is_subset(&self.listening.sshds) {
                self.attest_soon(false, now);
            }
            self.listening.sshds = running;
        }
        let after = Now::read().boot;
        self.listening.due = after + EVERY.max(after.saturating_sub(now.boot) * SHARE);
    }
}

/// The listeners of root's sshds; none where they cannot be found, which the ways in tell of.
fn running() -> BTreeSet<ProcessId> {
    listener::running_as_root().into_iter().flatten().filter_map(|listener| listener.process).collect()
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
