//! Real ledgers, made and signed here, then tampered with on disk.

use std::{fs, path::PathBuf};

use record::{ArtifactType, Draft, Hash, Position, seal};
use ssh_key::{PrivateKey, private::Ed25519Keypair};

use super::*;

/// A ledger of `host-1` on disk: two segments of three records each, and the key beside it.
struct Disk {
    dir: tempfile::TempDir,
    key: PrivateKey,
    seq: u64,
    prev: Hash,
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn public(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap()
}

impl Disk {
    fn new() -> Self {
        let mut disk = Self { dir: tempfile::tempdir().unwrap(), key: key(1), seq: 0, prev: Hash::ZERO };
        fs::create_dir(disk.ledger()).unwrap();
        for _ in 0..2 {
            let first =
                Draft::new(ArtifactType::LedgerSegment, "a segment begins").with("public_key", public(&disk.key));
            let lines: String = [first, plain_draft(), plain_draft()].iter().map(|draft| disk.seal(draft)).collect();
            fs::write(disk.segment(disk.seq - 2), lines).unwrap();
        }
        fs::write(disk.own_key(), public(&disk.key)).unwrap();
        disk
    }

    fn seal(&mut self, draft: &Draft) -> String {
        let at = Position {
            ledger: &"0".repeat(32).parse().unwrap(),
            seq: self.seq + 1,
            host: &"host-1".parse().unwrap(),
            stack: &"web".parse().unwrap(),
            boot: "00000000-0000-0000-0000-000000000001",
            time: "2026-11-23T18:00:00Z".parse().unwrap(),
            prev: self.prev,
        };
        let line = seal(&draft.bodies().unwrap()[0], &at, &self.key).unwrap();
        (self.seq, self.prev) = (line.seq(), line.hash());
        line.as_str().to_owned()
    }

    fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn segment(&self, first: u64) -> PathBuf {
        self.ledger().join(format!("{first:012}.jsonl"))
    }

    fn own_key(&self) -> PathBuf {
        self.dir.path().join("signing_key.pub")
    }

    fn edit(&self, first: u64, change: impl FnOnce(String) -> String) {
        let path = self.segment(first);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, change(text)).unwrap();
    }

    fn verify(&self) -> Report {
        report(&self.ledger(), None, &self.own_key(), None, None).unwrap()
    }

    /// Verifies against receipts for these records as they stand in `lines`, by the server's key 9.
    fn against(&self, lines: &str, seqs: &[usize], more: &str) -> Result<Report, Failure> {
        let lines: Vec<&str> = lines.split_inclusive('\n').collect();
        let receipts: String = seqs.iter().map(|seq| receipt(lines[seq - 1], *seq as u64)).collect();
        let (file, server) = (self.dir.path().join("receipts"), self.dir.path().join("server"));
        fs::write(&file, receipts + more).unwrap();
        fs::write(&server, format!("# the server's\nserver {}\n", public(&key(9)))).unwrap();
        report(&self.ledger(), None, &self.own_key(), Some(receipts::read(&file, &server)?), None)
    }

    fn lines(&self) -> String {
        [1, 4].map(|first| fs::read_to_string(self.segment(first)).unwrap()).concat()
    }

    fn signers(&self, text: &str) -> Result<Report, Failure> {
        let file = self.dir.path().join("allowed_signers");
        fs::write(&file, text).unwrap();
        report(&self.ledger(), Some(&file), Path::new("/nonexistent"), None, None)
    }
}

fn receipt(line: &str, seq: u64) -> String {
    let receipt = record::Receipt {
        ledger: "0".repeat(32).parse().unwrap(),
        seq,
        hash: Hash::of(line.as_bytes()),
        received: "2026-11-23T18:00:01Z".parse().unwrap(),
        signer: None,
    };
    receipt.seal(&key(9)).unwrap().as_str().to_owned() + "\n"
}

fn plain_draft() -> Draft {
    Draft::new(ArtifactType::SweepAttested, "a sweep found nothing")
}

