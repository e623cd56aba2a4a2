//! Gives up what the survey does not need, step by step. None of it can be had back, nor by what it starts (sshd).

use std::{collections::BTreeMap, io};

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope,
};
use lockdown_host::{
    accounts::{Accounts, AccountsError},
    ways_in::ACCOUNT,
};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use record::Account;
use rustix::{
    process::{Signal, set_parent_process_death_signal},
    thread::{
        CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities, set_keep_capabilities,
        set_no_new_privs,
    },
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Reads root's files. sshd needs it, too.
const READS: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;
/// Reads which program a process runs, and which sockets it holds.
const SEES_PROCESSES: CapabilitySet = CapabilitySet::SYS_PTRACE;
/// What of Landlock is used where the kernel has it.
const LANDLOCK: ABI = ABI::V6;
/// What sshd opens for writing at its start, to have something in place of standard descriptors.
const NULL: &str = "/dev/null";

/// A right could not be given up: then nothing is surveyed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    #[error(
        "the account {ACCOUNT}, as which ways in are surveyed, is not in /etc/passwd, or is root: systemd-sysusers makes it"
    )]
    NoAccount,
    #[error("root's rights cannot be given up: {0}")]
    Rights(#[from] io::Error),
}

/// What the kernel was to refuse from now on, and does not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unconfined {
    #[error("the survey of ways in ran without a filter on its system calls (seccomp): {0}")]
    Calls(#[from] seccompiler::Error),
    #[error("the survey of ways in ran without Landlock, which keeps it from writing: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error(
        "the survey of ways in ran without Landlock, which keeps it from writing: this kernel has none, or it is off"
    )]
    NoLandlock,
    #[error("the survey of ways in ran without Landlock, which keeps it from writing: {0}")]
    Null(#[from] landlock::PathFdError),
}

/// Works as an account of its own, with two capabilities, and ends when lockdownd's thread does that waits for it.
///
/// # Errors
/// When any of it cannot be had.
pub(crate) fn give_up_rights() -> Result<(), ConfineError> {
    let account: Account = ACCOUNT.parse().map_err(|_| ConfineError::NoAccount)?;
    let accounts = Accounts::read()?;
    let entry = accounts.by_name(&account).filter(|entry| entry.uid != 0 && entry.gid != 0);
    let (uid, gid) = entry.map(|entry| (entry.uid, entry.gid)).ok_or(ConfineError::NoAccount)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let system = |errno: nix::errno::Errno| io::Error::from(errno);
    set_keep_capabilities(true).map_err(io::Error::from)?;
    setgroups(&[]).map_err(system)?;
    setresgid(gid, gid, gid).map_err(system)?;
    setresuid(uid, uid, uid).map_err(system)?;
    have(READS | SEES_PROCESSES)?;
    configure_capability_in_ambient_set(READS, true).map_err(io::Error::from)?;
    set_no_new_privs(true).map_err(io::Error::from)?;
    // Not before: the kernel forgets it when the user changes.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    Ok(())
}

/// Gives up to look at processes.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn see_no_more_processes() -> Result<(), ConfineError> {
    Ok(have(READS)?)
}

fn have(capabilities: CapabilitySet) -> io::Result<()> {
    // What it starts has by this no more than to read.
    let sets = CapabilitySets { effective: capabilities, permitted: capabilities, inheritable: READS };
    Ok(set_capabilities(None, sets)?)
}

/// Has the kernel refuse calls by which others could be changed, and all sockets but local ones, which name services use.
///
/// # Errors
/// When the kernel has no such filter.
pub(crate) fn refuse_calls() -> Result<(), Unconfined> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, vec![not_local()?]);
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().map_err(seccompiler::Error::from)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(seccompiler::Error::from)?;
    let program: BpfProgram = filter.try_into().map_err(seccompiler::Error::from)?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// Another family than AF_UNIX.
fn not_local() -> Result<SeccompRule, seccompiler::Error> {
    let local = u64::from(libc::AF_UNIX.unsigned_abs());
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, local)?;
    Ok(SeccompRule::new(vec![other])?)
}

