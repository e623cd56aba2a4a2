//! Takes a file out of a home in one step: the fast path of every removal.
//!
//! What is taken may be swapped by its owner until the very instant, so afterwards we look at what we got.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use fanotify::FileId;
use nix::{
    errno::Errno,
    fcntl::{self, AtFlags, OFlag, RenameFlags},
    sys::stat::{self, Mode, SFlag},
    unistd::{self, UnlinkatFlags},
};

use super::{ItemId, QuarantineError, open_directories};
use crate::paths::{MAX_KEY_FILE, file_type};

/// The longest name of a file (NAME_MAX).
const MAX_NAME: usize = 255;

/// What the caller believes it removes, for the case that it cannot be moved because the quarantine is another mount.
#[derive(Debug, Clone, Copy)]
pub enum Prey<'a> {
    /// A file of which these bytes were read.
    Read(&'a [u8]),
    /// A file that was not read, or only might be one.
    Unread,
    /// A link.
    Link,
}

/// How a removal went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is gone from its place, and the inode lies in `incoming/`.
    Moved,
    /// It is gone from its place, and in `incoming/` lies a copy as far as one could be made.
    Copied,
    /// Its owner had already put nothing, or something that sshd does not read, in its place: that stands there still.
    Harmless,
    /// A thing that sshd does not read was moved by mistake and could not be given back; it lies in `incoming/`.
    Stray,
}

/// Why a thing still stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// It cannot be removed: what rename or unlink say (immutable, read-only).
    Stands(Errno),
    /// The quarantine cannot take it in, and nothing goes whose bytes are not kept.
    Unkept(Errno),
}

impl From<Errno> for NotTaken {
    fn from(error: Errno) -> Self {
        Self::Stands(error)
    }
}

/// The way into the quarantine.
#[derive(Debug)]
pub struct Intake {
    path: PathBuf,
    incoming: OwnedFd,
}

impl Intake {
    /// Opens `incoming/` of the quarantine at `directory`, creating both if need be.
    ///
    /// # Errors
    /// [`QuarantineError`] if they cannot be made or opened.
    pub fn open(directory: &Path) -> Result<Self, QuarantineError> {
        let (_, incoming) = open_directories(directory)?;
        Ok(Self { path: directory.to_owned(), incoming })
    }

