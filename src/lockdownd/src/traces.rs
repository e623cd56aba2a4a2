//! Which audit sessions the connections of which grant had: what is found running later can so be told to be theirs.
//!
//! Kept in `/run/lockdownd/traces.json`, since an audit session means nothing after the boot. This room decides nothing.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use record::GrantId;
use serde::{Deserialize, Serialize};

use lockdown_host::paths::{self, read_path};

/// The most audit sessions that are remembered; past it the oldest is forgotten.
pub const MAX_TRACES: usize = 20_000;
/// The largest file that is read.
const MAX_FILE: u64 = 4 << 20;

/// One connection's trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trace {
    grant: GrantId,
    audit: u32,
}

/// Every trace, oldest first.
#[derive(Debug)]
pub struct Traces {
    path: PathBuf,
    all: Vec<Trace>,
}

impl Traces {
    /// Reads what the last run left; what cannot be read is forgotten, and said.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let all = match read_path(path, MAX_FILE).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
            Ok(all) => all,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what earlier connections may leave behind cannot be told to be theirs");
                Vec::new()
            }
        };
        Self { path: path.to_owned(), all }
    }

    /// Remembers a connection's audit session.
    pub fn add(&mut self, grant: &GrantId, audit: u32) {
        let trace = Trace { grant: grant.clone(), audit };
        if self.all.contains(&trace) {
            return;
        }
        if self.all.len() >= MAX_TRACES {
            self.all.remove(0);
        }
        self.all.push(trace);
        self.save();
    }

    /// The audit sessions of a grant's connections.
    #[must_use]
    pub fn of(&self, grant: &GrantId) -> BTreeSet<u32> {
        self.all.iter().filter(|trace| trace.grant == *grant).map(|trace| trace.audit).collect()
    }

    /// The grant whose connection had this audit session, the newest.
    #[must_use]
    pub fn grant_of(&self, audit: u32) -> Option<&GrantId> {
        self.all.iter().rev().find(|trace| trace.audit == audit).map(|trace| &trace.grant)
    }

    /// Every audit session.
    #[must_use]
    pub fn audits(&self) -> BTreeSet<u32> {
        self.all.iter().map(|trace| trace.audit).collect()
    }

    /// The grants that have any.
    #[must_use]
    pub fn grants(&self) -> BTreeSet<GrantId> {
        self.all.iter().map(|trace| trace.grant.clone()).collect()
    }

    /// Forgets those whose audit session nothing has any more; of a grant that `matters` still, the first one stays: it
    /// tells that the grant was used.
    pub fn keep(&mut self, audits: &BTreeSet<u32>, matters: impl Fn(&GrantId) -> bool) {
        let before = self.all.len();
        let mut told = BTreeSet::new();
        self.all.retain(|trace| {
            let tells = matters(&trace.grant) && told.insert(trace.grant.clone());
            audits.contains(&trace.audit) || tells
        });
        if self.all.len() < before {
            self.save();
        }
    }

    fn save(&self) {
        let bytes = serde_json::to_vec(&self.all).expect("traces have string keys only");
        if let Err(error) = paths::replace_path(&self.path, &bytes, 0o600, paths::Durability::Volatile) {
            tracing::warn!(%error, "what connections may leave behind could not be written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(number: u8) -> GrantId {
        format!("g-{number:016x}").parse().expect("an id")
    }

    #[test]
    fn traces_outlive_a_restart_and_go_with_what_had_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("traces.json");
        let mut traces = Traces::open(&path);
        traces.add(&grant(1), 7);
        traces.add(&grant(1), 8);
        traces.add(&grant(2), 9);
        traces.add(&grant(2), 9);
        let mut traces = Traces::open(&path);
        assert_eq!(traces.of(&grant(1)), BTreeSet::from([7, 8]));
        assert_eq!((traces.grant_of(9), traces.grant_of(10)), (Some(&grant(2)), None));
        traces.keep(&BTreeSet::from([8]), |id| *id == grant(2));
        assert_eq!(traces.grants(), BTreeSet::from([grant(1), grant(2)]), "it tells that the grant was used");
        traces.keep(&BTreeSet::from([8]), |_| false);
        let traces = Traces::open(&path);
        assert_eq!((traces.audits(), traces.grants()), (BTreeSet::from([8]), BTreeSet::from([grant(1)])));
    }

    #[test]
    fn past_the_bound_the_oldest_is_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut traces = Traces { path: dir.path().join("traces.json"), all: Vec::new() };
        let full = u32::try_from(MAX_TRACES).expect("a number");
        traces.all = (0..full).map(|audit| Trace { grant: grant(1), audit }).collect();
        traces.add(&grant(2), full);
        assert_eq!((traces.all.len(), traces.all[0].audit), (MAX_TRACES, 1));
        assert_eq!(Traces::open(&traces.path).all.len(), MAX_TRACES, "a full one can be read");
    }
}
