//! All that may be asked of lockdownd, as one enum, with its answers, the framing of both and a blocking client.
//!
//! One connection to [`SOCKET`] carries one [`Request`] and one [`Response`], each a frame of [`frame`].
//! This library knows nothing of the daemon's insides: it decides nothing, keeps nothing and reads no clock.

mod client;
pub mod frame;
pub mod gate;
mod refusal;
mod request;
mod response;

pub use client::{ANSWER_TIMEOUT, Client, ClientError};
pub use record::{Cidr, CidrError, DurationError, MAX_DURATION, format_duration, parse_duration};
pub use refusal::{Exit, Refusal, RefusalCode};
pub use request::{
    Allow, Apply, CheckError, DEFAULT_RECORDS, Enforce, FormerlyExempt, Grants, Lockdown, MAX_DURATION_SECS, MAX_FROM,
    MAX_QUARANTINE_ID, MAX_REASON, MAX_RECORDS, MAX_RECORDS_BYTES, MAX_TARGET, MIN_DURATION_SECS, Quarantined, Records,
    Request, Revoke, Target, WaysIn,
};
pub use response::{
    AllowedAnswer, Answer, ApplyAnswer, ApplyOutcome, BreakGlassAnswer, BreakGlassView, Change, ChangeKind, Closing,
    ConfigSource, ConfigState, EffectiveEnd, EndCause, EndView, EndWhy, EnforceAnswer, FeedView, GrantLine, GrantState,
    GrantView, GrantsAnswer, KeyView, LedgerState, LeftRunning, LockdownAnswer, Mode, Origin, PeopleAnswer, PersonLine,
    PersonView, PlanAnswer, Problem, QuarantineAnswer, QuarantineDetail, QuarantineItem, RecordsAnswer, ReloadAnswer,
    RequiredView, Response, RestoreAnswer, RetiredAnswer, RevokeAnswer, RosterView, Server, SessionKind, SessionView,
    SessionsAnswer, Severity, SinkState, StackView, Status, WaitingDocument, Way, WayState, WaysInAnswer,
    encode_response,
};

/// Where lockdownd listens for operators. Anybody may connect: each request is judged by who asks.
pub const SOCKET: &str = "/run/lockdownd/control.sock";

/// The group whose members are operators, besides root and the people whom the configuration marks as such.
pub const OPERATORS: &str = "lockdown-operators";
