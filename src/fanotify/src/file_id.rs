//! What tells one file from every other on a host: its file system and its handle.

use std::{
    ffi::{CString, OsStr},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
};

use crate::event::MAX_HANDLE;

/// The identity of one file, link or directory. It survives renames, and a new file with an old one's inode number has
/// another, since the handle holds a generation (name_to_handle_at(2)).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileId {
    filesystem: [u8; 8],
    kind: i32,
    handle: Box<[u8]>,
}

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct Handle {
    length: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; MAX_HANDLE],
}

impl FileId {
    pub(crate) fn new(filesystem: [u8; 8], kind: i32, handle: &[u8]) -> Self {
        Self { filesystem, kind, handle: handle.into() }
    }

    /// The identity of what an open descriptor stands for; one of `O_PATH` is enough.
    ///
    /// # Errors
    /// What fstatfs(2) and name_to_handle_at(2) say: `EOPNOTSUPP` on a file system without handles.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        Self::below(file, OsStr::new(""), libc::AT_EMPTY_PATH)
    }

    /// The identity of `name` in a directory; a link's is its own.
    ///
    /// # Errors
    /// As [`FileId::of`]; a name with a NUL byte is refused.
    pub fn entry(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Self> {
        Self::below(directory, name, 0)
    }

    fn below(directory: BorrowedFd<'_>, name: &OsStr, flags: libc::c_int) -> io::Result<Self> {
        let name = CString::new(name.as_bytes())?;
        // A handle that need not be openable is had on more file systems, but asked for only since Linux 6.5.
        let handle = handle(directory, &name, flags | libc::AT_HANDLE_FID).or_else(|error| {
            if error.raw_os_error() == Some(libc::EINVAL) { handle(directory, &name, flags) } else { Err(error) }
        })?;
        let length = usize::try_from(handle.length).unwrap_or(MAX_HANDLE).min(MAX_HANDLE);
        Ok(Self::new(filesystem(directory)?, handle.kind, &handle.bytes[..length]))
    }
}

fn handle(directory: BorrowedFd<'_>, name: &CString, flags: libc::c_int) -> io::Result<Handle> {
    let room = libc::c_uint::try_from(MAX_HANDLE).expect("128 is a number");
    let mut handle = Handle { length: room, kind: 0, bytes: [0; MAX_HANDLE] };
    let mut mount: libc::c_int = 0;
    // SAFETY: `name` ends with NUL and lives through the call; `handle` is laid out as `struct file_handle` with as many
    // bytes of room as its length says, and it and `mount` are ours alone. By syscall(2), since the C library's wrapper
    // takes a pointer to a type without that room.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            directory.as_raw_fd(),
            name.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            flags,
        )
    };
    if answer == 0 { Ok(handle) } else { Err(io::Error::last_os_error()) }
}

/// The file system's id as events have it.
fn filesystem(file: BorrowedFd<'_>) -> io::Result<[u8; 8]> {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `found` is ours and as large as the kernel writes.
    let answer = unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it began as zeroes, of which every field of statfs may consist, and the kernel has filled it in.
    let found = unsafe { found.assume_init() };
    // SAFETY: `fsid_t` is two 32-bit integers (statfs(2)) without padding; its fields have no public names.
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, [u8; 8]>(found.f_fsid) })
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File, os::fd::AsFd};

    use super::*;

    #[test]
    fn an_identity_survives_a_rename_and_is_no_other_files() {
        let place = tempfile::tempdir().unwrap();
        let directory = File::open(place.path()).unwrap();
        fs::write(place.path().join("a"), "").unwrap();
        fs::write(place.path().join("b"), "").unwrap();
        std::os::unix::fs::symlink("a", place.path().join("link")).unwrap();
        let id = |name: &str| FileId::entry(directory.as_fd(), OsStr::new(name)).unwrap();
        let a = id("a");
        assert_eq!(a, FileId::of(File::open(place.path().join("a")).unwrap().as_fd()).unwrap());
        assert_ne!(a, id("b"));
        assert_ne!(a, id("link"), "a link is not what it leads to");
        fs::rename(place.path().join("a"), place.path().join("c")).unwrap();
        assert_eq!(a, id("c"));
        assert!(FileId::entry(directory.as_fd(), OsStr::new("nothing")).is_err());
    }
}
