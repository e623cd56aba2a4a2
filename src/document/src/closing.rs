//! What takes access away, and what ends that again.

use record::{Fingerprint, Person};
use serde::{Deserialize, Serialize};

use crate::{
    Hosts, Id, Malformed, Moment, Organization, Reason, StackPattern,
    kind::{IsLift, IsLockdown, IsRevoke, V1},
};

/// A grant ends, or never begins. The answer "no" to a request is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The grant.
    pub grant: Id,
    /// When it was made.
    pub issued_at: Moment,
    /// Whose it is.
    pub organization: Organization,
    /// Why.
    pub reason: Reason,
    /// `revoke`.
    #[serde(rename = "type")]
    pub kind: IsRevoke,
    /// 1.
    pub v: V1,
}

/// Every grant in its scope ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lockdown {
    /// Only grants that use this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// Whether what is in scope stays closed until a lift.
    pub hold: bool,
    /// Only on these hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Hosts>,
    /// When it was made.
    pub issued_at: Moment,
    /// Whose it is.
    pub organization: Organization,
    /// Only grants of this person, whatever the keys, and grants that use a key of theirs, whoever it is for. With
    /// `fingerprint`, both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    /// Why.
    pub reason: Reason,
    /// The stack, or every stack.
    pub stack: StackPattern,
    /// `lockdown`.
    #[serde(rename = "type")]
    pub kind: IsLockdown,
    /// 1.
    pub v: V1,
}

impl Lockdown {
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        match self.hosts {
            Some(Hosts::All) => Err(Malformed::shape("hosts of a lockdown are named; without it all hosts are meant")),
            _ => Ok(()),
        }
    }
}

/// A lockdown does not hold any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lift {
    /// When it was made.
    pub issued_at: Moment,
    /// The lockdown.
    pub lockdown: Id,
    /// Whose it is.
    pub organization: Organization,
    /// Why.
    pub reason: Reason,
    /// `lift`.
    #[serde(rename = "type")]
    pub kind: IsLift,
    /// 1.
    pub v: V1,
}
