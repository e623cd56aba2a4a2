//! What the shipper leaves for the daemon: files of another user, so no link is followed, nothing is waited for, nothing
//! is read without a bound, and nothing in them is believed here.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{self, OFlag},
    sys::stat::{self, Mode, SFlag},
    unistd::{self, UnlinkatFlags},
};
use record::LedgerId;

use crate::{
    child::{self, Bounds},
    paths::{file_type, open_without_links},
};

/// The shipper's directory, beside the daemon's own.
pub const SHIPPER: &str = "/var/lib/lockdownd-shipper";
/// The hint's name in it.
pub const HINT: &str = "hint.json";
/// The most that is read of a ledger's receipts, in bytes: the newest hundred.
pub const MAX_RECEIPTS: u64 = 64 * 1024;
/// The most that a hint may have, in bytes.
pub const MAX_HINT: u64 = 4 * 1024;
/// The most that the shipper's own account of itself may have, in bytes.
pub const MAX_STATUS: u64 = 64 * 1024;

const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// The bounds on what it is asked.
const ASKED: Bounds = Bounds { time: Duration::from_secs(3), output: 4096 };

/// How the shipper's unit stands, in systemd's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// `ActiveState`: `active`, `activating`, `inactive`, `failed`.
    pub active: String,
    /// `Result` of its last run.
    pub result: String,
    /// `ExecMainStatus` of that.
    pub exit_status: String,
    /// `UnitFileState`: `enabled`, `disabled`, `masked`.
    pub file: String,
}

/// How the shipper's unit stands. Waits for systemd, so it is no work for the main thread.
///
/// # Errors
/// systemctl(1) cannot be run, fails, or does not answer.
pub fn unit() -> io::Result<Unit> {
    let args = ["show", "-p", "ActiveState,Result,ExecMainStatus,UnitFileState", "--", "lockdownd-shipper.service"];
    let output = child::run(child::command(Path::new(SYSTEMCTL), args), ASKED)?;
    let output = output.ok_or_else(|| io::Error::other(format!("{SYSTEMCTL} does not answer")))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{SYSTEMCTL}: {}", why.trim())));
    }
    let mut unit = Unit::default();
    for (name, value) in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.split_once('=')) {
        let field = match name {
            "ActiveState" => &mut unit.active,
            "Result" => &mut unit.result,
            "ExecMainStatus" => &mut unit.exit_status,
            "UnitFileState" => &mut unit.file,
            _ => continue,
        };
        value.clone_into(field);
    }
    Ok(unit)
}

/// Where the shipper's files are. The directories named here are root's alone to write.
#[derive(Debug, Clone)]
pub struct Shipper {
    state: PathBuf,
    run: PathBuf,
}

impl Default for Shipper {
    fn default() -> Self {
        Self { state: "/var/lib".into(), run: "/run".into() }
    }
}

impl Shipper {
    /// The newest receipts for this ledger, one a line, at most [`MAX_RECEIPTS`] bytes; nothing where there is no file.
    ///
    /// # Errors
    /// What open(2) and read(2) say; a link on the way, or no regular file.
    pub fn receipts(&self, ledger: &LedgerId) -> io::Result<Option<Vec<u8>>> {
        let name = format!("lockdownd-shipper/receipts/{ledger}.jsonl");
        let Some(mut file) = open(&self.state, &name)? else { return Ok(None) };
        let length = file.metadata()?.len();
        let skipped = length.saturating_sub(MAX_RECEIPTS);
        file.seek(SeekFrom::Start(skipped))?;
        let mut bytes = Vec::new();
        file.take(MAX_RECEIPTS).read_to_end(&mut bytes)?;
        if skipped > 0 {
            let begun = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
            bytes.drain(..begun);
        }
        Ok(Some(bytes))
    }

