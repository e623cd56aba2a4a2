//! A walk through artifacts in the order of their time: several ranges of an index, each in order, merged.
//!
//! Indexes alone decide where to look, so that the first row of a month of one requirement costs the same among a
//! thousand rows and among ten million; everything else that was asked is checked on each row that is looked at. A walk
//! keeps no statement open between its steps, and each step looks at a bounded number of rows.

use std::collections::VecDeque;

use super::cursor::Cursor;
use crate::{
    evidence::{SourceKind, counts},
    store::{
        Error, Tx,
        artifacts::{By, Found, Place, Stretch},
    },
};

/// Places that one range reads ahead.
const AHEAD: usize = 512;
/// Rows that one step looks at.
const LOOK_AT: usize = 4096;

/// What else a row has to be, besides being in a range.
#[derive(Debug, Clone, Default)]
pub(super) struct Keep {
    /// Of one of these types.
    pub(super) types: Option<Vec<i64>>,
    /// In one of these chains.
    pub(super) ledgers: Option<Vec<i64>>,
    /// Of this stack.
    pub(super) stack: Option<i64>,
    /// About this person.
    pub(super) person: Option<String>,
    /// About this account.
    pub(super) account: Option<String>,
    /// Not earlier, in microseconds.
    pub(super) from: Option<i64>,
    /// Earlier.
    pub(super) to: Option<i64>,
    /// Also from ledgers that an admin has yet to approve.
    pub(super) pending: bool,
    /// Only what is evidence, by who stated it.
    pub(super) evidence: bool,
    /// Also the server's own.
    pub(super) server: bool,
}

#[derive(Debug)]
struct Range {
    by: By,
    after: Place,
    ahead: VecDeque<Place>,
    reads: usize,
    ended: bool,
}

/// A walk.
#[derive(Debug)]
pub(super) struct Walk {
    ranges: Vec<Range>,
    keep: Keep,
    newest: i64,
    before: i64,
    after: Place,
    read_ahead: usize,
}

/// Whether there may be more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be.
    More,
    /// That was all.
    End,
}

impl Walk {
    /// A walk from its beginning, or from where a cursor says. `read_ahead` is how many rows are likely to be wanted.
    pub(super) fn new(
        tx: &mut dyn Tx,
        ranges: Vec<By>,
        keep: Keep,
        cursor: Option<Cursor>,
        read_ahead: usize,
    ) -> Result<Self, Error> {
        // Numbers begin at 1 and know no window; times do.
        let by_number = ranges.iter().any(|r| matches!(r, By::Seq(_)));
        let bound = |of: Option<i64>, none: i64| of.filter(|_| !by_number).unwrap_or(none);
        let begin = Place { at: bound(keep.from, i64::MIN), id: i64::MIN };
        let newest = tx.newest_artifact()?;
        let Cursor { newest, after } = cursor
            .map(|c| Cursor { newest: c.newest.min(newest), after: c.after.max(begin) })
            .unwrap_or(Cursor { newest, after: begin });
        let range = |by| Range { by, after, ahead: VecDeque::new(), reads: 0, ended: false };
        Ok(Self {
            ranges: ranges.into_iter().map(range).collect(),
            before: bound(keep.to, i64::MAX),
            keep,
            newest,
            after,
            read_ahead: read_ahead.clamp(1, AHEAD),
        })
    }

    /// Where it stands.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor { newest: self.newest, after: self.after }
    }

    /// Goes on, and shows each row that is wanted, until `show` returns false, enough rows were looked at, or none is left.
    pub(super) fn step(&mut self, tx: &mut dyn Tx, mut show: impl FnMut(&Found<'_>) -> bool) -> Result<Step, Error> {
        for _ in 0..LOOK_AT {
            let Some(place) = self.next(tx)? else { return Ok(Step::End) };
            self.after = place;
            if !self.look(tx, place, &mut show)? {
                return Ok(Step::More);
            }
        }
        Ok(Step::More)
    }

    /// The next place of all ranges.
    fn next(&mut self, tx: &mut dyn Tx) -> Result<Option<Place>, Error> {
        for range in &mut self.ranges {
            if range.ahead.is_empty() && !range.ended {
                // Little at first, for whom a few rows will do.
                let count = range.reads.saturating_mul(self.read_ahead).clamp(self.read_ahead, AHEAD);
                range.read(tx, self.before, self.newest, count)?;
            }
        }
        let first = self.ranges.iter_mut().filter(|r| !r.ahead.is_empty()).min_by_key(|r| r.ahead[0]);
        Ok(first.and_then(|range| range.ahead.pop_front()))
    }

    fn look(&self, tx: &mut dyn Tx, place: Place, show: &mut impl FnMut(&Found<'_>) -> bool) -> Result<bool, Error> {
        let mut go_on = true;
        tx.look(place.id, &mut |found| {
            if self.keep.wants(found) {
                go_on = show(found);
            }
        })?;
        Ok(go_on)
    }
}

impl Range {
    fn read(&mut self, tx: &mut dyn Tx, before: i64, newest: i64, count: usize) -> Result<(), Error> {
        let stretch = Stretch { after: self.after, before, newest, most: count };
        self.ahead.extend(tx.places(&self.by, stretch)?);
        self.reads += 1;
        self.ended = self.ahead.len() < count;
        if let Some(last) = self.ahead.back() {
            self.after = *last;
        }
        Ok(())
    }
}

impl Keep {
    fn wants(&self, found: &Found<'_>) -> bool {
        let is_in = |list: &Option<Vec<i64>>, row: i64| list.as_ref().is_none_or(|list| list.contains(&row));
        let is_text =
            |wanted: &Option<String>, text: Option<&str>| wanted.as_deref().is_none_or(|wanted| text == Some(wanted));
        is_in(&self.types, found.word)
            && is_in(&self.ledgers, found.chain)
            && self.stack.is_none_or(|wanted| wanted == found.stack_word)
            && is_text(&self.account, found.account)
            && is_text(&self.person, found.person)
            && self.from.is_none_or(|from| found.time >= from)
            && self.to.is_none_or(|to| found.time < to)
            && (self.pending || !found.pending)
            && (self.server || found.source != SourceKind::Server)
            && (!self.evidence || counts(found.kind, found.source))
    }
}
