//! Which audit sessions the connections of which grant had: what is found running later can so be told to be theirs.
//!
//! An audit session means nothing after the boot. This room decides nothing.

use std::collections::BTreeSet;

use record::GrantId;
use serde::{Deserialize, Serialize};

/// The most audit sessions that are remembered; past it the oldest is forgotten.
pub const MAX_TRACES: usize = 20_000;

/// One connection's trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trace {
    grant: GrantId,
    audit: u32,
}

/// Every trace, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Traces(Vec<Trace>);

impl Traces {
    /// Remembers a connection's audit session; whether that is news.
    pub fn add(&mut self, grant: &GrantId, audit: u32) -> bool {
        let trace = Trace { grant: grant.clone(), audit };
        if self.0.contains(&trace) {
            return false;
        }
        if self.0.len() >= MAX_TRACES {
            self.0.remove(0);
        }
        self.0.push(trace);
        true
    }

    /// The audit sessions of a grant's connections.
    #[must_use]
    pub fn of(&self, grant: &GrantId) -> BTreeSet<u32> {
        self.0.iter().filter(|trace| trace.grant == *grant).map(|trace| trace.audit).collect()
    }

    /// The grant whose connection had this audit session, the newest.
    #[must_use]
    pub fn grant_of(&self, audit: u32) -> Option<&GrantId> {
        self.0.iter().rev().find(|trace| trace.audit == audit).map(|trace| &trace.grant)
    }

    /// Every audit session.
    #[must_use]
    pub fn audits(&self) -> BTreeSet<u32> {
        self.0.iter().map(|trace| trace.audit).collect()
    }

    /// The grants that have any.
    #[must_use]
    pub fn grants(&self) -> BTreeSet<GrantId> {
        self.0.iter().map(|trace| trace.grant.clone()).collect()
    }

    /// Forgets those whose audit session nothing has any more; of a grant that `matters` still, the first one stays: it
    /// tells that the grant was used. Whether any was forgotten.
    pub fn keep(&mut self, audits: &BTreeSet<u32>, matters: impl Fn(&GrantId) -> bool) -> bool {
        let before = self.0.len();
        let mut told = BTreeSet::new();
        self.0.retain(|trace| {
            let tells = matters(&trace.grant) && told.insert(trace.grant.clone());
            audits.contains(&trace.audit) || tells
        });
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(number: u8) -> GrantId {
        format!("g-{number:016x}").parse().expect("an id")
    }

    #[test]
    fn traces_go_with_what_had_them() {
        let mut traces = Traces::default();
        assert!(traces.add(&grant(1), 7) && traces.add(&grant(1), 8) && traces.add(&grant(2), 9));
        assert!(!traces.add(&grant(2), 9));
        assert_eq!(traces.of(&grant(1)), BTreeSet::from([7, 8]));
        assert_eq!((traces.grant_of(9), traces.grant_of(10)), (Some(&grant(2)), None));
        assert!(traces.keep(&BTreeSet::from([8]), |id| *id == grant(2)));
        assert_eq!(traces.grants(), BTreeSet::from([grant(1), grant(2)]), "it tells that the grant was used");
        assert!(traces.keep(&BTreeSet::from([8]), |_| false));
        assert_eq!((traces.audits(), traces.grants()), (BTreeSet::from([8]), BTreeSet::from([grant(1)])));
        assert!(!traces.keep(&BTreeSet::from([8]), |_| false));
    }

    #[test]
    fn past_the_bound_the_oldest_is_forgotten() {
        let full = u32::try_from(MAX_TRACES).expect("a number");
        let mut traces = Traces((0..full).map(|audit| Trace { grant: grant(1), audit }).collect());
        traces.add(&grant(2), full);
        assert_eq!((traces.0.len(), traces.0[0].audit), (MAX_TRACES, 1));
    }
}
