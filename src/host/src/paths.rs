//! Opens files and directories by descriptor, so that nobody who owns a directory on the way can send root elsewhere.
//!
//! A symbolic link is followed only while every directory so far, and the link itself, is root's alone to change;
//! beneath a user's directory none is. Nothing here ever waits on a FIFO, reads without a bound, or changes owner or
//! mode by name.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::OpenOptionsExt,
        },
    },
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{self, OFlag, OpenHow, RenameFlags, ResolveFlag},
    sys::stat::{self, FileStat, Mode, SFlag},
    unistd,
};

/// The longest key file that is read, in bytes (1 MiB); a longer one is judged unread.
pub const MAX_KEY_FILE: usize = 1 << 20;
/// The most links of root's that are followed on the way to one directory; path_resolution(7) allows 40.
pub const MAX_LINKS: usize = 16;
/// How often a look is repeated that a rename elsewhere disturbed (`EAGAIN` of openat2(2)).
const MAX_RETRIES: usize = 4;
/// Names tried for a temporary before giving up: each is taken only if somebody left files of just these names.
const MAX_TEMPORARIES: u32 = 16;

/// Why a path could not be walked or a file not replaced.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// A system call failed at this path.
    #[error("{}: {source}", record::escape(path.as_os_str().as_bytes()))]
    Io {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The way leads through a link that somebody other than root can change.
    #[error("{}: a symbolic link that others than root can change stands on the way", record::escape(path.as_os_str().as_bytes()))]
    PlantedLink {
        /// The link.
        path: PathBuf,
    },
    /// More than [`MAX_LINKS`] links, or a loop of them.
    #[error("{}: more than {MAX_LINKS} symbolic links on the way", record::escape(path.as_os_str().as_bytes()))]
    TooManyLinks {
        /// The path that was asked for.
        path: PathBuf,
    },
}

impl PathError {
    /// A failed call at `path`.
    pub fn io(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.into(), source: source.into() }
    }
}

/// What stands at a path, as one look saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Nothing.
    Absent,
    /// A symbolic link stands there or on the way there.
    Link,
    /// A directory, FIFO, socket or device: sshd reads no keys from it.
    Inert,
    /// A regular file whose bytes were read.
    File(Facts),
    /// A regular file of more bytes than are read ([`MAX_KEY_FILE`]).
    Long(Facts),
    /// Something that could not be opened or read: a lease, a squashed root, an I/O error.
    Unreadable(Errno),
}

/// What fstat(2) said about a file at the moment it was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Device number of the file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Owner of the inode.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub links: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the inode, nanoseconds since the epoch: its owner cannot set it.
    pub changed: i128,
}

impl From<&FileStat> for Facts {
    fn from(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode,
            links: stat.st_nlink,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            changed: i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec),
        }
    }
}

/// The file type in a `st_mode`.
#[must_use]
pub fn file_type(mode: u32) -> SFlag {
    SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits())
}

/// The directory that all paths start from: `/`, or a temporary directory in tests.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    may_spare_atime: AtomicBool,
}

