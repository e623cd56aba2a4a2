//! How the daemon and its host stand.

use jiff::Timestamp;
use record::{Account, Host, LedgerId, Person, Stack};
use serde::{Deserialize, Serialize};

use crate::StackView;

/// Whether the daemon acts on what it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Sees and records, changes nothing, lets everybody pass.
    Observe,
    /// Acts.
    Enforce,
}

impl Mode {
    /// The word as in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What is in force now.
    pub mode: Mode,
    /// When a trial of enforce goes back by itself; `None`: no trial is on.
    pub trial_until: Option<Timestamp>,
    /// What the configuration says.
    pub configured_mode: Mode,
    /// The host's name in records.
    pub host: Host,
    /// The stack it belongs to.
    pub stack: Option<Stack>,
    /// The daemon's version.
    pub version: String,
    /// The version of OpenSSH on the host, such as `OpenSSH 9.2`; `None`: not found.
    pub openssh: Option<String>,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// The configuration in force.
    pub config: ConfigState,
    /// How many accounts are watched.
    pub accounts: u64,
    /// Sources of accounts in nsswitch.conf(5), besides `files`, that cannot be listed: of those only accounts that the
    /// configuration, a grant or a session names are watched.
    #[serde(default)]
    pub not_enumerated: Vec<String>,
    /// Accounts that are never locked down.
    pub exempt: Vec<Account>,
    /// How many persons the configuration knows.
    pub people: u64,
    /// Where the people and the grants of the configuration stand, file by file.
    #[serde(default)]
    pub sources: Vec<ConfigSource>,
    /// How many people and grants `sources` leaves off.
    #[serde(default)]
    pub sources_left_off: u64,
    /// How many grants are in force now.
    pub active_grants: u64,
    /// When the first of them ends.
    #[serde(default)]
    pub next_end: Option<Timestamp>,
    /// How many grants begin later.
    pub waiting_grants: u64,
    /// How many live sessions are known, whatever their kind.
    pub sessions: u64,
    /// Those of them that nobody is known to have opened, or that no grant backs.
    #[serde(default)]
    pub unattributed_sessions: u64,
    /// Those of them on exempt accounts.
    #[serde(default)]
    pub emergency_sessions: u64,
    /// How many ways in are open to logins without a grant; `None`: that is being looked at.
    #[serde(default)]
    pub ways_open: Option<u64>,
    /// How many removed files are kept.
    pub quarantined: u64,
    /// What stands in the way of enforce; in enforce: what has broken since, which is among `problems` too.
    pub obstacles: Vec<String>,
    /// Where the ledger stands; `None` while the daemon could not open it since its start.
    pub ledger: Option<LedgerState>,
    /// Everything that an operator should act on, `failing`, `refused` and what broke in enforce included.
    pub problems: Vec<Problem>,
    /// When the last sweep ended.
    pub last_sweep: Option<Timestamp>,
    /// When the next one is due.
    pub next_sweep: Option<Timestamp>,
    /// When the next scheduled lockdown is due; `None`: none is scheduled.
    pub next_lockdown: Option<Timestamp>,
    /// Where records are shipped to, and how far they have got; empty: nowhere.
    #[serde(default)]
    pub shipping: Vec<SinkState>,
    /// How it stands with its stack; `None`: no document is accepted.
    #[serde(default)]
    pub documents: Option<StackView>,
}

/// One place that records are shipped to. All but `name`, `to` and `acknowledged` is what the shipper says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState {
    /// `syslog` or `api`.
    pub name: String,
    /// Its address or URL.
    pub to: String,
    /// The shipper's word for how it stands; `None`: the shipper says nothing.
    pub state: Option<String>,
    /// Up to which record it was sent.
    pub sent: u64,
    /// How many records wait to be sent.
    pub waiting: u64,
    /// Since when they wait.
    pub since: Option<Timestamp>,
    /// Why they wait.
    pub why: Option<String>,
    /// Whether the server has enrolled this host's key, in its word.
    pub enrolment: Option<String>,
    /// Up to which record the server has acknowledged everything, as the daemon has checked by its receipt; `None`: such a
    /// place acknowledges nothing.
    pub acknowledged: Option<u64>,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// When it came into force.
    pub loaded_at: Timestamp,
    /// SHA-256 of what is in force, in hex.
    pub hash: String,
    /// Whether it is the last good one because the files on disk were refused.
    pub last_good: bool,
    /// Why the files on disk were refused, with file, line and column; `None`: they are in force.
    pub refused: Option<String>,
}

/// Who and what stands in one file of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSource {
    /// The file.
    pub file: String,
    /// Its people, by line.
    #[serde(default)]
    pub people: Vec<PersonLine>,
    /// Its grants, by line, whether or not they are in force.
    #[serde(default)]
    pub grants: Vec<GrantLine>,
}

/// Where a person stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonLine {
    /// The line, from 1.
    pub line: u64,
    /// The person.
    pub person: Person,
}

/// Where a grant that the configuration renders stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantLine {
    /// The line that it begins at, from 1.
    pub line: u64,
    /// Who.
    pub person: Person,
    /// To which account.
    pub account: Account,
}

/// Where the ledger stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerState {
    /// Its id.
    pub id: LedgerId,
    /// The last record's number.
    pub seq: u64,
    /// The last record's hash: SHA-256 of its line with the newline, in hex.
    pub hash: String,
    /// Up to which number it is on disk.
    pub durable: u64,
    /// Why it cannot take records now; `None`: it can.
    pub failing: Option<String>,
}

/// Something an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// What and where.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
}

/// How bad a [`Problem`] is, in syslog's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A promise is broken now.
    Crit,
    /// Something failed.
    Err,
    /// An operator should act some day.
    Warning,
}
