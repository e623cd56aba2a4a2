//! What outlives the daemon in `/run` and not the boot: the table of sessions, the traces of their connections, which grants have ended while the disk has not
//! taken it, and a lockdown of a run that has not read its state.

use std::{
    io,
    path::{Path, PathBuf},
};

use lockdown_core::{
    machine::recorder::Stated,
    sessions::{Session, Sessions},
    traces::Traces,
};
use lockdown_host::paths::{self, Durability};
use record::Actor;

use crate::{
    disk::{
        ENDED,
        owed::{self, OWED},
    },
    grants::EndedMeanwhile,
};

/// The table of live sessions.
pub(crate) const SESSIONS: &str = "/run/lockdownd/sessions.json";
/// The largest `sessions.json` that is read.
const MAX_SESSIONS_FILE: u64 = 16 << 20;
/// The traces of connections.
pub(crate) const TRACES: &str = "/run/lockdownd/traces.json";
/// The largest such file that is read.
const MAX_TRACES_FILE: u64 = 4 << 20;
/// That a lockdown ended every grant while the state was not read.
pub(crate) const LOCKED_DOWN: &str = "/run/lockdownd/locked-down";
/// The most that is read of it, in bytes.
const MAX_LOCKED_DOWN: u64 = 64 * 1024;

/// These files.
#[derive(Debug)]
pub(crate) struct Kept {
    sessions: PathBuf,
    pub(crate) ended: EndedMeanwhile,
    pub(crate) owed: PathBuf,
    /// Statements could not be kept when that was tried last.
    owed_fails: bool,
}

impl Kept {
    /// Those of this host.
    pub(crate) fn new() -> Self {
        let ended = EndedMeanwhile::open(Path::new(ENDED)).0;
        Self { sessions: SESSIONS.into(), ended, owed: OWED.into(), owed_fails: false }
    }

    /// Keeps statements that the disk has not taken; whether they could be. Said once, until it works again.
    pub(crate) fn keep_owed(&mut self, stated: &[Stated]) -> bool {
        let kept = owed::keep(&self.owed, stated);
        let fails = std::mem::replace(&mut self.owed_fails, kept.is_err());
        if let (Err(error), false) = (&kept, fails) {
            tracing::error!(%error, "what happens is lost if the daemon stops before the disk takes it");
        }
        kept.is_ok()
    }

    /// Keeps the table of sessions; whether it could be.
    pub(crate) fn keep_sessions(&self, bytes: &[u8]) -> bool {
        let kept = paths::replace_path(&self.sessions, bytes, 0o600, Durability::Volatile);
        if let Err(error) = &kept {
            tracing::warn!(%error, "the table of live sessions could not be written: nobody is let in by a grant until it can be");
        }
        kept.is_ok()
    }

    /// Whether somebody removed the table of sessions.
    pub(crate) fn lacks_sessions(&self) -> bool {
        !self.sessions.exists()
    }
}

/// The table of sessions that the last run left. One that cannot be read is an empty one, with the error beside it: its
/// connections are then unknown, and the caller says so.
pub(crate) fn sessions(path: &Path) -> (Sessions, Option<io::Error>) {
    let read = paths::read_path(path, MAX_SESSIONS_FILE);
    match read.and_then(|bytes| Ok(serde_json::from_slice::<Vec<Session>>(&bytes)?)) {
        Ok(live) => (Sessions::left(live), None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Sessions::default(), None),
        Err(error) => (Sessions::default(), Some(error)),
    }
}

/// The traces of connections that the last run left; what cannot be read is forgotten, and said.
pub(crate) fn traces(path: &Path) -> Traces {
    match paths::read_path(path, MAX_TRACES_FILE).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
        Ok(traces) => traces,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Traces::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what earlier connections may leave behind cannot be told to be theirs");
            Traces::default()
        }
    }
}

/// Keeps the traces of connections.
pub(crate) fn keep_traces(path: &Path, bytes: &[u8]) {
    if let Err(error) = paths::replace_path(path, bytes, 0o600, Durability::Volatile) {
        tracing::warn!(%error, "what connections may leave behind could not be written down");
    }
}

/// Notes a lockdown while the state is not read: why, and who asked for it.
pub(crate) fn note_lockdown(reason: &str, actor: Option<&Actor>) {
    let text = serde_json::to_vec(&(reason, actor)).expect("it has string keys only");
    if let Err(error) = paths::replace_path(Path::new(LOCKED_DOWN), &text, 0o600, Durability::Volatile) {
        tracing::error!(%error, "if the daemon stops before the disk can be read, the lockdown ends only the grants that are known now");
    }
}

/// The lockdown of a run that has not read its state.
pub(crate) fn lockdown_left() -> Option<(String, Option<Actor>)> {
    let bytes = match paths::read_path(Path::new(LOCKED_DOWN), MAX_LOCKED_DOWN) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        read => read.unwrap_or_default(),
    };
    // Whatever stands there, every grant ends.
    Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| ("a lockdown".to_owned(), None)))
}

#[cfg(test)]
mod tests {
    use lockdown_core::traces::MAX_TRACES;

    use super::*;

    #[test]
    fn traces_outlive_a_restart_however_many_there_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("traces.json");
        let trace = |audit| serde_json::json!({ "grant": "g-0000000000000001", "audit": audit });
        let all: Vec<_> = (0..MAX_TRACES).map(trace).collect();
        keep_traces(&path, &serde_json::to_vec(&all).expect("traces"));
        assert_eq!(traces(&path).audits().len(), MAX_TRACES);
    }
}
