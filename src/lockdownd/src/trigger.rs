//! Every reason to act, as one stream: logins, operators, deadlines, cron, signals, and what the watches saw.
//!
//! Nothing is decided here and nothing is delayed on purpose: no debouncing, since a debouncer's delay is the window
//! an attacker gets. Each kind of sender has a queue of its own, and they take turns (`turns`), so that no flood of one
//! kind keeps a login, an operator or a deadline waiting.

mod cron;
mod signals;
mod sockets;
mod turns;
mod watch;

use std::{
    collections::BTreeSet,
    future::poll_fn,
    path::PathBuf,
    pin::pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use control::gate;
use jiff::Timestamp;
use lockdown_core::machine::{Token, jobs::JobId, looks::Heard};
use lockdown_host::{
    client,
    clock::{DeadlineTimer, Woke},
    peer::Peer,
    processes::ProcessId,
};
use record::SessionId;
use tokio::sync::{mpsc, oneshot};

use self::turns::{Class, Turns};
pub(crate) use self::watch::place_of;
pub use self::{
    cron::Cron,
    signals::listen_for_signals,
    sockets::{SocketError, Sockets, serve},
    watch::Watch,
};
use crate::{
    attempts::LogReport,
    driver::{Brought, Checked, Looked, homes::Finding},
    operator::{Asker, ClosedWays, RestoreOutcome},
};

/// How many reasons of one kind may wait; those who send them wait in turn.
pub const MAX_QUEUED: usize = 1_024;
/// How many reports of sshd's log may wait; who follows the log waits in turn, and the rest waits in the journal.
pub const MAX_REPORTS: usize = 64;
/// How often the tasks of sockets and signals get to run before the next reason is taken: as often as it takes to accept a
/// connection, read its question and put that in its queue, and once more.
const ROUNDS: usize = 4;
/// How long until a timer that failed is tried again.
const TIMER_PAUSE: Duration = Duration::from_millis(100);

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
    /// Who made the connection of a login from this host was looked for.
    ClientFound {
        /// What PAM asks.
        question: gate::Question,
        /// The gate that asks.
        gate: u32,
        /// Where the answer goes.
        answer: oneshot::Sender<gate::Answer>,
        /// Who made it.
        maker: client::Found,
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
    /// The disk thread has done something.
    Disk,
    /// Notes of logins to exempt accounts were removed: they are on record.
    NotesDropped(BTreeSet<PathBuf>),
    /// Another ledger was begun, or why not.
    LedgerBegun(Result<(), String>),
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
    /// It is time to look what a session is used for.
    LookAt(SessionId),
    /// A job beside the main thread is over.
    Job {
        /// Which.
        id: JobId,
        /// What it brings, or that it panicked.
        brought: thread::Result<Brought>,
    },
    /// The host was looked at, beside the main thread because that reads files and runs programs.
    Looked(Box<Looked>),
    /// Others listen for connections than before.
    Heard {
        /// What has changed.
        heard: Heard,
        /// The listeners of root's sshds now.
        sshds: BTreeSet<ProcessId>,
    },
    /// What stands in the way of enforcing, looked at beside the main thread because it runs sshd.
    Checked(Box<Checked>),
    /// Ways in were closed, or opened again.
    WaysClosed {
        /// What came of it.
        outcome: ClosedWays,
        /// Who asked, and where the answer goes; `None` where it followed a change of the configuration.
        asked: Option<(Asker, Token)>,
    },
    /// A restore from quarantine is done, beside the main thread because it writes into a home.
    Restored {
        /// What came of it.
        outcome: Box<RestoreOutcome>,
        /// Who asked.
        asker: Asker,
        /// Where the answer goes.
        token: Token,
    },
}

/// Where an operator's answer goes.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<control::Response>);

impl Reply {
    /// Answers. Whoever asked may have given up; that changes nothing of what was done.
    pub fn send(self, response: control::Response) {
        let _ = self.0.send(response);
    }
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
    /// The inbox of documents.
    Inbox,
    /// What PAM's gate needs to be answered: its program, and the daemon's sockets and directory.
    Gate,
    /// The directories on which it depends whether exempt accounts can log in.
    Rescue,
    /// Something of it may have been missed: look everywhere.
    Anywhere,
}

/// Where reasons are sent to, by who sends them.
#[derive(Debug, Clone)]
pub struct Senders {
    /// The gate's questions.
    pub logins: mpsc::Sender<Reason>,
    /// Operators' requests, and signals.
    pub operators: mpsc::Sender<Reason>,
    /// Places that were touched.
    pub touched: mpsc::Sender<Reason>,
    /// The daemon's own jobs, connections and ticks.
    pub own: mpsc::Sender<Reason>,
    /// What sshd's log tells.
    pub log: mpsc::Sender<LogReport>,
    /// What the homes threads find.
    pub homes: mpsc::Sender<Finding>,
}

/// The stream of reasons.
pub struct Triggers {
    queues: Queues,
    timer: DeadlineTimer,
    turns: Turns,
}

struct Queues {
    logins: mpsc::Receiver<Reason>,
    operators: mpsc::Receiver<Reason>,
    touched: mpsc::Receiver<Reason>,
    own: mpsc::Receiver<Reason>,
    log: mpsc::Receiver<LogReport>,
    homes: mpsc::Receiver<Finding>,
}

impl Queues {
    /// The next reason of a class that has a queue. Of a queue that has no sender any more nothing comes.
    fn poll(&mut self, class: Class, context: &mut Context<'_>) -> Poll<Reason> {
        let came = match class {
            Class::Deadline => Poll::Pending,
            Class::Login => self.logins.poll_recv(context),
            Class::Operator => self.operators.poll_recv(context),
            Class::Touched => self.touched.poll_recv(context),
            Class::Own => self.own.poll_recv(context),
            Class::Log => self.log.poll_recv(context).map(|report| report.map(Reason::Log)),
            // Without them the daemon ends, and must not first wait for something else to happen.
            Class::Homes => {
                self.homes.poll_recv(context).map(|finding| Some(finding.map_or(Reason::Tick, Reason::Found)))
            }
        };
        match came {
            Poll::Ready(Some(reason)) => Poll::Ready(reason),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Triggers {
    /// Makes the queues, and joins them with the clock.
    #[must_use]
    pub fn new(timer: DeadlineTimer) -> (Senders, Self) {
        let (logins, to_logins) = mpsc::channel(MAX_QUEUED);
        let (operators, to_operators) = mpsc::channel(MAX_QUEUED);
        let (touched, to_touched) = mpsc::channel(MAX_QUEUED);
        let (own, to_own) = mpsc::channel(MAX_QUEUED);
        let (log, to_log) = mpsc::channel(MAX_REPORTS);
        let (homes, to_homes) = mpsc::channel(MAX_QUEUED);
        let queues = Queues {
            logins: to_logins,
            operators: to_operators,
            touched: to_touched,
            own: to_own,
            log: to_log,
            homes: to_homes,
        };
        let senders = Senders { logins, operators, touched, own, log, homes };
        (senders, Self { queues, timer, turns: Turns::default() })
    }

    /// The next reason to act, given when the next deadline passes on each clock. Whoever came while the last one was acted
    /// on stands in the queues first.
    pub async fn next(&mut self, wall: Option<Timestamp>, boot: Option<Duration>) -> Reason {
        for _ in 0..ROUNDS {
            // Runs the tasks that are ready, then asks the kernel what has come on sockets and timers.
            tokio::task::yield_now().await;
        }
        let Self { queues, timer, turns } = self;
        let mut due = pin!(due(timer, wall, boot));
        let (class, reason) = poll_fn(|context| {
            for class in turns.order() {
                let came = match class {
                    Class::Deadline => due.as_mut().poll(context),
                    class => queues.poll(class, context),
                };
                if let Poll::Ready(reason) = came {
                    return Poll::Ready((class, reason));
                }
            }
            Poll::Pending
        })
        .await;
        turns.taken(class);
        reason
    }

    /// What the homes threads still tell once they have been told to stop; `None` after the last.
    pub async fn last_finding(&mut self) -> Option<Finding> {
        self.queues.homes.recv().await
    }
}

async fn due(timer: &mut DeadlineTimer, wall: Option<Timestamp>, boot: Option<Duration>) -> Reason {
    match timer.wait(wall, boot).await {
        Ok(Woke::ClockSet) => Reason::ClockSet,
        Ok(Woke::Deadline) => Reason::Deadline,
        Err(error) => {
            // Without a timer nothing would end on time: every deadline is looked at again and again.
            tracing::error!(%error, "the timer failed");
            tokio::time::sleep(TIMER_PAUSE).await;
            Reason::Deadline
        }
    }
}

#[cfg(test)]
mod tests;
