//! The `ledger.pruned` records that account for a gap: the server lets a chain go on after one only with them.

use std::path::Path;

use record::{LedgerId, Record};
use serde_json::Value;

use super::{Entry, ReadError, Reader, first_left};

/// The most that are sent ahead of one batch. Each stands for up to eight segments of 16 MiB.
const MAX_PERMITS: usize = 128;
/// How such a record's line ends: its keys are sorted.
const ENDING: &str = "\"type\":\"ledger.pruned\",\"v\":1}";

/// The records, among those up to `upto`, that together cover everything from `from` to the first that is left, in order
/// of what they cover. As far as there are any: whether that is enough is for the server to say.
pub(crate) fn permits(dir: &Path, ledger: &LedgerId, from: u64, upto: u64) -> Result<Vec<Entry>, ReadError> {
    let first = first_left(dir)?;
    let mut reader = Reader::after(dir, ledger, first - 1, None)?;
    let mut found: Vec<(u64, u64, Entry)> = Vec::new();
    while let Some(entry) = reader.next(upto)? {
        if entry.line.ends_with(ENDING)
            && let Some((begin, end)) = range(&entry)
            && end >= from
            && begin < first
        {
            found.push((begin, end, entry));
        }
    }
    let mut covered = from - 1;
    let mut out = Vec::new();
    while covered + 1 < first && out.len() < MAX_PERMITS {
        // A later statement repeats what the earlier ones said: of those that join on, the one that reaches furthest.
        let joins = |(begin, end, _): &&(u64, u64, Entry)| *begin <= covered + 1 && *end > covered;
        let Some((_, end, entry)) = found.iter().filter(joins).max_by_key(|(_, end, _)| *end) else { break };
        covered = *end;
        out.push(entry.clone());
    }
    Ok(out)
}

fn range(entry: &Entry) -> Option<(u64, u64)> {
    let record = Record::parse(entry.line.as_bytes()).ok()?;
    let number = |name| record.detail(name).and_then(Value::as_u64);
    Some((number("first")?, number("last")?))
}
