//! Holds `/run/lockdownd/keys`, the only place from which sshd reads keys of accounts that are not exempt.
//!
//! Root alone writes there. Whatever else is found is set right by removal or replacement, never by changing owner or
//! mode in place. This module does not know who may log in: it stores the bytes it is given.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use lockdown_core::policy::store::MAX_STORE_FILE;
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::stat::{self, Mode, SFlag},
    unistd::{self, UnlinkatFlags},
};

use super::paths::{self, Durability, PathError, Root, Sight};

/// Where the store is; sshd's drop-in names it as `AuthorizedKeysFile /run/lockdownd/keys/%u`.
pub const KEY_STORE: &str = "/run/lockdownd/keys";
/// Mode of a key file: sshd reads it as the account.
const FILE_MODE: u32 = 0o644;
/// Mode of the store: everybody may search it, root alone may write.
const STORE_MODE: u32 = 0o755;
/// The most entries that one look at the store takes in; more are removed by later looks.
pub const MAX_ENTRIES: usize = 100_000;
/// How deep a directory that somebody put into the store is cleared; a deeper one is reported as an error.
const MAX_DEPTH: usize = 32;

/// One entry of the store as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The bytes; empty if it is not a readable file of at most [`MAX_STORE_FILE`] bytes.
    pub bytes: Vec<u8>,
    /// Whether it is a whole regular file of root's, mode 0644, with one link: else it has to be put again or removed,
    /// whatever its bytes.
    pub sound: bool,
}

/// The store.
#[derive(Debug)]
pub struct KeyStore {
    path: PathBuf,
    directory: OwnedFd,
    root: Root,
}

impl KeyStore {
    /// Opens the store at [`KEY_STORE`], creating it if it is missing, and makes it root's and 0755.
    ///
    /// # Errors
    /// [`PathError`] if it cannot be made or is something else than a directory.
    pub fn open() -> Result<Self, PathError> {
        Self::open_at(Path::new(KEY_STORE))
    }

    /// As [`KeyStore::open`], elsewhere: only root may be able to change the directory above.
    ///
    /// # Errors
    /// As [`KeyStore::open`].
    pub fn open_at(path: &Path) -> Result<Self, PathError> {
        let failed = |error: Errno| PathError::io(path, error);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match unistd::mkdir(path, Mode::from_bits_truncate(STORE_MODE)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let directory = match fcntl::open(path, flags, Mode::empty()) {
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                // A link or file in the store's place: /run/lockdownd is root's, so this is damage, not an attack.
                unistd::unlink(path).map_err(failed)?;
                unistd::mkdir(path, Mode::from_bits_truncate(STORE_MODE)).map_err(failed)?;
                fcntl::open(path, flags, Mode::empty())
            }
            answer => answer,
        }
        .map_err(failed)?;
        unistd::fchown(&directory, Some(unistd::geteuid()), Some(unistd::getegid())).map_err(failed)?;
        stat::fchmod(&directory, Mode::from_bits_truncate(STORE_MODE)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), directory, root: Root::open(path)? })
    }

    /// Whether this descriptor is still the directory at the store's path, and still root's and 0755; if not, the
    /// store has to be opened again.
    #[must_use]
    pub fn still_stands(&self) -> bool {
        let (Ok(held), Ok(named)) = (stat::fstat(&self.directory), stat::lstat(&self.path)) else { return false };
        (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)
            && named.st_uid == unistd::geteuid().as_raw()
            && named.st_mode & 0o7777 == STORE_MODE
    }

    /// Everything in the store, at most [`MAX_ENTRIES`].
    ///
    /// # Errors
    /// [`PathError`] if the directory cannot be read; an unreadable entry is only not `sound`.
    pub fn observe(&self) -> Result<BTreeMap<OsString, Stored>, PathError> {
        let mut found = BTreeMap::new();
        for name in names_in(self.directory.as_fd(), &self.path)?.into_iter().take(MAX_ENTRIES) {
            let stored = self.observe_one(&name);
            found.insert(name, stored);
        }
        Ok(found)
    }

    /// One entry; one that is not there is not sound.
    #[must_use]
    pub fn observe_one(&self, name: &OsStr) -> Stored {
        let mut bytes = Vec::new();
        match self.root.look_within(Path::new(name), &mut bytes, MAX_STORE_FILE) {
            Sight::File(facts) => {
                let mode = SFlag::S_IFREG.bits() | FILE_MODE;
                let sound = facts.uid == unistd::geteuid().as_raw() && facts.mode == mode && facts.links == 1;
                Stored { bytes, sound }
            }
            _ => Stored { bytes: Vec::new(), sound: false },
        }
    }

    /// Puts exactly `bytes` as the key file `name`, atomically, whatever stood there. Not flushed: the store does not
    /// survive a boot.
    ///
    /// # Errors
    /// [`PathError`] naming the file; an old file then still stands.
    pub fn put(&self, name: &OsStr, bytes: &[u8]) -> Result<(), PathError> {
        let store = self.directory.as_fd();
        match stat::fstatat(store, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // rename(2) does not replace a directory by a file.
            Ok(seen) if paths::file_type(seen.st_mode) == SFlag::S_IFDIR => self.remove(name)?,
            _ => {}
        }
        paths::replace_file(store, name, bytes, FILE_MODE, Durability::Volatile)
    }

    /// Removes whatever stands under `name`: file, link, directory with all it holds.
    ///
    /// # Errors
    /// [`PathError`] if it still stands. Nothing there is no error.
    pub fn remove(&self, name: &OsStr) -> Result<(), PathError> {
        remove_all(self.directory.as_fd(), name, &self.path, MAX_DEPTH)
    }
}

