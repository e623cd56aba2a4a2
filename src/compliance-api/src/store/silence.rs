//! Which hosts should have been heard of, and were not.

use jiff::{SignedDuration, Timestamp};

use super::{Error, engine::params, micros, moment, transaction::Transaction};

/// A host that is overdue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// Its name.
    pub name: String,
    /// Its newest ledger that counts.
    pub ledger: String,
    /// The last record there.
    pub head_seq: u64,
    /// When that came.
    pub heard: Timestamp,
    /// When the next should have come.
    pub due: Timestamp,
}

/// Hosts whose newest approved ledger does not end in `daemon.stopped`, and is overdue: past its `next_by` and the
/// grace, or, where none was ever named, not heard of for as long as the configuration says.
///
/// # Errors
/// The database's.
pub(super) fn silent(writing: &Transaction<'_>) -> Result<Vec<Silent>, Error> {
    let looking = "looking for silent hosts";
    let after =
        |duration: std::time::Duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX).as_micros();
    let (grace, without) = (after(writing.server.limits.silence_grace), after(writing.server.limits.silent_after));
    let limits = |n: i128| i64::try_from(n).unwrap_or(i64::MAX / 4);
    let mut statement = writing
        .connection
        .prepare_cached(
            "SELECT name, ledger, head_seq, head_received, due FROM (
               SELECT id, name, ledger, head_seq, head_received, last_type,
                      CASE WHEN next_by IS NULL THEN head_received + ?2
                           WHEN next_by > head_received THEN next_by + ?1 ELSE head_received + ?1 END AS due
               FROM ledgers l WHERE kind = 'host' AND state = 'enrolled' AND head_seq > 0 AND id =
                 (SELECT max(id) FROM ledgers n WHERE n.kind = 'host' AND n.name = l.name AND n.state = 'enrolled')
             ) AS last WHERE last_type <> 'daemon.stopped' AND due < ?3",
        )
        .map_err(Error::database(looking))?;
    let rows = statement
        .query_map(params![limits(grace), limits(without), micros(writing.now)], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get::<i64>(3)?, r.get::<i64>(4)?))
        })
        .map_err(Error::database(looking))?;
    rows.map(|row| {
        let (name, ledger, head_seq, heard, due) = row.map_err(Error::database(looking))?;
        Ok(Silent { name, ledger, head_seq, heard: moment(heard)?, due: moment(due)? })
    })
    .collect()
}
