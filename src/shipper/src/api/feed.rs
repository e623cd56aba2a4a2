//! What is to be sent next: a window of records read ahead of the cursor, from a ledger that was set aside or from the
//! present one.

use std::{collections::VecDeque, path::PathBuf};

use record::{Hash, LedgerId};

use super::batch::{Batch, MAX_BYTES, MAX_RECORDS};
use crate::{
    cursor::Cursor,
    files::FileError,
    ledger::{self, Entry, ReadError, Reader},
    log,
    paths::Paths,
};

/// The window. Empty until it is filled.
#[derive(Debug)]
pub(super) struct Feed {
    paths: Paths,
    reader: Option<Reader>,
    window: VecDeque<Entry>,
    bytes: usize,
    /// What accounts for the gap before the window.
    permits: Vec<Entry>,
}

impl Feed {
    pub(super) fn new(paths: Paths) -> Self {
        Self { paths, reader: None, window: VecDeque::new(), bytes: 0, permits: Vec::new() }
    }

    /// Forgets what was read: the cursor has been put elsewhere.
    pub(super) fn reset(&mut self) {
        (self.reader, self.bytes) = (None, 0);
        self.window.clear();
        self.permits.clear();
    }

    /// Reads on after `cursor` as far as one batch can hold, up to `mark` in the present ledger.
    ///
    /// # Errors
    /// What reading says; a gap left by pruning is none, see [`Feed::permits`].
    pub(super) fn fill(&mut self, cursor: &Cursor, mark: &Cursor) -> Result<(), ReadError> {
        let present = cursor.ledger == mark.ledger;
        let upto = if present { mark.seq } else { u64::MAX };
        if present && cursor.seq > mark.seq {
            return Err(ReadError::RolledBack { seq: cursor.seq });
        }
        if self.reader.as_ref().is_none_or(|reader| *reader.ledger() != cursor.ledger) {
            self.reset();
            self.begin(cursor, mark)?;
        }
        let Some(reader) = &mut self.reader else { return Ok(()) };
        while self.window.len() < MAX_RECORDS && self.bytes < MAX_BYTES {
            let Some(entry) = reader.next(upto)? else { break };
            if !entry.chained {
                log::error(format_args!(
                    "api: record {} does not name the hash of the one before: the ledger was changed; it is sent as it is, for the server to see",
                    entry.seq
                ));
            }
            self.bytes += entry.line.len();
            self.window.push_back(entry);
        }
        Ok(())
    }

    fn begin(&mut self, cursor: &Cursor, mark: &Cursor) -> Result<(), ReadError> {
        let Some(dir) = self.dir(&cursor.ledger, mark)? else {
            return Err(ReadError::Missing { dir: self.paths.set_aside(), seq: cursor.seq + 1 });
        };
        let hash = (cursor.seq > 0).then_some(cursor.hash);
        let reader = match Reader::after(&dir, &cursor.ledger, cursor.seq, hash) {
            Err(ReadError::Pruned { first }) => {
                let upto = if cursor.ledger == mark.ledger { mark.seq } else { u64::MAX };
                self.permits = ledger::permits(&dir, &cursor.ledger, cursor.seq + 1, upto)?;
                Reader::after(&dir, &cursor.ledger, first - 1, None)?
            }
            reader => reader?,
        };
        self.reader = Some(reader);
        Ok(())
    }

    /// Where a ledger lies.
    pub(super) fn dir(&self, ledger: &LedgerId, mark: &Cursor) -> Result<Option<PathBuf>, FileError> {
        if *ledger == mark.ledger {
            return Ok(Some(self.paths.ledger()));
        }
        Ok(ledger::past_of(&self.paths, ledger)?.map(|past| past.dir))
    }

    /// The ledger that comes after one that has ended: the next that was set aside, at last the present one.
    pub(super) fn after(&self, ledger: &LedgerId, mark: &Cursor) -> Result<LedgerId, FileError> {
        let next = match ledger::past_of(&self.paths, ledger)? {
            Some(past) => ledger::next_past(&self.paths, &past)?,
            None => None,
        };
        Ok(next.map_or_else(|| mark.ledger.clone(), |past| past.ledger))
    }

    /// The next batch, of at most so many events. None if nothing waits.
    pub(super) fn batch(&self, ledger: &LedgerId, at_most: usize) -> Option<Batch> {
        let batch = Batch::of(ledger, &self.permits, self.window.iter(), at_most);
        (!batch.records.is_empty()).then_some(batch)
    }

    /// How many permits stand before the window.
    pub(super) fn permits(&self) -> usize {
        self.permits.len()
    }

    /// Whether the window holds a whole batch.
    pub(super) fn is_full(&self) -> bool {
        self.window.len() >= MAX_RECORDS || self.bytes >= MAX_BYTES
    }

    /// The first that waits.
    pub(super) fn first(&self) -> Option<&Entry> {
        self.window.front()
    }

    /// The hash of a record in the window.
    pub(super) fn hash_of(&self, seq: u64) -> Option<Hash> {
        let first = self.window.front()?.seq;
        let entry = self.window.get(usize::try_from(seq.checked_sub(first)?).ok()?)?;
        Some(entry.hash)
    }

    /// Everything up to this record need not be sent any more. Beyond the window, it has to be filled anew.
    pub(super) fn pass(&mut self, seq: u64) {
        if self.window.back().is_none_or(|last| last.seq < seq) {
            return self.reset();
        }
        self.permits.clear();
        while self.window.front().is_some_and(|entry| entry.seq <= seq) {
            self.bytes -= self.window.pop_front().map_or(0, |entry| entry.line.len());
        }
    }

    /// Whether nothing waits and the last record read is the daemon's last word.
    pub(super) fn at_stop(&self) -> bool {
        self.window.is_empty() && self.reader.as_ref().is_some_and(Reader::at_stop)
    }
}
