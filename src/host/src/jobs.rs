//! What waits to run as an account when nobody is logged in: its crontab, its at jobs, its lingering service manager.
//!
//! The spools belong to root; what lies in them is an account's, and is read without following links, without waiting
//! and to a bound. What is set aside is moved whole into a directory that root alone enters, and never changed.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use record::Account;
use sha2::{Digest, Sha256};

/// Debian's cron: one file per account (crontab(1)).
const CRONTABS: &str = "/var/spool/cron/crontabs";
/// Debian's at: one file per job (at(1)).
const AT_JOBS: &str = "/var/spool/cron/atjobs";
/// logind's: one empty file per account that lingers (loginctl(1), `enable-linger`).
const LINGER: &str = "/var/lib/systemd/linger";
/// Where set-aside jobs are kept: root, 0700.
pub const SET_ASIDE: &str = "/var/lib/lockdownd/left-behind";
/// The most of a job that is read, in bytes; a larger one has no hash of its whole.
pub const MAX_JOB: u64 = 1 << 20;
/// The most jobs that are kept aside; past it one is removed, and only its hash remains.
pub const MAX_SET_ASIDE: usize = 1_000;

/// Something that waits to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub path: PathBuf,
    /// When it last changed (its inode, which its owner cannot set back).
    pub changed_at: Timestamp,
}

/// What is in a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of it, to [`MAX_JOB`], in hex.
    pub sha256: String,
}

impl Job {
    /// Reads what is in it; `None` when it is gone, or no file any more.
    #[must_use]
    pub fn content(&self) -> Option<Content> {
        let file = open(&self.path).ok()?;
        let facts = file.metadata().ok().filter(fs::Metadata::is_file)?;
        let mut content = Vec::new();
        file.take(MAX_JOB).read_to_end(&mut content).ok()?;
        let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Content { size: facts.size(), sha256 })
    }
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The account's crontab.
    Crontab,
    /// One at job.
    AtJob,
    /// logind's mark that the account lingers.
    Linger,
}

impl Kind {
    /// The word for the record.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Crontab => "crontab",
            Self::AtJob => "at_job",
            Self::Linger => "linger",
        }
    }
}

/// Everything that waits to run as this account: how much somebody queues hides nothing.
#[must_use]
pub fn of(account: &Account, uid: u32) -> Vec<Job> {
    of_in(Path::new("/"), account, uid)
}

fn of_in(root: &Path, account: &Account, uid: u32) -> Vec<Job> {
    let below = |dir: &str| root.join(dir.trim_start_matches('/'));
    let named = [(Kind::Crontab, CRONTABS), (Kind::Linger, LINGER)];
    let named = named.into_iter().filter_map(|(kind, dir)| job(kind, below(dir).join(account.as_str()), None));
    let spooled = fs::read_dir(below(AT_JOBS)).into_iter().flatten().flatten();
    named.chain(spooled.filter_map(|entry| job(Kind::AtJob, entry.path(), Some(uid)))).collect()
}

fn job(kind: Kind, path: PathBuf, owner: Option<u32>) -> Option<Job> {
    let facts = fs::symlink_metadata(&path).ok()?;
    if !facts.is_file() || owner.is_some_and(|uid| facts.uid() != uid) {
        return None;
    }
    let nanoseconds = i32::try_from(facts.ctime_nsec()).unwrap_or(0);
    let changed_at = Timestamp::new(facts.ctime(), nanoseconds).unwrap_or(Timestamp::MAX);
    Some(Job { kind, path, changed_at })
}

fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    File::options().read(true).custom_flags(flags).open(path)
}

/// Where jobs are kept that were taken out of their spools, and how many more it takes.
#[derive(Debug)]
pub struct Aside {
    dir: PathBuf,
    room: usize,
}

impl Aside {
    /// [`SET_ASIDE`]; it is made if need be.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn open() -> io::Result<Self> {
        Self::open_in(Path::new(SET_ASIDE))
    }

    fn open_in(dir: &Path) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let kept = fs::read_dir(dir)?.take(MAX_SET_ASIDE).count();
        Ok(Self { dir: dir.to_owned(), room: MAX_SET_ASIDE - kept })
    }

    /// Takes a job out of its spool, so that it runs no more: a crontab or at job is kept, and its path is the answer, as
    /// long as there is room; a mark of linger holds nothing and is removed.
    ///
    /// # Errors
    /// It could not be moved or removed; it then stands where it stood.
    pub fn set_aside(&mut self, job: &Job, now: Timestamp) -> io::Result<Option<PathBuf>> {
        if job.kind == Kind::Linger || self.room == 0 {
            fs::remove_file(&job.path)?;
            return Ok(None);
        }
        let kept = set_aside_to(&self.dir, job, now)?;
        self.room -= 1;
        Ok(Some(kept))
    }
}

