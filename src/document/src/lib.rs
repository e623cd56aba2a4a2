//! What an approver signs, and every check of it: one library for daemon, server and client.
//!
//! A [`Document`] is one line of canonical JSON. An [`Envelope`] carries it with its signatures, which anybody may
//! deliver. A [`Judge`] says what becomes of it on a host. `docs/DOCUMENTS.md` is the format.
//!
//! This library never does I/O and never reads a clock: time and bytes come in as arguments.

mod closing;
mod document;
mod envelope;
mod grant;
mod id;
pub mod judge;
mod key;
mod kind;
mod malformed;
mod moment;
mod names;
pub mod roster;
mod settings;
pub mod signature;
mod signers;
mod statement;

pub use closing::{Lift, Lockdown, Revoke};
pub use document::{Body, Document, MAX_DOCUMENT, MAX_ROSTER, MAX_ROSTER_STRINGS};
pub use envelope::{Envelope, MAX_ENVELOPE, MAX_ROSTER_ENVELOPE, MAX_SIGNATURE, MAX_SIGNATURES, Sealed};
pub use grant::{Approvals, Grant, Hosts, MAX_ACCEPTANCE, MAX_AFTER, MAX_FROM, MAX_GRANT_KEYS, NotApprovals};
pub use id::Id;
pub use judge::{
    Accepted, Ended, Judge, Judged, MAX_FEEDER_HOLDS, MAX_HOLDS, MAX_REMEMBERED, OpenGrant, Refusal, State, Subject,
    Verdict, Wait,
};
pub use key::{APPLICATION, Key, KeyError, MAX_KEY, MAX_SIGNING_RSA_BITS, MIN_RSA_BITS, MIN_SIGNING_RSA_BITS, Unfit};
pub use kind::{IsFeed, IsGrant, IsLift, IsLockdown, IsRevoke, IsRoster, IsRun, IsSession, Kind, Namespace, V1};
pub use malformed::Malformed;
pub use moment::{Moment, NotAMoment};
pub use names::{
    ANY, AccountName, AccountPattern, IamArn, IamName, MAX_ARN, MAX_NAME, MAX_ORIGIN, MAX_REASON, Nonce, Organization,
    Origin, Reason, Source, StackPattern, Version,
};
pub use roster::{ApproveWith, Approver, Feeder, IamUser, LoginWith, Member, Roster, Rule};
pub use settings::{
    Checked, DEFAULT_MAX_SILENCE, LocalPerson, MAX_DENY_KEYS, MAX_ROSTER_KEYS, Place, RosterKey, RosterTrust, Settings,
    SettingsError, WhenSilent,
};
pub use signature::{Device, Invalid, Valid};
pub use signers::{Signer, Who, different_people};
pub use statement::{Feed, MAX_RUN_HOLDS, RUN_LIFE, Run, SESSION_LIFE, Session, chain};
