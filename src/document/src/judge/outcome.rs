//! What becomes of a document, in sentences that an operator can act on.

use std::{collections::BTreeSet, time::Duration};

use record::{Cidr, Fingerprint, Host, Person, Stack};

use crate::{
    AccountName, ApproveWith, Id, Key, Kind, LoginWith, Moment, Organization, Reason, Signer, Source, StackPattern,
    Version,
};

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Judged {
    /// Its id.
    pub id: Id,
    /// What kind it is.
    pub kind: Kind,
    /// Everybody known whose signature holds, whatever became of it: where this is empty, anybody can have sent it.
    pub signers: Vec<Signer>,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is in force from now on, and is to be kept before it opens anything.
    Accepted(Accepted),
    /// It was accepted before; nothing changes.
    Known,
    /// It may be accepted later: offer it again after the next change, or in a while.
    Waits(Wait),
    /// It never will be.
    Refused(Refusal),
}

/// What is in force now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// This roster; what it no longer backs ends.
    Roster(RosterTaken),
    /// This grant.
    Grant(Box<Terms>),
    /// This grant ends, or never begins.
    Revoke {
        /// The grant.
        grant: Id,
        /// Whether it had been accepted here.
        was_known: bool,
    },
    /// What is in scope ends.
    Lockdown {
        /// Whether this host is in its scope.
        here: bool,
        /// Whether it stays until a lift.
        hold: bool,
    },
    /// This lockdown does not hold any more.
    Lift {
        /// The lockdown.
        lockdown: Id,
    },
}

/// A roster that is in force now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterTaken {
    /// Its version.
    pub version: Version,
    /// Whether a key of `automatic` was enough.
    pub automatic: bool,
    /// Keys that its entries lose, since they belong to a person of the host's own configuration.
    pub lost: Vec<LostKey>,
}

/// A key that the roster and the host's configuration both name: it is the configuration's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostKey {
    /// The key.
    pub fingerprint: Fingerprint,
    /// Whose it is by the roster: a person, or the source of a feeder.
    pub by_roster: String,
    /// Whose it is by the configuration.
    pub owner: Person,
}

/// A grant as this host understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Whom it is for.
    pub person: Person,
    /// The account.
    pub account: AccountName,
    /// The keys that open: named by the grant and the person's here.
    pub keys: BTreeSet<Key>,
    /// When it begins.
    pub starts_at: Moment,
    /// When it ends.
    pub expires_at: Moment,
    /// From where; none means from anywhere.
    pub from: Vec<Cidr>,
    /// Why.
    pub reason: Reason,
    /// With what the person has to log in: each of these.
    pub login_with: BTreeSet<LoginWith>,
    /// Who approved, and counted.
    pub approvers: Vec<Signer>,
    /// How many were needed.
    pub needed: usize,
    /// Lockdowns that do not end it.
    pub after: BTreeSet<Id>,
}

/// Why it cannot be accepted yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wait {
    /// No roster.
    #[error("this host has no roster yet: publish one that the keys in [[stack.roster.key]] have signed")]
    NoRoster,
    /// The roster here is older than the one the grant was made by.
    #[error("it was made by roster {wanted}, and this host has {held}: it waits for that roster")]
    RosterBehind {
        /// What the grant names.
        wanted: Version,
        /// What is here.
        held: Version,
    },
    /// The roster is over.
    #[error("roster {version} expired at {at} and opens nothing any more: sign and publish a new one")]
    RosterExpired {
        /// Its version.
        version: Version,
        /// When.
        at: Moment,
    },
    /// This host's clock is behind.
    #[error("it was issued at {issued_at}, and this host's clock says {now}: one of the two clocks is wrong")]
    FromTheFuture {
        /// When it was issued.
        issued_at: Moment,
        /// What the clock says.
        now: Moment,
    },
    /// The roster says that a lockdown stands that has not come yet.
    #[error(
        "the roster says that lockdown {0} stands, and that document has not come yet, so nobody knows whom it holds: send it, or sign a roster without it"
    )]
    HoldUnknown(Id),
    /// A lift came before its lockdown.
    #[error("the lockdown {0} that it lifts has not come yet")]
    LockdownUnknown(Id),
    /// Signed, but by nobody whom this host knows.
    #[error(
        "its signatures hold, and none of them is by a key that this host knows for this: it waits for a newer roster"
    )]
    SignerUnknown,
    /// A feeder holds somebody who is not of its source.
    #[error(
        "{person} is not in this host's roster as of the source {source_of}, whose feeder holds them: it waits for a roster that says so"
    )]
    NotOfSource {
        /// Who.
        person: Person,
        /// Whose people the feeder may hold.
        source_of: crate::Source,
    },
    /// An approver of other stacks.
    #[error(
        "{person} signed it, who approves for other stacks than {stack}: it waits for a roster that says otherwise, or for another approver's signature"
    )]
    Stacks {
        /// Who.
        person: Person,
        /// What it is for.
        stack: StackPattern,
    },
}

