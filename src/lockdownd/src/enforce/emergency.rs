//! Logins to exempt accounts that the gate let by while the daemon did not answer: it left a note for each.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use control::gate::{EMERGENCY, EmergencyNote, MAX_NOTE, MAX_NOTES};
use lockdown_core::{
    answered::is_soon_after,
    machine::{key_of, methods, placed, source_of},
    policy::time::Now,
    sessions::{Session, Standing},
};
use lockdown_host::{
    logins, paths,
    processes::{self, ProcessId},
};
use record::{ArtifactType, Draft, SessionId};

use super::{Engine, sshd_log};
use crate::{
    disk::Store,
    ledger::{Recorded, RecordedLogin},
    trigger::Reason,
};

impl Engine {
    /// Records every note that the gate has left. A note goes once its record is on disk, and not before.
    pub(crate) fn record_emergency_notes(&mut self, now: Now) {
        // They are on the disk that is not read yet; once it is they are recorded.
        if self.core.is_unread() {
            return;
        }
        let mut notes = notes();
        notes.retain(|path| !self.notes_under_way.contains(path));
        if notes.is_empty() {
            return;
        }
        for path in &notes {
            let draft = match read(path) {
                Ok(note) => self.noted(&note),
                Err(why) => Some(
                    Draft::new(
                        ArtifactType::EmergencyLogin,
                        "a login to an exempt account while the daemon was down left a note that cannot be read",
                    )
                    .with("note", path.display().to_string())
                    .with("why", why),
                ),
            };
            if let Some(draft) = draft {
                self.core.note_login(draft, now);
            }
        }
        self.notes_under_way.extend(notes.iter().cloned());
        self.core.covered.notes.extend(notes);
        self.core.commit(now);
    }

    /// The record of such a login; nothing where the daemon heard of it after all, or found it. One whose connection goes on is a session from
    /// now on.
    fn noted(&mut self, note: &EmergencyNote) -> Option<Draft> {
        // One that has started since is another process, in this boot or a later one.
        let sshd = i32::try_from(note.sshd).ok().and_then(processes::identity);
        let lives = sshd.filter(|id| sshd_log::started(*id).is_some_and(|started| started <= note.time));
        if i32::try_from(note.sshd).is_ok_and(|pid| self.answered.knows_without_note(pid, note.time)) {
            return None;
        }
        self.answered_by_note(note);
        let mut draft = recorded(note);
        if let Some(monitor) = lives {
            if self.core.sessions.nearest(&[monitor]).is_some() {
                return None;
            }
            draft.session = self.keep_noted(note, monitor);
        }
        Some(draft)
    }

    fn keep_noted(&mut self, note: &EmergencyNote, monitor: ProcessId) -> Option<SessionId> {
        let account = note.question.account.parse().ok()?;
        let (id, source) = (self.core.new_session_id(), source_of(&note.question));
        let opened = Session::new(id.clone(), account, Standing::Emergency, source, note.time, monitor);
        let session = Session { uses: logins::uses(monitor), ..opened };
        self.core.keep_session(session).then_some(id)
    }

    /// The records of these notes are on disk: the notes go.
    pub(super) fn drop_notes(&mut self, notes: BTreeSet<PathBuf>) {
        if notes.is_empty() {
            return;
        }
        let remove = move |_: &mut Store| {
            notes.iter().for_each(|path| remove(path));
            Some(Reason::NotesDropped(notes))
        };
        self.work("removing notes of logins to exempt accounts", Box::new(remove));
    }

    /// These notes are gone, or what has their names is new.
    pub(super) fn notes_dropped(&mut self, notes: &BTreeSet<PathBuf>) {
        self.notes_under_way.retain(|path| !notes.contains(path));
    }

    /// After a crash: a note whose record is on disk has had its time, and so has one whose login a daemon recorded by itself.
    pub(super) fn drop_recorded_notes(&mut self, recorded: &Recorded) {
        let is_recorded = |note: &EmergencyNote| {
            let is_its = |login: &RecordedLogin| {
                u32::try_from(login.pid) == Ok(note.sshd)
                    && ((login.began..=login.until).contains(&note.time) || is_soon_after(login.began, note.time))
            };
            recorded.logins.iter().any(is_its)
        };
        let notes = notes().into_iter().filter(|path| read(path).is_ok_and(|note| is_recorded(&note)));
        let notes: BTreeSet<PathBuf> = notes.collect();
        self.notes_under_way.extend(notes.iter().cloned());
        self.drop_notes(notes);
    }

    /// The gate saw that login, though nobody answered it.
    fn answered_by_note(&self, note: &EmergencyNote) {
        if let Ok(pid) = i32::try_from(note.sshd) {
            self.answered.note(pid, note.time, false);
        }
    }
}

/// The notes that are whole, oldest name first.
fn notes() -> Vec<PathBuf> {
    let listed = match fs::read_dir(EMERGENCY) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::error!(%error, "{EMERGENCY} cannot be listed");
            return Vec::new();
        }
    };
    let whole = listed.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<PathBuf> = whole.take(MAX_NOTES).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "the note of an emergency login is recorded and could not be removed");
    }
}

fn read(path: &Path) -> Result<EmergencyNote, String> {
    let bytes = paths::read_path(path, MAX_NOTE).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn recorded(note: &EmergencyNote) -> Draft {
    let account = &note.question.account;
    let sentence =
        format!("login to the exempt account {account} at {:.0}, while the daemon did not answer", note.time);
    let mut draft = Draft::new(ArtifactType::EmergencyLogin, sentence)
        .with("at", note.time.to_string())
        .with("daemon", "did not answer")
        .with("pid", note.sshd)
        .with("methods", methods(&note.question));
    if let Some(boot) = &note.boot {
        draft = draft.with("note_boot", boot.as_str());
    }
    draft.account = account.parse().ok();
    draft.fingerprint = key_of(&note.question);
    placed(draft, &note.question)
}
