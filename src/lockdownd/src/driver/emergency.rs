//! Logins to exempt accounts that the gate let by while the daemon did not answer: it left a note for each.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use control::gate::{EMERGENCY, EmergencyNote, MAX_NOTE, MAX_NOTES};
use lockdown_core::{
    answered::is_soon_after,
    machine::notes::{NoteRead, NoteSaid},
};
use lockdown_host::{logins, paths, processes, sockets::Sockets};

use super::{Driver, sshd_log};
use crate::{
    disk::Store,
    ledger::{Recorded, RecordedLogin},
    trigger::Reason,
};

impl Driver {
    /// The notes that the gate has left and nobody has recorded yet.
    pub(super) fn read_notes(&self) -> Vec<NoteRead> {
        // They are on the disk that is not read yet.
        if self.core.is_unread() {
            return Vec::new();
        }
        let new = notes().into_iter().filter(|path| !self.core.notes.have(path));
        new.map(|path| NoteRead { said: read(&path).map(|note| self.said(note)), path }).collect()
    }

    fn said(&self, note: EmergencyNote) -> NoteSaid {
        let pid = i32::try_from(note.sshd).ok();
        // One that has started since is another process, in this boot or a later one.
        let sshd = pid.and_then(processes::identity);
        let lives = sshd.filter(|id| sshd_log::started(*id).is_some_and(|started| started <= note.time));
        let is_known = pid.is_some_and(|pid| self.answered.knows_without_note(pid, note.time));
        NoteSaid {
            note,
            is_known,
            lives: lives.map(|monitor| (monitor, logins::uses(monitor, &mut Sockets::default()))),
        }
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
        self.core.notes.go(notes.iter().cloned());
        self.drop_notes(notes);
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
