//! Where the server's history and the ledger on disk are not the same: back to what it has, a fork, or the rest of a
//! ledger that has ended left behind.
//!
//! A proxy, or whoever answers in the server's place, signs nothing. What is not signed moves the cursor only to a place
//! that our own ledger has too, and leaves nothing behind.

use record::{Hash, LedgerId, SignedReceipt};

use super::{ApiSink, Batch, MAX_FORKED, Turn, receipts, trust};
use crate::{
    cursor::Cursor,
    ledger::{self, ReadError},
    log, settings,
    shared::World,
    status::State,
};

/// How many ledgers left behind are told of.
const MAX_LEFT: usize = 8;

/// How a record that somebody names stands to what is on disk.
#[derive(Debug)]
pub(super) enum Standing {
    Ours,
    /// Another record has its number, or none has.
    Other,
    /// It was pruned: nothing says which it was.
    Removed,
    /// It cannot be read now.
    Unknown(String),
}

impl ApiSink {
    pub(super) fn standing(&self, at: &Cursor, mark: &Cursor) -> Standing {
        let present = at.ledger == mark.ledger;
        if at.seq == 0 {
            return Standing::Ours;
        }
        if present && at.seq > mark.seq {
            return Standing::Other;
        }
        let read = match self.feed.dir(&at.ledger, mark) {
            Ok(Some(dir)) => ledger::hash_at(&dir, &at.ledger, at.seq),
            Ok(None) => Err(ReadError::Missing { dir: self.paths.set_aside(), seq: at.seq }),
            Err(error) => Err(error.into()),
        };
        match read {
            Ok(hash) if hash == at.hash => Standing::Ours,
            Ok(_) => Standing::Other,
            Err(ReadError::Pruned { .. }) => Standing::Removed,
            // A ledger that has ended gets no more records.
            Err(ReadError::Missing { .. } | ReadError::RolledBack { .. }) if !present => Standing::Other,
            Err(error) => Standing::Unknown(error.to_string()),
        }
    }

    /// The server misses records that it had, or says so. Back we go only, and only to where our own ledger agrees: each
    /// step is shorter than the one before, and a head that is made up is asked for again.
    pub(super) fn go_back(&mut self, world: &World, head: Option<(u64, Hash)>, cursor: &Cursor, mark: &Cursor) -> Turn {
        let (seq, hash) = head.unwrap_or((0, Hash::ZERO));
        let to = Cursor { ledger: cursor.ledger.clone(), seq, hash };
        let standing = self.standing(&to, mark);
        if seq < cursor.seq && matches!(standing, Standing::Ours | Standing::Removed) {
            log::warn(format_args!("api: the server has records up to {seq} only; going back from {}", cursor.seq));
            return self.go_to(to);
        }
        if seq == cursor.seq && self.is_removed_after(cursor, mark) {
            let why =
                format!("the server misses records after {seq}, which this host has removed or cannot account for");
            return if cursor.ledger == mark.ledger { self.refuse(why) } else { self.leave(world, cursor, mark, &why) };
        }
        let why = format!("the server says that it has records up to {seq} only, which does not fit this ledger");
        self.wait(world, None, why)
    }

    /// Whether the record after the cursor has been pruned.
    fn is_removed_after(&self, cursor: &Cursor, mark: &Cursor) -> bool {
        let dir = self.feed.dir(&cursor.ledger, mark).ok().flatten();
        dir.and_then(|dir| ledger::first_left(&dir).ok()).is_some_and(|first| first > cursor.seq + 1)
    }

    pub(super) fn go_to(&mut self, cursor: Cursor) -> Turn {
        self.cursor.set(cursor);
        self.feed.reset();
        Turn::Again
    }

    /// The server holds another history of the present ledger. The daemon begins a new one, if the receipt proves it.
    pub(super) fn fork(
        &mut self,
        world: &World,
        api: &settings::Api,
        receipt: Option<&SignedReceipt>,
        why: String,
    ) -> Turn {
        let ledger = world.mark.as_ref().map(|mark| &mark.ledger);
        let proof = receipt.filter(|receipt| trust::check(&self.paths, &api.receipt_keys, receipt).is_ok());
        let why = match (proof, self.hinted.as_ref() == ledger) {
            (_, true) => format!("{why}; lockdownd is to begin a new ledger"),
            (None, _) => format!("{why}; it gives no receipt that proves it"),
            (Some(proof), _) => match receipts::write_hint(&self.paths, proof) {
                Ok(()) => {
                    self.hinted = ledger.cloned();
                    format!("{why}; lockdownd is to begin a new ledger")
                }
                Err(error) => format!("{why}; {error}"),
            },
        };
        self.stuck(State::Fork, why)
    }

