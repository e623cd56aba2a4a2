//! What closes, as it is remembered, and whom it is about.

use std::collections::BTreeSet;

use record::{Fingerprint, Host, Person, Stack};
use serde::{Deserialize, Serialize};

use super::state::{CLOCK_SKEW, MAX_HELD_KEYS};
use crate::{Id, Key, Lockdown, Moment, Source, StackPattern, roster::same_person};

/// What says already all that a feeder's hold would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaidBefore {
    /// Another hold of the same person.
    By(Id),
    /// More of its source than can be kept: all of its people are held.
    ByTooMany,
}

/// When something was taken, and when it was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// By the host's clock.
    pub at: Moment,
    /// By the clock of who signed it.
    pub issued_at: Moment,
}

impl Taken {
    /// When it was issued, as far as that can be: by a signer's clock that is ahead even of now, it is when it was taken.
    fn issued(self, now: Moment) -> Moment {
        if self.issued_at <= now.after(CLOCK_SKEW) { self.issued_at } else { self.at }
    }

    /// From when on no grant can have been meant, also where the host's clock was behind when it was taken.
    pub(super) fn covers_until(self, now: Moment) -> Moment {
        self.at.max(self.issued(now)).after(CLOCK_SKEW)
    }
}

/// A lockdown that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// When.
    pub taken: Taken,
    /// Which stacks.
    pub stack: StackPattern,
    /// Whether it names this host, or no hosts.
    pub this_host: bool,
    /// Whose grants.
    pub person: Option<Person>,
    /// Which key's grants.
    pub fingerprint: Option<Fingerprint>,
    /// Whether it stays until a lift.
    pub hold: bool,
    /// Whose feeder alone signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The keys that the person was ever seen to have here.
    pub keys: BTreeSet<Fingerprint>,
    /// When it was lifted. It then refuses what was issued before that, as it had ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted: Option<Taken>,
}

/// A grant as far as what closes it is concerned, wherever it came from.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Whom it is for.
    pub person: &'a Person,
    /// The keys that it opens for.
    pub fingerprints: &'a BTreeSet<Fingerprint>,
}

/// The same, with everybody who has one of the keys, in lower case.
pub(super) struct Target<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) owners: BTreeSet<String>,
}

impl Closed {
    pub(super) fn of(lockdown: &Lockdown, host: Option<&Host>, keys: BTreeSet<Fingerprint>, now: Moment) -> Self {
        let mut closed = Self {
            taken: Taken { at: now, issued_at: lockdown.issued_at },
            stack: lockdown.stack.clone(),
            this_host: lockdown.hosts.as_ref().is_none_or(|hosts| host.is_some_and(|host| hosts.include(host))),
            person: lockdown.person.clone(),
            fingerprint: lockdown.fingerprint.clone(),
            hold: lockdown.hold,
            source: None,
            keys: BTreeSet::new(),
            lifted: None,
        };
        closed.learn(keys.iter());
        closed
    }

    /// Notes keys of the person whom it names.
    pub(super) fn learn<'a>(&mut self, keys: impl IntoIterator<Item = &'a Fingerprint>) {
        for key in keys {
            if self.keys.len() < MAX_HELD_KEYS {
                self.keys.insert(key.clone());
            }
        }
    }

    /// Whether this host is in its scope.
    #[must_use]
    pub fn is_here(&self, stack: &Stack) -> bool {
        self.this_host && self.stack.fits(stack)
    }

    /// Whether it holds: until a lift.
    #[must_use]
    pub fn is_hold(&self) -> bool {
        self.hold && self.lifted.is_none()
    }

    /// Whether it names nobody and no key: then it means everybody.
    #[must_use]
    pub fn means_everybody(&self) -> bool {
        self.person.is_none() && self.fingerprint.is_none()
    }

    /// Whether it names this person, or one of these keys, or somebody who has or had one of them.
    pub(super) fn names(&self, target: &Target<'_>) -> bool {
        let named = self.person.as_ref();
        named.is_some_and(|named| same_person(named, target.subject.person))
            || named.is_some_and(|named| target.owners.contains(&named.as_str().to_ascii_lowercase()))
            || target
                .subject
                .fingerprints
                .iter()
                .any(|key| self.fingerprint.as_ref() == Some(key) || self.keys.contains(key))
    }

    /// Whether a grant on this host is in its scope.
    pub(super) fn covers(&self, stack: &Stack, target: &Target<'_>) -> bool {
        self.is_here(stack) && (self.means_everybody() || self.names(target))
    }

    /// Whether it ends, and refuses, a grant of its scope from a document that was issued then and names these.
    pub(super) fn ends(&self, id: Id, after: &BTreeSet<Id>, issued_at: Moment, now: Moment) -> bool {
        match self.lifted {
            _ if self.is_hold() => true,
            _ if after.contains(&id) => false,
            Some(lifted) => issued_at < lifted.issued(now),
            None => true,
        }
    }
}

/// The fingerprints of keys.
pub(super) fn fingerprints<'a>(keys: impl IntoIterator<Item = &'a Key>) -> BTreeSet<Fingerprint> {
    keys.into_iter().map(|key| key.fingerprint().clone()).collect()
}
