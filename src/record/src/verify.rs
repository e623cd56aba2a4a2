//! Whether a sequence of lines is one untouched ledger: fed line after line, it says exactly what is off and where.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;
use ssh_key::PublicKey;

pub use self::receipts::{BadReceipt, MAX_RECEIPTS, Receipts};
use crate::{
    AllowedSigner, ArtifactType, Fingerprint, Host, LedgerId,
    line::{Hash, Malformed, Record},
};

mod receipts;

/// The most findings that are kept; more are counted.
pub const MAX_FINDINGS: usize = 1000;

/// How much is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The chain, and the last signature, which covers all before it.
    Chain,
    /// Every signature too: tells which record was touched.
    Full,
}

/// Whom to believe about the first key.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The ledger itself: shows that it is whole, not whose it is.
    FirstKey,
    /// This key and no other.
    Key(Box<PublicKey>),
    /// Keys that an `allowed_signers` file lists for the host.
    Signers(Vec<AllowedSigner>),
}

/// What is off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is no record.
    #[error("the line is no record: {0}")]
    Malformed(Malformed),
    /// The last line has no newline: a write was cut short, or somebody cut it.
    #[error("the last line is torn: it does not end in a newline")]
    Torn,
    /// Records are missing, or in another order.
    #[error("expected record {expected}, found {found}: records are missing or out of order")]
    Sequence {
        /// The number that had to come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// `prev` is not the hash of the line before: that line, or this one, is not what was written.
    #[error("prev is not the SHA-256 of the line before: that line was changed, or this one does not belong here")]
    Chain,
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// Another ledger's record.
    #[error("it belongs to ledger {found}, not to {expected}")]
    Ledger {
        /// The ledger of the records before.
        expected: LedgerId,
        /// The ledger it names.
        found: LedgerId,
    },
    /// Another host's record.
    #[error("it is about host {found}, not {expected}")]
    Host {
        /// The host of the records before.
        expected: Host,
        /// The host it names.
        found: Host,
    },
    /// The first line introduces no key: verification can start at a `ledger.segment` or `ledger.opened` only.
    #[error("verification cannot start here: only ledger.segment and ledger.opened carry the public key")]
    Start,
    /// A segment names another key than the one in force.
    #[error("it names another public key than the one in force")]
    OtherKey,
    /// The first key is not one that is trusted for this host.
    #[error("its key is not a trusted signer for host {0}")]
    Untrusted(Host),
    /// `key.rotated` without a usable key.
    #[error("it introduces no ed25519 public key")]
    NoNewKey,
    /// `ledger.pruned` contradicts what is here.
    #[error("ledger.pruned names another last record or hash than the one that stands here")]
    Pruned,
    /// The start is gone, and no `ledger.pruned` accounts for it.
    #[error("records 1 to {0} are missing, and no ledger.pruned accounts for them")]
    Unaccounted(u64),
    /// The server has another record under this number.
    #[error(
        "the server has acknowledged another record under this number: after record {after}, up to this one, records were changed, dropped, added or signed anew"
    )]
    NotAsAcknowledged {
        /// The last record that is as acknowledged.
        after: u64,
    },
    /// The server has a ledger of this id by another key.
    #[error(
        "the server has acknowledged record {acknowledged} of this ledger as signed by {signer}, which does not sign it here: signed anew with another key, or somebody else sent records under its id"
    )]
    OtherSigner {
        /// The record that is acknowledged.
        acknowledged: u64,
        /// Who signs it, by the server's word.
        signer: Fingerprint,
    },
    /// A record that the server has is not here, while earlier and later ones are.
    #[error("the server has acknowledged record {seq}, and it is not here")]
    AcknowledgedMissing {
        /// The record's number.
        seq: u64,
    },
    /// The server has records beyond the last one here.
    #[error(
        "the server has acknowledged records to {acknowledged}, and this is the last one here: the end was cut off"
    )]
    CutOff {
        /// The last record that is acknowledged.
        acknowledged: u64,
    },
    /// There are receipts, and none is for this ledger or the one before.
    #[error(
        "none of the receipts, which are for {ledgers} other ledgers, is for this one or the one before: signed anew as another?"
    )]
    OtherLedgersOnly {
        /// How many ledgers they are for.
        ledgers: usize,
    },
    /// The server has more, or other, of the ledger before than this one says.
    #[error(
        "of the ledger before, {ledger}, the server has acknowledged records to {acknowledged}, and this one says that it ended otherwise at {said}"
    )]
    AncestorCut {
        /// The ledger before.
        ledger: LedgerId,
        /// The last record of it that is acknowledged.
        acknowledged: u64,
        /// The last record of it by this ledger's word.
        said: u64,
    },
    /// Nothing to verify.
    #[error("there is no record")]
    Empty,
}

