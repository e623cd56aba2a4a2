//! Judging: what becomes of a document on this host, by what it knows, the document and the time. No I/O, no clock.
//!
//! Daemon and server judge by this one code, whichever way a document came. Everything is checked before anything is
//! kept: `check` of each kind of document takes the judge as it is, and what it answers is all that is then changed.

mod book;
mod closed;
mod closing;
mod grant;
mod lift;
mod load;
mod outcome;
mod roster;
mod stands;
mod state;
mod statement;
mod words;

pub use closed::{Closed, SaidBefore, Subject, Taken};
pub use load::{Dropped, Kept};
pub use outcome::{Accepted, Ended, Judged, LostKey, Refusal, RosterTaken, Terms, Verdict, Wait};
pub use roster::MAX_AUTOMATIC_AHEAD;
pub use stands::OpenGrant;
pub use state::{
    CLOCK_SKEW, LOCKDOWN_REFUSES, MAX_FEEDER_HOLDS, MAX_HELD_KEYS, MAX_HOLDS, MAX_LOCKDOWNS, MAX_REMEMBERED,
    MAX_REVOKES, MAX_SPENT, Mark, REVOKE_KEPT, State,
};
pub use statement::{NoFeed, NoRequest, NoRun, NoSession, judge_feed};

use std::sync::Arc;

use record::{Fingerprint, Person};

use self::book::Book;
use crate::{Body, Checked, Envelope, Id, Key, Lockdown, Moment, Place, Roster, Signer, Who, roster::same_person};

/// What a host knows, and all that it decides about documents. A copy shares the roster, which can be large.
#[derive(Debug, Clone)]
pub struct Judge {
    settings: Checked,
    place: Place,
    state: State,
    book: Arc<Book>,
    /// The envelope of the roster in force, and of the last one that the threshold signed, where that is another.
    rosters: Arc<Kept>,
}

/// Either it is accepted, with what is to be kept, or it is not.
type Checking<T> = Result<T, NotAccepted>;

/// Why something is not accepted.
#[derive(Debug, Clone)]
enum NotAccepted {
    Known,
    Waits(Wait),
    Refused(Refusal),
}

impl From<Wait> for NotAccepted {
    fn from(wait: Wait) -> Self {
        Self::Waits(wait)
    }
}

