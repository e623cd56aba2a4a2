//! What the daemon answers. Every string that came from outside is already escaped as in records; a reader that
//! prints to a terminal escapes again.
//!
//! Fields are only ever added, and every added field has a default: an older `lockdownctl` reads a newer daemon.

use jiff::Timestamp;
use record::{Account, Actor, Fingerprint, GrantId, Host, LedgerId, Person, SessionId, Source, Stack};
use serde::{Deserialize, Serialize};

use crate::{
    Cidr, Refusal, RefusalCode,
    frame::{self, FrameError, MAX_FRAME},
};

/// What comes back for one [`crate::Request`].
pub type Response = Result<Answer, Refusal>;

/// What was done or found, one variant per kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`crate::Request::Status`].
    Status(Box<Status>),
    /// To [`crate::Request::Allow`].
    Allow(Box<AllowedAnswer>),
    /// To [`crate::Request::Revoke`].
    Revoke(RevokeAnswer),
    /// To [`crate::Request::Lockdown`].
    Lockdown(LockdownAnswer),
    /// To [`crate::Request::Enforce`].
    Enforce(EnforceAnswer),
    /// To [`crate::Request::Grants`].
    Grants(GrantsAnswer),
    /// To [`crate::Request::Sessions`].
    Sessions(SessionsAnswer),
    /// To [`crate::Request::People`].
    People(PeopleAnswer),
    /// To [`crate::Request::Plan`].
    Plan(PlanAnswer),
    /// To [`crate::Request::Records`].
    Records(RecordsAnswer),
    /// To [`crate::Request::QuarantineList`].
    Quarantine(QuarantineAnswer),
    /// To [`crate::Request::QuarantineShow`].
    QuarantineItem(Box<QuarantineDetail>),
    /// To [`crate::Request::QuarantineRestore`].
    Restore(RestoreAnswer),
}

/// The frame that carries `response`. A list that does not fit [`MAX_FRAME`] is cut and says by how much; what cannot
/// be cut becomes a refusal that says so. So there is always an answer.
#[must_use]
pub fn encode_response(mut response: Response) -> Vec<u8> {
    loop {
        match frame::encode(&response, MAX_FRAME) {
            Ok(bytes) => return bytes,
            Err(error @ FrameError::TooLong { .. }) if response.as_mut().map_or(true, |a| !a.halve()) => {
                response = Err(Refusal::new(RefusalCode::Failed, format!("the answer does not fit: {error}")));
            }
            Err(FrameError::TooLong { .. }) => {}
            Err(error) => {
                response = Err(Refusal::new(RefusalCode::Failed, format!("the answer cannot be written: {error}")));
            }
        }
    }
}

impl Answer {
    /// Drops the second half of the answer's list and counts what was dropped; false where there is nothing to drop.
    fn halve(&mut self) -> bool {
        fn cut<T>(list: &mut Vec<T>, left_off: &mut u64) -> bool {
            let dropped = list.len() - list.len() / 2;
            list.truncate(list.len() / 2);
            *left_off += dropped as u64;
            dropped > 0
        }
        match self {
            Self::Grants(a) => cut(&mut a.grants, &mut a.left_off),
            Self::Sessions(a) => cut(&mut a.sessions, &mut a.left_off),
            Self::People(a) => cut(&mut a.people, &mut a.left_off),
            Self::Plan(a) => cut(&mut a.changes, &mut a.left_off),
            Self::Quarantine(a) => cut(&mut a.items, &mut a.left_off),
            Self::Revoke(a) => cut(&mut a.sessions, &mut a.left_off) || cut(&mut a.grants, &mut a.left_off),
            Self::Lockdown(a) => cut(&mut a.sessions, &mut a.left_off) || cut(&mut a.grants, &mut a.left_off),
            Self::Status(_)
            | Self::Allow(_)
            | Self::Enforce(_)
            | Self::Records(_)
            | Self::QuarantineItem(_)
            | Self::Restore(_) => false,
        }
    }
}

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
    /// The version of OpenSSH on the host, as `sshd -V` prints it; `None`: not found.
    pub openssh: Option<String>,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// The configuration in force.
    pub config: ConfigState,
    /// How many accounts are watched.
    pub accounts: u64,
    /// Accounts that are never locked down.
    pub exempt: Vec<Account>,
    /// How many persons the configuration knows.
    pub people: u64,
    /// How many grants are in force now.
    pub active_grants: u64,
    /// How many grants begin later.
    pub waiting_grants: u64,
    /// How many live sessions are known, whatever their kind.
    pub sessions: u64,
    /// How many removed files are kept.
    pub quarantined: u64,
    /// What stands in the way of enforce; in enforce: what has broken since.
    pub obstacles: Vec<Obstacle>,
    /// Where the ledger stands.
    pub ledger: LedgerState,
    /// Whatever else an operator should know.
    pub problems: Vec<Problem>,
    /// When the last sweep ended.
    pub last_sweep: Option<Timestamp>,
    /// When the next one is due.
    pub next_sweep: Option<Timestamp>,
    /// When the next scheduled lockdown is due; `None`: none is scheduled.
    pub next_lockdown: Option<Timestamp>,
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

