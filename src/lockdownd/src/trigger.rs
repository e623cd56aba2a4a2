//! Every reason to act, as one stream: logins, operators, deadlines, cron, signals, and what the watches saw.
//!
//! Nothing is decided here and nothing is delayed on purpose: no debouncing, since a debouncer's delay is the window
//! an attacker gets. Logins and deadlines come before what sshd's log tells and before the findings of homes, so that
//! nobody can crowd them out: whatever floods those, a login waits for one of them at most.

mod cron;
mod signals;
mod sockets;
mod watch;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use control::gate;
use jiff::Timestamp;
use record::{GrantId, SessionId};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::watch::place_of;
pub use self::{
    cron::Cron,
    signals::listen_for_signals,
    sockets::{SocketError, serve},
    watch::Watch,
};
use crate::{
    attempts::LogReport,
    enforce::{Came, Seen, UsersSshds, homes::Finding},
    host::{
        clock::{DeadlineTimer, Woke},
        readiness::Obstacle,
    },
    operator::{Asker, ClosedWays, RestoreOutcome},
};

/// How many reasons may wait; those who send them wait in turn.
pub const MAX_QUEUED: usize = 1_024;
/// How many reports of sshd's log may wait; who follows the log waits in turn, and the rest waits in the journal.
pub const MAX_REPORTS: usize = 64;

/// One reason to act.
#[derive(Debug)]
pub enum Reason {
    /// PAM asks about a login.
    Login {
        /// What it asks.
        question: gate::Question,
        /// The gate that asks: its parent is the connection's sshd.
        gate: u32,
        /// Where the answer goes.
        answer: oneshot::Sender<gate::Answer>,
    },
    /// An operator asks.
    Asked {
        /// What.
        request: control::Request,
        /// Who.
        peer: Peer,
        /// Where the answer goes.
        reply: Reply,
    },
    /// A deadline has passed, or may have.
    Deadline,
    /// The wall clock was set.
    ClockSet,
    /// The cron library says that something scheduled may be due.
    Tick,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: stop in good order.
    Stop,
    /// The homes thread has found something.
    Found(Finding),
    /// sshd's log has told something.
    Log(LogReport),
    /// A place that only root writes was touched.
    Touched(Place),
    /// A session's connection is gone.
    Gone(SessionId),
    /// It is time to look whether a connection that was ended is really gone.
    LookAgain(SessionId),
    /// It is time to look again for what was left behind under grants that have ended; whether also for what their
    /// accounts run by themselves.
    LookBehind(Vec<GrantId>, bool),
    /// It is time to look what a session is used for.
    LookAt(SessionId),
    /// A job beside the main thread is over.
    Job {
        /// Which.
        id: u64,
        /// What it brings, or that it panicked.
        came: Came,
    },
    /// What stands in the way of enforcing, looked at beside the main thread because it runs sshd.
    Checked(Vec<Obstacle>),
    /// Every way in was looked at, beside the main thread for the same reason.
    WaysSeen(Box<Seen>),
    /// Users' own SSH servers were looked for and ended, beside the main thread because it looks through `/proc`.
    UsersSshdsEnded(UsersSshds),
    /// Ways in were closed, or opened again.
    WaysClosed {
        /// What came of it.
        outcome: ClosedWays,
        /// Who asked, and where the answer goes; `None` where it followed a change of the configuration.
        asked: Option<(Asker, Reply)>,
    },
    /// A restore from quarantine is done, beside the main thread because it writes into a home.
    Restored {
        /// What came of it.
        outcome: Box<RestoreOutcome>,
        /// Who asked.
        asker: Asker,
        /// Where the answer goes.
        reply: Reply,
    },
}

/// Where an operator's answer goes. The first answer counts: a job may be answered for that then comes back late.
#[derive(Debug, Clone)]
pub struct Reply(Arc<Mutex<Option<oneshot::Sender<control::Response>>>>);

impl Reply {
    fn new(to: oneshot::Sender<control::Response>) -> Self {
        Self(Arc::new(Mutex::new(Some(to))))
    }

    /// Answers. Whoever asked may have given up; that changes nothing of what was done.
    pub fn send(self, response: control::Response) {
        let to = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(to) = to {
            let _ = to.send(response);
        }
    }
}

/// Who asks on `control.sock`: what the kernel says of the peer.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its process.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
}

/// A place that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The key store.
    Store,
    /// What PAM and the gate read when the daemon is down: the exempt accounts, the marker of enforce.
    State,
    /// `/etc/passwd` and `/etc/group`.
    Accounts,
    /// sshd's configuration.
    Sshd,
    /// PAM's configuration.
    Pam,
    /// The shipper's directory: it has left a hint.
    Shipper,
    /// Something of it may have been missed: look everywhere.
    Anywhere,
}

/// The stream of reasons.
pub struct Triggers {
    reasons: mpsc::Receiver<Reason>,
    reports: mpsc::Receiver<LogReport>,
    findings: mpsc::Receiver<Finding>,
    timer: DeadlineTimer,
}

impl Triggers {
    /// Joins what the sockets, signals, schedules and watches send with sshd's log, the homes thread's findings and the
    /// clock.
    #[must_use]
    pub fn new(
        reasons: mpsc::Receiver<Reason>,
        reports: mpsc::Receiver<LogReport>,
        findings: mpsc::Receiver<Finding>,
        timer: DeadlineTimer,
    ) -> Self {
        Self { reasons, reports, findings, timer }
    }

    /// The next reason to act, given when the next deadline passes on each clock. Never ends: every sender is kept by
    /// somebody for as long as the daemon runs.
    pub async fn next(&mut self, wall: Option<Timestamp>, boot: Option<Duration>) -> Reason {
        tokio::select! {
            biased;
            woke = self.timer.wait(wall, boot) => match woke {
                Ok(Woke::ClockSet) => Reason::ClockSet,
                Ok(Woke::Deadline) => Reason::Deadline,
                Err(error) => {
                    // Without a timer nothing would end on time: act on every deadline now, then try again.
                    tracing::error!(%error, "the timer failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Reason::Deadline
                }
            },
            Some(reason) = self.reasons.recv() => reason,
            Some(reason) = at_leisure(&mut self.reports, &mut self.findings) => reason,
            else => Reason::Stop,
        }
    }

    /// What the homes threads still tell once they have been told to stop; `None` after the last.
    pub async fn last_finding(&mut self) -> Option<Finding> {
        self.findings.recv().await
    }
}

/// What nobody waits for: of sshd's log and of the homes in turn, as chance has it, so that neither crowds out the other.
async fn at_leisure(reports: &mut mpsc::Receiver<LogReport>, findings: &mut mpsc::Receiver<Finding>) -> Option<Reason> {
    tokio::select! {
        Some(report) = reports.recv() => Some(Reason::Log(report)),
        Some(finding) = findings.recv() => Some(Reason::Found(finding)),
        else => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_passes_every_report_of_sshds_log_that_waits() {
        let (send, reasons) = mpsc::channel(MAX_QUEUED);
        let (tell, reports) = mpsc::channel(MAX_REPORTS);
        let (_find, findings) = mpsc::channel(1);
        let mut triggers = Triggers::new(reasons, reports, findings, DeadlineTimer::new().expect("a timer"));
        while tell.try_send(LogReport::UsersSshd).is_ok() {}
        send.try_send(Reason::Reload).expect("room");
        assert!(matches!(triggers.next(None, None).await, Reason::Reload));
        for _ in 0..MAX_REPORTS {
            assert!(matches!(triggers.next(None, None).await, Reason::Log(_)));
        }
    }
}
