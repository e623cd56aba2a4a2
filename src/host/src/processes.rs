//! Processes as the kernel shows them in `/proc`, and handles on them that a reused pid cannot fool.
//!
//! Everything about one process is read through one descriptor of its directory, so that it is about one process even
//! when that ends meanwhile. This module must never act on a bare pid, read without a bound, or believe a command line:
//! any process may write its own. Nor may it wait for a process's user. Reading `cmdline`, `environ` or `maps` waits for
//! the process's memory map, which its user can hold for minutes; reading `exe` as a file, or a file below `root`, may
//! wait for the user's file system. What is read here of anybody's process does not wait (measured, see
//! docs/ARCHITECTURE.md); the command line is read of root's processes alone.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::PathBuf,
};

use super::async_fd;
pub use lockdown_core::process::ProcessId;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, makedev},
    io::Errno,
    process::{Pid, PidfdFlags, Signal},
};
use text::{cgroup_of, read_to, split_cmdline, uids, without_deleted};

mod text;

/// Most bytes read of one file in `/proc`; the rest is left unread. A command line may be longer, but nothing that
/// matters here is.
const MAX_PROC_FILE: usize = 32 * 1024;
/// The same for the kernel's table of sockets: some 150 bytes a line.
const MAX_PROC_TABLE: usize = 16 * 1024 * 1024;
/// How many generations [`ancestors`] climbs: more than a process tree has.
const MAX_ANCESTORS: usize = 128;
/// The login uid and audit session of a process that belongs to no login (audit's `AUDIT_UID_UNSET`).
const UNSET: u32 = u32::MAX;

