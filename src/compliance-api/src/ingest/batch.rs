//! A host's batch on its way into the store: the records that hold, and why the next one does not.
//!
//! Nothing gets in here whose signature has not been verified.

use std::ops::Range;

use axum::body::Bytes;
use jiff::Timestamp;
use record::{Hash, LedgerId};

use crate::{
    store::{ledgers::Artifact, live::Notice},
    verdict::Verdict,
};

/// Text of a record: where it stands in the body, or a copy, where the record has escapes in it.
#[derive(Debug, Clone)]
pub(super) enum Text {
    In(Range<usize>),
    Copy(String),
}

impl Text {
    pub(super) fn get<'a>(&'a self, body: &'a Bytes) -> &'a str {
        match self {
            Self::In(range) => std::str::from_utf8(&body[range.clone()]).expect("read as text before"),
            Self::Copy(text) => text,
        }
    }
}

/// A record that holds, by its ledger's key.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    pub(super) prev: Hash,
    pub(super) time: Timestamp,
    /// The line, without its newline, in the body.
    pub(super) line: Range<usize>,
    pub(super) word: Text,
    pub(super) stack: Text,
    pub(super) person: Option<Text>,
    pub(super) account: Option<Text>,
    pub(super) fingerprint: Option<Text>,
    /// The type is one that this server knows.
    pub(super) known: bool,
    pub(super) next_by: Option<Timestamp>,
    /// `key.rotated`: the key that signs from the next record on.
    pub(super) next_key: Option<String>,
    /// `ledger.pruned`: what it accounts for.
    pub(super) pruned: Option<Pruned>,
    /// `daemon.started`: the hash of the token by which the host hears its feed, where it names one.
    pub(super) feed_token: Option<Option<[u8; 32]>>,
    /// What it says of how the host stands.
    pub(super) notices: Vec<Notice>,
}

/// What a `ledger.pruned` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pruned {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) last_hash: Hash,
}

impl Row {
    pub(super) fn bytes<'a>(&self, body: &'a Bytes) -> &'a [u8] {
        &body[self.line.clone()]
    }

    pub(super) fn artifact<'a>(&'a self, body: &'a Bytes, flags: u32) -> Artifact<'a> {
        let text = |text: &'a Option<Text>| text.as_ref().map(|t| t.get(body));
        Artifact {
            seq: self.seq,
            hash: self.hash,
            word: self.word.get(body),
            stack: self.stack.get(body),
            time: self.time,
            person: text(&self.person),
            account: text(&self.account),
            fingerprint: text(&self.fingerprint),
            flags,
            next_by: self.next_by,
            bytes: self.bytes(body),
            kept: None,
        }
    }
}

/// A host's batch, judged.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) body: Bytes,
    pub(super) ledger: LedgerId,
    pub(super) host: String,
    pub(super) stack: String,
    /// `ledger.pruned` records that stand before the rest to account for a gap.
    pub(super) preface: Vec<Row>,
    /// Records that hold, in order; each follows the one before, except at `fork`.
    pub(super) rows: Vec<Row>,
    /// The first of `rows` that does not follow the one before.
    pub(super) fork: Option<usize>,
    /// By which state of the ledger's keys this was judged.
    pub(super) key_epoch: i64,
    /// The ledger was not known when this was judged: its key, to be bound with this enrolment token.
    pub(super) enrol: Option<Enrol>,
    /// Why the record after `rows` is not taken, and its place in the batch.
    pub(super) refusal: Option<Refusal>,
}

impl Batch {
    /// Whether it says what became of documents.
    pub(super) fn has_outcomes(&self) -> bool {
        self.rows.iter().flat_map(|row| &row.notices).any(|notice| matches!(notice, Notice::Outcome { .. }))
    }
}

/// What binds a new ledger to its key.
#[derive(Debug, Clone)]
pub(super) struct Enrol {
    pub(super) token: String,
    /// The stack whose hosts the token enrols.
    pub(super) stack: String,
    pub(super) public_key: String,
    pub(super) fingerprint: String,
}

/// Why one event is not taken.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) index: usize,
    pub(super) id: Option<String>,
    pub(super) problem: Verdict,
}

impl Refusal {
    /// The same, which names the ledger: one that is known, or that a token came with.
    pub(super) fn about(self, ledger: &LedgerId) -> Self {
        Self { problem: self.problem.with("ledger", ledger.as_str()), ..self }
    }
}
