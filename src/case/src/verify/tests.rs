//! Whole case files, made by the writer as the server uses it, then changed.

use std::{fs, path::Path, process::Command};

use proptest::prelude::*;
use record::{
    ArtifactType, Draft, Host, LedgerId, Position, Receipt, Stack,
    checkpoint::{Checkpoint, HeadProof, LedgerHead, path, root},
    seal,
};
use ssh_key::{PrivateKey, private::Ed25519Keypair};

use super::*;
use crate::{AboutKey, Asked, Index, LedgerEntry, Range, Row, Timeline, VERIFY_SCRIPT, Writer, index, tar};

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn public(key: &PrivateKey) -> String {
    PublicKey::from(key.public_key().key_data().clone()).to_openssh().unwrap()
}

const HOSTILE: &str = "</td><script>alert(1)</script>\"'&\u{202e}";

/// What a case is made of; a test changes something before it is written.
struct Parts {
    members: Vec<(Member, Vec<u8>)>,
    manifest: Manifest,
    /// Who signs the manifest.
    server: PrivateKey,
}

fn ledger_id() -> LedgerId {
    "0123456789abcdef0123456789abcdef".parse().unwrap()
}

/// Lines of a host's ledger, as its daemon would write them.
fn lines(count: u64, by: &PrivateKey) -> Vec<String> {
    let (host, stack): (Host, Stack) = ("i-1".parse().unwrap(), "web".parse().unwrap());
    let (mut prev, ledger) = (Hash::ZERO, ledger_id());
    let line = |seq: u64| {
        let draft = match seq {
            1 => Draft::new(ArtifactType::LedgerSegment, "a segment begins").with("public_key", public(by)),
            _ => Draft::new(ArtifactType::SessionOpened, format!("frank logged in, {seq}")),
        };
        let time = jiff::Timestamp::from_second(1_780_000_000).unwrap();
        let at = Position { ledger: &ledger, seq, host: &host, stack: &stack, boot: "b", time, prev };
        let line = seal(&draft.bodies().unwrap()[0], &at, by).unwrap();
        prev = line.hash();
        line.as_str().to_owned()
    };
    (1..=count).map(line).collect()
}

fn parts() -> Parts {
    let (server, host) = (key(9), key(1));
    let made = jiff::Timestamp::from_second(1_790_000_000).unwrap();
    let all = lines(12, &host);
    let (id, hash) = (ledger_id(), Hash::of(all[11].as_bytes()));
    let other = LedgerHead { ledger: "f".repeat(32).parse().unwrap(), seq: 1, hash: Hash::ZERO };
    let third = LedgerHead { ledger: "0".repeat(32).parse().unwrap(), ..other.clone() };
    let head = LedgerHead { ledger: id.clone(), seq: 10, hash: Hash::of(all[9].as_bytes()) };
    let leaves = [third.leaf(), head.leaf(), other.leaf()];
    let checkpoint =
        Checkpoint { origin: "s/checkpoints".to_owned(), size: 3, root: root(&leaves), number: 7, time: made };
    let note = checkpoint.sign(&server).unwrap();
    let proof = HeadProof { checkpoint: note.clone(), head, index: 1, path: path(&leaves, 1).unwrap() };
    let signer = Some(host.public_key().fingerprint(HashAlg::Sha256).to_string().parse().unwrap());
    let receipt = Receipt { ledger: id.clone(), seq: 12, hash, received: made, signer }.seal(&server).unwrap();
    let about = About {
        ledger: id.clone(),
        kind: "host".to_owned(),
        name: "i-1".to_owned(),
        keys: vec![AboutKey { first_seq: 1, public_key: public(&host) }],
    };
    let mut timeline = Timeline::new(id.clone(), "host", "i-1");
    let row = Row { seq: 2, kind: "session.opened".to_owned(), reason: HOSTILE.to_owned(), ..Row::default() };
    assert!(timeline.row(&row).is_none());
    let (page, html) = timeline.page().unwrap();
    let asked = Asked { person: Some("frank".to_owned()), ..Asked::default() };
    let mut manifest = Manifest::new(made, "server", asked);
    manifest.checkpoint = Some(7);
    manifest.missing.push(HOSTILE.to_owned());
    let runs = vec![Run { first: 3, last: 12, hash }];
    let entry = LedgerEntry {
        ledger: id.clone(),
        kind: "host".to_owned(),
        name: "i-1".to_owned(),
        stands: HOSTILE.to_owned(),
        runs,
    };
    manifest.ledgers.push(entry);
    let first = index(&Index {
        manifest: &manifest,
        pages: &[1],
        grants: &[],
        more_grants: 0,
        requirements: &[],
        documents: &[],
    });
    let range = |first: usize, last: usize| {
        let range = Range { first: first as u64, last: last as u64 };
        (Member::Records(id.clone(), range), all[first - 1..last].concat().into_bytes())
    };
    let namespaces = "ssh-access-case,ssh-access-receipt";
    let members = vec![
        (Member::Script, VERIFY_SCRIPT.into()),
        (Member::ServerSigners, format!("server namespaces=\"{namespaces}\" {}\n", public(&server)).into()),
        (Member::Signers, format!("i-1 namespaces=\"ssh-access-record\" {}\n", public(&host)).into()),
        (Member::Ledger(id.clone()), serde_json::to_vec(&about).unwrap()),
        (Member::Receipts(id.clone()), format!("{}\n", receipt.as_str()).into()),
        (Member::Proof(id.clone()), proof.text().into()),
        range(3, 7),
        range(8, 12),
        (page, html.into()),
        (Member::Checkpoint, note.as_str().into()),
        (Member::Index, first.into()),
    ];
    Parts { members, manifest, server }
}