/// One thing that is off, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line, from 1, counted over everything that was fed.
    pub line: u64,
    /// The record's number, where it could be read.
    pub seq: Option<u64>,
    /// What is off.
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "record {seq} (line {}): {}", self.line, self.fault),
            None => write!(f, "line {}: {}", self.line, self.fault),
        }
    }
}

/// What a verification came to.
#[derive(Debug, Clone)]
#[must_use = "a verdict that nobody reads verifies nothing"]
pub struct Verdict {
    /// Everything that is off, at most [`MAX_FINDINGS`]; empty when all is well.
    pub findings: Vec<Finding>,
    /// How many there were beyond those kept.
    pub more: u64,
    /// The ledger, where one record could be read.
    pub ledger: Option<LedgerId>,
    /// The host, likewise.
    pub host: Option<Host>,
    /// The first record's number.
    pub first: u64,
    /// The last record's number and hash: "complete to".
    pub last: u64,
    /// The hash of the last record's line.
    pub last_hash: Hash,
    /// How many lines were read.
    pub lines: u64,
    /// The key in force at the end.
    pub key: Option<PublicKey>,
    /// Up to which record it is as the receipts say, 0 where no receipt is at hand: "acknowledged to".
    pub acknowledged: u64,
}

impl Verdict {
    /// Whether nothing is off.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.more == 0
    }
}

/// The streaming verifier.
#[derive(Debug)]
pub struct Verifier {
    depth: Depth,
    trust: Trust,
    whole: bool,
    begins_with: Option<PublicKey>,
    line: u64,
    first: Option<(u64, Hash)>,
    last: Option<Record>,
    key: Option<PublicKey>,
    /// Hash of the last record before each segment, for what `ledger.pruned` says about it.
    ends: BTreeMap<u64, Hash>,
    /// The furthest that a `ledger.pruned` accounts for.
    pruned: Option<(u64, Hash)>,
    receipts: Receipts,
    findings: Vec<Finding>,
    more: u64,
}

impl Verifier {
    /// A verifier that expects the lines of one ledger from its first record, or from what `ledger.pruned` left.
    #[must_use]
    pub fn new(depth: Depth, trust: Trust) -> Self {
        Self {
            depth,
            trust,
            whole: true,
            begins_with: None,
            line: 0,
            first: None,
            last: None,
            key: None,
            ends: BTreeMap::new(),
            pruned: None,
            receipts: Receipts::default(),
            findings: Vec::new(),
            more: 0,
        }
    }

