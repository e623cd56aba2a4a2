//! Live sessions: what each is bound to, and ending them.
//!
//! A session is one SSH connection, known by sshd's process for it (pid and start time). The table lives in
//! `/run/lockdownd/sessions.json`, so that connections survive a restart of the daemon and stay bound to their grants.
//! This room ends exactly the connection it is told to end, and never decides which: `policy` and the engine do.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use record::{Account, Actor, Fingerprint, GrantId, Person, SessionId, Source};
use serde::{Deserialize, Serialize};

pub use lockdown_core::policy::session::Standing;
use lockdown_host::{
    connection::Ended,
    logins::Uses,
    paths::{self, read_path},
    processes::ProcessId,
};

/// The most sessions that are kept in the table; a login past it is refused.
pub const MAX_SESSIONS: usize = 10_000;
/// The largest `sessions.json` that is read.
pub const MAX_FILE: u64 = 16 << 20;

/// One live SSH connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The account that was logged in to.
    pub account: Account,
    /// What it stands on.
    #[serde(flatten)]
    pub standing: Standing,
    /// Where it comes from.
    pub source: Source,
    /// When the gate let it in.
    pub opened_at: Timestamp,
    /// sshd's process for this connection.
    pub monitor: ProcessId,
    /// Whether its opening is on record. Where it must be, the gate was not answered before.
    pub recorded: bool,
    /// What it has been seen to be used for.
    #[serde(default)]
    pub uses: Uses,
    /// What its terminals have been told of its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warned: Option<Warned>,
    /// It is the operator's own who brought enforce into force: that alone does not end it.
    #[serde(default)]
    pub operators_own: bool,
    /// Why it is being ended, once it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ending: Option<End>,
}

/// Why a session is being ended, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The word for it.
    pub cause: Cause,
    /// The sentence.
    pub reason: String,
    /// Who ended it, where somebody did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<Actor>,
    /// What ending it did, once that was tried.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cut: Option<Cut>,
    /// How often it was tried.
    #[serde(default)]
    pub tries: u32,
}

impl End {
    /// An end that is still to be carried out.
    #[must_use]
    pub fn new(cause: Cause, reason: String, actor: Option<Actor>) -> Self {
        Self { cause, reason, actor, cut: None, tries: 0 }
    }

    /// One more try is over.
    pub fn tried(&mut self, outcome: Result<Ended, String>) {
        self.tries = self.tries.saturating_add(1);
        let before = self.cut.take();
        self.cut = Some(match (before, outcome) {
            (_, Err(error)) => Cut::Failed(error),
            // What ended most of it is what counts; later tries find what is left.
            (Some(Cut::Ended(first)), Ok(again)) => {
                let how = if first.killed > 0 { first.how } else { again.how };
                Cut::Ended(Ended { how, killed: first.killed.max(again.killed) })
            }
            (_, Ok(ended)) => Cut::Ended(ended),
        });
    }
}

/// What ending a connection did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// It was killed; when the connection is gone is told apart from that.
    Ended(Ended),
    /// It could not be killed whole, and why.
    Failed(String),
}

/// Why a session is ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its grant ended, or no longer backs it.
    Grant,
    /// A lockdown.
    Lockdown,
    /// It stands on no grant, and enforce is in force.
    NoGrant,
    /// An operator revoked this session, and not its grant.
    Revoked,
}

impl Cause {
    /// The word for the record.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Lockdown => "lockdown",
            Self::NoGrant => "no_grant",
            Self::Revoked => "revoked",
        }
    }
}

/// What terminals have been told of a session's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warned {
    /// Which end: another one is told anew.
    pub ends_at: Timestamp,
    /// Which terminals.
    pub terminals: Vec<u32>,
}

impl Session {
    /// The grant it stands on.
    #[must_use]
    pub fn grant(&self) -> Option<&GrantId> {
        match &self.standing {
            Standing::Granted { grant, .. } => Some(grant),
            _ => None,
        }
    }

    /// The person whose session it is, as far as known.
    #[must_use]
    pub fn person(&self) -> Option<&Person> {
        match &self.standing {
            Standing::Granted { person, .. } => Some(person),
            Standing::Unbacked { person, .. } => person.as_ref(),
            Standing::Emergency | Standing::Unattributed => None,
        }
    }

    /// The key that was verified, as far as known.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        match &self.standing {
            Standing::Granted { fingerprint, .. } => Some(fingerprint),
            Standing::Unbacked { fingerprint, .. } => fingerprint.as_ref(),
            Standing::Emergency | Standing::Unattributed => None,
        }
    }
}

/// The table of live sessions.
#[derive(Debug)]
pub struct Sessions {
    path: PathBuf,
    live: Vec<Session>,
    /// Those whose connection is gone and whose end is noted, but perhaps not on disk. They stay in the file until it is, so
    /// that the next start makes up for a crash in between.
    gone: Vec<Session>,
}