impl From<Refusal> for NotAccepted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NotAccepted> for Verdict {
    fn from(not: NotAccepted) -> Self {
        match not {
            NotAccepted::Known => Self::Known,
            NotAccepted::Waits(wait) => Self::Waits(wait),
            NotAccepted::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Judge {
    /// What it remembers, to be kept on disk after each document that was accepted.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The envelopes of its rosters, to be kept beside the state.
    #[must_use]
    pub fn rosters(&self) -> &Kept {
        &self.rosters
    }

    /// Shares the roster of another judge of the same configuration, where both have the same one in force: a server that
    /// judges for many stacks has it in memory once.
    pub fn share_roster(&mut self, other: &Self) {
        let same = self.state.roster == other.state.roster
            && self.rosters == other.rosters
            && self.place.people == other.place.people
            && self.settings == other.settings;
        if same {
            (self.book, self.rosters) = (Arc::clone(&other.book), Arc::clone(&other.rosters));
        }
    }

    /// The roster in force.
    #[must_use]
    pub fn roster(&self) -> Option<&Roster> {
        self.book.roster.as_deref()
    }

    /// What the host knows of itself.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The configuration that it goes by.
    #[must_use]
    pub fn settings(&self) -> &Checked {
        &self.settings
    }

    /// The keys of people who close by themselves: for rosters, and approvers'. What they close is urgent.
    #[must_use]
    pub fn closers(&self) -> Vec<Key> {
        let for_rosters = self.settings.roster.keys.iter().map(|entry| &entry.key);
        let approving =
            self.book.roster.iter().flat_map(|roster| &roster.approvers).flat_map(|approver| &approver.keys);
        let closes = |key: &&Key| !self.settings.deny_keys.contains(key.fingerprint());
        for_rosters.chain(approving).filter(closes).cloned().collect()
    }

    /// Keys that entries of the roster lose, since they belong to people of the host's own configuration.
    #[must_use]
    pub fn lost_keys(&self) -> &[LostKey] {
        self.book.lost()
    }

    /// Who logs in with this key by the roster. One that is another's by the configuration is nobody's here.
    #[must_use]
    pub fn person_of(&self, key: &Fingerprint) -> Option<&Person> {
        self.book.person_of(key)
    }

    /// What is remembered may be of an earlier day, as after a disk was put back: no grant from before now is taken. What closes
    /// stays.
    pub fn begin_again(&mut self, now: Moment) {
        self.state.begin_again(now);
    }

    /// See [`State::miss_roster`].
    pub fn miss_roster(&mut self, mark: Mark) {
        self.state.miss_roster(mark);
    }

    /// A grant that was accepted never was in force, and will not be: it may be accepted again.
    pub fn take_back(&mut self, grant: Id) {
        self.state.accepted.remove(&grant);
    }

    /// Judges a document, and keeps what was accepted. First it forgets what cannot matter any more: if the clock was wrong
    /// before, what is left behind then still refuses what was to be refused.
    pub fn judge(&mut self, envelope: &Envelope, now: Moment) -> Judged {
        self.state.tidy(now);
        let document = envelope.document();
        let (id, kind) = (document.id(), document.kind());
        let signers = self.book.signers(&self.settings, &self.place, envelope, document.namespace());
        let verdict = match self.judge_signed(envelope, &signers, now) {
            Ok(accepted) => Verdict::Accepted(accepted),
            Err(not) => not.into(),
        };
        Judged { id, kind, signers, verdict }
    }

    fn judge_signed(&mut self, envelope: &Envelope, signers: &[Signer], now: Moment) -> Checking<Accepted> {
        let document = envelope.document();
        let (found, own) = (document.organization(), &self.settings.organization);
        if found != own {
            return Err(Refusal::Organization { found: found.clone(), own: own.clone() }.into());
        }
        let id = document.id();
        match document.body() {
            Body::Roster(roster) => {
                let automatic = self.check_roster(roster, id, signers)?;
                Ok(Accepted::Roster(self.take_roster(envelope, roster, automatic)))
            }
            Body::Grant(grant) => {
                let terms = self.check_grant(grant, id, signers, now)?;
                self.state.remember(id, grant);
                Ok(Accepted::Grant(Box::new(terms)))
            }
            Body::Revoke(revoke) => {
                let taken = self.check_revoke(revoke, envelope, signers, now)?;
                let was_known = self.state.accepted.contains_key(&revoke.grant);
                self.state.revoke(revoke.grant, taken);
                Ok(Accepted::Revoke { grant: revoke.grant, was_known })
            }
            Body::Lockdown(lockdown) => {
                let checked = self.check_lockdown(lockdown, id, envelope, signers, now);
                // What no feeder can sign is somebody else's, brought with a feeder's signature: it is still to come.
                if let Err(NotAccepted::Refused(Refusal::Feeder { .. })) = &checked
                    && let (Some(person), None) = (&lockdown.person, &lockdown.fingerprint)
                    && !self.state.is_passed(id)
                {
                    self.state.pass(id, Some(person));
                }
                let closed = checked?;
                let (here, hold) = (closed.is_here(&self.place.stack), closed.hold);
                self.state.lock_down(id, closed);
                Ok(Accepted::Lockdown { here, hold })
            }
            Body::Lift(lift) => {
                let taken = self.check_lift(lift, signers, now)?;
                self.state.lift(lift.lockdown, taken);
                Ok(Accepted::Lift { lockdown: lift.lockdown })
            }
            Body::Session(_) | Body::Feed(_) | Body::Run(_) => Err(Refusal::NotForHosts(document.kind()).into()),
        }
    }

    /// A lockdown by the host's own schedule or operator: grants issued before it, by the host's clock, are refused.
    pub fn lock_down_locally(&mut self, now: Moment) {
        self.state.lock_down_locally(now);
    }

    /// Forgets what cannot matter any more. [`Judge::judge`] does so with each document.
    pub fn tidy(&mut self, now: Moment) {
        self.state.tidy(now);
    }

    /// See [`State::clock_was_ahead`].
    pub fn clock_was_ahead(&mut self, now: Moment) {
        self.state.clock_was_ahead(now);
    }

    /// Why nobody can be given anything by a document at present, whatever it says.
    fn opens_nothing(&self) -> Option<NotAccepted> {
        if self.state.too_many_holds.is_some() {
            return Some(Refusal::TooManyHolds.into());
        }
        self.unknown_hold().map(|id| Wait::HoldUnknown(id).into())
    }

    /// Whether this lockdown came, and whom it holds here is known: it stands, is over, or holds nobody here by itself.
    #[must_use]
    pub fn knows_hold(&self, id: Id) -> bool {
        self.state.knows(id) || self.state.is_beyond(id) || self.state.is_passed(id)
    }

    /// What a feeder said before that says all of this: its hold of the same person, which stands. For a server: hosts take both, in
    /// whatever order they and a lift come.
    #[must_use]
    pub fn said_before(&self, lockdown: &Lockdown, signers: &[Signer]) -> Option<SaidBefore> {
        let mut sources = Vec::new();
        for signer in signers {
            match &signer.who {
                Who::Feeder(source) => sources.push(source),
                Who::RosterKey(_) | Who::Approver(_) => return None,
                Who::Automatic | Who::Login(_) => {}
            }
        }
        sources.into_iter().find_map(|source| self.state.said_before(source, lockdown))
    }

    /// A lockdown that stands by the roster, and whose document has not come.
    fn unknown_hold(&self) -> Option<Id> {
        let holds = self.book.roster.iter().flat_map(|roster| &roster.holds);
        holds.copied().find(|id| !self.knows_hold(*id))
    }

    /// A lockdown that stands by the roster, of which a feeder's signature came and no other: it holds nobody here, and it is not
    /// known that it was the feeder's own. So nothing is opened to whom it names.
    fn doubtful_hold(&self, person: &Person) -> Option<Id> {
        let holds = self.book.roster.iter().flat_map(|roster| &roster.holds);
        let is_it = |id: &Id| self.state.passed_for.get(id).is_some_and(|named| same_person(named, person));
        holds.copied().find(|id| is_it(id) && !self.state.knows(*id))
    }

    /// Whether a hold names this person, or this key: then their signature only closes.
    fn is_held(&self, person: &Person, key: &Fingerprint) -> bool {
        let alone = [key.clone()].into();
        self.state.holds().any(|(_, closed)| self.is_named(closed, person, key))
            || self.held_source(&self.book.target(Subject { person, fingerprints: &alone })).is_some()
    }

    /// The same of holds that people signed, and not a feeder alone.
    fn is_held_by_people(&self, person: &Person, key: &Fingerprint) -> bool {
        let mut holds = self.state.holds().filter(|(_, closed)| closed.source.is_none());
        holds.any(|(_, closed)| self.is_named(closed, person, key))
    }

    /// Whether a lockdown names this person, or this key.
    fn is_named(&self, closed: &Closed, person: &Person, key: &Fingerprint) -> bool {
        let alone = [key.clone()].into();
        closed.names(&self.book.target(Subject { person, fingerprints: &alone }))
    }
}