impl Parts {
    fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new(self.manifest.made);
        self.members.iter().for_each(|(member, bytes)| writer.add(member, bytes));
        writer.finish(self.manifest.clone(), &self.server).unwrap();
        writer.take()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(String) -> String) {
        let (_, bytes) = self.members.iter_mut().find(|(member, _)| member.name().contains(name)).unwrap();
        *bytes = change(String::from_utf8(std::mem::take(bytes)).unwrap()).into_bytes();
    }
}

fn trusted(archive: &[u8]) -> Report {
    verify(archive, Some(vec![key(9).public_key().clone()]))
}

#[test]
fn a_whole_case_holds_and_says_by_whose_key() {
    let archive = parts().write();
    let report = trusted(&archive);
    assert!(report.good, "{:?}", report.findings);
    assert_eq!((report.records(), report.ledgers[0].acknowledged_to, report.checkpoint), (10, 12, Some(7)));
    assert!(report.words().contains("which you named") && report.words().contains("keyboard"), "{}", report.words());
    let alone = verify(&*archive, None);
    assert!(alone.good && alone.words().contains("whose it is you know once"), "{}", alone.words());
    let other = verify(&*archive, Some(vec![key(8).public_key().clone()]));
    assert!(!other.good && other.findings.iter().any(|one| one.contains("another server's")), "{:?}", other.findings);
    assert_eq!(archive, parts().write(), "the same case is the same bytes");
}

proptest! {
    #[test]
    fn a_byte_flipped_anywhere_is_found_and_said_in_words(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut archive = parts().write();
        let at = at.index(archive.len());
        archive[at] ^= 1 << bit;
        let report = trusted(&archive);
        prop_assert!(!report.good && !report.findings.is_empty(), "bit {} of byte {}", bit, at);
        prop_assert!(report.words().contains("WRONG: "));
    }

    #[test]
    fn a_case_that_is_cut_off_anywhere_is_none(at in any::<prop::sample::Index>()) {
        let archive = parts().write();
        prop_assert!(!trusted(&archive[..at.index(archive.len())]).good);
    }

    #[test]
    fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(!trusted(&bytes).good);
    }
}

/// Changes that somebody makes, and what is said of them. Some have the server's key, and sign a manifest anew.
type Change = (&'static str, fn(&mut Parts), &'static str);