/// Why it is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A statement, which no host acts on.
    #[error("a {0} opens and closes nothing; hosts take rosters, grants, revokes, lockdowns and lifts")]
    NotForHosts(Kind),
    /// Another organization's.
    #[error("it is of the organization {found}, and this host belongs to {own}")]
    Organization {
        /// Whose it is.
        found: Organization,
        /// Whose this host is.
        own: Organization,
    },
    /// Another stack's.
    #[error("it is for the stack {found}, and this host is in {own}")]
    Stack {
        /// Which it names.
        found: Stack,
        /// Where this host is.
        own: Stack,
    },
    /// Other hosts'.
    #[error("it names other hosts than {0}: name this one too, or [\"*\"]")]
    Host(Host),
    /// `["*"]` means hosts that were there.
    #[error(
        "it is for every host of the stack that was there at {issued_at}, and the state of this one began at {began}: sign a new one"
    )]
    HostIsNewer {
        /// When it was issued.
        issued_at: Moment,
        /// When the state began.
        began: Moment,
    },
    /// From before what this host remembers.
    #[error(
        "it was issued at {issued_at}; this host knows what was revoked and locked down from {from} on only, and takes no grant from before: sign a new one"
    )]
    BeforeState {
        /// When it was issued.
        issued_at: Moment,
        /// From when on grants are taken.
        from: Moment,
    },
    /// From before a lockdown of this host alone.
    #[error("it was issued at {issued_at}, and this host was locked down at {at}: sign a new one, after {from}")]
    BeforeLocalLockdown {
        /// When it was issued.
        issued_at: Moment,
        /// When it was locked down.
        at: Moment,
        /// From when on grants are taken.
        from: Moment,
    },
    /// Over before it came.
    #[error("it had to be accepted until {accept_until}, and it is {now}: sign a new one")]
    TooLate {
        /// Until when.
        accept_until: Moment,
        /// What the clock says.
        now: Moment,
    },
    /// It has ended.
    #[error("it ended at {expires_at}, and it is {now}")]
    Over {
        /// When it ended.
        expires_at: Moment,
        /// What the clock says.
        now: Moment,
    },
    /// Whether it was accepted before is forgotten.
    #[error(
        "whether it was accepted before is not known any more: grants to be accepted until {forgotten_until} are forgotten here. Sign a new one with a later accept_until"
    )]
    Forgotten {
        /// Up to which `accept_until`.
        forgotten_until: Moment,
    },
    /// Too many others are remembered that have longer to go.
    #[error("{max} grants that can be accepted for longer are remembered here, and that is the bound: sign a new one later", max = crate::MAX_REMEMBERED)]
    Full,
    /// It was revoked.
    #[error("it was revoked")]
    Revoked,
    /// A lockdown that its signers did not know of.
    #[error("lockdown {0} covers it, and it does not name it in `after`: sign a new one that does")]
    LockedDown(Id),
    /// A hold.
    #[error("lockdown {0} holds what it would open: it takes a lift of that, and then a new grant")]
    Held(Id),
    /// Holds were lost for want of room.
    #[error(
        "{max} holds stand here, more came, and so everything is held: lift what is over, then sign a roster whose `holds` names those that stand", max = crate::MAX_HOLDS
    )]
    TooManyHolds,
    /// Holds of a feeder's were lost for want of room.
    #[error(
        "{max} holds by the feeder of {0} stand here, more came, and so all its people are held: lift what is over, then sign a roster", max = crate::MAX_FEEDER_HOLDS
    )]
    TooManyOf(Source),
    /// Nobody of that name.
    #[error("there is no {person} in roster {version}, nor in this host's configuration")]
    UnknownPerson {
        /// Who.
        person: Person,
        /// By which roster.
        version: Version,
    },
    /// Not that account.
    #[error("{person} may not be given {account} on the stack {stack}: {may}")]
    Account {
        /// Who.
        person: Person,
        /// What.
        account: AccountName,
        /// Where.
        stack: Stack,
        /// What they may be given.
        may: String,
    },
    /// None of its keys is the person's.
    #[error("none of the keys that it names is one of {0}'s on this host: sign a new one with their present keys")]
    NoKeys(Person),
    /// None of the keys is in a device.
    #[error("the account needs a key in a security device, and none of the keys that it names is one of {0}'s")]
    NoHardware(Person),
    /// No rule.
    #[error("no rule in roster {version} fits {account} on the stack {stack}, so nobody can be given it")]
    NoRule {
        /// What.
        account: AccountName,
        /// Where.
        stack: Stack,
        /// By which roster.
        version: Version,
    },
    /// Too long.
    #[error("it lasts {} s, and the rule allows {} s: sign a shorter one", .given.as_secs(), .most.as_secs())]
    TooLong {
        /// How long it lasts.
        given: Duration,
        /// What the rule allows.
        most: Duration,
    },
    /// Not enough people.
    #[error(
        "{counted} of {needed} different people whose approval counts have signed it{}; with {with}. Signatures by the person it is for, by who is held, by denied keys and by who may not approve this do not count", Names(.by)
    )]
    Approvals {
        /// How many count.
        counted: usize,
        /// How many are needed.
        needed: usize,
        /// With what they have to sign.
        with: ApproveWith,
        /// Who counts.
        by: Vec<Person>,
    },
    /// Nobody who may has signed it.
    #[error("nobody who may sign a {kind} here has signed it: {who}")]
    NotSigned {
        /// What it is.
        kind: Kind,
        /// Who may.
        who: &'static str,
    },
    /// Not enough people for a roster.
    #[error(
        "{counted} of {needed} different people of [[stack.roster.key]] have signed the roster; signatures by keys in deny_keys do not count"
    )]
    Threshold {
        /// How many count.
        counted: usize,
        /// How many are needed.
        needed: usize,
    },
    /// An automatic key went too far.
    #[error(
        "a key of stack.roster.automatic signed it alone, and may not: {0}; the keys in [[stack.roster.key]] can sign it"
    )]
    Automatic(String),
    /// Lower than the configuration allows.
    #[error("it is roster {version}, and stack.roster.min_version is {min}")]
    BelowMinimum {
        /// Its version.
        version: Version,
        /// What is asked for.
        min: u64,
    },
    /// A lower version than the one here.
    #[error("it is roster {version}, and this host has {held} already: versions never go back")]
    Rollback {
        /// Its version.
        version: Version,
        /// What is here.
        held: Version,
    },
    /// The same version twice. An incident.
    #[error(
        "there are two rosters with the version {version}, both signed: {held} is in force here. Find out who signed the other one, and sign a roster with a higher version"
    )]
    OtherBytes {
        /// The version.
        version: Version,
        /// The one here.
        held: Id,
    },
    /// A feeder went too far.
    #[error("a feeder for {source_} may hold one person of that source, and name nothing else: {what}", source_ = .source_of)]
    Feeder {
        /// Whose people it feeds.
        source_of: crate::Source,
        /// What it tried.
        what: &'static str,
    },
}

