//! Counts of artifacts by type, day and chain: kept with every batch, so that "how many, and how fresh" is answered
//! without counting.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Row, params};

use super::Error;

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

/// How many there are, and the first and last moment, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// The earliest.
    pub first: i64,
    /// The latest.
    pub last: i64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// What one batch adds, by type and day.
#[derive(Debug, Default)]
pub struct Tallies(BTreeMap<(i64, i64), Tally>);

impl Tallies {
    /// Counts one artifact of this type (its word's row) and time.
    pub fn count(&mut self, kind: i64, time: i64) {
        let one = Tally { count: 1, first: time, last: time };
        self.0.entry((kind, time.div_euclid(DAY))).and_modify(|t| t.add(one)).or_insert(one);
    }

    /// Adds what was counted to what is kept for this chain.
    ///
    /// # Errors
    /// SQLite's.
    pub fn keep(&self, connection: &Connection, ledger: i64) -> Result<(), Error> {
        let counting = "counting artifacts";
        let mut upsert = connection
            .prepare_cached(
                "INSERT INTO tallies (type, day, ledger, count, first, last) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET count = count + excluded.count, first = min(first, excluded.first),
                 last = max(last, excluded.last)",
            )
            .map_err(Error::sqlite(counting))?;
        for ((kind, day), tally) in &self.0 {
            upsert
                .execute(params![kind, day, ledger, tally.count, tally.first, tally.last])
                .map_err(Error::sqlite(counting))?;
        }
        Ok(())
    }
}

/// The counts of one type in `from..to`, by chain. Whole days come from what is kept; the days at either end, where the
/// window cuts through what they hold, are counted.
///
/// # Errors
/// SQLite's.
pub fn within(connection: &Connection, kind: i64, from: i64, to: i64) -> Result<BTreeMap<i64, Tally>, Error> {
    let reading = "reading counts";
    let mut all = BTreeMap::new();
    let mut add = |ledger: i64, tally: Tally| {
        all.entry(ledger).and_modify(|t: &mut Tally| t.add(tally)).or_insert(tally);
    };
    let mut kept = connection
        .prepare_cached(
            "SELECT ledger, sum(count), min(first), max(last) FROM tallies
             WHERE type = ?1 AND day BETWEEN ?2 AND ?3 AND first >= ?4 AND last < ?5 GROUP BY ledger",
        )
        .map_err(Error::sqlite(reading))?;
    let (first_day, last_day) = (from.div_euclid(DAY), to.div_euclid(DAY));
    let rows = kept.query_map(params![kind, first_day, last_day, from, to], counts).map_err(Error::sqlite(reading))?;
    for row in rows {
        let (ledger, tally) = row.map_err(Error::sqlite(reading))?;
        add(ledger, tally);
    }
    for day in BTreeSet::from([first_day, last_day]) {
        for (ledger, tally) in counted(connection, kind, day, from, to)? {
            add(ledger, tally);
        }
    }
    Ok(all)
}

/// The counts on a day that the window cuts through, for the chains that it cuts through.
fn counted(connection: &Connection, kind: i64, day: i64, from: i64, to: i64) -> Result<Vec<(i64, Tally)>, Error> {
    let reading = "reading counts";
    let mut cut = connection
        .prepare_cached(
            "SELECT a.ledger, count(*), min(a.time), max(a.time) FROM artifacts a INDEXED BY artifacts_type
             WHERE a.type = ?1 AND a.time >= max(?3, ?2 * 86400000000) AND a.time < min(?4, (?2 + 1) * 86400000000)
             AND EXISTS (SELECT 1 FROM tallies t WHERE t.type = ?1 AND t.day = ?2 AND t.ledger = a.ledger
             AND (t.first < ?3 OR t.last >= ?4)) GROUP BY a.ledger",
        )
        .map_err(Error::sqlite(reading))?;
    let mut is_cut = connection
        .prepare_cached("SELECT 1 FROM tallies WHERE type = ?1 AND day = ?2 AND (first < ?3 OR last >= ?4) LIMIT 1")
        .map_err(Error::sqlite(reading))?;
    if !is_cut.exists(params![kind, day, from, to]).map_err(Error::sqlite(reading))? {
        return Ok(Vec::new());
    }
    let rows = cut.query_map(params![kind, day, from, to], counts).map_err(Error::sqlite(reading))?;
    rows.collect::<Result<_, _>>().map_err(Error::sqlite(reading))
}

fn counts(row: &Row<'_>) -> rusqlite::Result<(i64, Tally)> {
    Ok((row.get(0)?, Tally { count: row.get(1)?, first: row.get(2)?, last: row.get(3)? }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema-1.sql")).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection
    }

    fn store(connection: &Connection, ledger: i64, seq: usize, kind: i64, time: i64) {
        connection
            .execute(
                "INSERT INTO artifacts (ledger, seq, type, stack, time, received, flags, bytes)
                 VALUES (?1, ?2, ?3, 0, ?4, 0, 0, x'')",
                params![ledger, seq, kind, time],
            )
            .unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever the window cuts through, what is kept and counted is what a plain count finds.
        #[test]
        fn counts_by_window_are_exact(
            batches in proptest::collection::vec((0i64..3, proptest::collection::vec((0i64..2, -3i64..40), 1..20)), 1..6),
            from in -20i64..40,
            length in 1i64..50,
        ) {
            let (step, connection) = (DAY / 8, database());
            for (n, (ledger, batch)) in batches.iter().enumerate() {
                let mut tallies = Tallies::default();
                for (m, (kind, at)) in batch.iter().enumerate() {
                    tallies.count(*kind, at * step);
                    store(&connection, *ledger, n * 100 + m, *kind, at * step);
                }
                tallies.keep(&connection, *ledger).unwrap();
            }
            for (from, to) in [(from * step, (from + length) * step), (i64::MIN, from * step), (from * step, i64::MAX)] {
                let mut wanted: BTreeMap<i64, Tally> = BTreeMap::new();
                for (ledger, batch) in &batches {
                    for (_, at) in batch.iter().filter(|(kind, at)| *kind == 1 && from <= at * step && at * step < to) {
                        let one = Tally { count: 1, first: at * step, last: at * step };
                        wanted.entry(*ledger).and_modify(|t| t.add(one)).or_insert(one);
                    }
                }
                prop_assert_eq!(within(&connection, 1, from, to).unwrap(), wanted);
            }
        }
    }
}
