//! The boundary to the database: what everybody else asks of it, in the words of the domain. SQLite answers it
//! (sqlite.rs); another engine would answer the same.
//!
//! Each method is part of one transaction. What a reader gets can change nothing.

use crate::evidence::SourceKind;
use std::{collections::BTreeMap, sync::Arc};

use document::{Id, Organization, Run, Source, StackPattern};
use jiff::Timestamp;
use record::{Fingerprint, Hash, Host, LedgerId, Person, Stack, checkpoint::LedgerHead};
use ssh_key::PublicKey;

use super::{
    Error, ServerKey,
    artifacts::{By, Found, Place, Stretch},
    checkpoints,
    documents::{Document, Placed},
    feeds::{Feed, FeedHost},
    hosts::Enrolment,
    incidents,
    kept::Kept,
    ledgers::{Artifact, Head, Ledger, Named},
    live::{HostState, LiveGrant, LiveSession, Notice, Outcome},
    reading::Reading,
    receipts::Part,
    reviewers::Reviewer,
    runs,
    silence::Silent,
    sources::Chain,
    standings::{self, RawLedger},
    tallies::{Of, Tally},
    tokens::TokenRow,
};
use crate::{
    config::Limits,
    evidence::ReviewSpan,
    incidents::{self as incident, Incident},
    review::Review,
    token::TokenHash,
};

/// What a job knows of the server.
#[derive(Debug)]
pub struct Server {
    /// Its key.
    pub key: ServerKey,
    /// Its name.
    pub name: Host,
    /// The bounds in force.
    pub limits: Limits,
}

