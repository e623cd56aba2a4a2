//! What follows once something is on disk, and what is done where that takes too long.
//!
//! What gives access takes effect here and nowhere else. A wait that ends undoes nothing: what comes late opens nothing, and is
//! made good on record.

use std::time::Duration;

use control::{Answer, Records, Refusal, RefusalCode, Response, gate};
use lockdown_core::policy::{
    grant::{End, EndCause},
    schedule::LastLockdown,
    time::Now,
};
use record::{ArtifactType, Draft, GrantId};
use tokio::sync::oneshot;

use super::{Engine, NotInForce};
use crate::{
    disk::{Done, NotWritten, Room, Written},
    gate::PendingLogin,
    ledger::describe,
    operator::allow::PendingAllow,
    recorder::{Covered, Settled},
    trigger::Reply,
};

/// How long a login or a grant waits for the disk before it is refused; the gate waits longer for its answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// How long the answer to something that is done already waits for its record.
pub(crate) const RECORD_PATIENCE: Duration = Duration::from_secs(2);
/// How long a stop waits for the disk; what it has not taken by then, the next start makes up for.
pub(crate) const LAST_COMMITS: Duration = Duration::from_secs(1);

/// What takes effect once it is on disk.
#[derive(Debug)]
pub enum First {
    /// A grant that the configuration renders.
    Rendered(GrantId),
    /// A grant that an operator asked for, or a later end of one.
    Allow(Box<PendingAllow>),
    /// A session that a grant backs.
    Login(Box<PendingLogin>),
}

impl First {
    /// When it has waited long enough, on the boot clock. A rendered grant waits for as long as it takes.
    #[must_use]
    pub fn until(&self) -> Option<Duration> {
        match self {
            Self::Rendered(_) => None,
            Self::Allow(allow) => allow.until,
            Self::Login(login) => login.until,
        }
    }
}

/// An answer that waits until all that was noted before it is on record, or owed by a ledger that cannot be written.
#[derive(Debug)]
pub(crate) struct Unrecorded {
    commit: u64,
    /// When it is given all the same, on the boot clock.
    due: Duration,
    pub(super) answer: Waiting,
}

/// Such an answer.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// To an operator who has changed something.
    Operator(Reply, Response),
    /// To an operator who reads records: what was told before is among them.
    Records(Reply, Records),
    /// To systemd, which waits for a reload.
    Systemd,
    /// The refusal of a login.
    Gate {
        /// Where it goes.
        to: oneshot::Sender<gate::Answer>,
        /// What it says.
        answer: gate::Answer,
        /// sshd's process for the connection.
        monitor: Option<i32>,
    },
}

impl Engine {
    /// Has written what is noted, and the grants if they have changed. Nothing waits for it.
    pub(crate) fn commit(&mut self, now: Now) {
        let state = self.changed_grants(now);
        let covered = self.take_covered();
        self.recorder.commit(state, covered, now);
    }

    /// Has the grants written if they have changed. What this belongs to is not all noted yet, so nothing counts as on record
    /// by it.
    pub(super) fn save_grants(&mut self, now: Now) {
        let state = self.changed_grants(now);
        self.recorder.commit(state, Covered::default(), now);
    }

    /// As [`Engine::commit`], with a statement on what takes effect once it is on disk.
    pub(crate) fn commit_first(&mut self, draft: Draft, room: Room, first: First, now: Now) {
        let state = self.changed_grants(now);
        let covered = self.take_covered();
        self.recorder.commit_first(draft, room, state, covered, first, now);
    }

    fn changed_grants(&mut self, now: Now) -> Option<crate::grants::Snapshot> {
        std::mem::take(&mut self.grants_unsaved).then(|| self.grants.snapshot(now))
    }

    /// What is on record once all that is noted is.
    fn take_covered(&mut self) -> Covered {
        let pending = |first: &First| match first {
            First::Login(login) => Some(login.session.clone()),
            First::Rendered(_) | First::Allow(_) => None,
        };
        // Their records are still to come, each by itself.
        let pending: Vec<_> = self.recorder.firsts().filter_map(pending).collect();
        let lockdown = self.schedule.lockdowns().map(LastLockdown::of);
        Covered {
            ends: self.behind.take_noted().into_iter().collect(),
            sessions: self.sessions.unrecorded().filter(|id| !pending.contains(id)).cloned().collect(),
            gone: self.sessions.gone_ones().cloned().collect(),
            lockdown: (self.grants.last_lockdown() != lockdown.as_ref()).then_some(lockdown),
            ..std::mem::take(&mut self.covered)
        }
    }

