//! The end of a grant, from its deadline to its key gone from the store.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::{
    Bench, note,
    samples::{Printed, Samples},
    table::{Bound, Row},
};

/// p99 is within this.
const MOST: Duration = Duration::from_millis(10);
/// How long each grant lasts: long enough to give them all.
const LIFE_SECONDS: u64 = 20;
/// Grants whose ends lie as far apart as they were given.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let count = bench.effort.ends;
    note(&format!("{count} grants that end after {LIFE_SECONDS} s, in turn with as many files that a bare timer ends"));
    let accounts: Vec<String> = (0..count).map(|index| format!("b{index:05}")).collect();
    bench.configure(&accounts, "");
    let allow = |account: &String| {
        let answer =
            bench.house.ctl_json(&format!("allow frank --account {account} --for {LIFE_SECONDS}s --reason bench"));
        let end = answer["grant"]["expires_at"].as_str().unwrap_or_else(|| panic!("no end in {answer}"));
        let end: Timestamp = end.parse().unwrap_or_else(|e| panic!("no moment ({e}): {end}"));
        (account.clone(), end.as_nanosecond())
    };
    let (ends, gone) = thread::scope(|scope| {
        let watching = scope.spawn(|| bench.probe(600, &format!("deadlines {LIFE_SECONDS} {count}")));
        // It must watch before the first key can go, which is long after its start.
        let ends: BTreeMap<String, i128> = accounts.iter().map(allow).collect();
        (ends, watching.join().expect("the probe works"))
    });
    let (leaving, floor): (Vec<&str>, Vec<&str>) = gone.lines().partition(|line| line.starts_with("gone "));
    let late = |line: &&str| {
        let mut words = line.split(' ').skip(1);
        let (name, at) = (words.next()?, words.next()?.parse::<i128>().ok()?);
        Some(u64::try_from(at - ends.get(name)?).unwrap_or_else(|_| panic!("{name}'s key went before its time")))
    };
    let late: Vec<u64> = leaving.iter().filter_map(late).collect();
    assert_eq!(late.len(), ends.len(), "each key was seen to go:\n{gone}");
    let (ours, floor) = (Samples::new(late), Printed::parse(&floor.join("\n")).take("floor"));
    let row = |percent, bound| {
        let what = format!("deadline → key gone, p{percent}");
        Row::times(&what, floor.percentile(percent), ours.percentile(percent), bound)
    };
    vec![row(50, Bound::None), row(99, Bound::Within(MOST))]
}
