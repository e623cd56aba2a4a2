//! Connections that the gate never told of: found by their processes, put into the table, and on record.
//!
//! They are older than the daemon or than enforce, or came past PAM (`UsePAM no`, another sshd). Whether one goes on is
//! decided as for every session, by what follows the look.

use std::time::Duration;

use jiff::Timestamp;
use record::{Account, ArtifactType, Draft, SessionId, Source};

use super::{
    Asker, Core, Effect, Severity, Token,
    documents::LockedDown,
    jobs::{Job, Kind},
    notes::NoteRead,
    with_uses,
};
use crate::{
    policy::time::Now,
    process::ProcessId,
    sessions::{Session, Standing, Uses},
};

/// After so long from a connection's beginning the gate has asked, and has left its note where nobody answered: sshd's time for a
/// login is two minutes by default (`LoginGraceTime`), but what comes after the key takes seconds.
const GATE_LEAVES_NOTE: Duration = Duration::from_secs(30);
/// A connection that is no older is left to sshd's log, where that is looked for again in a moment: its line says whose it is.
const LEFT_TO_LOG: Duration = Duration::from_millis(500);
/// For how many found connections sshd's log is read back at a time.
const MAX_READ_BACK: usize = 64;

/// A connection that is past authentication.
#[derive(Debug, Clone)]
pub struct Found {
    /// sshd's privileged process for it.
    pub monitor: ProcessId,
    /// The account's user id.
    pub uid: u32,
    /// The account: by sshd's title if it has that user id, else the first that has.
    pub account: Option<Account>,
    /// The other end.
    pub source: Source,
    /// What it is used for.
    pub uses: Uses,
}

/// What a look for connections has found.
#[derive(Debug, Default)]
pub struct LoginsFound {
    /// The connections; those in the table may be left out.
    pub logins: Vec<Found>,
    /// The notes that the gate had left after that.
    pub notes: Vec<NoteRead>,
    /// How long it took.
    pub took: Duration,
}

/// One that was found, and whose opening sshd's log may tell.
#[derive(Debug, Clone)]
pub struct OpenedBefore {
    /// Its session.
    pub session: SessionId,
    /// sshd's process for it.
    pub pid: i32,
    /// When it began.
    pub began: Timestamp,
}

/// What follows once every connection is in the table.
#[derive(Debug)]
pub(super) enum Then {
    /// Nothing.
    Rest,
    /// Enforce is entered.
    Enter,
    /// A sweep goes on.
    GoOnSweeping,
    /// Those that came past the gate end.
    EndUngated,
    /// An operator's lockdown.
    LockDown { token: Token, asked: control::Lockdown, asker: Asker },
    /// The scheduled lockdown.
    MeetLockdown,
    /// A lockdown by a document, whose grants have ended.
    LockedDown(Box<LockedDown>),
}

impl Core {
    /// Has every authenticated SSH connection that is not in the table put into it, and on record; then the other follows.
    pub(super) fn find_logins(&mut self, then: Then) {
        self.after_logins.push_back(then);
        self.push(Effect::FindLogins);
    }

    /// They were looked for.
    pub(super) fn logins_found(&mut self, found: LoginsFound, now: Now) {
        let LoginsFound { mut logins, notes, took } = found;
        self.notes_read(notes, now);
        let then = self.after_logins.pop_front();
        let all = logins.len();
        if matches!(then, Some(Then::EndUngated)) {
            logins.retain(|login| now.boot.saturating_sub(login.monitor.began()) > LEFT_TO_LOG);
        }
        let left_to_log = logins.len() < all;
        let mut taken_in = Vec::new();
        for login in logins {
            if self.sessions.nearest(&[login.monitor]).is_none() {
                taken_in.extend(self.take_in(login, now));
            }
        }
        // Known to the next run once it is on record, and not before: after a crash in between its line in sshd's log still
        // tells of it.
        for session in &taken_in {
            let (pid, began) = (session.monitor.pid, session.opened_at);
            self.push(Effect::KnowFound { pid, began, found: now.wall });
            self.covered.found.push((pid, began, now.wall));
        }
        self.commit(now);
        self.read_back(&taken_in, now);
        match then {
            None | Some(Then::Rest) => {}
            Some(Then::Enter) => self.enter_knowing_logins(now),
            Some(Then::GoOnSweeping) => self.sweep_further(now),
            Some(Then::EndUngated) => self.end_ungated(took, left_to_log, now),
            Some(Then::LockDown { token, asked, asker }) => self.lockdown_asked(token, asked, asker, now),
            Some(Then::LockedDown(locked_down)) => self.lock_down_rest(*locked_down, now),
            Some(Then::MeetLockdown) => self.meet_lockdown_knowing_logins(now),
        }
    }