    /// A ledger that was set aside as a fork: each batch is offered, so that the server can keep it apart.
    pub(super) fn skip_forked(
        &mut self,
        world: &World,
        batch: &Batch,
        cursor: &Cursor,
        mark: &Cursor,
        why: &str,
    ) -> Turn {
        self.forked += 1;
        if self.forked > MAX_FORKED {
            return self.leave(world, cursor, mark, why);
        }
        if let Some(&(seq, hash)) = batch.records.last() {
            self.cursor.set(Cursor { ledger: cursor.ledger.clone(), seq, hash });
            self.feed.pass(seq);
        }
        Turn::Again
    }

    /// The rest of a ledger that has ended is not to be shipped.
    pub(super) fn leave(&mut self, world: &World, cursor: &Cursor, mark: &Cursor, why: &str) -> Turn {
        let Cursor { ledger, seq, .. } = cursor;
        let turn = self.go_on_after(world, ledger, mark);
        if matches!(turn, Turn::Again) {
            let left = format!("ledger {ledger}, which was set aside, is not shipped after record {seq}: {why}");
            log::error(format_args!("api: {left}"));
            self.left.push(left);
            self.left.drain(..self.left.len().saturating_sub(MAX_LEFT));
        }
        turn
    }

    pub(super) fn go_on_after(&mut self, world: &World, ledger: &LedgerId, mark: &Cursor) -> Turn {
        let next = match self.feed.after(ledger, mark) {
            Ok(next) => next,
            Err(error) => return self.wait(world, None, error.to_string()),
        };
        (self.forked, self.enrolling, self.enrolment) = (0, false, None);
        self.acknowledged = None;
        self.go_to(Cursor::start(next));
        if let Err(error) = self.cursor.save() {
            log::warn(format_args!("api: {error}"));
        }
        Turn::Again
    }

    pub(super) fn on_read_error(&mut self, world: &World, error: &ReadError, cursor: &Cursor, mark: &Cursor) -> Turn {
        let past = cursor.ledger != mark.ledger;
        self.feed.reset();
        match error {
            ReadError::RolledBack { .. } => self.on_rollback(world, error, cursor, mark),
            error if past && error.is_final() => self.leave(world, cursor, mark, &error.to_string()),
            ReadError::NotARecord { .. } => self.refuse(error.to_string()),
            // Pruned since it was opened: begun anew, with what accounts for it.
            ReadError::Pruned { .. } => Turn::Again,
            _ => self.wait(world, None, error.to_string()),
        }
    }

    /// The cursor's record is not the ledger's. A receipt that is kept proves that the ledger has lost what was shipped
    /// of it, or that only the cursor is wrong; without one the server is asked.
    fn on_rollback(&mut self, world: &World, error: &ReadError, cursor: &Cursor, mark: &Cursor) -> Turn {
        let receipt = match receipts::furthest(&self.paths, &cursor.ledger) {
            Ok(Some(receipt)) => receipt,
            Ok(None) if cursor.seq > 0 => return self.go_to(Cursor::start(cursor.ledger.clone())),
            _ => return self.wait(world, None, error.to_string()),
        };
        let kept = receipt.receipt();
        let to = Cursor { ledger: kept.ledger.clone(), seq: kept.seq, hash: kept.hash };
        match (self.standing(&to, mark), self.settings.clone()) {
            (Standing::Ours | Standing::Removed, _) if to != *cursor => self.go_to(to),
            (Standing::Other, _) if cursor.ledger != mark.ledger => self.leave(world, cursor, mark, &error.to_string()),
            (Standing::Other, Some(Ok(api))) => self.fork(world, &api, Some(&receipt), error.to_string()),
            _ => self.wait(world, None, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