const CHANGES: &[Change] = &[
    (
        "a record left out",
        |parts| parts.change("08-", |text| text.split_inclusive('\n').skip(1).collect()),
        "records are missing",
    ),
    (
        "a record changed",
        |parts| parts.change("03-", |text| text.replacen("logged in, 5", "logged in, 6", 1)),
        "prev is not the SHA-256 of the line before",
    ),
    (
        "a part left out",
        |parts| parts.members.retain(|(member, _)| !member.name().contains("03-")),
        "has other records than the manifest",
    ),
    (
        "the end cut off",
        |parts| {
            parts.members.retain(|(member, _)| !member.name().contains("08-"));
            parts.manifest.ledgers[0].runs[0].last = 7;
        },
        "other records than the manifest says",
    ),
    (
        "another key among the signers",
        |parts| {
            let other = format!("i-1 {}\n", public(&key(2)));
            let (_, bytes) = parts.members.iter_mut().find(|(member, _)| *member == Member::Signers).unwrap();
            *bytes = other.into_bytes();
        },
        "is not in signers for i-1",
    ),
    (
        "another key in both places",
        |parts| {
            let (old, new) = (public(&key(1)), public(&key(2)));
            for (_, bytes) in
                parts.members.iter_mut().filter(|(member, _)| matches!(member, Member::Signers | Member::Ledger(_)))
            {
                *bytes = String::from_utf8(bytes.clone()).unwrap().replace(&old, &new).into_bytes();
            }
        },
        "the signature does not hold",
    ),
    (
        "another record in the receipt",
        |parts| {
            let receipt =
                Receipt { ledger: ledger_id(), seq: 12, hash: Hash::ZERO, received: parts.manifest.made, signer: None };
            let line = format!("{}\n", receipt.seal(&key(9)).unwrap().as_str());
            parts.change("receipts", |_| line);
        },
        "record 12 is not the one that a receipt",
    ),
    (
        "a receipt by another",
        |parts| {
            let receipt =
                Receipt { ledger: ledger_id(), seq: 12, hash: Hash::ZERO, received: parts.manifest.made, signer: None };
            let line = format!("{}\n", receipt.seal(&key(8)).unwrap().as_str());
            parts.change("receipts", |_| line);
        },
        "not by the server's key",
    ),
    (
        "another place in the proof",
        |parts| parts.change("proof", |text| text.replace("\"index\":1", "\"index\":0")),
        "does not lead from the head",
    ),
    (
        "no checkpoint",
        |parts| parts.members.retain(|(member, _)| *member != Member::Checkpoint),
        "the checkpoint is missing",
    ),
    (
        "a ledger left out",
        |parts| parts.members.retain(|(member, _)| !member.name().starts_with("ledgers/")),
        "ledger 0123456789abcdef0123456789abcdef is missing",
    ),
];

#[test]
fn what_whoever_has_the_servers_key_leaves_out_or_changes_is_found_all_the_same() {
    for (what, change, said) in CHANGES {
        let mut parts = parts();
        change(&mut parts);
        let report = trusted(&parts.write());
        assert!(!report.good && report.findings.iter().any(|one| one.contains(said)), "{what}: {:?}", report.findings);
    }
}

/// Members and the signed manifest as they stand, put together anew.
fn put_together(members: &[(String, Vec<u8>)], time: u64) -> Vec<u8> {
    let mut archive = Vec::new();
    for (path, bytes) in members {
        archive.extend_from_slice(&tar::header(path, bytes.len() as u64, time));
        archive.extend_from_slice(bytes);
        archive.resize(archive.len() + tar::filling(bytes.len() as u64), 0);
    }
    archive.extend_from_slice(&tar::end());
    archive
}

fn taken_apart(archive: &[u8]) -> (Vec<(String, Vec<u8>)>, u64) {
    let (mut reader, mut all, mut time) = (Reader::new(archive), Vec::new(), 0);
    while let Some(head) = reader.head().unwrap() {
        time = head.time;
        let bytes = reader.content(&head, u64::MAX).unwrap();
        all.push((head.name, bytes));
    }
    (all, time)
}

#[test]
fn a_file_that_is_missing_added_twice_or_in_another_place_is_named() {
    let (whole, time) = taken_apart(&parts().write());
    assert!(trusted(&put_together(&whole, time)).good);
    for at in 0..whole.len() {
        let mut less = whole.clone();
        let (path, bytes) = less.remove(at);
        let name = path.strip_prefix("case/").unwrap();
        let report = trusted(&put_together(&less, time));
        let said = report.findings.iter().any(|one| one.contains(&format!("{name} is missing")));
        assert!(!report.good && said, "{name}: {:?}", report.findings);
        let mut twice = whole.clone();
        twice.insert(at, (path.clone(), bytes));
        assert!(!trusted(&put_together(&twice, time)).good, "{path} twice");
    }
    let mut more = whole.clone();
    more.insert(2, (format!("case/timeline/{}-0002.html", ledger_id()), b"hello".to_vec()));
    let report = trusted(&put_together(&more, time));
    assert!(report.findings.iter().any(|one| one.contains("-0002.html was added")), "{:?}", report.findings);
    let mut moved = whole.clone();
    moved.swap(0, 1);
    assert!(!trusted(&put_together(&moved, time)).good);
    assert!(!trusted(&put_together(&whole, time + 1)).good, "another moment");
}

