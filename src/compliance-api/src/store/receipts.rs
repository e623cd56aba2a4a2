//! Receipts that were given. Each is sealed again to the very same bytes, as ed25519 is deterministic, or, once the key that
//! signed it was replaced, kept as it was answered.

use record::{Hash, LedgerId, Receipt};

use super::{
    Error, ServerKey,
    engine::{Connection, Fault, Row, params},
    hosts,
    ledgers::Ledger,
    micros, moment,
    transaction::Transaction,
};

/// Keeps what the receipt over the head says.
///
/// # Errors
/// The database's.
pub(super) fn keep(writing: &Transaction<'_>, ledger: &Ledger) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached("INSERT INTO receipts (ledger, seq, hash, received, server_key) VALUES (?1, ?2, ?3, ?4, ?5)")
        .and_then(|mut s| {
            let (hash, received) = (ledger.head_hash, micros(ledger.head_received));
            s.execute(params![ledger.row, ledger.head_seq, hash.as_bytes(), received, writing.server.key.id])
        })
        .map_err(Error::database("keeping a receipt"))?;
    Ok(())
}

/// A part of a chain's receipts.
#[derive(Debug)]
pub struct Part {
    /// Each as it was answered, one canonical JSON object a line.
    pub lines: Vec<u8>,
    /// The last one's number, to go on after; none when there are no more.
    pub last: Option<u64>,
}

/// Some of the receipts over this chain, after this number. One by a key that is gone cannot be had again.
///
/// # Errors
/// The database's; a receipt that cannot be signed.
pub(super) fn part(
    connection: &Connection,
    key: &ServerKey,
    (row, id): (i64, &LedgerId),
    after: u64,
    most: u32,
) -> Result<Part, Error> {
    let listing = "listing receipts";
    let signers = hosts::signers(connection, row)?;
    let mut statement = connection
        .prepare_cached(
            "SELECT seq, hash, received, server_key, sealed FROM receipts WHERE ledger = ?1 AND seq > ?2
             ORDER BY seq LIMIT ?3",
        )
        .map_err(Error::database(listing))?;
    let mut rows = statement.query(params![row, after, most]).map_err(Error::database(listing))?;
    let mut part = Part { lines: Vec::new(), last: None };
    let mut count = 0;
    while let Some(row) = rows.next().map_err(Error::database(listing))? {
        let (seq, hash, received): (u64, [u8; 32], i64) =
            (|| Ok::<_, Fault>((row.get(0)?, row.get(1)?, row.get(2)?)))().map_err(Error::database(listing))?;
        let (signed_by, sealed): (i64, Option<String>) =
            (|| Ok::<_, Fault>((row.get(3)?, row.get(4)?)))().map_err(Error::database(listing))?;
        let signer = hosts::signer_at(&signers, seq);
        let receipt = Receipt { ledger: id.clone(), seq, hash: Hash::from(hash), received: moment(received)?, signer };
        let line = match sealed {
            None if signed_by == key.id => Some(receipt.seal(&key.key)?.as_str().to_owned()),
            sealed => sealed,
        };
        if let Some(line) = line {
            part.lines.extend_from_slice(line.as_bytes());
            part.lines.push(b'\n');
        }
        (part.last, count) = (Some(seq), count + 1);
    }
    if count < most {
        part.last = None;
    }
    Ok(part)
}

/// The last receipt over this chain up to this number, as a line; empty where there is none, or its key is gone.
///
/// # Errors
/// The database's; a receipt that cannot be signed.
pub(super) fn last(
    connection: &Connection,
    key: &ServerKey,
    chain: (i64, &LedgerId),
    to: u64,
) -> Result<Vec<u8>, Error> {
    let seq: Option<u64> = connection
        .prepare_cached("SELECT max(seq) FROM receipts WHERE ledger = ?1 AND seq <= ?2")
        .and_then(|mut s| s.query_row(params![chain.0, to], |row| row.get(0)))
        .map_err(Error::database("looking up a receipt"))?;
    seq.map_or_else(|| Ok(Vec::new()), |seq| Ok(part(connection, key, chain, seq - 1, 1)?.lines))
}

/// Keeps some receipts by the key in force as they were answered, before it is replaced. How many there were.
///
/// # Errors
/// The database's; a receipt that cannot be signed.
pub(super) fn keep_sealed(writing: &Transaction<'_>, most: u32) -> Result<u32, Error> {
    let keeping = "keeping receipts";
    let mut statement = writing
        .connection
        .prepare_cached(
            "SELECT r.ledger, l.ledger, r.seq, r.hash, r.received FROM receipts r JOIN ledgers l ON l.id = r.ledger
             WHERE r.server_key = ?1 AND r.sealed IS NULL LIMIT ?2",
        )
        .map_err(Error::database(keeping))?;
    let read =
        |r: &Row<'_>| Ok((r.get::<i64>(0)?, r.get::<String>(1)?, r.get::<u64>(2)?, r.get::<[u8; 32]>(3)?, r.get(4)?));
    let rows = statement.query_map(params![writing.server.key.id, most], read).map_err(Error::database(keeping))?;
    let all: Vec<_> = rows.collect::<Result<_, _>>().map_err(Error::database(keeping))?;
    let count = u32::try_from(all.len()).unwrap_or(most);
    for (row, id, seq, hash, received) in all {
        let signer = hosts::signer_at(&hosts::signers(writing.connection, row)?, seq);
        let ledger = id.parse().map_err(|_| Error::Unsound(format!("a ledger called {id:?}")))?;
        let receipt = Receipt { ledger, seq, hash: Hash::from(hash), received: moment(received)?, signer };
        let sealed = receipt.seal(&writing.server.key.key)?;
        writing
            .connection
            .prepare_cached("UPDATE receipts SET sealed = ?3 WHERE ledger = ?1 AND seq = ?2")
            .and_then(|mut s| s.execute(params![row, seq, sealed.as_str()]))
            .map_err(Error::database(keeping))?;
    }
    Ok(count)
}
