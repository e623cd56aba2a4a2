//! Signatures of a batch, one by one, on as many threads as are free. It stops at the first that does not hold: nobody
//! gets work out of this server by forging many.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use record::{InPlace, Signatory};
use ssh_key::PublicKey;

use super::batch::Row;

/// Fewer signatures than this are not worth a thread: checking one takes about 30 µs, starting one as long.
const WORTH_A_THREAD: usize = 8;

/// So many signatures of a batch are worth a table of their key's: making one takes as long as checking some hundred, and each
/// takes a third less with it.
const WORTH_A_TABLE: usize = 200;

/// How many records at the beginning hold, each by the key that signs at its number. `keys` are in order of the first
/// record that each signs.
pub(super) fn authentic(records: &[InPlace<'_>], rows: &[Row], keys: &[(u64, Signatory)], helpers: usize) -> usize {
    let mut keys = with_rotated(&rows[..records.len()], keys);
    let end = records.len();
    // Nobody gets a table made for what he forged.
    if end >= WORTH_A_TABLE
        && let Some(at) = keys.iter().rposition(|(first, _)| *first <= records[0].seq())
        && keys[at].1.signed(&records[0])
    {
        keys[at].1 = keys[at].1.clone().with_table();
    }
    let first_bad = AtomicUsize::new(end);
    let check = |from: usize, to: usize| {
        for (at, record) in records.iter().enumerate().take(to).skip(from) {
            if first_bad.load(Ordering::Relaxed) <= at {
                return;
            }
            if !key_at(&keys, record.seq()).is_some_and(|key| key.signed(record)) {
                first_bad.fetch_min(at, Ordering::Relaxed);
                return;
            }
        }
    };
    let threads = (helpers + 1).min(end / WORTH_A_THREAD).max(1);
    let share = end.div_ceil(threads);
    thread::scope(|scope| {
        for n in 1..threads {
            let check = &check;
            scope.spawn(move || check(n * share, ((n + 1) * share).min(end)));
        }
        check(0, share.min(end));
    });
    first_bad.into_inner()
}

/// The keys, with those that records of this batch introduce: each counts only if the record that introduces it holds,
/// and what comes after one that does not is not taken. One that introduces no usable key changes nothing.
fn with_rotated(rows: &[Row], keys: &[(u64, Signatory)]) -> Vec<(u64, Signatory)> {
    let mut all = keys.to_vec();
    for row in rows {
        if let Some(key) = row.next_key.as_ref().and_then(|text| signatory(text)) {
            let first = row.seq + 1;
            if all.iter().all(|(known, _)| *known < first) {
                all.push((first, key));
            }
        }
    }
    all
}

/// An ed25519 key in OpenSSH's format, ready for checking.
pub(super) fn signatory(text: &str) -> Option<Signatory> {
    Signatory::new(&PublicKey::from_openssh(text).ok()?)
}

fn key_at(keys: &[(u64, Signatory)], seq: u64) -> Option<&Signatory> {
    keys.iter().rev().find(|(first, _)| *first <= seq).map(|(_, key)| key)
}
