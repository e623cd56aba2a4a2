//! What sshd's log tells becomes a record; and whoever got in past the gate is found, put on record and, in enforce, ended.
//!
//! The log only says where to look. A connection is ended by what the kernel says of its process: that it was there when
//! the line was written, that it is sshd's, and that nobody asked the gate about it. One that is still on its way through
//! PAM is waited for.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lockdown_core::{
    attempts::Login,
    machine::recorder::Room,
    policy::time::Now,
    sessions::{End, Session, Standing},
    sshd_log::PROGRAMS,
};
use lockdown_host::{
    clock, logins,
    processes::{self, Handle as _, Process, ProcessId},
};
use record::{Account, ArtifactType, Draft, Fingerprint, SessionId, Source};

use super::{
    Engine,
    jobs::{Brought, Kind},
};
use crate::{
    attempts::{self, LogReport, Statements},
    disk::Store,
    ledger::{self, View},
};

/// The program that PAM asks the daemon with.
const GATE: &str = "/usr/lib/lockdownd/login-gate";
/// How long until a connection that may still be on its way through PAM is looked at again.
const LOOK_AT_LOGIN_AGAIN: Duration = Duration::from_millis(100);
/// How long after sshd's line it counts as in, unless the gate is being asked; then it is waited for. Only root's login with
/// nothing running in it takes so long: the gate comes first in PAM, milliseconds after the line.
const STARTS_WITHIN: SignedDuration = SignedDuration::from_millis(700);
/// How often it is looked at meanwhile at most, whatever the clock is set to.
const LOOKS: u32 = 7;
/// How often it is looked at where the gate is being asked: longer than the gate waits for an answer.
const LOOKS_AT_THE_GATE: u32 = 200;
/// How often it is looked at where the gate must refuse it: longer than the gate waits for an answer, and then takes to end it.
const LOOKS_AFTER_REFUSAL: u32 = 150;
/// How much later than its line a process may seem to have started, where the clock was set a little.
const SLACK: Duration = Duration::from_secs(2);
/// For how many found connections sshd's log is read back at a time.
const MAX_READ_BACK: usize = 64;
/// How many generations below a connection's process are looked at: sshd's own, PAM's, the gate.
const GENERATIONS: usize = 4;
/// How many processes of one generation are looked at.
const MAX_BELOW: usize = 64;
/// How much of the ledger is read at a time when a batch is looked for.
const CHUNK: usize = 1 << 20;

/// What a process that sshd named is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// It has ended, or its pid is another's.
    Gone,
    /// The gate is being asked for it.
    AtTheGate,
    /// Nobody's shell or forward runs in it yet.
    Starting(ProcessId),
    /// It is in: PAM is done with it, so that the gate has been answered if it was ever asked.
    In(ProcessId),
}

