//! Ending the connection whose session was refused: a detached copy of the gate ends its parent, that connection's sshd.
//!
//! sshd itself forbids every channel and forward of such a connection, but keeps it open for a client that asks for none (`ssh -N`).
//! The copy waits a moment, so that the refusal's text reaches the person first. It never looks a process up by number to
//! signal it: it holds a pidfd, opened while sshd waits for the gate.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// The gate's own argument: end the sshd whose pidfd is standard input and whose process id follows.
const END: &str = "--end-connection";
/// How long the refusal's text has to reach the person. Over 0.5 s of round trip it arrives too late.
const READING_TIME: Duration = Duration::from_millis(500);
/// How long sshd has to end after SIGTERM, and its network process after it.
const GRACE: Duration = Duration::from_millis(200);

/// Starts the copy that ends the gate's parent in a moment; ends it at once where that fails.
pub(crate) fn end_soon() {
    let Some((pid, sshd)) = parent() else { return };
    // A copy of the descriptor stays here for the case that nothing can be started.
    let started = sshd.try_clone().and_then(|copy| start(pid, copy));
    if started.is_err() {
        let _ = pidfd_send_signal(&sshd, Signal::KILL);
    }
}

/// The gate's parent, where it may be ended: a process of root other than init.
fn parent() -> Option<(Pid, OwnedFd)> {
    let pid = rustix::process::getppid().filter(|pid| *pid != Pid::INIT)?;
    let sshd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Still our parent, so it lived when the descriptor was opened: its number was not given to another.
    (rustix::process::getppid() == Some(pid) && !surely_of_a_user(pid)).then_some((pid, sshd))
}

/// Whether the process was started by a user, as `su` and `sudo` are, which no sshd that root runs is. In doubt it was not.
fn surely_of_a_user(pid: Pid) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    real_uid(&status).is_some_and(|uid| uid != 0)
}

/// The real user id in proc_pid_status(5).
fn real_uid(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

/// Starts the copy. Nothing of ours stays open in it: pam_exec waits until our standard output is closed.
fn start(pid: Pid, sshd: OwnedFd) -> io::Result<()> {
    Command::new("/proc/self/exe")
        .args([END, &pid.to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(sshd))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map(drop)
}

/// The process id of the sshd to be ended, where the gate's arguments ask for that.
pub(crate) fn to_be_ended(arguments: &[OsString]) -> Option<Pid> {
    match arguments {
        [end, pid] if end == END => pid.to_str()?.parse().ok().and_then(Pid::from_raw),
        _ => None,
    }
}

/// Ends the sshd with process id `pid`, whose pidfd is standard input, and its network process.
pub(crate) fn end(pid: Pid) -> ExitCode {
    thread::sleep(READING_TIME);
    let input = io::stdin();
    let sshd = input.as_fd();
    let children = children(pid, sshd);
    // sshd passes SIGTERM on to its network process and goes after it.
    let _ = pidfd_send_signal(sshd, Signal::TERM);
    if !over_within(sshd, GRACE) {
        let _ = pidfd_send_signal(sshd, Signal::KILL);
    }
    for child in &children {
        if !over_within(child.as_fd(), GRACE) {
            let _ = pidfd_send_signal(child, Signal::KILL);
        }
    }
    if over_within(sshd, GRACE) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The children of a process that is still there.
fn children(pid: Pid, process: BorrowedFd<'_>) -> Vec<OwnedFd> {
    let opened: Vec<(Pid, OwnedFd)> = list_children(pid)
        .into_iter()
        .filter_map(|child| Some((child, pidfd_open(child, PidfdFlags::empty()).ok()?)))
        .collect();
    // Who is its child now was its child all along, so the descriptor is that child's: unless the parent's own number was reused.
    let still = list_children(pid);
    if over_within(process, Duration::ZERO) {
        return Vec::new();
    }
    opened.into_iter().filter(|(child, _)| still.contains(child)).map(|(_, process)| process).collect()
}

/// The children that proc_pid_task_children(5) lists.
fn list_children(pid: Pid) -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)).collect()
}

/// Whether the process behind a pidfd is over, or is so before `patience` has passed.
fn over_within(process: BorrowedFd<'_>, patience: Duration) -> bool {
    let patience = Timespec::try_from(patience).expect("a fraction of a second fits a timespec");
    let mut waiting = [PollFd::new(&process, PollFlags::IN)];
    matches!(poll(&mut waiting, Some(&patience)), Ok(1..)) && waiting[0].revents().contains(PollFlags::IN)
}
