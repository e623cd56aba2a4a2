//! Chains in the store: where each stands, which keys sign it, and adding to it.

use jiff::Timestamp;
use record::{Hash, LedgerId};

use crate::evidence::SourceKind;

use super::{
    Error, Tx,
    engine::{Connection, Fault, OptionalExtension, Row, params},
    micros, moment,
    postgres::insert_artifacts,
    tallies::Tallies,
    transaction::Transaction,
};

/// One chain, as far as adding to it needs.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Its row.
    pub row: i64,
    /// Its id.
    pub id: LedgerId,
    /// The host's, client's, person's or server's name.
    pub name: String,
    /// Whether an admin has yet to approve it.
    pub pending: bool,
    /// The last record's number; 0 before the first.
    pub head_seq: u64,
    /// The hash of its line.
    pub head_hash: Hash,
    /// When that was stored.
    pub head_received: Timestamp,
    /// The stack of the token that enrolled it, where one did.
    pub token_stack: Option<String>,
    /// How many keys were bound to it: what was judged at another number is judged again.
    pub key_epoch: i64,
}

const COLUMNS: &str = "id, ledger, name, state = 'pending', head_seq, head_hash, head_received, token_stack,
    key_epoch";

fn ledger(row: &Row<'_>) -> Result<Result<Ledger, Error>, Fault> {
    let (id, hash, received): (String, [u8; 32], i64) = (row.get(1)?, row.get(5)?, row.get(6)?);
    let (token_stack, key_epoch) = (row.get(7)?, row.get(8)?);
    let (row, name, pending, head_seq) = (row.get(0)?, row.get(2)?, row.get(3)?, row.get(4)?);
    Ok((|| {
        Ok(Ledger {
            row,
            id: id.parse().map_err(|_| Error::Unsound(format!("a ledger called {id:?}")))?,
            name,
            pending,
            head_seq,
            head_hash: Hash::from(hash),
            head_received: moment(received)?,
            token_stack,
            key_epoch,
        })
    })())
}

/// The chain with this id.
///
/// # Errors
/// The database's.
pub(super) fn find(connection: &Connection, id: &LedgerId) -> Result<Option<Ledger>, Error> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM ledgers WHERE ledger = ?1"))
        .and_then(|mut s| s.query_row([id.as_str()], ledger).optional())
        .map_err(Error::database("looking up a ledger"))?
        .transpose()
}

/// The chain that this server keeps under this name, if there is one; for a host, its newest.
///
/// # Errors
/// The database's.
pub(super) fn find_named(connection: &Connection, kind: SourceKind, name: &str) -> Result<Option<Ledger>, Error> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM ledgers WHERE kind = ?1 AND name = ?2 ORDER BY id DESC LIMIT 1"
        ))
        .and_then(|mut s| s.query_row([kind.as_str(), name], ledger).optional())
        .map_err(Error::database("looking up a ledger"))?
        .transpose()
}

/// Begins a chain, without a record yet.
///
/// # Errors
/// The database's.
pub(super) fn begin(
    writing: &Transaction<'_>,
    kind: SourceKind,
    id: &LedgerId,
    name: &str,
    pending: bool,
) -> Result<Ledger, Error> {
    let now = micros(writing.now);
    let state = if pending { "pending" } else { "enrolled" };
    let row = writing
        .connection
        .prepare_cached(
            "INSERT INTO ledgers (id, ledger, kind, name, stack, state, created, head_seq, head_hash, head_received,
             last_type, last_time)
             VALUES ((SELECT coalesce(max(id), 0) + 1 FROM ledgers), ?1, ?2, ?3, '', ?4, ?5, 0, ?6, ?5, '', ?5) RETURNING id",
        )
        .and_then(|mut s| {
            let given = params![id.as_str(), kind.as_str(), name, state, now, Hash::ZERO.as_bytes()];
            s.query_row(given, |row| row.get(0))
        })
        .map_err(Error::database("beginning a ledger"))?;
    Ok(Ledger {
        row,
        id: id.clone(),
        name: name.to_owned(),
        pending,
        head_seq: 0,
        head_hash: Hash::ZERO,
        head_received: writing.now,
        token_stack: None,
        key_epoch: 0,
    })
}

/// What is stored of one artifact beside its bytes.
#[derive(Debug, Clone)]
pub struct Artifact<'a> {
    /// Its number.
    pub seq: u64,
    /// The hash of its line.
    pub hash: Hash,
    /// Its type.
    pub word: &'a str,
    /// Its stack; empty where there is none.
    pub stack: &'a str,
    /// Its own time.
    pub time: Timestamp,
    /// The person it concerns.
    pub person: Option<&'a str>,
    /// The account it concerns.
    pub account: Option<&'a str>,
    /// The key it concerns.
    pub fingerprint: Option<&'a str>,
    /// See [`CLOCK_OFF`] and [`UNKNOWN_TYPE`].
    pub flags: u32,
    /// When the next sweep must have come, by a `sweep.attested`.
    pub next_by: Option<Timestamp>,
    /// A host's record: its line without the newline. Else what was posted.
    pub bytes: &'a [u8],
    /// Where this server keeps the chain: the event's id, and the chain's line.
    pub kept: Option<(&'a str, &'a [u8])>,
}

