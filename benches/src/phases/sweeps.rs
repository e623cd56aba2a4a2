//! A sweep with nothing to do.

use std::thread;
use std::time::Duration;

use instance_tests::eventually;
use jiff::Timestamp;

use crate::{
    Bench, SWEPT, note,
    samples::{Printed, Samples},
    table::{Bound, Row},
};

/// The median is within so many times the walk's.
const MOST: f64 = 1.5;
/// A sweep is due so often, at seconds that this divides; the walk runs halfway between two.
const EVERY: i64 = 4;
/// How long the daemon may take to watch ten thousand accounts.
const LIMIT: Duration = Duration::from_secs(120);

/// Sweeps by schedule and walks over the same files, in turn.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let sweeps = bench.effort.sweeps;
    note(&format!("{sweeps} sweeps of {SWEPT} accounts, in turn with bare walks"));
    bench.probe(300, &format!("accounts {SWEPT}"));
    bench.configure(&[], &format!("[schedule]\nsweep = \"*/{EVERY} * * * * *\"\n"));
    eventually("a sweep attests every account and file", LIMIT, || {
        attested(bench)
            .iter()
            .rev()
            .take(1)
            .any(|(accounts, files, _)| *accounts > u64::from(SWEPT) && *files >= 2 * u64::from(SWEPT))
    });
    let before = attested(bench).len();
    let mut walks = Vec::new();
    while walks.len() < sweeps as usize {
        sleep_until_halfway();
        walks.push(Printed::parse(&bench.probe(60, &format!("walk {SWEPT}"))).one("walk"));
    }
    let ours: Vec<u64> =
        attested(bench)[before..].iter().map(|(_, _, milliseconds)| milliseconds * 1_000_000).collect();
    let (floor, ours) = (Samples::new(walks), Samples::new(ours));
    vec![
        Row::times("sweep of 10,000 accounts, median", floor.median(), ours.median(), Bound::Times(MOST)),
        Row::times("sweep of 10,000 accounts, slowest", floor.percentile(100), ours.percentile(100), Bound::None),
    ]
}

/// Accounts, files and milliseconds of each sweep so far; a later part of a long record has none of them.
fn attested(bench: &Bench) -> Vec<(u64, u64, u64)> {
    let read = |record: &serde_json::Value| {
        let number = |name: &str| record["detail"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {record}"));
        (number("accounts"), number("files"), number("milliseconds"))
    };
    let whole = |record: &&serde_json::Value| record["detail"]["part"].as_u64().is_none_or(|part| part == 1);
    bench.house.records_of("sweep.attested").iter().filter(whole).map(read).collect()
}

fn sleep_until_halfway() {
    let period = i128::from(EVERY) * 1_000_000_000;
    let now = Timestamp::now().as_nanosecond();
    let wait = (period / 2 - now.rem_euclid(period)).rem_euclid(period);
    thread::sleep(Duration::from_nanos(u64::try_from(wait).unwrap_or(0)));
}
