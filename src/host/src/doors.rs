//! The sockets where the daemon is asked, as paths.
//!
//! systemd makes them and goes on listening whatever becomes of the paths: root can remove or replace them, and then nobody
//! reaches the daemon. So the paths are looked at when they change, and made again.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{self, OFlag},
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket, sockopt,
        },
        stat::{self, Mode},
    },
    unistd,
};

/// The daemon's directory of what does not outlive a boot.
pub const RUN: &str = "/run/lockdownd";
/// Its mode: sshd walks it as the account that logs in.
const RUN_MODE: u32 = 0o755;
/// How many connections wait for a socket that the daemon made itself: as many as for systemd's.
const BACKLOG: i32 = 1_024;

/// Which process listens: the process and user id of whoever called listen(2).
type Listens = (i32, u32);

/// One socket's path.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    mode: u32,
    listens: Listens,
    /// What stood there when it was last seen to be right.
    right: Option<Facts>,
}

/// What lstat(2) says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    device: u64,
    inode: u64,
    mode: u32,
    uid: u32,
}

impl Door {
    /// The path at which this listener was bound, and the mode that it has to have.
    ///
    /// # Errors
    /// The kernel does not say who listens.
    pub fn new(path: &Path, mode: u32, listener: &impl AsFd) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), mode, listens: listens(listener)?, right: None })
    }

    /// Looks whether the path still leads to the listener. Where it does not, answers with a new one that listens there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn keep(&mut self) -> io::Result<Option<UnixListener>> {
        let (facts, own) = (self.facts(), unistd::geteuid());
        if facts.is_some() && facts == self.right {
            return Ok(None);
        }
        if facts.is_some_and(|facts| facts.mode & 0o7777 == self.mode && facts.uid == own.as_raw()) && self.leads_here()
        {
            self.right = facts;
            return Ok(None);
        }
        let listener = listen_at(&self.path, self.mode)?;
        self.listens = listens(&listener)?;
        self.right = self.facts();
        Ok(Some(listener))
    }

    fn facts(&self) -> Option<Facts> {
        let meta = fs::symlink_metadata(&self.path).ok().filter(|meta| meta.file_type().is_socket())?;
        Some(Facts { device: meta.dev(), inode: meta.ino(), mode: meta.mode(), uid: meta.uid() })
    }

    /// Where so many wait that nobody can connect, somebody listens.
    fn leads_here(&self) -> bool {
        match knock(&self.path) {
            Ok(Some(who)) => who == self.listens,
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

/// Whether somebody listens at a path.
///
/// # Errors
/// Why nobody does.
pub fn is_answered(path: &Path) -> io::Result<()> {
    knock(path).map(drop)
}

/// Connects and hangs up, without waiting: who listens; `None` where that cannot be told because too many wait.
fn knock(path: &Path) -> io::Result<Option<Listens>> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(stream.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => listens(&stream).map(Some),
        Err(Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Of a listener: who called listen(2). Of a connection: the same of its other end.
fn listens(socket: &impl AsFd) -> io::Result<Listens> {
    let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok((credentials.pid(), credentials.uid()))
}

/// Listens at a path in root's directory, in the place of whatever stands there.
fn listen_at(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let listener: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(&new)?)?;
    // Root alone writes in that directory, so it is the one that was just made.
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    if path.is_dir() {
        fs::remove_dir(path)?;
    }
    fs::rename(&new, path)?;
    Ok(listener.into())
}

/// Makes the daemon's directory root's and searchable by everybody, whatever became of it; whether it had to.
///
/// # Errors
/// It cannot be made so.
pub fn keep_directory(path: &Path) -> io::Result<bool> {
    let own = unistd::geteuid();
    let is_right = |meta: fs::Metadata| meta.is_dir() && meta.uid() == own.as_raw() && meta.mode() & 0o7777 == RUN_MODE;
    if fs::symlink_metadata(path).is_ok_and(is_right) {
        return Ok(false);
    }
    match fs::DirBuilder::new().mode(RUN_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = fcntl::open(path, flags, Mode::empty())?;
    unistd::fchown(&directory, Some(own), Some(unistd::getegid()))?;
    stat::fchmod(&directory, Mode::from_bits_truncate(RUN_MODE))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> (tempfile::TempDir, UnixListener, Door) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gate.sock");
        let listener = listen_at(&path, 0o600).expect("it listens");
        let door = Door::new(&path, 0o600, &listener).expect("a door");
        (directory, listener, door)
    }

    #[test]
    fn a_socket_that_is_removed_replaced_or_dead_is_made_again_and_one_that_stands_is_left_alone() {
        let (directory, _listener, mut door) = door();
        let path = directory.path().join("gate.sock");
        let made = |door: &mut Door| door.keep().expect("it can be made").is_some();
        assert!(!made(&mut door) && !made(&mut door), "it stands");
        let spoils: [fn(&Path); 5] = [
            |path| fs::remove_file(path).expect("removed"),
            |path| {
                fs::remove_file(path).expect("removed");
                // Nobody listens there any more.
                drop(UnixListener::bind(path).expect("bound"));
            },
            |path| {
                fs::remove_file(path).expect("removed");
                fs::write(path, "").expect("a file");
            },
            |path| {
                fs::remove_file(path).expect("removed");
                fs::create_dir(path).expect("a directory");
            },
            |path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("a mode"),
        ];
        let mut kept = Vec::new();
        for spoil in spoils {
            spoil(&path);
            kept.push(door.keep().expect("it can be made").expect("it was spoilt"));
            assert!(is_answered(&path).is_ok() && !made(&mut door));
            assert_eq!(fs::metadata(&path).expect("it stands").mode() & 0o7777, 0o600);
        }
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1, "no temporary is left");
    }

    #[test]
    fn a_socket_for_which_too_many_wait_is_one_that_is_answered() {
        let (directory, listener, mut door) = door();
        listen(&listener, Backlog::new(1).expect("one")).expect("it listens");
        let path = directory.path().join("gate.sock");
        let waiting: Vec<_> = (0..8).map(|_| knock(&path).expect("it is answered")).collect();
        assert!(waiting.contains(&None), "{waiting:?}");
        assert!(door.keep().expect("it can be made").is_none());
    }

    #[test]
    fn a_directory_that_was_closed_or_removed_is_put_right() {
        let above = tempfile::tempdir().expect("a directory");
        let run = above.path().join("run");
        assert!(keep_directory(&run).expect("made") && !keep_directory(&run).expect("it stands"));
        for mode in [0o700, 0o777] {
            fs::set_permissions(&run, fs::Permissions::from_mode(mode)).expect("a mode");
            assert!(keep_directory(&run).expect("put right"));
            assert_eq!(fs::metadata(&run).expect("it stands").mode() & 0o7777, RUN_MODE);
        }
    }
}
