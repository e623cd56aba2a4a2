//! Retention: what has been kept long enough goes, oldest segments first, and the ledger says so before.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use record::{ArtifactType, Draft, Record};

use super::{
    Error, Ledger,
    files::{self, at},
    inspect::Lines,
};

/// The most segments that go in one call. Called daily that is ample, and a wall clock that jumps ahead by years for a
/// moment cannot take the whole ledger along.
pub const PRUNE_AT_MOST: usize = 8;

impl Ledger {
    /// Removes segments all of whose records are older than the retention, at most [`PRUNE_AT_MOST`], never the one being
    /// written. `ledger.pruned` with the range and its last hash is on disk before the first file goes. Returns how many.
    ///
    /// # Errors
    /// A segment that cannot be read or removed, a record that cannot be written; called again, it goes on.
    pub fn prune(&mut self, now: Timestamp) -> Result<usize, Error> {
        let Some(before) = limit(now, self.retain) else { return Ok(0) };
        let all = files::segments(&self.paths)?;
        let mut kept = None;
        for &next in all.iter().skip(1).take(PRUNE_AT_MOST) {
            // A segment is over when the next begins.
            let Some(first) = self.first_record(next)?.filter(|r| r.time() < before) else { break };
            kept = Some(first);
        }
        let Some(kept) = kept else { return Ok(0) };
        let gone: Vec<u64> = all.iter().copied().filter(|first| *first < kept.seq()).collect();
        let (from, to) = (gone[0], kept.seq() - 1);
        let reason = format!(
            "records {from} to {to} have been kept for {} days and are removed",
            self.retain.as_secs() / 86_400
        );
        let draft = Draft::new(ArtifactType::LedgerPruned, reason)
            .with("first", from)
            .with("last", to)
            .with("last_hash", kept.prev().to_string());
        self.append(vec![draft], now)?;
        for first in &gone {
            let path = self.paths.segment(*first);
            at("remove", &path, std::fs::remove_file(&path))?;
        }
        files::sync_parent(&self.paths.segment(from))?;
        Ok(gone.len())
    }

    fn first_record(&self, segment: u64) -> Result<Option<Record>, Error> {
        let line = Lines::open(&self.paths, segment)?.next_line()?;
        Ok(line.and_then(|l| Record::parse(&l).ok()))
    }
}

fn limit(now: Timestamp, retain: Duration) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::try_from(retain).ok()?).ok()
}
