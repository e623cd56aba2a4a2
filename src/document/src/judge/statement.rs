//! Statements between client and server: who asks, who reads, and what the server says that its feed holds.

use record::{Fingerprint, Person, Stack};

use super::{Judge, Refusal, Subject};
use crate::{
    Body, Envelope, Feed, Grant, Key, Kind, Moment, Namespace, Nonce, Organization, Origin, RUN_LIFE, Run,
    SESSION_LIFE, Source, Who, roster::same_person, signers,
};

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRequest {
    /// Something else than a grant's line.
    #[error("a request is the line of a grant, and this is a {0}")]
    Kind(Kind),
    /// Not theirs.
    #[error("a request for {0} has to be signed by {0}, with a key that they log in with: `ssh-keygen -Y sign -n {ns}`", ns = Namespace::Request)]
    NotTheirs(Person),
    /// No host would accept it, whoever approves.
    #[error("no host would accept it, whoever approves: {0}")]
    Refused(Box<Refusal>),
    /// It could not be accepted at present.
    #[error("no host would accept it at present: {0}")]
    Waits(super::Wait),
}

/// Why nobody may read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSession {
    /// Something else.
    #[error("this is a {0}, and a session was asked for")]
    Kind(Kind),
    /// For another server, another organization or another challenge.
    #[error("it answers another challenge than this server's own: {0}")]
    Elsewhere(&'static str),
    /// Too old, or from the future.
    #[error(
        "it was made at {issued_at}, and it is {now} here; it is good for 60 s: ask for a new challenge, and look at both clocks"
    )]
    Time {
        /// When it was made.
        issued_at: Moment,
        /// What the clock says.
        now: Moment,
    },
    /// Unknown.
    #[error("no key of anybody in the roster has signed it")]
    Unknown,
    /// Held.
    #[error("{0} is held, and reads nothing")]
    Held(Person),
}

/// Why a feeder's word on a run is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRun {
    /// Something else.
    #[error("this is a {0}, and a run was asked for")]
    Kind(Kind),
    /// Another organization's.
    #[error("it is of {found}, and this is {own}")]
    Elsewhere {
        /// Whose it is.
        found: Organization,
        /// Whose it should be.
        own: Organization,
    },
    /// Too old, or from the future.
    #[error("it ended at {issued_at}, and it is {now} here; it is taken for 5 min: look at both clocks")]
    Time {
        /// When it ended.
        issued_at: Moment,
        /// What the clock says.
        now: Moment,
    },
    /// Not by its feeder.
    #[error("no feeder of {0} by the roster in force has signed it: lockdown roster edit, [[feeder]]")]
    Unknown(Source),
}

/// Why a statement about a feed is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFeed {
    /// Something else.
    #[error("this is a {0}, and a feed's statement was asked for")]
    Kind(Kind),
    /// About another feed.
    #[error("it is about another organization's or another stack's feed")]
    Elsewhere,
    /// Not by the server.
    #[error("none of the server's known keys has signed it: ship.api.receipt_keys names them")]
    Unknown,
}

