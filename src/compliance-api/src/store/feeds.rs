//! The feed of each stack: where it stands, and what its judge remembers.

use document::{Id, Organization, StackPattern};
use jiff::Timestamp;
use record::{Hash, Stack};

use super::{
    Error,
    documents::{blob, id},
    engine::{Connection, OptionalExtension, Row, params},
    ledgers::Ledger,
    moment,
    transaction::Transaction,
};

/// One feed. That of `*` holds what goes into every one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// Of which stack.
    pub stack: StackPattern,
    /// Moves with every change.
    pub version: i64,
    /// How many documents it holds.
    pub count: u64,
    /// The head of the chain over their ids.
    pub head: Hash,
    /// What its judge remembers, as JSON.
    pub state: String,
    /// The last roster that the threshold signed.
    pub signed: Option<Id>,
    /// The roster in force, where an automatic key signed it.
    pub automatic: Option<Id>,
}

/// The feed of this stack.
pub(super) fn find(connection: &Connection, stack: &StackPattern) -> Result<Option<Feed>, Error> {
    let read = |row: &Row<'_>| {
        let (version, count, head): (i64, u64, [u8; 32]) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (state, signed, automatic): (String, Option<[u8; 32]>, Option<[u8; 32]>) =
            (row.get(3)?, row.get(4)?, row.get(5)?);
        Ok((version, count, head, state, signed, automatic))
    };
    let found = connection
        .prepare_cached("SELECT version, count, head, state, signed, automatic FROM feeds WHERE stack = ?1")
        .and_then(|mut s| s.query_row([stack.as_str()], read).optional())
        .map_err(Error::database("looking up a feed"))?;
    let Some((version, count, head, state, signed, automatic)) = found else { return Ok(None) };
    Ok(Some(Feed {
        stack: stack.clone(),
        version,
        count,
        head: Hash::from(head),
        state,
        signed: signed.map(id).transpose()?,
        automatic: automatic.map(id).transpose()?,
    }))
}

/// The version of the feed of this stack, where there is one.
pub(super) fn version(connection: &Connection, stack: &StackPattern) -> Result<Option<i64>, Error> {
    connection
        .prepare_cached("SELECT version FROM feeds WHERE stack = ?1")
        .and_then(|mut s| s.query_row([stack.as_str()], |row| row.get(0)).optional())
        .map_err(Error::database("looking up a feed"))
}

/// How many documents each feed holds, in order of the stacks.
pub(super) fn counts(connection: &Connection) -> Result<Vec<(StackPattern, u64)>, Error> {
    let listing = "listing feeds";
    let mut statement =
        connection.prepare_cached("SELECT stack, count FROM feeds ORDER BY stack").map_err(Error::database(listing))?;
    let rows = statement
        .query_map(params![], |row| Ok((row.get::<String>(0)?, row.get(1)?)))
        .map_err(Error::database(listing))?;
    rows.map(|row| {
        let (stack, count) = row.map_err(Error::database(listing))?;
        let unsound = || Error::Unsound(format!("a feed of the stack {stack:?}"));
        Ok((stack.parse().map_err(|_| unsound())?, count))
    })
    .collect()
}

/// Keeps a feed, and the documents that joined it, in order: the last of them is its `count`th.
pub(super) fn keep(
    writing: &Transaction<'_>,
    organization: &Organization,
    feed: &Feed,
    joined: &[Id],
) -> Result<(), Error> {
    let keeping = "keeping a feed";
    writing
        .connection
        .prepare_cached(
            "INSERT INTO feeds (stack, organization, version, count, head, state, signed, automatic)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (stack) DO UPDATE SET organization = excluded.organization, version = excluded.version,
             count = excluded.count, head = excluded.head, state = excluded.state, signed = excluded.signed,
             automatic = excluded.automatic",
        )
        .and_then(|mut s| {
            s.execute(params![
                feed.stack.as_str(),
                organization.as_str(),
                feed.version,
                feed.count,
                feed.head.as_bytes(),
                feed.state,
                feed.signed.map(blob),
                feed.automatic.map(blob),
            ])
        })
        .map_err(Error::database(keeping))?;
    let first = feed.count - joined.len() as u64 + 1;
    for (document, position) in joined.iter().zip(first..) {
        writing
            .connection
            .prepare_cached("INSERT INTO feed (stack, position, document) VALUES (?1, ?2, ?3)")
            .and_then(|mut s| s.execute(params![feed.stack.as_str(), position, blob(*document)]))
            .map_err(Error::database(keeping))?;
    }
    Ok(())
}