/// Has the kernel refuse to write to any file, to connect to or listen on the network, and to signal anybody outside.
///
/// # Errors
/// When it has no Landlock, or that is off.
pub(crate) fn write_nothing() -> Result<(), Unconfined> {
    // What an older kernel does not know of is left out: it has the first part, which counts, since 5.13.
    let status = Ruleset::default()
        .handle_access(AccessFs::from_write(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new(NULL)?, AccessFs::WriteFile))?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(Unconfined::NoLandlock),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

/// Calls that libc does not name on every architecture yet; the numbers of calls this new are the same on all of them.
const SYS_FCHMODAT2: i64 = 452;
const SYS_SETXATTRAT: i64 = 463;
const SYS_REMOVEXATTRAT: i64 = 466;
const SYS_FILE_SETATTR: i64 = 469;

/// By which files, other processes or the system could be changed.
const REFUSED: &[i64] = &[
    // Files, beside what Landlock refuses: their modes, owners, times, attributes and lengths.
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_ftruncate,
    libc::SYS_linkat,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_removexattr,
    libc::SYS_renameat2,
    libc::SYS_setxattr,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    SYS_FCHMODAT2,
    SYS_SETXATTRAT,
    SYS_REMOVEXATTRAT,
    SYS_FILE_SETATTR,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_renameat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    // Other processes: with CAP_SYS_PTRACE these reach into any.
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    // Past the directories that one may see, which CAP_DAC_READ_SEARCH allows.
    libc::SYS_open_by_handle_at,
    // Whoever listens could be connected to.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_listen,
    // The system, and parts of the kernel that need no right and have had many holes.
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

#[cfg(test)]
mod tests {
    use std::{fs, io::ErrorKind, path::Path, process::Command, thread};

    use super::*;

    /// Each filter holds for the thread that asks for it, and for what that starts.
    fn confined<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
    }

    #[test]
    fn under_landlock_everything_is_read_and_nothing_is_written_but_the_null_device() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        fs::write(&file, "as it was").expect("its own file");
        confined(|| {
            write_nothing().expect("Linux 5.13 and later have Landlock");
            assert_eq!(fs::read_to_string(&file).expect("it is read"), "as it was");
            let refused =
                |done: io::Result<()>| assert_eq!(done.expect_err("refused").kind(), ErrorKind::PermissionDenied);
            refused(fs::write(&file, "changed"));
            refused(fs::write(dir.path().join("new"), ""));
            refused(fs::remove_file(&file));
            refused(fs::rename(&file, dir.path().join("moved")));
            refused(fs::create_dir(dir.path().join("dir")));
            fs::write(NULL, "gone").expect("sshd does so");
            let script = format!("cat {0} && ! echo changed >{0}", file.display());
            let status = Command::new("/bin/sh").args(["-c", &script]).output().expect("it runs").status;
            assert!(status.success(), "the same holds for what it starts");
        });
        assert_eq!(fs::read_to_string(&file).expect("its own file"), "as it was");
    }

    #[test]
    fn under_the_filter_files_keep_their_modes_and_times_and_there_is_no_network() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        fs::write(&file, "as it was").expect("its own file");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions();
        let before = mode(&file);
        confined(|| {
            refuse_calls().expect("every kernel of Debian's has seccomp");
            let mut changed = before.clone();
            changed.set_readonly(true);
            let refused =
                |done: io::Result<()>| assert_eq!(done.expect_err("refused").kind(), ErrorKind::PermissionDenied);
            refused(fs::set_permissions(&file, changed));
            refused(fs::OpenOptions::new().write(true).open(&file).and_then(|file| file.set_len(0)));
            refused(fs::remove_file(&file));
            refused(std::net::TcpListener::bind("127.0.0.1:0").map(drop));
            let script = format!("! chmod 777 {0} && ! touch -d yesterday {0} && cat {0}", file.display());
            let output = Command::new("/bin/sh").args(["-c", &script]).output().expect("it runs");
            assert!(output.status.success() && output.stdout == b"as it was", "{output:?}");
        });
        assert_eq!((mode(&file), fs::read_to_string(&file).expect("read")), (before, "as it was".to_owned()));
    }
}
