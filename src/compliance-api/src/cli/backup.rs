//! `compliance-api backup` and `restore`: the database and the key, which belong together.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use serde_json::Map;
use ssh_key::{HashAlg, PrivateKey};

use super::owner;
use crate::{
    config::Config,
    identity::{self, KEY_FILE, KEY_PUBLIC},
    own_ledger::{self, By, Word},
    store::{self, FILE, Store, backup},
};

/// What a database is called until all of it is there.
const PARTIAL: &str = "compliance-api.sqlite.partial";

/// What SQLite keeps beside a database, behind its name.
const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The store.
    #[error("the store failed")]
    Store(#[from] store::Error),
    /// The key.
    #[error("the server's key cannot be used")]
    Key(#[from] identity::Error),
    /// The user.
    #[error("cannot act as the owner of the database")]
    Owner(#[from] owner::Error),
    /// A file or directory.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing to back up.
    #[error("there is no database at {0}: name the configuration by --config")]
    Nothing(PathBuf),
    /// Nothing to back up or to restore from.
    #[error("there is no key of a server in {0}")]
    NoKey(PathBuf),
    /// Something to overwrite.
    #[error("there is {0} already, and nothing is overwritten: move it away first")]
    There(PathBuf),
    /// No backup, or one that was cut off.
    #[error("{0} holds no whole backup: it has no {FILE}")]
    NoBackup(PathBuf),
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}

/// Backs up into a directory, whether the server runs or not.
pub(super) fn back_up(to: &Path, config: &Config) -> Result<(), Error> {
    if config.store.is_some() {
        return back_key_up(to, config);
    }
    let database = config.state.join(FILE);
    if !database.exists() {
        return Err(Error::Nothing(database));
    }
    make(to, &config.state)?;
    owner::become_owner_of(&config.state)?;
    let store = Store::open(config)?;
    let stated = store.write_blocking(|tx| {
        own_ledger::state(tx, Word::BackupMade, &By::CommandLine, "a backup was begun", Map::new())
    });
    store.close();
    stated?;
    let done = fill(to, config);
    if done.is_err() {
        // What is not whole is of no use, and in the way of the next one.
        [PARTIAL, KEY_FILE, KEY_PUBLIC].iter().for_each(|name| drop(fs::remove_file(to.join(name))));
    }
    let copied = done?;
    let key = copied.key.fingerprint(HashAlg::Sha256);
    eprintln!("{} artifacts in {} bytes, and the key {key}: keep it as secret as here", copied.artifacts, copied.bytes);
    println!("{}", to.display());
    Ok(())
}

/// Backs up what PostgreSQL does not have: the key.
fn back_key_up(to: &Path, config: &Config) -> Result<(), Error> {
    let key = identity::held(&config.state)?.ok_or_else(|| Error::NoKey(config.state.clone()))?;
    make(to, &config.state)?;
    owner::become_owner_of(&config.state)?;
    let store = Store::open(config)?;
    let stated = store.write_blocking(|tx| {
        own_ledger::state(tx, Word::BackupMade, &By::CommandLine, "the server's key was backed up", Map::new())
    });
    store.close();
    stated?;
    identity::keep(to, &key)?;
    let key = key.fingerprint(HashAlg::Sha256);
    eprintln!(
        "the key {key}: keep it as secret as here. The database is PostgreSQL's: back it up by pg_dump, or as a whole"
    );
    println!("{}", to.display());
    Ok(())
}

/// Puts the key of a backup beside a database of PostgreSQL's, which has to be the one that it belongs to.
fn restore_key(from: &Path, config: &Config) -> Result<(), Error> {
    let path = config.state.join(KEY_FILE);
    if path.exists() {
        return Err(Error::There(path));
    }
    let key = identity::held(from)?.ok_or_else(|| Error::NoKey(from.to_owned()))?;
    DirBuilder::new().recursive(true).mode(0o700).create(&config.state).map_err(io("make", &config.state))?;
    owner::become_owner_of(&config.state)?;
    identity::keep(&config.state, &key)?;
    let store = Store::open(config).inspect_err(|_| {
        // Another's key, or no database: as it was before.
        [KEY_FILE, KEY_PUBLIC].iter().for_each(|name| drop(fs::remove_file(config.state.join(name))));
    })?;
    let stated = store.write_blocking(|tx| {
        own_ledger::state(
            tx,
            Word::Restored,
            &By::CommandLine,
            "the server's key was restored from a backup",
            Map::new(),
        )
    });
    store.close();
    stated?;
    println!("{}", path.display());
    Ok(())
}

/// The directory of a backup: made for the owner of the database, or empty.
fn make(to: &Path, state: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(to) {
        Ok(()) if geteuid().is_root() => {
            let meta = fs::metadata(state).map_err(io("look at", state))?;
            chown(to, Some(meta.uid()), Some(meta.gid())).map_err(io("give to the owner of the database", to))
        }
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let first = fs::read_dir(to).map_err(io("look into", to))?.next();
            first.map_or(Ok(()), |_| Err(Error::There(to.to_owned())))
        }
        Err(source) => Err(Error::Io { doing: "make", path: to.to_owned(), source }),
    }
}

fn fill(to: &Path, config: &Config) -> Result<backup::Copied, Error> {
    let partial = to.join(PARTIAL);
    let mut tenths = 0;
    let copied = backup::copy(&config.state, &partial, |left, all| {
        let done = (i64::from(all - left) * 10).checked_div(i64::from(all)).unwrap_or(10);
        if std::mem::replace(&mut tenths, done) != done {
            eprintln!("{done}0 % copied");
        }
    })?;
    let key = identity::load_this(&config.state, &copied.key)?;
    identity::keep(to, &key)?;
    put_in_place(to, &partial)?;
    Ok(copied)
}

fn put_in_place(directory: &Path, partial: &Path) -> Result<(), Error> {
    let path = directory.join(FILE);
    fs::rename(partial, &path).map_err(io("put in place", &path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("sync", directory))
}

/// Puts a backup into the state directory, where there is no database.
pub(super) fn restore(from: &Path, config: &Config) -> Result<(), Error> {
    if config.store.is_some() {
        return restore_key(from, config);
    }
    let state = &config.state;
    // A log that another database has left would be taken for this one's.
    let logs = LOGS.map(|log| format!("{FILE}{log}"));
    for there in [FILE, KEY_FILE].into_iter().chain(logs.iter().map(String::as_str)) {
        let path = state.join(there);
        if path.exists() {
            return Err(Error::There(path));
        }
    }
    // Opened as whoever may read the backup, and written as the owner of the state directory.
    let path = from.join(FILE);
    let mut database = File::open(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoBackup(from.to_owned()),
        _ => Error::Io { doing: "read", path, source },
    })?;
    let key = identity::held(from)?;
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(io("make", state))?;
    owner::become_owner_of(state)?;
    let partial = state.join(PARTIAL);
    let done = put(&mut database, key, from, &partial, state);
    if done.is_err() {
        drop(fs::remove_file(&partial));
    }
    let held = done?;
    let store = Store::open(config)?;
    let stated = store.write_blocking(|tx| {
        own_ledger::state(tx, Word::Restored, &By::CommandLine, "the database was restored from a backup", Map::new())
    });
    store.close();
    stated?;
    eprintln!("{} artifacts were restored; start the server: hosts send again what they still have", held.artifacts);
    println!("{}", state.join(FILE).display());
    Ok(())
}

fn put(
    database: &mut File,
    key: Option<PrivateKey>,
    from: &Path,
    partial: &Path,
    state: &Path,
) -> Result<backup::Copied, Error> {
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(partial);
    let mut copy = made.map_err(io("make", partial))?;
    io::copy(database, &mut copy).and_then(|_| copy.sync_all()).map_err(io("write", partial))?;
    let held = backup::look_through(partial)?;
    let wanted = held.key.fingerprint(HashAlg::Sha256).to_string();
    let path = from.join(KEY_FILE);
    let key = match key {
        None => return Err(identity::Error::Missing { path, wanted }.into()),
        Some(key) if key.public_key().key_data() == held.key.key_data() => key,
        Some(other) => {
            let found = other.fingerprint(HashAlg::Sha256).to_string();
            return Err(identity::Error::Other { path, found, wanted }.into());
        }
    };
    identity::keep(state, &key)?;
    put_in_place(state, partial)?;
    Ok(held)
}
