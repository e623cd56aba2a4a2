//! Where one ledger stood: a leaf of the tree.

use serde_json::{Map, Value};

use super::tree;
use crate::{
    LedgerId,
    line::{Hash, MAX_INTEGER, canonical},
};

/// The longest leaf, in bytes.
pub const MAX_HEAD: usize = 256;

/// Where a ledger stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerHead {
    /// Which ledger.
    pub ledger: LedgerId,
    /// Its last record's number; from 1.
    pub seq: u64,
    /// The SHA-256 of that record's line with its newline.
    pub hash: Hash,
}

/// Why something is no head of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A field is missing, is too much, or is not what it has to be.
    #[error("{0:?} is not what it has to be in a ledger's head, which has hash, ledger and seq alone")]
    Field(&'static str),
}

impl LedgerHead {
    /// The leaf: the canonical JSON object with `hash`, `ledger` and `seq`, without a newline, as `jq -cjS` prints it.
    #[must_use]
    pub fn text(&self) -> String {
        canonical(&self.fields())
    }

    /// The same as an object.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let fields: [(&str, Value); 3] =
            [("hash", self.hash.to_string().into()), ("ledger", self.ledger.as_str().into()), ("seq", self.seq.into())];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The leaf's hash in the tree.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        tree::leaf(self.text().as_bytes())
    }

    /// Reads such an object.
    pub(super) fn of(fields: &Map<String, Value>) -> Result<Self, HeadError> {
        let word = |name: &'static str| fields.get(name).and_then(Value::as_str).ok_or(HeadError::Field(name));
        let seq = fields.get("seq").and_then(Value::as_u64).filter(|n| (1..=MAX_INTEGER).contains(n));
        let head = Self {
            ledger: word("ledger")?.parse().map_err(|_| HeadError::Field("ledger"))?,
            seq: seq.ok_or(HeadError::Field("seq"))?,
            hash: word("hash")?.parse().map_err(|_| HeadError::Field("hash"))?,
        };
        if fields.len() == 3 { Ok(head) } else { Err(HeadError::Field("head")) }
    }
}
