//! The receipts that are kept, one file a ledger, one signed receipt a line, the newest last; and the hint that the server
//! holds another history.
//!
//! What the daemon prunes by, and `lockdownctl verify --receipts` shows. Both check each receipt themselves.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::{BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;
use record::{LedgerId, MAX_RECEIPT, SignedReceipt};

use crate::{
    files::{self, FileError, at},
    ledger,
    paths::Paths,
};

/// A file is compacted once it is longer than this, in bytes.
pub(crate) const COMPACT_AT: u64 = 1024 * 1024;
/// How many ledgers' receipts are kept. A host begins a new ledger only when something broke.
const MAX_FILES: usize = 64;

/// Adds a receipt; on disk when this returns.
pub(super) fn keep(paths: &Paths, receipt: &SignedReceipt) -> Result<(), FileError> {
    let path = paths.receipts_of(&receipt.receipt().ledger);
    let begun = !path.exists();
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
    let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(&path);
    let mut file = at("open", &path, file)?;
    // One write, so that a crash leaves at most one torn line, which the newline before it keeps to itself.
    let torn = !ends_in_newline(&path)?;
    let line = format!("{}{}\n", if torn { "\n" } else { "" }, receipt.as_str());
    at("write to", &path, file.write_all(line.as_bytes()).and_then(|()| file.sync_data()))?;
    if begun {
        files::sync_parent(&path)?;
        forget_old(paths)?;
    }
    if at("examine", &path, file.metadata())?.len() > COMPACT_AT {
        compact(&path, &ledger::segment_starts(&paths.ledger()))?;
    }
    Ok(())
}

fn ends_in_newline(path: &Path) -> Result<bool, FileError> {
    use std::os::unix::fs::FileExt;
    let file = files::open(path)?;
    let length = at("examine", path, file.metadata())?.len();
    let mut last = [b'\n'];
    if length > 0 {
        at("read", path, file.read_exact_at(&mut last, length - 1))?;
    }
    Ok(last[0] == b'\n')
}

/// Of each segment that is left the first receipt that reaches into it, and the newest of all.
fn compact(path: &Path, starts: &[u64]) -> Result<(), FileError> {
    let all = read(path)?;
    let first_in = |start: &u64| all.iter().position(|receipt| receipt.receipt().seq >= *start);
    let mut kept: BTreeSet<usize> = starts.iter().filter_map(first_in).collect();
    kept.extend(all.len().checked_sub(1));
    // A ledger of so many segments keeps its newest.
    let most = COMPACT_AT as usize / 2 / (MAX_RECEIPT + 1);
    let skip = kept.len().saturating_sub(most);
    let lines: String = kept.iter().skip(skip).map(|n| format!("{}\n", all[*n].as_str())).collect();
    files::replace(path, lines.as_bytes())
}

/// The receipts in a file; lines that are none are passed over.
fn read(path: &Path) -> Result<Vec<SignedReceipt>, FileError> {
    let file = match files::open(path) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut lines = BufReader::new(std::io::Read::take(file, 2 * COMPACT_AT));
    let (mut all, mut line) = (Vec::new(), Vec::new());
    while at("read", path, lines.read_until(b'\n', &mut line))? > 0 {
        all.extend(SignedReceipt::parse(&line).ok());
        line.clear();
    }
    Ok(all)
}

/// The receipt that reaches furthest into a ledger.
pub(super) fn furthest(paths: &Paths, ledger: &LedgerId) -> Result<Option<SignedReceipt>, FileError> {
    let all = read(&paths.receipts_of(ledger))?;
    Ok(all
        .into_iter()
        .filter(|receipt| receipt.receipt().ledger == *ledger)
        .max_by_key(|receipt| receipt.receipt().seq))
}

/// Removes the files written longest ago, beyond [`MAX_FILES`].
fn forget_old(paths: &Paths) -> Result<(), FileError> {
    let dir = paths.receipts();
    let mut all = Vec::new();
    for entry in at("list", &dir, std::fs::read_dir(&dir))? {
        let entry = at("list", &dir, entry)?;
        all.push((at("examine", &entry.path(), entry.metadata().and_then(|m| m.modified()))?, entry.path()));
    }
    all.sort();
    for (_, path) in all.iter().take(all.len().saturating_sub(MAX_FILES)) {
        files::remove_if_there(path)?;
    }
    Ok(())
}