#[test]
fn a_whole_ledger_is_complete_to_its_end_and_says_that_nobody_has_acknowledged_it() {
    let disk = Disk::new();
    let report = disk.verify();
    assert!(report.good, "{report:?}");
    let text = words(&report);
    assert!(text.contains("of host host-1: 6 records, 1 to 6"), "{text}");
    assert!(text.contains("complete to 6, acknowledged to 0\n"), "{text}");
    assert!(text.contains(&disk.key.public_key().fingerprint(HashAlg::Sha256).to_string()), "{text}");
}

#[test]
fn a_changed_word_a_missing_line_a_missing_segment_and_a_torn_end_are_found_and_named() {
    for (change, named) in [
        (
            Box::new(|d: &Disk| d.edit(1, |t| t.replacen("found nothing", "found nobody", 1))) as Box<dyn Fn(&Disk)>,
            "record 2",
        ),
        (
            Box::new(|d: &Disk| d.edit(4, |t| t.lines().take(2).map(|l| format!("{l}\n")).skip(1).collect())),
            "expected record 4",
        ),
        (Box::new(|d: &Disk| fs::remove_file(d.segment(1)).unwrap()), "records 1 to 3 are missing"),
        (Box::new(|d: &Disk| d.edit(4, |t| t.trim_end().to_owned())), "torn"),
        (Box::new(|d: &Disk| d.edit(4, |_| String::new())), "it holds no record"),
        (Box::new(|d: &Disk| fs::rename(d.segment(4), d.segment(5)).unwrap()), "its first record is 4"),
        (Box::new(|d: &Disk| fs::write(d.ledger().join("7.jsonl"), "").unwrap()), "not named like a segment"),
    ] {
        let disk = Disk::new();
        change(&disk);
        let report = disk.verify();
        assert!(!report.good, "{named}");
        let text = words(&report);
        assert!(text.contains("WRONG") && text.contains(named), "{named}: {text}");
    }
}

