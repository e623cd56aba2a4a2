//! An unauthorised key, from written to gone.

use std::time::Duration;

use instance_tests::eventually;

use crate::{
    Bench, WATCHED, note,
    samples::Printed,
    table::{Bound, Row},
};

/// p99 is bounded by so many times the floor's.
const MOST: f64 = 3.0;
/// How long the daemon may take to watch new accounts.
const WATCHED_LIMIT: Duration = Duration::from_secs(60);

/// Waits until the last account is watched: a key in its home does not stay.
pub(crate) fn await_watches(bench: &Bench) {
    let last = format!("/home/b{:05}/.ssh/authorized_keys", WATCHED - 1);
    bench.house.sh(&format!("echo 'not a comment' >>{last}"));
    eventually("the accounts are watched", WATCHED_LIMIT, || !bench.house.exists(&last));
}

/// Keys written in place and moved into place.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let rounds = bench.effort.removals;
    note(&format!("{rounds} keys written and {rounds} moved into place, in turn with the unlink loop's"));
    let printed = Printed::parse(&bench.probe(600, &format!("removals {WATCHED} {rounds}")));
    let mut rows = Vec::new();
    for (way, what) in [("written", "key written → gone"), ("moved", "key moved into place → gone")] {
        let [floor, ours] = ["floor", "ours"].map(|side| printed.take(&format!("{way}-{side}")));
        let row = |percent, bound| {
            let what = format!("{what}, p{percent}");
            Row::times(&what, floor.percentile(percent), ours.percentile(percent), bound)
        };
        rows.extend([row(50, Bound::None), row(99, Bound::Times(MOST))]);
    }
    rows
}
