//! Gives a quarantined file back: a child process that has become the account writes it, so that no link, mount or
//! permission in the home can send root's hand anywhere.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{self, OFlag, OpenHow, ResolveFlag},
    sys::stat::{self, Mode},
    unistd::{self, Gid, Uid},
};

use super::{Content, Item, ItemId, ItemKind, QuarantineError, show};
use crate::paths::{MAX_KEY_FILE, PathError, Root, open_without_links, unescape};

/// The hidden argument with which the daemon runs itself as an account: `UID GID PATH` follow, the bytes come on stdin.
pub const RESTORE_ARGUMENT: &str = "--restore-as-account";
/// The longest complaint of the child that is passed on, in bytes.
const MAX_COMPLAINT: u64 = 1024;

/// How long the child may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often we look whether it is done.
const GLANCE: Duration = Duration::from_millis(2);

/// Why an item was not given back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The item cannot be read.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// Only whole regular files are given back.
    #[error("{id} is no whole file any more ({what}): it cannot be given back")]
    NotWhole {
        /// The item.
        id: ItemId,
        /// What is kept instead.
        what: &'static str,
    },
    /// The inode belonged to somebody else: giving its bytes to the account could disclose what it may not read.
    #[error("{id} belonged to uid {owner}, not to the account (uid {uid}): it is not given back to it")]
    NotTheirs {
        /// The item.
        id: ItemId,
        /// Who owned it.
        owner: u32,
        /// The account.
        uid: u32,
    },
    /// It did not stand in the account's home.
    #[error("{id} stood at {path}, outside of the account's home: only root can put it there, by hand")]
    OutsideHome {
        /// The item.
        id: ItemId,
        /// Where, escaped.
        path: String,
    },
    /// The home cannot be reached.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The child could not be run.
    #[error("writing as the account: {0}")]
    Child(#[source] io::Error),
    /// The child did not succeed.
    #[error("writing as the account: {0}")]
    Refused(String),
}

/// To whom an item is given back, as passwd has it now.
#[derive(Debug, Clone, Copy)]
pub struct RestoreTo<'a> {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: &'a Path,
    /// Whether nothing removes a file of the old name: in observe, and for an exempt account. Else the file comes back as
    /// `NAME.restored-ID`.
    pub under_old_name: bool,
}

/// Writes the bytes of item `id` of the quarantine at `directory` back into the account's home, mode 0600, as the
/// account, never over anything, and says where. The directory that it stood in is made anew, 0700, if it is missing. `program` is the daemon's own. The item stays in the quarantine.
/// Takes up to [`PATIENCE`] if the home stands still: not for a thread that others wait for.
///
/// # Errors
/// [`RestoreError`]; nothing was written then, or the child says what stopped it.
pub fn restore(directory: &Path, id: &ItemId, to: RestoreTo<'_>, program: &Path) -> Result<PathBuf, RestoreError> {
    let item = show(directory, id)?;
    let place = place_of(&item, to)?;
    let content = directory.join(id.as_str());
    let bytes = File::open(&content).map_err(|source| QuarantineError::io(content, source))?;
    let mut child = Command::new(program)
        .args([OsStr::new(RESTORE_ARGUMENT), OsStr::new(&to.uid.to_string()), OsStr::new(&to.gid.to_string())])
        .arg(&place)
        .env_clear()
        .current_dir("/")
        // std drops the supplementary groups before it takes the user id, as root; the child checks all three.
        .gid(to.gid)
        .uid(to.uid)
        .stdin(bytes)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(RestoreError::Child)?;
    let status = wait_for(&mut child).map_err(RestoreError::Child)?;
    if status.success() {
        return Ok(place);
    }
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MAX_COMPLAINT).read_to_string(&mut complaint);
    }
    Err(RestoreError::Refused(record::escape(complaint.trim_end().as_bytes())))
}

/// Waits at most [`PATIENCE`]: the home may be a file system that its owner has made to hang.
fn wait_for(child: &mut Child) -> io::Result<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(GLANCE);
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::new(io::ErrorKind::TimedOut, "the home did not answer in time"))
}

