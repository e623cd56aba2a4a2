//! Files, every one of them bounded.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// Reads a file of at most so many bytes.
///
/// # Errors
/// It cannot be read, or is longer.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// The same for a file that somebody named.
pub(crate) fn read_named(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    read(path, most).map_err(|error| Failure::refused("file", format!("{}: {error}", path.display())))
}

/// The same for text.
pub(crate) fn text(path: &Path, most: usize) -> Result<String, Failure> {
    let bytes = read_named(path, most)?;
    String::from_utf8(bytes).map_err(|_| Failure::refused("file", format!("{}: it is not text", path.display())))
}

/// Writes a file that somebody named, in one go.
pub(crate) fn write_named(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    replace(path, bytes, Others::MayRead)
        .map_err(|error| Failure::refused("file", format!("{}: {error}", path.display())))
}

/// Whether others may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// As the umask has it.
    MayRead,
    /// Mode 0600.
    MayNot,
}

/// Puts a file in the place of another one, whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8], others: Others) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = directory.join(name);
    // Left by one that was killed.
    let _ = fs::remove_file(&beside);
    let written = create(&beside, others).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn create(path: &Path, others: Others) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if others == Others::MayNot {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = others;
    options.open(path)
}

/// Makes a directory that others may not read.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A path as people write it: `~/` is their home.
pub(crate) fn expand(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        replace(&path, b"1234", Others::MayNot).unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        assert!(read(&path, 3).unwrap_err().to_string().contains("longer than 3 bytes"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        replace(&path, b"5", Others::MayRead).unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"5");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
