//! Records from several hosts at once, signed, verified and durable, beside their bare signature checks.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use benches::{
    ledger::{BATCH, Writer, batch},
    samples::Samples,
    table::{Bound, Row, mebibytes},
};

use crate::{
    Effort, STACK, floor,
    server::{Server, agent, processor_time},
};

/// Hosts that send at the same time.
const HOSTS: u64 = 4;
/// Ours is at most so many times the floor.
const MOST: f64 = 1.5;
/// The same of what the server takes of the processors.
const MOST_PROCESSOR_TIME: f64 = 1.2;

/// One host's share of a round.
struct Share {
    bodies: Vec<Vec<u8>>,
    checks: Vec<floor::Check>,
}

/// Time and rate of ingest on what is stored there, in turn with the floor.
pub(crate) fn measure(state: &Path, effort: &Effort, stored: u64) -> Vec<Row> {
    let server = Server::start(state);
    let token = server.token(&["enrol", "--stack", STACK]);
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    let (mut floor_taken, mut our_taken) = (Duration::ZERO, Duration::ZERO);
    for round in 0..effort.rounds {
        let shares = shares(&format!("s{stored}r{round}"), effort.round / HOSTS);
        let checks: Vec<_> = shares.iter().flat_map(|share| &share.checks).cloned().collect();
        let before = (processor_time("/proc/self"), server.processor_time());
        floors.push(floor::run(&checks).as_nanos() as u64);
        floor_taken += processor_time("/proc/self") - before.0;
        ours.push(send(&server, &token, &shares).as_nanos() as u64);
        our_taken += server.processor_time() - before.1;
    }
    let records = effort.round as u32 * effort.rounds;
    let [floor, ours] = [floors, ours].map(|times| Samples::new(times).percentile(50));
    let rate = |time: Duration| format!("{:.0}/s", effort.round as f64 / time.as_secs_f64());
    let memory = mebibytes(server.memory("VmHWM"));
    vec![
        Row::times(&format!("ingest of {} on {stored} stored", effort.round), floor, ours, Bound::Times(MOST)),
        Row::times(
            "  processors' time for a record",
            floor_taken / records,
            our_taken / records,
            Bound::Times(MOST_PROCESSOR_TIME),
        ),
        Row::words("  records per second", rate(floor), rate(ours), None),
        Row::words("  memory, most", String::new(), memory, None),
    ]
}

fn shares(round: &str, records: u64) -> Vec<Share> {
    let make = |host: u64| {
        let mut writer = Writer::new(&format!("{round}h{host}"), STACK);
        let lines: Vec<_> = (0..records).map(|_| writer.another()).collect();
        let bodies = lines.chunks(BATCH).map(batch).collect();
        Share { bodies, checks: floor::checks(writer.key(), &lines) }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..HOSTS).map(|host| scope.spawn(move || make(host))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a share")).collect()
    })
}

/// Sends all shares at the same time, each over a connection of its own, and waits for every answer.
fn send(server: &Server, token: &str, shares: &[Share]) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for share in shares {
            scope.spawn(move || {
                let agent = agent();
                for body in &share.bodies {
                    let mut answer = agent
                        .post(format!("{}/v1/artifacts", server.url))
                        .header("Content-Type", "application/cloudevents-batch+json")
                        .header("Authorization", format!("Bearer {token}"))
                        .send(&body[..])
                        .expect("an answer");
                    let said = answer.body_mut().read_to_string().unwrap_or_default();
                    assert!(answer.status().is_success(), "{}: {said}", answer.status());
                }
            });
        }
    });
    start.elapsed()
}
