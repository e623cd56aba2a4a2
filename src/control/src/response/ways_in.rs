//! Every way in that an SSH login could take, and what closes each.

use serde::{Deserialize, Serialize};

use crate::Mode;

/// Whether a way lets anybody in who has no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayState {
    /// It does.
    Open,
    /// The server would; the login gate refuses.
    ClosedByGate,
    /// The server itself refuses.
    Closed,
}

impl WayState {
    /// The word as in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ClosedByGate => "closed_by_gate",
            Self::Closed => "closed",
        }
    }
}

/// One way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What kind of way, one word such as `password`.
    pub kind: String,
    /// Which server it leads through, as in [`Server::name`].
    pub server: String,
    /// For whom: `any account`, or the login that a `Match` block is about.
    pub whom: String,
    /// Whether it lets anybody in who has no grant.
    pub state: WayState,
    /// Whether it stands open on purpose: exempt accounts.
    pub wanted: bool,
    /// What was found, in one sentence.
    pub why: String,
    /// The one line that closes it; `None` where it is closed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closes: Option<String>,
}

/// One server that takes SSH connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// How a person would name it.
    pub name: String,
    /// Where it listens, as far as known.
    pub listens: Vec<String>,
}

/// The drop-in that closes ways in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Where it goes.
    pub path: String,
    /// What it would say; `None`: there is nothing that it could close.
    pub text: Option<String>,
    /// Whether it is in place, just so.
    pub installed: bool,
    /// Whether something is in its place that says something else.
    pub differs: bool,
}

/// Every way in, by server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaysInAnswer {
    /// The mode in force: in observe the gate closes nothing.
    pub mode: Mode,
    /// The servers that were found.
    pub servers: Vec<Server>,
    /// The ways.
    pub ways: Vec<Way>,
    /// How many more servers or ways there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
    /// What could lock an operator out, and what to do about it.
    pub warnings: Vec<String>,
    /// What lets people in without SSH, and is not looked at.
    pub not_covered: Vec<String>,
    /// The drop-in that closes what sshd's configuration leaves open.
    pub closing: Closing,
    /// What was changed, one sentence each.
    #[serde(default)]
    pub changed: Vec<String>,
}
