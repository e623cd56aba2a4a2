//! Counts of artifacts by type, day, chain, stack and whether the clock was right: kept with every batch, so that "how
//! many, and how fresh" is answered without counting.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Error,
    engine::{Connection, Fault, Row, params},
};

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

/// Of which artifacts one count is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Of {
    /// In this chain.
    pub ledger: i64,
    /// That name this stack (its word's row).
    pub stack: i64,
    /// Whether their time was far from this server's clock.
    pub clock_off: bool,
}

/// What one batch adds to a chain, by type, day, stack and whether the clock was off.
#[derive(Debug, Default)]
pub struct Tallies(BTreeMap<(i64, i64, i64, bool), Tally>);

impl Tallies {
    /// Counts one artifact of this type and stack (their words' rows) and time.
    pub fn count(&mut self, kind: i64, stack: i64, clock_off: bool, time: i64) {
        let one = Tally { count: 1, first: time, last: time };
        let key = (kind, time.div_euclid(DAY), stack, clock_off);
        self.0.entry(key).and_modify(|t| t.add(one)).or_insert(one);
    }

    /// Adds what was counted to what is kept for this chain.
    ///
    /// # Errors
    /// The database's.
    pub(super) fn keep(&self, connection: &Connection, ledger: i64) -> Result<(), Error> {
        let counting = "counting artifacts";
        let mut upsert = connection
            .prepare_cached(
                "INSERT INTO tallies (type, day, stack, clock_off, ledger, count, first, last)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (type, day, ledger, stack, clock_off) DO UPDATE SET count = tallies.count + excluded.count,
                 first = CASE WHEN excluded.first < tallies.first THEN excluded.first ELSE tallies.first END,
                 last = CASE WHEN excluded.last > tallies.last THEN excluded.last ELSE tallies.last END",
            )
            .map_err(Error::database(counting))?;
        for ((kind, day, stack, clock_off), tally) in &self.0 {
            upsert
                .execute(params![kind, day, stack, clock_off, ledger, tally.count, tally.first, tally.last])
                .map_err(Error::database(counting))?;
        }
        Ok(())
    }
}

/// The counts of one type in `from..to`, by what they are of. Whole days come from what is kept; the days at either end, where the
/// window cuts through what they hold, are counted.
///
/// # Errors
/// The database's.
pub(super) fn within(connection: &Connection, kind: i64, from: i64, to: i64) -> Result<BTreeMap<Of, Tally>, Error> {
    let reading = "reading counts";
    let mut all = BTreeMap::new();
    let mut add = |of: Of, tally: Tally| {
        all.entry(of).and_modify(|t: &mut Tally| t.add(tally)).or_insert(tally);
    };
    let mut kept = connection
        .prepare_cached(
            "SELECT ledger, stack, clock_off, CAST(sum(count) AS BIGINT), min(first), max(last) FROM tallies
             WHERE type = ?1 AND day BETWEEN ?2 AND ?3 AND first >= ?4 AND last < ?5
             GROUP BY ledger, stack, clock_off",
        )
        .map_err(Error::database(reading))?;
    let (first_day, last_day) = (from.div_euclid(DAY), to.div_euclid(DAY));
    let rows =
        kept.query_map(params![kind, first_day, last_day, from, to], counts).map_err(Error::database(reading))?;
    for row in rows {
        let (of, tally) = row.map_err(Error::database(reading))?;
        add(of, tally);
    }
    for day in BTreeSet::from([first_day, last_day]) {
        for (of, tally) in counted(connection, kind, day, from, to)? {
            add(of, tally);
        }
    }
    Ok(all)
}