    /// For the end of a ledger alone: that its start is not there is no finding.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.whole = false;
        self
    }

    /// For a part of a ledger, wherever it begins: this key is in force there, as is known from elsewhere.
    #[must_use]
    pub fn beginning_with(mut self, key: PublicKey) -> Self {
        self.begins_with = Some(key);
        self.partial()
    }

    /// Holds the ledger against these receipts too.
    #[must_use]
    pub fn against(mut self, receipts: Receipts) -> Self {
        self.receipts = receipts;
        self
    }

    /// Takes the next line, with its newline; without one it is torn. Returns the record where it could be read, and
    /// whether this line added nothing to the findings.
    pub fn line(&mut self, line: &[u8]) -> (Option<&Record>, bool) {
        let before = self.found();
        self.line += 1;
        if !line.ends_with(b"\n") {
            self.find(None, Fault::Torn);
            return (None, false);
        }
        match Record::parse(line) {
            Ok(record) => {
                self.judge(&record);
                if let Some(fault) = self.receipts.meet(&record) {
                    self.find(Some(record.seq()), fault);
                }
                self.last = Some(record);
                (self.last.as_ref(), self.found() == before)
            }
            Err(why) => {
                self.find(None, Fault::Malformed(why));
                (None, false)
            }
        }
    }

    /// What it all came to. The last signature is verified here.
    pub fn finish(mut self) -> Verdict {
        if self.depth == Depth::Chain {
            self.check_last_signature();
        }
        match self.first {
            None if self.findings.is_empty() => self.find(None, Fault::Empty),
            Some((first, prev)) if first > 1 && self.whole => match self.pruned {
                Some((to, hash)) if to + 1 > first || (to + 1 == first && hash == prev) => {}
                _ => {
                    self.findings.insert(0, Finding { line: 1, seq: Some(first), fault: Fault::Unaccounted(first - 1) })
                }
            },
            _ => {}
        }
        let (first, end) = (self.first.map_or(0, |(seq, _)| seq), self.last.as_ref().map_or(0, Record::seq));
        for fault in self.receipts.missing(first, end) {
            self.find(Some(end), fault);
        }
        let last = self.last.as_ref();
        Verdict {
            acknowledged: self.receipts.met(),
            more: self.more,
            ledger: last.map(|r| r.ledger().clone()),
            host: last.map(|r| r.host().clone()),
            first: self.first.map_or(0, |(seq, _)| seq),
            last: last.map_or(0, Record::seq),
            last_hash: last.map_or(Hash::ZERO, Record::hash),
            lines: self.line,
            key: self.key,
            findings: self.findings,
        }
    }

    fn found(&self) -> u64 {
        self.findings.len() as u64 + self.more
    }

    fn find(&mut self, seq: Option<u64>, fault: Fault) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { line: self.line, seq, fault });
        } else {
            self.more += 1;
        }
    }

    fn judge(&mut self, record: &Record) {
        let seq = Some(record.seq());
        if let Some(last) = self.last.take() {
            self.follow(&last, record);
        } else {
            self.first = Some((record.seq(), record.prev()));
            if record.seq() == 1 && record.prev() != Hash::ZERO {
                self.find(seq, Fault::Chain);
            }
            self.start(record);
        }
        let signed = match &self.key {
            // A change of key counts only if the old key says so: checked at any depth.
            Some(key) if self.depth == Depth::Full || record.kind() == Some(ArtifactType::KeyRotated) => {
                record.is_signed_by(key)
            }
            _ => true,
        };
        if !signed {
            self.find(seq, Fault::Signature);
        }
        match record.kind() {
            Some(ArtifactType::LedgerSegment | ArtifactType::LedgerOpened) if self.key.is_some() => {
                if record.public_key().as_ref().map(PublicKey::key_data) != self.key.as_ref().map(PublicKey::key_data) {
                    self.find(seq, Fault::OtherKey);
                }
                self.ends.insert(record.seq() - 1, record.prev());
            }
            Some(ArtifactType::KeyRotated) if signed => match record.public_key() {
                Some(key) => self.key = Some(key),
                None => self.find(seq, Fault::NoNewKey),
            },
            Some(ArtifactType::LedgerPruned) => self.account(record),
            _ => {}
        }
    }

    /// The first record: it has to bring the key, and the key has to be trusted.
    fn start(&mut self, record: &Record) {
        let seq = Some(record.seq());
        let introduces = matches!(record.kind(), Some(ArtifactType::LedgerSegment | ArtifactType::LedgerOpened));
        if let Some(key) = self.begins_with.take() {
            if introduces && record.public_key().as_ref().map(PublicKey::key_data) != Some(key.key_data()) {
                self.find(seq, Fault::OtherKey);
            }
            self.key = Some(key);
            return;
        }
        let Some(key) = record.public_key().filter(|_| introduces) else {
            if let Trust::Key(key) = &self.trust {
                self.key = Some((**key).clone());
            }
            return self.find(seq, Fault::Start);
        };
        let trusted = match &self.trust {
            Trust::FirstKey => true,
            Trust::Key(only) => only.key_data() == key.key_data(),
            Trust::Signers(all) => all.iter().any(|s| s.key().key_data() == key.key_data() && s.allows(record.host())),
        };
        if !trusted {
            self.find(seq, Fault::Untrusted(record.host().clone()));
        }
        self.key = Some(key);
    }

    fn follow(&mut self, last: &Record, record: &Record) {
        let seq = Some(record.seq());
        if record.ledger() != last.ledger() {
            self.find(seq, Fault::Ledger { expected: last.ledger().clone(), found: record.ledger().clone() });
        }
        if record.host() != last.host() {
            self.find(seq, Fault::Host { expected: last.host().clone(), found: record.host().clone() });
        }
        if record.seq() != last.seq() + 1 {
            self.find(seq, Fault::Sequence { expected: last.seq() + 1, found: record.seq() });
        } else if record.prev() != last.hash() {
            self.find(seq, Fault::Chain);
        }
    }

    fn account(&mut self, record: &Record) {
        let to = record.detail("last").and_then(Value::as_u64);
        let hash = record.detail("last_hash").and_then(Value::as_str).and_then(|h| h.parse().ok());
        let (Some(to), Some(hash)) = (to, hash) else {
            return self.find(Some(record.seq()), Fault::Malformed(Malformed::Field("detail")));
        };
        if to >= record.seq() || self.ends.get(&to).is_some_and(|end| *end != hash) {
            return self.find(Some(record.seq()), Fault::Pruned);
        }
        if self.pruned.is_none_or(|(furthest, _)| furthest < to) {
            self.pruned = Some((to, hash));
        }
    }

    fn check_last_signature(&mut self) {
        let (Some(last), Some(key)) = (&self.last, &self.key) else { return };
        // A key.rotated in last place was signed by the key before it, and checked when it came.
        if last.kind() != Some(ArtifactType::KeyRotated) && !last.is_signed_by(key) {
            let seq = last.seq();
            self.find(Some(seq), Fault::Signature);
        }
    }
}

#[cfg(test)]
mod tests;
