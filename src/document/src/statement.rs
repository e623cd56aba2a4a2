//! What client and server state to each other: neither opens or closes anything.

use std::{collections::BTreeSet, time::Duration};

use record::{Hash, Stack};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Id, Malformed, Moment, Nonce, Organization, Origin, Reason, Source, Version,
    kind::{IsFeed, IsRun, IsSession, V1},
};

/// How long a signed challenge is good for, either way from when it was made.
pub const SESSION_LIFE: Duration = Duration::from_secs(60);

/// How long a feeder's word on a run is taken, either way from when it was made.
pub const RUN_LIFE: Duration = Duration::from_secs(300);
/// The most holds that a run names.
pub const MAX_RUN_HOLDS: usize = 100;

/// A client's answer to the server's challenge: who signs it may read for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// When it was made.
    pub issued_at: Moment,
    /// What the server gave; it takes each once.
    pub nonce: Nonce,
    /// Whose it is.
    pub organization: Organization,
    /// The server as the client reaches it, so that another server cannot pass it on.
    pub origin: Origin,
    /// `session`.
    #[serde(rename = "type")]
    pub kind: IsSession,
    /// 1.
    pub v: V1,
}

/// What the server's feed of a stack holds at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// How many documents it holds.
    pub count: u64,
    /// The head of their chain: see [`chain`].
    pub head: Hash,
    /// The moment.
    pub issued_at: Moment,
    /// Whose it is.
    pub organization: Organization,
    /// The stack.
    pub stack: Stack,
    /// `feed`.
    #[serde(rename = "type")]
    pub kind: IsFeed,
    /// 1.
    pub v: V1,
}

/// What a feeder found and did when it looked at its source once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The roster that its own key signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<Version>,
    /// Why it did not do all that it should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Reason>,
    /// The holds that it signed.
    pub holds: BTreeSet<Id>,
    /// When it ended.
    pub issued_at: Moment,
    /// Whose it is.
    pub organization: Organization,
    /// Of how many people the entry waits for somebody to sign it: who is new, changed or dropped.
    pub proposed: u64,
    /// What it looked at.
    pub source: Source,
    /// `run`.
    #[serde(rename = "type")]
    pub kind: IsRun,
    /// How many people are there.
    pub users: u64,
    /// 1.
    pub v: V1,
}

impl Run {
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        if self.holds.len() > MAX_RUN_HOLDS {
            let given = self.holds.len();
            return Err(Malformed::Shape(format!("it has {given} holds, and at most {MAX_RUN_HOLDS} are taken")));
        }
        if self.users > record::MAX_INTEGER || self.proposed > record::MAX_INTEGER {
            return Err(Malformed::shape("users or proposed is beyond 2^53-1"));
        }
        Ok(())
    }
}

impl Feed {
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        if self.count > record::MAX_INTEGER {
            return Err(Malformed::shape("count is beyond 2^53-1"));
        }
        if (self.count == 0) != (self.head == Hash::ZERO) {
            return Err(Malformed::shape("the head of an empty feed is 64 zeros, and of no other"));
        }
        Ok(())
    }
}

/// The head of a feed's chain once this document has joined it: the SHA-256 of the head before, which is 64 zeros at the
/// beginning, and the document's id, as 128 hex digits.
#[must_use]
pub fn chain(head: Hash, id: Id) -> Hash {
    let digest: [u8; 32] = Sha256::digest(format!("{head}{id}")).into();
    digest.into()
}
