//! What goes, oldest segments first, and never unsaid: what has been kept long enough, and what there is no room for.
//!
//! With a server to acknowledge records, none goes by its age before that. The record that says what goes is on disk
//! before the first file goes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use record::{ArtifactType, Draft, Record};

use super::{
    Error, Full, Ledger, Need,
    files::{self, at},
    inspect::Lines,
};

/// The most segments that go by age in one call. Called daily that is ample, and a wall clock that jumps ahead by years
/// for a moment cannot take the whole ledger along.
pub const PRUNE_AT_MOST: usize = 8;

/// A closed segment: the numbers of its first and last record, and its size.
#[derive(Debug, Clone, Copy)]
struct Closed {
    first: u64,
    last: u64,
    bytes: u64,
}

impl Ledger {
    /// Removes segments all of whose records are older than the retention, and acknowledged where a server is asked to:
    /// at most [`PRUNE_AT_MOST`], never the one being written. Returns how many.
    ///
    /// # Errors
    /// A segment that cannot be read or removed, a record that cannot be written; called again, it goes on.
    pub fn prune(&mut self, now: Timestamp) -> Result<usize, Error> {
        let Some(before) = limit(now, self.keeping.retain) else { return Ok(0) };
        let mut old = Vec::new();
        for closed in self.closed()?.into_iter().take(PRUNE_AT_MOST) {
            let acknowledged = !self.keeping.acknowledged_first || closed.last <= self.acknowledged;
            // A segment is over when the next begins.
            let next = self.first_record(closed.last + 1)?;
            if !acknowledged || next.is_none_or(|next| next.time() >= before) {
                break;
            }
            old.push(closed);
        }
        let days = self.keeping.retain.as_secs() / 86_400;
        self.remove(&old, &format!("have been kept for {days} days"), now)
    }

    /// Makes room where the ledger has outgrown its bound, or the disk is full: what a server has acknowledged goes
    /// first, before its time. Then, where the policy says so, the oldest records that nobody has: `ship.dropped` says how
    /// many and which before `ledger.pruned` does. Returns how many segments went.
    ///
    /// # Errors
    /// As [`Ledger::prune`].
    pub fn make_room(&mut self, now: Timestamp) -> Result<usize, Error> {
        let Err(full) = self.room_for_grants() else { return Ok(0) };
        let all = self.closed()?;
        let shipped = all.partition_point(|closed| closed.last <= self.acknowledged);
        let enough = self.enough(&all, full);
        let mut gone = self.remove(&all[..shipped.min(enough)], "are acknowledged and had to make room", now)?;
        if enough > shipped && self.keeping.drop_oldest {
            let dropped = &all[shipped..enough];
            if let (Some(first), Some(last)) = (dropped.first(), dropped.last()) {
                let (from, to) = (first.first.max(self.acknowledged + 1), last.last);
                self.say_dropped(from, to, full, now)?;
            }
            gone += self.remove(dropped, "had to make room", now)?;
        }
        Ok(gone)
    }

    /// How many of the oldest segments have to go: as many as bring the ledger a segment below its bound, so
    /// that there is room for what says so and for a while; on a full disk one.
    fn enough(&self, all: &[Closed], full: Full) -> usize {
        match full {
            Full::Disk => all.len().min(1),
            Full::MaxSize => {
                let (mut size, wanted) = (self.size(), self.keeping.max_size.saturating_sub(self.segment_bytes));
                all.iter()
                    .take_while(|closed| {
                        let too_large = size > wanted;
                        size = size.saturating_sub(closed.bytes);
                        too_large
                    })
                    .count()
            }
        }
    }

    fn say_dropped(&mut self, first: u64, last: u64, full: Full, now: Timestamp) -> Result<(), Error> {
        let count = last + 1 - first;
        let why = match full {
            Full::MaxSize => "max_size",
            Full::Disk => "disk_full",
        };
        let reason =
            format!("records {first} to {last}, {count} of them, were never acknowledged and are dropped: {full}");
        let draft = Draft::new(ArtifactType::ShipDropped, reason)
            .with("first", first)
            .with("last", last)
            .with("count", count)
            .with("why", why);
        tracing::error!(first, last, count, "records that no server has acknowledged are dropped to make room");
        self.put(&[(now, draft)], now, Need::ToMakeRoom).map(drop)
    }

    /// Says that these segments go, then removes them.
    fn remove(&mut self, segments: &[Closed], why: &str, now: Timestamp) -> Result<usize, Error> {
        let (Some(oldest), Some(newest)) = (segments.first(), segments.last()) else { return Ok(0) };
        let (from, to) = (oldest.first, newest.last);
        let Some(kept) = self.first_record(to + 1)? else { return Ok(0) };
        // The statement covers all that ever went: the one before it goes some day too, and one has to be enough.
        let draft = Draft::new(ArtifactType::LedgerPruned, format!("records {from} to {to} {why} and are removed"))
            .with("first", 1)
            .with("last", to)
            .with("last_hash", kept.prev().to_string());
        self.put(&[(now, draft)], now, Need::ToMakeRoom)?;
        for segment in segments {
            let path = self.paths.segment(segment.first);
            at("remove", &path, std::fs::remove_file(&path))?;
            self.closed_bytes = self.closed_bytes.saturating_sub(segment.bytes);
        }
        files::sync_parent(&self.paths.segment(from))?;
        Ok(segments.len())
    }

    /// Every segment but the one being written.
    fn closed(&self) -> Result<Vec<Closed>, Error> {
        let all = files::segments(&self.paths)?;
        all.windows(2)
            .map(|pair| {
                let path = self.paths.segment(pair[0]);
                let bytes = at("examine", &path, path.symlink_metadata())?.len();
                Ok(Closed { first: pair[0], last: pair[1] - 1, bytes })
            })
            .collect()
    }

    fn first_record(&self, segment: u64) -> Result<Option<Record>, Error> {
        let line = Lines::open(&self.paths, segment)?.next_line()?;
        Ok(line.and_then(|l| Record::parse(&l).ok()))
    }
}

fn limit(now: Timestamp, retain: Duration) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::try_from(retain).ok()?).ok()
}
