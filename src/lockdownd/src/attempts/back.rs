//! Reads sshd's log back for one connection that was found later: who opened it, as sshd said when it let them in.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use lockdown_core::{
    attempts::Login,
    sshd_log::{self, What, Writer},
};
use lockdown_host::journal_reader::{Got, Reader};
use nix::sys::eventfd::EventFd;

use super::follow::by_sshd;

/// How long a journal may take to give the lines of one connection.
const LIMIT: Duration = Duration::from_secs(10);
/// How many of its lines are looked at, oldest first: it is let in among the first few, and may cause many afterwards.
const MAX_LINES: usize = 256;
/// How much earlier than the process seems to have started its lines may be, where the clock was set a little.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

/// How root's sshd let in whom this process serves, which began then; `None` where the journal does not have it (any more).
#[must_use]
pub fn read_back(pid: i32, began: Timestamp) -> Option<Login> {
    let (bell, start) = (EventFd::new().ok()?, Instant::now());
    let mut reader = Reader::back(pid, began.checked_sub(SLACK).ok()?)
        .inspect_err(|error| tracing::warn!(pid, %error, "sshd's log cannot be read back"))
        .ok()?;
    for _ in 0..MAX_LINES {
        let Ok(Got::Entry(entry)) = reader.next(LIMIT.saturating_sub(start.elapsed()), bell.as_fd()) else { break };
        let Some((by, Writer::Root)) = by_sshd(&entry) else { continue };
        let Some(line) = sshd_log::parse(&entry.message).filter(|_| by == pid) else { continue };
        if let What::Accepted { method, fingerprint } = line.what {
            let account = line.user.map(|user| user.name).unwrap_or_default();
            let (time, source) = (entry.said_at(), line.source);
            return Some(Login { id: 0, time, pid, account, method, fingerprint, source });
        }
    }
    None
}
