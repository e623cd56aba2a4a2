//! What is answered to a batch: how much was taken, where the chain stands now, and the receipt over that.

use record::{Fingerprint, Receipt, SignedReceipt};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use ssh_key::PrivateKey;
use utoipa::ToSchema;

use super::batch::Refusal;
use crate::{
    moment::Moment,
    store::{self, ledgers::Ledger},
    verdict::Verdict,
};

/// What became of a batch. All of it is on disk.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Events that are stored now, those that were before included.
    pub(super) accepted: usize,
    /// Those of them that were not before.
    pub(super) stored: usize,
    /// Where the chain stands; none if there is none.
    pub(super) head: Option<Ledger>,
    /// Why the next event is not taken.
    pub(super) refusal: Option<Refusal>,
}

impl Outcome {
    /// The answer; `signer` is the host's key that signs the ledger at its head.
    pub(super) fn answer(self, key: &PrivateKey, signer: Option<Fingerprint>) -> Result<Taken, Verdict> {
        let receipt = match &self.head {
            Some(head) if head.head_seq > 0 => Some(receipt(head, key, signer).map_err(store::Error::from)?),
            _ => None,
        };
        let receipt = receipt.and_then(|r| RawValue::from_string(r.as_str().to_owned()).ok());
        let head = self.head.as_ref().map(Head::of);
        let pending = self.head.as_ref().is_some_and(|head| head.pending);
        match self.refusal {
            None => Ok(Taken {
                accepted: self.accepted,
                stored: self.stored,
                enrolment: if pending { Enrolled::Pending } else { Enrolled::Enrolled },
                head,
                receipt,
            }),
            Some(refusal) => {
                let mut problem = refusal
                    .problem
                    .with("index", refusal.index)
                    .with("accepted", self.accepted)
                    .with("stored", self.stored);
                let receipt = receipt.and_then(|r| serde_json::from_str::<Value>(r.get()).ok());
                let head = head.map(|head| json!(head));
                for (name, value) in [("id", refusal.id.map(Value::from)), ("head", head), ("receipt", receipt)] {
                    if let Some(value) = value {
                        problem = problem.with(name, value);
                    }
                }
                Err(problem)
            }
        }
    }
}

fn receipt(
    head: &Ledger,
    key: &PrivateKey,
    signer: Option<Fingerprint>,
) -> Result<SignedReceipt, record::ReceiptError> {
    let (seq, hash, received) = (head.head_seq, head.head_hash, head.head_received);
    Receipt { ledger: head.id.clone(), seq, hash, received, signer }.seal(key)
}

/// Where a chain stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Head {
    /// The chain.
    ledger: String,
    /// The last record's number.
    #[schema(minimum = 0)]
    seq: u64,
    /// SHA-256 of its line, in hex.
    hash: String,
}

impl Head {
    fn of(ledger: &Ledger) -> Self {
        Self { ledger: ledger.id.to_string(), seq: ledger.head_seq, hash: ledger.head_hash.to_string() }
    }
}

/// The server's signed word that all of a ledger up to `seq` is stored: docs/RECORDS.md, "Receipts".
#[derive(ToSchema)]
#[schema(as = Receipt)]
#[allow(dead_code, reason = "it describes what the record's crate writes")]
pub(super) struct DescribedReceipt {
    /// Always 1.
    v: u64,
    /// The chain.
    ledger: String,
    /// The last record that is stored.
    #[schema(minimum = 1)]
    seq: u64,
    /// SHA-256 of its line, in hex.
    hash: String,
    /// When it was stored.
    received: Moment,
    /// The fingerprint of the host's key that signs the ledger there; absent for a chain that the server keeps itself.
    signer: Option<String>,
    /// Armored SSHSIG, namespace ssh-access-receipt, over the canonical object without `signature`.
    signature: String,
}

/// Whether a ledger counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Enrolled {
    /// It does.
    Enrolled,
    /// An admin has yet to approve it.
    Pending,
}

/// What was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Taken {
    /// Events that are stored now, those that were before included.
    accepted: usize,
    /// Those of them that were not before.
    stored: usize,
    /// `pending`: stored, and no evidence until an admin approves the ledger.
    enrolment: Enrolled,
    /// Where the chain stands now.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Head>,
    /// The receipt over that head. It stands here byte by byte as it is kept: `jq -c .receipt` gives the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DescribedReceipt>)]
    receipt: Option<Box<RawValue>>,
}