impl Sessions {
    /// Reads the table that the last run left. One that cannot be read is an empty one, with the error beside it:
    /// its connections are then unknown, and the caller says so.
    #[must_use]
    pub fn open(path: &Path) -> (Self, Option<io::Error>) {
        let mut sessions = Self { path: path.to_owned(), live: Vec::new(), gone: Vec::new() };
        match read_path(path, MAX_FILE).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
            Ok(live) => sessions.live = live,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return (sessions, Some(error)),
        }
        (sessions, None)
    }

    /// Every live session, oldest first.
    #[must_use]
    pub fn live(&self) -> &[Session] {
        &self.live
    }

    /// One session.
    #[must_use]
    pub fn get(&self, id: &SessionId) -> Option<&Session> {
        self.live.iter().find(|session| session.id == *id)
    }

    /// Whether the bound is reached.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.live.len() >= MAX_SESSIONS
    }

    /// The session whose connection comes first among these processes.
    #[must_use]
    pub fn nearest(&self, processes: &[ProcessId]) -> Option<&Session> {
        processes.iter().find_map(|id| self.live.iter().find(|session| session.monitor == *id))
    }

    /// Every session whose connection is among these processes, oldest first.
    #[must_use]
    pub fn all_of(&self, processes: &[ProcessId]) -> Vec<&Session> {
        self.live.iter().filter(|session| processes.contains(&session.monitor)).collect()
    }

    /// Adds a session.
    ///
    /// # Errors
    /// The table cannot be written; the session is then not in it.
    pub fn add(&mut self, session: Session) -> io::Result<()> {
        self.live.push(session);
        self.save().inspect_err(|_| {
            self.live.pop();
        })
    }

    /// A session's connection is gone: it stays in the file until [`Sessions::forget_gone`].
    pub fn gone(&mut self, id: &SessionId) -> Option<Session> {
        let index = self.live.iter().position(|session| session.id == *id)?;
        let gone = self.live.remove(index);
        if self.gone.len() >= MAX_SESSIONS {
            self.gone.remove(0);
        }
        self.gone.push(gone.clone());
        Some(gone)
    }

    /// Those whose connection is gone, and whose end is not known to be on disk.
    pub fn gone_ones(&self) -> impl Iterator<Item = &SessionId> {
        self.gone.iter().map(|session| &session.id)
    }

    /// The ends of these are on disk.
    pub fn forget_gone(&mut self, ids: &BTreeSet<SessionId>) {
        let before = self.gone.len();
        self.gone.retain(|session| !ids.contains(&session.id));
        if self.gone.len() != before {
            self.save_or_warn();
        }
    }

    /// Takes a session out that was not let in, or whose end is on record.
    pub fn remove(&mut self, id: &SessionId) -> Option<Session> {
        let index = self.live.iter().position(|session| session.id == *id)?;
        let gone = self.live.remove(index);
        self.save_or_warn();
        Some(gone)
    }

    /// After a crash: what the ledger has is on record, the rest of what is left of the run before is dropped. It was never
    /// let in, or is found again.
    pub fn settle_unrecorded(
        &mut self,
        is_left: impl Fn(&SessionId) -> bool,
        is_on_record: impl Fn(&SessionId) -> bool,
    ) {
        self.live.iter_mut().for_each(|session| session.recorded |= is_on_record(&session.id));
        self.live.retain(|session| session.recorded || !is_left(&session.id));
        self.save_or_warn();
    }

    /// Those whose opening is not known to be on disk.
    pub fn unrecorded(&self) -> impl Iterator<Item = &SessionId> {
        self.live.iter().filter(|session| !session.recorded).map(|session| &session.id)
    }

    /// The openings of these are on record.
    pub fn mark_recorded(&mut self, ids: &BTreeSet<SessionId>) {
        let mut changed = false;
        for session in self.live.iter_mut().filter(|session| !session.recorded && ids.contains(&session.id)) {
            session.recorded = true;
            changed = true;
        }
        if changed {
            self.save_or_warn();
        }
    }

    /// Changes a session in the table.
    pub fn change(&mut self, id: &SessionId, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.live.iter_mut().find(|session| session.id == *id) {
            change(session);
            self.save_or_warn();
        }
    }

    /// Changes many sessions in the table, which is written once.
    pub fn change_all(&mut self, mut change: impl FnMut(&mut Session)) {
        self.live.iter_mut().for_each(&mut change);
        self.save_or_warn();
    }

    /// Notes what a session is used for; what was known already is not written again.
    pub fn note_uses(&mut self, id: &SessionId, uses: Uses) {
        let session = self.live.iter_mut().find(|session| session.id == *id);
        if session.is_some_and(|session| session.uses.add(uses)) {
            self.save_or_warn();
        }
    }

    /// Writes the table again if somebody removed it: the next start goes by it.
    pub(crate) fn keep_file(&self) {
        if !self.path.exists() {
            self.save_or_warn();
        }
    }

    fn save(&self) -> io::Result<()> {
        let all: Vec<&Session> = self.live.iter().chain(&self.gone).collect();
        let bytes = serde_json::to_vec(&all).expect("sessions have string keys only");
        paths::replace_path(&self.path, &bytes, 0o600, paths::Durability::Volatile).map_err(io::Error::other)
    }

    /// A table that is behind names a connection that is gone: harmless, since its process is checked at the next start.
    fn save_or_warn(&self) {
        if let Err(error) = self.save() {
            tracing::warn!(path = %self.path.display(), %error, "the table of live sessions could not be written");
        }
    }
}
