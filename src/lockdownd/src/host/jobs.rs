//! What waits to run as an account when nobody is logged in: its crontab, its at jobs, its lingering service manager.
//!
//! The spools belong to root; what lies in them is an account's, and is read without following links, without waiting
//! and to a bound. What is set aside is moved whole into a directory that root alone enters, and never changed.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
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
/// The most at jobs of one account that are looked at.
pub const MAX_AT_JOBS: usize = 64;
/// The most entries of the at spool that are looked through.
const MAX_SPOOLED: usize = 4_096;
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
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its content, to [`MAX_JOB`], in hex.
    pub sha256: String,
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

/// Everything that waits to run as this account.
#[must_use]
pub fn of(account: &Account, uid: u32) -> Vec<Job> {
    of_in(Path::new("/"), account, uid)
}

fn of_in(root: &Path, account: &Account, uid: u32) -> Vec<Job> {
    let below = |dir: &str| root.join(dir.trim_start_matches('/'));
    let named = [(Kind::Crontab, CRONTABS), (Kind::Linger, LINGER)];
    let named = named.into_iter().filter_map(|(kind, dir)| job(kind, below(dir).join(account.as_str()), None));
    let spooled = fs::read_dir(below(AT_JOBS)).into_iter().flatten().flatten().take(MAX_SPOOLED);
    let at_jobs = spooled.filter_map(|entry| job(Kind::AtJob, entry.path(), Some(uid))).take(MAX_AT_JOBS);
    named.chain(at_jobs).collect()
}

fn job(kind: Kind, path: PathBuf, owner: Option<u32>) -> Option<Job> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = File::options().read(true).custom_flags(flags).open(&path).ok()?;
    let facts = file.metadata().ok().filter(|facts| facts.is_file() && owner.is_none_or(|uid| facts.uid() == uid))?;
    let nanoseconds = i32::try_from(facts.ctime_nsec()).unwrap_or(0);
    let changed_at = Timestamp::new(facts.ctime(), nanoseconds).unwrap_or(Timestamp::MAX);
    let mut content = Vec::new();
    file.take(MAX_JOB).read_to_end(&mut content).ok()?;
    let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Job { kind, path, changed_at, size: facts.size(), sha256 })
}

/// Takes a job out of its spool, so that it runs no more: a crontab or at job is kept in [`SET_ASIDE`], whose path is the
/// answer; a mark of linger holds nothing and is removed.
///
/// # Errors
/// It could not be moved or removed; it then stands where it stood.
pub fn set_aside(job: &Job, now: Timestamp) -> io::Result<Option<PathBuf>> {
    set_aside_to(Path::new(SET_ASIDE), job, now)
}

fn set_aside_to(dir: &Path, job: &Job, now: Timestamp) -> io::Result<Option<PathBuf>> {
    if job.kind == Kind::Linger || is_full(dir)? {
        fs::remove_file(&job.path)?;
        return Ok(None);
    }
    let name = job.path.file_name().unwrap_or_default();
    let kept = dir.join(format!("{}-{}-{}", job.kind.word(), record::escape(name.as_bytes()), now.as_microsecond()));
    match renameat2(AT_FDCWD, &job.path, AT_FDCWD, &kept, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(Some(kept)),
        Err(nix::errno::Errno::EXDEV) => {
            copy(&job.path, &kept)?;
            fs::remove_file(&job.path)?;
            Ok(Some(kept))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Whether nothing more is kept; makes the directory.
fn is_full(dir: &Path) -> io::Result<bool> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    Ok(fs::read_dir(dir)?.take(MAX_SET_ASIDE).count() >= MAX_SET_ASIDE)
}

/// The spool is on another file system.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let source = File::options().read(true).custom_flags(flags).open(from)?;
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
        assert_eq!((jobs[0].size, jobs[0].sha256.len()), (15, 64));
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
        for job in of_in(root.path(), &ubuntu(), own_uid()) {
            let kept = set_aside_to(&aside, &job, Timestamp::UNIX_EPOCH).expect("set aside");
            assert_eq!(kept.is_some(), job.kind == Kind::Crontab);
            if let Some(kept) = kept {
                assert_eq!(fs::read_to_string(kept).expect("kept"), "* * * * * true\n");
            }
        }
        assert!(!crontab.exists() && !linger.exists());
        assert_eq!(fs::metadata(&aside).expect("made").mode() & 0o7777, 0o700);
    }

    #[test]
    fn past_the_bound_a_job_goes_and_nothing_more_is_kept() {
        let root = spools();
        let aside = root.path().join("left-behind");
        fs::create_dir(&aside).expect("made");
        (0..MAX_SET_ASIDE).for_each(|n| fs::write(aside.join(n.to_string()), "").expect("written"));
        let crontab = root.path().join(CRONTABS.trim_start_matches('/')).join("ubuntu");
        fs::write(&crontab, "x").expect("written");
        let jobs = of_in(root.path(), &ubuntu(), own_uid());
        assert_eq!(set_aside_to(&aside, &jobs[0], Timestamp::UNIX_EPOCH).expect("removed"), None);
        assert!(!crontab.exists());
    }
}
