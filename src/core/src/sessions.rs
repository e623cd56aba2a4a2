//! Live sessions: what each stands on, and how far the end of each is.
//!
//! A session is one SSH connection, known by sshd's process for it (pid and start time). The table outlives a restart of the
//! daemon, so that connections stay bound to their grants; it never decides which session ends.

use std::collections::BTreeSet;

use jiff::Timestamp;
use record::{Account, Actor, Fingerprint, GrantId, Person, SessionId, Source};
use serde::{Deserialize, Serialize};

pub use crate::policy::session::Standing;
use crate::process::ProcessId;

/// The most sessions that are kept in the table; a login past it is refused.
pub const MAX_SESSIONS: usize = 10_000;
/// The most terminals that are looked for in one connection: sshd allows ten sessions (`MaxSessions`), a person more.
pub const MAX_TERMINALS: usize = 64;

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
    /// A session that has just been found out: not on record, not ending, and not known to be used for anything.
    #[must_use]
    pub fn new(
        id: SessionId,
        account: Account,
        standing: Standing,
        source: Source,
        opened_at: Timestamp,
        monitor: ProcessId,
    ) -> Self {
        Self {
            id,
            account,
            standing,
            source,
            opened_at,
            monitor,
            recorded: false,
            uses: Uses::default(),
            warned: None,
            operators_own: false,
            ending: None,
        }
    }

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

/// By which means a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The monitor had ended before; nothing was done.
    AlreadyGone,
    /// With its session's scope, which the kernel killed in one go (`cgroup.kill`, Linux 5.14), or which was empty once
    /// the process tree had ended.
    Scope,
    /// Each process in its session's scope was killed, until there were none.
    ScopeMembers,
    /// Without a scope of its own: each process below the monitor or in its audit session was killed.
    Tree,
}

impl How {
    /// One fixed word for the record.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AlreadyGone => "already_gone",
            Self::Scope => "scope",
            Self::ScopeMembers => "scope_members",
            Self::Tree => "tree",
        }
    }
}

/// What ending a connection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Ended {
    /// By which means.
    pub how: How,
    /// How many processes were there to be killed, the monitor included.
    pub killed: usize,
}

/// What a connection has been seen to be used for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uses {
    /// Numbers of the terminals it was given, `/dev/pts/N`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub terminals: Vec<u32>,
    /// It ran sshd's file transfer.
    #[serde(default)]
    pub sftp: bool,
    /// It ran something without a terminal.
    #[serde(default)]
    pub command: bool,
    /// It listened for, or carried, somebody's TCP connection.
    #[serde(default)]
    pub forward: bool,
}

impl Uses {
    /// The words for the record; none where nothing was seen (nothing was asked for yet, or over before anybody looked).
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        let terminal = !self.terminals.is_empty();
        let all = [(terminal, "terminal"), (self.sftp, "sftp"), (self.command, "command"), (self.forward, "forward")];
        all.into_iter().filter(|(seen, _)| *seen).map(|(_, word)| word).collect()
    }

    /// The terminals' names, as who(1) has them.
    #[must_use]
    pub fn terminal_names(&self) -> Vec<String> {
        self.terminals.iter().map(|number| format!("pts/{number}")).collect()
    }

    /// Adds what was seen later; whether that is anything new.
    pub fn add(&mut self, later: Self) -> bool {
        let before = self.clone();
        self.terminals.extend(later.terminals);
        self.terminals.sort_unstable();
        self.terminals.dedup();
        self.terminals.truncate(MAX_TERMINALS);
        self.sftp |= later.sftp;
        self.command |= later.command;
        self.forward |= later.forward;
        *self != before
    }
}

/// The table of live sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    live: Vec<Session>,
    /// Those whose connection is gone and whose end is noted, but perhaps not on disk. They are kept until it is, so that the
    /// next start makes up for a crash in between.
    gone: Vec<Session>,
    changed: bool,
}

impl Sessions {
    /// The table that the last run left.
    #[must_use]
    pub fn left(live: Vec<Session>) -> Self {
        Self { live, ..Self::default() }
    }

    /// What is to be kept for the next start, as JSON, if that has changed since it was last asked.
    pub fn take_changed(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.changed).then(|| self.to_keep())
    }

    /// What is to be kept for the next start, as JSON.
    #[must_use]
    pub fn to_keep(&self) -> Vec<u8> {
        let all: Vec<&Session> = self.live.iter().chain(&self.gone).collect();
        serde_json::to_vec(&all).expect("sessions have string keys only")
    }

    /// It could not be kept, or somebody removed it: it is to be kept anew.
    pub fn keep_anew(&mut self) {
        self.changed = true;
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
    pub fn add(&mut self, session: Session) {
        self.live.push(session);
        self.changed = true;
    }

    /// A session's connection is gone: it is kept until [`Sessions::forget_gone`].
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
        self.changed |= self.gone.len() != before;
    }

    /// Takes a session out that was not let in, or whose end is on record.
    pub fn remove(&mut self, id: &SessionId) -> Option<Session> {
        let index = self.live.iter().position(|session| session.id == *id)?;
        let gone = self.live.remove(index);
        self.changed = true;
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
        self.changed = true;
    }

    /// Those whose opening is not known to be on disk.
    pub fn unrecorded(&self) -> impl Iterator<Item = &SessionId> {
        self.live.iter().filter(|session| !session.recorded).map(|session| &session.id)
    }

    /// The openings of these are on record.
    pub fn mark_recorded(&mut self, ids: &BTreeSet<SessionId>) {
        for session in self.live.iter_mut().filter(|session| !session.recorded && ids.contains(&session.id)) {
            session.recorded = true;
            self.changed = true;
        }
    }

    /// Changes a session in the table.
    pub fn change(&mut self, id: &SessionId, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.live.iter_mut().find(|session| session.id == *id) {
            change(session);
            self.changed = true;
        }
    }

    /// Changes many sessions in the table, which is written once.
    pub fn change_all(&mut self, mut change: impl FnMut(&mut Session)) {
        self.live.iter_mut().for_each(&mut change);
        self.changed = true;
    }

    /// Notes what a session is used for; what was known already is not written again.
    pub fn note_uses(&mut self, id: &SessionId, uses: Uses) {
        let session = self.live.iter_mut().find(|session| session.id == *id);
        self.changed |= session.is_some_and(|session| session.uses.add(uses));
    }
}