    /// The hint; nothing where there is none.
    ///
    /// # Errors
    /// As [`Shipper::receipts`]; [`io::ErrorKind::FileTooLarge`].
    pub fn hint(&self) -> io::Result<Option<Vec<u8>>> {
        read(&self.state, &format!("lockdownd-shipper/{HINT}"), MAX_HINT)
    }

    /// Takes the hint away: it has been acted on.
    ///
    /// # Errors
    /// What unlinkat(2) says; none there is fine.
    pub fn remove_hint(&self) -> io::Result<()> {
        let root = directory(&self.state)?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
        let own = open_without_links(root.as_fd(), Path::new("lockdownd-shipper"), flags)?;
        match unistd::unlinkat(&own, HINT, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What the shipper says of itself; nothing where it says nothing.
    ///
    /// # Errors
    /// As [`Shipper::hint`].
    pub fn status(&self) -> io::Result<Option<Vec<u8>>> {
        read(&self.run, "lockdownd-shipper/status.json", MAX_STATUS)
    }
}

fn directory(path: &Path) -> nix::Result<std::os::fd::OwnedFd> {
    fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

fn open(root: &Path, name: &str) -> io::Result<Option<File>> {
    let root = directory(root)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match open_without_links(root.as_fd(), Path::new(name), flags) {
        Err(Errno::ENOENT) => return Ok(None),
        opened => opened?,
    };
    if file_type(stat::fstat(&file)?.st_mode) != SFlag::S_IFREG {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(Some(File::from(file)))
}

fn read(root: &Path, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(root, name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn shipper() -> (tempfile::TempDir, Shipper, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let shipper = Shipper { state: dir.path().into(), run: dir.path().into() };
        let own = dir.path().join("lockdownd-shipper");
        fs::create_dir_all(own.join("receipts")).expect("own directory");
        (dir, shipper, own)
    }

    fn ledger() -> LedgerId {
        "0123456789abcdef0123456789abcdef".parse().expect("an id")
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let shipper = Shipper { state: dir.path().into(), run: dir.path().into() };
        assert!(shipper.receipts(&ledger()).expect("nothing").is_none());
        assert!(shipper.hint().expect("nothing").is_none() && shipper.status().expect("nothing").is_none());
    }

    #[test]
    fn of_many_receipts_the_newest_whole_lines_are_read() {
        let (_dir, shipper, own) = shipper();
        let lines: String = (0..5_000).map(|n| format!("line {n:030}\n")).collect();
        fs::write(own.join(format!("receipts/{}.jsonl", ledger())), &lines).expect("own file");
        let read = shipper.receipts(&ledger()).expect("readable").expect("there");
        assert!(read.starts_with(b"line ") && lines.as_bytes().ends_with(&read));
        assert!(read.len() as u64 > MAX_RECEIPTS - 50 && read.len() as u64 <= MAX_RECEIPTS);
    }

    #[test]
    fn no_link_is_followed_no_fifo_waited_for_and_nothing_large_taken() {
        let (dir, shipper, own) = shipper();
        let hint = own.join(HINT);
        fs::write(dir.path().join("elsewhere"), "{}").expect("own file");
        symlink(dir.path().join("elsewhere"), &hint).expect("a link");
        assert!(shipper.hint().is_err());
        fs::remove_file(&hint).expect("own file");
        unistd::mkfifo(&hint, Mode::S_IRWXU).expect("a FIFO");
        assert!(shipper.hint().is_err());
        fs::remove_file(&hint).expect("own file");
        fs::write(&hint, vec![b'x'; 4097]).expect("own file");
        assert_eq!(shipper.hint().expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        shipper.remove_hint().expect("removed");
        assert!(!hint.exists() && shipper.remove_hint().is_ok());
        fs::rename(own.join("receipts"), dir.path().join("moved")).expect("own directory");
        symlink(dir.path().join("moved"), own.join("receipts")).expect("a link");
        fs::write(dir.path().join(format!("moved/{}.jsonl", ledger())), "x\n").expect("own file");
        assert!(shipper.receipts(&ledger()).is_err());
    }
}
