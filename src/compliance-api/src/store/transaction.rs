//! Either database behind the boundary: one connection, in a transaction.

use crate::evidence::SourceKind;
use std::{collections::BTreeMap, sync::Arc};

use document::{Id, Organization, Run, Source, StackPattern};
use jiff::Timestamp;
use record::{Fingerprint, Hash, LedgerId, Person, Stack, checkpoint::LedgerHead};
use ssh_key::PublicKey;

use super::{
    Error, Server, Tx,
    artifacts::{self, By, Found, Place, Stretch},
    checkpoints,
    documents::{self, Document, Placed},
    engine::Connection,
    feeds::{self, Feed, FeedHost},
    hosts::{self, Enrolment},
    incidents,
    kept::{self, Kept},
    ledgers::{self, Artifact, Head, Ledger, Named},
    live::{self, HostState, LiveGrant, LiveSession, Notice, Outcome},
    reading::{self, Reading},
    receipts::{self, Part},
    reviewers::{self, Reviewer},
    runs, server_keys,
    silence::{self, Silent},
    sources::{self, Chain},
    standings::{self, RawLedger},
    tallies::{self, Of, Tally},
    tokens::{self, TokenRow},
};
use crate::{
    evidence::ReviewSpan,
    incidents::{self as incident, Incident},
    review::Review,
    token::TokenHash,
};

/// A transaction.
pub(super) struct Transaction<'a> {
    /// The connection, in a transaction where it writes.
    pub(super) connection: &'a Connection,
    /// The moment.
    pub(super) now: Timestamp,
    /// The server.
    pub(super) server: Arc<Server>,
}