/// `/proc` could not be read, or a handle could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// `/proc` itself could not be listed.
    #[error("/proc: {0}")]
    Proc(#[source] io::Error),
    /// A pidfd could not be opened for another reason than that the process is gone.
    #[error("process {pid}: pidfd_open: {source}")]
    Open {
        /// Whose handle.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A signal could not be sent for another reason than that the process is gone.
    #[error("process {pid}: signal: {source}")]
    Signal {
        /// To whom.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The end of the process could not be waited for.
    #[error("process {pid}: waiting for its end: {source}")]
    Wait {
        /// For whom.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What the kernel says of one process, and a handle on it.
pub trait Handle {
    /// A handle on exactly this process; `None` when it has ended, whoever has its pid now.
    ///
    /// # Errors
    /// When the kernel refuses a pidfd, as it does when descriptors run out.
    fn open(&self) -> Result<Option<PidFd>, ProcessError>;

    /// Whether it still runs: neither gone nor a zombie, all of its threads included.
    fn is_alive(&self) -> bool;
}

impl Handle for ProcessId {
    fn open(&self) -> Result<Option<PidFd>, ProcessError> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let fd = match rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(ProcessError::Open { pid: self.pid, source: errno.into() }),
        };
        // Checked after the open: the pid cannot have passed to another process without the start time changing.
        Ok((identity(self.pid) == Some(*self)).then_some(PidFd { id: *self, fd }))
    }

    fn is_alive(&self) -> bool {
        let stat = ProcDir::open(self.pid).and_then(|dir| dir.stat());
        stat.is_some_and(|stat| stat.start_time == self.start_time && !stat.is_dead())
    }
}

/// A handle on one process (pidfd_open(2)).
#[derive(Debug)]
pub struct PidFd {
    id: ProcessId,
    fd: OwnedFd,
}

impl PidFd {
    /// Whose handle this is.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Sends a signal; false when the process has ended.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn signal(&self, signal: Signal) -> Result<bool, ProcessError> {
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(ProcessError::Signal { pid: self.id.pid, source: errno.into() }),
        }
    }

    /// Waits until the process has ended. Must run inside a tokio runtime with I/O enabled; safe to drop.
    ///
    /// # Errors
    /// When the descriptor cannot be registered with the runtime.
    pub async fn exited(self) -> Result<ProcessId, ProcessError> {
        let id = self.id;
        let failed = |source| ProcessError::Wait { pid: id.pid, source };
        // A pidfd becomes readable when its process ends, and stays so.
        let fd = async_fd::readable(self.fd).map_err(failed)?;
        let _ready = fd.readable().await.map_err(failed)?;
        Ok(id)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Where a process stands in the control groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CgroupPath {
    /// Whether the path is in the unified hierarchy (v2) or in systemd's own v1 hierarchy, `name=systemd`.
    pub unified: bool,
    /// The path from that hierarchy's root, starting with `/`.
    pub path: String,
}

/// What `/proc` tells of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Which process.
    pub id: ProcessId,
    /// Its parent's pid; 0 when that is outside of this pid namespace.
    pub ppid: i32,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// The program file; `None` when the kernel does not let us see it. A replaced file's ` (deleted)` is cut off.
    pub exe: Option<PathBuf>,
    /// The audit login uid: who logged in, whatever uid it has now.
    pub login_uid: Option<u32>,
    /// The audit session, one per login.
    pub audit_session: Option<u32>,
    /// Its control group.
    pub cgroup: Option<CgroupPath>,
    /// The kernel's name for it, at most 15 bytes.
    pub comm: String,
    /// The device number of its controlling terminal (proc(5), `tty_nr`); 0 without one.
    pub terminal: i32,
}

impl Process {
    /// Reads one process; `None` when there is none of this pid.
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        let dir = ProcDir::open(pid)?;
        let stat = dir.stat()?;
        let dir = dir.living(&stat);
        let [uid, euid, suid] = uids(&dir.read("status")?)?;
        let id = ProcessId { pid, start_time: stat.start_time };
        Some(Self {
            id,
            ppid: stat.ppid,
            uid,
            euid,
            suid,
            exe: dir.link("exe").map(without_deleted),
            login_uid: dir.number("loginuid"),
            audit_session: dir.number("sessionid"),
            cgroup: dir.read("cgroup").and_then(|text| cgroup_of(&text)),
            comm: stat.comm,
            terminal: stat.terminal,
        })
    }

    /// The command line as a process of root's now shows it, at NUL bytes; it may have been overwritten by the process.
    /// `None` for everybody else's and for a program that a user runs set-user-id: their memory map may be held.
    #[must_use]
    pub fn command_line_of_root(&self) -> Option<Vec<OsString>> {
        let dir = ProcDir::open(self.id.pid)?;
        let stat = dir.stat().filter(|stat| stat.start_time == self.id.start_time)?;
        let dir = dir.living(&stat);
        let file = dir.file("cmdline")?;
        // Asked last: a process of root's may become somebody's meanwhile.
        let is_roots = uids(&dir.read("status")?)? == [0; 3];
        is_roots.then(|| read_to(file, MAX_PROC_FILE)).flatten().map(|text| split_cmdline(&text))
    }
}

/// The process that has this pid now.
#[must_use]
pub fn identity(pid: i32) -> Option<ProcessId> {
    let stat = ProcDir::open(pid)?.stat()?;
    Some(ProcessId { pid, start_time: stat.start_time })
}

/// The real user id of the process that has this pid now.
#[must_use]
pub fn real_uid(pid: i32) -> Option<u32> {
    uids(&ProcDir::open(pid)?.read("status")?).map(|[real, ..]| real)
}

/// Every pid there is now. Bounded by the kernel's `pid_max`.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn pids() -> Result<Vec<i32>, ProcessError> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(ProcessError::Proc)? {
        let name = entry.map_err(ProcessError::Proc)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids)
}

/// The process's parent, its parent, and so on to pid 1, nearest first; stops where the chain breaks.
#[must_use]
pub fn ancestors(pid: i32) -> Vec<ProcessId> {
    let parent = |pid: i32| ProcDir::open(pid)?.stat().map(|stat| stat.ppid);
    let mut found = Vec::new();
    let mut next = parent(pid);
    while let Some(pid) = next.filter(|pid| *pid > 0) {
        if found.len() == MAX_ANCESTORS {
            break;
        }
        let Some(id) = identity(pid) else { break };
        found.push(id);
        next = parent(pid);
    }
    found
}