impl Engine {
    /// Acts on one report of who follows sshd's log.
    pub(super) fn log_told(&mut self, report: LogReport, now: Now) {
        match report {
            LogReport::Statements(statements) => self.record_log(statements, now),
            LogReport::Login(login) => self.login_in_log(&login, 0, now),
            LogReport::LookAgain(login, looks) => self.login_in_log(&login, looks, now),
            LogReport::Behind(session, login) => self.attribute(&session, &login),
            LogReport::Knocks(knocks) => knocks.into_iter().for_each(|knock| self.knocks.take(knock)),
            LogReport::UsersSshd => self.users_sshd_logged(now),
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

    /// sshd says that it let somebody in.
    fn login_in_log(&mut self, login: &Login, looks: u32, now: Now) {
        let is_known = self.answered.knows(login.pid, login.time);
        let is_session = |session: &&Session| session.monitor.pid == login.pid && session.monitor.is_alive();
        let session = self.core.sessions.live().iter().find(is_session).map(|session| session.id.clone());
        if let Some(id) = &session {
            self.attribute(id, login);
        }
        if is_known || session.is_some() {
            return self.looked_at_login(login);
        }
        let is_new = now.wall.duration_since(login.time) < STARTS_WITHIN;
        let is_expected = self.answered.expects(login.pid, login.time) && looks < LOOKS_AT_THE_GATE;
        let monitor = match connection(login, self.uid_of_login(login)) {
            Connection::Gone => None,
            Connection::AtTheGate if looks < LOOKS_AT_THE_GATE => return self.look_at_login_again(login, looks),
            Connection::Starting(_) if looks < 1 || is_expected || (looks < LOOKS && is_new) => {
                return self.look_at_login_again(login, looks);
            }
            // The gate ends such a connection itself, in a moment.
            Connection::In(_) if looks < LOOKS_AFTER_REFUSAL && self.was_refused_unheard(login) => {
                return self.look_at_login_again(login, looks);
            }
            Connection::AtTheGate => processes::identity(login.pid),
            Connection::Starting(id) | Connection::In(id) => Some(id),
        };
        // A gate that got no answer in time has left a note of a login to an exempt account.
        self.record_emergency_notes(now);
        if !self.answered.knows(login.pid, login.time) {
            match monitor {
                None if self.was_refused_unheard(login) => self.refused_unheard(login, now),
                _ => self.past_gate(login, login.account.parse().ok(), monitor, now),
            }
        }
        self.looked_at_login(login);
    }

    /// Whoever follows the log need not tell of this login again.
    fn looked_at_login(&self, login: &Login) {
        if let Some(follower) = &self.follower {
            follower.looked_at(login.id);
        }
    }

    /// Has sshd's log read back for connections that were found by their processes alone: their lines may be older than
    /// what is followed.
    pub(super) fn read_back(&mut self, mut found: Vec<Session>, now: Now) {
        found.retain(|session| session.standing == Standing::Unattributed);
        if found.is_empty() {
            return;
        }
        let reports = self.reports.clone();
        self.begin_job(Kind::ReadBack, None, now, move || {
            for session in found.into_iter().take(MAX_READ_BACK) {
                if let Some(login) = attempts::read_back(session.monitor.pid, session.opened_at) {
                    // Nobody receives once the daemon stops; the session then stays unattributed.
                    let _ = reports.blocking_send(LogReport::Behind(session.id, Box::new(login)));
                }
            }
            Brought::Nothing
        });
    }

    /// A connection that was found by its process alone: sshd's log says with whose key it was opened.
    fn attribute(&mut self, id: &SessionId, login: &Login) {
        let unattributed = self.core.sessions.get(id).is_some_and(|session| session.standing == Standing::Unattributed);
        if let (true, Some(fingerprint)) = (unattributed, &login.fingerprint) {
            let standing = self.unbacked(fingerprint);
            self.core.sessions.change(id, |session| session.standing = standing);
        }
    }

    /// Somebody who came in with this key, on no grant.
    fn unbacked(&self, fingerprint: &Fingerprint) -> Standing {
        Standing::Unbacked {
            person: self.core.people.get(fingerprint).cloned(),
            fingerprint: Some(fingerprint.clone()),
        }
    }

    fn look_at_login_again(&self, login: &Login, looks: u32) {
        let (reports, login) = (self.reports.clone(), Box::new(login.clone()));
        tokio::spawn(async move {
            tokio::time::sleep(LOOK_AT_LOGIN_AGAIN).await;
            // Nobody receives once the daemon stops; the next start is told of the login again.
            let _ = reports.send(LogReport::LookAgain(login, looks + 1)).await;
        });
    }

    /// Somebody got in, and the gate was never asked: put on record, and in enforce ended.
    fn past_gate(&mut self, login: &Login, account: Option<Account>, monitor: Option<ProcessId>, now: Now) {
        let exempt = account.as_ref().is_some_and(|account| self.core.config.accounts.exempt.contains(account));
        let standing = match (exempt, &login.fingerprint) {
            (true, _) => Standing::Emergency,
            (false, Some(fingerprint)) => self.unbacked(fingerprint),
            (false, None) => Standing::Unattributed,
        };
        let mut draft = stated(login, account.as_ref(), &standing, monitor.is_some());
        if !self.gate_was_there(login.time, now) {
            draft = unanswered(draft, login, "while the daemon did not run, in observe");
        } else if !self.core.enforces() && self.is_unheard(login) {
            draft = unanswered(draft, login, "in observe, and the gate could not ask the daemon a second time");
        }
        let (Some(monitor), Some(account)) = (monitor, account) else {
            self.core.note_login(draft, now);
            return self.commit_login(login, now);
        };
        let source = login.source.clone().unwrap_or(Source { address: None, port: None });
        let id = self.core.new_session_id();
        let opened = Session::new(id.clone(), account, standing, source, login.time, monitor);
        let session = Session { uses: logins::uses(monitor), ..opened };
        draft.session = Some(id.clone());
        let over = self.core.judged_over(&session, now).filter(|_| self.core.enforces());
        let kept = self.core.keep_session(session);
        self.core.note_login(draft, now);
        if let (true, Some(over)) = (kept, over) {
            let reason = "it came in past the gate, which was never asked".to_owned();
            self.core.end_sessions(vec![(id, End { reason, ..over })]);
        }
        self.commit_login(login, now);
    }

    /// What was noted of it is known once it is on record: not before, so that a crash in between leaves a login that the
    /// next start is told of again, and looks for in the ledger.
    pub(super) fn commit_login(&mut self, login: &Login, now: Now) {
        self.core.covered.logins.push((login.pid, login.time));
        self.core.commit(now);
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

fn stated(login: &Login, account: Option<&Account>, standing: &Standing, lives: bool) -> Draft {
    let whom = account.map_or_else(|| record::escape(login.account.as_bytes()), ToString::to_string);
    let kind = match standing {
        Standing::Emergency => ArtifactType::EmergencyLogin,
        _ => ArtifactType::SessionOpened,
    };
    let sentence = match standing {
        Standing::Emergency => format!("login to the exempt account {whom}, past the gate"),
        _ => format!("somebody logged in to {whom} past the gate, which was never asked"),
    };
    let mut draft = Draft::new(kind, sentence)
        .with("methods", vec![login.method.clone()])
        .with("pid", login.pid)
        .with("past_gate", true)
        .with("began_at", login.time.to_string());
    if !lives {
        draft = draft.with("over", true);
    }
    if account.is_none() {
        draft = draft.with("given_account", login.account.as_str());
    }
    if let Standing::Unbacked { person, .. } = standing {
        draft.person.clone_from(person);
    }
    draft.account = account.cloned();
    draft.fingerprint.clone_from(&login.fingerprint);
    draft.source.clone_from(&login.source);
    draft
}

/// The same of a login that the gate let by in observe, since nobody answered it.
fn unanswered(mut draft: Draft, login: &Login, why: &str) -> Draft {
    let whom = draft.account.as_ref().map_or_else(|| record::escape(login.account.as_bytes()), ToString::to_string);
    draft.reason = format!("somebody logged in to {whom} {why}");
    draft.with("past_gate", false)
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
