//! Taking up what the last run left, so that a crash at any moment leaves no grant living past its end and none lost; and a
//! start without it: what is over ends, and nothing new is given.

use std::collections::BTreeSet;

use control::{Refusal, RefusalCode};
use jiff::Timestamp;
use record::{Actor, GrantId, SessionId};

use super::{Core, Effect, Ended, Ending, Severity, documents::DocumentsOnRecord, ending::session_end};
use crate::{
    grants::Grants,
    policy::{
        grant::{End, EndCause, Grant},
        time::Now,
    },
    process::ProcessId,
    sessions::Session,
};

/// What the last records say, for a daemon that starts over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnRecord {
    /// Grants that were created.
    pub created: BTreeSet<GrantId>,
    /// Grants that ended.
    pub ended: BTreeSet<GrantId>,
    /// Sessions that were opened.
    pub opened: BTreeSet<SessionId>,
    /// Sessions that are over.
    pub closed: BTreeSet<SessionId>,
    /// When the last scheduled lockdown was due.
    pub lockdown: Option<Timestamp>,
    /// Of signed documents.
    pub documents: DocumentsOnRecord,
}

/// What is not known before the state is read.
#[derive(Debug, Default)]
pub struct Unread {
    /// Whether the grants are known from their copy.
    knows_grants: bool,
    /// Those of them that had ended at the start.
    ended: BTreeSet<GrantId>,
    /// The sessions of the run before.
    sessions: BTreeSet<SessionId>,
    /// A lockdown since ends every grant, those that are not known too.
    locked_down: Option<Ending>,
}

impl Unread {
    /// Whether the schedule of the last run is taken up, or a lockdown since the start makes up for what fell due before.
    #[must_use]
    pub fn has_schedule(&self) -> bool {
        self.knows_grants || self.locked_down.is_some()
    }

    /// Whether the grants are known.
    #[must_use]
    pub fn knows_grants(&self) -> bool {
        self.knows_grants
    }
}

impl Core {
    /// Begins without the state, with the grants as far as they are known from their copy, and the lockdown that a run before
    /// noted in memory.
    pub fn begin_unread(&mut self, copy: Option<Grants>, locked_down: Option<(String, Option<Actor>)>) {
        let knows_grants = copy.is_some();
        self.grants = copy.unwrap_or_default();
        let ended = self.grants.all().iter().filter(|grant| grant.end.is_some()).map(|grant| grant.id.clone());
        self.unread = Some(Unread {
            knows_grants,
            ended: ended.collect(),
            sessions: self.sessions.live().iter().map(|session| session.id.clone()).collect(),
            locked_down: locked_down.map(as_ending),
        });
    }

    /// The grants were read: what has ended since the start stays ended, whatever stands there.
    pub fn take_up_grants(&mut self, read: Grants) {
        let known = std::mem::replace(&mut self.grants, read);
        if let Some(unread) = &self.unread {
            for grant in known.all().iter().filter(|grant| !unread.ended.contains(&grant.id)) {
                if let Some(end) = &grant.end {
                    self.grants.end_as(&grant.id, end.clone());
                }
            }
        }
        self.grants_unsaved = true;
    }

    /// Takes note that a lockdown ends the grants too that are not known yet: until the state is read, over restarts.
    pub(super) fn note_unread_lockdown(&mut self, ending: &Ending) {
        let Some(unread) = self.unread.as_mut().filter(|_| ending.cause == EndCause::Lockdown) else { return };
        unread.locked_down = Some(ending.clone());
        self.push(Effect::NoteLockdown(ending.reason.clone(), ending.actor.clone()));
    }

    /// The state has been read: what is left from before is brought in line with the last records. A grant that is not on
    /// record was never given; an end that is not on record is recorded now, and one that is on record, but could not be
    /// saved, stands. Answers with what was not known until now.
    pub fn reconcile(&mut self, on_record: &OnRecord, now: Now) -> Option<Unread> {
        let unread = self.unread.take();
        let unrecorded: Vec<_> = self.grants.all().iter().filter(|g| !g.recorded).map(|g| g.id.clone()).collect();
        for id in unrecorded {
            if on_record.created.contains(&id) {
                self.grants.mark_created_recorded(&id);
            } else {
                let what =
                    format!("the grant {id}, which was not on record before a crash, is dropped: it never took effect");
                self.say(Severity::Warning, what);
                let document = self.grants.get(&id).and_then(|grant| grant.origin.document()).map(|from| from.document);
                document.into_iter().for_each(|document| self.document_never_given(document));
                self.grants.take_back(&id);
            }
        }
        let has_ended = |grant: &&Grant| on_record.ended.contains(&grant.id);
        let over: Vec<_> = self.grants.open_ones().filter(has_ended).map(|grant| grant.id.clone()).collect();
        for id in over {
            let what = format!("the grant {id}, whose end is on record, had not been saved as ended; it stays ended");
            self.say(Severity::Warning, what);
            // The cause that brings nothing back: what it was, the ledger says.
            let reason = "its end is on record from before a crash".to_owned();
            let end = End { cause: EndCause::Revoked, at: now.wall, reason, actor: None, recorded: true };
            self.grants.end(&id, end);
        }
        self.look_behind_unrecorded(on_record, now);
        self.grants_unsaved = true;
        // What was opened since the start is noted already.
        let is_left = |id: &SessionId| unread.as_ref().is_none_or(|unread| unread.sessions.contains(id));
        self.sessions.settle_unrecorded(is_left, |id| on_record.opened.contains(id));
        unread
    }

