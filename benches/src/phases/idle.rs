//! What the daemon costs while nothing happens.

use crate::{
    Bench, WATCHED, note,
    samples::Printed,
    table::{Row, mebibytes},
};

/// Resident memory is at most this, bytes.
const MOST_RESIDENT: u64 = 10 << 20;

/// Memory, wake-ups and processor time beside an unlink loop with as many watches.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let seconds = bench.effort.idle;
    note(&format!("{seconds} s of nothing with {WATCHED} accounts"));
    let printed = Printed::parse(&bench.probe(seconds + 60, &format!("idle {} {WATCHED} {seconds}", bench.daemon())));
    let both = |name: &str, show: &dyn Fn(u64) -> String| {
        ["floor", "ours"].map(|side| show(printed.one(&format!("{name}-{side}"))))
    };
    let resident = printed.one("rss-ours") <= MOST_RESIDENT;
    let [floor, ours] = both("rss", &mebibytes);
    let memory = Row::words("idle: resident memory", floor, ours, Some(("≤ 10 MiB".to_owned(), resident)));
    let [floor, ours] = both("wakeups", &|count| format!("{:.2}/s", count as f64 / seconds as f64));
    let wakeups = Row::words("idle: wake-ups", floor, ours, None);
    let [floor, ours] =
        both("cpu", &|microseconds| format!("{:.2} ms/min", microseconds as f64 * 0.06 / seconds as f64));
    let processor = Row::words("idle: processor time", floor, ours, None);
    vec![memory, wakeups, processor]
}
