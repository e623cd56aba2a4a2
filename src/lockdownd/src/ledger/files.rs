//! Where the ledger's files are, and the few ways in which they are touched: no link followed, every change synced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, unistd::Group};

use super::Error;

/// The group that may read the ledger: the shipper's.
const READERS: &str = "_lockdownd";
/// The most that is read of a small file (key, identity), in bytes.
const MAX_SMALL: u64 = 64 * 1024;
/// Digits in a segment's name.
const NAME_DIGITS: usize = 12;

/// Where state lives. Both directories are root's alone to write.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What outlives a boot.
    pub state: PathBuf,
    /// What does not.
    pub run: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self { state: "/var/lib/lockdownd".into(), run: "/run/lockdownd".into() }
    }
}

impl Paths {
    pub(super) fn ledger(&self) -> PathBuf {
        self.state.join("ledger")
    }
    pub(super) fn key(&self) -> PathBuf {
        self.state.join("signing_key")
    }
    pub(super) fn public_key(&self) -> PathBuf {
        self.state.join("signing_key.pub")
    }
    pub(super) fn identity(&self) -> PathBuf {
        self.state.join("identity")
    }
    pub(super) fn set_aside(&self) -> PathBuf {
        self.state.join("set-aside")
    }
    pub(super) fn succession(&self) -> PathBuf {
        self.state.join("succession")
    }
    pub(super) fn reserve(&self) -> PathBuf {
        self.state.join("reserve")
    }
    pub(super) fn durable(&self) -> PathBuf {
        self.run.join("durable")
    }
    pub(super) fn segment(&self, first: u64) -> PathBuf {
        self.ledger().join(format!("{first:0NAME_DIGITS$}.jsonl"))
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Root alone.
    Root,
    /// Root and the shipper's group.
    Shipper,
    /// Everybody.
    All,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Root => 0o600,
            Self::Shipper => 0o640,
            Self::All => 0o644,
        }
    }
}

/// Adds the path and what was being done to an error of the system.
pub(super) fn at<T>(doing: &'static str, path: &Path, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Io { doing, path: path.to_owned(), source })
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits());
    options
}

/// The shipper's group, where it exists.
fn group() -> Option<u32> {
    Group::from_name(READERS).ok().flatten().map(|g| g.gid.as_raw())
}

/// Makes a file that must not exist yet; what is written goes to its end. Its directory is synced.
pub(super) fn create(path: &Path, readers: Readers) -> Result<File, Error> {
    let file = at("create", path, options().read(true).append(true).create_new(true).mode(readers.mode()).open(path))?;
    if readers == Readers::Shipper
        && let Some(gid) = group()
    {
        at("give to the group of", path, fchown(&file, None, Some(gid)))?;
    }
    at("set the mode of", path, set_mode(&file, readers.mode()))?;
    sync_parent(path)?;
    Ok(file)
}

/// Opens for reading and writing at its end, or only for reading.
pub(super) fn open(path: &Path, write: bool) -> Result<File, Error> {
    let file = at("open", path, options().read(true).append(write).open(path))?;
    if !at("examine", path, file.metadata())?.is_file() {
        return at("open", path, Err(io::Error::other("it is not a regular file")));
    }
    Ok(file)
}

/// A small file's text; nothing where there is none.
pub(super) fn read_small(path: &Path) -> Result<Option<String>, Error> {
    let file = match open(path, false) {
        Ok(file) => file,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut text = String::new();
    at("read", path, file.take(MAX_SMALL).read_to_string(&mut text))?;
    Ok(Some(text))
}

/// Puts a small file in place whole, or not at all.
pub(super) fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), Error> {
    prepare(path, bytes, readers)?;
    put_in_place(path)
}

/// Writes what is to stand there into a file beside it; or leaves none.
pub(super) fn prepare(path: &Path, bytes: &[u8], readers: Readers) -> Result<File, Error> {
    let new = path.with_extension("new");
    remove_if_there(&new)?;
    let mut file = create(&new, readers)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // It may have taken the last room there was. The first error is the one to tell.
        let _ = fs::remove_file(&new);
    }
    at("write", &new, written)?;
    Ok(file)
}

/// Puts in place what was prepared.
pub(super) fn put_in_place(path: &Path) -> Result<(), Error> {
    at("put in place", path, fs::rename(path.with_extension("new"), path))?;
    sync_parent(path)
}

/// The same in a file system that no power cut outlives: without syncing.
pub(super) fn replace_fleeting(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = options().write(true).create(true).truncate(true).mode(Readers::All.mode()).open(&new)?;
    set_mode(&file, Readers::All.mode())?;
    file.write_all(bytes)?;
    fs::rename(&new, path)
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => at("remove", path, Err(e)),
        _ => Ok(()),
    }
}

/// Makes a directory with this mode, if it is missing; with it, the ones above, open to all.
pub(super) fn make_dir(path: &Path, mode: u32, readers: Readers) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir(parent, 0o755, Readers::All)?;
    }
    at("make the directory", path, fs::DirBuilder::new().mode(mode).create(path))?;
    let made = at("open", path, File::open(path))?;
    if readers == Readers::Shipper
        && let Some(gid) = group()
    {
        at("give to the group of", path, fchown(&made, None, Some(gid)))?;
    }
    at("set the mode of", path, set_mode(&made, mode))?;
    sync_parent(path)
}

/// The mode whatever the umask is: the daemon's own is 0077.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))
}

pub(super) fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    at("sync", parent, File::open(parent).and_then(|dir| dir.sync_all()))
}

/// The segments by their first record's number, in order. Other files in the directory are not the ledger's.
pub(super) fn segments(paths: &Paths) -> Result<Vec<u64>, Error> {
    let dir = paths.ledger();
    let mut all = Vec::new();
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => at("list", &dir, entries)?,
    };
    for entry in entries {
        let name = at("list", &dir, entry)?.file_name();
        let digits = name.to_str().and_then(|n| n.strip_suffix(".jsonl"));
        all.extend(digits.filter(|d| d.len() >= NAME_DIGITS).and_then(|d| d.parse::<u64>().ok()));
    }
    all.sort_unstable();
    Ok(all)
}