    /// Another way into the same quarantine.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { path: self.path.clone(), incoming: self.incoming.try_clone()? })
    }

    /// Removes `name` from `directory` and keeps it as `arrival`, in one renameat2(2) where the two are on one mount,
    /// else by a bounded copy and unlinkat(2). Nothing is flushed here. What its owner makes unreadable goes without
    /// its bytes; what the quarantine has no room for stands.
    ///
    /// # Errors
    /// It still stands then.
    pub fn take(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        arrival: &ArrivalName,
        prey: Prey<'_>,
    ) -> Result<Taken, NotTaken> {
        match self.try_take(directory, name, arrival, prey) {
            Err(NotTaken::Unkept(Errno::ENOENT)) => {
                // Somebody has removed the quarantine itself.
                self.incoming = open_directories(&self.path).map_err(|_| NotTaken::Unkept(Errno::ENOENT))?.1;
                self.try_take(directory, name, arrival, prey)
            }
            answer => answer,
        }
    }

    fn try_take(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        arrival: &ArrivalName,
        prey: Prey<'_>,
    ) -> Result<Taken, NotTaken> {
        let incoming = self.incoming.as_fd();
        match fcntl::renameat2(directory, name, incoming, arrival.as_os_str(), RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => Ok(self.check(directory, name, arrival)?),
            Err(Errno::ENOENT) => match stat::fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(_) => Err(NotTaken::Unkept(Errno::ENOENT)),
                Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(Taken::Harmless),
                Err(error) => Err(error.into()),
            },
            Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSPC | Errno::EDQUOT) => {
                self.copy_then_unlink(directory, name, arrival, prey)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes `name` from `directory` and keeps nothing.
    ///
    /// # Errors
    /// What unlinkat(2) says; it still stands then.
    pub fn discard(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<Taken, Errno> {
        match unistd::unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(Taken::Copied),
            Err(Errno::ENOENT | Errno::EISDIR) => Ok(Taken::Harmless),
            Err(error) => Err(error),
        }
    }

    /// The identity of what lies in `incoming/`, if it was moved there.
    #[must_use]
    pub fn identity(&self, arrival: &ArrivalName) -> Option<FileId> {
        FileId::entry(self.incoming.as_fd(), arrival.as_os_str()).ok()
    }

    /// Looks at what the rename really brought, and gives back what sshd does not read.
    fn check(&self, directory: BorrowedFd<'_>, name: &OsStr, arrival: &ArrivalName) -> Result<Taken, Errno> {
        let incoming = self.incoming.as_fd();
        let seen = stat::fstatat(incoming, arrival.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if matches!(file_type(seen.st_mode), SFlag::S_IFREG | SFlag::S_IFLNK) {
            return Ok(Taken::Moved);
        }
        let back = |name: &OsStr| {
            fcntl::renameat2(incoming, arrival.as_os_str(), directory, name, RenameFlags::RENAME_NOREPLACE)
        };
        let mut beside = name.to_owned();
        beside.push(".");
        beside.push(OsStr::from_bytes(arrival.0.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default()));
        Ok(if back(name).or_else(|_| back(&beside)).is_ok() { Taken::Harmless } else { Taken::Stray })
    }

    fn copy_then_unlink(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        arrival: &ArrivalName,
        prey: Prey<'_>,
    ) -> Result<Taken, NotTaken> {
        let copied = self.copy(directory, name, arrival, prey);
        let taken = match copied {
            Ok(()) => self.discard(directory, name).map_err(NotTaken::from),
            Err(error) => Err(NotTaken::Unkept(error)),
        };
        if !matches!(taken, Ok(Taken::Copied)) {
            let _ = unistd::unlinkat(self.incoming.as_fd(), arrival.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        taken
    }

    /// Copies into `incoming/`; what cannot be read there is as if it were empty.
    fn copy(&self, directory: BorrowedFd<'_>, name: &OsStr, arrival: &ArrivalName, prey: Prey<'_>) -> nix::Result<()> {
        let incoming = self.incoming.as_fd();
        let read;
        let bytes = match prey {
            Prey::Link => {
                let target = fcntl::readlinkat(directory, name).unwrap_or_default();
                return match unistd::symlinkat(target.as_os_str(), incoming, arrival.as_os_str()) {
                    // It is no link any more.
                    Err(Errno::ENOENT) if target.is_empty() => Ok(()),
                    answer => answer,
                };
            }
            Prey::Read(content) => content,
            Prey::Unread => {
                read = read_unread(directory, name).unwrap_or_default();
                read.as_slice()
            }
        };
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let copy = fcntl::openat(incoming, arrival.as_os_str(), flags, Mode::from_bits_truncate(0o600))?;
        File::from(copy).write_all(bytes).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
    }
}

/// The first [`MAX_KEY_FILE`] bytes of a regular file.
fn read_unread(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let source = fcntl::openat(directory, name, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    if file_type(stat::fstat(&source)?.st_mode) == SFlag::S_IFREG {
        File::from(source).take(MAX_KEY_FILE as u64).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The name of a thing in `incoming/`: enough to describe it after a crash, `ID,ACCOUNT,PATH` with `/`, `,` and `%` as
/// `%NN`, cut at [`MAX_NAME`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivalName(OsString);

impl ArrivalName {
    pub(super) fn new(id: &ItemId, account: &str, path: &Path) -> Self {
        let mut name = format!("{id},").into_bytes();
        push_encoded(&mut name, account.as_bytes());
        name.push(b',');
        push_encoded(&mut name, path.as_os_str().as_bytes());
        // A cut path would look like another one: then it is left out whole.
        if name.len() > MAX_NAME {
            let end = name.iter().rposition(|byte| *byte == b',').expect("commas were just pushed") + 1;
            name.truncate(end.min(MAX_NAME));
        }
        Self(OsString::from_vec(name))
    }

    pub(super) fn from_raw(raw: OsString) -> Self {
        Self(raw)
    }

    pub(super) fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// Id, account and path, as far as the name holds them.
    pub(super) fn parse(&self) -> Option<(ItemId, String, PathBuf)> {
        let mut parts = self.0.as_bytes().split(|byte| *byte == b',');
        let id = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let account = decode(parts.next().unwrap_or_default());
        let path = decode(parts.next().unwrap_or_default());
        Some((id, String::from_utf8_lossy(&account).into_owned(), PathBuf::from(OsString::from_vec(path))))
    }
}

fn push_encoded(name: &mut Vec<u8>, raw: &[u8]) {
    for byte in raw {
        match byte {
            b'/' | b',' | b'%' | 0 => name.extend_from_slice(format!("%{byte:02x}").as_bytes()),
            byte => name.push(*byte),
        }
    }
}

fn decode(encoded: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                raw.push(byte);
                rest = &after[2..];
            }
            None => {
                raw.push(*first);
                rest = after;
            }
        }
    }
    raw
}
