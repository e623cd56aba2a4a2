//! Stored artifacts, as they are read: in order of an index, a place at a time.

use super::{
    Error,
    engine::{Connection, Dialect, Fault, OptionalExtension, Row, Value, params},
    ledgers::CLOCK_OFF,
};
use crate::evidence::SourceKind;

/// A place in the order of a walk: by time (or number), then in the order in which artifacts were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Microseconds, or a record's number.
    pub at: i64,
    /// The artifact's row.
    pub id: i64,
}

/// One range of an index.
#[derive(Debug, Clone, PartialEq)]
pub enum By {
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

    fn key(&self) -> Value<'_> {
        match self {
            Self::Type(row) | Self::Ledger(row) | Self::Seq(row) => Value::Int(*row),
            Self::Person(name) | Self::Account(name) => Value::Text(name),
        }
    }
}

/// Which places of a range.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// After this one.
    pub after: Place,
    /// Before this time or number.
    pub before: i64,
    /// Not stored after this row.
    pub newest: i64,
    /// So many at most.
    pub most: usize,
}

/// The next places of a range, in order.
pub(super) fn places(connection: &Connection, by: &By, stretch: Stretch) -> Result<Vec<Place>, Error> {
    let reading = "walking an index";
    let mut statement = connection.prepare_cached(by.sql()).map_err(Error::database(reading))?;
    let place = |row: &Row<'_>| Ok(Place { at: row.get(0)?, id: row.get(1)? });
    let Stretch { after, before, newest, most } = stretch;
    let rows = statement
        .query_map(params![by.key(), after.at, after.id, before, newest, most], place)
        .map_err(Error::database(reading))?;
    rows.collect::<Result<_, _>>().map_err(Error::database(reading))
}

/// From which number to which a chain has artifacts of this window, by their own time.
pub(super) fn extent(
    connection: &Connection,
    ledger: i64,
    (from, to): (i64, i64),
    newest: i64,
) -> Result<Option<(u64, u64)>, Error> {
    let (first, last): (Option<u64>, Option<u64>) = connection
        .prepare_cached(
            "SELECT min(seq), max(seq) FROM artifacts INDEXED BY artifacts_ledger_time
             WHERE ledger = ?1 AND time >= ?2 AND time < ?3 AND id <= ?4",
        )
        .and_then(|mut s| s.query_row(params![ledger, from, to, newest], |row| Ok((row.get(0)?, row.get(1)?))))
        .map_err(Error::database("looking up a chain's window"))?;
    Ok(first.zip(last))
}

/// The row that was stored last; 0 before the first.
pub(super) fn newest(connection: &Connection) -> Result<i64, Error> {
    connection
        .prepare_cached("SELECT coalesce(max(id), 0) FROM artifacts")
        .and_then(|mut s| s.query_row(params![], |row| row.get(0)))
        .map_err(Error::database("beginning a walk"))
}

/// How many bytes the database takes.
pub(super) fn database_bytes(connection: &Connection) -> Result<u64, Error> {
    let sql = match connection.dialect() {
        Dialect::Sqlite => "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        Dialect::Postgres => "SELECT pg_database_size(current_database())",
    };
    connection
        .prepare_cached(sql)
        .and_then(|mut s| s.query_row(params![], |row| row.get(0)))
        .map_err(Error::database("measuring it"))
}

/// One stored artifact, borrowed from the database for as long as it is looked at.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its chain's row.
    pub chain: i64,
    /// Its type's word's row.
    pub word: i64,
    /// Its stack's.
    pub stack_word: i64,
    /// The account it concerns.
    pub account: Option<&'a str>,
    /// The person it concerns.
    pub person: Option<&'a str>,
    /// Its chain.
    pub ledger: &'a str,
    /// Its number there.
    pub seq: i64,
    /// Who stated it.
    pub source: SourceKind,
    /// The source's name.
    pub name: &'a str,
    /// Its stack; empty where there is none.
    pub stack: &'a str,
    /// Its type.
    pub kind: &'a str,
    /// Its own time, in microseconds.
    pub time: i64,
    /// When it was stored.
    pub received: i64,
    /// See [`CLOCK_OFF`] and [`super::ledgers::UNKNOWN_TYPE`].
    pub flags: u32,
    /// Whether an admin has yet to approve its chain.
    pub pending: bool,
    /// Its exact bytes.
    pub bytes: &'a [u8],
    /// The event's id, where the server keeps the chain.
    pub client_id: Option<&'a str>,
    /// Likewise: the chain's line over it.
    pub entry: Option<&'a [u8]>,
}

impl Found<'_> {
    /// Whether its time was far from the server's clock.
    #[must_use]
    pub fn is_clock_off(&self) -> bool {
        self.flags & CLOCK_OFF != 0
    }
}

/// What one row of the database says besides: only looked at when it is asked for.
const FETCH: &str = "SELECT l.ledger, a.seq, l.kind, l.name, s.word, t.word, a.time, a.received, a.flags,
    l.state = 'pending', a.bytes, a.client_id, a.entry, a.type, a.ledger, a.stack, a.account, a.person
    FROM artifacts a JOIN ledgers l ON l.id = a.ledger JOIN words t ON t.id = a.type JOIN words s ON s.id = a.stack
    WHERE a.id = ?1";

/// Shows one artifact, where it is there.
pub(super) fn look(connection: &Connection, id: i64, show: &mut dyn FnMut(&Found<'_>)) -> Result<(), Error> {
    let reading = "reading artifacts";
    let mut fetch = connection.prepare_cached(FETCH).map_err(Error::database(reading))?;
    let mut rows = fetch.query([id]).map_err(Error::database(reading))?;
    let Some(row) = rows.next().map_err(Error::database(reading))? else { return Ok(()) };
    let found = found(&row).map_err(Error::database(reading))?;
    show(&found.ok_or_else(|| Error::Unsound("a chain of no known kind".to_owned()))?);
    Ok(())
}

fn found<'a>(row: &'a Row<'_>) -> Result<Option<Found<'a>>, Fault> {
    let source = match row.get_ref(2)?.as_str()? {
        "host" => SourceKind::Host,
        "client" => SourceKind::Client,
        "person" => SourceKind::Person,
        "server" => SourceKind::Server,
        _ => return Ok(None),
    };
    Ok(Some(Found {
        chain: row.get(14)?,
        word: row.get(13)?,
        stack_word: row.get(15)?,
        account: row.get_ref(16)?.as_str_or_null()?,
        person: row.get_ref(17)?.as_str_or_null()?,
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

/// Every type of which anything is stored, by its word's row.
pub(super) fn types(connection: &Connection) -> Result<Vec<(i64, String)>, Error> {
    let listing = "listing types";
    let mut statement = connection
        .prepare_cached("SELECT id, word FROM words w WHERE EXISTS (SELECT 1 FROM tallies t WHERE t.type = w.id)")
        .map_err(Error::database(listing))?;
    let rows =
        statement.query_map(params![], |row| Ok((row.get(0)?, row.get(1)?))).map_err(Error::database(listing))?;
    rows.collect::<Result<_, _>>().map_err(Error::database(listing))
}

/// The row of a word, where any artifact has it.
pub(super) fn word(connection: &Connection, word: &str) -> Result<Option<i64>, Error> {
    connection
        .prepare_cached("SELECT id FROM words WHERE word = ?1")
        .and_then(|mut s| s.query_row([word], |row| row.get(0)).optional())
        .map_err(Error::database("looking up a word"))
}
