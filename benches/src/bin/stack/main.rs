//! Measures hosts that wait for their feed, on one server: what they cost while nothing happens, and how soon all of them have
//! what is published. What `benches/stack` runs. See benches/README.md.
//!
//! It measures and judges nothing but the bounds: a missed one is printed, and the exit status stays 0.

mod allow;
mod connections;
mod crowd;
mod floor;
mod hosts;
mod server;

use std::{
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use benches::table::{self, Bound, Row};
use document::{Document, Envelope, IsLockdown, Key, Lockdown, Moment, V1};
use jiff::Timestamp;
use ssh_key::{HashAlg, PrivateKey, private::Ed25519Keypair};

use hosts::Hosts;
use server::Server;

/// Hosts that wait.
const HOSTS: usize = 10_000;
/// Resident memory that the server may have with them.
const MEMORY: u64 = 150 << 20;
/// Share of one processor that it may use while nothing happens.
const IDLE: f64 = 0.02;
/// How long until each has what was published.
const HEARD: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (idle, rounds) = match words.as_slice() {
        [] => (Duration::from_secs(60), 7),
        ["--quick"] => (Duration::from_secs(20), 3),
        _ => {
            eprintln!("usage: benches/stack [--quick]");
            return ExitCode::from(2);
        }
    };
    server::allow_files();
    let scratch = tempfile::tempdir().expect("a directory");
    let mut rows = allow::measure(scratch.path(), rounds);
    rows.extend(measure(scratch.path(), idle, rounds));
    println!("\n{}", benches::machine());
    println!("{}", table::render(&rows));
    ExitCode::SUCCESS
}

fn measure(scratch: &std::path::Path, idle: Duration, rounds: u64) -> Vec<Row> {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32]));
    let public = Key::from_data(key.public_key().key_data()).expect("a key");
    let table = format!(
        "[stack]\norganization = \"acme\"\n[[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{}\"",
        public.as_str()
    );
    let server = Server::start(&scratch.join("server"), &table);
    server::make_hosts(&server, HOSTS);
    let before = server.memory("VmRSS:");
    note(&format!("{HOSTS} hosts begin to wait"));
    let mut hosts = Hosts::connect(server.address, HOSTS);
    sleep(Duration::from_secs(5));
    let (memory, used, since) = (server.memory("VmRSS:"), server.processor_time(), Instant::now());
    note(&format!("nothing happens for {} s", idle.as_secs()));
    sleep(idle);
    let share = (server.processor_time() - used).as_secs_f64() / since.elapsed().as_secs_f64();
    let mut heard = Vec::new();
    let mut worked = Vec::new();
    for round in 1..=rounds {
        note(&format!("lockdown {round} of {rounds}"));
        let envelope = lockdown(&key, round);
        let used = server.processor_time();
        let begin = Instant::now();
        server.post(&envelope);
        let posted = begin.elapsed();
        hosts.read_all();
        heard.push((begin.elapsed(), posted));
        worked.push(server.processor_time() - used);
        hosts.ask(round);
        sleep(Duration::from_secs(2));
    }
    heard.sort();
    worked.sort();
    let (all, posted) = heard[heard.len() / 2];
    let mib = table::mebibytes;
    let percent = |share: f64| format!("{:.2} % of a processor", share * 100.0);
    vec![
        Row::words("server before anybody waits", String::new(), mib(before), None),
        Row::words(
            &format!("server with {HOSTS} hosts that wait"),
            String::new(),
            mib(memory),
            Some((format!("≤ {}", mib(MEMORY)), memory <= MEMORY)),
        ),
        Row::words(
            "the same while nothing happens",
            String::new(),
            percent(share),
            Some((format!("≤ {}", percent(IDLE)), share <= IDLE)),
        ),
        Row::times("a lockdown is posted and durable", Duration::ZERO, posted, Bound::None),
        Row::times(&format!("until all {HOSTS} have heard it"), Duration::ZERO, all, Bound::Within(HEARD)),
        Row::times("processor time of that", Duration::ZERO, worked[worked.len() / 2], Bound::None),
    ]
}

/// A lockdown that a roster key signed.
fn lockdown(key: &PrivateKey, number: u64) -> Envelope {
    let lockdown = Lockdown {
        fingerprint: None,
        hold: false,
        hosts: None,
        issued_at: Moment::of(Timestamp::now()),
        organization: "acme".parse().expect("a name"),
        person: None,
        reason: format!("number {number}").parse().expect("a reason"),
        stack: server::STACK.parse().expect("a stack"),
        kind: IsLockdown,
        v: V1,
    };
    let document = Document::new(lockdown).expect("a document");
    let signature = key.sign(document.namespace().as_str(), HashAlg::Sha512, document.line().as_bytes());
    let armored = record::write_armored(&signature.expect("a signature")).expect("armor");
    Envelope::new(document, vec![armored]).expect("an envelope")
}

/// Says on standard error what is being done.
fn note(what: &str) {
    eprintln!("-- {what}");
}