    /// The disk thread has done something.
    pub(super) fn disk_told(&mut self, now: Now) -> super::Next {
        let mut next = super::Next::GoOn;
        while let Some(settled) = self.recorder.done(now) {
            let Settled { done, covered, first } = settled;
            match done {
                Done::Opened(left) => {
                    if let Err(error) = self.state_read(*left, now) {
                        tracing::error!("lockdownd has to start again: {}", describe(&error));
                        next = super::Next::Stop;
                    }
                }
                Done::Brought(None) => {}
                Done::Brought(Some(reason)) => {
                    if self.act(*reason, now) == super::Next::Stop {
                        next = super::Next::Stop;
                    }
                }
                Done::Written(Written { ended, noted, first: written }) => {
                    match ended {
                        Some(ended) if ended.is_empty() => {}
                        Some(ended) => self.grants.ends_saved(&ended),
                        None => self.grants_unsaved = true,
                    }
                    if noted {
                        self.is_on_record(covered, now);
                    }
                    if let Some(first) = first {
                        self.first_written(first, written, now);
                    }
                }
            }
        }
        self.note_room();
        self.answer_recorded(now);
        if self.recorder.takes_another_start() {
            tracing::warn!("the daemon starts again: {}", self.recorder.failing().unwrap_or_default());
            self.stop(now);
            return super::Next::Stop;
        }
        next
    }

    /// All this is on record.
    fn is_on_record(&mut self, covered: Covered, now: Now) {
        let Covered { ends, sessions, gone, lockdown, notes, logins, found } = covered;
        self.grants_unsaved |= self.grants.mark_ends_recorded(&ends.into_iter().collect::<Vec<_>>());
        self.sessions.mark_recorded(&sessions);
        self.sessions.forget_gone(&gone);
        self.drop_notes(notes, now);
        logins.into_iter().for_each(|(pid, time)| self.answered.note(pid, time, false));
        found.into_iter().for_each(|(pid, since, until)| self.answered.note_found(pid, since, until));
        if lockdown.is_some_and(|lockdown| self.grants.keep_last_lockdown(lockdown)) {
            self.grants_unsaved = true;
            self.commit(now);
        }
    }

    /// What was to take effect is on disk, or is not.
    fn first_written(&mut self, first: First, written: Result<(), NotWritten>, now: Now) {
        match first {
            First::Login(login) => self.login_written(*login, written.is_ok(), now),
            First::Allow(allow) => self.allow_written(*allow, written.map_err(NotInForce::from), now),
            First::Rendered(id) => match written {
                Ok(()) => self.takes_effect(&id, now),
                Err(error) => {
                    self.take_back(&id, now);
                    tracing::error!(%error, grant = %id, "a rendered grant could not be put in force; the next sweep tries again");
                }
            },
        }
    }

    /// A grant is on disk and on record: it lets its person in, unless it has ended meanwhile.
    pub(crate) fn takes_effect(&mut self, id: &GrantId, now: Now) {
        self.grants.mark_created_recorded(id);
        self.grants_unsaved = true;
        self.pass(now);
    }

    /// A grant is not on disk, and never was in force.
    pub(crate) fn take_back(&mut self, id: &GrantId, now: Now) {
        self.grants.take_back(id);
        self.grants_unsaved = true;
        self.commit(now);
    }

    /// A grant that is still on its way to the disk is not to take effect any more.
    pub(crate) fn give_up_grant(&mut self, id: &GrantId, now: Now) {
        let reason = "its record came late: whoever asked for it had been told that nothing was granted".to_owned();
        let end = End { cause: EndCause::Revoked, at: now.wall, reason, actor: None, recorded: false };
        if self.grants.end(id, end) {
            self.grants.note_ends();
            self.grants_unsaved = true;
        }
    }

    /// Whoever has waited long enough for the disk is answered.
    pub(super) fn give_up_on_disk(&mut self, now: Now) {
        self.recorder.tell_stall(now);
        for first in self.recorder.withdraw_overdue(now) {
            self.first_written(first, Err(NotWritten::Slow), now);
        }
        // It is taken out of what is under way, changed, and put back: the engine's other state is needed for it.
        if let Some(mut first) = self.recorder.take_late(now) {
            match &mut first {
                First::Rendered(_) => {}
                First::Allow(allow) => self.allow_is_late(allow, now),
                First::Login(login) => self.login_is_late(login, now),
            }
            self.recorder.put_late(first);
        }
        self.answer_recorded(now);
    }

