//! A case of a year of one person on 50 hosts: how long it takes to be made and verified, and in how much memory.
//!
//! Run by hand, as it takes minutes: `cargo test --release -p compliance-api --test case_year -- --ignored --nocapture`.
//! `RECORDS` sets how many records each host has.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "it measures")]
#![allow(dead_code, reason = "other tests use the rest of what is common")]

mod common;

use std::{
    fs::{self, File},
    io::{BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use common::{Server, host_lines, store_host};
use jiff::{SignedDuration, Timestamp};
use record::ArtifactType;
use ssh_key::PublicKey;

/// Hosts on which frank was.
const HOSTS: usize = 50;
/// Records of each, by default: some 55 a day.
const RECORDS: usize = 20_000;
/// What making and verifying may take.
const MADE: Duration = Duration::from_secs(60);
const VERIFIED: Duration = Duration::from_secs(120);
/// What it may add to the memory of the server, here together with its client, in KiB.
const MEMORY: u64 = 64 << 10;

/// A number of /proc/self/status, in KiB.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn fetch(server: &Server, to: &mut File) -> u64 {
    let mut stream = TcpStream::connect(server.address).unwrap();
    // HTTP/1.0 has no chunks: what comes is the archive.
    let head = format!("GET /v1/case?person=frank HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", server.auditor);
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        let mut one = [0];
        reader.read_exact(&mut one).unwrap();
        header.push(one[0]);
    }
    assert!(header.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&header));
    std::io::copy(&mut reader, to).unwrap()
}

#[test]
#[ignore = "it takes minutes"]
fn a_year_of_one_person_on_50_hosts_is_made_within_a_minute_and_verified_within_two() {
    let records = std::env::var("RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(RECORDS);
    let begin: Timestamp = "2025-11-01T00:00:00Z".parse().unwrap();
    let times: Vec<String> = (0..records)
        .map(|n| (begin + SignedDuration::from_secs((n * 31_536_000 / records) as i64)).to_string())
        .collect();
    let kinds = [ArtifactType::SessionOpened, ArtifactType::SessionClosed];
    let drafts: Vec<_> = times
        .iter()
        .enumerate()
        .map(|(n, time)| match n {
            n if n % 10 < 2 => (kinds[n % 2], Some("frank"), time.as_str()),
            _ => (ArtifactType::SweepAttested, None, time.as_str()),
        })
        .collect();
    let server = Server::start(|store| {
        for n in 0..HOSTS {
            let name = format!("i-{n:0>width$}", width = n + 2);
            let (key, lines) = host_lines(&name, &drafts);
            let id = store_host(store, &name, false, &lines).parse().unwrap();
            let line = PublicKey::from(key.public_key().key_data().clone()).to_openssh().unwrap();
            store
                .write_blocking(move |tx| {
                    let ledger = tx.ledger(&id)?.unwrap();
                    tx.bind_key(&ledger, 1, &line)
                })
                .unwrap();
        }
    });
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("case.tar");
    let mut file = File::create(&path).unwrap();
    // What the process held when the store was filled counts for nothing.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let start = Instant::now();
    let bytes = fetch(&server, &mut file);
    let (made, grown) = (start.elapsed(), memory("VmHWM:").saturating_sub(before));
    let key = PublicKey::from_openssh(server.get("/v1/server").json()["public_key"].as_str().unwrap()).unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let start = Instant::now();
    let report = case::verify(BufReader::with_capacity(1 << 16, File::open(&path).unwrap()), Some(vec![key]));
    let (verified, verifying) = (start.elapsed(), memory("VmHWM:").saturating_sub(before));
    println!(
        "{} records, {} MiB: made in {made:.1?} with {grown} KiB more, verified in {verified:.1?} with {verifying} KiB more",
        report.records(),
        bytes >> 20
    );
    assert!(report.good, "{:?}", report.findings);
    assert_eq!(report.records(), (HOSTS * records) as u64);
    assert!(made < MADE && verified < VERIFIED && grown < MEMORY, "over a bound");
}
