//! The watch itself: made once, marked onto directories, read.

use std::{
    ffi::{CString, OsString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{FileId, Malformed, RawEvent, parse};

/// Bytes of one reading: some 300 to 600 events. Each brings a descriptor along, so it is also a bound on those.
pub const BUFFER: usize = 32 * 1024;

/// Which changes in a directory are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// Something, a directory too, was made or moved into it.
    Names,
    /// Besides, a file in it was written.
    Writes,
    /// Besides both, something was taken away or moved out.
    Everything,
}

/// One change.
#[derive(Debug)]
pub enum Event {
    /// The kernel dropped events.
    Overflow,
    /// Somebody changed something.
    Change {
        /// The directory in which.
        directory: FileId,
        /// Under which name.
        name: OsString,
        /// Which file; nothing where the kernel does not say.
        file: Option<FileId>,
        /// Who.
        writer: Writer,
    },
}

/// The process that made a change.
#[derive(Debug)]
pub struct Writer {
    /// Its pid, which may be another process's by now, see [`Writer::is_still_it`]; 0 when it is outside of our pid
    /// namespace.
    pub pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Writer {
    /// Whether its pid still is its own, though it may have ended and wait to be reaped. What was read by pid before
    /// this is true was about this process.
    #[must_use]
    pub fn is_still_it(&self) -> bool {
        let Some(pidfd) = &self.pidfd else { return false };
        // SAFETY: signal 0 only asks; the descriptor is open, and no memory is handed over.
        let answer = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), 0, std::ptr::null::<libc::siginfo_t>(), 0)
        };
        // A process that we may not signal is there all the same.
        answer == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
    }
}