    /// Takes one into the table and notes it; gives it back where it is known from now on.
    fn take_in(&mut self, login: Found, now: Now) -> Option<Session> {
        let Found { monitor, uid, account, source, uses } = login;
        let Some(account) = account else {
            let what = format!("a connection of no account was found: process {}, user id {uid}", monitor.pid);
            self.say(Severity::Err, what);
            return None;
        };
        let age = now.boot.saturating_sub(monitor.began());
        let standing = if self.has_exempt(&account, uid) { Standing::Emergency } else { Standing::Unattributed };
        let opened_at = now.wall.checked_sub(age).unwrap_or(now.wall);
        let opened = Session::new(self.new_session_id(), account, standing, source, opened_at, monitor);
        let session = Session { uses, ..opened };
        let draft = self.found_login(&session, now);
        if !self.keep_session(session.clone()) {
            return None;
        }
        self.note_login(draft, now);
        Some(session)
    }

    /// Whether an exempt account has this name or user id.
    pub(super) fn has_exempt(&self, account: &Account, uid: u32) -> bool {
        self.exempt().iter().any(|name| name == account || self.uid_of(name) == Some(uid))
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

    /// Has sshd's log read back for connections that were found by their processes alone: their lines may be older than
    /// what is followed.
    fn read_back(&mut self, found: &[Session], now: Now) {
        let unattributed = found.iter().filter(|session| session.standing == Standing::Unattributed);
        let opened = unattributed.take(MAX_READ_BACK).map(|session| OpenedBefore {
            session: session.id.clone(),
            pid: session.monitor.pid,
            began: session.opened_at,
        });
        let opened: Vec<_> = opened.collect();
        if !opened.is_empty() {
            self.start_job(Kind::ReadBack, Job::ReadBack(opened), now);
        }
    }

    /// Whether a login of then came past the gate, where the gate was not asked: in observe it lets everybody by while the
    /// daemon does not answer, and leaves no word of it.
    pub(super) fn gate_was_there(&self, time: Timestamp, now: Now) -> bool {
        let in_force = self.mode.in_force_since().is_some_and(|since| {
            let ago = now.boot.saturating_sub(since);
            since.is_zero() || now.wall.checked_sub(ago).is_ok_and(|from| time >= from)
        });
        in_force || time >= self.started_at
    }

    /// Sessions were looked at: those whose connection is gone are over, and terminals that are new to the others are warned.
    pub(super) fn sessions_seen(&mut self, seen: SessionsSeen, now: Now) {
        for id in &seen.gone {
            self.session_gone(id, now);
        }
        for (id, uses, audit) in seen.live {
            self.sessions.note_uses(&id, uses);
            if let Some(audit) = audit {
                self.traced(&id, audit);
            }
            self.warn(&id, now);
        }
    }
}

/// What was seen of sessions.
#[derive(Debug, Default)]
pub struct SessionsSeen {
    /// Those whose connection is gone.
    pub gone: Vec<SessionId>,
    /// The others, each with what it is used for, and the audit session of a granted one.
    pub live: Vec<(SessionId, Uses, Option<u32>)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        machine::{Around, Event, Moment},
        policy::test_grants::now,
        sessions::Sessions,
    };

    #[test]
    fn a_connection_that_has_just_begun_is_left_to_the_log_where_it_is_looked_for_again_soon_and_nowhere_else() {
        let text = "mode = \"enforce\"\n[accounts]\nexempt = [\"breakglass\"]\n";
        let config = Config::parse(&[("config.toml", text)]).expect("good");
        let moment = Moment { now: now(), random: 1 };
        let mut core = Core::new(config, Around::default(), "boot".to_owned(), Sessions::default(), moment);
        let mut found = |then: Then, pid: i32, age: Duration| {
            let ticks = u64::try_from((now().boot - age).as_millis() / 10).expect("small");
            let login = Found {
                monitor: ProcessId { pid, start_time: ticks },
                uid: 1_000,
                account: Some("ubuntu".parse().expect("a name")),
                source: Source { address: None, port: None },
                uses: Uses::default(),
            };
            core.find_logins(then);
            let found = LoginsFound { logins: vec![login], ..LoginsFound::default() };
            core.step(Event::LoginsFound(found), moment);
            core.sessions.live().iter().any(|session| session.monitor.pid == pid)
        };
        assert!(!found(Then::EndUngated, 1, Duration::from_millis(100)), "its line is on its way");
        assert!(found(Then::EndUngated, 2, Duration::from_millis(900)));
        assert!(found(Then::GoOnSweeping, 3, Duration::from_millis(100)) && found(Then::Rest, 4, Duration::ZERO));
    }
}
