//! A grant: permission for one person to log in to one account with their keys until a set time.
//!
//! Its end is a [`Deadline`], judged by two clocks at once.

use std::{collections::BTreeSet, fmt};

use control::Cidr;
use document::LoginWith;
use jiff::Timestamp;
use record::{Account, Actor, Fingerprint, GrantId, Person};
use serde::{Deserialize, Serialize};

use super::time::{Deadline, Now};
use crate::{config::Demand, keys::person::PersonKey};

/// On whose word a grant stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// An operator asked through `lockdownctl`.
    Operator {
        /// Who.
        actor: Actor,
    },
    /// A `[[grant]]` in the configuration.
    Config {
        /// Where it stands: file and line.
        place: String,
        /// SHA-256 of its terms: a rendered grant that was revoked stays so until its content changes.
        content: String,
    },
    /// A document that approvers have signed.
    Document(Box<FromDocument>),
}

/// What a grant has of the document that it came by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromDocument {
    /// Its id.
    pub document: document::Id,
    /// Who approved it, and counted.
    pub approvers: Vec<Person>,
    /// The keys that it opens for: those that were approved and are still the person's.
    pub keys: Vec<PersonKey>,
    /// With what the person has to log in: each of these.
    pub login_with: BTreeSet<LoginWith>,
    /// Lockdowns that do not end it.
    pub after: BTreeSet<document::Id>,
    /// When it was issued, by its signers' clock.
    pub issued_at: document::Moment,
}

impl Origin {
    /// The digest of a rendered grant's terms.
    #[must_use]
    pub fn content(&self) -> Option<&str> {
        match self {
            Self::Config { content, .. } => Some(content),
            Self::Operator { .. } | Self::Document(_) => None,
        }
    }

    /// The document that it came by.
    #[must_use]
    pub fn document(&self) -> Option<&FromDocument> {
        match self {
            Self::Document(from) => Some(from),
            Self::Operator { .. } | Self::Config { .. } => None,
        }
    }
}

/// Why a grant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Its time was over.
    Expired,
    /// Somebody revoked it.
    Revoked,
    /// A lockdown ended it.
    Lockdown,
    /// The configuration no longer backs it: the grant, the person, their permission for the account, or the account is gone.
    Config,
    /// The host is not the one it was given on.
    Identity,
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Lockdown => "lockdown",
            Self::Config => "config",
            Self::Identity => "identity",
        })
    }
}

/// A grant's end, once it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub cause: EndCause,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// One sentence that a person can read.
    pub reason: String,
    /// Who ended it, where somebody did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<Actor>,
    /// Whether its `grant.ended` record is on disk.
    pub recorded: bool,
}

/// Permission for one person to log in to one account with their keys, until a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who may log in.
    pub person: Person,
    /// To which account.
    pub account: Account,
    /// The account's user id when the grant was given: a login of the same name made anew is another account.
    pub uid: u32,
    /// Where from; empty: from anywhere. (An empty list of *people* or *accounts* means nobody; sshd's `from=` is a
    /// restriction that is either there or not.)
    pub from: Vec<Cidr>,
    /// Why it was given.
    pub reason: String,
    /// On whose word.
    pub origin: Origin,
    /// When it was given: `max_duration` counts from here.
    pub created_at: Timestamp,
    /// When it begins.
    pub starts_at: Timestamp,
    /// When it ends.
    pub ends: Deadline,
    /// The latest end that `max_duration` lets any extension reach.
    pub ceiling: Deadline,
    /// Whether its `grant.created` record is on disk: it has no effect before.
    pub recorded: bool,
    /// How it ended; absent while it has not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<End>,
}

/// Where a grant stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its beginning is still to come.
    Waiting,
    /// It lets its person in.
    Active,
    /// It is over, or has ended.
    Over,
}

impl Grant {
    /// Where it stands now. Only [`Standing::Active`] lets anybody in.
    #[must_use]
    pub fn standing(&self, now: Now) -> Standing {
        if self.end.is_some() || self.ends.has_passed(now) {
            Standing::Over
        } else if !self.recorded || now.wall < self.starts_at {
            Standing::Waiting
        } else {
            Standing::Active
        }
    }

    /// Whether it lets its person in now.
    #[must_use]
    pub fn is_active(&self, now: Now) -> bool {
        self.standing(now) == Standing::Active
    }

    /// Whether a key of its person's opens it. Only approved keys open a grant from a document.
    #[must_use]
    pub fn opens_for(&self, key: &Fingerprint) -> bool {
        self.origin.document().is_none_or(|from| from.keys.iter().any(|own| own.fingerprint() == *key))
    }

    /// What it asks for beside what its account requires.
    #[must_use]
    pub fn demand(&self) -> Demand {
        let login_with = self.origin.document().into_iter().flat_map(|from| &from.login_with);
        login_with.fold(Demand::default(), |demand, with| demand.and(Demand::of(*with)))
    }

    /// Whether it has not ended: its time may be over all the same, until a pass has ended it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }
}
