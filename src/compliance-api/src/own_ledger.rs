//! The server's own signed ledger: what was done to and with the evidence, in the format of docs/RECORDS.md with types
//! of its own, in the same database as a chain of its own. So somebody watches the server too.
//!
//! It never states that something was done which was not: a statement is part of the transaction that does it.

use crate::evidence::SourceKind;
use std::fs;

use base64ct::{Base64, Encoding as _};
use record::{Body, Hash, LedgerId, Position, seal};
use serde_json::{Map, Value, json};
use ssh_key::rand_core::{OsRng, RngCore};

use crate::{
    checkpoints,
    store::{
        Error, Tx,
        ledgers::{self, Artifact, Ledger},
    },
    token::Role,
};

/// `stack` of the server's own records.
pub const STACK: &str = "compliance-api";
/// Heads in one `server.checkpoint`: what fits in one record.
const HEADS_PER_RECORD: usize = 30;

/// What the server states about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The ledger began; carries the server's public key.
    Opened,
    /// Another key signs from the next record on; carries it.
    KeyRotated,
    /// The server started.
    Started,
    /// It stopped in good order.
    Stopped,
    /// By the clock: where every chain stands.
    Checkpoint,
    /// Somebody began to take a copy of all there is.
    BackupMade,
    /// The database is one that was put back.
    Restored,
    /// A token was made.
    TokenCreated,
    /// A token was revoked.
    TokenRevoked,
    /// A host's ledger was bound to its key, or waits for an admin.
    LedgerEnrolled,
    /// An admin approved a ledger.
    LedgerApproved,
    /// A person's key may sign reviews from now on.
    ReviewerAdded,
    /// A person's keys may sign reviews no longer.
    ReviewerRevoked,
    /// Evidence was read: by whom, and what was asked.
    EvidenceRead,
    /// A document was put into the feeds of its stacks.
    DocumentPublished,
    /// Somebody whom the roster names may read for a while.
    ReaderAdmitted,
    /// Something is not as it should be; the incident is listed.
    IncidentOpened,
}

impl Word {
    /// Every word.
    pub const ALL: &[Self] = &[
        Self::Opened,
        Self::KeyRotated,
        Self::Started,
        Self::Stopped,
        Self::Checkpoint,
        Self::BackupMade,
        Self::Restored,
        Self::TokenCreated,
        Self::TokenRevoked,
        Self::LedgerEnrolled,
        Self::LedgerApproved,
        Self::ReviewerAdded,
        Self::ReviewerRevoked,
        Self::EvidenceRead,
        Self::DocumentPublished,
        Self::ReaderAdmitted,
        Self::IncidentOpened,
    ];

    /// The artifact type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            // The same word as a host's, so that `lockdownctl verify` finds the key.
            Self::Opened => "ledger.opened",
            Self::KeyRotated => "key.rotated",
            Self::Started => "server.started",
            Self::Stopped => "server.stopped",
            Self::Checkpoint => "server.checkpoint",
            Self::BackupMade => "backup.made",
            Self::Restored => "server.restored",
            Self::TokenCreated => "token.created",
            Self::TokenRevoked => "token.revoked",
            Self::LedgerEnrolled => "ledger.enrolled",
            Self::LedgerApproved => "ledger.approved",
            Self::ReviewerAdded => "reviewer.added",
            Self::ReviewerRevoked => "reviewer.revoked",
            Self::EvidenceRead => "evidence.read",
            Self::DocumentPublished => "document.published",
            Self::ReaderAdmitted => "reader.admitted",
            Self::IncidentOpened => "incident.opened",
        }
    }
}

/// Who did it, as far as a token tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The server itself.
    Server,
    /// Somebody with a shell on the server's machine.
    CommandLine,
    /// The bearer of this token.
    Token {
        /// Its id.
        id: String,
        /// Its role.
        role: Role,
        /// Its name.
        name: String,
    },
}

impl By {
    fn value(&self) -> Value {
        match self {
            Self::Server => json!({"who": "server"}),
            Self::CommandLine => json!({"who": "command_line"}),
            Self::Token { id, role, name } => json!({"who": "token", "token": id, "role": role.as_str(), "name": name}),
        }
    }
}

/// States something in the server's own ledger, as part of this transaction.
///
/// # Errors
/// A record that cannot be sealed or stored.
pub fn state(tx: &mut dyn Tx, word: Word, by: &By, reason: &str, mut detail: Map<String, Value>) -> Result<(), Error> {
    let mut ledger = open(tx)?;
    detail.insert("by".to_owned(), by.value());
    append(tx, &mut ledger, word, reason, &detail)
}

