//! Checkpoints that somebody kept, and proofs about this ledger, each bounded and its signature checked.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use record::{
    LedgerId, Receipts,
    checkpoint::{HeadProof, Kept, MAX_CHECKPOINT, MAX_PROOF, MAX_PROOFS, SignedCheckpoint},
};
use ssh_key::PublicKey;

use super::{receipts::MAX_TOLD, unreadable};
use crate::ask::Failure;

/// Checkpoints to hold a ledger against.
#[derive(Debug)]
pub(super) struct Given {
    kept: Kept,
    /// What is off about the files themselves.
    pub(super) bad: Vec<String>,
}

/// Reads notes, each a file, and proofs, one a line, whose notes the server's key must have signed.
pub(super) fn read(files: &[PathBuf], keys: Vec<PublicKey>) -> Result<Given, Failure> {
    let mut given = Given { kept: Kept::by(keys), bad: Vec::new() };
    for file in files {
        let fail =
            |error: std::io::Error| Failure::here(format!("{}: {error}", file.display())).but(unreadable(&error));
        let mut reader = BufReader::new(File::open(file).map_err(fail)?);
        let is_proof = reader.fill_buf().map_err(fail)?.first() == Some(&b'{');
        if is_proof {
            given.proofs(file, &mut reader).map_err(fail)?
        } else {
            given.note(file, &mut reader).map_err(fail)?
        }
    }
    Ok(given)
}

impl Given {
    fn tell(&mut self, file: &Path, line: Option<u64>, why: &dyn std::fmt::Display) {
        if self.bad.len() < MAX_TOLD {
            let line = line.map(|line| format!(" line {line}")).unwrap_or_default();
            self.bad.push(format!("{}{line}: {why}", file.display()));
        }
    }

    fn note(&mut self, file: &Path, reader: &mut impl Read) -> std::io::Result<()> {
        let mut note = Vec::new();
        reader.take(MAX_CHECKPOINT as u64 + 1).read_to_end(&mut note)?;
        match SignedCheckpoint::parse(&note) {
            Ok(note) => self.kept.add_note(&note).unwrap_or_else(|bad| self.tell(file, None, &bad)),
            Err(why) => self.tell(file, None, &format_args!("it is no checkpoint: {why}")),
        }
        Ok(())
    }

    fn proofs(&mut self, file: &Path, reader: &mut impl BufRead) -> std::io::Result<()> {
        for number in 1..=MAX_PROOFS as u64 + 1 {
            let mut line = Vec::new();
            reader.by_ref().take(MAX_PROOF as u64 + 2).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Ok(());
            }
            match HeadProof::parse(&line) {
                Ok(proof) => self.kept.add(&proof).unwrap_or_else(|bad| self.tell(file, Some(number), &bad)),
                Err(why) => {
                    self.tell(file, Some(number), &format_args!("it is no proof: {why}"));
                    // What is too long to be one has no next line that would mean anything.
                    if !line.ends_with(b"\n") {
                        return Ok(());
                    }
                }
            }
        }
        self.tell(file, None, &format_args!("it has over {MAX_PROOFS} proofs; give those of one ledger"));
        Ok(())
    }

    /// How many checkpoints there are.
    pub(super) fn count(&self) -> u64 {
        self.kept.count().0 as u64
    }

    /// Adds what they prove to what a ledger is held against.
    pub(super) fn hold(&mut self, receipts: &mut Receipts) {
        for head in self.kept.heads() {
            if let Err(bad) = receipts.add_head(&head) {
                self.bad.push(format!("a checkpoint and a receipt: {bad}"));
            }
        }
    }

    /// What cannot be said of this ledger, since a proof is missing.
    pub(super) fn unproven(&self, ledger: Option<&LedgerId>) -> Option<String> {
        let numbers = ledger.map(|ledger| self.kept.unproven(ledger)).filter(|numbers| !numbers.is_empty())?;
        let first = numbers.first()?;
        let ledger = ledger?;
        Some(format!(
            "of {} checkpoints there is no proof about this ledger: GET /v1/checkpoints/{first}/proof?ledger={ledger} gives it, \
             if the ledger had begun",
            numbers.len()
        ))
    }
}
