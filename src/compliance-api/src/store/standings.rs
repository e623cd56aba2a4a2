//! Hosts and how their ledgers stand, as far as the database tells.

use record::{Host, Stack};

use super::{
    Error,
    engine::{Connection, Fault, Row, params},
};

/// Which hosts are asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only this one.
    pub host: Option<Host>,
    /// Only this stack's.
    pub stack: Option<Stack>,
    /// After this name.
    pub after: Option<Host>,
    /// So many at most; one more says that there are more.
    pub most: u32,
}

/// The names of hosts, in order, and one more.
pub(super) fn names(connection: &Connection, wanted: &Wanted) -> Result<Vec<String>, Error> {
    let listing = "listing hosts";
    let mut statement = connection
        .prepare_cached(
            "SELECT DISTINCT name FROM ledgers WHERE kind = 'host' AND name > ?1 AND (name = ?2 OR ?2 IS NULL)
             AND (stack = ?3 OR token_stack = ?3 OR ?3 IS NULL) ORDER BY name LIMIT ?4",
        )
        .map_err(Error::database(listing))?;
    let name = |n: &Option<Host>| n.as_ref().map(|n| n.as_str().to_owned());
    let stack = wanted.stack.as_ref().map(|s| s.as_str().to_owned());
    let after = name(&wanted.after).unwrap_or_default();
    let rows = statement
        .query_map(params![after, name(&wanted.host), stack, wanted.most + 1], |row| row.get(0))
        .map_err(Error::database(listing))?;
    rows.collect::<Result<_, _>>().map_err(Error::database(listing))
}

/// A host's ledgers, newest first.
pub(super) fn ledgers(connection: &Connection, name: &str) -> Result<Vec<RawLedger>, Error> {
    let listing = "listing a host's ledgers";
    let mut statement = connection
        .prepare_cached(
            "SELECT l.ledger, l.state = 'pending', l.head_seq, l.head_hash, l.records, l.created, l.approved,
             l.head_received, l.last_time, l.last_type, l.next_by, l.stack,
             (SELECT CAST(coalesce(sum(g.last - g.first + 1), 0) AS BIGINT) FROM gaps g WHERE g.ledger = l.id),
             (SELECT count(*) FROM forks f WHERE f.ledger = l.id)
             FROM ledgers l WHERE l.kind = 'host' AND l.name = ?1 ORDER BY l.id DESC",
        )
        .map_err(Error::database(listing))?;
    let rows = statement.query_map([name], RawLedger::read).map_err(Error::database(listing))?;
    rows.collect::<Result<_, _>>().map_err(Error::database(listing))
}

/// A ledger as it stands in the database. Moments are microseconds.
#[derive(Debug, Clone)]
pub struct RawLedger {
    /// Its id.
    pub ledger: String,
    /// Whether an admin has yet to approve it.
    pub pending: bool,
    /// The last record's number.
    pub seq: i64,
    /// The hash of its line.
    pub hash: [u8; 32],
    /// How many are stored.
    pub records: i64,
    /// When it was enrolled.
    pub created: i64,
    /// When an admin approved it.
    pub approved: Option<i64>,
    /// When the last record was stored.
    pub received: i64,
    /// Its own time.
    pub last_time: i64,
    /// Its type.
    pub last_type: String,
    /// When the next sweep has to come.
    pub next_by: Option<i64>,
    /// The stack of its newest record.
    pub stack: String,
    /// How many records were pruned before they came.
    pub never_received: i64,
    /// How many records contradict it.
    pub forked: i64,
}

impl RawLedger {
    fn read(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Self {
            ledger: row.get(0)?,
            pending: row.get(1)?,
            seq: row.get(2)?,
            hash: row.get(3)?,
            records: row.get(4)?,
            created: row.get(5)?,
            approved: row.get(6)?,
            received: row.get(7)?,
            last_time: row.get(8)?,
            last_type: row.get(9)?,
            next_by: row.get(10)?,
            stack: row.get(11)?,
            never_received: row.get(12)?,
            forked: row.get(13)?,
        })
    }
}