/// The server's ledger; begun if there is none.
fn open(tx: &mut dyn Tx) -> Result<Ledger, Error> {
    if let Some(ledger) = tx.own_ledger()? {
        return Ok(ledger);
    }
    let name = &tx.server().name.as_str().to_owned();
    let mut ledger = tx.begin_ledger(SourceKind::Server, &random_ledger(), name, false)?;
    let public_key = tx.server().key.public_line()?;
    tx.bind_key(&ledger, 1, &public_key)?;
    let mut detail = Map::new();
    detail.insert("public_key".to_owned(), public_key.into());
    append(tx, &mut ledger, Word::Opened, "this server's own ledger begins", &detail)?;
    Ok(ledger)
}

/// Has another key sign from the next transaction on: the key before says so, and what it has signed is kept as it is.
///
/// # Errors
/// A record that cannot be sealed or stored; a receipt that cannot be signed.
pub fn rotate(tx: &mut dyn Tx, public_key: &str) -> Result<(), Error> {
    let mut detail = Map::new();
    detail.insert("public_key".to_owned(), public_key.into());
    state(tx, Word::KeyRotated, &By::CommandLine, "the server's key was replaced", detail)?;
    let ledger = open(tx)?;
    tx.bind_key(&ledger, ledger.head_seq + 1, public_key)?;
    tx.keep_sealed_receipts(u32::MAX)?;
    tx.replace_server_key(public_key)
}

/// A new ledger's id.
#[must_use]
pub fn random_ledger() -> LedgerId {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    hex.parse().expect("32 hex digits")
}

fn append(
    tx: &mut dyn Tx,
    ledger: &mut Ledger,
    word: Word,
    reason: &str,
    detail: &Map<String, Value>,
) -> Result<(), Error> {
    let stack = STACK.parse().expect("a valid name");
    let boot = boot_id();
    let server = tx.server();
    for body in Body::statement(word.as_str(), None, reason, detail)? {
        let at = Position {
            ledger: &ledger.id,
            seq: ledger.head_seq + 1,
            host: &server.name,
            stack: &stack,
            boot: &boot,
            time: tx.now(),
            prev: ledger.head_hash,
        };
        let line = seal(&body, &at, &server.key.key)?;
        let artifact = Artifact {
            seq: line.seq(),
            hash: line.hash(),
            word: word.as_str(),
            stack: STACK,
            time: tx.now(),
            person: None,
            account: None,
            fingerprint: None,
            flags: 0,
            next_by: None,
            bytes: line.as_str().trim_end_matches('\n').as_bytes(),
            kept: None,
        };
        ledgers::append(tx, ledger, &[artifact])?;
    }
    Ok(())
}

/// The kernel's boot id, or that it is not known: no reason not to state something.
fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim();
    if id.is_empty() { "unknown".to_owned() } else { id.to_owned() }
}

/// As often as is configured: a signed checkpoint, every head that has moved since the last one, and a digest over all of them.
///
/// # Errors
/// SQLite's; a record that cannot be sealed.
pub fn checkpoint(tx: &mut dyn Tx) -> Result<(), Error> {
    let mut own = open(tx)?;
    let signed = checkpoints::make(tx)?;
    let checkpoint = signed.checkpoint();
    let root = Base64::encode_string(checkpoint.root.as_bytes());
    let since = tx.last_of_type(own.row, Word::Checkpoint.as_str())?;
    let heads = tx.heads(own.row)?;
    let all: String = heads.iter().map(|h| format!("{} {} {}\n", h.id, h.seq, h.hash)).collect();
    let digest = Hash::of(all.as_bytes()).to_string();
    let moved: Vec<&ledgers::Head> = heads.iter().filter(|h| since.is_none_or(|s| h.row > s)).collect();
    let records = moved.chunks(HEADS_PER_RECORD).map(Some);
    let none = moved.is_empty().then_some(None);
    for chunk in records.chain(none) {
        let listed: Vec<Value> = chunk
            .unwrap_or_default()
            .iter()
            .map(|h| json!({"ledger": h.id.as_str(), "seq": h.seq, "hash": h.hash.to_string()}))
            .collect();
        let mut detail = Map::new();
        detail.insert("by".to_owned(), By::Server.value());
        detail.insert("checkpoint".to_owned(), checkpoint.number.into());
        detail.insert("size".to_owned(), checkpoint.size.into());
        detail.insert("root".to_owned(), root.clone().into());
        detail.insert("ledgers".to_owned(), heads.len().into());
        detail.insert("digest".to_owned(), digest.clone().into());
        detail.insert("heads".to_owned(), listed.into());
        append(tx, &mut own, Word::Checkpoint, "where every ledger stands", &detail)?;
    }
    Ok(())
}