/// Every process there is, by pid, with its parent's pid: one snapshot, without those that have ended.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn snapshot() -> Result<HashMap<i32, (ProcessId, i32)>, ProcessError> {
    let of = |pid: i32| {
        let stat = ProcDir::open(pid)?.stat().filter(|stat| !stat.is_dead())?;
        Some((pid, (ProcessId { pid, start_time: stat.start_time }, stat.ppid)))
    };
    Ok(pids()?.into_iter().filter_map(of).collect())
}

/// Every living process below `pid`, without `pid` itself, in no order. What forks meanwhile may be missing.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn descendants(pid: i32) -> Result<Vec<ProcessId>, ProcessError> {
    let all = snapshot()?;
    let below = |id: &ProcessId| climb(&all, id.pid).any(|above| above.pid == pid);
    Ok(all.values().map(|(id, _)| *id).filter(below).collect())
}

/// The ancestors of `pid` in a snapshot, nearest first.
pub fn climb(all: &HashMap<i32, (ProcessId, i32)>, pid: i32) -> impl Iterator<Item = ProcessId> {
    let parent = move |pid: i32| all.get(&pid).and_then(|(_, ppid)| all.get(ppid)).map(|(id, _)| *id);
    std::iter::successors(parent(pid), move |id| parent(id.pid)).take(MAX_ANCESTORS)
}

/// The children of a process, in no order (proc(5), `children`); none when it is gone. What forks meanwhile may be missing.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let list = ProcDir::open(pid).and_then(|dir| dir.read(&format!("task/{pid}/children"))).unwrap_or_default();
    let list = String::from_utf8_lossy(&list).into_owned();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether the main thread of a process has ended, though others may be left; true when the process is gone.
#[must_use]
pub fn main_thread_has_ended(pid: i32) -> bool {
    ProcDir::open(pid).and_then(|dir| dir.stat()).is_none_or(|stat| stat.has_ended())
}

/// The audit session of a process, one per login; `None` when it has none or is gone.
#[must_use]
pub fn audit_session(id: ProcessId) -> Option<u32> {
    let dir = ProcDir::open(id.pid)?;
    dir.stat().filter(|stat| stat.start_time == id.start_time)?;
    dir.number("sessionid")
}

/// The audit login uid of the process that has this pid now; `None` when it belongs to no login or is gone.
#[must_use]
pub fn login_uid(pid: i32) -> Option<u32> {
    ProcDir::open(pid)?.number("loginuid")
}

/// A process's directory in `/proc`, held open.
pub(crate) struct ProcDir(OwnedFd);

/// What `stat` says that matters here.
pub(crate) struct Stat {
    comm: String,
    state: u8,
    ppid: i32,
    terminal: i32,
    threads: u32,
    start_time: u64,
}

impl Stat {
    /// Whether the process has ended and only waits to be reaped. One whose first thread alone has ended shows the same
    /// state, and runs on in its others.
    fn is_dead(&self) -> bool {
        self.has_ended() && self.threads <= 1
    }

    /// Whether the thread that this is of has ended.
    fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

impl ProcDir {
    pub(crate) fn open(pid: i32) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok().map(Self)
    }

    /// The same, to look at what the process holds: [`Self::living`].
    pub(crate) fn open_living(pid: i32) -> Option<Self> {
        let dir = Self::open(pid)?;
        let stat = dir.stat()?;
        Some(dir.living(&stat))
    }

    /// Where the first thread has ended before the others, the directory of one that runs: of the first the kernel shows
    /// no program, no descriptors and, on v1, no control group any more. What `stat` there says is the thread's.
    fn living(self, stat: &Stat) -> Self {
        let living = (stat.has_ended() && !stat.is_dead()).then(|| self.living_thread()).flatten();
        living.unwrap_or(self)
    }