impl Refusal {
    /// Whether somebody should come: what it shows cannot happen by mistake alone.
    #[must_use]
    pub fn is_incident(&self) -> bool {
        matches!(self, Self::OtherBytes { .. })
    }
}

/// Names in a sentence.
struct Names<'a>(&'a [Person]);

impl std::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, person) in self.0.iter().enumerate() {
            write!(f, "{} {person}", if n == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// Why a grant does not stand any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It was revoked.
    #[error("it was revoked")]
    Revoked,
    /// A lockdown covers it.
    #[error("lockdown {0} ended it")]
    LockedDown(Id),
    /// A hold covers it.
    #[error("lockdown {0} holds it")]
    Held(Id),
    /// Holds were lost for want of room.
    #[error("more holds came than can be kept, and so everything is held")]
    TooManyHolds,
    /// Holds of a feeder's were lost for want of room.
    #[error("more holds by the feeder of {0} came than can be kept, and so all its people are held")]
    TooManyOf(Source),
    /// No roster.
    #[error("there is no roster any more by which it could stand")]
    NoRoster,
    /// The person is gone.
    #[error("{0} is not in the roster any more")]
    Person(Person),
    /// The account is gone.
    #[error("{0} may not be given {1} any more")]
    Account(Person, AccountName),
    /// The keys are gone.
    #[error("none of its keys is one of {0}'s any more")]
    Keys(Person),
}
