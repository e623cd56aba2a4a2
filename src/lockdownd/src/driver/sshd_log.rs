//! What sshd's log tells: statements go on record, and of a login it is looked at what its connection is now.

use std::time::Duration;

use jiff::Timestamp;
use lockdown_core::{
    attempts::Login,
    machine::{
        Event,
        past_gate::{Connection, LOOK_AGAIN, LoggedIn},
        recorder::Room,
    },
    policy::time::Now,
    sessions::Uses,
    sshd_log::PROGRAMS,
};
use lockdown_host::{
    clock, logins,
    processes::{self, Handle as _, Process, ProcessId},
    sockets::Sockets,
};
use record::ArtifactType;

use super::Driver;
use crate::{
    attempts::{LogReport, Statements},
    disk::Store,
    ledger::{self, View},
};

/// The program that PAM asks the daemon with.
const GATE: &str = "/usr/lib/lockdownd/login-gate";
/// How much later than its line a process may seem to have started, where the clock was set a little.
const SLACK: Duration = Duration::from_secs(2);
/// How many generations below a connection's process are looked at: sshd's own, PAM's, the gate.
const GENERATIONS: usize = 4;
/// How many processes of one generation are looked at.
const MAX_BELOW: usize = 64;
/// How much of the ledger is read at a time when a batch is looked for.
const CHUNK: usize = 1 << 20;

impl Driver {
    /// Acts on one report of who follows sshd's log.
    pub(super) fn log_told(&mut self, report: LogReport, now: Now) {
        match report {
            LogReport::Statements(statements) => self.record_log(statements, now),
            LogReport::Login(login) => self.login_in_log(login, 0, now),
            LogReport::LookAgain(login, looks) => self.login_in_log(login, looks, now),
            LogReport::Behind(session, login) => self.step(Event::OpenedBefore(session, login), now),
            LogReport::Knocks(knocks) => knocks.into_iter().for_each(|knock| self.knocks.take(knock)),
            LogReport::UsersSshd => self.step(Event::UsersSshdLogged, now),
        }
    }

    /// What there is to say where sshd's log lacks lines that must be there.
    pub(crate) fn log_is_not_whole(&self) -> Option<String> {
        let since = self.answered.unheard_since()?;
        Some(format!(
            "sshd's log is not whole since {since:.0}: its lines on logins that the gate let in do not reach the journal, so \
             that failed logins may be missing from the records"
        ))
    }

    /// All of a batch is put on record, or none; and not a second time. Who follows the log waits for it.
    fn record_log(&mut self, statements: Statements, now: Now) {
        self.core.commit(now);
        let record = move |store: &mut Store| {
            let Statements { batch, drafts, maybe_behind, again, done } = statements;
            let view = store.ledger.view();
            let recorded = match again.then(|| is_on_record(&view, batch, maybe_behind)) {
                Some(Ok(true)) => true,
                Some(Err(error)) => {
                    tracing::error!(%error, "the ledger cannot be read: what sshd's log said waits");
                    false
                }
                Some(Ok(false)) | None => store.append(drafts, Room::Free, now.wall).is_ok(),
            };
            let view = store.ledger.view();
            // Who follows the log may have been stopped meanwhile.
            let _ = done.send(recorded.then(|| (view.id.to_string(), view.head.seq)));
            None
        };
        self.work("recording what sshd's log says", Box::new(record));
    }

    /// sshd says that it let somebody in: what is known of it.
    pub(super) fn login_in_log(&mut self, login: Box<Login>, looks: u32, now: Now) {
        // A gate that got no answer in time has left a note of a login to an exempt account, on the disk: nobody looks there for one
        // that it was answered about.
        if !self.answered.knows(login.pid, login.time) {
            let notes = self.read_notes();
            self.step(Event::NotesRead(notes), now);
        }
        let process = processes::identity(login.pid);
        let connection = connection(&login, self.uid_of_login(&login));
        let uses = match connection {
            Connection::Gone => Uses::default(),
            _ => process.map(|process| logins::uses(process, &mut Sockets::default())).unwrap_or_default(),
        };
        let seen = LoggedIn {
            is_known: self.answered.knows(login.pid, login.time),
            is_expected: self.answered.expects(login.pid, login.time),
            connection,
            process,
            uses,
            looks,
            login,
        };
        self.step(Event::LoggedIn(seen), now);
    }

