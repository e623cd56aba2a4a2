//! The server's own key: signs receipts and the server's own ledger. Made for a new database, OpenSSH format, ed25519.
//!
//! It never uses a key that others can read. Which key it has to be, the database says: store/server_keys.rs.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, rand_core::OsRng};

/// The key's file in the state directory; `.pub` beside it is for people.
pub const KEY_FILE: &str = "server_key";

/// The next key, before it has taken the place of the one in force.
const NEXT_FILE: &str = "server_key.next";
/// For people.
pub const KEY_PUBLIC: &str = "server_key.pub";
/// For people.
const NEXT_PUBLIC: &str = "server_key.next.pub";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is not such a key.
    #[error(
        "{path} is not an OpenSSH ed25519 private key without a passphrase: {why}; receipts are signed with it: restore it from a backup"
    )]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// It is gone.
    #[error(
        "{path} is missing, and receipts and the server's own ledger are signed with {wanted}: restore it from a backup; \
         `compliance-api server-key rotate` replaces a key while it is there"
    )]
    Missing {
        /// The key's file.
        path: PathBuf,
        /// The key's fingerprint.
        wanted: String,
    },
    /// It is another than the database says.
    #[error(
        "{path} is {found}, and receipts and the server's own ledger are signed with {wanted}: restore that one, or the \
         database that belongs to this one, from a backup"
    )]
    Other {
        /// The key's file.
        path: PathBuf,
        /// Its fingerprint.
        found: String,
        /// That of the key that it has to be.
        wanted: String,
    },
    /// Others can read it.
    #[error("{path} has mode {mode:o}: others can read the server's key; make it 0600")]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// The key in this state directory, made if there is none: for a database that no key has signed for yet.
///
/// # Errors
/// A key that cannot be read, made or trusted.
pub fn load_or_make(state: &Path) -> Result<PrivateKey, Error> {
    let path = state.join(KEY_FILE);
    load(&path)?.map_or_else(|| make(&path), Ok)
}

/// The key in this state directory, which has to be this one.
///
/// # Errors
/// None, another, or one that cannot be read or trusted.
pub fn load_this(state: &Path, wanted: &PublicKey) -> Result<PrivateKey, Error> {
    let path = state.join(KEY_FILE);
    let is_it = |key: &PrivateKey| key.public_key().key_data() == wanted.key_data();
    let found = load(&path)?;
    if let Some(key) = found.as_ref().filter(|key| is_it(key)) {
        return Ok(key.clone());
    }
    // What replaced the key was stopped before it had put the next one in its place.
    if let Some(key) = load(&state.join(NEXT_FILE))?.filter(is_it) {
        put_next(state)?;
        return Ok(key);
    }
    let wanted = wanted.fingerprint(HashAlg::Sha256).to_string();
    Err(match found {
        None => Error::Missing { path, wanted },
        Some(key) => Error::Other { path, found: key.fingerprint(HashAlg::Sha256).to_string(), wanted },
    })
}

/// The next key, made if there is none yet. It signs nothing before the database says that it does, and [`put_next`].
///
/// # Errors
/// A key that cannot be read, made or trusted.
pub fn next(state: &Path) -> Result<PrivateKey, Error> {
    let path = state.join(NEXT_FILE);
    load(&path)?.map_or_else(|| make(&path), Ok)
}

/// The key in this directory, whichever it is.
///
/// # Errors
/// One that cannot be read or trusted.
pub fn held(directory: &Path) -> Result<Option<PrivateKey>, Error> {
    load(&directory.join(KEY_FILE))
}

/// Keeps this key in another directory, as it is kept in a state directory.
///
/// # Errors
/// A file that cannot be written.
pub fn keep(directory: &Path, key: &PrivateKey) -> Result<(), Error> {
    write(&directory.join(KEY_FILE), key)
}

/// Puts the next key in the place of the one before, which is gone then.
///
/// # Errors
/// A file that cannot be moved.
pub fn put_next(state: &Path) -> Result<(), Error> {
    for (from, to) in [(NEXT_FILE, KEY_FILE), (NEXT_PUBLIC, KEY_PUBLIC)] {
        let to = state.join(to);
        match fs::rename(state.join(from), &to) {
            // Done already, before it was stopped.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { doing: "put in place", path: to, source }),
            Ok(()) => {}
        }
    }
    let io = |source| Error::Io { doing: "sync", path: state.to_owned(), source };
    fs::File::open(state).and_then(|d| d.sync_all()).map_err(io)
}

fn load(path: &Path) -> Result<Option<PrivateKey>, Error> {
    match fs::metadata(path) {
        Ok(meta) if meta.mode() & 0o077 != 0 => {
            Err(Error::Exposed { path: path.to_owned(), mode: meta.mode() & 0o7777 })
        }
        Ok(_) => read(path).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { doing: "look at", path: path.to_owned(), source }),
    }
}

fn read(path: &Path) -> Result<PrivateKey, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io { doing: "read", path: path.to_owned(), source })?;
    let refused = |why: String| Error::Key { path: path.to_owned(), why };
    let key = PrivateKey::from_openssh(&text).map_err(|e| refused(e.to_string()))?;
    if key.is_encrypted() || key.algorithm() != Algorithm::Ed25519 {
        return Err(refused(format!("it is an {} key, or has a passphrase", key.algorithm())));
    }
    Ok(key)
}

fn make(path: &Path) -> Result<PrivateKey, Error> {
    let refused = |e: ssh_key::Error| Error::Key { path: path.to_owned(), why: e.to_string() };
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(refused)?;
    key.set_comment("compliance-api");
    write(path, &key)?;
    Ok(key)
}

fn write(path: &Path, key: &PrivateKey) -> Result<(), Error> {
    let refused = |e: ssh_key::Error| Error::Key { path: path.to_owned(), why: e.to_string() };
    let text = key.to_openssh(LineEnding::LF).map_err(refused)?;
    let public = key.public_key().to_openssh().map_err(refused)?;
    write_new(&beside(path), 0o644, format!("{public}\n").as_bytes())?;
    write_new(path, 0o600, text.as_bytes())
}

/// The public key's file beside a key's.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Written beside and renamed into place, so that half a key is never found.
fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .map_err(io("make", &beside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("write", &beside))?;
    fs::rename(&beside, path).map_err(io("put in place", path))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::File::open(directory).and_then(|d| d.sync_all()).map_err(io("sync", directory))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let made = load_or_make(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path().join(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(dir.path()).unwrap().public_key(), made.public_key());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        load_or_make(dir.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_make(dir.path()), Err(Error::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(load_or_make(dir.path()), Err(Error::Key { .. })));
    }
}
