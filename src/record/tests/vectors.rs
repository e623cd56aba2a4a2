//! The test vectors of docs/RECORDS.md, byte by byte, and a ledger verified with stock tools only, as that page shows.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output},
};

use jiff::Timestamp;
use record::{
    Actor, ArtifactType, Depth, Draft, Hash, Line, Position, Receipt, SignedReceipt, Source, Trust, Verifier, outside,
    seal,
};
use ssh_key::{PrivateKey, private::Ed25519Keypair};

const PAGE: &str = include_str!("../../../docs/RECORDS.md");

/// The published key of the vectors: its seed is the bytes 0 to 31.
fn key() -> PrivateKey {
    let seed: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).expect("under 32"));
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

fn public() -> String {
    key().public_key().to_openssh().expect("a key can be written")
}

fn sealed(drafts: &[Draft]) -> Vec<Line> {
    let (mut lines, mut prev) = (Vec::new(), Hash::ZERO);
    for body in drafts.iter().flat_map(|d| d.bodies().expect("a draft that can be stated")) {
        let seq = lines.len() as u64 + 1;
        let at = Position {
            ledger: &"000102030405060708090a0b0c0d0e0f".parse().expect("a ledger id"),
            seq,
            host: &"i-0123456789abcdef0".parse().expect("a host"),
            stack: &"web".parse().expect("a stack"),
            boot: "7b5f3f6e-3c1e-4c37-8f0e-0d9f6f3a1b2c",
            time: Timestamp::new(1_779_796_800 + i64::try_from(seq).expect("small"), 123_456_000).expect("a time"),
            prev,
        };
        let line = seal(&body, &at, &key()).expect("a record");
        prev = line.hash();
        lines.push(line);
    }
    lines
}

fn vectors() -> Vec<Line> {
    let segment = Draft::new(ArtifactType::LedgerSegment, "a segment begins after record 0")
        .with("public_key", public())
        .with("previous", serde_json::json!({ "seq": 0, "hash": Hash::ZERO.to_string() }));
    let mut grant =
        Draft::new(ArtifactType::GrantCreated, "frank may log in to ubuntu until 2026-05-26T14:00:00Z: INC-42")
            .with("expires_at", "2026-05-26T14:00:00Z")
            .with("from", vec!["192.0.2.0/24"]);
    grant.person = "frank".parse().ok();
    grant.account = "ubuntu".parse().ok();
    grant.grant = "g-0123456789abcdef".parse().ok();
    grant.actor = Some(Actor {
        uid: Some(0),
        login_uid: Some(1000),
        pid: Some(4242),
        exe: Some("/usr/bin/lockdownctl".into()),
        ..Actor::default()
    });
    let mut removed = Draft::new(ArtifactType::KeyRemoved, "a key without a grant was removed")
        .with("path", outside(b"/home/ubuntu/.ssh/authorized\xffkeys\\"))
        .with("comment", outside("Zoë\u{202e}\u{7f}\n\"日本\"".as_bytes()))
        .with("largest", 9_007_199_254_740_991_u64)
        .with("too_large", 9_007_199_254_740_992_u64)
        .with("known", true);
    removed.account = "ubuntu".parse().ok();
    removed.source = Some(Source { address: "192.0.2.7".parse().ok(), port: Some(50022) });
    sealed(&[segment, grant, removed])
}

#[test]
fn the_pages_vectors_are_what_this_library_writes() {
    let mut block = format!("```text\n{}\n```\n\n```json\n", public());
    let lines = vectors();
    for line in &lines {
        block.push_str(line.as_str());
    }
    block.push_str("```\n\n```text\n");
    for line in &lines {
        writeln!(block, "{} {}", line.seq(), line.hash()).expect("text takes more text");
    }
    block.push_str("```\n");
    assert!(PAGE.contains(&block), "docs/RECORDS.md has to have exactly this:\n{block}");
}

#[test]
fn the_page_names_every_artifact_type() {
    for kind in ArtifactType::ALL {
        assert!(PAGE.contains(&format!("`{kind}`")), "{kind}");
    }
}

/// The server's published key of the vectors: its seed is the bytes 32 to 63.
fn server_key() -> PrivateKey {
    let seed: [u8; 32] = std::array::from_fn(|n| 32 + u8::try_from(n).expect("under 32"));
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// The server's receipt for a ledger that ends in this line.
fn receipt(ledger: &str, last: &str) -> SignedReceipt {
    let seq = serde_json::from_str::<serde_json::Value>(last).expect("a record")["seq"].as_u64().expect("a number");
    let receipt = Receipt {
        ledger: ledger.parse().expect("a ledger id"),
        seq,
        hash: Hash::of(last.as_bytes()),
        received: "2026-05-26T12:00:04.123456Z".parse().expect("a time"),
        signer: None,
    };
    receipt.seal(&server_key()).expect("a receipt")
}

const LEDGER: &str = "000102030405060708090a0b0c0d0e0f";

#[test]
fn the_pages_receipt_is_what_this_library_writes() {
    let public = server_key().public_key().to_openssh().expect("a key can be written");
    let lines = vectors();
    let receipt = receipt(LEDGER, lines.last().expect("three lines").as_str());
    let block = format!("```text\n{public}\n```\n\n```json\n{}\n```\n", receipt.as_str());
    assert!(PAGE.contains(&block), "docs/RECORDS.md has to have exactly this:\n{block}");
}

/// The page's n-th script: the only program that the stock-tools tests run.
fn script(n: usize) -> &'static str {
    let text = PAGE.split("```sh\n").nth(n + 1).expect("a script");
    &text[..text.find("```").expect("the script's end")]
}