impl Root {
    /// Opens `directory` as the root of all walks.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(directory: &Path) -> Result<Self, PathError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = fcntl::open(directory, flags, Mode::empty()).map_err(|e| PathError::io(directory, e))?;
        Ok(Self { directory: fd, may_spare_atime: AtomicBool::new(true) })
    }

    /// Looks at `real`, a path without links, and reads a regular file of at most [`MAX_KEY_FILE`] bytes into
    /// `content`. One openat2(2) without any link, then fstat, read, close: never blocks on a FIFO.
    pub fn look(&self, real: &Path, content: &mut Vec<u8>) -> Sight {
        self.look_within(real, content, MAX_KEY_FILE)
    }

    /// As [`Root::look`], for a file that may have `most` bytes.
    pub fn look_within(&self, real: &Path, content: &mut Vec<u8>, most: usize) -> Sight {
        content.clear();
        match self.open_to_read(real) {
            Ok(fd) => read_regular(fd, content, most).unwrap_or_else(Sight::Unreadable),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Sight::Absent,
            Err(Errno::ELOOP) => Sight::Link,
            Err(Errno::ENXIO | Errno::ENODEV) => Sight::Inert,
            Err(error) => Sight::Unreadable(error),
        }
    }

    fn open_to_read(&self, real: &Path) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        if self.may_spare_atime.load(Ordering::Relaxed) {
            match open_without_links(self.directory.as_fd(), real, flags | OFlag::O_NOATIME) {
                Err(Errno::EPERM) => self.may_spare_atime.store(false, Ordering::Relaxed),
                answer => return answer,
            }
        }
        open_without_links(self.directory.as_fd(), real, flags)
    }

    /// Opens the directory `real`, a path without links, with `O_PATH`: it can be searched in, not read.
    ///
    /// # Errors
    /// `ELOOP` if a link stands on the way; else what openat2(2) says.
    pub fn open_directory(&self, real: &Path) -> nix::Result<OwnedFd> {
        open_without_links(self.directory.as_fd(), real, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
    }

    /// What stands at `real`, a path without links, unopened.
    ///
    /// # Errors
    /// As [`Root::open_directory`].
    pub fn identify(&self, real: &Path) -> nix::Result<Facts> {
        let fd =
            open_without_links(self.directory.as_fd(), real, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)?;
        Ok(Facts::from(&stat::fstat(&fd)?))
    }

    /// Where `path` really leads: links on the way are replaced by their targets as long as root alone can change
    /// them and all above them. A part that does not exist stays as it is.
    ///
    /// # Errors
    /// [`PathError::PlantedLink`] where a user could have planted the link, [`PathError::TooManyLinks`], or a failed
    /// call.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, PathError> {
        self.resolve_until(path, |_| false)
    }

    /// As [`Root::resolve`], but what `stops` names is not looked at, nor what is below it: the answer is then the path
    /// there, with the rest as it was given.
    ///
    /// # Errors
    /// As [`Root::resolve`].
    pub fn resolve_until(&self, path: &Path, stops: impl Fn(&Path) -> bool) -> Result<PathBuf, PathError> {
        let mut ahead: Vec<OsString> = parts(path).rev().collect();
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                real.pop();
                continue;
            }
            let here = real.join(&part);
            if stops(&here) {
                ahead.reverse();
                return Ok(here.join(ahead.iter().collect::<PathBuf>()));
            }
            let seen = match self.identify(&here) {
                Ok(seen) => seen,
                Err(Errno::ENOENT | Errno::ENOTDIR) => {
                    real = here;
                    continue;
                }
                Err(source) => return Err(PathError::io(here, source)),
            };
            if file_type(seen.mode) != SFlag::S_IFLNK {
                real = here;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(PathError::TooManyLinks { path: path.to_owned() });
            }
            if seen.uid != 0 || !self.is_roots_alone(&real)? {
                return Err(PathError::PlantedLink { path: here });
            }
            let target = self.read_link(&real, &part).map_err(|e| PathError::io(here, e))?;
            if Path::new(&target).is_absolute() {
                real = PathBuf::from("/");
            }
            ahead.extend(parts(Path::new(&target)).rev());
        }
        Ok(real)
    }

    /// Whether root alone can change the directory `real` and every one above it.
    fn is_roots_alone(&self, real: &Path) -> Result<bool, PathError> {
        for directory in real.ancestors() {
            let seen = self.identify(directory).map_err(|e| PathError::io(directory, e))?;
            if seen.uid != 0 || seen.mode & 0o022 != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_link(&self, real: &Path, name: &OsStr) -> nix::Result<OsString> {
        fcntl::readlinkat(self.open_directory(real)?, name)
    }
}

/// The normal components of a path, and `..`.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Opens a path beneath `directory` with no link on the way, magic ones included (openat2(2)).
///
/// # Errors
/// `ELOOP` for a link; else what openat2(2) says.
pub fn open_without_links(directory: BorrowedFd<'_>, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    // With O_PATH|O_NOFOLLOW the last component may be a link, which is then what is opened.
    let last_may_be_link = flags.contains(OFlag::O_PATH) && !flags.contains(OFlag::O_DIRECTORY);
    let name = path.as_os_str().as_bytes();
    let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    let beneath = if start == name.len() { OsStr::new(".") } else { OsStr::from_bytes(&name[start..]) };
    if last_may_be_link {
        return open_last(directory, Path::new(beneath), flags, resolve);
    }
    call_openat2(directory, beneath, flags, resolve | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

/// Opens what stands at `path`, itself perhaps a link, while no directory on the way may be one.
fn open_last(directory: BorrowedFd<'_>, path: &Path, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return call_openat2(directory, path.as_os_str(), flags, resolve | ResolveFlag::RESOLVE_NO_SYMLINKS);
    };
    if parent.as_os_str().is_empty() {
        return call_openat2(directory, name, flags, resolve);
    }
    let way = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = call_openat2(directory, parent.as_os_str(), way, resolve | ResolveFlag::RESOLVE_NO_SYMLINKS)?;
    call_openat2(parent.as_fd(), name, flags, resolve)
}

fn call_openat2(directory: BorrowedFd<'_>, path: &OsStr, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match fcntl::openat2(directory, path, OpenHow::new().flags(flags).resolve(resolve)) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if tries < MAX_RETRIES => tries += 1,
            answer => return answer,
        }
    }
}

