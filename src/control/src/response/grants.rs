//! Grants as they are shown, and what became of a request to give or end some.

use jiff::Timestamp;
use record::{Account, Actor, GrantId, Person};
use serde::{Deserialize, Serialize};

use crate::{Cidr, SessionView};

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// Its id.
    pub id: GrantId,
    /// Who.
    pub person: Person,
    /// To which account.
    pub account: Account,
    /// Where in its life it is.
    pub state: GrantState,
    /// When it was given.
    pub created_at: Timestamp,
    /// When it begins, or began.
    pub starts_at: Timestamp,
    /// When it expires by itself.
    pub expires_at: Timestamp,
    /// From which addresses only; empty: from anywhere.
    pub from: Vec<Cidr>,
    /// Why it was given.
    pub reason: Option<String>,
    /// On whose word.
    pub origin: Origin,
    /// How it ended; `None`: it has not.
    pub end: Option<EndView>,
}

/// Where in its life a grant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// Begins later.
    Waiting,
    /// In force.
    Active,
    /// Over.
    Ended,
}

/// On whose word a grant stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An operator asked for it.
    Operator(Actor),
    /// The configuration renders it.
    Config {
        /// The file it stands in.
        file: String,
        /// The line it begins at, from 1.
        line: Option<u64>,
    },
    /// Approvers signed a document.
    Document {
        /// Its id.
        document: String,
        /// Who.
        approvers: Vec<Person>,
    },
}

/// How a grant ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndView {
    /// By what.
    pub why: EndWhy,
    /// When.
    pub at: Timestamp,
    /// In whose words, where somebody gave any.
    pub reason: Option<String>,
}

/// By what a grant ended; the words of `grant.ended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndWhy {
    /// Its time was over.
    Expired,
    /// An operator revoked it.
    Revoked,
    /// A lockdown.
    Lockdown,
    /// The configuration no longer allows it.
    Config,
    /// The ledger's identity no longer matches the machine.
    Identity,
}

/// A grant was given or extended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedAnswer {
    /// The grant as it stands now.
    pub grant: GrantView,
    /// Whether an existing grant was extended.
    pub extended: bool,
    /// When it really ends, and why then.
    pub ends: EffectiveEnd,
    /// What else the operator should know: that the host only observes, that the person has a live session already.
    pub notes: Vec<String>,
}

/// When a grant really ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveEnd {
    /// When.
    pub at: Timestamp,
    /// Why then.
    pub cause: EndCause,
}

/// Why a grant ends when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// As was asked.
    Asked,
    /// Nothing was asked: `grants.default_duration`.
    DefaultDuration,
    /// A scheduled lockdown comes first.
    ScheduledLockdown,
    /// It had a later end already, which asking for less does not shorten.
    AlreadyLater,
}

/// Grants were revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeAnswer {
    /// Those that ended.
    pub grants: Vec<GrantView>,
    /// The sessions that are being ended with them.
    pub sessions: Vec<SessionView>,
    /// How many more there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
    /// What else the operator should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A process that somebody's connection, or their account, started, and that goes on after their grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftRunning {
    /// Whose grant it was.
    pub person: Person,
    /// On which account.
    pub account: Account,
    /// The process.
    pub pid: u32,
    /// Its program, where it is known.
    #[serde(default)]
    pub program: Option<String>,
    /// By what it was started; a word of `grant.ended`.
    pub by: String,
}

/// A lockdown ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockdownAnswer {
    /// The grants that ended.
    pub grants: Vec<GrantView>,
    /// The sessions that are being ended.
    pub sessions: Vec<SessionView>,
    /// How many more there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
    /// What goes on of what these and earlier grants left running (`sessions.left_behind = "record"`).
    #[serde(default)]
    pub left_running: Vec<LeftRunning>,
    /// How many more processes go on than are named.
    #[serde(default)]
    pub more_left_running: u64,
    /// What else the operator should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Grants, the active first, then the waiting, then the ended, each by when they end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantsAnswer {
    /// The grants.
    pub grants: Vec<GrantView>,
    /// When the next scheduled lockdown ends every one that lasts longer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_lockdown: Option<Timestamp>,
    /// How many more there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
}