/// Whether the item may be given back, and where to: in the real home, by the item's path below it.
fn place_of(item: &Item, to: RestoreTo<'_>) -> Result<PathBuf, RestoreError> {
    let id = || item.id.clone();
    match (&item.kind, item.content) {
        (ItemKind::File, Content::Kept) => {}
        (ItemKind::Symlink { .. }, _) => {
            return Err(RestoreError::NotWhole { id: id(), what: "it was a symbolic link" });
        }
        (_, Content::Truncated) => return Err(RestoreError::NotWhole { id: id(), what: "only its start was kept" }),
        _ => return Err(RestoreError::NotWhole { id: id(), what: "its bytes were not kept" }),
    }
    if item.owner != to.uid {
        return Err(RestoreError::NotTheirs { id: id(), owner: item.owner, uid: to.uid });
    }
    let outside = || RestoreError::OutsideHome { id: id(), path: item.path.clone() };
    let home = Root::open(Path::new("/"))?.resolve(to.home)?;
    let path = PathBuf::from(unescape(&item.path).ok_or_else(outside)?);
    let below = path.strip_prefix(&home).or_else(|_| path.strip_prefix(to.home)).map_err(|_| outside())?;
    if below.as_os_str().is_empty() || below.components().any(|part| part.as_os_str() == "..") {
        return Err(outside());
    }
    let mut place = home.join(below).into_os_string();
    if !to.under_old_name {
        place.push(format!(".restored-{}", item.id));
    }
    Ok(place.into())
}

/// The child's whole work, for `main` to call when the first argument is [`RESTORE_ARGUMENT`], with those after it:
/// makes sure that it is the account and nothing more, then writes stdin to a new file.
#[must_use]
pub fn restore_as_account(arguments: &[OsString]) -> ExitCode {
    match write_as_account(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn write_as_account(arguments: &[OsString]) -> io::Result<()> {
    let [uid, gid, path] = arguments else { return Err(io::Error::other("usage: UID GID PATH, content on stdin")) };
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<u32>().ok());
    let (Some(uid), Some(gid)) = (number(uid), number(gid)) else { return Err(io::Error::other("not a user id")) };
    become_nothing_else(uid, gid)?;
    let root = fcntl::open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new().flags(flags).mode(Mode::from_bits_truncate(0o600)).resolve(resolve);
    let beneath = Path::new(path).strip_prefix("/").map_err(io::Error::other)?;
    let name = record::escape(path.as_bytes());
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let created = match fcntl::openat2(&root, beneath, how) {
        Err(Errno::ENOENT) => {
            make_directory(root.as_fd(), beneath)?;
            fcntl::openat2(&root, beneath, how)
        }
        answer => answer,
    };
    let mut file = File::from(created.map_err(|error| named(error.into()))?);
    io::copy(&mut io::stdin().lock().take(MAX_KEY_FILE as u64), &mut file).map_err(named)?;
    file.sync_all().map_err(named)
}

/// Makes the directory of a file, `~/.ssh` as a rule, if that one alone is missing.
fn make_directory(root: BorrowedFd<'_>, file: &Path) -> io::Result<()> {
    let Some((above, name)) = file.parent().and_then(|directory| Some((directory.parent()?, directory.file_name()?)))
    else {
        return Ok(());
    };
    let failed = |error: Errno| {
        let above = record::escape(above.as_os_str().as_bytes());
        let name = record::escape(name.as_bytes());
        io::Error::new(
            io::Error::from(error).kind(),
            format!("the directory {name} cannot be made in /{above}: {error}"),
        )
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let above = open_without_links(root, above, flags).map_err(failed)?;
    match stat::mkdirat(&above, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Refuses unless every user and group id is the account's and no supplementary group is left (CVE-2021-41617).
fn become_nothing_else(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let users = unistd::getresuid()?;
    let groups = unistd::getresgid()?;
    let right = [users.real, users.effective, users.saved].iter().all(|id| *id == uid)
        && [groups.real, groups.effective, groups.saved].iter().all(|id| *id == gid)
        && unistd::getgroups()?.iter().all(|id| *id == gid);
    if right { Ok(()) } else { Err(io::Error::other("not started as the account alone: nothing was written")) }
}
