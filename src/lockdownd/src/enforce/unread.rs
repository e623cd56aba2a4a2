//! A start on a disk that is missing, read-only or does not answer: what is known without it is in `/run`.
//!
//! What is over ends, break-glass works, and nothing new is given. What happens waits for the disk as it does where the disk
//! stops answering later. Once the state could be read, it is taken up as by a start.

use std::{collections::BTreeSet, fs, io, path::Path};

use control::{Refusal, RefusalCode};
use lockdown_core::policy::{grant::EndCause, time::Now};
use lockdown_host::{
    paths::{self, Durability},
    sshd::drop_in,
};
use record::{GrantId, SessionId};

use super::{Ending, Engine, StartError};
use crate::{
    answered::ANSWERED_UNREAD,
    disk::{ENDED, Left, Store, copied_grants},
    grants::GrantsOnDisk,
    sessions::{Session, Sessions},
};

/// That a lockdown ended every grant while the state was not read.
const LOCKED_DOWN: &str = "/run/lockdownd/locked-down";
/// The most that is read of it, in bytes.
const MAX_LOCKED_DOWN: u64 = 64 * 1024;

/// What is not known before the state is read.
#[derive(Debug)]
pub(crate) struct Unread {
    /// Whether the grants are known from their copy.
    knows_grants: bool,
    /// Those of them that had ended at the start.
    ended: BTreeSet<GrantId>,
    /// The sessions of the run before.
    sessions: BTreeSet<SessionId>,
    /// Those whose connection was gone at the start.
    gone: Vec<Session>,
    /// A lockdown since ends every grant, those that are not known too.
    locked_down: Option<Ending>,
}

/// The lockdown of a run that has not read its state.
fn lockdown_left() -> Option<Ending> {
    let bytes = match paths::read_path(Path::new(LOCKED_DOWN), MAX_LOCKED_DOWN) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        read => read.unwrap_or_default(),
    };
    // Whatever stands there, every grant ends.
    let (reason, actor) = serde_json::from_slice(&bytes).unwrap_or_else(|_| ("a lockdown".to_owned(), None));
    Some(Ending { cause: EndCause::Lockdown, reason, actor })
}

impl Unread {
    /// What is known at a start without the disk, with the grants as far as they are.
    pub(super) fn begin(boot_id: &str, sessions: &Sessions, now: Now) -> (GrantsOnDisk, Self) {
        let copy = copied_grants(boot_id, now);
        let knows_grants = copy.is_some();
        let grants = copy.unwrap_or_else(|| GrantsOnDisk::none(Path::new(ENDED), boot_id));
        let ended = grants.all().iter().filter(|grant| grant.end.is_some()).map(|grant| grant.id.clone()).collect();
        let sessions = sessions.live().iter().map(|session| session.id.clone()).collect();
        (grants, Self { knows_grants, ended, sessions, gone: Vec::new(), locked_down: lockdown_left() })
    }

    /// Whether this grant had ended before the start.
    pub(super) fn had_ended(&self, id: &GrantId) -> bool {
        !self.knows_grants || self.ended.contains(id)
    }

    /// Whether this session was opened before the start.
    pub(super) fn had_session(&self, id: &SessionId) -> bool {
        self.sessions.contains(id)
    }

    /// Whether the schedule of the last run is taken up, or a lockdown since the start makes up for what fell due before.
    pub(super) fn has_schedule(&self) -> bool {
        self.knows_grants || self.locked_down.is_some()
    }

    /// The sessions whose connection was gone at the start.
    pub(super) fn gone(&self) -> &[Session] {
        &self.gone
    }
}

impl Engine {
    /// Begins without the state: ends what is over by what is known.
    pub(super) fn begin_unread(&mut self, now: Now) {
        tracing::error!(
            "the state in /var/lib/lockdownd is not read yet: until it is, nobody new is let in and nothing is granted; removals and endings go on, and are recorded then: {}",
            self.recorder.failing().unwrap_or("the disk does not answer")
        );
        if let Err(error) = self.answered.take_up(&[Path::new(ANSWERED_UNREAD)]) {
            tracing::error!(%error, "{ANSWERED_UNREAD} cannot be read: logins just before the start may be recorded as past the gate");
        }
        // The marker of enforce is on that disk; sshd's drop-in is there as long as enforce is in force.
        self.mode.resume_unread(Path::new(drop_in::PATH).exists(), now);
        let knows_grants = self.unread.as_ref().is_some_and(|unread| unread.knows_grants);
        let missed = if knows_grants { self.resume_schedule(None, None, now) } else { None };
        self.put_config_in_force(now);
        let gone = self.watch_sessions(now);
        if let Some(unread) = &mut self.unread {
            unread.gone = gone;
        }
        if let Some((grants, due)) = missed {
            self.scheduled_lockdown(grants, due, now);
        }
        self.find_logins(now);
        self.pass(now);
        self.look_and_sweep(now);
    }

