//! A grant, and the hosts that a document names.

use std::{collections::BTreeSet, num::NonZeroU8, time::Duration};

use record::{Cidr, Fingerprint, Host, Person, Stack};
use serde::{Deserialize, Serialize};

use crate::{
    AccountName, Id, Malformed, Moment, Organization, Reason, Version,
    kind::{IsGrant, V1},
    names::ANY,
};

/// How long a grant can wait to be accepted after it was issued, at most.
pub const MAX_ACCEPTANCE: Duration = Duration::from_secs(24 * 3600);
/// The most keys that one grant names.
pub const MAX_GRANT_KEYS: usize = 32;
/// The most address ranges that one grant names.
pub const MAX_FROM: usize = 32;
/// The most lockdowns that one grant names.
pub const MAX_AFTER: usize = 64;

/// Permission for one person to log in to one account with their keys, until a set time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Until when a host may accept it: at most [`MAX_ACCEPTANCE`] after `issued_at`.
    pub accept_until: Moment,
    /// The account.
    pub account: AccountName,
    /// The covering lockdowns that its signers knew of.
    pub after: BTreeSet<Id>,
    /// How many approvals were needed when it was signed; a host takes the greater of this and its rule.
    pub approvals: Approvals,
    /// When it ends.
    pub expires_at: Moment,
    /// The keys that it opens for; a host takes those of them that are the person's.
    pub fingerprints: BTreeSet<Fingerprint>,
    /// From where; none means from anywhere.
    pub from: Vec<Cidr>,
    /// The hosts.
    pub hosts: Hosts,
    /// When it was made.
    pub issued_at: Moment,
    /// Whose it is.
    pub organization: Organization,
    /// Whom it is for.
    pub person: Person,
    /// Why.
    pub reason: Reason,
    /// The version of the roster by which it was made: a host with an older one waits.
    pub roster: Version,
    /// The stack.
    pub stack: Stack,
    /// When it begins: from `issued_at` to `accept_until`.
    pub starts_at: Moment,
    /// `grant`.
    #[serde(rename = "type")]
    pub kind: IsGrant,
    /// 1.
    pub v: V1,
}

impl Grant {
    /// How long it lasts.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.expires_at.since(self.starts_at)
    }

    pub(crate) fn check(&self) -> Result<(), Malformed> {
        let refuse = |what: &str| Err(Malformed::shape(what));
        if self.accept_until <= self.issued_at || self.accept_until.since(self.issued_at) > MAX_ACCEPTANCE {
            return refuse("accept_until has to be after issued_at, by 24 hours at most");
        }
        if self.starts_at < self.issued_at || self.starts_at > self.accept_until {
            return refuse("starts_at has to be from issued_at to accept_until");
        }
        if self.expires_at <= self.starts_at {
            return refuse("expires_at has to be after starts_at");
        }
        if !(1..=MAX_GRANT_KEYS).contains(&self.fingerprints.len()) {
            return refuse("fingerprints has to name 1 to 32 keys of the person");
        }
        if self.from.len() > MAX_FROM {
            return refuse("from may name 32 ranges of addresses at most");
        }
        if self.after.len() > MAX_AFTER {
            return refuse("after may name 64 lockdowns at most; lift what is over");
        }
        Ok(())
    }
}

/// A number of approvals: 1 to [`MAX_SIGNATURES`](crate::MAX_SIGNATURES).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Approvals(NonZeroU8);

/// Not a number of approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no number of approvals: 1 to {max} are, and 0 would open to anybody", max = crate::MAX_SIGNATURES)]
pub struct NotApprovals(u64);

impl Approvals {
    /// The number.
    #[must_use]
    pub fn number(self) -> usize {
        usize::from(self.0.get())
    }
}

impl TryFrom<u64> for Approvals {
    type Error = NotApprovals;
    fn try_from(number: u64) -> Result<Self, NotApprovals> {
        let small = u8::try_from(number).ok().filter(|n| usize::from(*n) <= crate::MAX_SIGNATURES);
        small.and_then(NonZeroU8::new).map(Self).ok_or(NotApprovals(number))
    }
}

impl From<Approvals> for u64 {
    fn from(approvals: Approvals) -> Self {
        Self::from(approvals.0.get())
    }
}

/// Which hosts of a stack: `["*"]` for all, or their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeSet<String>", into = "BTreeSet<String>")]
pub enum Hosts {
    /// All hosts.
    All,
    /// These.
    Named(BTreeSet<Host>),
}

impl Hosts {
    /// Whether this one is among them.
    #[must_use]
    pub fn include(&self, host: &Host) -> bool {
        match self {
            Self::All => true,
            Self::Named(hosts) => hosts.contains(host),
        }
    }
}

impl TryFrom<BTreeSet<String>> for Hosts {
    type Error = String;
    fn try_from(names: BTreeSet<String>) -> Result<Self, String> {
        if names.is_empty() {
            return Err("hosts is empty, which opens nothing: name them, or [\"*\"] for all of the stack".to_owned());
        }
        if names.len() == 1 && names.contains(ANY) {
            return Ok(Self::All);
        }
        let hosts: Result<_, _> = names.iter().map(|name| name.parse()).collect();
        hosts.map(Self::Named).map_err(|error: record::NameError| error.to_string())
    }
}

impl From<Hosts> for BTreeSet<String> {
    fn from(hosts: Hosts) -> Self {
        match hosts {
            Hosts::All => Self::from([ANY.to_owned()]),
            Hosts::Named(hosts) => hosts.into_iter().map(String::from).collect(),
        }
    }
}
