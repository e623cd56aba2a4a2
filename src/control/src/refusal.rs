//! Why the daemon refused a request, and the exit status that each refusal maps to.

use serde::{Deserialize, Serialize};

/// A request that was not done: what is wrong, and what would have worked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[must_use = "a refusal that nobody tells is a silent failure"]
pub struct Refusal {
    /// The kind of refusal, for programs.
    pub code: RefusalCode,
    /// One sentence: what was refused and why.
    pub message: String,
    /// One sentence: what would have worked or what to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// Further lines, one thing each: every obstacle that stands in the way, every account that would have worked.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub details: Vec<String>,
}

impl Refusal {
    /// A refusal with its one sentence and nothing else yet.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, details: Vec::new() }
    }

    /// Adds what would have worked.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds one more line.
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// What `lockdownctl` exits with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.code.exit()
    }
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The request is not one that this daemon understands, or breaks a bound.
    Malformed,
    /// The peer may not ask this: not an operator, no live granted session of their own, or a grant to themselves.
    NotPermitted,
    /// No such person in the configuration.
    UnknownPerson,
    /// No such account on the host.
    UnknownAccount,
    /// The person may not be given this account.
    AccountNotGranted,
    /// No account was named, and the person may have several or none.
    WhichAccount,
    /// The account is exempt: nobody is granted leave to it.
    ExemptAccount,
    /// The duration or the moments asked for do not fit the configured bounds.
    BadTime,
    /// A reason is required.
    ReasonRequired,
    /// The person has no usable key, or one of their keys is claimed by another person too.
    NoKey,
    /// Such a limit as the most grants at one time is reached.
    LimitReached,
    /// No such grant, or no active grant of that person.
    UnknownGrant,
    /// No such live session.
    UnknownSession,
    /// No such item in quarantine, or one of which only the hash was kept.
    UnknownItem,
    /// The item cannot be put back now: something stands in its place, or the account is gone.
    CannotRestore,
    /// Enforce is refused until the obstacles in `details` are out of the way.
    NotReady,
    /// It would change nothing, and saying "done" would mislead.
    NothingToDo,
    /// The ledger cannot take a record now, so nothing that needs one first was done.
    LedgerUnavailable,
    /// The configuration does not check out.
    BadConfig,
    /// The daemon is starting, stopping, or has too much to do: ask again.
    Unavailable,
    /// Something failed on the host.
    Failed,
}

impl RefusalCode {
    /// What `lockdownctl` exits with.
    #[must_use]
    pub fn exit(self) -> Exit {
        match self {
            Self::Malformed => Exit::Usage,
            Self::Unavailable => Exit::Unavailable,
            Self::BadConfig => Exit::Config,
            _ => Exit::Refused,
        }
    }
}

/// Exit status, after sysexits.h(3head) where that has a word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Refused, or found wrong.
    Refused = 1,
    /// The command itself is wrong.
    Usage = 2,
    /// The daemon does not answer (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// The configuration is bad (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
