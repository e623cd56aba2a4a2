//! A ledger held against the receipts of the server that stored it: what somebody who holds the host's own key has
//! edited, dropped, added, reordered, cut off or signed anew since does not lead to the hashes that the server signed.

use std::collections::{BTreeMap, btree_map::Entry};

use serde_json::Value;
use ssh_key::{HashAlg, PublicKey};

use super::Fault;
use crate::{
    ArtifactType, Fingerprint, LedgerId,
    checkpoint::LedgerHead,
    line::{Hash, Record},
    receipt::{ReceiptError, SignedReceipt},
};

/// The most receipts that are taken: one for each batch, so years of a busy host.
pub const MAX_RECEIPTS: usize = 1_000_000;

/// A line that does not count as a receipt.
#[derive(Debug, thiserror::Error)]
pub enum BadReceipt {
    /// It is none.
    #[error("it is no receipt: {0}")]
    Malformed(#[from] ReceiptError),
    /// Its signature is not that of a server's key that is trusted.
    #[error("its signature is not by the server's key")]
    Signature,
    /// The server has signed two different records under one number.
    #[error("it contradicts another receipt of the server for record {seq} of ledger {ledger}")]
    Contradiction {
        /// The ledger.
        ledger: LedgerId,
        /// The record's number.
        seq: u64,
    },
    /// Over [`MAX_RECEIPTS`].
    #[error("there are over {MAX_RECEIPTS} receipts; ask the server for those of one ledger")]
    TooMany,
}

/// What the server has under one number.
#[derive(Debug, Clone)]
struct Stored {
    hash: Hash,
    signer: Option<Fingerprint>,
}

/// Receipts whose signatures hold, and what of them a ledger has met so far.
#[derive(Debug, Default)]
pub struct Receipts {
    keys: Vec<PublicKey>,
    by_ledger: BTreeMap<LedgerId, BTreeMap<u64, Stored>>,
    count: usize,
    /// The ledger that is held against them.
    own: Option<LedgerId>,
    /// The key that signs it where it is being read.
    signer: Option<Fingerprint>,
    /// Whether a receipt over a ledger of another key was told of: one is enough.
    other_told: bool,
    /// What it says of the one before it.
    ancestor: Option<(LedgerId, u64, Option<Hash>)>,
    /// The furthest record that is as acknowledged.
    met: u64,
    /// From here on the ledger is another one than the server's.
    diverged: bool,
}

impl Receipts {
    /// None yet; those will count that one of these keys has signed.
    #[must_use]
    pub fn by(keys: Vec<PublicKey>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// Takes one more, as a line of NDJSON.
    ///
    /// # Errors
    /// [`BadReceipt`]: it does not count.
    pub fn add(&mut self, line: &[u8]) -> Result<(), BadReceipt> {
        let signed = SignedReceipt::parse(line)?;
        if !self.keys.iter().any(|key| signed.is_signed_by(key)) {
            return Err(BadReceipt::Signature);
        }
        if self.count >= MAX_RECEIPTS {
            return Err(BadReceipt::TooMany);
        }
        let receipt = signed.receipt();
        let of_ledger = self.by_ledger.entry(receipt.ledger.clone()).or_default();
        let stored = Stored { hash: receipt.hash, signer: receipt.signer.clone() };
        match of_ledger.insert(receipt.seq, stored) {
            Some(other) if other.hash != receipt.hash => {
                Err(BadReceipt::Contradiction { ledger: receipt.ledger.clone(), seq: receipt.seq })
            }
            Some(_) => Ok(()),
            None => {
                self.count += 1;
                Ok(())
            }
        }
    }

    /// Takes where a ledger stood by a checkpoint of the server's: as good as a receipt, which names no key.
    ///
    /// # Errors
    /// [`BadReceipt`]: it contradicts a receipt, or there are too many.
    pub fn add_head(&mut self, head: &LedgerHead) -> Result<(), BadReceipt> {
        if self.count >= MAX_RECEIPTS {
            return Err(BadReceipt::TooMany);
        }
        match self.by_ledger.entry(head.ledger.clone()).or_default().entry(head.seq) {
            Entry::Occupied(known) if known.get().hash != head.hash => {
                Err(BadReceipt::Contradiction { ledger: head.ledger.clone(), seq: head.seq })
            }
            // A receipt says more: by which key.
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(place) => {
                place.insert(Stored { hash: head.hash, signer: None });
                self.count += 1;
                Ok(())
            }
        }
    }

    /// How many different ones there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Up to which record the ledger is as acknowledged.
    pub(super) fn met(&self) -> u64 {
        self.met
    }

    /// Holds the next record against them; the first one that is another than the server's is a fault.
    pub(super) fn meet(&mut self, record: &Record) -> Option<Fault> {
        if self.own.is_none() {
            self.own = Some(record.ledger().clone());
            self.signer = record.signer().and_then(|key| fingerprint(&key));
            // What was pruned before the first record here ended in the hash that this one names.
            let before = record.seq() - 1;
            if let Some(fault) = self.compare(record.ledger(), before, record.prev()) {
                return Some(fault);
            }
        }
        if record.seq() <= 2
            && let Some(ancestor) = record.detail("ancestor")
        {
            self.ancestor = ancestor_in(ancestor);
        }
        let fault = self.compare(record.ledger(), record.seq(), record.hash());
        if record.kind() == Some(ArtifactType::KeyRotated) {
            self.signer = record.public_key().and_then(|key| fingerprint(&key));
        }
        fault
    }

    /// The fault where this is about a ledger of another key, as somebody else can have sent under this one's id.
    fn other_signer(&self, seq: u64, stored: &Stored) -> Option<Fault> {
        let signer = stored.signer.clone().filter(|signer| Some(signer) != self.signer.as_ref())?;
        Some(Fault::OtherSigner { acknowledged: seq, signer })
    }

    fn compare(&mut self, ledger: &LedgerId, seq: u64, found: Hash) -> Option<Fault> {
        let stored = self.by_ledger.get_mut(ledger)?.remove(&seq)?;
        if stored.hash != found
            && let Some(fault) = self.other_signer(seq, &stored)
        {
            return (!std::mem::replace(&mut self.other_told, true)).then_some(fault);
        }
        if stored.hash == found && !self.diverged {
            self.met = self.met.max(seq);
            return None;
        }
        let first = stored.hash != found && !std::mem::replace(&mut self.diverged, true);
        first.then_some(Fault::NotAsAcknowledged { after: self.met })
    }

    /// What the server has and the ledger, from record `first` to `last`, did not show.
    pub(super) fn missing(&self, first: u64, last: u64) -> Vec<Fault> {
        let Some(own) = &self.own else { return Vec::new() };
        let mut faults = Vec::new();
        match self.by_ledger.get(own) {
            Some(left) => {
                if let Some((&seq, _)) = left.range(first..=last).next().filter(|_| !self.diverged) {
                    faults.push(Fault::AcknowledgedMissing { seq });
                }
                if let Some((&acknowledged, stored)) = left.range(last + 1..).next_back() {
                    match self.other_signer(acknowledged, stored) {
                        Some(fault) if !self.other_told => faults.push(fault),
                        Some(_) => {}
                        None => faults.push(Fault::CutOff { acknowledged }),
                    }
                }
            }
            None if self.by_ledger.is_empty() => {}
            None if self.ancestor.as_ref().is_some_and(|(ledger, ..)| self.by_ledger.contains_key(ledger)) => {}
            None => faults.push(Fault::OtherLedgersOnly { ledgers: self.by_ledger.len() }),
        }
        faults.extend(self.ancestor_cut());
        faults
    }

    /// Whether the ledger before this one went further, by the server's word, than this one says, or elsewhere.
    fn ancestor_cut(&self) -> Option<Fault> {
        let (ledger, seq, hash) = self.ancestor.as_ref()?;
        let of_ledger = self.by_ledger.get(ledger)?;
        let acknowledged = of_ledger.keys().next_back().copied()?;
        let other = of_ledger.get(seq).is_some_and(|stored| Some(stored.hash) != *hash);
        (acknowledged > *seq || other).then(|| Fault::AncestorCut { ledger: ledger.clone(), acknowledged, said: *seq })
    }
}

fn fingerprint(key: &PublicKey) -> Option<Fingerprint> {
    key.fingerprint(HashAlg::Sha256).to_string().parse().ok()
}

fn ancestor_in(value: &Value) -> Option<(LedgerId, u64, Option<Hash>)> {
    let ledger = value.get("ledger")?.as_str()?.parse().ok()?;
    let hash = value.get("hash").and_then(Value::as_str).and_then(|hash| hash.parse().ok());
    Some((ledger, value.get("seq")?.as_u64()?, hash))
}