/// Flag: its time is far ahead of this server's clock.
pub const CLOCK_OFF: u32 = 1;
/// Flag: a type that this server does not know.
pub const UNKNOWN_TYPE: u32 = 2;

/// Adds artifacts, which have been checked to follow the head, and keeps what a receipt over the last says.
///
/// # Errors
/// The store's; then nothing of it is stored.
pub fn append(tx: &mut dyn Tx, ledger: &mut Ledger, artifacts: &[Artifact<'_>]) -> Result<(), Error> {
    match tx.add_artifacts(ledger, artifacts)? {
        Some(_) => tx.keep_receipt(ledger),
        None => Ok(()),
    }
}

/// Adds artifacts, which have been checked to follow the head, and moves the head. Returns the last one's row.
///
/// # Errors
/// The database's; then nothing of it is stored.
pub(super) fn add(
    writing: &Transaction<'_>,
    ledger: &mut Ledger,
    artifacts: &[Artifact<'_>],
) -> Result<Option<i64>, Error> {
    let Some(last) = artifacts.last() else { return Ok(None) };
    let received = micros(writing.now);
    let mut words = Words::default();
    let mut tallies = Tallies::default();
    let row = next_ids(writing, artifacts.len())?;
    let first = row - i64::try_from(artifacts.len()).expect("a batch") + 1;
    let mut batch = Vec::with_capacity(artifacts.len());
    for (a, id) in artifacts.iter().zip(first..) {
        let (word, stack) = (words.id(writing, a.word)?, words.id(writing, a.stack)?);
        tallies.count(word, stack, a.flags & CLOCK_OFF != 0, micros(a.time));
        batch.push((id, word, stack, a));
    }
    match writing.connection {
        Connection::Sqlite(_) => insert(writing, ledger.row, received, &batch)?,
        Connection::Postgres(postgres) => insert_artifacts(postgres, (ledger.row, received), &batch)?,
    }
    tallies.keep(writing.connection, ledger.row)?;
    let next_by = artifacts.iter().rev().find_map(|a| a.next_by).map(micros);
    writing
        .connection
        .prepare_cached(
            "UPDATE ledgers SET stack = ?2, head_seq = ?3, head_hash = ?4, head_received = ?5, last_type = ?6,
             last_time = ?7, next_by = coalesce(?8, next_by), records = records + ?9 WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.execute(params![
                ledger.row,
                last.stack,
                last.seq,
                last.hash.as_bytes(),
                received,
                last.word,
                micros(last.time),
                next_by,
                artifacts.len()
            ])
        })
        .map_err(Error::database("moving a ledger's head"))?;
    (ledger.head_seq, ledger.head_hash, ledger.head_received) = (last.seq, last.hash, writing.now);
    Ok(Some(row))
}

/// Inserts a batch of one ledger, one by one; each with its id, type and stack.
fn insert(
    writing: &Transaction<'_>,
    ledger: i64,
    received: i64,
    batch: &[(i64, i64, i64, &Artifact<'_>)],
) -> Result<(), Error> {
    let storing = "storing an artifact";
    let mut insert = writing
        .connection
        .prepare_cached(
            "INSERT INTO artifacts (ledger, seq, type, stack, time, received, person, account, fingerprint, flags, bytes,
             client_id, entry, id, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )
        .map_err(Error::database(storing))?;
    for (id, word, stack, a) in batch {
        let (client_id, entry) = a.kept.unzip();
        insert
            .execute(params![
                ledger,
                a.seq,
                word,
                stack,
                micros(a.time),
                received,
                a.person,
                a.account,
                a.fingerprint,
                a.flags,
                a.bytes,
                client_id,
                entry,
                id,
                a.hash.as_bytes()
            ])
            .map_err(Error::database(storing))?;
    }
    Ok(())
}

/// Takes so many ids of artifacts; returns the last of them. They are given in the order of commits.
fn next_ids(writing: &Transaction<'_>, count: usize) -> Result<i64, Error> {
    writing
        .connection
        .prepare_cached("UPDATE counters SET last = last + ?1 WHERE name = 'artifacts' RETURNING last")
        .and_then(|mut s| s.query_row([count], |row| row.get(0)))
        .map_err(Error::database("numbering artifacts"))
}

/// Rows of words, remembered for one call: a batch repeats few.
#[derive(Default)]
struct Words<'a>(Vec<(&'a str, i64)>);

impl<'a> Words<'a> {
    fn id(&mut self, writing: &Transaction<'_>, word: &'a str) -> Result<i64, Error> {
        if let Some((_, id)) = self.0.iter().find(|(known, _)| *known == word) {
            return Ok(*id);
        }
        let keeping = "keeping a word";
        let found = writing
            .connection
            .prepare_cached("SELECT id FROM words WHERE word = ?1")
            .and_then(|mut s| s.query_row([word], |row| row.get(0)).optional())
            .map_err(Error::database(keeping))?;
        let id = match found {
            Some(id) => id,
            None => writing
                .connection
                .prepare_cached(
                    "INSERT INTO words (id, word) VALUES ((SELECT coalesce(max(id), 0) + 1 FROM words), ?1) RETURNING id",
                )
                .and_then(|mut s| s.query_row([word], |row| row.get(0)))
                .map_err(Error::database(keeping))?,
        };
        self.0.push((word, id));
        Ok(id)
    }
}

/// The one chain of this kind, where there can be but one: the server's.
///
/// # Errors
/// The database's.
pub(super) fn find_of_kind(connection: &Connection, kind: SourceKind) -> Result<Option<Ledger>, Error> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM ledgers WHERE kind = ?1 ORDER BY id LIMIT 1"))
        .and_then(|mut s| s.query_row([kind.as_str()], ledger).optional())
        .map_err(Error::database("looking up a ledger"))?
        .transpose()
}

