//! Reads sshd's entries in the journal, as they come: a `journalctl --follow` of our own, in the daemon's sandbox.
//!
//! It is the only reader of journal files that systemd promises to be right across releases, rotation and corruption; it
//! costs 250 to 500 ms until an entry is there. What waits, waits in the journal: nothing is read ahead of what the caller
//! has taken. Never reads without a bound, and never believes what the process that logged has set itself.

pub mod export;

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use lockdown_core::sshd_log::{IDENTIFIERS, PROGRAMS};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use self::export::Decoder;
pub use self::export::Entry;

/// This machine's id (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";
/// What follows the journal.
const JOURNALCTL: &str = "/usr/bin/journalctl";
/// What journald says when it has dropped messages of a unit (`SD_MESSAGE_JOURNAL_DROPPED`).
pub const DROPPED: &str = "a596d6fe7bfa4994828e72309e95d61e";
/// The fields that are asked for, beside those that export(5) always has.
const FIELDS: &str =
    "MESSAGE,MESSAGE_ID,N_DROPPED,SYSLOG_IDENTIFIER,_EXE,_PID,_SOURCE_REALTIME_TIMESTAMP,_TRANSPORT,_UID";
/// How much is read at a time.
const CHUNK: usize = 64 * 1024;

/// From where to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// This entry, which is the first one given: if it is another, some are missing.
    Cursor(&'a str),
    /// What came since then.
    Since(Timestamp),
}

/// What a read gives.
#[derive(Debug)]
pub enum Got {
    /// An entry.
    Entry(Box<Entry>),
    /// None for so long, or the bell rang.
    Nothing,
    /// The reader has ended, for this reason.
    Ended(String),
}

/// A running reader; dropping it ends it.
#[derive(Debug)]
pub struct Reader {
    child: Child,
    out: ChildStdout,
    decoder: Decoder,
}

impl Reader {
    /// Starts one that follows.
    ///
    /// # Errors
    /// The machine's id cannot be read; what fork(2) and execve(2) say.
    pub fn follow(from: From<'_>) -> io::Result<Self> {
        let mut command = journalctl();
        command.args(["--follow", "--no-tail", "--merge"]);
        match from {
            From::Cursor(cursor) => command.arg(format!("--cursor={cursor}")),
            From::Since(time) => command.arg(since(time)),
        };
        // Without --merge, systemd 252 follows entries of this boot alone, whatever --boot says; with it, those that came
        // from other machines too. A --directory of our own would go silent when journald begins to write to another.
        let machine = format!("_MACHINE_ID={}", std::fs::read_to_string(MACHINE_ID)?.trim_end());
        // Root's, by name: the program is often not known any more. Then an ordinary user's own sshd, by the program.
        command.args([&machine, "_UID=0"]).args(IDENTIFIERS.map(|name| format!("SYSLOG_IDENTIFIER={name}")));
        command.args(["+", &machine]).args(PROGRAMS.map(|path| format!("_EXE={path}")));
        command.args(["+", &machine, "_TRANSPORT=driver"]).arg(format!("MESSAGE_ID={DROPPED}"));
        Self::start(command)
    }

    /// Starts one that gives what this process of root's, by one of sshd's names, has logged since then, and ends.
    ///
    /// # Errors
    /// What fork(2) and execve(2) say.
    pub fn back(pid: i32, from: Timestamp) -> io::Result<Self> {
        let mut command = journalctl();
        command.arg(since(from)).arg("_UID=0").arg(format!("_PID={pid}"));
        command.args(IDENTIFIERS.map(|name| format!("SYSLOG_IDENTIFIER={name}")));
        Self::start(command)
    }

    fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let out = child.stdout.take().expect("its standard output is piped");
        Ok(Self { child, out, decoder: Decoder::default() })
    }

    /// The next entry, waited for as long as this; `bell` becoming readable ends the wait.
    ///
    /// # Errors
    /// What poll(2) and read(2) say.
    pub fn next(&mut self, most: Duration, bell: BorrowedFd<'_>) -> io::Result<Got> {
        let mut wait = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        loop {
            if let Some(entry) = self.decoder.next() {
                return Ok(Got::Entry(Box::new(entry)));
            }
            let mut fds = [PollFd::new(self.out.as_fd(), PollFlags::POLLIN), PollFd::new(bell, PollFlags::POLLIN)];
            match poll(&mut fds, wait) {
                Ok(0) => return Ok(Got::Nothing),
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            if !fds[0].any().unwrap_or(true) {
                return Ok(Got::Nothing);
            }
            let mut chunk = vec![0; CHUNK];
            match self.out.read(&mut chunk) {
                Ok(0) => return Ok(Got::Ended(self.how_it_ended())),
                Ok(count) => self.decoder.push(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            // A part of an entry: the rest is on its way.
            wait = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        }
    }

    /// Whether an entry can be had without waiting.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.decoder.has_bytes()
    }

    fn how_it_ended(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => format!("{JOURNALCTL} ended: {status}"),
            Err(error) => format!("{JOURNALCTL} ended: {error}"),
        }
    }
}

fn journalctl() -> Command {
    let mut command = Command::new(JOURNALCTL);
    command.args(["--quiet", "--no-pager", "--output=export"]).arg(format!("--output-fields={FIELDS}"));
    command.env_clear().env("LC_ALL", "C").env("SYSTEMD_LOG_LEVEL", "emerg");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn since(time: Timestamp) -> String {
    format!("--since=@{}.{:06}", time.as_second(), time.subsec_microsecond())
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Either may fail only because it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
