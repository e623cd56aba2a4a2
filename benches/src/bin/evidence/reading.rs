//! One month of one requirement, streamed: how soon it begins, how fast it goes, and what it takes.

use std::{
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use benches::{
    samples::Samples,
    table::{Bound, Row, mebibytes},
};
use jiff::Timestamp;

use crate::{
    Effort,
    fill::YEAR,
    server::{Server, agent},
};

/// The first byte is there within this.
const FIRST_BYTE: Duration = Duration::from_millis(100);
/// What a month's stream may add to the server's memory to count as flat, in bytes.
const FLAT: u64 = 32 << 20;
/// Unique user identification: session records and the grants behind them are evidence of it.
const REQUIREMENT: &str = "164.312(a)(2)(i)";

/// Reads months from all over the year.
pub(crate) fn measure(state: &Path, effort: &Effort) -> Vec<Row> {
    let server = Server::start(state);
    let token = server.token(&["auditor", "--name", "bench"]);
    let stored = effort.stored[effort.stored.len() - 1];
    let month = YEAR / 12;
    let now = Timestamp::now().as_microsecond();
    // A first request warms what a server that runs has warm: its code, and the indexes' upper pages.
    read(&server, &token, now - month, now - month + 1_000_000);
    let before = server.memory("VmRSS");
    let (mut first, mut whole, mut bytes) = (Vec::new(), Vec::new(), 0);
    for n in 1..=i64::from(effort.months) {
        let from = now - YEAR + n * (YEAR / (i64::from(effort.months) + 2));
        let (began, ended, length) = read(&server, &token, from, from + month);
        first.push(began.as_nanos() as u64);
        whole.push(ended.as_nanos() as u64);
        bytes = length;
    }
    assert!(bytes > 0, "there is nothing in a month");
    let added = server.memory("VmHWM").saturating_sub(before);
    let worst = Samples::new(first).percentile(100);
    let whole = Samples::new(whole).percentile(50);
    let rate = format!("{} in {:.1} s", mebibytes(bytes), whole.as_secs_f64());
    vec![
        Row::times(
            &format!("a month of {stored}: slowest first byte"),
            Duration::ZERO,
            worst,
            Bound::Within(FIRST_BYTE),
        ),
        Row::words("  the whole of it, median", String::new(), rate, None),
        Row::words(
            "  memory that reading added, most",
            String::new(),
            mebibytes(added),
            Some((format!("≤ {}", mebibytes(FLAT)), added <= FLAT)),
        ),
    ]
}

/// Until the first byte, until the last, and how many.
fn read(server: &Server, token: &str, from: i64, to: i64) -> (Duration, Duration, u64) {
    let moment = |micros: i64| Timestamp::from_microsecond(micros).expect("a moment").to_string();
    let start = Instant::now();
    let mut answer = agent()
        .get(format!("{}/v1/artifacts", server.url))
        .query("requirement", REQUIREMENT)
        .query("from", moment(from))
        .query("to", moment(to))
        .header("Accept", "application/x-ndjson")
        .header("Authorization", format!("Bearer {token}"))
        .call()
        .expect("an answer");
    let status = answer.status();
    let mut body = answer.body_mut().as_reader();
    let mut buffer = vec![0; 64 * 1024];
    let mut length = body.read(&mut buffer).expect("a byte") as u64;
    let first = start.elapsed();
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&buffer[..length as usize]));
    loop {
        match body.read(&mut buffer).expect("bytes") {
            0 => return (first, start.elapsed(), length),
            more => length += more as u64,
        }
    }
}