    /// Ends that are neither on record nor stated are looked into: they are from before, or were not of a grant on record then.
    fn look_behind_unrecorded(&mut self, on_record: &OnRecord, now: Now) {
        let is_due = |grant: &&Grant| {
            grant.end.as_ref().is_some_and(|end| !end.recorded) && !self.ends_stated.contains(&grant.id)
        };
        let ended = self.grants.all().iter().filter(is_due);
        let ended: Vec<_> = ended.map(|grant| grant.id.clone()).collect();
        let (recorded, missing): (Vec<_>, Vec<_>) = ended.into_iter().partition(|id| on_record.ended.contains(id));
        self.grants.mark_ends_recorded(&recorded);
        if !missing.is_empty() {
            self.look_behind(&missing, now);
        }
    }

    /// Sessions from before are watched, and cut again if they were to end; those whose connection is gone are live no more.
    pub fn watch_left(&mut self, is_there: impl Fn(ProcessId) -> bool, now: Now) {
        self.sessions.live().iter().for_each(|session| self.recent.add(session));
        for Session { id, monitor, ending, .. } in self.sessions.live().to_vec() {
            if !is_there(monitor) {
                self.unclosed.extend(self.sessions.gone(&id));
                continue;
            }
            if ending.is_some() {
                self.retries.insert(id.clone(), now.boot);
            }
            self.watch(id, monitor);
        }
    }

    /// The end of those that are live no more is noted, unless it came onto the disk and a crash kept the table from losing
    /// them, or their beginning never did.
    pub fn close_gone(&mut self, on_record: &OnRecord, now: Now) {
        for session in std::mem::take(&mut self.unclosed) {
            let began = session.recorded || on_record.opened.contains(&session.id);
            if began && !on_record.closed.contains(&session.id) {
                self.recorder.note(session_end(&session, Ended::Unseen, now));
            }
        }
        self.commit(now);
    }

    /// A lockdown while the state was not read, in this run or one before, ends every grant that is read; whether there was
    /// one.
    pub fn end_what_was_locked_down(
        &mut self,
        unread: Option<&Unread>,
        left: Option<(String, Option<Actor>)>,
        now: Now,
    ) -> bool {
        let ending = unread.and_then(|unread| unread.locked_down.clone()).or(left.map(as_ending));
        let Some(ending) = ending else { return false };
        let open = self.open_grants();
        self.end_grants(&open, &ending, now);
        self.documents_locked_down(now);
        self.commit(now);
        true
    }

    /// Why nothing can be granted now, where the state is not read.
    ///
    /// # Errors
    /// The refusal of a request that gives access.
    pub fn state_is_read(&self) -> Result<(), Refusal> {
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
    pub(super) fn grants_are_known(&self) -> Result<(), Refusal> {
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
    pub fn records_not_read(&self) -> Refusal {
        Refusal::new(RefusalCode::LedgerUnavailable, format!("the records cannot be read: {}", self.not_read()))
            .hint("what happens meanwhile is recorded once it can be")
    }

    /// What an operator has to know of a lockdown while which grants there are is not known.
    pub(super) fn unread_note(&self) -> Option<String> {
        self.unread.as_ref().filter(|unread| !unread.knows_grants)?;
        Some(format!(
            "which grants there are is not known yet: each ends once it is read; a reboot before that undoes it, so lock down again then: {}",
            self.not_read()
        ))
    }

    /// What `status` says while the state is not read.
    #[must_use]
    pub fn state_not_read(&self) -> Option<String> {
        self.is_unread().then(|| {
            format!(
                "{}: nobody new is let in, no key file is looked at, and what ends is recorded later",
                self.not_read()
            )
        })
    }

    fn not_read(&self) -> String {
        let why = self.recorder.failing().unwrap_or("the disk does not answer");
        format!("the state in /var/lib/lockdownd is not read since the daemon started: {why}")
    }
}

fn as_ending((reason, actor): (String, Option<Actor>)) -> Ending {
    Ending { cause: EndCause::Lockdown, reason, actor }
}
