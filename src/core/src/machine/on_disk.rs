//! What follows once something is on disk, and what is done where that takes too long.
//!
//! What gives access takes effect here and nowhere else. A wait that ends undoes nothing: what comes late opens nothing, and is
//! made good on record.

use std::time::Duration;

use control::{Answer, Records, Refusal, RefusalCode, Response, gate};
use record::{ArtifactType, Draft, GrantId, SessionId};

use super::{
    Core, Effect, NotInForce, Owed, PendingAllow, PendingDocument, PendingLogin, Severity, Token,
    covered::Covered,
    recorder::{Done, Full, Known, NotWritten, Room, Settled, Snapshot, Stall, WorkId, Written},
};
use crate::policy::{
    grant::{End, EndCause},
    schedule::LastLockdown,
    time::Now,
};

/// How long a login or a grant waits for the disk before it is refused; the gate waits longer for its answer.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// How long the answer to something that is done already waits for its record.
const RECORD_PATIENCE: Duration = Duration::from_secs(2);
/// What takes effect once it is on disk.
#[derive(Debug)]
pub enum First {
    /// A grant that the configuration renders.
    Rendered(GrantId),
    /// A grant that a document gives.
    Document(Box<PendingDocument>),
    /// A grant that an operator asked for, or a later end of one.
    Allow(Box<PendingAllow>),
    /// A session that a grant backs.
    Login(Box<PendingLogin>),
}

impl First {
    /// When it has waited long enough, on the boot clock. A rendered grant, or one that nobody waits for, waits for as long as it takes.
    #[must_use]
    pub fn until(&self) -> Option<Duration> {
        match self {
            Self::Rendered(_) => None,
            Self::Document(pending) => pending.until,
            Self::Allow(allow) => allow.until,
            Self::Login(login) => login.until,
        }
    }
}

/// An answer that waits until all that was noted before it is on record, or owed by a ledger that cannot be written.
#[derive(Debug)]
pub(super) struct Unrecorded {
    commit: u64,
    /// When it is given all the same, on the boot clock.
    due: Duration,
    answer: Waiting,
}

/// Such an answer.
#[derive(Debug)]
pub enum Waiting {
    /// To an operator who has changed something.
    Operator(Token, Response),
    /// To an operator who reads records: what was told before is among them.
    Records(Token, Records),
    /// To systemd, which waits for a reload.
    Systemd,
    /// The refusal of a login.
    Gate {
        /// Where it goes.
        token: Token,
        /// What it says.
        answer: gate::Answer,
        /// sshd's process for the connection.
        monitor: Option<i32>,
        /// In which step it asked.
        step: gate::Step,
    },
}

impl Core {
    /// Has written what is noted, and the grants if they have changed. Nothing waits for it.
    pub fn commit(&mut self, now: Now) {
        self.keep_owed(now);
        let state = self.changed_grants(now);
        let covered = self.take_covered();
        self.recorder.commit(state, covered, now);
        self.keep_unkept(now);
    }

    /// Has the grants written if they have changed. What this belongs to is not all noted yet, so nothing counts as on record
    /// by it.
    pub(super) fn save_grants(&mut self, now: Now) {
        self.keep_owed(now);
        let state = self.changed_grants(now);
        self.recorder.commit(state, Covered::default(), now);
        self.keep_unkept(now);
    }

    /// As [`Core::commit`], with statements on what takes effect once they are on disk.
    pub(super) fn commit_first(&mut self, drafts: Vec<Draft>, room: Room, first: First, now: Now) {
        self.keep_owed(now);
        let state = self.changed_grants(now);
        let covered = self.take_covered();
        self.recorder.commit_first((drafts, room), state, covered, first, now);
        self.keep_unkept(now);
    }

    /// What the disk does not take for now is kept where whoever opens the ledger next finds it, before anybody is told of it;
    /// and it goes there once the disk has it.
    pub(super) fn keep_unkept(&mut self, now: Now) {
        self.keep(false, now);
    }

