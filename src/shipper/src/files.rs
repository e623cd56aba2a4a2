//! The few ways in which files are touched: bounded reads, whole replacements, every lasting change synced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

/// A file or directory that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {source}")]
pub(crate) struct FileError {
    /// What was being done.
    pub(crate) doing: &'static str,
    /// To which file.
    pub(crate) path: PathBuf,
    /// What the kernel said.
    pub(crate) source: io::Error,
}

/// Adds the path and what was being done to an error of the system.
pub(crate) fn at<T>(doing: &'static str, path: &Path, result: io::Result<T>) -> Result<T, FileError> {
    result.map_err(|source| FileError { doing, path: path.to_owned(), source })
}

/// Opens a regular file for reading, without following a link or waiting for a FIFO.
pub(crate) fn open(path: &Path) -> Result<File, FileError> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    regular(path, OpenOptions::new().read(true).custom_flags(flags).open(path))
}

fn regular(path: &Path, opened: io::Result<File>) -> Result<File, FileError> {
    let file = at("open", path, opened)?;
    if !at("examine", path, file.metadata())?.is_file() {
        return at("open", path, Err(io::Error::other("it is not a regular file")));
    }
    Ok(file)
}

/// A file's bytes, if there is one and it has at most `most`.
pub(crate) fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, FileError> {
    match open(path) {
        Ok(file) => bytes_of(path, file, most).map(Some),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same of a file that an operator has named, which may be a link (certificates in /etc usually are).
pub(crate) fn read_named(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    let file = regular(path, OpenOptions::new().read(true).custom_flags(flags).open(path))?;
    bytes_of(path, file, most)
}

fn bytes_of(path: &Path, file: File, most: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    at("read", path, file.take(most + 1).read_to_end(&mut bytes))?;
    if bytes.len() as u64 > most {
        return at("read", path, Err(io::Error::other(format!("it is longer than {most} bytes"))));
    }
    Ok(bytes)
}

/// Puts a file in place whole, or not at all; on disk when this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let new = written(path, bytes, 0o640)?;
    at("write", &new.0, new.1.sync_all())?;
    at("put in place", path, fs::rename(&new.0, path))?;
    sync_parent(path)
}

/// The same in a file system that no power cut outlives, for everybody to read: without syncing.
pub(crate) fn replace_fleeting(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let new = written(path, bytes, 0o644)?;
    at("put in place", path, fs::rename(&new.0, path))
}

fn written(path: &Path, bytes: &[u8], mode: u32) -> Result<(PathBuf, File), FileError> {
    let new = path.with_extension("new");
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
    let mut file = at(
        "create",
        &new,
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).custom_flags(flags).open(&new),
    )?;
    at("set the mode of", &new, file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)))?;
    at("write", &new, file.write_all(bytes))?;
    Ok((new, file))
}

pub(crate) fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    at("sync", parent, File::open(parent).and_then(|dir| dir.sync_all()))
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => at("remove", path, Err(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_its_bound_a_link_and_a_directory_are_refused_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().unwrap(), b"12345");
        assert!(read(&path, 4).unwrap_err().to_string().contains("longer than 4 bytes"));
        std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
        assert!(read(&dir.path().join("link"), 5).is_err());
        assert_eq!(read_named(&dir.path().join("link"), 5).unwrap(), b"12345");
        assert!(read(dir.path(), 5).is_err());
        assert!(read(&dir.path().join("none"), 5).unwrap().is_none());
    }

    #[test]
    fn replacing_leaves_nothing_else_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.cursor");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