fn set_aside_to(dir: &Path, job: &Job, now: Timestamp) -> io::Result<PathBuf> {
    let name = job.path.file_name().unwrap_or_default();
    let kept = dir.join(format!("{}-{}-{}", job.kind.word(), record::escape(name.as_bytes()), now.as_microsecond()));
    match renameat2(AT_FDCWD, &job.path, AT_FDCWD, &kept, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(kept),
        Err(nix::errno::Errno::EXDEV) => {
            copy(&job.path, &kept)?;
            fs::remove_file(&job.path)?;
            Ok(kept)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The spool is on another file system.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let source = open(from)?;
    let mut target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut source.take(MAX_JOB), &mut target)?;
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spools() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for dir in [CRONTABS, AT_JOBS, LINGER] {
            fs::create_dir_all(root.path().join(dir.trim_start_matches('/'))).expect("made");
        }
        root
    }

    fn ubuntu() -> Account {
        "ubuntu".parse().expect("an account")
    }

    fn own_uid() -> u32 {
        rustix::process::getuid().as_raw()
    }

    #[test]
    fn an_accounts_jobs_are_found_with_their_hashes_and_nobody_elses() {
        let root = spools();
        let at = |dir: &str, name: &str| root.path().join(dir.trim_start_matches('/')).join(name);
        fs::write(at(CRONTABS, "ubuntu"), "* * * * * true\n").expect("written");
        fs::write(at(CRONTABS, "frank"), "* * * * * true\n").expect("written");
        fs::write(at(LINGER, "ubuntu"), "").expect("written");
        fs::write(at(AT_JOBS, "a0001"), "true\n").expect("written");
        std::os::unix::fs::symlink("/etc/shadow", at(AT_JOBS, "a0002")).expect("linked");
        let jobs = of_in(root.path(), &ubuntu(), own_uid());
        let kinds: Vec<Kind> = jobs.iter().map(|job| job.kind).collect();
        assert_eq!(kinds, [Kind::Crontab, Kind::Linger, Kind::AtJob]);
        let crontab = jobs[0].content().expect("a crontab");
        assert_eq!((crontab.size, crontab.sha256.len()), (15, 64));
        assert!(of_in(root.path(), &ubuntu(), own_uid() + 1).iter().all(|job| job.kind != Kind::AtJob));
    }

    #[test]
    fn what_is_set_aside_is_kept_whole_and_runs_no_more() {
        let root = spools();
        let aside = root.path().join("left-behind");
        let crontab = root.path().join(CRONTABS.trim_start_matches('/')).join("ubuntu");
        let linger = root.path().join(LINGER.trim_start_matches('/')).join("ubuntu");
        fs::write(&crontab, "* * * * * true\n").expect("written");
        fs::write(&linger, "").expect("written");
        let mut keeping = Aside::open_in(&aside).expect("made");
        for job in of_in(root.path(), &ubuntu(), own_uid()) {
            let kept = keeping.set_aside(&job, Timestamp::UNIX_EPOCH).expect("set aside");
            assert_eq!(kept.is_some(), job.kind == Kind::Crontab);
            if let Some(kept) = kept {
                assert_eq!(fs::read_to_string(kept).expect("kept"), "* * * * * true\n");
            }
        }
        assert!(!crontab.exists() && !linger.exists());
        assert_eq!(fs::metadata(&aside).expect("made").mode() & 0o7777, 0o700);
    }

    #[test]
    fn however_many_jobs_wait_all_go_and_no_more_are_kept_than_there_is_room_for() {
        let root = spools();
        let aside = root.path().join("left-behind");
        let spool = root.path().join(AT_JOBS.trim_start_matches('/'));
        (0..5_000).for_each(|n| fs::write(spool.join(format!("a{n:05x}")), "true").expect("written"));
        let mut keeping = Aside::open_in(&aside).expect("made");
        let jobs = of_in(root.path(), &ubuntu(), own_uid());
        let kept = jobs.iter().filter(|job| keeping.set_aside(job, Timestamp::UNIX_EPOCH).expect("taken").is_some());
        assert_eq!((jobs.len(), kept.count()), (5_000, MAX_SET_ASIDE));
        assert!(of_in(root.path(), &ubuntu(), own_uid()).is_empty());
        assert_eq!(fs::read_dir(&aside).expect("there").count(), MAX_SET_ASIDE);
        // Also where it was full before.
        fs::write(spool.join("a00000"), "true").expect("written");
        let jobs = of_in(root.path(), &ubuntu(), own_uid());
        let mut keeping = Aside::open_in(&aside).expect("there");
        assert_eq!(keeping.set_aside(&jobs[0], Timestamp::UNIX_EPOCH).expect("removed"), None);
    }
}