/// One transaction.
///
/// # Errors
/// Each method fails as its engine does; [`Error::Unsound`] where what is stored cannot be.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Tx {
    /// The moment of this transaction: `received` of all that it stores.
    fn now(&self) -> Timestamp;
    /// The server.
    fn server(&self) -> Arc<Server>;
    /// The chain with this id.
    fn ledger(&mut self, id: &LedgerId) -> Result<Option<Ledger>, Error>;
    /// The chain that this server keeps under this name; for a host, its newest.
    fn ledger_named(&mut self, kind: SourceKind, name: &str) -> Result<Option<Ledger>, Error>;
    /// The server's own chain.
    fn own_ledger(&mut self) -> Result<Option<Ledger>, Error>;
    /// The rows and ids of the chains of this name, newest first.
    fn ledgers_named(&mut self, named: Named<'_>) -> Result<Vec<(i64, LedgerId)>, Error>;
    /// Begins a chain, without a record yet.
    fn begin_ledger(&mut self, kind: SourceKind, id: &LedgerId, name: &str, pending: bool) -> Result<Ledger, Error>;
    /// Adds artifacts, which have been checked to follow the head, and moves the head. The last one's row.
    fn add_artifacts(&mut self, ledger: &mut Ledger, artifacts: &[Artifact<'_>]) -> Result<Option<i64>, Error>;
    /// Keeps what the receipt over the head says.
    fn keep_receipt(&mut self, ledger: &Ledger) -> Result<(), Error>;
    /// Binds a key to a chain, from this record on.
    fn bind_key(&mut self, ledger: &Ledger, first_seq: u64, public_key: &str) -> Result<(), Error>;
    /// The keys of a chain, each with the first record that it signs, in order.
    fn keys(&mut self, ledger: i64) -> Result<Vec<(u64, PublicKey)>, Error>;
    /// The same by fingerprint; none for a chain that is no host's.
    fn signers(&mut self, ledger: i64) -> Result<Vec<(u64, Fingerprint)>, Error>;
    /// Where every chain stands but this one, in order of their ids.
    fn heads(&mut self, but: i64) -> Result<Vec<Head>, Error>;
    /// Where every chain stood when this was the row stored last, this server's own included, in order of their ids.
    fn heads_at(&mut self, newest: i64) -> Result<Vec<LedgerHead>, Error>;
    /// Keeps a checkpoint, whose number is one more than the newest one's.
    fn keep_checkpoint(&mut self, checkpoint: &checkpoints::Kept) -> Result<(), Error>;
    /// The newest checkpoint.
    fn newest_checkpoint(&mut self) -> Result<Option<checkpoints::Kept>, Error>;
    /// The checkpoints after this number, in order; so many at most.
    fn checkpoints(&mut self, after: u64, most: u32) -> Result<Vec<checkpoints::Kept>, Error>;
    /// The row of a chain's newest artifact of a type, by number.
    fn last_of_type(&mut self, ledger: i64, word: &str) -> Result<Option<i64>, Error>;
    /// The stored bytes of one record.
    fn record_at(&mut self, ledger: i64, seq: u64) -> Result<Option<Vec<u8>>, Error>;
    /// What is stored under this id in a chain that this server keeps.
    fn kept(&mut self, ledger: i64, id: &str) -> Result<Option<Kept>, Error>;
    /// Whether any ledger is known for this host, pending ones included.
    fn is_known_host(&mut self, host: &str) -> Result<bool, Error>;
    /// Keeps the stack of the token that enrols a ledger.
    fn keep_token_stack(&mut self, ledger: &mut Ledger, stack: &str) -> Result<(), Error>;
    /// Keeps that a range will never come, and the record that accounts for it.
    fn keep_gap(&mut self, ledger: &Ledger, last: u64, last_hash: Hash, pruned: &[u8]) -> Result<(), Error>;
    /// Keeps an authentic record that contradicts what is stored, unless the ledger has as many as are kept.
    fn keep_fork(&mut self, ledger: &Ledger, seq: u64, hash: Hash, bytes: &[u8]) -> Result<(), Error>;
    /// Makes a pending ledger count. Whether it was pending.
    fn approve(&mut self, id: &LedgerId) -> Result<bool, Error>;
    /// Hosts' ledgers, those that wait for an admin first, then the newest.
    fn enrolments(&mut self, most: usize) -> Result<Vec<Enrolment>, Error>;
    /// Hosts that should have been heard of, and were not.
    fn silent_hosts(&mut self) -> Result<Vec<Silent>, Error>;
    /// Registers a key for a person's reviews. False when it is in force already.
    fn add_reviewer(&mut self, person: &Person, public_key: &str) -> Result<bool, Error>;
    /// Takes all keys of a person back; how many there were.
    fn revoke_reviewer(&mut self, person: &Person) -> Result<usize, Error>;
    /// Every key that was ever registered, of one person or of all.
    fn reviewers(&mut self, person: Option<&Person>) -> Result<Vec<Reviewer>, Error>;
    /// The keys of one person that are in force.
    fn reviewer_keys(&mut self, person: &Person) -> Result<Vec<PublicKey>, Error>;
    /// Keeps which window a stored review is of.
    fn keep_review(&mut self, artifact: i64, review: &Review) -> Result<(), Error>;
    /// Whether what this review signs is stored, under whatever id.
    fn is_review_kept(&mut self, review: &Review) -> Result<bool, Error>;
    /// The token with this hash, whatever its state.
    fn token(&mut self, hash: TokenHash) -> Result<Option<TokenRow>, Error>;
    /// Every token there ever was, newest first.
    fn tokens(&mut self) -> Result<Vec<TokenRow>, Error>;
    /// Keeps a new token.
    fn insert_token(&mut self, token: &TokenRow, hash: TokenHash) -> Result<(), Error>;
    /// Ends a token. Whether it was there and in force.
    fn revoke_token(&mut self, id: &str) -> Result<bool, Error>;
    /// Whether the token with this id is in force now; that it is used is kept, to the hour.
    fn admit_token(&mut self, id: &str) -> Result<bool, Error>;
    /// Takes one use of an enrolment token, if it is in force and has one left. Whether it had.
    fn use_token(&mut self, id: &str) -> Result<bool, Error>;
    /// Counts an open incident of this kind and subject once more; whether there is one.
    fn count_incident(&mut self, incident: &Incident, subject: &str) -> Result<bool, Error>;
    /// How many incidents of a kind are open.
    fn open_incidents(&mut self, kind: incident::Kind) -> Result<u64, Error>;
    /// Opens an incident.
    fn insert_incident(&mut self, incident: &Incident) -> Result<(), Error>;
    /// Ends an open incident: it is over, and stays listed.
    fn end_incident(&mut self, kind: incident::Kind, subject: &str) -> Result<(), Error>;
    /// Whether an incident is open.
    fn is_incident_open(&mut self, kind: incident::Kind, subject: &str) -> Result<bool, Error>;
    /// The incidents that are asked for, newest first, and one more.
    fn incidents(&mut self, wanted: &incidents::Wanted) -> Result<Vec<incidents::Kept>, Error>;
    /// Every key that this server signed with, with when it began to, oldest first.
    fn server_keys(&mut self) -> Result<Vec<(String, Timestamp)>, Error>;
    /// Has this key sign from the next transaction on, by a process that has it.
    fn replace_server_key(&mut self, public_key: &str) -> Result<(), Error>;
    /// Keeps some receipts by the key in force as they were answered, before it is replaced. How many there were.
    fn keep_sealed_receipts(&mut self, most: u32) -> Result<u32, Error>;
    /// Some of the receipts over this chain, after this number. One by a key that is gone cannot be had again.
    fn receipts(&mut self, chain: (i64, &LedgerId), after: u64, most: u32) -> Result<Part, Error>;
    /// The last receipt over this chain up to this number, as a line; empty where there is none.
    fn last_receipt(&mut self, chain: (i64, &LedgerId), to: u64) -> Result<Vec<u8>, Error>;
    /// From which number to which a chain has artifacts of a window of their own time, stored up to this row.
    fn extent(&mut self, ledger: i64, window: (i64, i64), newest: i64) -> Result<Option<(u64, u64)>, Error>;
    /// How many bytes the database takes.
    fn database_bytes(&mut self) -> Result<u64, Error>;
    /// The row that was stored last; 0 before the first.
    fn newest_artifact(&mut self) -> Result<i64, Error>;
    /// The next places of a range, in order.
    fn places(&mut self, by: &By, stretch: Stretch) -> Result<Vec<Place>, Error>;
    /// Shows one artifact, where it is there.
    fn look(&mut self, id: i64, show: &mut dyn FnMut(&Found<'_>)) -> Result<(), Error>;
    /// Every type of which anything is stored, by its word's row.
    fn types(&mut self) -> Result<Vec<(i64, String)>, Error>;
    /// The row of a word, where any artifact has it.
    fn word(&mut self, word: &str) -> Result<Option<i64>, Error>;
    /// The counts of one type (its word's row) in `from..to`, by what they are of.
    fn tallies(&mut self, kind: i64, from: i64, to: i64) -> Result<BTreeMap<Of, Tally>, Error>;
    /// Every chain but the server's own, oldest first; those that wait for approval too, where they are asked for.
    fn sources(&mut self, pending: bool) -> Result<Vec<Chain>, Error>;
    /// Reviews whose windows touch this one, newest first; of this stack or of all, where one is given.
    fn reviews(&mut self, stack: Option<&str>, from: i64, to: i64, most: usize) -> Result<Vec<ReviewSpan>, Error>;
    /// The names of hosts, in order, and one more.
    fn host_names(&mut self, wanted: &standings::Wanted) -> Result<Vec<String>, Error>;
    /// A host's ledgers, newest first.
    fn host_ledgers(&mut self, name: &str) -> Result<Vec<RawLedger>, Error>;
    /// The document with this id.
    fn document(&mut self, id: Id) -> Result<Option<Document>, Error>;
    /// Keeps a document, in the place of the pending one where there is one.
    fn keep_document(&mut self, document: &Document) -> Result<(), Error>;
    /// Says until when a document has to be known.
    fn end_document(&mut self, id: Id, at: Timestamp) -> Result<(), Error>;
    /// The first document of this kind that is about that one, and is in a feed.
    fn document_about(&mut self, kind: document::Kind, about: Id) -> Result<Option<Id>, Error>;
    /// In which feeds a document is, in order of their stacks.
    fn document_feeds(&mut self, id: Id) -> Result<Vec<String>, Error>;
    /// The grants that wait for approvals, the oldest first; of this stack, or of all.
    fn pending_documents(&mut self, stack: Option<&str>) -> Result<Vec<Document>, Error>;
    /// How many grants wait for approvals, and how many of them are for this person.
    fn count_pending(&mut self, person: &Person) -> Result<(u64, u64), Error>;
    /// Drops a grant that waits for approvals.
    fn drop_pending(&mut self, id: Id) -> Result<(), Error>;
    /// Drops the grants that wait for approvals and that no host could accept any more; how many.
    fn drop_pending_over(&mut self) -> Result<usize, Error>;
    /// The feed of this stack.
    fn feed(&mut self, stack: &StackPattern) -> Result<Option<Feed>, Error>;
    /// Its version: another one means that it has changed.
    fn feed_version(&mut self, stack: &StackPattern) -> Result<Option<i64>, Error>;
    /// How many documents each feed holds.
    fn feed_counts(&mut self) -> Result<Vec<(StackPattern, u64)>, Error>;
    /// Keeps a feed, and the documents that joined it, in order.
    fn keep_feed(&mut self, organization: &Organization, feed: &Feed, joined: &[Id]) -> Result<(), Error>;
    /// Drops the feeds of other organizations: they begin anew. How many there were.
    fn begin_feeds_anew(&mut self, organization: &Organization) -> Result<usize, Error>;
    /// The next documents of a feed after this place: at most so many, and so many bytes, but one at least.
    fn feed_after(&mut self, stack: &Stack, after: u64, most: (usize, usize)) -> Result<Vec<Placed>, Error>;
    /// The newest documents of a feed that have to be known still, rosters aside, in its order.
    fn feed_mattering(&mut self, stack: &StackPattern, most: usize) -> Result<Vec<Document>, Error>;
    /// The rosters that joined a feed before this document did, the newest first, and so many at most.
    fn feed_rosters_before(&mut self, stack: &StackPattern, id: Id, most: usize) -> Result<Vec<Document>, Error>;
    /// Keeps the hash of the token by which the host of this ledger hears its feed.
    fn keep_feed_token(&mut self, ledger: &Ledger, token: Option<[u8; 32]>) -> Result<(), Error>;
    /// The hosts whose newest approved ledger names a token for the feed: this one, or any; each with its hash.
    fn feed_hosts(&mut self, token: Option<[u8; 32]>) -> Result<Vec<([u8; 32], FeedHost)>, Error>;
    /// The stacks that hosts' newest approved ledgers name, at most so many.
    fn stacks_of_hosts(&mut self, most: usize) -> Result<Vec<Stack>, Error>;
    /// Keeps what a record of this ledger says of how its host stands.
    fn notice(&mut self, ledger: &Ledger, notice: &Notice) -> Result<(), Error>;
    /// What became of a document on the hosts of approved ledgers.
    fn outcomes(&mut self, document: Id) -> Result<Vec<Outcome>, Error>;
    /// Grows with each outcome of any document.
    fn last_outcome(&mut self) -> Result<i64, Error>;
    /// How the hosts of this stack, or of all, stand by their newest approved ledgers, in order of their names.
    fn host_states(&mut self, stack: Option<&str>) -> Result<Vec<HostState>, Error>;
    /// Some of the grants of a ledger that have not ended.
    fn live_grants(&mut self, ledger: i64, most: usize) -> Result<Vec<LiveGrant>, Error>;
    /// Some of the sessions of a ledger that have not ended.
    fn live_sessions(&mut self, ledger: i64, most: usize) -> Result<Vec<LiveSession>, Error>;
    /// Whether one more may read: so many of this person, and of all.
    fn has_room_to_read(&mut self, person: &Person, most: (u64, u64)) -> Result<bool, Error>;
    /// Keeps who may read by a token with this hash. False where its challenge was answered before.
    fn keep_reading(&mut self, hash: [u8; 32], nonce: &str, reading: &Reading) -> Result<bool, Error>;
    /// Keeps what a feeder says of one look at its source, once.
    fn keep_run(&mut self, id: Id, run: &Run, envelope: &str) -> Result<runs::Keeping, Error>;
    /// The newest runs of a source, or of all, the newest first; so many at most.
    fn runs(&mut self, source: Option<&Source>, most: usize) -> Result<Vec<runs::Kept>, Error>;
    /// The newest of a source's.
    fn newest_run(&mut self, source: &Source) -> Result<Option<runs::Newest>, Error>;
    /// Who may read by the token with this hash, now.
    fn reading(&mut self, hash: [u8; 32]) -> Result<Option<Reading>, Error>;
}