fn read_regular(fd: OwnedFd, content: &mut Vec<u8>, most: usize) -> Result<Sight, Errno> {
    let seen = stat::fstat(&fd)?;
    let facts = Facts::from(&seen);
    if file_type(facts.mode) != SFlag::S_IFREG {
        return Ok(Sight::Inert);
    }
    if facts.size > most as u64 {
        return Ok(Sight::Long(facts));
    }
    let expected = usize::try_from(facts.size).unwrap_or(most);
    if expected == 0 {
        return Ok(Sight::File(facts));
    }
    // One byte of room past the expected size shows in the same call whether the file has grown meanwhile.
    content.resize(expected + 1, 0);
    let mut filled = 0;
    let grown = loop {
        match unistd::read(&fd, &mut content[filled..]) {
            Ok(0) => break false,
            Ok(count) => {
                filled += count;
                if filled == expected {
                    break false;
                }
                if filled > expected {
                    break true;
                }
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    };
    content.truncate(filled);
    if grown {
        let room = (most + 1 - filled) as u64;
        File::from(fd)
            .take(room)
            .read_to_end(content)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
        if content.len() > most {
            content.clear();
            return Ok(Sight::Long(facts));
        }
    }
    Ok(Sight::File(facts))
}

/// Whether a replaced file must outlive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// File and directory are flushed before the call returns.
    Flushed,
    /// The bytes are flushed, and the name with whatever flushes the directory next: for the first of two files.
    BytesFlushed,
    /// Nothing is flushed: for `/run`, and for what is rebuilt after a boot.
    Volatile,
}

/// Puts a whole file in place of `name` in `directory`, atomically: a reader sees the old bytes or the new, never a
/// part. The file belongs to root, has exactly `mode`, and one link; what stood there, a link included, is replaced
/// and not followed. `directory` must be root's alone to change.
///
/// # Errors
/// [`PathError::Io`] naming the file; what stood there then still stands, and no temporary is left.
pub fn replace_file(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), PathError> {
    let failed = |source: io::Error| PathError::io(name, source);
    let (temporary, file) = create_temporary(directory, name).map_err(failed)?;
    let put = || -> io::Result<()> {
        let mut file = file;
        file.write_all(bytes)?;
        stat::fchmod(&file, Mode::from_bits_truncate(mode))?;
        unistd::fchown(&file, Some(unistd::geteuid()), Some(unistd::getegid()))?;
        if durability != Durability::Volatile {
            file.sync_all()?;
        }
        fcntl::renameat2(directory, temporary.as_os_str(), directory, name, RenameFlags::empty())?;
        if durability == Durability::Flushed {
            sync_directory(directory)?;
        }
        Ok(())
    };
    put().map_err(|error| {
        let _ = unistd::unlinkat(directory, temporary.as_os_str(), unistd::UnlinkatFlags::NoRemoveDir);
        failed(error)
    })
}

/// Creates a file that was not there, root's and 0600, to be renamed into place.
fn create_temporary(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<(OsString, File)> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    for attempt in 0..MAX_TEMPORARIES {
        let mut temporary = OsString::from(".");
        // Kept short: a name may have 255 bytes, and the dot, number and suffix must fit too.
        temporary.push(OsStr::from_bytes(&name.as_bytes()[..name.len().min(200)]));
        temporary.push(format!(".{attempt}.tmp"));
        match fcntl::openat(directory, temporary.as_os_str(), flags, Mode::from_bits_truncate(0o600)) {
            Ok(fd) => return Ok((temporary, File::from(fd))),
            // Left by a crash in the middle of an earlier replacement: the directory is ours alone, so it may go.
            Err(Errno::EEXIST) => {
                let _ = unistd::unlinkat(directory, temporary.as_os_str(), unistd::UnlinkatFlags::NoRemoveDir);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EEXIST.into())
}

/// [`replace_file`] for a path in a place that only root writes.
///
/// # Errors
/// [`PathError`]; what stood there before still does.
pub fn replace_path(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<(), PathError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(PathError::io(path, io::ErrorKind::InvalidFilename));
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = fcntl::open(directory, flags, Mode::empty()).map_err(|errno| PathError::io(directory, errno))?;
    replace_file(directory.as_fd(), name, bytes, mode, durability)
}

/// A whole file from a place that only root writes: never a link, never waiting for a FIFO's writer, never more than
/// `most` bytes.
///
/// # Errors
/// What open(2) and read(2) say; [`io::ErrorKind::FileTooLarge`].
pub fn read_path(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Flushes a directory's names to disk, for descriptors opened with `O_PATH` too.
///
/// # Errors
/// What open(2) and fsync(2) say.
pub fn sync_directory(directory: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(unistd::fsync(fcntl::openat(directory, ".", flags, Mode::empty())?)?)
}

/// The bytes that [`record::escape`] was given; `None` if the text was not made by it.
#[must_use]
pub fn unescape(text: &str) -> Option<OsString> {
    let mut raw = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'\\', rest @ ..]) => {
                raw.push(b'\\');
                rest
            }
            (b'\\', [b'x', high, low, rest @ ..]) => {
                let hex = [*high, *low];
                raw.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
                rest
            }
            (b'\\', _) => return None,
            (byte, rest) => {
                raw.push(*byte);
                rest
            }
        };
    }
    Some(OsString::from_vec(raw))
}

#[cfg(test)]
mod tests;
