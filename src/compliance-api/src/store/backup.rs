//! Copies of the database: taken while it is in use, by SQLite's own means, and looked through before they are relied on.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rusqlite::{Connection, OpenFlags, backup};
use ssh_key::PublicKey;

use super::{Error, FILE, engine, server_keys, sqlite::connect};

/// Pages that are copied at a time: 1 MiB.
const PAGES: i32 = 128;
/// How many faults of a database are told.
const FAULTS: usize = 5;

/// What a copy holds.
#[derive(Debug)]
pub struct Copied {
    /// The key that its receipts are signed with.
    pub key: PublicKey,
    /// How many artifacts.
    pub artifacts: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Copies the database of this state directory into a new file, as it is at this moment, however much is written meanwhile.
/// `told` hears how many pages are left, and of how many.
///
/// # Errors
/// SQLite's; a file that cannot be written; a copy that is not whole.
pub fn copy(state: &Path, to: &Path, mut told: impl FnMut(i32, i32)) -> Result<Copied, Error> {
    let copying = "copying it";
    let source = connect(&state.join(FILE), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // One moment for all of it: without a transaction the copy would begin anew whenever another process writes.
    source.execute_batch("BEGIN").map_err(Error::database(copying))?;
    let read = "SELECT count(*) FROM server_keys";
    source.query_row(read, [], |row| row.get::<_, i64>(0)).map_err(Error::database(copying))?;
    let io = |source| Error::Io { doing: "write", path: to.to_owned(), source };
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(io)?;
    let mut copy = connect(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let steps = backup::Backup::new(&source, &mut copy).map_err(Error::database(copying))?;
    loop {
        match steps.step(PAGES).map_err(Error::database(copying))? {
            backup::StepResult::Done => break,
            backup::StepResult::More => {
                let progress = steps.progress();
                told(progress.remaining, progress.pagecount);
            }
            _ => return Err(Error::NotCommitted("somebody else holds the copy".to_owned())),
        }
    }
    drop(steps);
    // One file, with nothing beside it.
    copy.execute_batch("PRAGMA journal_mode = DELETE").map_err(Error::database(copying))?;
    drop(copy);
    let copied = look_through(to)?;
    fs::File::open(to).and_then(|file| file.sync_all()).map_err(io)?;
    Ok(copied)
}

/// Looks through a database that nobody uses, page by page.
///
/// # Errors
/// SQLite's; what is no database of this server, or is not whole.
pub fn look_through(path: &Path) -> Result<Copied, Error> {
    let looking = "looking through it";
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let faults = faults(&connection)?;
    if !faults.is_empty() {
        return Err(Error::Unsound(format!("what is not whole: {}", faults.join("; "))));
    }
    let count = "SELECT coalesce(max(id), 0) FROM artifacts";
    let artifacts = connection.query_row(count, [], |row| row.get(0)).map_err(Error::database(looking))?;
    let newest = server_keys::newest(&engine::Connection::from(connection))?;
    let key = newest.and_then(|(_, line)| PublicKey::from_openssh(&line).ok());
    let key =
        key.ok_or_else(|| Error::Unsound("no key of a server: it is no database of this program's".to_owned()))?;
    let meta = fs::metadata(path);
    let bytes = meta.map_err(|source| Error::Io { doing: "look at", path: path.to_owned(), source })?.len();
    Ok(Copied { key, artifacts, bytes })
}

fn faults(connection: &Connection) -> Result<Vec<String>, Error> {
    let looking = "looking through it";
    let mut check = connection.prepare(&format!("PRAGMA quick_check({FAULTS})")).map_err(Error::database(looking))?;
    let said = check.query_map([], |row| row.get(0)).map_err(Error::database(looking))?;
    let said: Vec<String> = said.collect::<Result<_, _>>().map_err(Error::database(looking))?;
    Ok(if said == ["ok"] { Vec::new() } else { said })
}