    /// When somebody has waited long enough, on the boot clock.
    pub(super) fn disk_due(&self) -> Option<Duration> {
        self.recorder.due().into_iter().chain(self.unrecorded.iter().map(|answer| answer.due)).min()
    }

    /// Answers once all that is noted is on record; a moment later at the latest.
    pub(crate) fn answer_on_record(&mut self, answer: Waiting, now: Now) {
        // A disk that stands still already is not waited for.
        let patience = if self.recorder.stalled_for(now).is_some() { Duration::ZERO } else { RECORD_PATIENCE };
        let (commit, due) = (self.recorder.newest(), now.boot + patience);
        self.unrecorded.push(Unrecorded { commit, due, answer });
        self.answer_recorded(now);
    }

    fn answer_recorded(&mut self, now: Now) {
        for waiting in std::mem::take(&mut self.unrecorded) {
            let on_record = self.recorder.was_tried(waiting.commit);
            if !on_record && now.boot < waiting.due {
                self.unrecorded.push(waiting);
                continue;
            }
            match waiting.answer {
                Waiting::Operator(reply, response) if on_record => reply.send(response),
                Waiting::Operator(reply, response) => reply.send(with_note(response)),
                Waiting::Records(reply, asked) => self.read_records(asked, reply, now),
                // It is asked for whether this still waits.
                Waiting::Systemd => {}
                Waiting::Gate { to, answer, monitor } => {
                    monitor.into_iter().for_each(|pid| self.answered.note(pid, now.wall, true));
                    // Whoever asked may have given up; that changes nothing here.
                    let _ = to.send(answer);
                }
            }
        }
    }

    /// Waits until what is noted is on disk, a moment at most; for a stop.
    pub(super) fn settle(&mut self, most: Duration) {
        let until = lockdown_host::clock::now().boot + most;
        loop {
            let now = lockdown_host::clock::now();
            let _ = self.disk_told(now);
            let left = until.saturating_sub(now.boot);
            if self.recorder.is_idle() || left.is_zero() || !self.recorder.wait(left) {
                return;
            }
        }
    }

    /// Tells when the ledger has no room for new grants, and when it has again.
    fn note_room(&mut self) {
        let full = self.recorder.ledger().and_then(|ledger| ledger.full);
        if full != self.shipped.full {
            match full {
                Some(full) => tracing::error!("no new grant is given: {full}; {}", full.remedy()),
                None => tracing::info!("the ledger has room for new grants again"),
            }
            self.shipped.full = full;
        }
    }
}

/// The answer to something that is done, whose record is not on disk yet.
fn with_note(mut response: Response) -> Response {
    let note =
        "it is done, and not on record yet: the disk that holds /var/lib/lockdownd does not answer; the record follows";
    match &mut response {
        Ok(Answer::Revoke(answer)) => answer.notes.push(note.to_owned()),
        Ok(Answer::Lockdown(answer)) => answer.notes.push(note.to_owned()),
        Ok(Answer::Enforce(answer)) => answer.notes.push(note.to_owned()),
        Ok(Answer::Retired(answer)) => answer.notes.push(note.to_owned()),
        _ => {}
    }
    response
}

/// The refusal of a login or a grant that the disk did not take.
pub(crate) fn disk_refusal(why: &NotInForce) -> Refusal {
    use crate::ledger::{Error, Full};
    let (code, remedy) = match why {
        NotInForce::StoreFull(_) => (
            RefusalCode::Failed,
            "end grants on this account that nobody needs, or take keys out of people's [[person]]",
        ),
        NotInForce::NotWritten(NotWritten::Ledger(Error::Full(full))) => {
            (RefusalCode::LedgerUnavailable, full.remedy())
        }
        NotInForce::NotWritten(NotWritten::Slow) => (
            RefusalCode::LedgerUnavailable,
            "see what keeps the disk that holds /var/lib/lockdownd (fsfreeze, a snapshot, EBS)",
        ),
        _ => (RefusalCode::LedgerUnavailable, Full::Disk.remedy()),
    };
    Refusal::new(code, format!("nothing was granted: {why}")).hint(format!("{remedy}, then ask again"))
}

/// The record of a session that the gate had refused by the time its opening was on record.
pub(crate) fn came_late(login: &PendingLogin) -> Draft {
    let mut draft = Draft::new(
        ArtifactType::SessionClosed,
        format!("the login to {} was refused: its record came late", login.account),
    )
    .with("ended", "never_opened")
    .with("seconds", 0);
    draft.session = Some(login.session.clone());
    draft.account = Some(login.account.clone());
    draft.person.clone_from(&login.person);
    draft.grant.clone_from(&login.grant);
    draft
}
