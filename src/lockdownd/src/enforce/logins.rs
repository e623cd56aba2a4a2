//! Connections that the gate never told of: found by their processes, put into the table, and on record.
//!
//! They are older than the daemon or than enforce, or came past PAM (`UsePAM no`, another sshd). Whether one goes on is
//! decided as for every session, by the pass that follows.

use jiff::Timestamp;
use lockdown_core::{
    attempts::Login as LogLogin,
    machine::{Event, with_uses},
    policy::time::Now,
    sessions::{Session, Standing},
};
use lockdown_host::{
    clock, left_behind,
    logins::{self, Login},
};
use record::{Account, ArtifactType, Draft};

use super::Engine;

/// How long after it was opened a session is looked at, to see what it is used for: when a shell is surely there, and
/// when the first command of a script is.
const LOOKS: [std::time::Duration; 2] = [std::time::Duration::from_millis(300), std::time::Duration::from_secs(3)];

/// How often connections are looked for while some sshd may let people in without the gate's being asked: its log may
/// say nothing, or too late.
const WHILE_UNGATED: std::time::Duration = std::time::Duration::from_secs(1);
/// After so long from a connection's beginning the gate has asked, and has left its note where nobody answered: sshd's time for a
/// login is two minutes by default (`LoginGraceTime`), but what comes after the key takes seconds.
const GATE_LEAVES_NOTE: std::time::Duration = std::time::Duration::from_secs(30);
/// A look that took long is followed by a pause so many times as long: it holds up the main thread.
const SHARE: u32 = 20;

impl Engine {
    /// Whether there is an sshd that may let people in without the gate's being asked is known anew.
    pub(super) fn look_past_the_gate(&mut self, there_is_one: bool, now: Now) {
        let due = || self.ways.ungated.unwrap_or(now.boot + WHILE_UNGATED);
        self.ways.ungated = there_is_one.then(due);
    }

    /// Looks for connections that came past the gate, if that is due; in enforce they end.
    pub(super) fn find_ungated_if_due(&mut self, now: Now) {
        if self.ways.ungated.is_none_or(|due| now.boot < due) {
            return;
        }
        self.find_logins(now);
        self.core.end_unbacked_sessions(now);
        self.core.commit(now);
        let after = clock::now().boot;
        self.ways.ungated = Some(after + WHILE_UNGATED.max(after.saturating_sub(now.boot) * SHARE));
    }

    /// Puts every authenticated SSH connection that is not in the table into it, and on record.
    pub(crate) fn find_logins(&mut self, now: Now) {
        let found = match logins::find(self.world.uid_by_name(logins::PRIVSEP)) {
            Ok(found) => found,
            Err(error) => return tracing::error!(%error, "connections cannot be looked for"),
        };
        let mut taken_in = Vec::new();
        self.record_emergency_notes(now);
        for login in found {
            if self.core.sessions.nearest(&[login.monitor]).is_none() {
                taken_in.extend(self.take_in(login, now));
            }
        }
        // Known to the next run once it is on record, and not before: after a crash in between its line in sshd's log still
        // tells of it.
        for session in &taken_in {
            self.answered.note_found_unrecorded(session.monitor.pid, session.opened_at, now.wall);
        }
        let found = taken_in.iter().map(|session| (session.monitor.pid, session.opened_at, now.wall));
        self.core.covered.found.extend(found);
        self.core.commit(now);
        self.read_back(taken_in, now);
    }

    fn is_exempt(&self, account: &Account, uid: u32) -> bool {
        self.core.exempt().iter().any(|name| name == account || self.core.uid_of(name) == Some(uid))
    }

    /// Takes one into the table and notes it; gives it back where it is known from now on.
    fn take_in(&mut self, login: Login, now: Now) -> Option<Session> {
        let Some(account) = self.account_of(&login) else {
            tracing::error!(pid = login.monitor.pid, uid = login.uid, "a connection of no account was found");
            return None;
        };
        let age = now.boot.saturating_sub(login.monitor.began());
        let standing = if self.is_exempt(&account, login.uid) { Standing::Emergency } else { Standing::Unattributed };
        let opened_at = now.wall.checked_sub(age).unwrap_or(now.wall);
        let (id, monitor) = (self.core.new_session_id(), login.monitor);
        let opened = Session::new(id, account, standing, login.source, opened_at, monitor);
        let session = Session { uses: logins::uses(monitor), ..opened };
        let draft = self.found_login(&session, now);
        if !self.core.keep_session(session.clone()) {
            return None;
        }
        self.core.note_login(draft, now);
        Some(session)
    }

    /// The account that sshd's title names, if it has that user id; else the first that has.
    fn account_of(&self, login: &Login) -> Option<Account> {
        let titled = login.name.as_ref().and_then(|name| name.parse::<Account>().ok());
        let has_uid = |account: &Account| self.core.uid_of(account) == Some(login.uid);
        titled.clone().filter(has_uid).or_else(|| self.world.account_by_uid(login.uid)).or(titled)
    }