    /// The same at once: for whom nobody waits, and who is let in all the same.
    pub(super) fn keep_at_once(&mut self, now: Now) {
        self.keep(true, now);
    }

    fn keep(&mut self, at_once: bool, now: Now) {
        let stated = self.recorder.take_unkept(at_once, now);
        if !stated.is_empty() {
            self.push(Effect::KeepOwed(Owed { stated, is_queued: true }));
        }
        if self.recorder.takes_kept() {
            self.push(Effect::DropOwed);
        }
    }

    /// While the ledger is not open, what is noted is kept where whoever opens it finds it.
    fn keep_owed(&mut self, now: Now) {
        let stated = self.recorder.take_unopened(now);
        if !stated.is_empty() {
            self.push(Effect::KeepOwed(Owed { stated, is_queued: false }));
        }
    }

    /// Has other work done on the disk, in its turn.
    pub fn work(&mut self, name: &str, work: WorkId) {
        if let Err(error) = self.recorder.work(work) {
            self.say(Severity::Err, format!("{name} is not done: {error}"));
            self.push(Effect::DropWork(work));
        }
    }

    /// The same; work of this name that still waits is not done.
    pub fn work_anew(&mut self, name: &'static str, work: WorkId) {
        let replaced = self.recorder.work_anew(name, work);
        replaced.into_iter().for_each(|old| self.push(Effect::DropWork(old)));
    }

    /// Gives the disk thread what is next, where it is idle.
    pub(super) fn give_disk(&mut self, now: Now) {
        if let Some(task) = self.recorder.next_task(now) {
            self.push(Effect::Disk(task));
        }
    }

    /// What is to be written of the grants. Before those on disk are read nothing takes their place.
    fn changed_grants(&mut self, now: Now) -> Option<Snapshot> {
        if self.is_unread() {
            self.grants.beat(now);
            return None;
        }
        let documents = self.documents.take_unsaved();
        // Before the disk, which may stand still: a crash loses nothing that closes.
        documents.clone().into_iter().for_each(|documents| self.push(Effect::CopyDocuments(documents)));
        (std::mem::take(&mut self.grants_unsaved) || documents.is_some()).then(|| {
            let ended = self.grants.unsaved_ends().to_vec();
            Snapshot { kept: self.grants.to_keep(&self.boot_id, now), ended, documents }
        })
    }

    /// What is on record once all that is noted is.
    fn take_covered(&mut self) -> Covered {
        let pending = |first: &First| match first {
            First::Login(login) => Some(login.session.clone()),
            First::Rendered(_) | First::Allow(_) | First::Document(_) => None,
        };
        // Their records are still to come, each by itself.
        let pending: Vec<_> = self.recorder.firsts().filter_map(pending).collect();
        let unclosed = |id: &&SessionId| self.unclosed.iter().any(|session| session.id == **id);
        let lockdown = self.schedule.lockdowns().map(LastLockdown::of);
        Covered {
            ends: std::mem::take(&mut self.ends_noted),
            sessions: self.sessions.unrecorded().filter(|id| !pending.contains(id)).cloned().collect(),
            gone: self.sessions.gone_ones().filter(|id| !pending.contains(id) && !unclosed(id)).cloned().collect(),
            lockdown: (self.grants.last_lockdown() != lockdown.as_ref()).then_some(lockdown),
            ..std::mem::take(&mut self.covered)
        }
    }