/// Binds a key to a chain, from this record on.
///
/// # Errors
/// The database's.
pub(super) fn add_key(
    writing: &Transaction<'_>,
    ledger: &Ledger,
    first_seq: u64,
    public_key: &str,
) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached("INSERT INTO keys (ledger, first_seq, public_key) VALUES (?1, ?2, ?3)")
        .and_then(|mut s| s.execute(params![ledger.row, first_seq, public_key]))
        .map_err(Error::database("binding a key"))?;
    writing
        .connection
        .prepare_cached("UPDATE ledgers SET key_epoch = key_epoch + 1 WHERE id = ?1")
        .and_then(|mut s| s.execute([ledger.row]))
        .map_err(Error::database("binding a key"))?;
    Ok(())
}

/// Which chains, by their rows and ids: by id, by the host's or client's name.
#[derive(Debug, Clone, Copy)]
pub enum Named<'a> {
    /// The one with this id.
    Id(&'a LedgerId),
    /// All of this host.
    Host(&'a str),
    /// That of this client.
    Client(&'a str),
}

/// The chains of this name, newest first.
pub(super) fn named(connection: &Connection, named: Named<'_>) -> Result<Vec<(i64, LedgerId)>, Error> {
    let listing = "looking up a ledger";
    let (sql, name) = match named {
        Named::Id(id) => ("SELECT id, ledger FROM ledgers WHERE ledger = ?1", id.as_str()),
        Named::Host(name) => {
            ("SELECT id, ledger FROM ledgers WHERE kind = 'host' AND name = ?1 ORDER BY id DESC", name)
        }
        Named::Client(name) => {
            ("SELECT id, ledger FROM ledgers WHERE kind = 'client' AND name = ?1 ORDER BY id DESC", name)
        }
    };
    let mut statement = connection.prepare_cached(sql).map_err(Error::database(listing))?;
    let rows = statement
        .query_map([name], |row| Ok((row.get(0)?, row.get::<String>(1)?)))
        .map_err(Error::database(listing))?;
    rows.map(|row| {
        let (id, ledger) = row.map_err(Error::database(listing))?;
        let ledger = ledger.parse().map_err(|_| Error::Unsound(format!("a ledger called {ledger:?}")))?;
        Ok((id, ledger))
    })
    .collect()
}

/// Where one chain stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The chain.
    pub id: LedgerId,
    /// Its last record's number.
    pub seq: u64,
    /// The hash of that record's line.
    pub hash: Hash,
    /// That record's row.
    pub row: i64,
}

/// Where every chain stands but this one, in order of their ids.
///
/// # Errors
/// The database's.
pub(super) fn heads(connection: &Connection, but: i64) -> Result<Vec<Head>, Error> {
    let listing = "listing heads";
    let mut statement = connection
        .prepare_cached(
            "SELECT l.ledger, l.head_seq, l.head_hash, a.id FROM ledgers l
             JOIN artifacts a ON a.ledger = l.id AND a.seq = l.head_seq WHERE l.id <> ?1 ORDER BY l.ledger",
        )
        .map_err(Error::database(listing))?;
    let read = |r: &Row<'_>| Ok((r.get::<String>(0)?, r.get(1)?, r.get::<[u8; 32]>(2)?, r.get(3)?));
    let rows = statement.query_map([but], read).map_err(Error::database(listing))?;
    rows.map(|row| {
        let (id, seq, hash, row) = row.map_err(Error::database(listing))?;
        let id = id.parse().map_err(|_| Error::Unsound(format!("a ledger called {id:?}")))?;
        Ok(Head { id, seq, hash: Hash::from(hash), row })
    })
    .collect()
}

/// The row of this chain's newest artifact of a type, by number: clocks may have gone back since.
///
/// # Errors
/// The database's.
pub(super) fn last_of_type(connection: &Connection, row: i64, word: &str) -> Result<Option<i64>, Error> {
    connection
        .prepare_cached(
            "SELECT id FROM artifacts INDEXED BY artifacts_ledger
             WHERE type = (SELECT id FROM words WHERE word = ?2) AND ledger = ?1 ORDER BY seq DESC LIMIT 1",
        )
        .and_then(|mut s| s.query_row(params![row, word], |r| r.get(0)).optional())
        .map_err(Error::database("looking up the newest of a type"))
}
