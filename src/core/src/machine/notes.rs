//! Logins to exempt accounts that the gate let by while the daemon did not answer: it left a note for each.

use std::{collections::BTreeSet, path::PathBuf};

use control::gate::EmergencyNote;
use record::{ArtifactType, Draft, SessionId};

use super::{Core, Effect, key_of, methods, placed, source_of};
use crate::{
    policy::time::Now,
    process::ProcessId,
    sessions::{Session, Standing, Uses},
};

/// A note of the gate's.
#[derive(Debug)]
pub struct NoteRead {
    /// Where it lies.
    pub path: PathBuf,
    /// What it says, or why it cannot be read.
    pub said: Result<NoteSaid, String>,
}

/// What a note says, and what is known of its login.
#[derive(Debug)]
pub struct NoteSaid {
    /// What it says.
    pub note: EmergencyNote,
    /// Whether the daemon heard of the login after all, or found it.
    pub is_known: bool,
    /// sshd's process for the connection, where that goes on, and what it is used for.
    pub lives: Option<(ProcessId, Uses)>,
}

/// Notes whose records are on their way to the disk.
#[derive(Debug, Default)]
pub struct Notes {
    under_way: BTreeSet<PathBuf>,
}

impl Notes {
    /// Whether this one need not be read: its record is on its way to the disk, or it is being removed.
    #[must_use]
    pub fn have(&self, path: &PathBuf) -> bool {
        self.under_way.contains(path)
    }

    /// These are being removed.
    pub fn go(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        self.under_way.extend(paths);
    }

    /// These are gone, or what has their names is new.
    pub(super) fn are_gone(&mut self, paths: &BTreeSet<PathBuf>) {
        self.under_way.retain(|path| !paths.contains(path));
    }
}

impl Core {
    /// Records what the gate has noted. A note goes once its record is on disk, and not before.
    pub(super) fn notes_read(&mut self, notes: Vec<NoteRead>, now: Now) {
        // They are on the disk that is not read yet; once it is they are recorded.
        if self.is_unread() || notes.is_empty() {
            return;
        }
        for NoteRead { path, said } in notes {
            let draft = match said {
                Ok(said) => self.noted(said),
                Err(why) => Some(unreadable(&path, &why)),
            };
            if let Some(draft) = draft {
                self.note_login(draft, now);
            }
            self.notes.under_way.insert(path.clone());
            self.covered.notes.insert(path);
        }
        self.commit(now);
    }

    /// The record of such a login; nothing where the daemon heard of it after all, or found it. One whose connection goes on
    /// is a session from now on.
    fn noted(&mut self, said: NoteSaid) -> Option<Draft> {
        let NoteSaid { note, is_known, lives } = said;
        if is_known {
            return None;
        }
        if let Ok(pid) = i32::try_from(note.sshd) {
            // The gate saw that login, though nobody answered it.
            self.push(Effect::KnowAsked { pid, at: note.time });
        }
        let mut draft = recorded(&note);
        if let Some((monitor, uses)) = lives {
            if self.sessions.nearest(&[monitor]).is_some() {
                return None;
            }
            draft.session = self.keep_noted(&note, monitor, uses);
        }
        Some(draft)
    }

    fn keep_noted(&mut self, note: &EmergencyNote, monitor: ProcessId, uses: Uses) -> Option<SessionId> {
        let account = note.question.account.parse().ok()?;
        let (id, source) = (self.new_session_id(), source_of(&note.question));
        let opened = Session::new(id.clone(), account, Standing::Emergency, source, note.time, monitor);
        self.keep_session(Session { uses, ..opened }).then_some(id)
    }
}

fn unreadable(path: &std::path::Path, why: &str) -> Draft {
    let sentence = "a login to an exempt account while the daemon was down left a note that cannot be read";
    Draft::new(ArtifactType::EmergencyLogin, sentence).with("note", path.display().to_string()).with("why", why)
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