    /// The state has been read.
    ///
    /// # Errors
    /// What the daemon cannot do without is missing.
    pub(super) fn state_read(&mut self, left: Left, now: Now) -> Result<(), StartError> {
        tracing::warn!("the state in /var/lib/lockdownd is read, and taken up");
        let Left { grants, found } = left;
        let known = std::mem::replace(&mut self.grants, grants);
        let Some(unread) = &self.unread else { return Ok(()) };
        for grant in known.all().iter().filter(|grant| !unread.ended.contains(&grant.id)) {
            if let Some(end) = &grant.end {
                self.grants.end_as(&grant.id, end.clone());
            }
        }
        self.grants_unsaved = true;
        self.take_up(found, now)
    }

    /// Takes note that a lockdown ends the grants too that are not known yet: until the state is read, over restarts.
    pub(super) fn note_unread_lockdown(&mut self, ending: &Ending) {
        let Some(unread) = self.unread.as_mut().filter(|_| ending.cause == EndCause::Lockdown) else { return };
        let text = serde_json::to_vec(&(&ending.reason, &ending.actor)).expect("it has string keys only");
        if let Err(error) = paths::replace_path(Path::new(LOCKED_DOWN), &text, 0o600, Durability::Volatile) {
            tracing::error!(%error, "if the daemon stops before the disk can be read, the lockdown ends only the grants that are known now");
        }
        unread.locked_down = Some(ending.clone());
    }

    /// A lockdown while the state was not read ends every grant that is read.
    pub(super) fn end_what_was_locked_down(&mut self, unread: Option<&Unread>, now: Now) {
        let Some(ending) = unread.and_then(|unread| unread.locked_down.clone()).or_else(lockdown_left) else { return };
        let open = self.open_grants();
        self.end_grants(&open, &ending, now);
        self.commit(now);
        // It is queued behind what ends them.
        let remove = |_: &mut Store| {
            if let Err(error) = fs::remove_file(LOCKED_DOWN) {
                tracing::warn!(%error, "{LOCKED_DOWN} cannot be removed: the next start ends every grant again");
            }
            None
        };
        self.recorder.work("removing the note of a lockdown", Box::new(remove), now);
    }

    /// Why nothing can be granted now, where the state is not read.
    ///
    /// # Errors
    /// The refusal of a request that gives access.
    pub(crate) fn state_is_read(&self) -> Result<(), Refusal> {
        match self.unread {
            None => Ok(()),
            Some(_) => Err(Refusal::new(
                RefusalCode::LedgerUnavailable,
                format!("nothing was granted or changed: {}", self.not_read()),
            )
            .hint("see what keeps the disk that holds /var/lib/lockdownd, then ask again; lockdownctl status says when it is read")),
        }
    }

    /// The same for a request that names grants, where those are not known.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn grants_are_known(&self) -> Result<(), Refusal> {
        match &self.unread {
            Some(unread) if !unread.knows_grants => Err(Refusal::new(
                RefusalCode::LedgerUnavailable,
                format!("which grants there are is not known: {}", self.not_read()),
            )
            .hint("lockdownctl lockdown ends every one of them")),
            _ => Ok(()),
        }
    }

    /// The refusal of a request for records.
    pub(crate) fn records_not_read(&self) -> Refusal {
        Refusal::new(RefusalCode::LedgerUnavailable, format!("the records cannot be read: {}", self.not_read()))
            .hint("what happens meanwhile is recorded once it can be")
    }

    /// What an operator has to know of a lockdown while which grants there are is not known.
    pub(crate) fn unread_note(&self) -> Option<String> {
        self.unread.as_ref().filter(|unread| !unread.knows_grants)?;
        Some(format!(
            "which grants there are is not known yet: each ends once it is read; a reboot before that undoes it, so lock down again then: {}",
            self.not_read()
        ))
    }

    /// What `status` says while the state is not read.
    pub(crate) fn state_not_read(&self) -> Option<String> {
        self.is_unread().then(|| {
            format!(
                "{}: nobody new is let in, no key file is looked at, and what ends is recorded later",
                self.not_read()
            )
        })
    }

    /// Whether the state has not been read since the start.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.is_some()
    }

    fn not_read(&self) -> String {
        let why = self.recorder.failing().unwrap_or("the disk does not answer");
        format!("the state in /var/lib/lockdownd is not read since the daemon started: {why}")
    }
}
