//! A walk through artifacts in the order of their time: several ranges of an index, each in order, merged.
//!
//! Indexes alone decide where to look, so that the first row of a month of one requirement costs the same among a
//! thousand rows and among ten million; everything else that was asked is checked on each row that is looked at. A walk
//! keeps no statement open between its steps, and each step looks at a bounded number of rows.

use std::collections::VecDeque;

use rusqlite::{CachedStatement, Connection, Row, params, types::Value};

use super::cursor::{Cursor, Place};
use crate::{
    evidence::{SourceKind, counts},
    store::{Error, ledgers},
};

/// Places that one range reads ahead.
const AHEAD: usize = 512;
/// Rows that one step looks at.
const LOOK_AT: usize = 4096;

/// One range of an index.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum By {
    /// One type, by time.
    Type(i64),
    /// One person, by time.
    Person(String),
    /// One account, by time.
    Account(String),
    /// One chain, by time.
    Ledger(i64),
    /// One chain, by number.
    Seq(i64),
}

impl By {
    fn sql(&self) -> &'static str {
        match self {
            Self::Type(_) => {
                "SELECT time, id FROM artifacts INDEXED BY artifacts_type WHERE type = ?1 AND (time, id) > (?2, ?3)
                 AND time < ?4 AND id <= ?5 ORDER BY time, id LIMIT ?6"
            }
            Self::Person(_) => {
                "SELECT time, id FROM artifacts INDEXED BY artifacts_person WHERE person = ?1 AND (time, id) > (?2, ?3)
                 AND time < ?4 AND id <= ?5 ORDER BY time, id LIMIT ?6"
            }
            Self::Account(_) => {
                "SELECT time, id FROM artifacts INDEXED BY artifacts_account WHERE account = ?1 AND (time, id) > (?2, ?3)
                 AND time < ?4 AND id <= ?5 ORDER BY time, id LIMIT ?6"
            }
            Self::Ledger(_) => {
                "SELECT time, id FROM artifacts INDEXED BY artifacts_ledger_time WHERE ledger = ?1
                 AND (time, id) > (?2, ?3) AND time < ?4 AND id <= ?5 ORDER BY time, id LIMIT ?6"
            }
            Self::Seq(_) => {
                "SELECT seq, id FROM artifacts INDEXED BY artifacts_ledger WHERE ledger = ?1 AND (seq, id) > (?2, ?3)
                 AND seq < ?4 AND id <= ?5 ORDER BY seq, id LIMIT ?6"
            }
        }
    }

    fn key(&self) -> Value {
        match self {
            Self::Type(row) | Self::Ledger(row) | Self::Seq(row) => Value::Integer(*row),
            Self::Person(name) | Self::Account(name) => Value::Text(name.clone()),
        }
    }
}

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

/// One stored artifact, borrowed from the database for as long as it is looked at.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// Its chain.
    pub(super) ledger: &'a str,
    /// Its number there.
    pub(super) seq: i64,
    /// Who stated it.
    pub(super) source: SourceKind,
    /// The source's name.
    pub(super) name: &'a str,
    /// Its stack; empty where there is none.
    pub(super) stack: &'a str,
    /// Its type.
    pub(super) kind: &'a str,
    /// Its own time, in microseconds.
    pub(super) time: i64,
    /// When it was stored.
    pub(super) received: i64,
    /// See [`ledgers::CLOCK_OFF`] and [`ledgers::UNKNOWN_TYPE`].
    pub(super) flags: u32,
    /// Whether an admin has yet to approve its chain.
    pub(super) pending: bool,
    /// Its exact bytes.
    pub(super) bytes: &'a [u8],
    /// The event's id, where the server keeps the chain.
    pub(super) client_id: Option<&'a str>,
    /// Likewise: the chain's line over it.
    pub(super) entry: Option<&'a [u8]>,
}

impl Found<'_> {
    /// Whether its time was far from the server's clock.
    pub(super) fn is_clock_off(&self) -> bool {
        self.flags & ledgers::CLOCK_OFF != 0
    }
}

