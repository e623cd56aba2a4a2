//! What is kept of hosts' ledgers beside their records: keys, gaps, forks, approvals.

use record::{Fingerprint, Hash, LedgerId};
use serde::Serialize;
use ssh_key::{HashAlg, PublicKey};
use utoipa::ToSchema;

use super::{
    Error,
    engine::{Connection, OptionalExtension, params},
    ledgers::Ledger,
    micros, moment,
    transaction::Transaction,
};
use crate::moment::Moment;

/// The keys of a chain, each with the first record that it signs, in order.
///
/// # Errors
/// The database's; a key that cannot be read.
pub(super) fn keys(connection: &Connection, row: i64) -> Result<Vec<(u64, PublicKey)>, Error> {
    let listing = "listing keys";
    let mut statement = connection
        .prepare_cached("SELECT first_seq, public_key FROM keys WHERE ledger = ?1 ORDER BY first_seq")
        .map_err(Error::database(listing))?;
    let rows = statement
        .query_map([row], |r| Ok((r.get::<u64>(0)?, r.get::<String>(1)?)))
        .map_err(Error::database(listing))?;
    rows.map(|row| {
        let (first, text) = row.map_err(Error::database(listing))?;
        let key =
            PublicKey::from_openssh(&text).map_err(|_| Error::Unsound(format!("a key that is none: {text:?}")))?;
        Ok((first, key))
    })
    .collect()
}

/// The keys of a host's ledger by fingerprint, each with the first record that it signs, in order; none for a chain that is
/// no host's.
///
/// # Errors
/// The database's; a key that cannot be read.
pub(super) fn signers(connection: &Connection, row: i64) -> Result<Vec<(u64, Fingerprint)>, Error> {
    let of_host: bool = connection
        .prepare_cached("SELECT kind = 'host' FROM ledgers WHERE id = ?1")
        .and_then(|mut s| s.query_row([row], |r| r.get(0)))
        .map_err(Error::database("looking up a ledger"))?;
    let keys = if of_host { keys(connection, row)? } else { Vec::new() };
    keys.into_iter()
        .map(|(first, key)| {
            let text = key.fingerprint(HashAlg::Sha256).to_string();
            let fingerprint =
                text.parse().map_err(|_| Error::Unsound(format!("a fingerprint that is none: {text}")))?;
            Ok((first, fingerprint))
        })
        .collect()
}

/// Which of these signs record `seq`.
#[must_use]
pub fn signer_at(signers: &[(u64, Fingerprint)], seq: u64) -> Option<Fingerprint> {
    signers.iter().rfind(|(first, _)| *first <= seq).map(|(_, key)| key.clone())
}

/// The stored bytes of one record.
///
/// # Errors
/// The database's.
pub(super) fn bytes_at(connection: &Connection, row: i64, seq: u64) -> Result<Option<Vec<u8>>, Error> {
    connection
        .prepare_cached("SELECT bytes FROM artifacts WHERE ledger = ?1 AND seq = ?2")
        .and_then(|mut s| s.query_row(params![row, seq], |r| r.get(0)).optional())
        .map_err(Error::database("looking up a record"))
}

/// Keeps the stack of the token that enrols a ledger.
///
/// # Errors
/// The database's.
pub(super) fn keep_token_stack(writing: &Transaction<'_>, ledger: &mut Ledger, stack: &str) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached("UPDATE ledgers SET token_stack = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![ledger.row, stack]))
        .map_err(Error::database("keeping a token's stack"))?;
    ledger.token_stack = Some(stack.to_owned());
    Ok(())
}

/// Whether any ledger is known for this host, pending ones included.
///
/// # Errors
/// The database's.
pub(super) fn is_known(connection: &Connection, host: &str) -> Result<bool, Error> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM ledgers WHERE kind = 'host' AND name = ?1)")
        .and_then(|mut s| s.query_row([host], |r| r.get(0)))
        .map_err(Error::database("looking up a host"))
}