fn run(dir: &Path) -> Output {
    run_script(dir, script(0))
}

fn run_script(dir: &Path, script: &str) -> Output {
    Command::new("sh")
        .args(["-euc", script])
        .current_dir(dir)
        .env("HOST", "i-0123456789abcdef0")
        .output()
        .expect("sh runs")
}

fn ledger_dir(lines: &[String], split: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("ledger")).expect("a directory");
    let (one, two) = lines.split_at(split);
    fs::write(dir.path().join("ledger/000000000001.jsonl"), one.concat()).expect("a file");
    if !two.is_empty() {
        fs::write(dir.path().join(format!("ledger/{:012}.jsonl", split + 1)), two.concat()).expect("a file");
    }
    fs::write(dir.path().join("allowed_signers"), format!("i-0123456789abcdef0 {}\n", public())).expect("a file");
    dir
}

/// Every character class that could tell `jq` from RFC 8785, spread over statements of many shapes.
fn odd_ledger() -> Vec<String> {
    let segment = Draft::new(ArtifactType::LedgerSegment, "a segment begins").with("public_key", public());
    let mut drafts = vec![segment.clone()];
    for start in (0..0x11_0000_u32).step_by(0x1_3577) {
        let text: String = (start..start + 48).filter_map(char::from_u32).collect();
        let bytes: Vec<u8> = text.bytes().chain((0..=255).map(|b: u8| b ^ 0x55)).collect();
        drafts.push(
            Draft::new(ArtifactType::KeyRemoved, text).with("bytes", outside(&bytes)).with("n", -i64::from(start)),
        );
    }
    drafts.push(Draft::new(ArtifactType::SweepAttested, "large").with("files", vec!["\"\\\u{7f}é".repeat(30); 60]));
    let mut lines = sealed(&drafts);
    drafts.push(segment);
    lines.extend(sealed(&drafts).pop());
    lines.iter().map(|l| l.as_str().to_owned()).collect()
}

#[test]
fn stock_tools_verify_a_ledger_and_find_what_we_find() {
    let lines = odd_ledger();
    let split = lines.len() - 1;
    let good = run(ledger_dir(&lines, split).path());
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(String::from_utf8_lossy(&good.stdout).contains(&format!("{} records verified", lines.len())));
    let mut edited = lines.clone();
    edited[3] = edited[3].replacen("KEY", "key", 1).replacen("removed", "Removed", 1);
    let mut dropped = lines.clone();
    dropped.remove(2);
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    let mut spaced = lines.clone();
    spaced[1] = spaced[1].replacen(':', ": ", 1);
    let mut doubled = lines.clone();
    doubled[1] = doubled[1].replacen('{', "{\"v\":1,", 1);
    for (what, bad) in
        [("edited", edited), ("dropped", dropped), ("swapped", swapped), ("spaced", spaced), ("doubled", doubled)]
    {
        assert!(!run(ledger_dir(&bad, bad.len()).path()).status.success(), "stock tools: {what}");
        let mut verifier = Verifier::new(Depth::Full, Trust::FirstKey);
        assert!(!bad.iter().all(|l| verifier.line(l.as_bytes()).1), "our verifier: {what}");
    }
}

#[test]
fn stock_tools_hold_a_ledger_against_the_servers_receipts() {
    let lines = odd_ledger();
    let dir = ledger_dir(&lines, lines.len());
    let public = server_key().public_key().to_openssh().expect("a key can be written");
    fs::write(dir.path().join("server_signers"), format!("server {public}\n")).expect("a file");
    fs::write(dir.path().join("all"), lines.concat()).expect("a file");
    let verdict = |receipts: &[&SignedReceipt]| {
        let text: String = receipts.iter().map(|r| format!("{}\n", r.as_str())).collect();
        fs::write(dir.path().join("receipts"), text).expect("a file");
        run_script(dir.path(), script(1))
    };
    let (early, last) = (receipt(LEDGER, &lines[3]), receipt(LEDGER, &lines[lines.len() - 1]));
    let good = verdict(&[&early, &last]);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(String::from_utf8_lossy(&good.stdout).contains(&format!("acknowledged to {}", lines.len())));
    let touched = receipt(LEDGER, &lines[3].replacen("key", "KEY", 1));
    let forged = SignedReceipt::parse(last.as_str().replacen("04.1", "05.1", 1).as_bytes()).expect("a receipt");
    let beyond = receipt(LEDGER, &lines[3].replacen("\"seq\":4,", "\"seq\":4444,", 1));
    for (what, receipts) in [("another hash", touched), ("forged", forged), ("cut off", beyond)] {
        assert!(!verdict(&[&early, &receipts]).status.success(), "{what}");
    }
}
