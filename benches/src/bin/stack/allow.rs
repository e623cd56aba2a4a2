//! One `allow` for a stack of hosts: until the last of them has it, and until whoever typed it knows.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use benches::{
    samples::Samples,
    table::{Bound, Row},
};
use document::{Envelope, Grant};
use instance_tests::Company;
use serde_json::Value;

use crate::{
    crowd::{self, Crowd, Last, expect_ok},
    floor::{Bare, Bytes},
    note,
    server::Server,
};

/// Hosts of the stack.
const HOSTS: usize = 1_000;
/// Ours is at most so many times the floor.
const MOST: f64 = 2.0;
/// Until the last host has it.
const ALL_HAVE_IT: Duration = Duration::from_secs(2);
/// How long a grant may be accepted.
const ACCEPTED: Duration = Duration::from_secs(3_600);

/// Of all rounds, in nanoseconds.
#[derive(Default)]
struct Sums {
    has_it: Vec<u64>,
    known: Vec<u64>,
    last_has_it: Vec<u64>,
    last_known: Vec<u64>,
}

impl Sums {
    fn add(&mut self, has_it: Vec<u64>, known: Vec<u64>) {
        let last = |times: &[u64]| times.iter().copied().max().unwrap_or_default();
        self.last_has_it.push(last(&has_it));
        self.last_known.push(last(&known));
        self.has_it.extend(has_it);
        self.known.extend(known);
    }
}

pub(crate) fn measure(scratch: &Path, rounds: u64) -> Vec<Row> {
    note(&format!("{HOSTS} hosts enrol"));
    let company = Company::found(scratch);
    let server = Server::start(&scratch.join("allow"), &company.table(""));
    let reader = server.token(&["auditor"]);
    let mut ledgers = crowd::ledgers(HOSTS);
    let beginnings = crowd::beginnings(&mut ledgers, &server.token(&["enrol", "--stack", crate::server::STACK]));
    crowd::enrol(server.address, &beginnings);
    server.post(&company.signed(company.roster(1), &[&company.ceo]));
    let mut crowd = Crowd::connect(server.address, HOSTS);
    crowd.ask(0);
    let mut place = crowd::next(&crowd.hear_all());
    let (mut ours, mut floor) = (Sums::default(), Sums::default());
    for round in 1..=rounds {
        note(&format!("allow {round} of {rounds}"));
        crowd.ask(place);
        let reason = format!("round {round}").parse().expect("a reason");
        let grant = Grant { reason, ..company.grant("ubuntu", ACCEPTED) };
        let envelope = company.signed(grant, &[&company.alice]);
        let acceptances = crowd::acceptances(&mut ledgers, &envelope);
        thread::sleep(Duration::from_secs(1));
        let begin = Instant::now();
        let (has_it, last, known) = thread::scope(|scope| {
            let client = scope.spawn(|| allow(&server, &reader, &envelope, begin));
            let (has_it, last) = crowd.hear_and_say(&acceptances, begin);
            (has_it, last, client.join().expect("it knows"))
        });
        expect_ok(&last.receipt);
        place = crowd::next(&last.document);
        ours.add(has_it, known);
        let (has_it, known) = bare(last, &acceptances);
        floor.add(has_it, known);
    }
    rows(ours, floor)
}

/// What `lockdown allow` does: when it knew of each host, in nanoseconds.
fn allow(server: &Server, reader: &str, envelope: &Envelope, begin: Instant) -> Vec<u64> {
    server.post(envelope);
    let (mut known, mut version) = (Vec::new(), -1);
    while known.len() < HOSTS {
        let about = envelope.document().id();
        let answer: Value = server.get(&format!("/v1/documents/{about}/hosts?after={version}&wait=60"), reader);
        version = answer["version"].as_i64().expect("a version");
        let hosts = answer["hosts"].as_array().expect("hosts");
        let accepted = hosts.iter().filter(|host| host["state"] == "accepted").count();
        known.resize(accepted, begin.elapsed().as_nanos() as u64);
    }
    known
}

/// The same bytes by the bare fan-out.
fn bare(last: Last, acceptances: &[Vec<u8>]) -> (Vec<u64>, Vec<u64>) {
    let answers = acceptances.iter().map(Vec::len).collect();
    let bare = Bare::start(Bytes { document: last.document, receipt: last.receipt, answers });
    let mut crowd = Crowd::connect(bare.address, acceptances.len());
    let mut commander = TcpStream::connect::<SocketAddr>(bare.address).expect("it takes connections");
    let (begun, begin) = mpsc::channel();
    let client = thread::spawn(move || {
        let begin: Instant = begin.recv().expect("it begins");
        commander.write_all(b".").expect("it reads");
        let (mut known, mut buffer) = (Vec::new(), [0; 4_096]);
        while known.len() < HOSTS {
            let more = commander.read(&mut buffer).expect("it writes");
            known.resize(known.len() + more, begin.elapsed().as_nanos() as u64);
        }
        known
    });
    thread::sleep(Duration::from_millis(200));
    let since = Instant::now();
    begun.send(since).expect("it waits");
    let (has_it, _) = crowd.hear_and_say(acceptances, since);
    let known = client.join().expect("it knows");
    bare.end();
    (has_it, known)
}

fn rows(ours: Sums, floor: Sums) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |what: String, percent, floor: &Samples, ours: &Samples, bound| {
        rows.push(Row::times(&what, floor.percentile(percent), ours.percentile(percent), bound));
    };
    let [has_it, floor_has_it] = [ours.has_it, floor.has_it].map(Samples::new);
    let [known, floor_known] = [ours.known, floor.known].map(Samples::new);
    for percent in [50, 99] {
        add(format!("allow → a host has it, p{percent}"), percent, &floor_has_it, &has_it, Bound::Times(MOST));
        add(format!("allow → it is known of a host, p{percent}"), percent, &floor_known, &known, Bound::Times(MOST));
    }
    let last = |ours: Vec<u64>, floor: Vec<u64>| (Samples::new(ours), Samples::new(floor));
    let (ours_last, floor_last) = last(ours.last_has_it, floor.last_has_it);
    add(format!("allow → all {HOSTS} have it"), 50, &floor_last, &ours_last, Bound::Within(ALL_HAVE_IT));
    let (ours_last, floor_last) = last(ours.last_known, floor.last_known);
    add(format!("allow → it is known of all {HOSTS}"), 50, &floor_last, &ours_last, Bound::None);
    rows
}