#[test]
fn hostile_archives_are_refused_with_little_memory() {
    let with = |path: &str, change: fn(&mut [u8; 512])| {
        let mut header = tar::header(path, 5, 1_790_000_000);
        change(&mut header);
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut archive = header.to_vec();
        archive.extend_from_slice(b"hello");
        archive.resize(1024, 0);
        archive.extend_from_slice(&tar::end());
        trusted(&archive).findings.join("; ")
    };
    for path in [
        "case/../../etc/passwd",
        "/etc/passwd",
        "../case/index.html",
        "case/ledgers/../index.html",
        "case/\u{1b}[2J",
        "case/documents/x.json",
        "case/",
    ] {
        let said = with(path, |_| {});
        assert!(said.contains("none that a case file has") && !said.contains('\u{1b}'), "{path}: {said}");
    }
    let link = |header: &mut [u8; 512]| {
        header[156] = b'2';
        header[157..168].copy_from_slice(b"/etc/passwd");
    };
    assert!(with("case/index.html", link).contains("with links or directories"));
    assert!(with("case/index.html", |header| header[156] = b'1').contains("with links or directories"));
    assert!(with("case/index.html", |header| header[345] = b'x').contains("with links or directories"), "a prefix");
    let gibibyte =
        |header: &mut [u8; 512]| header[124..135].copy_from_slice(format!("{:011o}", 1_u64 << 30).as_bytes());
    assert!(with("case/index.html", gibibyte).contains("1073741824 bytes"));
    // Numbers in base 256 are another form.
    assert!(with("case/index.html", |header| header[124] = 0x80).contains("header at byte 0"));
}

#[test]
fn hostile_words_are_text_on_every_page() {
    let parts = parts();
    for (member, bytes) in parts.members.iter().filter(|(member, _)| member.name().ends_with(".html")) {
        let html = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            html.contains("&lt;script&gt;alert(1)") && html.contains("&quot;&#39;&amp;\\u{202e}"),
            "{}",
            member.name()
        );
        assert!(
            !html.contains("<script")
                && !html.contains('\u{202e}')
                && !html.contains("http:")
                && !html.contains("https:"),
            "{}",
            member.name()
        );
    }
}

fn unpacked(archive: &[u8], dir: &Path) -> std::path::PathBuf {
    fs::write(dir.join("case.tar"), archive).unwrap();
    fs::write(dir.join("server_signers"), format!("server {}\n", public(&key(9)))).unwrap();
    let done = Command::new("tar").args(["xf", "case.tar"]).current_dir(dir).status().unwrap();
    assert!(done.success());
    dir.join("case")
}

/// What the script says with stock tools.
fn by_script(case: &Path) -> (bool, String) {
    let script = case.parent().unwrap().join("verify.sh");
    fs::write(&script, VERIFY_SCRIPT).unwrap();
    let ran = Command::new("sh")
        .arg(&script)
        .arg("server_signers")
        .arg("case")
        .current_dir(case.parent().unwrap())
        .output()
        .unwrap();
    (ran.status.success(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
}

#[test]
fn stock_tools_say_the_same_of_a_whole_case_and_of_one_that_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let case = unpacked(&parts().write(), dir.path());
    let (good, said) = by_script(&case);
    assert!(good && said.contains("good: 10 records"), "{said}");
    for file in ["index.html", "signers", "checkpoint", "manifest.json", "manifest.json.sig"] {
        let whole = fs::read(case.join(file)).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(case.join(file), &bytes).unwrap();
        let (good, said) = by_script(&case);
        assert!(!good && said.contains("WRONG: "), "{file}: {said}");
        fs::remove_file(case.join(file)).unwrap();
        assert!(!by_script(&case).0, "{file} is missing");
        fs::write(case.join(file), whole).unwrap();
    }
    fs::write(case.join("more.html"), "more").unwrap();
    let (good, said) = by_script(&case);
    assert!(!good && said.contains("more.html was added"), "{said}");
    fs::remove_file(case.join("more.html")).unwrap();
    assert!(by_script(&case).0);
}

#[test]
fn stock_tools_find_what_whoever_has_the_servers_key_left_out_or_changed() {
    for (what, change, said) in CHANGES {
        let mut parts = parts();
        change(&mut parts);
        let dir = tempfile::tempdir().unwrap();
        let (good, told) = by_script(&unpacked(&parts.write(), dir.path()));
        assert!(!good && told.contains("WRONG: "), "{what} ({said}): {told}");
    }
}