#[test]
fn a_ledger_that_ends_before_what_the_daemon_said_is_on_disk_is_not_complete() {
    let disk = Disk::new();
    let path = disk.dir.path().join("durable");
    for (ledger, seq, good) in [("0", 6, true), ("0", 5, true), ("1", 7, true), ("0", 7, false)] {
        fs::write(&path, format!(r#"{{"hash":"","ledger":"{}","seq":{seq}}}"#, ledger.repeat(32))).unwrap();
        let mut report = disk.verify();
        hold_against(&mut report, &durable(&path).unwrap());
        assert_eq!(report.good, good, "{ledger} {seq}");
        let text = words(&report);
        assert_eq!(text.contains("on disk to record 7, and the files end at 6"), !good, "{text}");
    }
    fs::remove_dir_all(disk.ledger()).unwrap();
    fs::create_dir(disk.ledger()).unwrap();
    let mut report = disk.verify();
    hold_against(&mut report, &durable(&path).unwrap());
    assert!(words(&report).contains("the files end at 0"), "{report:?}");
    assert!(durable(disk.dir.path()).is_none());
}

#[test]
fn another_machines_ledger_does_not_pass_for_this_ones() {
    let disk = Disk::new();
    fs::write(disk.own_key(), public(&key(2))).unwrap();
    let report = disk.verify();
    assert!(!report.good);
    assert!(report.findings[0].contains("another machine's ledger"), "{report:?}");
}

#[test]
fn a_key_that_was_rotated_is_followed_to_the_one_of_today() {
    let mut disk = Disk::new();
    let new = key(3);
    let rotated = Draft::new(ArtifactType::KeyRotated, "the key was rotated").with("public_key", public(&new));
    let mut lines = disk.seal(&rotated);
    disk.key = new;
    lines += &disk.seal(&plain_draft());
    disk.edit(4, |text| text + &lines);
    fs::write(disk.own_key(), public(&disk.key)).unwrap();
    let report = disk.verify();
    assert!(report.good, "{report:?}");
    assert_eq!(report.complete_to, 8);
}

#[test]
fn only_signers_that_the_file_lists_for_this_host_are_trusted() {
    let disk = Disk::new();
    let own = public(&disk.key);
    assert!(disk.signers(&format!("# ours\nhost-1 {own}\n")).unwrap().good);
    assert!(!disk.signers(&format!("host-2 {own}\n")).unwrap().good);
    assert!(!disk.signers(&format!("host-1 {}\n", public(&key(2)))).unwrap().good);
    let failure = disk.signers("host-1 nonsense\n").unwrap_err();
    assert_eq!(failure.exit(), Exit::Refused);
    assert!(failure.words().contains("allowed_signers: "), "{}", failure.words());
}

#[test]
fn what_cannot_be_read_is_never_good() {
    let disk = Disk::new();
    let missing = report(&disk.dir.path().join("none"), None, &disk.own_key(), None, None).unwrap_err();
    assert_eq!(missing.exit(), Exit::Refused);
    assert!(missing.words().contains("none: No such file"), "{}", missing.words());
    let keyless = report(&disk.ledger(), None, Path::new("/nonexistent.pub"), None, None).unwrap_err();
    assert_eq!(keyless.exit(), Exit::Refused);
    let empty = tempfile::tempdir().unwrap();
    assert!(!report(empty.path(), None, &disk.own_key(), None, None).unwrap().good);
}

#[test]
fn a_ledger_is_held_against_the_servers_receipts() {
    let disk = Disk::new();
    let lines = disk.lines();
    let report = disk.against(&lines, &[2, 5], "").unwrap();
    let text = words(&report);
    assert!(report.good && text.contains("complete to 6, acknowledged to 5\n"), "{text}");
    assert!(text.contains("held   against 2 receipts") && text.contains("What comes after that"), "{text}");
    let report = disk.against(&lines, &[6], "").unwrap();
    assert!(report.good && words(&report).ends_with("complete to 6, acknowledged to 6\n"), "{}", words(&report));
}

#[test]
fn what_root_signed_anew_or_cut_off_is_named_with_its_place() {
    let (disk, mut other) = (Disk::new(), Disk::new());
    // The same host's key, other words, every hash and signature made anew.
    other.seq = 4;
    other.prev = Hash::of(disk.lines().split_inclusive('\n').nth(3).unwrap().as_bytes());
    let anew: String =
        ["one", "two"].map(|word| other.seal(&Draft::new(ArtifactType::SweepAttested, word.to_owned()))).concat();
    let lines = disk.lines();
    disk.edit(4, |text| text.split_inclusive('\n').next().unwrap().to_owned() + &anew);
    assert!(disk.verify().good, "without receipts nothing can be seen");
    let text = words(&disk.against(&lines, &[3, 6], "").unwrap());
    assert!(text.contains("record 6 (line 6)") && text.contains("after record 3, up to this one"), "{text}");
    assert!(text.contains("acknowledged to 3 is as the server has it"), "{text}");
    fs::remove_file(disk.segment(4)).unwrap();
    let text = words(&disk.against(&lines, &[3, 6], "").unwrap());
    assert!(text.contains("acknowledged records to 6") && text.contains("the end was cut off"), "{text}");
}

#[test]
fn a_receipt_that_does_not_count_is_a_finding_and_a_file_without_keys_a_failure() {
    let disk = Disk::new();
    let lines = disk.lines();
    let forged = receipt(&lines, 6).replace("\"seq\":6,", "\"seq\":5,");
    for more in [forged, "nonsense\n".to_owned(), "x".repeat(5_000)] {
        let report = disk.against(&lines, &[3], &more).unwrap();
        assert!(!report.good && report.findings[0].contains("receipts line 2: "), "{:?}", report.findings);
    }
    fs::write(disk.dir.path().join("empty"), "\n").unwrap();
    let failure = receipts::read(&disk.dir.path().join("receipts"), &disk.dir.path().join("empty")).err().unwrap();
    assert!(failure.words().contains("no key stands in it"), "{}", failure.words());
}

/// A proof that the ledger stood at this line in checkpoint `number`, by the server's key 9, or another.
fn proof(number: u64, line: &str, seq: u64, by: u8) -> record::checkpoint::HeadProof {
    use record::checkpoint::{Checkpoint, HeadProof, LedgerHead, path, root};
    let head = LedgerHead { ledger: "0".repeat(32).parse().unwrap(), seq, hash: Hash::of(line.as_bytes()) };
    let other = LedgerHead { ledger: "1".repeat(32).parse().unwrap(), seq: number, hash: Hash::ZERO };
    let leaves = [head.leaf(), other.leaf()];
    let checkpoint = Checkpoint {
        origin: "server/checkpoints".to_owned(),
        size: 2,
        root: root(&leaves),
        number,
        time: "2026-11-23T19:00:00Z".parse().unwrap(),
    };
    HeadProof { checkpoint: checkpoint.sign(&key(by)).unwrap(), head, index: 0, path: path(&leaves, 0).unwrap() }
}

#[test]
fn a_ledger_is_held_against_checkpoints_that_somebody_kept() {
    let disk = Disk::new();
    let all: Vec<String> = [1, 4].iter().map(|first| fs::read_to_string(disk.segment(*first)).unwrap()).collect();
    let lines: Vec<String> = all.concat().split_inclusive('\n').map(str::to_owned).collect();
    let keys = || vec![key(9).public_key().clone()];
    let against = |files: &[(&str, String)]| {
        let write = |(name, text): &(&str, String)| {
            let path = disk.dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let files: Vec<PathBuf> = files.iter().map(write).collect();
        let given = checkpoints::read(&files, keys()).unwrap();
        report(&disk.ledger(), None, &disk.own_key(), None, Some((given, Path::new("server.pub")))).unwrap()
    };
    let one = |number, seq: usize| proof(number, &lines[seq - 1], seq as u64, 9);
    let note = |number, seq| ("note", one(number, seq).checkpoint.as_str().to_owned());
    let proofs = |all: &[record::checkpoint::HeadProof]| {
        ("proofs", all.iter().map(|proof| proof.text() + "\n").collect::<String>())
    };
    let good = against(&[note(1, 3), proofs(&[one(1, 3), one(2, 5)])]);
    assert!(good.good, "{:?}", good.findings);
    assert_eq!((good.checkpoints, good.acknowledged_to), (2, 5));
    assert!(words(&good).contains("and 2 checkpoints"), "{}", words(&good));
    for (files, said) in [
        (vec![note(1, 3)], "there is no proof about this ledger"),
        (vec![proofs(&[one(1, 5), one(2, 3)])], "stood at record 5 in checkpoint 1, and at record 3 in checkpoint 2"),
        (vec![note(1, 3), proofs(&[one(1, 5)])], "two different checkpoints 1"),
        (vec![proofs(&[proof(1, "another\n", 3, 9)])], "another record under this number"),
        (vec![proofs(&[proof(1, "later\n", 9, 9)])], "the end was cut off"),
        (vec![proofs(&[proof(1, &lines[2], 3, 8)])], "not signed by the server's key"),
        (vec![("proofs", "{}\n".to_owned())], "it is no proof"),
        (vec![("note", "server\n2\n".to_owned())], "it is no checkpoint"),
        (vec![("proofs", format!("{{{}", "x".repeat(1 << 20)))], "it is no proof"),
    ] {
        let bad = against(&files);
        assert!(!bad.good, "{files:?}");
        assert!(bad.findings.iter().any(|finding| finding.contains(said)), "{said}: {:?}", bad.findings);
    }
}

#[test]
fn a_case_file_that_is_none_is_never_good() {
    let dir = tempfile::tempdir().unwrap();
    let (file, key_file) = (dir.path().join("case.tar"), dir.path().join("server.pub"));
    fs::write(&key_file, public(&key(9))).unwrap();
    let context = Context {
        socket: Path::new("/nonexistent"),
        now: jiff::Timestamp::UNIX_EPOCH,
        json: false,
        paint: crate::paint::Paint::NONE,
    };
    assert!(of_case(&file, None, &context).is_err(), "it is not there");
    for bytes in [&b""[..], &[0; 1024], b"../../etc/passwd"] {
        fs::write(&file, bytes).unwrap();
        let done = of_case(&file, Some(&key_file), &context).unwrap();
        assert!(done.exit == Exit::Refused && done.text.contains("WRONG: "), "{}", done.text);
    }
}
