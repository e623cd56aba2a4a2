//! Taking up what was kept: everything is verified again, by the configuration of now.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Book, Judge, Mark, State,
    roster::{by_threshold, differs_only_in},
};
use crate::{Body, Checked, Envelope, Moment, Place, Refusal, Source, Version};

/// The envelopes of the rosters that a judge goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// The last one that the threshold signed.
    pub signed: Option<Envelope>,
    /// The one in force, where a key of `automatic` signed it.
    pub automatic: Option<Envelope>,
}

/// What was not taken up, and why: an operator is told, and it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// The state is of another organization.
    #[error("the state was of the organization {0}: it begins anew, and every grant from a document ends")]
    Organization(crate::Organization),
    /// The host is in another stack now.
    #[error("this host was in the stack {0}: every grant from a document ends, and the feed begins anew")]
    Stack(record::Stack),
    /// A table has more entries than are ever kept.
    #[error("the state is not one that this program writes: it begins anew, and every grant from a document ends")]
    Unbounded,
    /// The roster does not hold any more.
    #[error("roster {version} does not hold by the present configuration and is dropped with its version: {why}")]
    Roster {
        /// Its version.
        version: Version,
        /// Why not.
        why: Box<Refusal>,
    },
    /// The roster that was in force is not there, or another one is.
    #[error("the roster that was in force, version {0}, was not kept: publish it again, or a later one")]
    RosterMissing(Version),
}

impl Kept {
    pub(super) fn take(&mut self, envelope: &Envelope, automatic: bool) {
        if automatic {
            self.automatic = Some(envelope.clone());
        } else {
            *self = Self { signed: Some(envelope.clone()), automatic: None };
        }
    }

    fn envelope_in_force(&self) -> Option<&Envelope> {
        self.automatic.as_ref().or(self.signed.as_ref())
    }

    /// The id of the one in force.
    #[must_use]
    pub fn in_force(&self) -> Option<crate::Id> {
        self.envelope_in_force().map(|envelope| envelope.document().id())
    }
}

impl Judge {
    /// A judge that remembers nothing: for a new host, or one whose state is void. What a host does not remember refuses
    /// what was issued before; a server leaves that to the hosts.
    #[must_use]
    pub fn begin(settings: Checked, place: Place, now: Moment) -> Self {
        let mut state = State::begin(settings.organization.clone(), place.stack.clone(), now);
        if place.host.is_none() {
            state.closed_before = Moment::FIRST;
        }
        let book = Arc::new(Book::new(None, &place));
        Self { settings, place, state, book, rosters: Arc::default() }
    }

    /// A judge that goes on from what was kept, by the present configuration. Where something is dropped, grants are to
    /// be asked [`Judge::stands`] of again, and those of another organization or stack end.
    #[must_use]
    pub fn load(settings: Checked, place: Place, state: State, rosters: Kept, now: Moment) -> (Self, Vec<Dropped>) {
        let mut dropped = Vec::new();
        if state.organization != settings.organization {
            dropped.push(Dropped::Organization(state.organization.clone()));
        } else if !state.is_bounded() {
            dropped.push(Dropped::Unbounded);
        }
        if !dropped.is_empty() {
            return (Self::begin(settings, place, now), dropped);
        }
        let (book, rosters) = (Arc::new(Book::new(None, &place)), Arc::new(rosters));
        let mut judge = Self { settings, place, state, book, rosters };
        if judge.state.stack != judge.place.stack {
            dropped.push(Dropped::Stack(judge.state.stack.clone()));
            judge.state.move_to(judge.place.stack.clone(), now);
        }
        dropped.extend(judge.load_roster());
        (judge, dropped)
    }

    /// The same judge under another configuration, or with other people in it.
    #[must_use]
    pub fn reload(mut self, settings: Checked, place: Place, now: Moment) -> (Self, Vec<Dropped>) {
        // What depends on neither is as it was: verifying a large roster takes its time.
        if settings == self.settings && place == self.place && self.state.organization == self.settings.organization {
            self.state.tidy(now);
            return (self, Vec::new());
        }
        Self::load(settings, place, self.state, Arc::unwrap_or_clone(self.rosters), now)
    }

    fn load_roster(&mut self) -> Option<Dropped> {
        let Some(mark) = self.state.roster else {
            self.rosters = Arc::default();
            return None;
        };
        let dropped = match self.verify_rosters(mark) {
            Ok(Some(book)) => {
                self.book = Arc::new(book);
                self.learn_keys();
                return None;
            }
            Ok(None) => {
                self.state.miss_roster(mark);
                Dropped::RosterMissing(mark.version)
            }
            Err(why) => Dropped::Roster { version: mark.version, why: Box::new(why) },
        };
        self.state.roster = None;
        self.rosters = Arc::default();
        Some(dropped)
    }

    /// The book of the roster in force, if what was kept of it is whole and signed as it has to be.
    fn verify_rosters(&self, mark: Mark) -> Result<Option<Book>, Refusal> {
        let roster = |envelope: &Envelope| match envelope.document().body() {
            Body::Roster(roster) => Some(Arc::clone(roster)),
            _ => None,
        };
        let Some(in_force) = self.rosters.envelope_in_force().filter(|envelope| envelope.document().id() == mark.id)
        else {
            return Ok(None);
        };
        let Some(signed_envelope) = &self.rosters.signed else { return Ok(None) };
        let (Some(signed), Some(in_force_roster)) = (roster(signed_envelope), roster(in_force)) else {
            return Ok(None);
        };
        let by_all = Book::new(Some(Arc::clone(&signed)), &self.place);
        let own = &self.settings.organization;
        if signed.organization != *own {
            return Err(Refusal::Organization { found: signed.organization.clone(), own: own.clone() });
        }
        let min = self.settings.roster.min_version;
        if in_force_roster.version.number() < min {
            return Err(Refusal::BelowMinimum { version: in_force_roster.version, min });
        }
        let signers = |envelope: &Envelope| {
            by_all.signers(&self.settings, &self.place, envelope, envelope.document().namespace())
        };
        by_threshold(&self.settings, &signers(signed_envelope))?;
        if let Some(automatic) = &self.rosters.automatic {
            let signed_by_one = signers(automatic).iter().any(|signer| signer.who == crate::Who::Automatic);
            // Each automatic roster was held against the one before it when it was taken. Of those between, only the last
            // is kept, which may differ from the signed one in people of every source that has an automatic key.
            let feeders = signed.feeders.iter().filter(|feeder| self.settings.roster.automatic.contains(&feeder.key));
            let sources: BTreeSet<&Source> = feeders.map(|feeder| &feeder.source).collect();
            let bound = differs_only_in(&signed, &in_force_roster, &sources, &self.settings);
            let bound = if signed_by_one { bound } else { Err("no such key has signed it".to_owned()) };
            bound.map_err(Refusal::Automatic)?;
            return Ok(Some(Book::new(Some(in_force_roster), &self.place)));
        }
        Ok(Some(by_all))
    }
}
