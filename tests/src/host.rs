//! The machine that the tests run on: what it must offer, where things are kept, and how commands are run on it.
//!
//! Every command here has a time limit, so that no test can hang for ever.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long after a full minute cron and at have started what was due then, on a busy machine.
const AFTER_THE_MINUTE: Duration = Duration::from_secs(5);
/// How long a command may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// The status of a command whose time was up, as timeout(1) has it.
const TIME_IS_UP: i32 = 124;
/// How long [`pause`] is at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(300));

/// The programs of the host that the harness calls, each with the Debian package it comes from.
const TOOLS: [(&str, &str); 7] = [
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("timeout", "coreutils"),
];

/// What a finished command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command as a reader would type it.
    pub command: String,
    /// Exit status; 124 when its time was up, 128 + N when signal N ended it.
    pub status: i32,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// Whether the command ended with status 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.status == 0
    }

    /// The trimmed standard output of a command that has to succeed.
    ///
    /// # Panics
    /// When it did not succeed, with all that it said.
    #[track_caller]
    pub fn expect_ok(self) -> String {
        assert!(self.ok(), "this should have succeeded:\n{self}");
        self.stdout.trim_end().to_owned()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        write!(f, "{}{}(status {})", self.stdout, self.stderr, self.status)
    }
}

/// Runs `command` to its end, giving it `input`; `shown` is how it is named in messages.
///
/// # Panics
/// When it cannot be started at all.
pub(crate) fn finish(command: Command, shown: &str, input: &[u8]) -> Output {
    run(command, shown, input, None)
}

/// The same for at most `limit`: then its process group is asked to end, and killed [`GRACE`] later. What timeout(1) does, without
/// a process more for each of the thousands of commands that tests run.
///
/// # Panics
/// When it cannot be started at all.
pub(crate) fn finish_within(limit: Duration, mut command: Command, shown: &str, input: &[u8]) -> Output {
    command.process_group(0);
    run(command, shown, input, Some(limit))
}

fn run(mut command: Command, shown: &str, input: &[u8], limit: Option<Duration>) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // A command may end without reading its input.
        let _ = stdin.write_all(&input);
    });
    let (done, is_done) = mpsc::channel::<()>();
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let watch = limit.map(|limit| thread::spawn(move || end_after(limit, group, &is_done)));
    let out = child.wait_with_output().unwrap_or_else(|e| panic!("cannot wait for {shown}: {e}"));
    drop(done);
    writer.join().expect("writing never panics");
    let is_late = watch.is_some_and(|watch| watch.join().expect("watching never panics"));
    Output {
        command: shown.to_owned(),
        status: if is_late { TIME_IS_UP } else { status_number(out.status) },
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Ends a process group unless the other end of `is_done` is gone within `limit`; whether it had to.
fn end_after(limit: Duration, group: Pid, is_done: &mpsc::Receiver<()>) -> bool {
    let mut is_late = false;
    for (limit, signal) in [(limit, Signal::SIGTERM), (GRACE, Signal::SIGKILL)] {
        if is_done.recv_timeout(limit) != Err(mpsc::RecvTimeoutError::Timeout) {
            break;
        }
        is_late = true;
        // One that has ended already is ended.
        let _ = killpg(group, signal);
    }
    is_late
}

/// The number that a shell would give for `status`.
pub(crate) fn status_number(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs a program of the host for at most `limit`.
pub(crate) fn host_command(limit: Duration, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C.UTF-8");
    finish_within(limit, command, &format!("{program} {}", args.join(" ")), b"")
}

/// Where cached roots and running instances are kept: `$LOCKDOWND_TEST_CACHE`, else `/var/cache/lockdownd-tests`.
#[must_use]
pub fn cache_dir() -> PathBuf {
    std::env::var_os("LOCKDOWND_TEST_CACHE").map_or_else(|| PathBuf::from("/var/cache/lockdownd-tests"), PathBuf::from)
}

/// Begins a step of a scenario that has several on one instance: where one fails, the output names it last.
pub fn step(what: &str) {
    println!("== {what}");
}

/// Waits until `check` is true.
///
/// # Panics
/// When it is still false after `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < limit, "still not after {limit:?}: {what}");
        pause(start);
    }
}

/// Waits until all is over that cron(8) and atd(8) start at the next full minute, of what stands there now.
pub fn past_the_next_minute() {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() % 60);
    // What is installed in the last seconds of a minute may miss its end.
    let minutes = if seconds < 55 { 1 } else { 2 };
    thread::sleep(Duration::from_secs(minutes * 60 - seconds) + AFTER_THE_MINUTE);
}

/// Waits a moment before another look at what is awaited since `start`: the longer it takes, the longer, since a look takes a
/// process or more.
pub(crate) fn pause(start: Instant) {
    thread::sleep((start.elapsed() / 8).clamp(PAUSES.0, PAUSES.1));
}

/// Says plainly what is missing on this host, if anything is.
///
/// # Panics
/// When the harness cannot work here.
pub(crate) fn demand_a_fit_host() {
    assert!(nix::unistd::geteuid().is_root(), "instance tests boot containers and so need root: run `sudo tests/run`");
    for (tool, package) in TOOLS {
        let found =
            std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|d| d.join(tool).exists()));
        assert!(found, "{tool} is missing: `apt-get install {package}` (tests/run does that by itself)");
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has_overlay =
        filesystems.contains("\toverlay") || host_command(Duration::from_secs(10), "modprobe", &["overlay"]).ok();
    assert!(has_overlay, "this kernel has no overlay file system, which the instances are laid upon");
}

/// The directory in which cgroup v2 is mounted: `/sys/fs/cgroup`, or a directory below it on a hybrid host.
///
/// # Panics
/// When the host has no cgroup v2.
pub(crate) fn cgroup_root() -> &'static Path {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(Path::new)
        .into_iter()
        .find(|dir| dir.join("cgroup.controllers").exists())
        .expect("this host has no cgroup v2 mounted, which systemd in the instances needs")
}
