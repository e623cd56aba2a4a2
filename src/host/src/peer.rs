//! Who is at the other end of a socket: what the kernel says of the process that connected, and a handle on it that a
//! reused pid cannot fool.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::processes::{self, Process};

/// Who asks on `control.sock`.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The process that connected.
    pub pid: u32,
    /// Its effective user id when it connected.
    pub uid: u32,
    /// Whose login it belongs to, whatever user id it has taken since; `None` for a process of no login.
    pub login_uid: Option<u32>,
    handle: Arc<OwnedFd>,
}

impl Peer {
    /// The peer of a connected socket.
    ///
    /// # Errors
    /// The process is gone, or the kernel does not say which it is.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
        let handle = match getsockopt(socket, sockopt::PeerPidfd) {
            // Before Linux 6.5. Another process can have the pid only if the peer ended within the moment before.
            Err(Errno::ENOPROTOOPT) => {
                let pid = Pid::from_raw(credentials.pid()).ok_or(Errno::ESRCH)?;
                pidfd_open(pid, PidfdFlags::empty())?
            }
            handle => handle?,
        };
        let pid = u32::try_from(credentials.pid()).map_err(io::Error::other)?;
        let login_uid = processes::login_uid(credentials.pid());
        let peer = Self { pid, uid: credentials.uid(), login_uid, handle: Arc::new(handle) };
        if peer.is_alive() { Ok(peer) } else { Err(Errno::ESRCH.into()) }
    }

    /// The process that connected, if it still runs with the user id that it had then.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        let process = Process::read(i32::try_from(self.pid).ok()?).filter(|process| process.euid == self.uid);
        process.filter(|_| self.is_alive())
    }

    /// Whether the process that connected still runs. What was read of its pid before this says yes is about it.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        // A pidfd becomes readable when its process ends.
        let mut handle = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        poll(&mut handle, PollTimeout::ZERO) == Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::{UnixListener, UnixStream},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_peer_is_the_process_that_connected() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = Peer::of(&here).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.process().unwrap().euid, peer.uid);
    }

    #[test]
    fn a_peer_that_ended_is_no_process_whoever_holds_its_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let python = "import os, socket, sys, time
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdin.read()";
        let mut child = Command::new("python3").args(["-c", python]).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let peer = Peer::of(&stream).unwrap();
        assert_eq!(peer.process().map(|process| process.id.pid), i32::try_from(child.id()).ok());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(peer.process().is_none());
        assert!(Peer::of(&stream).is_err());
    }
}
