//! The journal's socket, played by a socket of our own: bytes as journald would get them, and a journald that has stopped.

use std::collections::HashMap;

use jiff::Timestamp;
use record::{ArtifactType, Draft, Hash, Position, seal};
use ssh_key::{PrivateKey, private::Ed25519Keypair};

use super::*;

fn line(draft: &Draft) -> Line {
    let at = Position {
        ledger: &"ab".repeat(16).parse().unwrap(),
        seq: 7,
        host: &"web-1".parse().unwrap(),
        stack: &"web".parse().unwrap(),
        boot: "b",
        time: Timestamp::UNIX_EPOCH,
        prev: Hash::ZERO,
    };
    seal(&draft.bodies().unwrap()[0], &at, &PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32]))).unwrap()
}

/// Reads the native protocol back.
fn fields(mut entry: &[u8]) -> HashMap<String, Vec<String>> {
    let mut out: HashMap<String, Vec<String>> = HashMap::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|b| *b == b'\n').unwrap();
        let head = String::from_utf8(entry[..end].to_vec()).unwrap();
        entry = &entry[end + 1..];
        let (name, value) = if let Some((name, value)) = head.split_once('=') {
            (name.to_owned(), value.to_owned())
        } else {
            let len = usize::try_from(u64::from_le_bytes(entry[..8].try_into().unwrap())).unwrap();
            let value = String::from_utf8(entry[8..8 + len].to_vec()).unwrap();
            assert_eq!(entry[8 + len], b'\n');
            entry = &entry[8 + len + 1..];
            (head, value)
        };
        out.entry(name).or_default().push(value);
    }
    out
}

fn receive(socket: &UnixDatagram) -> HashMap<String, Vec<String>> {
    let mut bytes = vec![0; 65_536];
    let n = socket.recv(&mut bytes).unwrap();
    fields(&bytes[..n])
}

#[test]
fn a_record_arrives_with_every_field_and_the_signed_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let journal = Journal::start_at(&path, 8).unwrap();
    let mut draft =
        Draft::new(ArtifactType::EmergencyLogin, "break-glass used\nMESSAGE=forged").with("keys", vec!["a", "b"]);
    draft.account = Some("breakglass".parse().unwrap());
    let line = line(&draft);
    journal.record(&line);
    let got = receive(&socket);
    let one = |name: &str| got[name].join("|");
    assert_eq!(one("MESSAGE"), "emergency.login: break-glass used\\x0aMESSAGE=forged (account breakglass)");
    assert_eq!(
        (one("PRIORITY"), one("SYSLOG_FACILITY"), one("SYSLOG_IDENTIFIER")),
        ("2".into(), "10".into(), "lockdownd".into())
    );
    assert_eq!(one("MESSAGE_ID"), message_id(ArtifactType::EmergencyLogin));
    assert_eq!((one("LOCKDOWND_SEQ"), one("LOCKDOWND_ACCOUNT")), ("7".into(), "breakglass".into()));
    assert_eq!(one("LOCKDOWND_DETAIL_KEYS"), "a|b");
    assert!(one("LOCKDOWND_SIGNATURE").starts_with("-----BEGIN SSH SIGNATURE-----\n"));
    assert_eq!(one("LOCKDOWND_RECORD"), line.as_str().trim_end());
    assert!(journal.flush(Duration::from_secs(5)));
}

#[test]
fn what_breaks_enforcement_or_the_ledger_is_more_urgent_than_its_type() {
    let priority = |draft: Draft| fields(&entry::of_record(line(&draft).as_str()).unwrap())["PRIORITY"].join("");
    assert_eq!(priority(Draft::new(ArtifactType::SshdChanged, "x")), "4");
    assert_eq!(priority(Draft::new(ArtifactType::SshdChanged, "x").with("broken", "UsePAM is off")), "2");
    assert_eq!(priority(Draft::new(ArtifactType::LedgerOpened, "x")), "5");
    assert_eq!(priority(Draft::new(ArtifactType::LedgerOpened, "x").with("break", "torn")), "3");
    assert_eq!(priority(Draft::new(ArtifactType::LedgerOpened, "x").with("break", "replaced")), "2");
}

#[test]
fn a_journal_that_has_stopped_holds_nobody_up_and_learns_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let journal = Journal::start_at(&path, 4).unwrap();
    let line = line(&Draft::new(ArtifactType::SweepAttested, "swept"));
    let begun = Instant::now();
    (0..100).for_each(|_| journal.record(&line));
    assert!(begun.elapsed() < Duration::from_millis(200));
    assert!(!journal.flush(Duration::from_millis(50)));
    let socket = UnixDatagram::bind(&path).unwrap();
    let (mut records, mut dropped) = (0, None);
    while dropped.is_none() {
        let got = receive(&socket);
        if got.contains_key("LOCKDOWND_RECORD") {
            records += 1;
        } else {
            assert_eq!(got["MESSAGE_ID"], [DROPPED_ID]);
            dropped = got["LOCKDOWND_DROPPED"][0].parse::<u64>().ok();
        }
    }
    assert!(journal.flush(Duration::from_secs(5)));
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 65_536]).is_ok() {
        records += 1;
    }
    assert_eq!(records + dropped.unwrap(), 100);
}

#[test]
fn the_catalog_explains_every_message_and_no_other() {
    let text = include_str!("../../../../systemd/lockdownd.catalog");
    let mut listed: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("-- ")).collect();
    let mut sent: Vec<&str> = ArtifactType::ALL.iter().map(|k| message_id(*k)).chain([DROPPED_ID]).collect();
    listed.sort_unstable();
    sent.sort_unstable();
    assert_eq!(listed, sent);
    sent.dedup();
    assert_eq!(sent.len(), ArtifactType::ALL.len() + 1, "no id twice");
    for entry in text.split("\n-- ").skip(1) {
        let body: Vec<&str> = entry.lines().skip(1).collect();
        assert!(body[0].starts_with("Subject: ") && body.contains(&"Defined-By: lockdownd"), "{entry}");
        assert!(body.iter().any(|l| l.is_empty()), "no text after the header: {entry}");
    }
}