/// Tells the daemon that the server holds another history of the present ledger, with its receipt as the proof.
pub(super) fn write_hint(paths: &Paths, receipt: &SignedReceipt) -> Result<(), FileError> {
    let text = format!("{{\"v\":1,\"kind\":\"fork\",\"receipt\":{}}}\n", receipt.as_str());
    files::replace(&paths.hint(), text.as_bytes())
}

/// The ledger that a hint is about, if one is there.
pub(super) fn hinted(paths: &Paths) -> Result<Option<LedgerId>, FileError> {
    let Some(bytes) = files::read(&paths.hint(), 4096)? else { return Ok(None) };
    let hint: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    Ok(hint.and_then(|hint| hint.get("receipt")?.get("ledger")?.as_str()?.parse().ok()))
}

/// There is nothing to hint at any more.
pub(super) fn remove_hint(paths: &Paths) -> Result<(), FileError> {
    files::remove_if_there(&paths.hint())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn receipts_are_appended_and_a_torn_line_costs_only_itself() {
        let (_dir, paths) = testing::paths();
        let (id, key) = (testing::ledger_id(), testing::key(1));
        let receipt = |seq: u64| testing::receipt(&id, seq, record::Hash::of(&seq.to_be_bytes()), &key);
        keep(&paths, &receipt(1)).unwrap();
        keep(&paths, &receipt(2)).unwrap();
        let path = paths.receipts_of(&id);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
        keep(&paths, &receipt(3)).unwrap();
        let seqs: Vec<_> = read(&path).unwrap().iter().map(|r| r.receipt().seq).collect();
        assert_eq!(seqs, [1, 3]);
        assert_eq!(furthest(&paths, &id).unwrap().unwrap(), receipt(3));
    }

    #[test]
    fn compaction_keeps_the_first_of_each_segment_and_the_newest() {
        let (_dir, paths) = testing::paths();
        let (id, key) = (testing::ledger_id(), testing::key(1));
        let seqs = [5, 10, 15, 20, 25, 30];
        for seq in seqs {
            keep(&paths, &testing::receipt(&id, seq, record::Hash::of(&[0]), &key)).unwrap();
        }
        compact(&paths.receipts_of(&id), &[8, 12, 22]).unwrap();
        let left: Vec<_> = read(&paths.receipts_of(&id)).unwrap().iter().map(|r| r.receipt().seq).collect();
        assert_eq!(left, [10, 15, 25, 30]);
    }

    #[test]
    fn a_file_never_grows_beyond_its_bound() {
        let (_dir, paths) = testing::paths();
        let (id, key) = (testing::ledger_id(), testing::key(1));
        let line = format!("{}\n", testing::receipt(&id, 5, record::Hash::of(&[0]), &key).as_str());
        let many = line.repeat(COMPACT_AT as usize / line.len() + 1);
        std::fs::write(paths.receipts_of(&id), many).unwrap();
        keep(&paths, &testing::receipt(&id, 6, record::Hash::of(&[1]), &key)).unwrap();
        assert!(std::fs::metadata(paths.receipts_of(&id)).unwrap().len() < 2 * 1024);
        assert_eq!(furthest(&paths, &id).unwrap().unwrap().receipt().seq, 6);
    }

    #[test]
    fn a_hint_names_its_ledger_and_goes_again() {
        let (_dir, paths) = testing::paths();
        let id = testing::ledger_id();
        assert_eq!(hinted(&paths).unwrap(), None);
        write_hint(&paths, &testing::receipt(&id, 5, record::Hash::of(&[0]), &testing::key(1))).unwrap();
        assert_eq!(hinted(&paths).unwrap(), Some(id));
        remove_hint(&paths).unwrap();
        remove_hint(&paths).unwrap();
        assert_eq!(hinted(&paths).unwrap(), None);
    }
}
