//! The names that this host knows (see [`Names`]): its accounts, read again when they change, and the key, made once.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use lockdown_core::attempts::Names;

use lockdown_host::{
    accounts::{Accounts, PASSWD},
    paths::{self, Durability},
};

/// Where the key is.
pub const NAME_KEY: &str = "/var/lib/lockdownd/name_key";

/// The names, and when the accounts were changed that they are from.
#[derive(Debug)]
pub(super) struct HostNames {
    pub(super) names: Names,
    read_at: Option<SystemTime>,
}

impl HostNames {
    /// Reads the key, or makes it.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut names = Self { names: Names::new(read_or_make(path)?), read_at: None };
        names.refresh();
        Ok(names)
    }

    /// Reads the accounts again if they have changed.
    pub(super) fn refresh(&mut self) {
        let changed_at = std::fs::metadata(PASSWD).and_then(|meta| meta.modified()).ok();
        if changed_at.is_none() || changed_at == self.read_at {
            return;
        }
        match Accounts::read() {
            Ok(accounts) => {
                let named = accounts.entries.iter().filter_map(|entry| entry.name.account().cloned());
                self.names.know(named.collect());
                self.read_at = changed_at;
            }
            Err(error) => tracing::warn!(%error, "the accounts cannot be read; names in sshd's log are hashed"),
        }
    }
}

/// Has the key made, where there is none.
///
/// # Errors
/// It cannot be read or written.
pub(crate) fn prepare() -> io::Result<()> {
    read_or_make(Path::new(NAME_KEY)).map(drop)
}

fn read_or_make(path: &Path) -> io::Result<[u8; 32]> {
    match paths::read_path(path, 32) {
        Ok(bytes) => {
            let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, format!("{} is no key", path.display()));
            return bytes.try_into().map_err(wrong);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    key.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&lockdown_host::random().to_ne_bytes()));
    paths::replace_path(&PathBuf::from(path), &key, 0o600, Durability::Flushed).map_err(io::Error::other)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_roots_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("name_key");
        let key = read_or_make(&path).expect("made");
        assert_eq!(read_or_make(&path).expect("read"), key);
        assert_ne!(key, [0; 32]);
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        std::fs::write(&path, b"short").expect("own file");
        assert!(read_or_make(&path).is_err(), "what is no key is not overwritten");
    }
}
