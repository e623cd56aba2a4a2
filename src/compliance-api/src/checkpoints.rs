//! Checkpoints of this server: signed notes over the heads of every chain, its own included, which anybody can keep.

use record::{
    Hash, LedgerId,
    checkpoint::{Checkpoint, HeadProof, LedgerHead, SignedCheckpoint, path, root},
};

use crate::store::{Error, Tx, checkpoints::Kept};

/// Makes one of where every chain stands now, and keeps it.
///
/// # Errors
/// The store's; a note that cannot be signed.
pub fn make(tx: &mut dyn Tx) -> Result<SignedCheckpoint, Error> {
    let newest = tx.newest_artifact()?;
    let leaves = leaves(&tx.heads_at(newest)?);
    let number = tx.newest_checkpoint()?.map_or(0, |kept| kept.number) + 1;
    let server = tx.server();
    let checkpoint = Checkpoint {
        origin: format!("{}/checkpoints", server.name),
        size: leaves.len() as u64,
        root: root(&leaves),
        number,
        time: tx.now(),
    };
    let signed = checkpoint.sign(&server.key.key)?;
    tx.keep_checkpoint(&Kept { number, newest, made: tx.now(), note: signed.as_str().to_owned() })?;
    Ok(signed)
}

/// The heads that a kept checkpoint is over, held against its root.
#[derive(Debug)]
pub struct Leaves {
    signed: SignedCheckpoint,
    heads: Vec<LedgerHead>,
    hashes: Vec<Hash>,
}

impl Leaves {
    /// Those of this one.
    ///
    /// # Errors
    /// The store's; [`Error::Unsound`] where the chains are not any more as the server signed.
    pub fn of(tx: &mut dyn Tx, kept: &Kept) -> Result<Self, Error> {
        let unsound = |why: String| Error::Unsound(format!("checkpoint {}: {why}", kept.number));
        let signed = SignedCheckpoint::parse(kept.note.as_bytes()).map_err(|error| unsound(error.to_string()))?;
        let heads = tx.heads_at(kept.newest)?;
        let hashes = leaves(&heads);
        let checkpoint = signed.checkpoint();
        if checkpoint.size != hashes.len() as u64 || checkpoint.root != root(&hashes) {
            return Err(unsound("the chains are not as they were when it was signed".to_owned()));
        }
        Ok(Self { signed, heads, hashes })
    }

    /// The checkpoint.
    #[must_use]
    pub fn signed(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// The proof of where this chain stood; none where it had not begun.
    #[must_use]
    pub fn proof(&self, ledger: &LedgerId) -> Option<HeadProof> {
        let index = self.heads.binary_search_by(|head| head.ledger.cmp(ledger)).ok()?;
        Some(HeadProof {
            checkpoint: self.signed.clone(),
            head: self.heads[index].clone(),
            index: index as u64,
            path: path(&self.hashes, index)?,
        })
    }
}

/// The checkpoint with this number.
///
/// # Errors
/// The store's.
pub fn numbered(tx: &mut dyn Tx, number: u64) -> Result<Option<Kept>, Error> {
    let found = tx.checkpoints(number.saturating_sub(1), 1)?.into_iter().next();
    Ok(found.filter(|kept| kept.number == number))
}

fn leaves(heads: &[LedgerHead]) -> Vec<Hash> {
    heads.iter().map(LedgerHead::leaf).collect()
}
