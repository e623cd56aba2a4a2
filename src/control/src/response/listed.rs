//! What else can be looked at: sessions, people, the plan, records and quarantine.

use jiff::Timestamp;
use record::{Account, Fingerprint, GrantId, LedgerId, Person, SessionId, Source};
use serde::{Deserialize, Serialize};

use crate::Mode;

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

/// Live sessions, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsAnswer {
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// When the next scheduled lockdown ends every one that lasts longer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_lockdown: Option<Timestamp>,
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
    /// What it has been seen to be used for: `terminal`, `sftp`, `command`; none where only forwarding, or nothing yet.
    #[serde(default)]
    pub uses: Vec<String>,
    /// The terminals it was given, as who(1) names them.
    #[serde(default)]
    pub terminals: Vec<String>,
    /// Why it is being ended, once it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ending: Option<String>,
}

/// By what right a session is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// A grant.
    Granted,
    /// Its account is exempt.
    Emergency,
    /// None: the host only observes, or observed when it was opened; or it came past the gate, and sshd's log tells by
    /// which key.
    Observed,
    /// Nobody knows: it began before lockdownd could see it, or came past the login gate.
    Unattributed,
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
    /// What of them requires more than a plain key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<RequiredView>,
    /// Whether they may ask the daemon, in a live granted session of their own.
    #[serde(default)]
    pub operator: bool,
    /// The grants they have now, active or waiting.
    #[serde(default)]
    pub grants: Vec<GrantId>,
    /// The file of the configuration that they stand in.
    #[serde(default)]
    pub file: String,
    /// The line there, from 1.
    #[serde(default)]
    pub line: u64,
}

/// What a login of one person's to one account needs beside a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredView {
    /// The account.
    pub account: Account,
    /// What is required, in the words of `accounts.require`.
    pub required: Vec<String>,
    /// Whether a key of theirs fits.
    pub fits: bool,
}

/// One public key, never its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Its algorithm as in the key line, such as `ssh-ed25519`.
    pub algorithm: String,
}

/// What enforce would change now, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// The mode in force.
    pub mode: Mode,
    /// What stands in the way of enforce.
    pub obstacles: Vec<String>,
    /// What would change; in enforce: what the next sweep would.
    pub changes: Vec<Change>,
    /// How many more changes there are than this answer holds.
    #[serde(default)]
    pub left_off: u64,
    /// The grants that sshd does not honour, with what to do.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The configuration that was read is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// What it still waits for.
    pub notes: Vec<String>,
}

/// The keys of an account that was exempt are kept no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredAnswer {
    /// Which.
    pub account: Account,
    /// What to know about it.
    pub notes: Vec<String>,
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
    /// Its permission bits.
    pub mode: u32,
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