/// Drops the feeds of other organizations than this one, and requests with them: they begin anew. How many there were.
pub(super) fn begin_anew(writing: &Transaction<'_>, organization: &Organization) -> Result<usize, Error> {
    let dropping = "beginning the feeds anew";
    let run = |sql: &str| {
        writing
            .connection
            .prepare_cached(sql)
            .and_then(|mut s| s.execute([organization.as_str()]))
            .map_err(Error::database(dropping))
    };
    run("DELETE FROM feed WHERE stack IN (SELECT stack FROM feeds WHERE organization <> ?1)")?;
    run("DELETE FROM documents WHERE state = 'pending' AND EXISTS (SELECT 1 FROM feeds WHERE organization <> ?1)")?;
    run("DELETE FROM feeds WHERE organization <> ?1")
}

/// A host by the token of its feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedHost {
    /// Its name.
    pub host: String,
    /// The stack of its newest record.
    pub stack: String,
    /// The type of its last record.
    pub last_type: String,
    /// When that was stored.
    pub received: Timestamp,
    /// When the next sweep has to come.
    pub next_by: Option<Timestamp>,
}

/// Keeps the hash of the token by which the host of this ledger hears its feed.
pub(super) fn keep_token(writing: &Transaction<'_>, ledger: &Ledger, token: Option<[u8; 32]>) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached("UPDATE ledgers SET feed_token = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![ledger.row, token]))
        .map_err(Error::database("keeping the token of a feed"))?;
    Ok(())
}

/// The hosts whose newest approved ledger names a token: this one, or any; each with its hash.
pub(super) fn hosts(connection: &Connection, token: Option<[u8; 32]>) -> Result<Vec<([u8; 32], FeedHost)>, Error> {
    let looking = "looking up who hears a feed";
    let which =
        if token.is_some() { "l.feed_token = ?1" } else { "l.feed_token IS NOT NULL AND CAST(?1 AS TEXT) IS NULL" };
    let mut statement = connection
        .prepare_cached(&format!(
            "SELECT l.feed_token, l.name, l.stack, l.last_type, l.head_received, l.next_by FROM ledgers l
             WHERE {which} AND l.kind = 'host' AND l.state = 'enrolled' AND l.id =
               (SELECT max(id) FROM ledgers n WHERE n.kind = 'host' AND n.name = l.name AND n.state = 'enrolled')"
        ))
        .map_err(Error::database(looking))?;
    let rows = statement
        .query_map([token], |row| {
            let (received, next_by): (i64, Option<i64>) = (row.get(4)?, row.get(5)?);
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, received, next_by))
        })
        .map_err(Error::database(looking))?;
    rows.map(|row| {
        let (token, host, stack, last_type, received, next_by) = row.map_err(Error::database(looking))?;
        let (received, next_by) = (moment(received)?, next_by.map(moment).transpose()?);
        Ok((token, FeedHost { host, stack, last_type, received, next_by }))
    })
    .collect()
}

/// The stacks that hosts' newest approved ledgers name, in order; at most so many.
pub(super) fn stacks_of_hosts(connection: &Connection, most: usize) -> Result<Vec<Stack>, Error> {
    let listing = "listing the stacks of hosts";
    let mut statement = connection
        .prepare_cached(
            "SELECT DISTINCT stack FROM ledgers l WHERE kind = 'host' AND state = 'enrolled' AND stack <> '' AND id =
               (SELECT max(id) FROM ledgers n WHERE n.kind = 'host' AND n.name = l.name AND n.state = 'enrolled')
             ORDER BY stack LIMIT ?1",
        )
        .map_err(Error::database(listing))?;
    let rows = statement.query_map([most], |row| row.get::<String>(0)).map_err(Error::database(listing))?;
    rows.map(|row| {
        let stack = row.map_err(Error::database(listing))?;
        stack.parse().map_err(|_| Error::Unsound(format!("a host of the stack {stack:?}")))
    })
    .collect()
}
