//! Whether a grant that was given still stands. Asked of each open one after every document that was accepted, after a
//! reload, and of grants from anywhere before they are given.

use std::collections::BTreeSet;

use record::{Fingerprint, Person};

use super::{Ended, Judge, Subject, closed::Target};
use crate::{AccountName, Id, Moment, Source};

/// A grant from a document that has been accepted here and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenGrant {
    /// The document's id.
    pub id: Id,
    /// Whom it is for.
    pub person: Person,
    /// The account.
    pub account: AccountName,
    /// The keys that it still opens for.
    pub fingerprints: BTreeSet<Fingerprint>,
    /// Lockdowns that do not end it.
    pub after: BTreeSet<Id>,
    /// When it was issued.
    pub issued_at: Moment,
}

impl Judge {
    /// The keys for which a grant from a document still stands; once one is gone, it stays so.
    ///
    /// Approvals are judged once, at acceptance: that an approver has left ends nothing.
    ///
    /// # Errors
    /// [`Ended`]: it ends now.
    pub fn stands(&self, grant: &OpenGrant, now: Moment) -> Result<BTreeSet<Fingerprint>, Ended> {
        if self.state.revoked.contains_key(&grant.id) {
            return Err(Ended::Revoked);
        }
        let subject = Subject { person: &grant.person, fingerprints: &grant.fingerprints };
        if let Some(ended) = self.holds_back(subject) {
            return Err(ended);
        }
        let target = self.book.target(subject);
        let ending = self.state.covering(now).find(|(id, closed)| {
            closed.covers(&self.place.stack, &target) && closed.ends(**id, &grant.after, grant.issued_at, now)
        });
        if let Some((id, _)) = ending {
            return Err(Ended::LockedDown(*id));
        }
        if self.book.roster.is_none() {
            return Err(Ended::NoRoster);
        }
        let person = || grant.person.clone();
        let entry = self.book.entry(&self.place, &grant.person).ok_or_else(|| Ended::Person(person()))?;
        if !entry.may_have(&grant.account, &self.place.stack) {
            return Err(Ended::Account(person(), grant.account.clone()));
        }
        let left = entry.keys.iter().map(|key| key.fingerprint()).filter(|key| grant.fingerprints.contains(*key));
        let left: BTreeSet<Fingerprint> = left.cloned().collect();
        if left.is_empty() { Err(Ended::Keys(person())) } else { Ok(left) }
    }

    /// What holds a grant back, wherever it comes from: a document, `lockdownctl`, or the host's configuration.
    #[must_use]
    pub fn holds_back(&self, grant: Subject<'_>) -> Option<Ended> {
        if self.state.too_many_holds.is_some() {
            return Some(Ended::TooManyHolds);
        }
        let target = self.book.target(grant);
        let held = self.state.holds().find(|(_, closed)| closed.covers(&self.place.stack, &target));
        let source = || self.held_source(&target).map(|source| Ended::TooManyOf(source.clone()));
        held.map(|(id, _)| Ended::Held(*id)).or_else(source)
    }

    /// The source of somebody whom this names, where more holds of its feeders came than can be kept.
    pub(super) fn held_source(&self, target: &Target<'_>) -> Option<&Source> {
        let person = target.subject.person.as_str().to_ascii_lowercase();
        let mut sources = target.owners.iter().chain([&person]).filter_map(|name| self.book.source_of(name));
        sources.find(|source| self.state.too_many_of.contains_key(*source))
    }

    /// Whether this lockdown, which has just been accepted, ends a grant that came from no document: those that were
    /// there before it.
    #[must_use]
    pub fn ends_local(&self, lockdown: Id, grant: Subject<'_>) -> bool {
        let closed = self.state.lockdowns.get(&lockdown);
        closed.is_some_and(|closed| closed.covers(&self.place.stack, &self.book.target(grant)))
    }
}
