//! That one ledger's head is in a checkpoint.

use serde_json::{Map, Value};
use ssh_key::PublicKey;

use super::{CheckpointError, HeadError, LedgerHead, SignedCheckpoint, note::MAX_CHECKPOINT, tree};
use crate::line::{Hash, VERSION, canonical};

/// The longest path: of a tree that no server could have.
pub const MAX_PATH: usize = 64;
/// The longest proof, in bytes: a note as JSON has it, and a path.
pub const MAX_PROOF: usize = 2 * MAX_CHECKPOINT + 8 * 1024;

/// A head, the way from it to the root, and the note that has the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadProof {
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// Where the ledger stood.
    pub head: LedgerHead,
    /// The leaf's place, from 0.
    pub index: u64,
    /// The hashes beside, from below.
    pub path: Vec<Hash>,
}

/// Why something proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Over [`MAX_PROOF`].
    #[error("it is {0} bytes long; a proof has at most {MAX_PROOF}")]
    TooLong(usize),
    /// Not a JSON object in UTF-8.
    #[error("it is not a JSON object: {0}")]
    NotJson(String),
    /// The same object is written otherwise.
    #[error("it is not in canonical form, as the server writes it and `jq -cS` prints it")]
    NotCanonical,
    /// A field is missing, is too much, or is not what it has to be.
    #[error("its field {0:?} is missing or not as it has to be")]
    Field(&'static str),
    /// Its checkpoint is none.
    #[error("its checkpoint is none: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Its head is none.
    #[error("its head is none: {0}")]
    Head(#[from] HeadError),
    /// Its checkpoint has another signature than that of a key that is trusted.
    #[error("its checkpoint is not signed by the server's key")]
    Signature,
    /// The path leads elsewhere.
    #[error("its path does not lead from the head to the checkpoint's root")]
    Path,
}

impl HeadProof {
    /// The canonical object, without a newline: what the server answers.
    #[must_use]
    pub fn text(&self) -> String {
        let path: Vec<Value> = self.path.iter().map(|hash| hash.to_string().into()).collect();
        let fields: [(&str, Value); 5] = [
            ("checkpoint", self.checkpoint.as_str().into()),
            ("head", self.head.fields().into()),
            ("index", self.index.into()),
            ("path", path.into()),
            ("v", VERSION.into()),
        ];
        let fields: Map<String, Value> = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        canonical(&fields)
    }

    /// Reads one, with or without a newline at its end. Nothing is to be believed before [`HeadProof::holds`] says so.
    ///
    /// # Errors
    /// [`ProofError`] for anything but the canonical form with exactly its fields.
    pub fn parse(line: &[u8]) -> Result<Self, ProofError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > MAX_PROOF {
            return Err(ProofError::TooLong(line.len()));
        }
        let fields: Map<String, Value> =
            serde_json::from_slice(line).map_err(|error| ProofError::NotJson(error.to_string()))?;
        if fields.get("v").and_then(Value::as_u64) != Some(VERSION) {
            return Err(ProofError::Field("v"));
        }
        let note = fields.get("checkpoint").and_then(Value::as_str).ok_or(ProofError::Field("checkpoint"))?;
        let head = fields.get("head").and_then(Value::as_object).ok_or(ProofError::Field("head"))?;
        let path = fields.get("path").and_then(Value::as_array).filter(|path| path.len() <= MAX_PATH);
        let path = path.ok_or(ProofError::Field("path"))?;
        let hash = |value: &Value| value.as_str()?.parse().ok();
        let read = Self {
            checkpoint: SignedCheckpoint::parse(note.as_bytes())?,
            head: LedgerHead::of(head)?,
            index: fields.get("index").and_then(Value::as_u64).ok_or(ProofError::Field("index"))?,
            path: path.iter().map(hash).collect::<Option<_>>().ok_or(ProofError::Field("path"))?,
        };
        // What is written otherwise, or has more in it, is no proof of this form.
        if read.text().as_bytes() == line { Ok(read) } else { Err(ProofError::NotCanonical) }
    }

    /// Whether one of these keys signed the checkpoint, and the path leads to its root.
    ///
    /// # Errors
    /// It does not.
    pub fn holds(&self, keys: &[PublicKey]) -> Result<(), ProofError> {
        if !keys.iter().any(|key| self.checkpoint.is_signed_by(key)) {
            return Err(ProofError::Signature);
        }
        let checkpoint = self.checkpoint.checkpoint();
        match tree::root_by(self.head.leaf(), self.index, checkpoint.size, &self.path) {
            Some(root) if root == checkpoint.root => Ok(()),
            _ => Err(ProofError::Path),
        }
    }
}
