//! Who listens for connections, watched by a thread of its own: a new sshd writes no file that is watched.
//!
//! One read of the kernel's table every few seconds is all that this costs while nothing changes. Which process it is, is
//! looked at only when there is a new socket or one less.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lockdown_core::machine::looks::Heard;
use lockdown_host::{file_state::FileState, processes::ProcessId, sshd::listener};
use tokio::sync::mpsc;

use crate::trigger::Reason;

/// How often the table of listening sockets is read.
const EVERY: Duration = Duration::from_secs(5);
/// A look that took long is followed by a pause so many times as long.
const SHARE: u32 = 50;

/// The listeners of root's sshds, and whoever watches for others.
pub(crate) struct Listeners {
    /// Those of the last look.
    pub(super) sshds: BTreeSet<ProcessId>,
    thread: JoinHandle<()>,
}

impl Listeners {
    /// Begins to watch. What runs already is looked at by the sweep at start.
    pub(super) fn watch(reasons: mpsc::Sender<Reason>) -> io::Result<Self> {
        let mut seen = Seen::now();
        let sshds = seen.sshds.clone();
        let watch = move || {
            loop {
                thread::sleep(EVERY.max(seen.took * SHARE));
                let heard = seen.look();
                let sshds = seen.sshds.clone();
                // Nobody receives once the daemon stops.
                if heard != Heard::default() && reasons.blocking_send(Reason::Heard { heard, sshds }).is_err() {
                    return;
                }
            }
        };
        Ok(Self { sshds, thread: thread::Builder::new().name("listeners".to_owned()).spawn(watch)? })
    }

    /// Whether others are still watched for.
    pub(crate) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// Who listened when last looked at.
#[derive(Debug, Default)]
struct Seen {
    sockets: BTreeSet<Vec<u8>>,
    sshds: BTreeSet<ProcessId>,
    program: Option<FileState>,
    took: Duration,
}

impl Seen {
    fn now() -> Self {
        let sockets = listener::listening_here().unwrap_or_default();
        Self { sockets, sshds: running().unwrap_or_default(), program: program(), took: Duration::ZERO }
    }

    /// What has changed since. What cannot be looked at is as before.
    fn look(&mut self) -> Heard {
        let began = Instant::now();
        let before = self.sockets.clone();
        let new_socket = listener::listening_here().is_some_and(|sockets| self.has_new(sockets));
        let sshds = (self.sockets != before).then(running).flatten();
        // Where none is left, nobody comes to the rescue.
        let differs =
            |sshds: &BTreeSet<ProcessId>| !sshds.is_subset(&self.sshds) || sshds.is_empty() != self.sshds.is_empty();
        let new_sshd = sshds.as_ref().is_some_and(differs);
        self.sshds = sshds.unwrap_or_else(|| std::mem::take(&mut self.sshds));
        let program = program();
        let new_program = program.is_some() && program != self.program;
        self.program = program.or(self.program.take());
        self.took = began.elapsed();
        Heard { new_socket, new_sshd, new_program }
    }

    /// Whether one of these was not there the last time.
    fn has_new(&mut self, sockets: BTreeSet<Vec<u8>>) -> bool {
        let has_new = !sockets.is_subset(&self.sockets);
        self.sockets = sockets;
        has_new
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
        let mut seen = Seen::default();
        assert!(seen.has_new(set(&["1", "2"])) && !seen.has_new(set(&["1", "2"])));
        assert!(!seen.has_new(set(&["1"])) && seen.has_new(set(&["1", "3"])));
        assert!(!seen.has_new(set(&[])));
    }
}