    fn living_thread(&self) -> Option<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let tasks = rustix::fs::openat(&self.0, "task", flags, Mode::empty()).ok()?;
        let threads = rustix::fs::Dir::read_from(&tasks).ok()?.take(MAX_PROC_FILE).filter_map(Result::ok);
        let dir = |name: &std::ffi::CStr| rustix::fs::openat(&tasks, name, flags | OFlags::PATH, Mode::empty()).ok();
        let named = threads.filter(|entry| !entry.file_name().to_bytes().starts_with(b"."));
        let mut dirs = named.filter_map(|entry| dir(entry.file_name()).map(Self));
        dirs.find(|dir| dir.stat().is_some_and(|stat| !stat.has_ended()))
    }

    /// Whether it is this process's.
    pub(crate) fn is(&self, id: ProcessId) -> bool {
        self.stat().is_some_and(|stat| stat.start_time == id.start_time)
    }

    /// Reads one file in a directory below, to [`MAX_PROC_FILE`].
    pub(crate) fn read_below(&self, directory: &str, name: &str) -> Option<Vec<u8>> {
        self.read(&format!("{directory}/{name}"))
    }

    /// The numbers of the descriptors whose links lead to what `wanted` takes; `None` when we may not look.
    pub(crate) fn descriptors_to(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<String>> {
        let links = self.links()?.into_iter().filter(|(_, target)| wanted(target.as_bytes()));
        Some(links.map(|(number, _)| number).collect())
    }

    /// What the links in `fd` lead to; `None` when we may not look.
    pub(crate) fn descriptors(&self) -> Option<Vec<OsString>> {
        Some(self.links()?.into_iter().map(|(_, target)| target).collect())
    }

    fn links(&self) -> Option<Vec<(String, OsString)>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, "fd", flags, Mode::empty()).ok()?;
        let mut links = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd).ok()?.take(MAX_PROC_FILE) {
            let entry = entry.ok()?;
            if let Ok(target) = rustix::fs::readlinkat(&fd, entry.file_name(), Vec::new()) {
                links.push((entry.file_name().to_string_lossy().into_owned(), OsString::from_vec(target.into_bytes())));
            }
        }
        Some(links)
    }

    /// Reads one file, to [`MAX_PROC_FILE`].
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.read_to(name, MAX_PROC_FILE)
    }

    /// Reads one table, to [`MAX_PROC_TABLE`].
    pub(crate) fn read_whole(&self, name: &str) -> Option<Vec<u8>> {
        self.read_to(name, MAX_PROC_TABLE)
    }

    fn read_to(&self, name: &str, limit: usize) -> Option<Vec<u8>> {
        read_to(self.file(name)?, limit)
    }

    fn file(&self, name: &str) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.0, name, flags, Mode::empty()).ok().map(File::from)
    }

    pub(crate) fn link(&self, name: &str) -> Option<OsString> {
        let target = rustix::fs::readlinkat(&self.0, name, Vec::new()).ok()?;
        Some(OsString::from_vec(target.into_bytes()))
    }

    /// The very file that it runs, whatever stands at its path now; to be read. Waits for the file system that it is on.
    pub(crate) fn program(&self) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, "exe", flags, Mode::empty()).ok().map(File::from)
    }

    /// The device and inode of what a magic link such as `root` or `exe` leads to.
    pub(crate) fn node(&self, name: &str) -> Option<(u64, u64)> {
        self.known(name).map(|known| (makedev(known.stx_dev_major, known.stx_dev_minor), known.stx_ino))
    }

    /// How long the file is that it runs, as far as the kernel knows.
    pub(crate) fn program_size(&self) -> Option<u64> {
        self.known("exe").map(|known| known.stx_size)
    }

    /// What the kernel knows of what a magic link leads to, without asking a file system that may not answer (FUSE, NFS).
    fn known(&self, name: &str) -> Option<Statx> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(&self.0, name, flags, StatxFlags::BASIC_STATS).ok()
    }

    fn stat(&self) -> Option<Stat> {
        parse_stat(&self.read("stat")?)
    }

    /// A login uid or audit session; nothing where it is not set.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        let text = self.read(name)?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok().filter(|number| *number != UNSET)
    }
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name may hold anything, blanks and parentheses included: it ends at the last one.
    let (open, close) = (text.iter().position(|b| *b == b'(')?, text.iter().rposition(|b| *b == b')')?);
    let comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    // Fields 7, 20 and 22 of proc(5); two of those after the name are read.
    let terminal = fields.nth(2)?.parse().ok()?;
    let threads = fields.nth(12)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    Some(Stat { comm, state, ppid, terminal, threads, start_time })
}

#[cfg(test)]
mod tests;