fn remove_all(
    directory: std::os::fd::BorrowedFd<'_>,
    name: &OsStr,
    above: &Path,
    depth: usize,
) -> Result<(), PathError> {
    let here = above.join(name);
    match unistd::unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR) => {}
        Err(error) => return Err(PathError::io(here, error)),
    }
    if depth == 0 {
        return Err(PathError::io(here, io::Error::from(Errno::ELOOP)));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let inner = paths::open_without_links(directory, Path::new(name), flags).map_err(|e| PathError::io(&here, e))?;
    for child in names_in(inner.as_fd(), &here)? {
        remove_all(inner.as_fd(), &child, &here, depth - 1)?;
    }
    unistd::unlinkat(directory, name, UnlinkatFlags::RemoveDir).map_err(|e| PathError::io(here, e))
}

fn names_in(directory: std::os::fd::BorrowedFd<'_>, path: &Path) -> Result<Vec<OsString>, PathError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let failed = |error: Errno| PathError::io(path, error);
    let mut listing = Dir::openat(directory, ".", flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn store() -> (tempfile::TempDir, KeyStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = KeyStore::open_at(&directory.path().join("keys")).unwrap();
        (directory, store)
    }

    fn frank() -> &'static OsStr {
        OsStr::new("frank")
    }

    #[test]
    fn what_was_put_is_observed_sound_and_goes_when_removed() {
        let (_directory, store) = store();
        store.put(frank(), b"ssh-ed25519 AAAA\n").unwrap();
        store.put(frank(), b"ssh-ed25519 BBBB\n").unwrap();
        let found = store.observe().unwrap();
        assert_eq!(found.len(), 1, "no temporary is left: {found:?}");
        assert!(found[frank()].bytes == b"ssh-ed25519 BBBB\n" && found[frank()].sound);
        store.remove(frank()).unwrap();
        store.remove(frank()).unwrap();
        assert!(store.observe().unwrap().is_empty());
    }

    #[test]
    fn a_file_of_the_largest_size_that_is_written_is_read_back_and_a_longer_one_is_not_sound() {
        let (directory, store) = store();
        let file = directory.path().join("keys/frank");
        let largest = vec![b'#'; MAX_STORE_FILE];
        store.put(frank(), &largest).unwrap();
        assert_eq!(store.observe_one(frank()), Stored { bytes: largest.clone(), sound: true });
        fs::write(&file, [largest.as_slice(), b"#"].concat()).unwrap();
        assert_eq!(store.observe_one(frank()), Stored { bytes: Vec::new(), sound: false });
    }

    #[test]
    fn a_link_directory_second_link_or_other_mode_is_not_sound_and_is_set_right_by_put() {
        let (directory, store) = store();
        let file = directory.path().join("keys/frank");
        let victim = directory.path().join("victim");
        fs::write(&victim, b"untouched").unwrap();
        let spoils: [fn(&Path, &Path); 5] = [
            |file, victim| symlink(victim, file).unwrap(),
            |file, victim| fs::hard_link(victim, file).unwrap(),
            |file, _| fs::create_dir_all(file.join("deep/er")).unwrap(),
            |file, _| {
                fs::write(file, b"x").unwrap();
                fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
            },
            |file, _| nix::unistd::mkfifo(file, Mode::from_bits_truncate(0o644)).unwrap(),
        ];
        for spoil in spoils {
            spoil(&file, &victim);
            assert!(!store.observe().unwrap()[frank()].sound);
            store.put(frank(), b"good").unwrap();
            let found = store.observe().unwrap();
            assert!(found[frank()].bytes == b"good" && found[frank()].sound);
            store.remove(frank()).unwrap();
        }
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    }

    #[test]
    fn a_store_that_was_replaced_or_opened_to_others_no_longer_stands() {
        let (directory, store) = store();
        let path = directory.path().join("keys");
        assert!(store.still_stands());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!store.still_stands());
        assert!(KeyStore::open_at(&path).unwrap().still_stands());
        fs::rename(&path, directory.path().join("aside")).unwrap();
        assert!(!store.still_stands());
        symlink("aside", &path).unwrap();
        let again = KeyStore::open_at(&path).unwrap();
        assert!(again.still_stands() && fs::symlink_metadata(&path).unwrap().is_dir());
    }
}
