//! Whoever got in past the gate, as sshd's log says: found, put on record and, in enforce, ended.
//!
//! The log only says where to look. A connection is ended by what the kernel says of its process: that it was there when
//! the line was written, that it is sshd's, and that nobody asked the gate about it. One that is still on its way through
//! PAM is waited for.

use std::time::Duration;

use jiff::SignedDuration;
use record::{Account, ArtifactType, Draft, Fingerprint, SessionId, Source};

use super::{Core, Effect};
use crate::{
    attempts::Login,
    policy::time::Now,
    process::ProcessId,
    sessions::{End, Session, Standing, Uses},
};

/// How long until a connection that may still be on its way through PAM is looked at again.
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long after sshd's line it counts as in, unless the gate is being asked; then it is waited for. Only root's login with
/// nothing running in it takes so long: the gate comes first in PAM, milliseconds after the line.
const STARTS_WITHIN: SignedDuration = SignedDuration::from_millis(700);
/// How often it is looked at meanwhile at most, whatever the clock is set to.
const LOOKS: u32 = 7;
/// How often it is looked at where the gate is being asked: longer than the gate waits for an answer.
const LOOKS_AT_THE_GATE: u32 = 200;
/// How often it is looked at where the gate must refuse it: longer than the gate waits for an answer, and then takes to end it.
const LOOKS_AFTER_REFUSAL: u32 = 150;

/// What a process that sshd named is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// It has ended, or its pid is another's.
    Gone,
    /// The gate is being asked for it.
    AtTheGate,
    /// Nobody's shell or forward runs in it yet.
    Starting(ProcessId),
    /// It is in: PAM is done with it, so that the gate has been answered if it was ever asked.
    In(ProcessId),
}

/// Somebody got in, as sshd says, and what is known of it.
#[derive(Debug)]
pub struct LoggedIn {
    /// What sshd says.
    pub login: Box<Login>,
    /// How often it was looked at before.
    pub looks: u32,
    /// Whether the gate has asked about it, or it is on record already.
    pub is_known: bool,
    /// Whether the gate asked in the account step, and its session step is to come.
    pub is_expected: bool,
    /// What the connection is now.
    pub connection: Connection,
    /// The process that has the pid now.
    pub process: Option<ProcessId>,
    /// What it is used for.
    pub uses: Uses,
}

impl Core {
    /// sshd says that it let somebody in.
    pub(super) fn logged_in(&mut self, seen: LoggedIn, now: Now) {
        let LoggedIn { login, looks, is_known, is_expected, connection, process, uses } = seen;
        let session = process.and_then(|process| self.sessions.live().iter().find(|live| live.monitor == process));
        let session = session.map(|session| session.id.clone());
        if let Some(id) = &session {
            self.attribute(id, &login);
        }
        let id = login.id;
        if is_known || session.is_some() {
            return self.push(Effect::LookedAtLogin(id));
        }
        let is_new = now.wall.duration_since(login.time) < STARTS_WITHIN;
        let is_unheard = is_expected && !self.ways.are_ungated();
        let was_refused = is_unheard && self.enforces() && !self.names_exempt(&login);
        let comes = is_expected && looks < LOOKS_AT_THE_GATE;
        let monitor = match connection {
            Connection::Gone => None,
            Connection::AtTheGate if looks < LOOKS_AT_THE_GATE => return self.look_at_login_again(login, looks),
            Connection::Starting(_) if looks < 1 || comes || (looks < LOOKS && is_new) => {
                return self.look_at_login_again(login, looks);
            }
            // The gate ends such a connection itself, in a moment.
            Connection::In(_) if looks < LOOKS_AFTER_REFUSAL && was_refused => {
                return self.look_at_login_again(login, looks);
            }
            Connection::AtTheGate => process,
            Connection::Starting(id) | Connection::In(id) => Some(id),
        };
        match monitor {
            None if was_refused => self.refused_unheard(&login, now),
            _ => self.past_gate(&login, is_unheard, monitor.map(|monitor| (monitor, uses)), now),
        }
        self.push(Effect::LookedAtLogin(id));
    }