/// A fanotify group that names writers. No event ever waits for an answer.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Makes it, watching nothing yet.
    ///
    /// # Errors
    /// What fanotify_init(2) says: `EPERM` without `CAP_SYS_ADMIN` or where a container forbids it, `EINVAL` before
    /// Linux 5.17, `ENOSYS` in a kernel without it.
    pub fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_NOTIF
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_REPORT_DFID_NAME_TARGET
            | libc::FAN_REPORT_PIDFD;
        // SAFETY: takes two numbers.
        let fd = unsafe { libc::fanotify_init(flags, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes over the group that another process made and the service manager passes on under this name
    /// (sd_listen_fds(3), `FileDescriptorStoreMax=` of systemd.service(5)). Once: it is nobody else's then.
    ///
    /// # Errors
    /// `NotFound` where none was passed, `InvalidData` where it is no fanotify group, `AlreadyExists` the second time.
    pub fn passed(name: &str) -> io::Result<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let variable = |name| std::env::var(name).unwrap_or_default();
        let variables = [variable("LISTEN_PID"), variable("LISTEN_FDS"), variable("LISTEN_FDNAMES")];
        let fd = passed_as(name, std::process::id(), &variables).ok_or(io::ErrorKind::NotFound)?;
        let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
        if !about.lines().any(|line| line.starts_with("fanotify flags:")) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // SAFETY: it is open, it is the group that was made for us, and this is the only place that takes it, once.
        let watch = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: takes numbers. Programs that are started must not inherit it.
        let answer = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        if answer == 0 { Ok(watch) } else { Err(io::Error::last_os_error()) }
    }

    /// Watches an opened directory (`O_PATH` is enough); again for the same one adds to what is told.
    ///
    /// # Errors
    /// What fanotify_mark(2) says: `ENOSPC` where `fs.fanotify.max_user_marks` is reached, `ENODEV` or `EOPNOTSUPP` on a
    /// file system that cannot tell its files apart.
    pub fn mark(&self, directory: BorrowedFd<'_>, changes: Changes) -> io::Result<()> {
        let names = libc::FAN_CREATE | libc::FAN_MOVED_TO | libc::FAN_ONDIR;
        // A write through a mapping shows at the close alone.
        let writes = names | libc::FAN_MODIFY | libc::FAN_CLOSE_WRITE | libc::FAN_EVENT_ON_CHILD;
        let mask = match changes {
            Changes::Names => names,
            Changes::Writes => writes,
            Changes::Everything => writes | libc::FAN_DELETE | libc::FAN_MOVED_FROM,
        };
        // By its descriptor's magic link, since a descriptor of `O_PATH` itself is not taken.
        let path = CString::new(format!("/proc/self/fd/{}", directory.as_raw_fd())).expect("digits hold no NUL");
        self.change(libc::FAN_MARK_ADD | libc::FAN_MARK_ONLYDIR, mask, &path)
    }

    /// Watches nothing any more.
    ///
    /// # Errors
    /// What fanotify_mark(2) says.
    pub fn forget_all(&self) -> io::Result<()> {
        self.change(libc::FAN_MARK_FLUSH, 0, c"/")
    }

    fn change(&self, flags: libc::c_uint, mask: u64, path: &std::ffi::CStr) -> io::Result<()> {
        // SAFETY: the path ends with NUL and lives through the call; the rest are numbers.
        let answer = unsafe { libc::fanotify_mark(self.0.as_raw_fd(), flags, mask, libc::AT_FDCWD, path.as_ptr()) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Reads what waits, up to one [`BUFFER`]; nothing when nothing does. A pid is looked up by its process while that
    /// may still run, so read as soon as there is something.
    ///
    /// # Errors
    /// What read(2) says; `InvalidData` when the kernel speaks another version.
    pub fn read(&self) -> io::Result<Vec<Event>> {
        let mut buffer = vec![0_u8; BUFFER];
        // SAFETY: the buffer is ours and as long as is said.
        let length = unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            let nothing = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing { Ok(Vec::new()) } else { Err(error) };
        };
        let (events, malformed) = parse(&buffer[..length.min(BUFFER)]);
        // Each descriptor is owned before anything else is decided, so that none leaks.
        let events: Vec<_> = events.into_iter().map(own).collect();
        match malformed {
            Some(Malformed) => Err(io::Error::new(io::ErrorKind::InvalidData, "fanotify events of another version")),
            None => Ok(events.into_iter().flatten().collect()),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Which descriptor was passed under this name to the process `own`, by `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`. Whoever
/// passes them on to a child cannot know its process id, and leaves the first out.
fn passed_as(name: &str, own: u32, [pid, count, names]: &[String; 3]) -> Option<RawFd> {
    const FIRST: usize = 3;
    let count = count.parse::<usize>().ok().filter(|_| pid.is_empty() || pid.parse() == Ok(own))?;
    let index = names.split(':').take(count).position(|passed| passed == name)?;
    RawFd::try_from(FIRST + index).ok()
}

fn own(event: RawEvent) -> Option<Event> {
    let RawEvent { mask, pid, pidfd, directory, name, file } = event;
    // SAFETY: the kernel made this descriptor for whoever read the event, and each event was read once.
    let pidfd = pidfd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    if mask & libc::FAN_Q_OVERFLOW != 0 {
        return Some(Event::Overflow);
    }
    Some(Event::Change { directory: directory?, name: name?, file, writer: Writer { pid, pidfd } })
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        process::Command,
    };

    use super::*;

    /// As root on a kernel that has it; where a container forbids it there is nothing to be tried.
    fn watch(directory: &std::path::Path, changes: Changes) -> Option<Watch> {
        let watch = Watch::new().ok()?;
        watch.mark(File::open(directory).unwrap().as_fd(), changes).unwrap();
        Some(watch)
    }

    fn changes(watch: &Watch) -> Vec<(FileId, OsString, Option<FileId>, Writer)> {
        let change = |event| match event {
            Event::Overflow => panic!("nothing was dropped"),
            Event::Change { directory, name, file, writer } => (directory, name, file, writer),
        };
        watch.read().unwrap().into_iter().map(change).collect()
    }

    #[test]
    fn a_change_names_directory_file_and_writer() {
        let place = tempfile::tempdir().unwrap();
        let Some(watch) = watch(place.path(), Changes::Everything) else { return };
        let script = "echo key > authorized_keys; read wait";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(place.path()).stdin(std::process::Stdio::piped());
        let mut writer = shell.spawn().unwrap();
        let file = place.path().join("authorized_keys");
        while fs::read(&file).unwrap_or_default().is_empty() {
            std::thread::yield_now();
        }
        let seen = changes(&watch);
        let here = FileId::of(File::open(place.path()).unwrap().as_fd()).unwrap();
        let id = FileId::of(File::open(&file).unwrap().as_fd()).unwrap();
        assert!(!seen.is_empty());
        for (directory, name, file, by) in &seen {
            assert_eq!((directory, name.to_str(), file), (&here, Some("authorized_keys"), &Some(id.clone())));
            assert_eq!(by.pid, i32::try_from(writer.id()).unwrap());
            assert!(by.is_still_it());
        }
        drop(writer.stdin.take());
        writer.wait().unwrap();
        assert!(!seen[0].3.is_still_it(), "its pid may be another's now");
    }

    #[test]
    fn a_move_and_a_new_directory_are_told_and_writes_only_when_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let Some(watch) = watch(place.path(), Changes::Names) else { return };
        fs::create_dir(place.path().join(".ssh")).unwrap();
        fs::write(place.path().join("new"), "").unwrap();
        fs::rename(place.path().join("new"), place.path().join("moved")).unwrap();
        fs::write(place.path().join("moved"), "written").unwrap();
        let names: Vec<_> = changes(&watch).into_iter().map(|(_, name, _, _)| name).collect();
        assert_eq!(names, [".ssh", "new", "moved"]);
        watch.forget_all().unwrap();
        fs::write(place.path().join("other"), "").unwrap();
        assert!(changes(&watch).is_empty());
    }

    #[test]
    fn what_is_passed_is_found_by_its_name_and_only_by_whom_it_is_for() {
        for (variables, found) in [
            (["7", "3", "gate:control:writers"], Some(5)),
            (["7", "2", "gate:control:writers"], None),
            (["7", "1", "writers"], Some(3)),
            (["8", "1", "writers"], None),
            (["", "1", "writers"], Some(3)),
            (["7", "1", "writer"], None),
            (["7", "", "writers"], None),
            (["", "", ""], None),
        ] {
            assert_eq!(passed_as("writers", 7, &variables.map(str::to_owned)), found, "{variables:?}");
        }
        assert_eq!(Watch::passed("writers").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn no_descriptor_is_left_open() {
        let place = tempfile::tempdir().unwrap();
        let Some(watch) = watch(place.path(), Changes::Everything) else { return };
        let pidfds = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
            links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
        };
        for round in 0..50 {
            let written = place.path().join(round.to_string());
            Command::new("touch").arg(&written).status().unwrap();
            fs::write(&written, "by ourselves").unwrap();
            assert!(!watch.read().unwrap().is_empty());
        }
        // Tests beside this one hold some of their own for a moment.
        assert!(pidfds() < 20, "{} are open", pidfds());
    }
}