impl Judge {
    /// Whether this is a request by the person whom the grant is for, which approvers could approve.
    ///
    /// # Errors
    /// [`NoRequest`].
    pub fn judge_request<'a>(&self, envelope: &'a Envelope, now: Moment) -> Result<&'a Grant, NoRequest> {
        let document = envelope.document();
        let Body::Grant(grant) = document.body() else { return Err(NoRequest::Kind(document.kind())) };
        let signers = self.book.signers(&self.settings, &self.place, envelope, Namespace::Request);
        let theirs = |who: &Who| matches!(who, Who::Login(person) if same_person(person, &grant.person));
        if !signers.iter().any(|signer| theirs(&signer.who)) {
            return Err(NoRequest::NotTheirs(grant.person.clone()));
        }
        let refused = |refusal| NoRequest::Refused(Box::new(refusal));
        let (found, own) = (document.organization(), &self.settings.organization);
        if found != own {
            return Err(refused(Refusal::Organization { found: found.clone(), own: own.clone() }));
        }
        match self.check_grant(grant, document.id(), &[], now) {
            // That nobody has approved it yet is what a request is.
            Ok(_) | Err(super::NotAccepted::Refused(Refusal::Approvals { .. })) => Ok(grant),
            Err(super::NotAccepted::Refused(refusal)) => Err(refused(refusal)),
            Err(super::NotAccepted::Waits(wait)) => Err(NoRequest::Waits(wait)),
            Err(super::NotAccepted::Known) => Ok(grant),
        }
    }

    /// Who answers the server's challenge with this: somebody who logs in or approves by the roster. That each nonce is
    /// taken once is for the server to see to.
    ///
    /// # Errors
    /// [`NoSession`].
    pub fn judge_session(
        &self,
        envelope: &Envelope,
        origin: &Origin,
        nonce: &Nonce,
        now: Moment,
    ) -> Result<Person, NoSession> {
        let document = envelope.document();
        let Body::Session(session) = document.body() else { return Err(NoSession::Kind(document.kind())) };
        if session.organization != self.settings.organization {
            return Err(NoSession::Elsewhere("the organization is another one"));
        }
        if session.origin != *origin {
            return Err(NoSession::Elsewhere("the origin is another server's"));
        }
        if session.nonce != *nonce {
            return Err(NoSession::Elsewhere("the nonce is not the one that was given"));
        }
        let issued_at = session.issued_at;
        if issued_at.since(now) > SESSION_LIFE || now.since(issued_at) > SESSION_LIFE {
            return Err(NoSession::Time { issued_at, now });
        }
        let signers = self.book.signers(&self.settings, &self.place, envelope, document.namespace());
        let known = signers.iter().find_map(|signer| match &signer.who {
            Who::Approver(person) | Who::Login(person) => Some((person, &signer.fingerprint)),
            Who::RosterKey(_) | Who::Feeder(_) | Who::Automatic => None,
        });
        let (person, key) = known.ok_or(NoSession::Unknown)?;
        let alone = [key.clone()].into();
        let held = self.is_held(person, key) || self.holds_back(Subject { person, fingerprints: &alone }).is_some();
        if held && !self.all_is_held() { Err(NoSession::Held(person.clone())) } else { Ok(person.clone()) }
    }

    /// What a feeder says of one look at its source. That it is newer than the one before is for the server to see to.
    ///
    /// # Errors
    /// [`NoRun`].
    pub fn judge_run<'a>(&self, envelope: &'a Envelope, now: Moment) -> Result<&'a Run, NoRun> {
        let document = envelope.document();
        let Body::Run(run) = document.body() else { return Err(NoRun::Kind(document.kind())) };
        let own = &self.settings.organization;
        if run.organization != *own {
            return Err(NoRun::Elsewhere { found: run.organization.clone(), own: own.clone() });
        }
        let issued_at = run.issued_at;
        if issued_at.since(now) > RUN_LIFE || now.since(issued_at) > RUN_LIFE {
            return Err(NoRun::Time { issued_at, now });
        }
        let signers = self.book.signers(&self.settings, &self.place, envelope, document.namespace());
        let feeds = |who: &Who| matches!(who, Who::Feeder(source) if *source == run.source);
        match signers.iter().any(|signer| feeds(&signer.who)) {
            true => Ok(run),
            false => Err(NoRun::Unknown(run.source.clone())),
        }
    }

    /// Whether what stands means everybody: then people may still read what that is.
    fn all_is_held(&self) -> bool {
        self.state.too_many_holds.is_some() || self.state.holds().any(|(_, closed)| closed.means_everybody())
    }
}

/// What one of these keys of the server says that its feed of this stack holds.
///
/// # Errors
/// [`NoFeed`].
pub fn judge_feed<'a>(
    envelope: &'a Envelope,
    organization: &Organization,
    stack: &Stack,
    keys: &[Key],
) -> Result<&'a Feed, NoFeed> {
    let document = envelope.document();
    let Body::Feed(feed) = document.body() else { return Err(NoFeed::Kind(document.kind())) };
    if feed.organization != *organization || feed.stack != *stack {
        return Err(NoFeed::Elsewhere);
    }
    let is_known = |fingerprint: &Fingerprint| keys.iter().any(|key| key.fingerprint() == fingerprint);
    if signers::valid(envelope, document.namespace(), is_known).is_empty() { Err(NoFeed::Unknown) } else { Ok(feed) }
}