/// What one row of the database says besides: only looked at when it is asked for.
const FETCH: &str = "SELECT l.ledger, a.seq, l.kind, l.name, s.word, t.word, a.time, a.received, a.flags,
    l.state = 'pending', a.bytes, a.client_id, a.entry, a.type, a.ledger, a.stack, a.account, a.person
    FROM artifacts a JOIN ledgers l ON l.id = a.ledger JOIN words t ON t.id = a.type JOIN words s ON s.id = a.stack
    WHERE a.id = ?1";

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
        connection: &Connection,
        ranges: Vec<By>,
        keep: Keep,
        cursor: Option<Cursor>,
        read_ahead: usize,
    ) -> Result<Self, Error> {
        // Numbers begin at 1 and know no window; times do.
        let by_number = ranges.iter().any(|r| matches!(r, By::Seq(_)));
        let bound = |of: Option<i64>, none: i64| of.filter(|_| !by_number).unwrap_or(none);
        let begin = Place { at: bound(keep.from, i64::MIN), id: i64::MIN };
        let newest: i64 = connection
            .query_row("SELECT coalesce(max(id), 0) FROM artifacts", [], |row| row.get(0))
            .map_err(Error::sqlite("beginning a walk"))?;
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
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        mut show: impl FnMut(&Found<'_>) -> bool,
    ) -> Result<Step, Error> {
        let mut fetch = connection.prepare_cached(FETCH).map_err(Error::sqlite("reading artifacts"))?;
        for _ in 0..LOOK_AT {
            let Some(place) = self.next(connection)? else { return Ok(Step::End) };
            self.after = place;
            if !self.look(&mut fetch, place, &mut show)? {
                return Ok(Step::More);
            }
        }
        Ok(Step::More)
    }

    /// The next place of all ranges.
    fn next(&mut self, connection: &Connection) -> Result<Option<Place>, Error> {
        for range in &mut self.ranges {
            if range.ahead.is_empty() && !range.ended {
                // Little at first, for whom a few rows will do.
                let count = range.reads.saturating_mul(self.read_ahead).clamp(self.read_ahead, AHEAD);
                range.read(connection, self.before, self.newest, count)?;
            }
        }
        let first = self.ranges.iter_mut().filter(|r| !r.ahead.is_empty()).min_by_key(|r| r.ahead[0]);
        Ok(first.and_then(|range| range.ahead.pop_front()))
    }

    fn look(
        &self,
        fetch: &mut CachedStatement<'_>,
        place: Place,
        show: &mut impl FnMut(&Found<'_>) -> bool,
    ) -> Result<bool, Error> {
        let reading = "reading artifacts";
        let mut rows = fetch.query([place.id]).map_err(Error::sqlite(reading))?;
        let Some(row) = rows.next().map_err(Error::sqlite(reading))? else { return Ok(true) };
        let found = found(row).map_err(Error::sqlite(reading))?;
        let Some(found) = found else { return Err(Error::Unsound("a chain of no known kind".to_owned())) };
        if self.keep.wants(row, &found).map_err(Error::sqlite(reading))? {
            return Ok(show(&found));
        }
        Ok(true)
    }
}

impl Range {
    fn read(&mut self, connection: &Connection, before: i64, newest: i64, count: usize) -> Result<(), Error> {
        let reading = "walking an index";
        let mut statement = connection.prepare_cached(self.by.sql()).map_err(Error::sqlite(reading))?;
        let limit = i64::try_from(count).expect("a small number");
        let place = |row: &Row<'_>| Ok(Place { at: row.get(0)?, id: row.get(1)? });
        let rows = statement
            .query_map(params![self.by.key(), self.after.at, self.after.id, before, newest, limit], place)
            .map_err(Error::sqlite(reading))?;
        for row in rows {
            self.ahead.push_back(row.map_err(Error::sqlite(reading))?);
        }
        self.reads += 1;
        self.ended = self.ahead.len() < count;
        if let Some(last) = self.ahead.back() {
            self.after = *last;
        }
        Ok(())
    }
}

impl Keep {
    fn wants(&self, row: &Row<'_>, found: &Found<'_>) -> rusqlite::Result<bool> {
        let is_in = |list: &Option<Vec<i64>>, at: usize| -> rusqlite::Result<bool> {
            match list {
                Some(list) => Ok(list.contains(&row.get(at)?)),
                None => Ok(true),
            }
        };
        let is_text = |wanted: &Option<String>, at: usize| -> rusqlite::Result<bool> {
            match wanted {
                Some(wanted) => Ok(row.get_ref(at)?.as_str_or_null()? == Some(wanted)),
                None => Ok(true),
            }
        };
        let stack: i64 = row.get(15)?;
        Ok(is_in(&self.types, 13)?
            && is_in(&self.ledgers, 14)?
            && self.stack.is_none_or(|wanted| wanted == stack)
            && is_text(&self.account, 16)?
            && is_text(&self.person, 17)?
            && self.from.is_none_or(|from| found.time >= from)
            && self.to.is_none_or(|to| found.time < to)
            && (self.pending || !found.pending)
            && (self.server || found.source != SourceKind::Server)
            && (!self.evidence || counts(found.kind, found.source)))
    }
}

fn found<'a>(row: &'a Row<'_>) -> rusqlite::Result<Option<Found<'a>>> {
    let source = match row.get_ref(2)?.as_str()? {
        "host" => SourceKind::Host,
        "client" => SourceKind::Client,
        "person" => SourceKind::Person,
        "server" => SourceKind::Server,
        _ => return Ok(None),
    };
    Ok(Some(Found {
        ledger: row.get_ref(0)?.as_str()?,
        seq: row.get(1)?,
        source,
        name: row.get_ref(3)?.as_str()?,
        stack: row.get_ref(4)?.as_str()?,
        kind: row.get_ref(5)?.as_str()?,
        time: row.get(6)?,
        received: row.get(7)?,
        flags: row.get(8)?,
        pending: row.get(9)?,
        bytes: row.get_ref(10)?.as_blob()?,
        client_id: row.get_ref(11)?.as_str_or_null()?,
        entry: row.get_ref(12)?.as_blob_or_null()?,
    }))
}