/// One thing that stands in the way of enforce, or broke while it was on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// What is wrong and where.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
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
    /// What else the operator should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A trial of enforce began or was prolonged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnforceAnswer {
    /// When it goes back to observe by itself.
    pub until: Timestamp,
    /// What was changed for it, one sentence each.
    pub changed: Vec<String>,
    /// What else the operator should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Grants, the active first, then the waiting, then the ended, each by when they end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantsAnswer {
    /// The grants.
    pub grants: Vec<GrantView>,
    /// How many more there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
}

/// Live sessions, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsAnswer {
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// How many more there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
}

/// One live SSH login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// By what right it is there.
    pub kind: SessionKind,
    /// Whose it is; `None`: not known.
    pub person: Option<Person>,
    /// The account.
    pub account: Account,
    /// The grant it is bound to.
    pub grant: Option<GrantId>,
    /// The key that opened it.
    pub fingerprint: Option<Fingerprint>,
    /// Where it comes from.
    pub source: Option<Source>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it will be ended; `None`: not by itself.
    pub ends_at: Option<Timestamp>,
    /// The process id of its connection's sshd.
    pub pid: u32,
}

/// By what right a session is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// A grant.
    Granted,
    /// Its account is exempt.
    Emergency,
    /// None: the host only observes, or observed when it was opened.
    Observed,
}

/// Who exists, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeopleAnswer {
    /// The persons.
    pub people: Vec<PersonView>,
    /// How many more there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
}

/// One person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonView {
    /// Their name.
    pub name: Person,
    /// Their keys.
    pub keys: Vec<KeyView>,
    /// The accounts they may be given.
    pub accounts: Vec<Account>,
    /// Those of them that the host does not have.
    #[serde(default)]
    pub missing_accounts: Vec<Account>,
    /// The grants they have now, active or waiting.
    #[serde(default)]
    pub grants: Vec<GrantId>,
}

/// One public key, never its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Its algorithm as in the key line, such as `ssh-ed25519`.
    pub algorithm: String,
    /// Its comment.
    pub comment: String,
}

/// What enforce would change now, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// The mode in force.
    pub mode: Mode,
    /// What stands in the way of enforce.
    pub obstacles: Vec<Obstacle>,
    /// What would change; in enforce: what the next sweep would.
    pub changes: Vec<Change>,
    /// How many more changes there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
}

/// One thing that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What would be done.
    pub kind: ChangeKind,
    /// The account it concerns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<Account>,
    /// The file it concerns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// The keys it concerns.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub fingerprints: Vec<Fingerprint>,
    /// The session it concerns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionId>,
    /// Why, in one sentence.
    pub why: String,
}

/// What a [`Change`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A key file goes into quarantine.
    RemoveKeyFile,
    /// A file is put right in the key store.
    WriteStore,
    /// A file leaves the key store.
    ClearStore,
    /// sshd's drop-in is written and sshd reloaded.
    WriteDropIn,
    /// A session is ended.
    EndSession,
    /// Logins that work now would be refused.
    RefuseLogins,
}

/// Records, as they stand in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsAnswer {
    /// The exact lines, without their newlines, in the ledger's order.
    pub lines: Vec<String>,
    /// Up to which `seq` was looked: the next request's `after`, whether or not anything matched.
    pub after: u64,
    /// Whether there is more on disk beyond `after`.
    pub more: bool,
    /// The ledger they are of: `seq` starts anew in another.
    pub ledger: LedgerId,
}

/// What was removed and kept, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineAnswer {
    /// The items.
    pub items: Vec<QuarantineItem>,
    /// How many more there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
}

/// One removed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineItem {
    /// Its id.
    pub id: String,
    /// The account whose file it was.
    pub account: Account,
    /// Where it stood.
    pub path: String,
    /// When it was removed.
    pub removed_at: Timestamp,
    /// Its size in bytes.
    pub size: u64,
    /// Why it was removed, in one sentence.
    pub why: String,
    /// Whether its content is kept, and not only its hash.
    pub restorable: bool,
    /// The keys in it.
    pub fingerprints: Vec<Fingerprint>,
}

/// One removed file with its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineDetail {
    /// What is in the list too.
    pub item: QuarantineItem,
    /// What kind of file it was: `file`, `symlink`.
    pub file_type: String,
    /// Where a symbolic link pointed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link_target: Option<String>,
    /// Its owner's user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
    /// When it was last written.
    pub modified_at: Option<Timestamp>,
    /// SHA-256 of its content, in hex; `None`: it was too large to be read.
    pub sha256: Option<String>,
    /// Its lines, escaped, as far as they fit.
    pub lines: Vec<String>,
    /// Whether there is more than `lines` holds.
    pub cut: bool,
}

/// One removed file was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreAnswer {
    /// The item.
    pub item: QuarantineItem,
    /// Where it stands now.
    pub path: String,
    /// What else the operator should know: in enforce the next sweep removes it again.
    #[serde(default)]
    pub notes: Vec<String>,
}
