//! Checkpoints: a server's signed word on where every ledger that it keeps stood at one moment, which anybody can keep.
//!
//! The ledgers' heads, in order of the ledgers' ids, are the leaves of a Merkle tree as in RFC 6962 and RFC 9162. Its root
//! stands in a note of the form C2SP `tlog-checkpoint`, signed with the server's key. A proof leads from one head to the
//! root, so whoever kept the note can hold a ledger against it without seeing any other.
//!
//! Each checkpoint is a tree of its own: a later one has other leaves in the same places. There is no proof that one tree
//! continues another, and two notes are compared ledger by ledger: [`Kept`] does that.

mod head;
mod kept;
mod note;
mod proof;
mod tree;

pub use head::{HeadError, LedgerHead, MAX_HEAD};
pub use kept::{BadProof, Kept, MAX_PROOFS};
pub use note::{Checkpoint, CheckpointError, MAX_CHECKPOINT, MAX_ORIGIN, SignedCheckpoint};
pub use proof::{HeadProof, MAX_PATH, MAX_PROOF, ProofError};
pub use tree::{leaf, path, root, root_by};

#[cfg(test)]
mod tests;