/// The counts on a day that the window cuts through, for the chains that it cuts through.
fn counted(connection: &Connection, kind: i64, day: i64, from: i64, to: i64) -> Result<Vec<(Of, Tally)>, Error> {
    let reading = "reading counts";
    let mut cut = connection
        .prepare_cached(
            "SELECT a.ledger, a.stack, a.flags & 1 AS clock_off, count(*), min(a.time), max(a.time)
             FROM artifacts a INDEXED BY artifacts_type
             WHERE a.type = ?1 AND a.time >= ?5 AND a.time < ?6
             AND EXISTS (SELECT 1 FROM tallies t WHERE t.type = ?1 AND t.day = ?2 AND t.ledger = a.ledger
             AND t.stack = a.stack AND t.clock_off = a.flags & 1 AND (t.first < ?3 OR t.last >= ?4))
             GROUP BY a.ledger, a.stack, a.flags & 1",
        )
        .map_err(Error::database(reading))?;
    let mut is_cut = connection
        .prepare_cached("SELECT 1 FROM tallies WHERE type = ?1 AND day = ?2 AND (first < ?3 OR last >= ?4) LIMIT 1")
        .map_err(Error::database(reading))?;
    if !is_cut.exists(params![kind, day, from, to]).map_err(Error::database(reading))? {
        return Ok(Vec::new());
    }
    let (begins, ends) = (day.saturating_mul(DAY).max(from), day.saturating_add(1).saturating_mul(DAY).min(to));
    let rows = cut.query_map(params![kind, day, from, to, begins, ends], counts).map_err(Error::database(reading))?;
    rows.collect::<Result<_, _>>().map_err(Error::database(reading))
}

fn counts(row: &Row<'_>) -> Result<(Of, Tally), Fault> {
    let of = Of { ledger: row.get(0)?, stack: row.get(1)?, clock_off: row.get(2)? };
    Ok((of, Tally { count: row.get(3)?, first: row.get(4)?, last: row.get(5)? }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn database() -> Connection {
        let connection: Connection = rusqlite::Connection::open_in_memory().unwrap().into();
        connection.execute_batch(include_str!("schema-1.sql")).unwrap();
        connection.execute_batch(include_str!("schema-2.sql")).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection
    }

    /// One artifact: its type, stack, whether its clock was off, and its time in eighths of a day.
    type One = (i64, i64, bool, i64);

    fn store(connection: &Connection, ledger: i64, seq: usize, (kind, stack, clock_off, at): One) {
        connection
            .execute(
                "INSERT INTO artifacts (ledger, seq, type, stack, time, received, flags, bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, x'')",
                // The other flag beside it: it is no matter here.
                params![ledger, seq, kind, stack, at * STEP, i64::from(clock_off) | 2],
            )
            .unwrap();
    }

    const STEP: i64 = DAY / 8;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever the window cuts through, what is kept and counted is what a plain count finds.
        #[test]
        fn counts_by_window_are_exact(
            batches in proptest::collection::vec(
                (0i64..3, proptest::collection::vec((0i64..2, 0i64..2, any::<bool>(), -3i64..40), 1..20)), 1..6),
            from in -20i64..40,
            length in 1i64..50,
        ) {
            let connection = database();
            for (n, (ledger, batch)) in batches.iter().enumerate() {
                let mut tallies = Tallies::default();
                for (m, one) in batch.iter().enumerate() {
                    tallies.count(one.0, one.1, one.2, one.3 * STEP);
                    store(&connection, *ledger, n * 100 + m, *one);
                }
                tallies.keep(&connection, *ledger).unwrap();
            }
            for (from, to) in [(from * STEP, (from + length) * STEP), (i64::MIN, from * STEP), (from * STEP, i64::MAX)] {
                let mut wanted: BTreeMap<Of, Tally> = BTreeMap::new();
                for (ledger, batch) in &batches {
                    for (_, stack, clock_off, at) in
                        batch.iter().filter(|(kind, .., at)| *kind == 1 && from <= at * STEP && at * STEP < to)
                    {
                        let one = Tally { count: 1, first: at * STEP, last: at * STEP };
                        let of = Of { ledger: *ledger, stack: *stack, clock_off: *clock_off };
                        wanted.entry(of).and_modify(|t| t.add(one)).or_insert(one);
                    }
                }
                prop_assert_eq!(within(&connection, 1, from, to).unwrap(), wanted);
            }
        }
    }
}
