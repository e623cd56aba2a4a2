//! A receipt: the server's signed word that all of a ledger up to one record, ending in that record's hash, is stored.
//!
//! Kept off the host, it is what finds edits by somebody who holds the host's own key: the chain they write anew does
//! not end in the hash that the server has signed. Made and read here; whom to believe is for the caller to say.

use jiff::Timestamp;
use serde_json::{Map, Value};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};

use crate::{
    Fingerprint, LedgerId,
    armor::{read_armored, verify_armored},
    line::{Hash, MAX_INTEGER, VERSION, canonical, time_text},
};

/// The namespace of a receipt's signature, as in `ssh-keygen -Y verify -n`.
pub const RECEIPT_NAMESPACE: &str = "ssh-access-receipt";
/// The longest receipt, in bytes; one by an ed25519 key takes about 540.
pub const MAX_RECEIPT: usize = 1024;
/// The fields of a receipt, all of them there and no other but `signer`.
const FIELDS: usize = 6;

/// What a receipt says. Alone it proves nothing: see [`SignedReceipt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The ledger.
    pub ledger: LedgerId,
    /// Every record up to this one is stored; from 1.
    pub seq: u64,
    /// The hash of the line of record `seq`.
    pub hash: Hash,
    /// When the server had stored it, by the server's clock; finer than a microsecond is cut off.
    pub received: Timestamp,
    /// The host's key that signs the ledger there, as the server knows it. None for a chain that the server keeps itself.
    ///
    /// Whoever is first to send records under a ledger's id gets receipts over it: by this its host knows that those are
    /// not about its own.
    pub signer: Option<Fingerprint>,
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The key is of another kind.
    #[error("receipts are signed with ed25519 keys only; this is a key of type {0}")]
    Algorithm(String),
    /// A number that no record can have.
    #[error("a receipt cannot be over record {0}: records are numbered from 1 to 2^53-1")]
    Seq(u64),
    /// The library failed to sign, or what it made does not hold.
    #[error("the receipt over record {seq} cannot be signed")]
    Sign {
        /// The record's number.
        seq: u64,
        /// What the library said.
        source: ssh_key::Error,
    },
    /// Over [`MAX_RECEIPT`].
    #[error("it is {0} bytes long; a receipt has at most {MAX_RECEIPT}")]
    TooLong(usize),
    /// Not a JSON object in UTF-8.
    #[error("it is not a JSON object: {0}")]
    NotJson(String),
    /// The same object is written otherwise: spaces, key order, a key twice, needless escapes.
    #[error("it is not in canonical form, as the server writes it and `jq -cS` prints it")]
    NotCanonical,
    /// A field is missing or not what it has to be.
    #[error("its field {0:?} is missing or not as it has to be")]
    Field(&'static str),
    /// A field that no receipt has.
    #[error("it has a field that no receipt has: hash, ledger, received, seq, signature, signer and v are all")]
    MoreFields,
}

impl Receipt {
    /// Signs it with the server's key. The signature is verified before it is handed out.
    ///
    /// # Errors
    /// A key that is not ed25519, a `seq` that no record can have, a signature that fails or does not hold.
    pub fn seal(&self, key: &PrivateKey) -> Result<SignedReceipt, ReceiptError> {
        let seq = self.seq;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(ReceiptError::Algorithm(key.algorithm().to_string()));
        }
        if !(1..=MAX_INTEGER).contains(&seq) {
            return Err(ReceiptError::Seq(seq));
        }
        let mut fields = self.fields();
        let message = canonical(&fields);
        let sign = |source| ReceiptError::Sign { seq, source };
        let signature = key.sign(RECEIPT_NAMESPACE, HashAlg::Sha512, message.as_bytes()).map_err(sign)?;
        key.public_key().verify(RECEIPT_NAMESPACE, message.as_bytes(), &signature).map_err(sign)?;
        let armored = signature.to_pem(LineEnding::LF).map_err(sign)?;
        fields.insert("signature".to_owned(), armored.into());
        SignedReceipt::parse(canonical(&fields).as_bytes())
    }

    /// Every field but the signature.
    fn fields(&self) -> Map<String, Value> {
        let signer = self.signer.as_ref().map(|signer| ("signer", signer.as_str().into()));
        [
            ("hash", self.hash.to_string().into()),
            ("ledger", self.ledger.as_str().into()),
            ("received", time_text(self.received).into()),
            ("seq", self.seq.into()),
            ("v", VERSION.into()),
        ]
        .into_iter()
        .chain(signer)
        .map(|(name, value): (&str, Value)| (name.to_owned(), value))
        .collect()
    }
}

/// A receipt with its signature, in the one way that it can be written. Whose signature it is, and whether it holds,
/// [`SignedReceipt::is_signed_by`] says: nothing is to be believed before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    receipt: Receipt,
    signature: String,
    text: String,
}

impl SignedReceipt {
    /// Reads one, with or without a newline at its end.
    ///
    /// # Errors
    /// [`ReceiptError`] for anything but the canonical form with exactly its fields.
    pub fn parse(line: &[u8]) -> Result<Self, ReceiptError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > MAX_RECEIPT {
            return Err(ReceiptError::TooLong(line.len()));
        }
        let fields: Map<String, Value> =
            serde_json::from_slice(line).map_err(|e| ReceiptError::NotJson(e.to_string()))?;
        let text = canonical(&fields);
        if text.as_bytes() != line {
            return Err(ReceiptError::NotCanonical);
        }
        if fields.get("v").and_then(Value::as_u64) != Some(VERSION) {
            return Err(ReceiptError::Field("v"));
        }
        let word = |name: &'static str| fields.get(name).and_then(Value::as_str).ok_or(ReceiptError::Field(name));
        let received: Timestamp = word("received")?.parse().map_err(|_| ReceiptError::Field("received"))?;
        if time_text(received) != word("received")? {
            return Err(ReceiptError::Field("received"));
        }
        let seq = fields.get("seq").and_then(Value::as_u64).filter(|n| (1..=MAX_INTEGER).contains(n));
        let signer = fields.contains_key("signer").then(|| word("signer")).transpose()?;
        let signer: Option<Fingerprint> =
            signer.map(str::parse).transpose().map_err(|_| ReceiptError::Field("signer"))?;
        let optional = usize::from(signer.is_some());
        let receipt = Receipt {
            ledger: word("ledger")?.parse().map_err(|_| ReceiptError::Field("ledger"))?,
            seq: seq.ok_or(ReceiptError::Field("seq"))?,
            hash: word("hash")?.parse().map_err(|_| ReceiptError::Field("hash"))?,
            received,
            signer,
        };
        let signature = word("signature")?.to_owned();
        if fields.len() != FIELDS + optional {
            return Err(ReceiptError::MoreFields);
        }
        Ok(Self { receipt, signature, text })
    }

    /// What it says.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The canonical object, without a newline: exactly what is sent and kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key that its signature names, where that is an ed25519 key. Whether it signed this,
    /// [`SignedReceipt::is_signed_by`] says, and whose key it is, nobody but whoever is asked elsewhere.
    #[must_use]
    pub fn signer(&self) -> Option<PublicKey> {
        let signature = read_armored(&self.signature).ok()?;
        let key = PublicKey::from(signature.public_key().clone());
        (key.algorithm() == Algorithm::Ed25519).then_some(key)
    }

    /// Whether its signature is this key's, over exactly what it says.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let message = canonical(&self.receipt.fields());
        verify_armored(key, RECEIPT_NAMESPACE, &self.signature, message.as_bytes()).is_ok()
    }
}

#[cfg(test)]
mod tests;