    /// Whoever follows the log need not tell of this login again.
    pub(super) fn looked_at_login(&self, id: u64) {
        if let Some(follower) = &self.follower {
            follower.looked_at(id);
        }
    }

    pub(super) fn look_at_login_again(&self, login: Box<Login>, looks: u32) {
        let reports = self.reports.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LOOK_AGAIN).await;
            // Nobody receives once the daemon stops; the next start is told of the login again.
            let _ = reports.send(LogReport::LookAgain(login, looks)).await;
        });
    }

    fn uid_of_login(&self, login: &Login) -> Option<u32> {
        self.core.uid_of(&login.account.parse().ok()?)
    }
}

/// Whether this batch is on record already.
fn is_on_record(ledger: &View, batch: u64, behind: Option<(String, u64)>) -> Result<bool, ledger::Error> {
    let mut seq = behind.filter(|(id, _)| *id == ledger.id.to_string()).map_or(0, |(_, seq)| seq);
    let here = format!("\"batch\":{batch},");
    let last = format!("\"batch\":{batch}}}");
    let of_the_log = [ArtifactType::LoginFailed, ArtifactType::JournalGap].map(|kind| format!("\"type\":\"{kind}\""));
    loop {
        let lines = ledger.lines_after(seq, CHUNK)?;
        let is_it = |line: &String| {
            (line.contains(&here) || line.contains(&last)) && of_the_log.iter().any(|kind| line.contains(kind.as_str()))
        };
        if lines.iter().any(is_it) {
            return Ok(true);
        }
        if lines.is_empty() {
            return Ok(false);
        }
        seq += lines.len() as u64;
    }
}

/// What the process that wrote the line is now. Its pid may have passed to another since, also in a later boot: that one
/// has started later.
fn connection(login: &Login, account: Option<u32>) -> Connection {
    let Some(process) = Process::read(login.pid).filter(|process| process.id.is_alive()) else {
        return Connection::Gone;
    };
    let is_sshd = process.exe.as_ref().is_some_and(|exe| PROGRAMS.iter().any(|known| exe.as_os_str() == *known));
    if !is_sshd || process.uid != 0 || started(process.id).is_none_or(|at| at > login.time + SLACK) {
        return Connection::Gone;
    }
    let below = below(login.pid);
    let runs = |process: &Process, program: &str| process.exe.as_ref().is_some_and(|exe| exe.as_os_str() == program);
    if below.iter().any(|process| runs(process, GATE)) {
        return Connection::AtTheGate;
    }
    // A child of root's that is sshd itself may be PAM on its way to run the gate; one of sshd's own account is the one
    // that has just handed over.
    let is_sshds = |process: &Process| PROGRAMS.iter().any(|program| runs(process, program));
    let is_users = |process: &Process| match account {
        Some(account) if account != 0 => process.uid == account,
        _ => process.uid == 0 && !is_sshds(process),
    };
    if below.iter().any(is_users) {
        return Connection::In(process.id);
    }
    Connection::Starting(process.id)
}

/// What runs below a connection's process, as far down as PAM and the first process of the account are: by the kernel's
/// lists of children, since looking through all of `/proc` would cost more the more somebody runs.
fn below(pid: i32) -> Vec<Process> {
    let (mut found, mut layer) = (Vec::new(), vec![pid]);
    for _ in 0..GENERATIONS {
        let children = layer.iter().flat_map(|pid| processes::children(*pid)).take(MAX_BELOW);
        let children: Vec<Process> = children.filter_map(Process::read).collect();
        layer = children.iter().map(|process| process.id.pid).collect();
        found.extend(children);
    }
    found
}

/// When a process started, by the wall clock as it stands now.
pub(super) fn started(id: ProcessId) -> Option<Timestamp> {
    let now = clock::now();
    let age = now.boot.checked_sub(id.began())?;
    now.wall.checked_sub(age).ok()
}