    /// The disk thread has done something.
    pub(super) fn disk_told(&mut self, done: Done, known: Option<Known>, now: Now) {
        known.into_iter().for_each(|known| self.learn(known));
        let written = match done {
            Done::NotOpened(why) => return self.recorder.not_opened(why),
            Done::Opened(before_all) => return self.recorder.opened(before_all),
            Done::Worked => None,
            Done::Written(written) => Some(written),
        };
        let (settled, stall) = self.recorder.done(written, now);
        self.say_stall(stall);
        // The disk goes on with what is next, whatever follows from this.
        self.give_disk(now);
        if let Some(Settled { written, covered, first }) = settled {
            let Written { ended, noted, first: is_written } = written;
            match ended {
                Some(ended) => {
                    self.grants.ends_kept(&ended);
                    if self.notes_ends || !ended.is_empty() {
                        self.note_ends();
                    }
                }
                None => {
                    self.grants_unsaved = true;
                    self.documents.not_saved();
                }
            }
            if noted {
                self.is_on_record(covered, now);
            }
            if let Some(first) = first {
                self.first_written(first, is_written, now);
            }
            self.settle_inbox();
        }
        self.keep_unkept(now);
        self.answer_recorded(now);
    }

    /// What is known of the ledger now. It is said when there is no room for new grants, and when there is again.
    fn learn(&mut self, known: Known) {
        let before = self.recorder.known().and_then(|known| known.full);
        match known.full {
            Some(full) if before != Some(full) => {
                self.say(Severity::Err, format!("no new grant is given: {full}; {}", full.remedy()));
            }
            None if before.is_some() => self.say(Severity::Info, "the ledger has room for new grants again"),
            _ => {}
        }
        self.recorder.learn(known);
    }

    fn say_stall(&mut self, stall: Option<Stall>) {
        match stall {
            None => {}
            Some(Stall::Begun) => self.say(
                Severity::Err,
                "the disk that holds /var/lib/lockdownd does not answer: no new grant and no login until it does; removals and endings go on, and are recorded then",
            ),
            Some(Stall::Over(took)) => {
                let what = format!("the disk that holds /var/lib/lockdownd answers again, after {took:.1?}");
                self.say(Severity::Err, what);
            }
        }
    }