/// Keeps that a range will never come, and the record that accounts for it.
///
/// # Errors
/// The database's.
pub(super) fn keep_gap(
    writing: &Transaction<'_>,
    ledger: &Ledger,
    last: u64,
    last_hash: Hash,
    pruned: &[u8],
) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached(
            "INSERT INTO gaps (ledger, first, last, last_hash, received, pruned) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .and_then(|mut s| {
            let received = micros(writing.now);
            s.execute(params![ledger.row, ledger.head_seq + 1, last, last_hash.as_bytes(), received, pruned])
        })
        .map_err(Error::database("keeping a gap"))?;
    Ok(())
}

/// Keeps an authentic record that contradicts what is stored, unless the ledger has as many as are kept.
///
/// # Errors
/// The database's.
pub(super) fn keep_fork(
    writing: &Transaction<'_>,
    ledger: &Ledger,
    seq: u64,
    hash: Hash,
    bytes: &[u8],
) -> Result<(), Error> {
    let keeping = "keeping a forked record";
    let kept: u64 = writing
        .connection
        .prepare_cached("SELECT count(*) FROM forks WHERE ledger = ?1")
        .and_then(|mut s| s.query_row([ledger.row], |r| r.get(0)))
        .map_err(Error::database(keeping))?;
    if kept >= writing.server.limits.forks_per_ledger {
        return Ok(());
    }
    writing
        .connection
        .prepare_cached(
            "INSERT INTO forks (ledger, seq, hash, received, bytes) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        )
        .and_then(|mut s| {
            let received = micros(writing.now);
            s.execute(params![ledger.row, seq, hash.as_bytes(), received, bytes])
        })
        .map_err(Error::database(keeping))?;
    Ok(())
}

/// Makes a pending ledger count. Whether it was pending.
///
/// # Errors
/// The database's.
pub(super) fn approve(writing: &Transaction<'_>, id: &LedgerId) -> Result<bool, Error> {
    let changed = writing
        .connection
        .prepare_cached("UPDATE ledgers SET state = 'enrolled', approved = ?2 WHERE ledger = ?1 AND state = 'pending'")
        .and_then(|mut s| s.execute(params![id.as_str(), micros(writing.now)]))
        .map_err(Error::database("approving a ledger"))?;
    Ok(changed == 1)
}

/// A host's ledger, for whoever approves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Enrolment {
    /// Its id.
    pub ledger: String,
    /// Its host.
    pub host: String,
    /// The stack of its newest record.
    pub stack: String,
    /// Whether it counts: `enrolled` or `pending`.
    #[schema(pattern = "^(enrolled|pending)$")]
    pub enrolment: String,
    /// When it came.
    #[schema(value_type = Moment)]
    pub created: jiff::Timestamp,
    /// When it was approved, if that was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Moment>)]
    pub approved: Option<jiff::Timestamp>,
    /// The key that it came with.
    pub public_key: String,
    /// How many records are stored.
    #[schema(minimum = 0)]
    pub records: u64,
}

/// Hosts' ledgers, those that wait for an admin first, then the newest.
///
/// # Errors
/// The database's.
pub(super) fn enrolments(connection: &Connection, most: usize) -> Result<Vec<Enrolment>, Error> {
    let listing = "listing enrolments";
    let mut statement = connection
        .prepare_cached(
            "SELECT l.ledger, l.name, l.stack, l.state, l.created, l.approved, l.records,
             (SELECT public_key FROM keys k WHERE k.ledger = l.id ORDER BY first_seq LIMIT 1)
             FROM ledgers l WHERE kind = 'host' ORDER BY l.state = 'pending' DESC, l.id DESC LIMIT ?1",
        )
        .map_err(Error::database(listing))?;
    let rows = statement
        .query_map([most], |r| {
            let (created, approved): (i64, Option<i64>) = (r.get(4)?, r.get(5)?);
            Ok((
                created,
                approved,
                Enrolment {
                    ledger: r.get(0)?,
                    host: r.get(1)?,
                    stack: r.get(2)?,
                    enrolment: r.get(3)?,
                    created: jiff::Timestamp::UNIX_EPOCH,
                    approved: None,
                    records: r.get(6)?,
                    public_key: r.get(7)?,
                },
            ))
        })
        .map_err(Error::database(listing))?;
    rows.map(|row| {
        let (created, approved, enrolment) = row.map_err(Error::database(listing))?;
        Ok(Enrolment { created: moment(created)?, approved: approved.map(moment).transpose()?, ..enrolment })
    })
    .collect()
}
