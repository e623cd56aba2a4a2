//! Files, every one of them bounded.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// The longest secret that is read, in bytes.
const MAX_SECRET: usize = 64 << 10;

/// The bits of a file's mode by which its group and others may write it.
const WRITTEN_BY_OTHERS: u32 = 0o022;

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

/// The same for text that somebody named.
pub(crate) fn text(path: &Path, most: usize) -> Result<String, Failure> {
    let wrong = |error: String| Failure::config(format!("{}: {error}", path.display()));
    let bytes = read(path, most).map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| wrong("it is not text".to_owned()))
}

/// Whether nobody writes a file but root and whoever this runs as: what it says is done as them.
pub(crate) fn is_ours(path: &Path) -> Result<(), String> {
    let file = fs::metadata(path).map_err(|error| error.to_string())?;
    let (owner, own) = (file.uid(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != own {
        return Err(format!("it names a program to run, and is the user {owner}'s: chown it to root"));
    }
    if file.mode() & WRITTEN_BY_OTHERS != 0 {
        return Err("it names a program to run, and others may write it: chmod go-w".to_owned());
    }
    Ok(())
}

/// A secret without white space around it.
pub(crate) fn secret(path: &Path) -> Result<String, Failure> {
    let text = text(path, MAX_SECRET)?;
    match text.trim() {
        "" => Err(Failure::config(format!("{} is empty", path.display()))),
        text => Ok(text.to_owned()),
    }
}

/// Puts a file in the place of another one, whole or not at all. Others may not read it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::refused(format!("{}: {error}", path.display()));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    // Left by one that was killed.
    let _ = fs::remove_file(&beside);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
    let written = made.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_write_names_no_program_to_run() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, good) in [(0o600, true), (0o644, true), (0o664, false), (0o602, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_ours(file.path()).is_ok(), good, "{mode:o}");
        }
        assert!(is_ours(Path::new("/nowhere")).is_err());
    }
}
