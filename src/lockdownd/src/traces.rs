//! The traces of connections, kept in `/run/lockdownd/traces.json`, so that they outlive a restart of the daemon.

use std::{
    collections::BTreeSet,
    io,
    ops::Deref,
    path::{Path, PathBuf},
};

use lockdown_core::traces::Traces;
use lockdown_host::paths::{self, read_path};
use record::GrantId;

/// The largest file that is read.
const MAX_FILE: u64 = 4 << 20;

/// The traces, and the file that they are in.
#[derive(Debug)]
pub struct TracesOnDisk {
    path: PathBuf,
    traces: Traces,
}

impl TracesOnDisk {
    /// Reads what the last run left; what cannot be read is forgotten, and said.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let traces = match read_path(path, MAX_FILE).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
            Ok(traces) => traces,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Traces::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what earlier connections may leave behind cannot be told to be theirs");
                Traces::default()
            }
        };
        Self { path: path.to_owned(), traces }
    }

    /// See [`Traces::add`].
    pub fn add(&mut self, grant: &GrantId, audit: u32) {
        if self.traces.add(grant, audit) {
            self.save();
        }
    }

    /// See [`Traces::keep`].
    pub fn keep(&mut self, audits: &BTreeSet<u32>, matters: impl Fn(&GrantId) -> bool) {
        if self.traces.keep(audits, matters) {
            self.save();
        }
    }

    /// Writes them again if somebody removed them: the next start goes by them.
    pub(crate) fn keep_file(&self) {
        if !self.path.exists() {
            self.save();
        }
    }

    fn save(&self) {
        let bytes = serde_json::to_vec(&self.traces).expect("traces have string keys only");
        if let Err(error) = paths::replace_path(&self.path, &bytes, 0o600, paths::Durability::Volatile) {
            tracing::warn!(%error, "what connections may leave behind could not be written down");
        }
    }
}

impl Deref for TracesOnDisk {
    type Target = Traces;
    fn deref(&self) -> &Traces {
        &self.traces
    }
}

#[cfg(test)]
mod tests {
    use lockdown_core::traces::MAX_TRACES;

    use super::*;

    #[test]
    fn traces_outlive_a_restart_however_many_there_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("traces.json");
        let grant: GrantId = "g-0000000000000001".parse().expect("an id");
        let all: Vec<_> = (0..MAX_TRACES).map(|audit| serde_json::json!({ "grant": grant, "audit": audit })).collect();
        let traces = serde_json::from_value(all.into()).expect("traces");
        TracesOnDisk { path: path.clone(), traces }.save();
        let mut traces = TracesOnDisk::open(&path);
        assert_eq!(traces.audits().len(), MAX_TRACES);
        traces.keep(&BTreeSet::from([7]), |_| false);
        traces.add(&grant, u32::MAX);
        assert_eq!(TracesOnDisk::open(&path).of(&grant), BTreeSet::from([7, u32::MAX]));
    }
}