impl Tx for Transaction<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn server(&self) -> Arc<Server> {
        Arc::clone(&self.server)
    }

    fn ledger(&mut self, id: &LedgerId) -> Result<Option<Ledger>, Error> {
        ledgers::find(self.connection, id)
    }

    fn ledger_named(&mut self, kind: SourceKind, name: &str) -> Result<Option<Ledger>, Error> {
        ledgers::find_named(self.connection, kind, name)
    }

    fn own_ledger(&mut self) -> Result<Option<Ledger>, Error> {
        ledgers::find_of_kind(self.connection, SourceKind::Server)
    }

    fn ledgers_named(&mut self, named: Named<'_>) -> Result<Vec<(i64, LedgerId)>, Error> {
        ledgers::named(self.connection, named)
    }

    fn begin_ledger(&mut self, kind: SourceKind, id: &LedgerId, name: &str, pending: bool) -> Result<Ledger, Error> {
        ledgers::begin(self, kind, id, name, pending)
    }

    fn add_artifacts(&mut self, ledger: &mut Ledger, artifacts: &[Artifact<'_>]) -> Result<Option<i64>, Error> {
        ledgers::add(self, ledger, artifacts)
    }

    fn keep_receipt(&mut self, ledger: &Ledger) -> Result<(), Error> {
        receipts::keep(self, ledger)
    }

    fn bind_key(&mut self, ledger: &Ledger, first_seq: u64, public_key: &str) -> Result<(), Error> {
        ledgers::add_key(self, ledger, first_seq, public_key)
    }

    fn keys(&mut self, ledger: i64) -> Result<Vec<(u64, PublicKey)>, Error> {
        hosts::keys(self.connection, ledger)
    }

    fn signers(&mut self, ledger: i64) -> Result<Vec<(u64, Fingerprint)>, Error> {
        hosts::signers(self.connection, ledger)
    }

    fn heads(&mut self, but: i64) -> Result<Vec<Head>, Error> {
        ledgers::heads(self.connection, but)
    }

    fn heads_at(&mut self, newest: i64) -> Result<Vec<LedgerHead>, Error> {
        checkpoints::heads_at(self.connection, newest)
    }

    fn keep_checkpoint(&mut self, checkpoint: &checkpoints::Kept) -> Result<(), Error> {
        checkpoints::keep(self, checkpoint)
    }

    fn newest_checkpoint(&mut self) -> Result<Option<checkpoints::Kept>, Error> {
        checkpoints::newest(self.connection)
    }

    fn checkpoints(&mut self, after: u64, most: u32) -> Result<Vec<checkpoints::Kept>, Error> {
        checkpoints::after(self.connection, after, most)
    }

    fn last_of_type(&mut self, ledger: i64, word: &str) -> Result<Option<i64>, Error> {
        ledgers::last_of_type(self.connection, ledger, word)
    }

    fn record_at(&mut self, ledger: i64, seq: u64) -> Result<Option<Vec<u8>>, Error> {
        hosts::bytes_at(self.connection, ledger, seq)
    }

    fn kept(&mut self, ledger: i64, id: &str) -> Result<Option<Kept>, Error> {
        kept::find(self.connection, ledger, id)
    }

    fn is_known_host(&mut self, host: &str) -> Result<bool, Error> {
        hosts::is_known(self.connection, host)
    }

    fn keep_token_stack(&mut self, ledger: &mut Ledger, stack: &str) -> Result<(), Error> {
        hosts::keep_token_stack(self, ledger, stack)
    }

    fn keep_gap(&mut self, ledger: &Ledger, last: u64, last_hash: Hash, pruned: &[u8]) -> Result<(), Error> {
        hosts::keep_gap(self, ledger, last, last_hash, pruned)
    }

    fn keep_fork(&mut self, ledger: &Ledger, seq: u64, hash: Hash, bytes: &[u8]) -> Result<(), Error> {
        hosts::keep_fork(self, ledger, seq, hash, bytes)
    }

    fn approve(&mut self, id: &LedgerId) -> Result<bool, Error> {
        hosts::approve(self, id)
    }

    fn enrolments(&mut self, most: usize) -> Result<Vec<Enrolment>, Error> {
        hosts::enrolments(self.connection, most)
    }

    fn silent_hosts(&mut self) -> Result<Vec<Silent>, Error> {
        silence::silent(self)
    }

    fn add_reviewer(&mut self, person: &Person, public_key: &str) -> Result<bool, Error> {
        reviewers::add(self, person, public_key)
    }

    fn revoke_reviewer(&mut self, person: &Person) -> Result<usize, Error> {
        reviewers::revoke(self, person)
    }

    fn reviewers(&mut self, person: Option<&Person>) -> Result<Vec<Reviewer>, Error> {
        reviewers::list(self.connection, person)
    }

    fn reviewer_keys(&mut self, person: &Person) -> Result<Vec<PublicKey>, Error> {
        reviewers::keys(self.connection, person)
    }

    fn keep_review(&mut self, artifact: i64, review: &Review) -> Result<(), Error> {
        reviewers::keep_review(self, artifact, review)
    }

    fn is_review_kept(&mut self, review: &Review) -> Result<bool, Error> {
        reviewers::is_kept(self.connection, review)
    }

    fn token(&mut self, hash: TokenHash) -> Result<Option<TokenRow>, Error> {
        tokens::find(self.connection, hash)
    }

    fn tokens(&mut self) -> Result<Vec<TokenRow>, Error> {
        tokens::list(self.connection)
    }

    fn insert_token(&mut self, token: &TokenRow, hash: TokenHash) -> Result<(), Error> {
        tokens::insert(self, token, hash)
    }

    fn revoke_token(&mut self, id: &str) -> Result<bool, Error> {
        tokens::revoke(self, id)
    }

    fn admit_token(&mut self, id: &str) -> Result<bool, Error> {
        tokens::admit(self, id)
    }

    fn use_token(&mut self, id: &str) -> Result<bool, Error> {
        tokens::take_use(self, id)
    }

    fn count_incident(&mut self, incident: &Incident, subject: &str) -> Result<bool, Error> {
        incidents::count_again(self, incident, subject)
    }

    fn open_incidents(&mut self, kind: incident::Kind) -> Result<u64, Error> {
        incidents::open(self, kind)
    }

    fn insert_incident(&mut self, incident: &Incident) -> Result<(), Error> {
        incidents::insert(self, incident)
    }

    fn end_incident(&mut self, kind: incident::Kind, subject: &str) -> Result<(), Error> {
        incidents::end(self, kind, subject)
    }

    fn is_incident_open(&mut self, kind: incident::Kind, subject: &str) -> Result<bool, Error> {
        incidents::is_open(self.connection, kind, subject)
    }

    fn incidents(&mut self, wanted: &incidents::Wanted) -> Result<Vec<incidents::Kept>, Error> {
        incidents::list(self.connection, wanted)
    }

    fn server_keys(&mut self) -> Result<Vec<(String, Timestamp)>, Error> {
        server_keys::list(self.connection)
    }

    fn replace_server_key(&mut self, public_key: &str) -> Result<(), Error> {
        server_keys::replace(self, public_key)
    }

    fn keep_sealed_receipts(&mut self, most: u32) -> Result<u32, Error> {
        receipts::keep_sealed(self, most)
    }

    fn receipts(&mut self, chain: (i64, &LedgerId), after: u64, most: u32) -> Result<Part, Error> {
        receipts::part(self.connection, &self.server.key, chain, after, most)
    }

    fn last_receipt(&mut self, chain: (i64, &LedgerId), to: u64) -> Result<Vec<u8>, Error> {
        receipts::last(self.connection, &self.server.key, chain, to)
    }

    fn extent(&mut self, ledger: i64, window: (i64, i64), newest: i64) -> Result<Option<(u64, u64)>, Error> {
        artifacts::extent(self.connection, ledger, window, newest)
    }

    fn database_bytes(&mut self) -> Result<u64, Error> {
        artifacts::database_bytes(self.connection)
    }

    fn newest_artifact(&mut self) -> Result<i64, Error> {
        artifacts::newest(self.connection)
    }

    fn places(&mut self, by: &By, stretch: Stretch) -> Result<Vec<Place>, Error> {
        artifacts::places(self.connection, by, stretch)
    }

    fn look(&mut self, id: i64, show: &mut dyn FnMut(&Found<'_>)) -> Result<(), Error> {
        artifacts::look(self.connection, id, show)
    }

    fn types(&mut self) -> Result<Vec<(i64, String)>, Error> {
        artifacts::types(self.connection)
    }

    fn word(&mut self, word: &str) -> Result<Option<i64>, Error> {
        artifacts::word(self.connection, word)
    }

    fn tallies(&mut self, kind: i64, from: i64, to: i64) -> Result<BTreeMap<Of, Tally>, Error> {
        tallies::within(self.connection, kind, from, to)
    }

    fn sources(&mut self, pending: bool) -> Result<Vec<Chain>, Error> {
        sources::list(self.connection, pending)
    }

    fn reviews(&mut self, stack: Option<&str>, from: i64, to: i64, most: usize) -> Result<Vec<ReviewSpan>, Error> {
        sources::reviews(self.connection, stack, from, to, most)
    }

    fn host_names(&mut self, wanted: &standings::Wanted) -> Result<Vec<String>, Error> {
        standings::names(self.connection, wanted)
    }

    fn host_ledgers(&mut self, name: &str) -> Result<Vec<RawLedger>, Error> {
        standings::ledgers(self.connection, name)
    }

    fn document(&mut self, id: Id) -> Result<Option<Document>, Error> {
        documents::find(self.connection, id)
    }

    fn keep_document(&mut self, document: &Document) -> Result<(), Error> {
        documents::keep(self, document)
    }

    fn end_document(&mut self, id: Id, at: Timestamp) -> Result<(), Error> {
        documents::ends(self, id, at)
    }

    fn document_about(&mut self, kind: document::Kind, about: Id) -> Result<Option<Id>, Error> {
        documents::about(self.connection, kind, about)
    }

    fn document_feeds(&mut self, id: Id) -> Result<Vec<String>, Error> {
        documents::places(self.connection, id)
    }

    fn pending_documents(&mut self, stack: Option<&str>) -> Result<Vec<Document>, Error> {
        documents::pending(self.connection, stack)
    }

    fn count_pending(&mut self, person: &Person) -> Result<(u64, u64), Error> {
        documents::pending_count(self.connection, person)
    }

    fn drop_pending(&mut self, id: Id) -> Result<(), Error> {
        documents::drop_pending(self, id)
    }

    fn drop_pending_over(&mut self) -> Result<usize, Error> {
        documents::drop_over(self)
    }

    fn feed(&mut self, stack: &StackPattern) -> Result<Option<Feed>, Error> {
        feeds::find(self.connection, stack)
    }

    fn feed_version(&mut self, stack: &StackPattern) -> Result<Option<i64>, Error> {
        feeds::version(self.connection, stack)
    }

    fn feed_counts(&mut self) -> Result<Vec<(StackPattern, u64)>, Error> {
        feeds::counts(self.connection)
    }

    fn keep_feed(&mut self, organization: &Organization, feed: &Feed, joined: &[Id]) -> Result<(), Error> {
        feeds::keep(self, organization, feed, joined)
    }

    fn begin_feeds_anew(&mut self, organization: &Organization) -> Result<usize, Error> {
        feeds::begin_anew(self, organization)
    }

    fn feed_after(&mut self, stack: &Stack, after: u64, most: (usize, usize)) -> Result<Vec<Placed>, Error> {
        documents::after(self.connection, stack.as_str(), after, most)
    }

    fn feed_mattering(&mut self, stack: &StackPattern, most: usize) -> Result<Vec<Document>, Error> {
        documents::mattering(self, stack.as_str(), most)
    }

    fn feed_rosters_before(&mut self, stack: &StackPattern, id: Id, most: usize) -> Result<Vec<Document>, Error> {
        documents::rosters_before(self.connection, stack.as_str(), id, most)
    }
    fn keep_feed_token(&mut self, ledger: &Ledger, token: Option<[u8; 32]>) -> Result<(), Error> {
        feeds::keep_token(self, ledger, token)
    }

    fn feed_hosts(&mut self, token: Option<[u8; 32]>) -> Result<Vec<([u8; 32], FeedHost)>, Error> {
        feeds::hosts(self.connection, token)
    }

    fn stacks_of_hosts(&mut self, most: usize) -> Result<Vec<Stack>, Error> {
        feeds::stacks_of_hosts(self.connection, most)
    }

    fn notice(&mut self, ledger: &Ledger, notice: &Notice) -> Result<(), Error> {
        live::keep(self, ledger, notice)
    }

    fn outcomes(&mut self, document: Id) -> Result<Vec<Outcome>, Error> {
        live::outcomes(self.connection, document)
    }

    fn last_outcome(&mut self) -> Result<i64, Error> {
        live::last_outcome(self.connection)
    }

    fn host_states(&mut self, stack: Option<&str>) -> Result<Vec<HostState>, Error> {
        live::hosts(self.connection, stack)
    }

    fn live_grants(&mut self, ledger: i64, most: usize) -> Result<Vec<LiveGrant>, Error> {
        live::grants(self, ledger, most)
    }

    fn live_sessions(&mut self, ledger: i64, most: usize) -> Result<Vec<LiveSession>, Error> {
        live::sessions(self.connection, ledger, most)
    }

    fn has_room_to_read(&mut self, person: &Person, most: (u64, u64)) -> Result<bool, Error> {
        reading::has_room(self, person, most)
    }

    fn keep_reading(&mut self, hash: [u8; 32], nonce: &str, reading: &Reading) -> Result<bool, Error> {
        reading::insert(self, hash, nonce, reading)
    }

    fn keep_run(&mut self, id: Id, run: &Run, envelope: &str) -> Result<runs::Keeping, Error> {
        runs::insert(self, id, run, envelope)
    }

    fn runs(&mut self, source: Option<&Source>, most: usize) -> Result<Vec<runs::Kept>, Error> {
        runs::list(self.connection, source, most)
    }

    fn newest_run(&mut self, source: &Source) -> Result<Option<runs::Newest>, Error> {
        runs::newest(self.connection, source)
    }

    fn reading(&mut self, hash: [u8; 32]) -> Result<Option<Reading>, Error> {
        reading::find(self.connection, hash, self.now)
    }
}
