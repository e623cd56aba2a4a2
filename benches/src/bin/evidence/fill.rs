//! Fills a database to a number of artifacts, spread over a year: straight by SQL, as signing ten millions would take an
//! hour. What is measured afterwards is signed and sent.

use std::path::Path;

use rusqlite::{Connection, params};

use benches::ledger::Writer;

use crate::{STACK, server::Server};

/// Ledgers that what is filled in is spread over.
const LEDGERS: u64 = 200;
/// Microseconds of a year.
pub(crate) const YEAR: i64 = 365 * 86_400 * 1_000_000;
/// The indexes that are made again at the end: sorting once is faster than growing them row by row.
const INDEXES: &str =
    "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'artifacts' AND sql NOT NULL";

/// Brings the database in `state` to `target` artifacts, and makes it where there is none.
pub(crate) fn up_to(state: &Path, target: u64) {
    // Makes the database, with the server's own first records.
    drop(Server::start(state));
    let database = find(state);
    let db = Connection::open(&database).expect("the database");
    db.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -262144;").expect("pragmas");
    let count = |table: &str| -> u64 {
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count")
    };
    let missing = target.saturating_sub(count("artifacts"));
    let now = jiff::Timestamp::now().as_microsecond();
    if count("ledgers WHERE name LIKE 'filled%'") == 0 {
        make_ledgers(&db, now);
    }
    insert(&db, missing, now);
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize;").expect("a checkpoint");
}

fn find(state: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(state).expect("the state directory").flatten().map(|entry| entry.path());
    let is_database = |path: &std::path::PathBuf| std::fs::read(path).is_ok_and(|b| b.starts_with(b"SQLite format 3"));
    files.into_iter().find(is_database).expect("the server made a database")
}

fn make_ledgers(db: &Connection, now: i64) {
    let types = ["grant.created", "session.opened", "session.closed", "grant.ended", STACK];
    for word in types {
        db.execute("INSERT OR IGNORE INTO words (word) VALUES (?1)", [word]).expect("a word");
    }
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
         INSERT INTO ledgers (ledger, kind, name, stack, state, created, head_seq, head_hash, head_received, last_type, last_time)
         SELECT printf('%032x', i), 'host', printf('filled%d', i), ?2, 'enrolled', ?3, 0, zeroblob(32), ?3, '', ?3 FROM n",
        params![LEDGERS, STACK, now],
    )
    .expect("ledgers");
}

fn insert(db: &Connection, count: u64, now: i64) {
    let mut writer = Writer::new("filled", STACK);
    let bytes = (0..4).map(|_| writer.another()).last().expect("a record").as_str().trim_end().as_bytes().to_vec();
    let before: u64 = db.query_row("SELECT max(id) FROM artifacts", [], |row| row.get(0)).expect("the last id");
    let indexes: Vec<(String, String)> = db
        .prepare(INDEXES)
        .and_then(|mut all| all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .expect("the indexes");
    for (name, _) in &indexes {
        db.execute_batch(&format!("DROP INDEX {name}")).expect("an index goes");
    }
    let types: Vec<u64> = ["grant.created", "session.opened", "session.closed", "grant.ended"]
        .map(|word| db.query_row("SELECT id FROM words WHERE word = ?1", [word], |row| row.get(0)).expect("a word"))
        .to_vec();
    let stack: u64 = db.query_row("SELECT id FROM words WHERE word = ?1", [STACK], |row| row.get(0)).expect("a word");
    let first: u64 =
        db.query_row("SELECT min(id) FROM ledgers WHERE name LIKE 'filled%'", [], |row| row.get(0)).expect("a ledger");
    db.execute(
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
             INSERT INTO artifacts (ledger, seq, type, stack, time, received, person, account, fingerprint, flags, bytes)
             SELECT ?2 + i % {LEDGERS}, ?3 + i / {LEDGERS} + 1,
                    CASE (i / {LEDGERS}) % 4 WHEN 0 THEN {} WHEN 1 THEN {} WHEN 2 THEN {} ELSE {} END, ?4,
                    ?5 - {YEAR} + i * ({YEAR} / ?1), ?5 - {YEAR} + i * ({YEAR} / ?1), printf('person%d', i % 40), 'ubuntu',
                    NULL, 0, ?6
             FROM n WHERE ?1 > 0",
            types[0], types[1], types[2], types[3]
        ),
        params![count, first, before, stack, now, bytes],
    )
    .expect("artifacts");
    db.execute("UPDATE counters SET last = (SELECT max(id) FROM artifacts) WHERE name = 'artifacts'", [])
        .expect("the counter of ids");
    for (_, sql) in &indexes {
        db.execute_batch(sql).expect("an index");
    }
    db.execute(
        "INSERT INTO tallies (type, day, ledger, stack, clock_off, count, first, last)
         SELECT type, time / 86400000000, ledger, stack, 0, count(*), min(time), max(time) FROM artifacts WHERE id > ?1
         GROUP BY 1, 2, 3, 4 ON CONFLICT DO UPDATE SET count = count + excluded.count,
             first = min(first, excluded.first), last = max(last, excluded.last)",
        [before],
    )
    .expect("tallies");
}