    /// All this is on record.
    fn is_on_record(&mut self, covered: Covered, now: Now) {
        let Covered { ends, sessions, gone, lockdown, .. } = &covered;
        self.grants_unsaved |= self.grants.mark_ends_recorded(&ends.iter().cloned().collect::<Vec<_>>());
        self.ends_stated.retain(|id| !ends.contains(id));
        self.sessions.mark_recorded(sessions);
        self.sessions.forget_gone(gone);
        let lockdown = lockdown.clone();
        if covered.tells_others() {
            self.push(Effect::OnRecord(covered));
        }
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
            First::Document(pending) => self.document_written(*pending, written.map_err(NotInForce::from), now),
            First::Rendered(id) => match written {
                Ok(()) => self.takes_effect(&id, now),
                Err(error) => {
                    self.take_back(&id, now);
                    let what = format!(
                        "the rendered grant {id} could not be put in force, and the next sweep tries again: {error}"
                    );
                    self.say(Severity::Err, what);
                }
            },
        }
    }

    /// Has noted in memory that outlives the daemon which ends the disk has not taken; nothing where it has all.
    pub(super) fn note_ends(&mut self) {
        let end_of = |id: &GrantId| Some((id.clone(), self.grants.get(id)?.end.clone()?));
        let ended: Vec<(GrantId, End)> = self.grants.unsaved_ends().iter().filter_map(end_of).collect();
        self.notes_ends = !ended.is_empty();
        self.push(Effect::NoteEnded(ended));
    }

    /// A grant is on disk and on record: it lets its person in, unless it has ended meanwhile.
    pub(super) fn takes_effect(&mut self, id: &GrantId, now: Now) {
        self.grants.mark_created_recorded(id);
        self.grants_unsaved = true;
        if self.grants.get(id).is_some_and(|grant| !grant.is_open()) {
            // Its end waited for this: no end is on record before its beginning.
            self.look_behind(std::slice::from_ref(id), now);
        }
        self.pass(now);
    }

    /// A grant is not on disk, and never was in force.
    pub(super) fn take_back(&mut self, id: &GrantId, now: Now) {
        self.grants.take_back(id);
        self.grants_unsaved = true;
        self.commit(now);
    }

    /// A grant that is still on its way to the disk is not to take effect any more.
    pub(super) fn give_up_grant(&mut self, id: &GrantId, now: Now) {
        let reason = "its record came late: whoever asked for it had been told that nothing was granted".to_owned();
        let end = End { cause: EndCause::Revoked, at: now.wall, reason, actor: None, recorded: false };
        if self.grants.end(id, end) {
            self.grants_unsaved = true;
            self.note_ends();
        }
    }

    /// Whoever has waited long enough for the disk is answered.
    pub(super) fn give_up_on_disk(&mut self, now: Now) {
        let stall = self.recorder.tells_stall(now);
        self.say_stall(stall);
        self.keep_unkept(now);
        for first in self.recorder.withdraw_overdue(now) {
            self.first_written(first, Err(NotWritten::Slow), now);
        }
        // It is taken out of what is under way, changed, and put back: the core's other state is needed for it.
        if let Some(mut first) = self.recorder.take_late(now) {
            match &mut first {
                First::Rendered(_) => {}
                First::Document(pending) => self.document_is_late(pending, now),
                First::Allow(allow) => self.allow_is_late(allow, now),
                First::Login(login) => self.login_is_late(login, now),
            }
            let refused = match &first {
                First::Login(login) if login.over.is_none() => Some(login.session.clone()),
                _ => None,
            };
            self.recorder.put_late(first);
            // It is kept until it is known whether the disk has it: then a start after a crash says that it is over.
            refused.and_then(|session| self.sessions.gone(&session));
        }
        self.answer_recorded(now);
    }

    /// When somebody has waited long enough, on the boot clock.
    pub(super) fn disk_due(&self) -> Option<Duration> {
        self.recorder.due().into_iter().chain(self.unrecorded.iter().map(|answer| answer.due)).min()
    }

    /// Answers once all that is noted is on record; a moment later at the latest.
    pub fn answer_on_record(&mut self, answer: Waiting, now: Now) {
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
                Waiting::Operator(token, response) if on_record => self.push(Effect::Answer(token, response)),
                Waiting::Operator(token, response) => self.push(Effect::Answer(token, with_note(response))),
                Waiting::Records(token, asked) => self.push(Effect::ReadRecords(token, asked)),
                Waiting::Systemd => self.push(Effect::Reloaded),
                Waiting::Gate { token, answer, monitor, step } => {
                    self.push(Effect::AnswerGate { token, answer, monitor, step });
                }
            }
        }
    }

    /// Whether systemd waits for what came of a reload.
    #[must_use]
    pub fn is_reloading(&self) -> bool {
        self.reloads.signalled || self.unrecorded.iter().any(|waiting| matches!(waiting.answer, Waiting::Systemd))
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
        Ok(Answer::Apply(answer)) => answer.notes.push(note.to_owned()),
        _ => {}
    }
    response
}

/// The refusal of a login or a grant that the disk did not take.
pub fn disk_refusal(why: &NotInForce) -> Refusal {
    let (code, remedy) = match why {
        NotInForce::StoreFull(_) => (
            RefusalCode::Failed,
            "end grants on this account that nobody needs, or take keys out of people's [[person]]",
        ),
        NotInForce::NotWritten(NotWritten::Full(full)) => (RefusalCode::LedgerUnavailable, full.remedy()),
        NotInForce::NotWritten(NotWritten::Slow) => (
            RefusalCode::LedgerUnavailable,
            "see what keeps the disk that holds /var/lib/lockdownd (fsfreeze, a snapshot, EBS)",
        ),
        _ => (RefusalCode::LedgerUnavailable, Full::Disk.remedy()),
    };
    Refusal::new(code, format!("nothing was granted: {why}")).hint(format!("{remedy}, then ask again"))
}

/// The record of a session that the gate had refused by the time its opening was on record.
pub(super) fn came_late(login: &PendingLogin) -> Draft {
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