    fn found_login(&self, session: &Session, now: Now) -> Draft {
        let account = &session.account;
        // Of one to an exempt account the gate may still ask in vain; its note then says what the daemon has found already.
        let may_be_asking = session.standing == Standing::Emergency
            && now.boot.saturating_sub(session.monitor.began()) < GATE_LEAVES_NOTE;
        let past_gate = self.gate_was_there(session.opened_at, now) && !may_be_asking;
        let (kind, sentence) = match (&session.standing, past_gate) {
            (Standing::Emergency, _) => (
                ArtifactType::EmergencyLogin,
                format!("a connection to the exempt account {account} was found that the login gate has not told of"),
            ),
            (_, true) => (
                ArtifactType::SessionOpened,
                format!(
                    "a connection to {account} was found that came past the login gate; nobody is known to have opened it"
                ),
            ),
            (_, false) => (
                ArtifactType::SessionOpened,
                format!("a connection to {account} was found that began before it could be attributed to anybody"),
            ),
        };
        let mut draft = Draft::new(kind, sentence)
            .with("found", true)
            .with("past_gate", past_gate)
            .with("began_at", session.opened_at.to_string())
            .with("pid", session.monitor.pid);
        draft.account = Some(account.clone());
        draft.session = Some(session.id.clone());
        draft.source = Some(session.source.clone());
        with_uses(draft, session)
    }

    /// Whether the gate asked about a login in sshd's log in the account step, and no sshd lets anybody in without running it:
    /// where it did not ask a second time, it got no answer.
    pub(super) fn is_unheard(&self, login: &LogLogin) -> bool {
        self.ways.ungated.is_none() && self.answered.expects(login.pid, login.time)
    }

    /// Whether such a login was refused: without an answer the gate lets by exempt accounts alone.
    pub(super) fn was_refused_unheard(&self, login: &LogLogin) -> bool {
        let is_exempt = self.core.exempt().iter().any(|name| name.as_str() == login.account);
        self.core.enforces() && !is_exempt && self.is_unheard(login)
    }

    /// Puts one that was refused so on record, once it is over.
    pub(super) fn refused_unheard(&mut self, login: &LogLogin, now: Now) {
        let sentence = "login refused: the gate could not ask the daemon a second time";
        let mut draft = Draft::new(ArtifactType::SessionRefused, sentence)
            .with("why", "no_answer")
            .with("step", "session")
            .with("methods", vec![login.method.clone()])
            .with("pid", login.pid)
            .with("began_at", login.time.to_string());
        draft.person = login.fingerprint.as_ref().and_then(|fingerprint| self.core.people.get(fingerprint).cloned());
        draft.account = login.account.parse().ok();
        draft.fingerprint.clone_from(&login.fingerprint);
        draft.source.clone_from(&login.source);
        self.core.recorder.note_often(draft, 1, now);
        self.commit_login(login, now);
    }

    /// Whether a login of then came past the gate, where the gate was not asked: in observe it lets everybody by while the
    /// daemon does not answer, and leaves no word of it.
    pub(super) fn gate_was_there(&self, time: Timestamp, now: Now) -> bool {
        let in_force = self.core.mode.in_force_since().is_some_and(|since| {
            let ago = now.boot.saturating_sub(since);
            since.is_zero() || now.wall.checked_sub(ago).is_ok_and(|from| time >= from)
        });
        in_force || time >= self.started_at
    }

    /// Has a session looked at in a moment.
    pub(super) fn look_at_soon(&self, id: &record::SessionId) {
        for wait in LOOKS {
            let (reasons, id) = (self.reasons.clone(), id.clone());
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                // Nobody receives once the daemon stops; the next sweep looks at every session anyway.
                let _ = reasons.send(crate::trigger::Reason::LookAt(id)).await;
            });
        }
    }

    /// Looks what a session is used for, and warns terminals that are new to it.
    pub(super) fn look_at(&mut self, id: &record::SessionId, now: Now) {
        let Some(monitor) = self.core.sessions.get(id).filter(|session| session.ending.is_none()).map(|s| s.monitor)
        else {
            return;
        };
        self.core.sessions.note_uses(id, logins::uses(monitor));
        if let Some(traced) = self.traced(id) {
            self.step(traced, now);
        }
        self.core.warn(id, now);
    }

    /// The audit session of a granted connection.
    pub(super) fn traced(&self, id: &record::SessionId) -> Option<Event> {
        let session = self.core.sessions.get(id).filter(|session| session.grant().is_some())?;
        left_behind::own_audit_session(session.monitor).map(|audit| Event::Traced(id.clone(), audit))
    }
}