    fn look_at_login_again(&mut self, login: Box<Login>, looks: u32) {
        self.push(Effect::LookAtLoginAgain(login, looks + 1));
    }

    fn names_exempt(&self, login: &Login) -> bool {
        self.exempt().iter().any(|name| name.as_str() == login.account)
    }

    /// A connection that was found by its process alone: sshd's log says with whose key it was opened.
    pub(super) fn attribute(&mut self, id: &SessionId, login: &Login) {
        let unattributed = self.sessions.get(id).is_some_and(|session| session.standing == Standing::Unattributed);
        if let (true, Some(fingerprint)) = (unattributed, &login.fingerprint) {
            let standing = self.unbacked(fingerprint);
            self.sessions.change(id, |session| session.standing = standing);
        }
    }

    /// Somebody who came in with this key, on no grant.
    fn unbacked(&self, fingerprint: &Fingerprint) -> Standing {
        Standing::Unbacked { person: self.owner(fingerprint).cloned(), fingerprint: Some(fingerprint.clone()) }
    }

    /// Somebody got in, and the gate was never asked: put on record, and in enforce ended.
    fn past_gate(&mut self, login: &Login, is_unheard: bool, lives: Option<(ProcessId, Uses)>, now: Now) {
        let account = login.account.parse::<Account>().ok();
        let standing = match (self.names_exempt(login), &login.fingerprint) {
            (true, _) => Standing::Emergency,
            (false, Some(fingerprint)) => self.unbacked(fingerprint),
            (false, None) => Standing::Unattributed,
        };
        let mut draft = stated(login, account.as_ref(), &standing, lives.is_some());
        if !self.gate_was_there(login.time, now) {
            draft = unanswered(draft, login, "while the daemon did not run, in observe");
        } else if !self.enforces() && is_unheard {
            draft = unanswered(draft, login, "in observe, and the gate could not ask the daemon a second time");
        }
        let (Some((monitor, uses)), Some(account)) = (lives, account) else {
            self.note_login(draft, now);
            return self.commit_login(login, now);
        };
        let source = login.source.clone().unwrap_or(Source { address: None, port: None });
        let id = self.new_session_id();
        let opened = Session::new(id.clone(), account, standing, source, login.time, monitor);
        let session = Session { uses, ..opened };
        draft.session = Some(id.clone());
        let over = self.judged_over(&session, now).filter(|_| self.enforces());
        let kept = self.keep_session(session);
        self.note_login(draft, now);
        if let (true, Some(over)) = (kept, over) {
            let reason = "it came in past the gate, which was never asked".to_owned();
            self.end_sessions(vec![(id, End { reason, ..over })]);
        }
        self.commit_login(login, now);
    }

    /// The gate could not ask a second time, and so refused: that is on record, once the connection is over.
    fn refused_unheard(&mut self, login: &Login, now: Now) {
        let sentence = "login refused: the gate could not ask the daemon a second time";
        let mut draft = Draft::new(ArtifactType::SessionRefused, sentence)
            .with("why", "no_answer")
            .with("step", "session")
            .with("methods", vec![login.method.clone()])
            .with("pid", login.pid)
            .with("began_at", login.time.to_string());
        draft.person = login.fingerprint.as_ref().and_then(|fingerprint| self.owner(fingerprint).cloned());
        draft.account = login.account.parse().ok();
        draft.fingerprint.clone_from(&login.fingerprint);
        draft.source.clone_from(&login.source);
        self.recorder.note_often(draft, 1, now);
        self.commit_login(login, now);
    }

    /// What was noted of it is known once it is on record: not before, so that a crash in between leaves a login that the
    /// next start is told of again, and looks for in the ledger.
    fn commit_login(&mut self, login: &Login, now: Now) {
        self.covered.logins.push((login.pid, login.time));
        self.commit(now);
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
