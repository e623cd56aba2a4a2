//! What is answered to a batch: how much was taken, where the chain stands now, and the receipt over that.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use record::{Fingerprint, Receipt, SignedReceipt};
use serde_json::{Value, json};
use ssh_key::PrivateKey;

use super::batch::Refusal;
use crate::{
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
    pub(super) fn answer(self, key: &PrivateKey, signer: Option<Fingerprint>) -> Result<Response, Verdict> {
        let receipt = match &self.head {
            Some(head) if head.head_seq > 0 => Some(receipt(head, key, signer).map_err(store::Error::from)?),
            _ => None,
        };
        let head = self.head.as_ref().map(head_value);
        match self.refusal {
            None => Ok(taken(self.accepted, self.stored, self.head.as_ref(), receipt.as_ref())),
            Some(refusal) => {
                let mut problem = refusal
                    .problem
                    .with("index", refusal.index)
                    .with("accepted", self.accepted)
                    .with("stored", self.stored);
                let receipt = receipt.and_then(|r| serde_json::from_str::<Value>(r.as_str()).ok());
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

fn head_value(head: &Ledger) -> Value {
    json!({"ledger": head.id.as_str(), "seq": head.head_seq, "hash": head.head_hash.to_string()})
}

/// 200. The receipt stands in it byte by byte as it is kept: `jq -c .receipt` gives the line.
fn taken(accepted: usize, stored: usize, head: Option<&Ledger>, receipt: Option<&SignedReceipt>) -> Response {
    let enrolment = if head.is_some_and(|h| h.pending) { "pending" } else { "enrolled" };
    let mut body = format!("{{\"accepted\":{accepted},\"stored\":{stored},\"enrolment\":\"{enrolment}\"");
    if let Some(head) = head {
        body.push_str(&format!(",\"head\":{}", head_value(head)));
    }
    if let Some(receipt) = receipt {
        body.push_str(&format!(",\"receipt\":{}", receipt.as_str()));
    }
    body.push('}');
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], body).into_response()
}
