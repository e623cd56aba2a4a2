//! Checkpoints that somebody kept, and proofs, compared: no ledger goes back, and none has two pasts.

use std::collections::BTreeMap;

use ssh_key::PublicKey;

use super::{HeadProof, LedgerHead, ProofError, SignedCheckpoint};
use crate::{LedgerId, line::Hash};

/// The most proofs, and the most notes, that are taken.
pub const MAX_PROOFS: usize = 100_000;

/// What does not count, or shows that a server has said two things.
#[derive(Debug, thiserror::Error)]
pub enum BadProof {
    /// It proves nothing.
    #[error("it proves nothing: {0}")]
    Proof(#[from] ProofError),
    /// A note that no key that is trusted has signed.
    #[error("the checkpoint is not signed by the server's key")]
    Signature,
    /// Two checkpoints of one number.
    #[error("the server has signed two different checkpoints {0}")]
    TwoCheckpoints(u64),
    /// Two heads of one ledger in one checkpoint.
    #[error("checkpoint {number} has ledger {ledger} twice, at records {one} and {other}")]
    Twice {
        /// Which checkpoint.
        number: u64,
        /// Which ledger.
        ledger: LedgerId,
        /// Where it stands by one leaf.
        one: u64,
        /// And by another.
        other: u64,
    },
    /// It went back.
    #[error(
        "ledger {ledger} stood at record {before} in checkpoint {earlier}, and at record {after} in checkpoint {later}"
    )]
    Back {
        /// Which ledger.
        ledger: LedgerId,
        /// The earlier checkpoint.
        earlier: u64,
        /// Where the ledger stood.
        before: u64,
        /// The later checkpoint.
        later: u64,
        /// Where the ledger stands.
        after: u64,
    },
    /// It has two pasts.
    #[error("record {seq} of ledger {ledger} is another in checkpoint {later} than in checkpoint {earlier}")]
    Fork {
        /// Which ledger.
        ledger: LedgerId,
        /// Which record.
        seq: u64,
        /// The earlier checkpoint.
        earlier: u64,
        /// The later checkpoint.
        later: u64,
    },
    /// More than are taken.
    #[error("there are over {MAX_PROOFS} of them; give those of one ledger")]
    TooMany,
}

/// Notes and proofs whose signatures hold.
#[derive(Debug, Default)]
pub struct Kept {
    keys: Vec<PublicKey>,
    /// What each checkpoint says, by its number.
    notes: BTreeMap<u64, String>,
    heads: BTreeMap<LedgerId, BTreeMap<u64, (u64, Hash)>>,
    count: usize,
}

impl Kept {
    /// None yet; those will count that one of these keys has signed.
    #[must_use]
    pub fn by(keys: Vec<PublicKey>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// Takes a note that somebody kept.
    ///
    /// # Errors
    /// [`BadProof`]: it does not count, or another one of this number is known.
    pub fn add_note(&mut self, note: &SignedCheckpoint) -> Result<(), BadProof> {
        if !self.keys.iter().any(|key| note.is_signed_by(key)) {
            return Err(BadProof::Signature);
        }
        self.same(note)
    }

    fn same(&mut self, note: &SignedCheckpoint) -> Result<(), BadProof> {
        let checkpoint = note.checkpoint();
        let text = checkpoint.text();
        match self.notes.get(&checkpoint.number) {
            Some(known) if *known != text => Err(BadProof::TwoCheckpoints(checkpoint.number)),
            Some(_) => Ok(()),
            None if self.notes.len() >= MAX_PROOFS => Err(BadProof::TooMany),
            None => {
                self.notes.insert(checkpoint.number, text);
                Ok(())
            }
        }
    }

    /// Takes a proof, and the note in it.
    ///
    /// # Errors
    /// [`BadProof`]: it does not hold, or contradicts what is known.
    pub fn add(&mut self, proof: &HeadProof) -> Result<(), BadProof> {
        proof.holds(&self.keys)?;
        self.same(&proof.checkpoint)?;
        if self.count >= MAX_PROOFS {
            return Err(BadProof::TooMany);
        }
        let number = proof.checkpoint.checkpoint().number;
        let head = &proof.head;
        let of_ledger = self.heads.entry(head.ledger.clone()).or_default();
        compare(of_ledger, number, head)?;
        if of_ledger.insert(number, (head.seq, head.hash)).is_none() {
            self.count += 1;
        }
        Ok(())
    }

    /// How many notes there are, and how many proofs.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        (self.notes.len(), self.count)
    }

    /// The numbers of notes without a proof about this ledger: nothing can be said by them.
    #[must_use]
    pub fn unproven(&self, ledger: &LedgerId) -> Vec<u64> {
        let of_ledger = self.heads.get(ledger);
        self.notes.keys().filter(|n| of_ledger.is_none_or(|all| !all.contains_key(n))).copied().collect()
    }

    /// Every head that is proven.
    pub fn heads(&self) -> impl Iterator<Item = LedgerHead> {
        let of_ledger = |(ledger, all): (&LedgerId, &BTreeMap<u64, (u64, Hash)>)| {
            let ledger = ledger.clone();
            all.values()
                .map(move |(seq, hash)| LedgerHead { ledger: ledger.clone(), seq: *seq, hash: *hash })
                .collect::<Vec<_>>()
        };
        self.heads.iter().flat_map(of_ledger)
    }
}

/// A ledger only ever grows from one checkpoint to the next, and keeps what it had.
fn compare(known: &BTreeMap<u64, (u64, Hash)>, number: u64, head: &LedgerHead) -> Result<(), BadProof> {
    for (&other, &(seq, hash)) in known {
        let ledger = head.ledger.clone();
        if other == number && (seq, hash) != (head.seq, head.hash) {
            return Err(BadProof::Twice { number, ledger, one: seq, other: head.seq });
        }
        let (earlier, later) = (other.min(number), other.max(number));
        if seq == head.seq && hash != head.hash {
            return Err(BadProof::Fork { ledger, seq, earlier, later });
        }
        let (before, after) = if other < number { (seq, head.seq) } else { (head.seq, seq) };
        if before > after {
            return Err(BadProof::Back { ledger, earlier, before, later, after });
        }
    }
    Ok(())
}
