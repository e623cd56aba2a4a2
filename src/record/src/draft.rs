//! A statement on its way to becoming a record: what happened, before the ledger adds where it stands in the sequence.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Account, ArtifactType, Fingerprint, GrantId, Person, SessionId};

/// Where a connection came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// The peer's address; absent where sshd had none to tell (a local socket).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<IpAddr>,
    /// The peer's port.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
}

/// Who caused something, as far as known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The user id that asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The audit login uid: who logged in, whatever `su` and `sudo` came after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub login_uid: Option<u32>,
    /// The person whose session it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<Person>,
    /// The program that asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe: Option<String>,
    /// Its process id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
}

/// What is to be recorded. The ledger adds `v`, `ledger`, `seq`, `host`, `stack`, `boot`, `time`, `prev` and `signature`.
///
/// `reason`, `actor.exe` and every string in `detail` are *raw* here: escaping happens once, in [`Draft::bodies`], when
/// the ledger makes the record of it. Text that came as bytes (file names, key comments, log fields) goes in through
/// [`outside`](crate::outside), which keeps bytes that are not UTF-8; never through [`escape`](crate::escape).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a draft states nothing until the ledger has appended it"]
pub struct Draft {
    /// What kind of thing this states.
    pub kind: ArtifactType,
    /// The person it concerns.
    pub person: Option<Person>,
    /// The account it concerns.
    pub account: Option<Account>,
    /// The grant it concerns.
    pub grant: Option<GrantId>,
    /// The session it concerns.
    pub session: Option<SessionId>,
    /// The key it concerns.
    pub fingerprint: Option<Fingerprint>,
    /// Where the connection came from.
    pub source: Option<Source>,
    /// Who caused it.
    pub actor: Option<Actor>,
    /// One sentence that a person can read.
    pub reason: String,
    /// What else there is to say, by type. Keys are fixed words `[a-z0-9_]+`, never data.
    pub detail: Map<String, Value>,
}

impl Draft {
    /// A statement of this type with its one sentence, and nothing else yet.
    pub fn new(kind: ArtifactType, reason: impl Into<String>) -> Self {
        Self {
            kind,
            person: None,
            account: None,
            grant: None,
            session: None,
            fingerprint: None,
            source: None,
            actor: None,
            reason: reason.into(),
            detail: Map::new(),
        }
    }

    /// Adds one field to `detail`. Integers beyond ±(2^53−1) will stand there as strings of their digits; floats are refused.
    /// `part`, `parts` and `left_out` are kept for statements in parts.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.detail.insert(key.to_owned(), value.into());
        self
    }

    /// The same where there is something to add.
    pub fn with_some(self, key: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}
